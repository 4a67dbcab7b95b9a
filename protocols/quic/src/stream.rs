//! Streams of a connection as streams of bytes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use quinn::{Connection, RecvStream, SendStream, StoppedError, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transport::Throttle;

/// A bidirectional stream. [`AsyncWrite::poll_shutdown`] waits until the client has all that was written: a connection that
/// is closed before would take it away.
pub(crate) struct Duplex {
    /// Of the control stream: the connection ends with it, before the stream is dropped.
    closing: Option<Closing>,
    send: SendStream,
    receive: RecvStream,
    /// Resolves when the client has all.
    ended: Option<Pin<Box<Ended>>>,
}

/// Closes the connection when it is dropped.
struct Closing(Connection);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"");
    }
}

type Ended = dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync;

impl Duplex {
    pub(crate) fn new((send, receive): (SendStream, RecvStream)) -> Self {
        Self { closing: None, send, receive, ended: None }
    }

    /// The control stream of `connection`.
    pub(crate) fn control(stream: (SendStream, RecvStream), connection: Connection) -> Self {
        let mut duplex = Self::new(stream);
        // What other streams bring must not keep back acknowledgements and answers to pings.
        duplex.send.set_priority(1).unwrap_or(());
        duplex.closing = Some(Closing(connection));
        duplex
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

/// A stream beside the control stream. Dropped before it is shut down, it is broken off in both directions.
#[derive(Debug)]
pub struct DataStream {
    stream: Duplex,
    throttle: Option<Throttle>,
}

impl DataStream {
    pub(crate) fn new(stream: Duplex, throttle: Option<Throttle>) -> Self {
        Self { stream, throttle }
    }
}

impl Drop for DataStream {
    fn drop(&mut self) {
        let Duplex { send, receive, ended, .. } = &mut self.stream;
        if ended.is_none() {
            send.reset(BROKEN_OFF).unwrap_or(());
            receive.stop(BROKEN_OFF).unwrap_or(());
        }
    }
}

/// The code that a client sees when Weft breaks a data stream off.
const BROKEN_OFF: VarInt = VarInt::from_u32(1);

impl AsyncRead for DataStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, throttle } = self.get_mut();
        match throttle {
            None => Pin::new(stream).poll_read(cx, buf),
            Some(throttle) => throttle.poll_read(cx, buf, |cx, buf| Pin::new(stream).poll_read(cx, buf)),
        }
    }
}

impl AsyncWrite for DataStream {
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
