//! A client over QUIC in Python, on aioquic: `tests/real/aioquic/conversation.py`.

use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::conversation::hold;
use crate::weft::root;

/// Holds the conversation over QUIC at `address`, trusting the CA in this file, under `name`; panics unless each of
/// `steps` is done.
pub async fn converse_over_quic(address: SocketAddr, ca: &Path, name: &str, steps: &[&str]) {
    let mut command = Command::new(super::paho::python());
    command.arg(root().join("tests/real/aioquic/conversation.py"));
    command.args([&address.ip().to_string(), &address.port().to_string()]).arg(ca).arg(name).args(steps);
    hold(command, name, &format!("quic://{address}"), steps).await;
}
