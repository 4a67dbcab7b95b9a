//! What a connection waits for, as polls: each is cancel-safe, because what is not done stays where it is. Awaits nothing.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytestring::ByteString;
use event::hub::{Closed, Delivery, Granted, Link, Outcome, Receipt, Room};
use event::{Pending, Reject, TopicFilter};
use futures_util::stream::SplitSink;
use futures_util::{FutureExt as _, SinkExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::connection::{Said, Subscription};

/// A batch that waits for room, and what the client called its events.
pub(crate) type WaitingBatch = (Vec<Said>, Pin<Box<dyn Future<Output = Receipt> + Send>>);

/// A question to the hub.
pub(crate) enum Asking {
    Subscribe(Subscription, Pending<Vec<Result<Granted, Reject>>>),
    Unsubscribe { of: ByteString, filters: Vec<TopicFilter>, answer: Pending<Vec<bool>> },
}

/// The hub's answer.
pub(crate) enum Answered {
    Granted(Subscription, Result<Vec<Result<Granted, Reject>>, Reject>),
    Unsubscribed(ByteString, Vec<TopicFilter>, Result<Vec<bool>, Reject>),
}

/// Writes all of `out` and flushes it: a frame leaves `out` when the socket has it.
pub(crate) fn poll_write<S>(
    cx: &mut Context<'_>,
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    out: &mut VecDeque<Message>,
) -> Poll<Result<(), Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while !out.is_empty() {
        ready!(sink.poll_ready_unpin(cx))?;
        if let Some(message) = out.pop_front() {
            sink.start_send_unpin(message)?;
        }
    }
    sink.poll_flush_unpin(cx)
}

/// The outcome of the oldest batch: answers leave in the order of publishing.
pub(crate) fn poll_outcome(
    cx: &mut Context<'_>,
    receipts: &mut VecDeque<(Vec<Said>, Receipt)>,
) -> Poll<(Vec<Said>, Outcome)> {
    let Some((_, receipt)) = receipts.front_mut() else { return Poll::Pending };
    let outcome = ready!(receipt.poll_unpin(cx));
    let batch = receipts.pop_front().map(|(batch, _)| batch).unwrap_or_default();
    Poll::Ready((batch, outcome))
}

/// The receipt of a batch that found room.
pub(crate) fn poll_room(cx: &mut Context<'_>, room: &mut Option<WaitingBatch>) -> Poll<(Vec<Said>, Receipt)> {
    let Some((_, waiting)) = room else { return Poll::Pending };
    let receipt = ready!(waiting.as_mut().poll(cx));
    let batch = room.take().map(|(batch, _)| batch).unwrap_or_default();
    Poll::Ready((batch, receipt))
}

/// The answer to a question.
pub(crate) fn poll_answer(cx: &mut Context<'_>, asking: &mut Option<Asking>) -> Poll<Answered> {
    let answered = match asking {
        None => return Poll::Pending,
        Some(Asking::Subscribe(asked, answer)) => {
            let results = ready!(answer.poll_unpin(cx));
            Answered::Granted(asked.clone(), results)
        }
        Some(Asking::Unsubscribe { of, filters, answer }) => {
            let result = ready!(answer.poll_unpin(cx));
            Answered::Unsubscribed(of.clone(), std::mem::take(filters), result)
        }
    };
    *asking = None;
    Poll::Ready(answered)
}

/// Deliveries, into `taken`.
pub(crate) fn poll_deliveries(
    cx: &mut Context<'_>,
    link: &mut Option<Box<dyn Link>>,
    room: Room,
    taken: &mut Vec<Delivery>,
) -> Poll<Result<(), Closed>> {
    match link {
        Some(link) => link.poll_deliveries(cx, room, taken),
        None => Poll::Pending,
    }
}
