//! Data streams: each has its bytes, and all feed the one connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Duration, Instant, timeout};

use super::{Driver, poll_input, poll_write_some};
use crate::codec::{decode, scan};
use crate::connection::{Lane, Now};
use crate::{Violation, meters};

/// A stream of the client beside its control stream. Dropped before it is shut down, it is broken off.
pub trait DataStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> DataStream for S {}

/// Ready with the next stream that the client opens; how many there may be is for the carrier to say.
pub type Accept = Box<dyn FnMut(&mut Context<'_>) -> Poll<Box<dyn DataStream>> + Send>;

pub(super) struct Lanes {
    accept: Accept,
    open: Vec<Open>,
}

struct Open {
    lane: Lane,
    stream: Box<dyn DataStream>,
    /// What was read and is not a complete packet yet.
    input: BytesMut,
    /// Complete packets.
    burst: Bytes,
    /// What is wrong behind them.
    bad: Option<Violation>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client sends no more.
    Ended,
    /// All that has to be written is written.
    Closing,
    Closed,
}

impl Lanes {
    pub(super) fn new(accept: Accept) -> Box<Self> {
        Box::new(Self { accept, open: Vec::new() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    /// A turn for all data streams.
    pub(super) fn poll_lanes(&mut self, cx: &mut Context<'_>, now: Now) -> bool {
        // Out of the way, so that each may use the connection.
        let Some(mut lanes) = self.lanes.take() else { return false };
        let mut moved = self.accept_lanes(&mut lanes, cx);
        for open in &mut lanes.open {
            moved |= self.write_lane(open, cx, now);
            moved |= self.read_lane(open, cx, now);
            moved |= self.close_lane(open, cx);
        }
        lanes.open.retain(|open| open.state != State::Closed);
        self.lanes = Some(lanes);
        moved
    }

    fn accept_lanes(&mut self, lanes: &mut Lanes, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.connection.is_open()
            && let Poll::Ready(stream) = (lanes.accept)(cx)
        {
            let Some(lane) = self.connection.open_lane() else { break };
            let (input, burst) = (BytesMut::new(), Bytes::new());
            lanes.open.push(Open { lane, stream, input, burst, bad: None, state: State::Open });
            moved = true;
        }
        moved
    }

    fn write_lane(&mut self, open: &mut Open, cx: &mut Context<'_>, now: Now) -> bool {
        let mut moved = false;
        while let Some(output) = self.connection.lane_output(open.lane)
            && !output.is_empty()
        {
            match poll_write_some(&mut open.stream, output, cx) {
                Poll::Ready(Ok(written @ 1..)) => {
                    self.connection.handle_lane_written(open.lane, written, now.instant);
                    self.bytes_out = self.bytes_out.saturating_add(written);
                    moved = true;
                }
                Poll::Ready(Ok(0) | Err(_)) => {
                    self.lose_lane(open);
                    return true;
                }
                Poll::Pending => {
                    self.connection.handle_lane_written(open.lane, 0, now.instant);
                    break;
                }
            }
        }
        moved
    }

    fn read_lane(&mut self, open: &mut Open, cx: &mut Context<'_>, now: Now) -> bool {
        if self.feed_lane(open, now) {
            return true;
        }
        let paused = self.paused_until.is_some() || !self.connection.wants_packets();
        if paused || open.state != State::Open || !open.burst.is_empty() {
            return false;
        }
        match poll_input(&mut open.stream, &mut open.input, LANE_CHUNK, cx).1 {
            Poll::Pending => {
                // A stream that waits keeps no memory.
                if open.input.is_empty() {
                    open.input = BytesMut::new();
                }
                false
            }
            Poll::Ready(Ok(read @ 1..)) => {
                self.bytes_in = self.bytes_in.saturating_add(read);
                self.connection.handle_input(now.instant);
                let found = scan(&open.input, self.packet_max, true);
                open.burst = open.input.split_to(found.complete).freeze();
                open.bad = found.violation;
                self.charge(found.packets, read, now);
                self.feed_lane(open, now);
                true
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                open.state = State::Ended;
                self.connection.handle_lane_eof(open.lane);
                true
            }
        }
    }

    /// Gives packets to the connection while it wants them. A packet that cannot be read ends its stream only.
    fn feed_lane(&mut self, open: &mut Open, now: Now) -> bool {
        let (mut moved, mut broken) = (false, None);
        while broken.is_none() && !open.burst.is_empty() && self.connection.wants_packets() {
            moved = true;
            let handled = match decode(&mut open.burst, self.connection.version()) {
                Ok(Some(packet)) => self.connection.handle_packet_on(open.lane, packet, now),
                Ok(None) => break,
                Err(violation @ Violation::ConnectTwice) => Err(violation),
                Err(violation) => {
                    broken = Some(violation);
                    Ok(())
                }
            };
            if let Err(violation) = handled {
                self.connection.handle_violation(violation, &[]);
            }
        }
        if broken.is_none() && open.burst.is_empty() {
            broken = open.bad.take();
        }
        if let Some(violation) = broken {
            meters::violation(violation);
            self.lose_lane(open);
            return true;
        }
        moved
    }

    fn lose_lane(&mut self, open: &mut Open) {
        open.state = State::Closed;
        open.burst = Bytes::new();
        self.connection.handle_lane_closed(open.lane);
    }

    /// Closes a stream on which both sides have said all.
    fn close_lane(&mut self, open: &mut Open, cx: &mut Context<'_>) -> bool {
        if open.state == State::Ended && open.burst.is_empty() && self.connection.is_lane_done(open.lane) {
            open.state = State::Closing;
        }
        if open.state != State::Closing || Pin::new(&mut open.stream).poll_shutdown(cx).is_pending() {
            return false;
        }
        self.lose_lane(open);
        true
    }

    /// Writes what is left for data streams, for a moment. Not cancel-safe.
    pub(super) async fn finish_lanes(&mut self) {
        let Some(mut lanes) = self.lanes.take() else { return };
        let connection = &mut self.connection;
        let end = async {
            for open in &mut lanes.open {
                while let Some(output) = connection.lane_output(open.lane)
                    && !output.is_empty()
                {
                    match poll_fn(|cx| poll_write_some(&mut open.stream, output, cx)).await {
                        Ok(written @ 1..) => {
                            connection.handle_lane_written(open.lane, written, Instant::now().into_std());
                        }
                        Ok(0) | Err(_) => break,
                    }
                }
                poll_fn(|cx| Pin::new(&mut open.stream).poll_shutdown(cx)).await.unwrap_or(());
            }
        };
        timeout(LANES_LINGER, end).await.unwrap_or(());
    }
}

/// How much a data stream reads at once.
const LANE_CHUNK: usize = 8 << 10;
/// How long the last bytes of all data streams may take.
const LANES_LINGER: Duration = Duration::from_millis(500);
