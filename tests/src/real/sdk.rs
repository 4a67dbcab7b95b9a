//! The official CloudEvents SDKs, each in a small program of `tests/real` that does what lines of JSON tell it.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::conversation::built;
use crate::util::PATIENCE;
use crate::weft::root;

/// Which SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `cloudevents` of PyPI.
    Python,
    /// `cloudevents` of npm.
    JavaScript,
    /// `cloudevents/sdk-go`.
    Go,
}

/// A program with an SDK, until it is dropped.
#[derive(Debug)]
pub struct Sdk {
    language: Language,
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Sdk {
    /// Starts the program.
    pub fn start(language: Language) -> Self {
        let mut command = match language {
            Language::Python => {
                let mut command = Command::new(super::paho::python());
                command.arg(root().join("tests/real/sdk-python/sdk.py"));
                command
            }
            Language::JavaScript => {
                let mut command = Command::new("node");
                command.arg(built("sdk-javascript").join("sdk.js"));
                command
            }
            Language::Go => Command::new(built("sdk-go").join("sdk")),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().expect("the program starts");
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { language, _process: process, input, output }
    }

    /// Does it; the answer. Panics if the program fails: it tells why on its standard error.
    pub async fn call(&mut self, command: &Value) -> Value {
        self.input.write_all(format!("{command}\n").as_bytes()).await.expect("the program reads");
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("no answer of {:?} to {command}", self.language));
        let line = line.unwrap().unwrap_or_else(|| panic!("{:?} ended at {command}", self.language));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}
