//! Reads the recorded frames.

use bytes::BytesMut;
use remoting::{Command, Decoder};

/// A frame of a conversation.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every test looks at all of it")]
pub(crate) struct Frame {
    pub(crate) ms: f64,
    pub(crate) connection: String,
    /// It goes to the server.
    pub(crate) up: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) command: Command,
}

/// The names of all conversations.
pub(crate) fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        files.filter_map(|file| file.strip_suffix(".frames").map(str::to_owned)).collect();
    names.retain(|name| name != "golden");
    names.sort();
    names
}

/// The conversation whose name starts with `start`.
pub(crate) fn conversation(start: &str) -> Vec<Frame> {
    let name = names().into_iter().find(|name| name.starts_with(start)).unwrap();
    let text = read(&name);
    let frame = |line: &str| {
        let parts: Vec<&str> = line.splitn(4, ' ').collect();
        let bytes = unescape(parts[3]);
        Frame {
            ms: parts[0].parse().unwrap(),
            connection: parts[1].to_owned(),
            up: parts[2] == ">",
            command: decode(&bytes),
            bytes,
        }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(frame).collect()
}

/// The frame of `golden` with this name.
pub(crate) fn golden(name: &str) -> Command {
    let text = read("golden");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    decode(&unescape(line.unwrap_or_else(|| panic!("no frame {name}"))))
}

fn decode(bytes: &[u8]) -> Command {
    let mut input = BytesMut::from(bytes);
    let command = Decoder::default().decode(&mut input).unwrap().unwrap();
    assert!(input.is_empty());
    command
}

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../defibus/tests/vectors")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}.frames", folder())).unwrap()
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes().iter());
    while let Some(byte) = rest.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        match rest.next().unwrap() {
            b'x' => {
                let digits = [*rest.next().unwrap(), *rest.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            }
            other => out.push(*other),
        }
    }
    out
}
