//! A WebSocket as a stream of bytes, for MQTT (MQTT 5 §6). Frames have no meaning: a packet may lie in several, and
//! several in one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::deflate::PACK_MAX;
use crate::driver::Messages;

/// The bytes that a WebSocket's binary messages carry. Each write is one frame and is on its way when it returns.
/// A peer that sends text is told so with code 1003 and gets no further. Shutting down sends the close frame.
#[derive(Debug)]
pub struct Carrier<S> {
    messages: Messages<S>,
    /// What is left of the message read last.
    rest: Bytes,
}

/// The largest frame that one write becomes.
const FRAME_MAX: usize = 256 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> Carrier<S> {
    /// Bytes of binary messages.
    pub(crate) fn new(messages: Messages<S>) -> Self {
        Self { messages, rest: Bytes::new() }
    }

    fn frame_max(&self) -> usize {
        // No larger than what is compressed.
        if self.messages.is_compressed() { PACK_MAX } else { FRAME_MAX }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, frame: impl FnOnce() -> Bytes) -> Poll<io::Result<usize>> {
        let mut len = 0;
        let message = || {
            let frame = frame();
            len = frame.len();
            Message::Binary(frame)
        };
        ready!(self.messages.poll_send(cx, message))?;
        Poll::Ready(Ok(len))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Carrier<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(this.messages.poll_message(cx))? {
                None => return Poll::Ready(Ok(())),
                Some(Message::Binary(data)) => this.rest = data,
                Some(
                    Message::Text(_)
                    | Message::Ping(_)
                    | Message::Pong(_)
                    | Message::Close(_)
                    | Message::Frame(_),
                ) => {
                    let reason = "[MQTT-6.0.0-1] MQTT is sent in binary frames, not in text frames";
                    this.messages.fail(CloseCode::Unsupported, reason);
                }
            }
        }
        let len = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest.split_to(len));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Carrier<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let most = self.frame_max();
        self.poll_send(cx, || Bytes::copy_from_slice(buf.get(..most).unwrap_or(buf)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = self.frame_max();
        self.poll_send(cx, || {
            let mut frame =
                BytesMut::with_capacity(bufs.iter().map(|buf| buf.len()).sum::<usize>().min(most));
            for part in bufs {
                let room = most.saturating_sub(frame.len());
                frame.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            frame.freeze()
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.messages.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.messages.poll_close(cx)
    }
}
