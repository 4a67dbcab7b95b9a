//! Bodies of requests and responses on HTTP/2 streams, one piece at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use event::{Budget, BudgetPermit};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http_body::{Body, Frame};
use parking_lot::Mutex;
use tonic::Status;

/// What messages on their way in hold of the budget of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Arc<Mutex<Vec<BudgetPermit>>>);

impl Held {
    /// The message is whole and has gone on.
    pub(crate) fn release(&self) {
        self.0.lock().clear();
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    stream: RecvStream,
    held: Held,
    budget: Budget,
    data_done: bool,
}

impl RequestBody {
    pub(crate) fn new(stream: RecvStream, held: Held, budget: Budget) -> Self {
        Self { stream, held, budget, data_done: false }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.data_done {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    let Some(permit) = self.budget.try_take(data.len(), 1) else {
                        let reason = "too many messages are on their way; try again later";
                        return Poll::Ready(Some(Err(Status::resource_exhausted(reason))));
                    };
                    self.held.0.lock().push(permit);
                    self.stream.flow_control().release_capacity(data.len()).map_err(broken)?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(error)))),
                None => self.data_done = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(broken)?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

fn broken(error: h2::Error) -> Status {
    Status::cancelled(error.to_string())
}

/// The stream, or its connection, is over.
#[derive(Debug)]
pub(crate) struct Over;

impl From<h2::Error> for Over {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

/// Sends `response`. What the peer has no room for is not asked for. Not cancel-safe: the stream is reset.
///
/// # Errors
/// The stream or its connection is over.
pub(crate) async fn respond(
    response: http::Response<tonic::body::Body>,
    mut to: SendResponse<Bytes>,
) -> Result<(), Over> {
    let (head, mut body) = response.into_parts();
    let head = http::Response::from_parts(head, ());
    if body.is_end_stream() {
        to.send_response(head, true)?;
        return Ok(());
    }
    let mut stream = to.send_response(head, false)?;
    loop {
        let frame = tokio::select! {
            biased;
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return Err(Over),
            frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
        };
        let Some(frame) = frame else { return Ok(stream.send_data(Bytes::new(), true)?) };
        let Ok(frame) = frame else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        match frame.into_data() {
            Ok(data) => send(&mut stream, data).await?,
            Err(frame) => return Ok(stream.send_trailers(frame.into_trailers().unwrap_or_default())?),
        }
    }
}

/// Sends `data` as the peer has room for it.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), Over> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut room = stream.capacity();
        if room == 0 {
            room = poll_fn(|cx| {
                if stream.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Over));
                }
                stream.poll_capacity(cx).map(|room| room.ok_or(Over)?.map_err(Over::from))
            })
            .await?;
        }
        let piece = data.split_to(room.min(data.len()));
        if !piece.is_empty() {
            stream.send_data(piece, false)?;
        }
    }
    Ok(())
}
