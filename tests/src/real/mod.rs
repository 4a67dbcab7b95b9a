//! Other people's clients, as the scenario of the end-to-end test needs them.
//!
//! A test begins with [`needs`]; a tool that is missing skips the test with a line that says how to get it, unless
//! `WEFT_REQUIRE_REAL=1` makes it a failure.

mod aioquic;
mod browser;
mod conversation;
mod curl;
mod defibus;
mod eventmesh;
mod mosquitto;
mod paho;
mod rocketmq;
mod sdk;

use std::process::{Command, Stdio};

pub use aioquic::converse_over_quic;
pub use browser::Browser;
pub use conversation::{Speaker, converse_in_browser};
pub use curl::EventStream;
pub use defibus::Defibus;
pub use eventmesh::{EventMesh, eventmesh_cases};
pub use mosquitto::{mosquitto_publisher, mosquitto_subscriber};
pub use paho::paho_publisher;
pub use rocketmq::{JavaClient, Received, RocketMq};
pub use sdk::{Language, Sdk};

/// A tool that is not part of a Rust toolchain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// Python with the client of Eclipse Paho.
    Paho,
    /// Python with the QUIC library aioquic.
    Aioquic,
    /// `curl`.
    Curl,
    /// A headless Chromium.
    Chromium,
    /// A JDK and Maven: RocketMQ and its client.
    Java,
    /// The broker that stands in for DeFiBus'.
    Defibus,
    /// Eclipse Paho for Go, built by `tests/real/build.sh`.
    PahoGo,
    /// The MQTT clients in Java, built by `tests/real/build.sh`.
    JavaClients,
    /// Node and MQTT.js, built by `tests/real/build.sh`.
    MqttJs,
    /// A JDK, Maven and the acceptance suite: EventMesh's SDK for Java.
    EventMesh,
    /// Python with the CloudEvents SDK.
    SdkPython,
    /// Node and the CloudEvents SDK, built by `tests/real/build.sh`.
    SdkJavaScript,
    /// The CloudEvents SDK for Go, built by `tests/real/build.sh`.
    SdkGo,
    /// The right to mount a small file system.
    Mount,
}

impl Tool {
    fn is_there(self) -> bool {
        match self {
            Self::Mosquitto => runs("mosquitto_pub", &["--help"]) && runs("mosquitto_sub", &["--help"]),
            Self::Paho => runs(&paho::python(), &["-c", "import paho.mqtt.client"]),
            Self::Aioquic => runs(&paho::python(), &["-c", "import aioquic"]),
            Self::Curl => runs("curl", &["--version"]),
            Self::Chromium => browser::program().is_some(),
            Self::Java => runs("javac", &["-version"]) && runs("mvn", &["-v"]),
            Self::Defibus => defibus::is_there(),
            Self::PahoGo => conversation::is_built("paho-go"),
            Self::JavaClients => runs("java", &["-version"]) && conversation::is_built("java"),
            Self::MqttJs => runs("node", &["--version"]) && conversation::is_built("mqttjs"),
            Self::EventMesh => Self::Java.is_there() && eventmesh::is_there(),
            Self::SdkPython => runs(&paho::python(), &["-c", "import cloudevents.core"]),
            Self::SdkJavaScript => runs("node", &["--version"]) && conversation::is_built("sdk-javascript"),
            Self::SdkGo => conversation::is_built("sdk-go"),
            Self::Mount => runs("sh", &["-c", "test \"$(id -u)\" = 0 && unshare --mount true"]),
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto_pub and mosquitto_sub (apt-get install mosquitto-clients)",
            Self::Paho => {
                "Python with paho-mqtt (pip install paho-mqtt; WEFT_TEST_PYTHON names the interpreter)"
            }
            Self::Aioquic => {
                "Python with aioquic (pip install aioquic; WEFT_TEST_PYTHON names the interpreter)"
            }
            Self::Curl => "curl (apt-get install curl)",
            Self::Chromium => "Chromium (apt-get install chromium)",
            Self::Java => "Java and Maven (apt-get install openjdk-17-jdk-headless maven)",
            Self::Defibus => "a stand-in for DeFiBus' broker (../shared/defibus/standin)",
            Self::PahoGo => "Eclipse Paho for Go (Go 1.24 or later; tests/real/build.sh paho-go)",
            Self::JavaClients => {
                "MQTT clients in Java (apt-get install openjdk-17-jdk-headless maven; tests/real/build.sh java)"
            }
            Self::MqttJs => "MQTT.js (apt-get install nodejs npm; tests/real/build.sh mqttjs)",
            Self::EventMesh => {
                "EventMesh's SDK (apt-get install openjdk-17-jdk-headless maven; ../shared/eventmesh/acceptance)"
            }
            Self::SdkPython => {
                "Python with the CloudEvents SDK (pip install 'cloudevents>=2,<3'; WEFT_TEST_PYTHON names the interpreter)"
            }
            Self::SdkJavaScript => {
                "CloudEvents SDK for JavaScript (apt-get install nodejs npm; tests/real/build.sh sdk-javascript)"
            }
            Self::SdkGo => "CloudEvents SDK for Go (Go 1.24 or later; tests/real/build.sh sdk-go)",
            Self::Mount => "root, to mount a small file system",
        }
    }
}

/// Whether all of `tools` are there. If not: says what to install, and fails under `WEFT_REQUIRE_REAL=1`.
pub fn needs(tools: &[Tool]) -> bool {
    let missing: Vec<&str> = tools.iter().filter(|tool| !tool.is_there()).map(|tool| tool.hint()).collect();
    if missing.is_empty() {
        return true;
    }
    let line = format!("skipped: needs {}", missing.join("; "));
    let required = std::env::var("WEFT_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(!required, "{line}");
    say(&line);
    false
}

/// Writes past the test runner's capture, so that a skipped test is seen.
fn say(line: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{line}").unwrap_or(());
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // `mosquitto_pub --help` ends with 1.
    command.status().is_ok_and(|status| status.success() || program.starts_with("mosquitto"))
}
