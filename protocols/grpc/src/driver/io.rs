//! A connection whose written bytes are looked at.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::wire::Wire;

/// What a connection and its streams know of the bytes that left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    wire: Mutex<Wire>,
    wants_proof: Notify,
    proved: Notify,
}

impl Sent {
    /// Looks at, or changes, what is known.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Wire) -> T) -> T {
        f(&mut self.0.wire.lock())
    }

    /// Resolves when a PING would tell something new. Cancel-safe.
    pub(crate) async fn wants_proof(&self) {
        self.0.wants_proof.notified().await;
    }

    /// Resolves when the peer is known to have more than `have` bytes of stream `id`. Cancel-safe.
    pub(crate) async fn more_than(&self, id: u32, have: u64) -> u64 {
        loop {
            let proved = self.0.proved.notified();
            let confirmed = self.with(|wire| wire.confirmed(id));
            if confirmed > have {
                return confirmed;
            }
            proved.await;
        }
    }

    /// The last PING was answered.
    pub(crate) fn handle_pong(&self) {
        self.with(Wire::handle_pong);
        self.0.proved.notify_waiters();
    }

    fn handle_written(&self, pieces: &[IoSlice<'_>], written: usize) {
        let mut left = written;
        let wants = self.with(|wire| {
            for piece in pieces {
                let taken = left.min(piece.len());
                wire.handle_written(piece.get(..taken).unwrap_or_default());
                left -= taken;
            }
            wire.wants_proof()
        });
        if wants {
            self.0.wants_proof.notify_one();
        }
    }
}

/// Passes everything on, and tells [`Sent`] what was written.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    sent: Sent,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, sent: Sent) -> Self {
        Self { inner, sent }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs))?;
        self.sent.handle_written(bufs, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
