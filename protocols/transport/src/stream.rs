//! An accepted connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::Peer;
use crate::admission::Place;
use crate::throttle::Throttle;
use crate::tls::Proof;

/// An accepted connection, and its place among [`crate::Connections`]: both end when it is dropped, whoever holds it
/// by then. Small writes leave at once (`TCP_NODELAY`). What only some connections need is behind one pointer.
#[derive(Debug)]
pub struct Stream {
    carrier: Carrier,
    place: Place,
    extra: Option<Box<Extra>>,
}

#[derive(Debug)]
enum Carrier {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Other(Box<dyn Carried>),
}

/// What carries bytes and is no TCP connection.
pub trait Carried: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Carried for C {}

#[derive(Debug)]
struct Extra {
    proof: Option<Arc<Proof>>,
    throttle: Option<Throttle>,
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream, place: Place) -> Self {
        Self::new(Carrier::Tcp(tcp), place, None)
    }

    pub(crate) fn secure(tls: TlsStream<TcpStream>, place: Place, proof: Option<Arc<Proof>>) -> Self {
        Self::new(Carrier::Tls(Box::new(tls)), place, proof)
    }

    /// What another carrier accepted and verified. `throttle`: how fast it is read.
    pub fn carried(
        carrier: Box<dyn Carried>,
        place: Place,
        proof: Option<Arc<Proof>>,
        throttle: Option<Throttle>,
    ) -> Self {
        Self::with(Carrier::Other(carrier), place, proof, throttle)
    }

    fn new(carrier: Carrier, place: Place, proof: Option<Arc<Proof>>) -> Self {
        let throttle = place.throttle();
        Self::with(carrier, place, proof, throttle)
    }

    fn with(carrier: Carrier, place: Place, proof: Option<Arc<Proof>>, throttle: Option<Throttle>) -> Self {
        let is_needed = proof.is_some() || throttle.is_some();
        Self { carrier, place, extra: is_needed.then(|| Box::new(Extra { proof, throttle })) }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        let proof = self.extra.as_ref().and_then(|extra| extra.proof.as_ref());
        Peer {
            address: self.place.address,
            listener: Arc::clone(&self.place.shared.name),
            certificate: proof.map(|proof| proof.certificate()),
        }
    }

    /// Fails once the peer's certificate was revoked.
    fn check(&self) -> io::Result<()> {
        let proof = self.extra.as_ref().and_then(|extra| extra.proof.as_ref());
        proof.map_or(Ok(()), |proof| proof.check())
    }

    #[cfg(test)]
    pub(crate) fn tcp(&self) -> &TcpStream {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp,
            Carrier::Tls(tls) => tls.get_ref().0,
            Carrier::Other(other) => panic!("no TCP connection: {other:?}"),
        }
    }
}

impl Extra {
    fn poll_read(
        &mut self,
        carrier: &mut Carrier,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(proof) = &self.proof {
            proof.register(cx.waker());
            proof.check()?;
        }
        match &mut self.throttle {
            None => carrier.io().poll_read(cx, buf),
            Some(throttle) => throttle.poll_read(cx, buf, |cx, buf| carrier.io().poll_read(cx, buf)),
        }
    }
}

impl Carrier {
    fn io(&mut self) -> Pin<&mut dyn Carried> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp),
            Self::Tls(tls) => Pin::new(&mut **tls),
            Self::Other(other) => Pin::new(&mut **other),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { carrier, extra, .. } = self.get_mut();
        match extra {
            None => carrier.io().poll_read(cx, buf),
            Some(extra) => extra.poll_read(carrier, cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        self.carrier.io().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        self.carrier.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.is_write_vectored(),
            Carrier::Tls(tls) => tls.is_write_vectored(),
            Carrier::Other(other) => other.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier.io().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    /// Each idle connection has one: what only some need is behind a pointer.
    #[test]
    fn a_stream_is_small() {
        let size = size_of::<super::Stream>();
        assert!(size <= 128, "{size} bytes");
    }
}
