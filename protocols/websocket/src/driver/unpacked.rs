//! A stream whose compressed frames are made plain as they are read, if that was agreed on. What is written goes through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::deflate::{Deflate, Inflater, PIECE};

/// The stream under the WebSocket.
#[derive(Debug)]
pub(crate) struct Unpacked<S> {
    io: S,
    /// `None`: what comes is plain.
    inflater: Option<Box<Inflater>>,
    /// How much was inflated since others had their turn.
    worked: usize,
}

impl<S> Unpacked<S> {
    /// `io`, on which this was agreed.
    pub(crate) fn new(io: S, deflate: Option<Deflate>) -> Self {
        Self { io, inflater: deflate.map(|_| Box::default()), worked: 0 }
    }

    /// The stream as it is.
    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.io
    }

    pub(crate) fn into_inner(self) -> S {
        self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unpacked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(inflater) = &mut this.inflater else { return Pin::new(&mut this.io).poll_read(cx, buf) };
        loop {
            let output = inflater.output();
            if !output.is_empty() {
                let len = output.len().min(buf.remaining());
                buf.put_slice(&output.split_to(len));
                this.worked += len;
                return Poll::Ready(Ok(()));
            }
            if this.worked >= PIECE {
                // Little input can be much work: others have their turn in between.
                this.worked = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let worked =
                inflater.step().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if worked {
                continue;
            }
            let mut scratch = [0; 4096];
            let mut input = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut input))?;
            if input.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            inflater.feed(input.filled());
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unpacked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
