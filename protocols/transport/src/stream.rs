//! An accepted connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::Peer;
use crate::listener::Place;
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
}

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

    fn new(carrier: Carrier, place: Place, proof: Option<Arc<Proof>>) -> Self {
        let throttle = place.shared.limits.bytes().map(Throttle::new);
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
        }
    }
}

impl Extra {
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<usize>>> {
        if let Some(proof) = &self.proof {
            proof.register(cx.waker());
            proof.check()?;
        }
        match &mut self.throttle {
            None => Poll::Ready(Ok(None)),
            Some(throttle) => throttle.poll_room(cx).map(|most| Ok(Some(most))),
        }
    }
}

impl Carrier {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, buf),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { carrier, extra, .. } = self.get_mut();
        let Some(extra) = extra else { return carrier.poll_read(cx, buf) };
        let Some(most) = ready!(extra.poll_room(cx))? else { return carrier.poll_read(cx, buf) };
        let most = most.min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(carrier.poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        if let Some(throttle) = &mut extra.throttle {
            throttle.charge(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Carrier::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Carrier::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Tcp(tcp) => tcp.is_write_vectored(),
            Carrier::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Carrier::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Carrier::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
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
