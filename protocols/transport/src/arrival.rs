//! What a connection has to say before it can be used: the PROXY header, then the TLS handshake. Strangers talk here, so it
//! is limited in time, in count and in bytes.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::Stream;
use crate::admission::{Failure, Place};
use crate::handshakes::Turn;
use crate::options::ProxyProtocol;
use crate::proxy::{Progress, Told, parse};

/// A connection that is on its way.
#[derive(Debug)]
pub struct Arrival {
    tcp: TcpStream,
    place: Place,
    turn: Turn,
}

impl Arrival {
    pub(crate) fn new(tcp: TcpStream, place: Place) -> Self {
        let turn = place.turn();
        Self { tcp, place, turn }
    }

    /// Waits until it has said all it has to, and was believed; `None`: it was closed, counted and told in the log.
    /// Not cancel-safe: dropped, the connection is closed.
    pub async fn finish(self) -> Option<Stream> {
        let Self { tcp, place, turn } = self;
        let shared = Arc::clone(&place.shared);
        let address = place.address;
        shared.shake(address, turn, shake(tcp, place)).await
    }
}

async fn shake(mut tcp: TcpStream, mut place: Place) -> Result<Stream, Failure> {
    if place.shared.proxy_protocol == ProxyProtocol::Required {
        let told = read_header(&mut tcp).await?;
        let client = match told {
            Told::Own => place.address,
            Told::Client(address) => address,
        };
        place = place.of_client(client).map_err(Failure::Refused)?;
    }
    let Some(tls) = place.shared.tls.clone() else { return Ok(Stream::plain(tcp, place)) };
    let (stream, proof) = tls.accept(tcp).await.map_err(closed_or_wrong)?;
    Ok(Stream::secure(stream, place, proof))
}

/// Reads the PROXY header and no byte behind it.
async fn read_header(tcp: &mut TcpStream) -> Result<Told, Failure> {
    let mut bytes = Vec::new();
    loop {
        let more = match parse(&bytes)? {
            Progress::Done(told) => return Ok(told),
            Progress::Need(more) => more,
        };
        let have = bytes.len();
        bytes.resize(have.saturating_add(more), 0);
        let rest = bytes.get_mut(have..).unwrap_or_default();
        tcp.read_exact(rest).await.map_err(closed_or_wrong)?;
    }
}

fn closed_or_wrong(error: io::Error) -> Failure {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    let is_end = matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset);
    if is_end && !is_tls { Failure::Closed } else { Failure::Io(error) }
}
