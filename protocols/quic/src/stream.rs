//! Streams of a connection as streams of bytes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use quinn::{Connection, RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A bidirectional stream. [`AsyncWrite::poll_shutdown`] waits until the client has all that was written: a connection that
/// is closed before would take it away.
pub(crate) struct Duplex {
    send: SendStream,
    receive: RecvStream,
    /// Resolves when the client has all.
    ended: Option<Pin<Box<Ended>>>,
}

type Ended = dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync;

impl Duplex {
    pub(crate) fn new((send, receive): (SendStream, RecvStream)) -> Self {
        Self { send, receive, ended: None }
    }
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Duplex").field(&self.send.id()).finish()
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().receive).poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().send).poll_write(cx, buf).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { send, ended, .. } = self.get_mut();
        if ended.is_none() {
            send.finish()?;
        }
        let ended = ended.get_or_insert_with(|| Box::pin(send.stopped()));
        ready!(ended.as_mut().poll(cx)).map_err(io::Error::from)?;
        Poll::Ready(Ok(()))
    }
}

/// The control stream. The connection ends with it.
#[derive(Debug)]
pub(crate) struct Control {
    stream: Duplex,
    connection: Connection,
}

impl Control {
    pub(crate) fn new(stream: Duplex, connection: Connection) -> Self {
        // What other streams bring must not keep back acknowledgements and answers to pings.
        stream.send.set_priority(1).unwrap_or(());
        Self { stream, connection }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

impl AsyncRead for Control {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Control {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
