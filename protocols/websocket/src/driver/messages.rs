//! A WebSocket as a stream of messages that keeps to RFC 6455 by itself: faults are told with their close code, silent
//! peers are pinged, and a connection ends with its closing handshake. Knows nothing of what the messages say.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::deflate::{Deflate, NotDeflate};
use crate::driver::unpacked::Unpacked;

/// The messages of one connection. Pings are answered while it is read.
#[derive(Debug)]
pub struct Messages<S> {
    socket: WebSocketStream<Unpacked<S>>,
    deflate: Option<Deflate>,
    /// After how much silence the peer is pinged; after as much again the connection is given up.
    period: Duration,
    /// When the silence is looked at next.
    timer: Pin<Box<Sleep>>,
    heard: bool,
    pinged: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// The close frame of a fault is on its way.
    Failing(Option<CloseFrame>),
    /// Nothing more is read from the peer but to let it read what was sent. Holds how much is read at most.
    Over(usize),
}

/// How much input is thrown away after a fault. If some lay unread when the socket is closed, the peer would see a reset,
/// and perhaps not the close frame.
const LEFT_MAX: usize = 1 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> Messages<S> {
    /// The messages of `socket`, which is pinged after `period` of silence.
    pub(crate) fn new(
        socket: WebSocketStream<Unpacked<S>>,
        period: Duration,
        deflate: Option<Deflate>,
    ) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + period));
        Self { socket, deflate, period, timer, heard: false, pinged: false, state: State::Open }
    }

    /// The next message with data. `None`: the connection is over, with or without a closing handshake, or by a fault of
    /// the peer, which is told so (RFC 6455 §7.1.7).
    ///
    /// # Errors
    /// The connection is broken, or the peer answers no ping.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Message>>> {
        loop {
            match &mut self.state {
                State::Open => {}
                State::Failing(_) => {
                    ready!(self.poll_fail(cx));
                    return Poll::Ready(Ok(None));
                }
                State::Over(_) => {
                    ready!(self.poll_leave(cx));
                    return Poll::Ready(Ok(None));
                }
            }
            let Poll::Ready(next) = Pin::new(&mut self.socket).poll_next(cx) else {
                ready!(self.poll_silence(cx))?;
                continue;
            };
            self.heard = true;
            match next {
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => {
                    return Poll::Ready(Ok(Some(message)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => match close_code(&error) {
                    Some(code) => self.fail(code, &error.to_string()),
                    None => return Poll::Ready(Err(broken(error))),
                },
            }
        }
    }

    /// Takes a message to send once there is room. Ready: it was taken, and leaves at once unless the socket is full.
    ///
    /// # Errors
    /// The connection is broken or being closed.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        message: impl FnOnce() -> Message,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(broken)?;
        let message = match (self.deflate, message()) {
            (Some(deflate), Message::Text(text)) => Message::Frame(deflate.pack(Data::Text, text.into())),
            (Some(deflate), Message::Binary(data)) => Message::Frame(deflate.pack(Data::Binary, data)),
            (_, message) => message,
        };
        Poll::Ready(Pin::new(&mut self.socket).start_send(message).map_err(broken))
    }

    /// Ready when all that was taken is with the operating system.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(broken)
    }

    /// Sends the close frame, or answers the peer's, and ends our direction. The peer's answer comes as `None` of
    /// [`Self::poll_message`]; how long to wait for it is the caller's business.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.socket).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_)) => {}
            Err(error) => return Poll::Ready(Err(broken(error))),
        }
        Pin::new(self.socket.get_mut()).poll_shutdown(cx)
    }

    /// Whether messages are compressed on their way.
    pub(crate) fn is_compressed(&self) -> bool {
        self.deflate.is_some()
    }

    /// From now on the connection is ended with this code; read on to let the peer know.
    pub(crate) fn fail(&mut self, code: CloseCode, reason: &str) {
        tracing::debug!(code = u16::from(code), reason, "the peer broke WebSocket's rules");
        self.state = State::Failing(Some(CloseFrame { code, reason: shortened(reason).into() }));
    }

    /// Sends the close frame as far as the peer takes it.
    fn poll_fail(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Failing(close) = &mut self.state
            && let Some(close) = close.take()
        {
            // A socket that takes nothing more has no use for a reason.
            Pin::new(&mut self.socket).start_send(Message::Close(Some(close))).unwrap_or_default();
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx)).unwrap_or_default();
        self.state = State::Over(LEFT_MAX);
        Poll::Ready(())
    }

    /// Reads until the peer has closed its side, or has sent too much. What is wrong with it has no meaning any more.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Over(left) = &mut self.state else { return Poll::Ready(()) };
        let mut scratch = [0; 4096];
        while *left > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(self.socket.get_mut().get_mut()).poll_read(cx, &mut buf));
            match buf.filled().len() {
                len @ 1.. if read.is_ok() => *left = left.saturating_sub(len),
                _ => *left = 0,
            }
        }
        Poll::Ready(())
    }

    /// Pings a silent peer; an error if it did not answer the last ping. Ready without an error: look again.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.timer.as_mut().poll(cx));
        self.timer.as_mut().reset(Instant::now() + self.period);
        let heard = std::mem::take(&mut self.heard);
        if !heard && self.pinged {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the peer answers no ping");
            return Poll::Ready(Err(error));
        }
        self.pinged = !heard;
        // If there is no room the peer takes nothing: that is told from a dead one as well as by a ping.
        if self.pinged && Pin::new(&mut self.socket).poll_ready(cx).is_ready() {
            Pin::new(&mut self.socket).start_send(Message::Ping(bytes::Bytes::new())).map_err(broken)?;
        }
        Poll::Ready(Ok(()))
    }
}

/// The code that tells the peer which rule it broke (RFC 6455 §7.4.1); `None` if the connection itself is broken.
pub(crate) fn close_code(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(CloseCode::Protocol),
        Error::Io(error) if error.get_ref().is_some_and(|error| error.is::<NotDeflate>()) => {
            Some(CloseCode::Invalid)
        }
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

/// A reason has at most 123 bytes (RFC 6455 §5.5).
pub(crate) fn shortened(reason: &str) -> String {
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(123));
    reason
}

fn broken(error: Error) -> io::Error {
    if let Error::Io(error) = error { error } else { io::Error::new(io::ErrorKind::BrokenPipe, error) }
}
