//! Whether a broker has what a row needs: a load cannot tell a refusal from a loss.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tests::wire::{self, Connect, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Connects and subscribes as a row with these flags will; an error says what the broker answered instead.
pub(crate) async fn probe(address: SocketAddr, flags: &str) -> Result<(), String> {
    let (version, connect) = match flags.contains("--v5") {
        true => (Version::V5, Connect::v5("probe")),
        false => (Version::V4, Connect::v4("probe")),
    };
    let qos = if flags.contains("--qos 2") { 2 } else { u8::from(flags.contains("--qos 1")) };
    let filter = if flags.contains("shared") { "$share/probe/probe" } else { "probe" };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&connect.encode()).await?;
        let code = packet(&mut stream).await?.get(1).copied();
        if code != Some(0) {
            return Ok(Err(format!("{version:?}: CONNACK {code:?}")));
        }
        stream.write_all(&wire::subscribe(version, 1, &[(filter, qos)])).await?;
        let code = packet(&mut stream).await?.last().copied();
        stream.write_all(&wire::DISCONNECT).await?;
        Ok(if code == Some(qos) { Ok(()) } else { Err(format!("{filter} at QoS {qos}: SUBACK {code:?}")) })
    };
    match tokio::time::timeout(Duration::from_secs(10), ask).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            Err(format!("{version:?}, {filter} at QoS {qos}: {}", io::Error::to_string(&error)))
        }
        Err(_) => Err(format!("{version:?}, {filter} at QoS {qos}: no answer")),
    }
}

/// The body of the next packet. Not by the tests' own reader, which panics at what breaks the standard.
async fn packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    stream.read_u8().await?;
    // CONNACK and SUBACK are short: below 16,384 bytes.
    let low = usize::from(stream.read_u8().await?);
    let len = if low < 128 { low } else { (low & 127) + (usize::from(stream.read_u8().await?) << 7) };
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await?;
    Ok(body)
}
