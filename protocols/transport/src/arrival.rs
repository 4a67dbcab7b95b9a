//! What a connection has to say before it can be used: the PROXY header, then the TLS handshake. Strangers talk here, so it
//! is limited in time, in count and in bytes.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::Stream;
use crate::listener::{Place, Refusal};
use crate::options::ProxyProtocol;
use crate::proxy::{Progress, ProxyError, Told, parse};
use crate::tls::reason_of;

/// A connection that is on its way.
#[derive(Debug)]
pub struct Arrival {
    tcp: TcpStream,
    place: Place,
}

/// Why it did not arrive.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not finished in time")]
    Timeout,
    #[error("the oldest of too many handshakes")]
    Crowded,
    #[error("PROXY header: {0}")]
    Proxy(#[from] ProxyError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the client closed the connection")]
    Closed,
    #[error("{0}")]
    Io(io::Error),
}

impl Failure {
    fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Crowded => "crowded",
            Self::Proxy(_) => "proxy_header",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::Io(error) => reason_of(error),
        }
    }
}

impl Arrival {
    pub(crate) fn new(tcp: TcpStream, place: Place) -> Self {
        Self { tcp, place }
    }

    /// Waits until it has said all it has to, and was believed; `None`: it was closed, counted and told in the log.
    /// Not cancel-safe: dropped, the connection is closed.
    pub async fn finish(self) -> Option<Stream> {
        let shared = Arc::clone(&self.place.shared);
        let address = self.place.address;
        let mut turn = shared.handshakes.begin();
        let outcome = tokio::select! {
            biased;
            outcome = timeout(shared.handshake_limit, self.shake()) => outcome.unwrap_or(Err(Failure::Timeout)),
            () = turn.over() => Err(Failure::Crowded),
        };
        let failure = match outcome {
            Ok(stream) => return Some(stream),
            Err(failure) => failure,
        };
        if let Failure::Refused(refusal) = failure {
            shared.refused(refusal, address);
            return None;
        }
        let reason = failure.reason();
        let labels =
            [("listener", metrics::SharedString::from(Arc::clone(&shared.name))), ("reason", reason.into())];
        metrics::counter!("weft_transport_handshakes_failed_total", &labels).increment(1);
        if let Some(unsaid) = shared.reports.may_say(Instant::now().into_std()) {
            tracing::warn!(listener = &*shared.name, peer = %address, reason, unsaid, "handshake failed: {failure}");
        }
        None
    }

    async fn shake(self) -> Result<Stream, Failure> {
        let Self { mut tcp, mut place } = self;
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
