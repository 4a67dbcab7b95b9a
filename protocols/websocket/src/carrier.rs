//! A WebSocket as a stream of bytes, for MQTT (MQTT 5 §6). Frames have no meaning: a packet may lie in several, and
//! several in one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The bytes that a WebSocket's binary messages carry. Pings are answered while it is read. Each write is one frame
/// and is on its way when it returns. Shutting down sends the close frame.
#[derive(Debug)]
pub struct Carrier<S> {
    socket: WebSocketStream<S>,
    /// What is left of the message read last.
    rest: Bytes,
    /// The peer broke the rules, and is told so with this code before the error is.
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Fault {
    close: Option<CloseFrame>,
    reason: String,
}

/// The largest frame that one write becomes.
const FRAME_MAX: usize = 256 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<S> {
    /// Bytes of `socket`'s binary messages.
    pub(crate) fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new(), fault: None }
    }

    /// Sends the close frame of a fault as far as the peer takes it, then reports the fault.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(fault) = &mut self.fault else { return Poll::Ready(Ok(())) };
        if let Some(close) = fault.close.take() {
            // A socket that takes nothing more has no use for a reason.
            Pin::new(&mut self.socket).start_send(Message::Close(Some(close))).unwrap_or_default();
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx)).unwrap_or_default();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault.reason.clone())))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, frame: impl FnOnce() -> Bytes) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let frame = frame();
        let len = frame.len();
        Pin::new(&mut self.socket).start_send(Message::Binary(frame)).map_err(broken)?;
        Poll::Ready(Ok(len))
    }
}

/// The code that tells the peer which rule it broke (RFC 6455 §7.4.1); `None` if the connection itself is broken.
pub(crate) fn close_code(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_)
        | Error::Tls(_)
        | Error::WriteBufferFull(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => None,
    }
}

fn broken(error: Error) -> io::Error {
    if let Error::Io(error) = error { error } else { io::Error::new(io::ErrorKind::BrokenPipe, error) }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Carrier<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            ready!(this.poll_fault(cx))?;
            let fault = |code, reason: String| {
                let close = CloseFrame { code, reason: reason.as_str().into() };
                Some(Fault { close: Some(close), reason })
            };
            match ready!(Pin::new(&mut this.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(data))) => this.rest = data,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    let reason = "[MQTT-6.0.0-1] MQTT is sent in binary frames, not in text frames";
                    this.fault = fault(CloseCode::Unsupported, reason.to_owned());
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => match close_code(&error) {
                    Some(code) => this.fault = fault(code, error.to_string()),
                    None => return Poll::Ready(Err(broken(error))),
                },
            }
        }
        let len = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Carrier<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, || Bytes::copy_from_slice(buf.get(..FRAME_MAX).unwrap_or(buf)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, || {
            let mut frame =
                BytesMut::with_capacity(bufs.iter().map(|buf| buf.len()).sum::<usize>().min(FRAME_MAX));
            for part in bufs {
                let room = FRAME_MAX.saturating_sub(frame.len());
                frame.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            frame.freeze()
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {}
            Err(error) => return Poll::Ready(Err(broken(error))),
        }
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
    }
}
