//! A queue that feeds a shared subscription: pulls go on while members have what came, up to a limit, and the offset behind which
//! all is acknowledged is what is committed.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Cursor, FIRST_PAUSE, LAST_PAUSE, Pulled, hold_ms, trouble};
use crate::driver::consumer::{Consumer, Key};
use crate::driver::drained;
use crate::error::CallError;
use crate::request::Place;
use crate::subscription::Subscription;

/// Pulls of one queue, of 32 messages at most, that may be in the hands of members; their bytes are limited by
/// `pulled_max`. RocketMQ's own consumers hold 1000 messages of a queue (pullThresholdForQueue).
const PULLS: usize = 32;
/// How often what members acknowledged is committed, if there is something. What was acknowledged later than that before a node
/// is killed comes again.
const COMMIT: Duration = Duration::from_millis(200);

/// The name of what is wrong when the place of a new group cannot be written down.
const START: &str = "start";

impl Consumer {
    /// Consumes a queue for a group until `stop` turns true. Gives how far it came; what members have by then is given up.
    pub(super) async fn consume_window(
        &self,
        key: &Key,
        subscription: &Subscription,
        stop: &mut watch::Receiver<bool>,
    ) -> Cursor {
        let topic = &*subscription.topic;
        let mut cursor = Cursor::default();
        // One at most: a pull that is out is not given up for an acknowledgement.
        let mut pulls = FuturesUnordered::new();
        let mut window = FuturesOrdered::<BoxFuture<'_, Option<i64>>>::new();
        let mut commit = interval(COMMIT);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(set) = self.cursor_set(key, topic) {
                cursor = set;
                pulls.clear();
                window = FuturesOrdered::new();
            }
            if pulls.is_empty() && window.len() < PULLS {
                let from = Cursor { kept: None, ..cursor.clone() };
                pulls.push(self.pull_at_last(key, subscription, from));
            }
            tokio::select! {
                biased;
                () = drained(stop) => return cursor,
                Some(end) = window.next() => match end {
                    Some(end) => cursor.kept = Some(end),
                    None => return cursor,
                },
                Some((pulled, moved)) = pulls.next() => {
                    if moved.next < cursor.next {
                        // What members have is before the place that somebody set, or of a topic that is no more.
                        window = FuturesOrdered::new();
                    }
                    cursor = Cursor { kept: cursor.kept, committed: cursor.committed, ..moved };
                    match cursor.next {
                        Some(end) if !pulled.messages.is_empty() => {
                            window.push_back(self.settled(pulled, subscription, end, stop.clone()).boxed());
                        }
                        next => if window.is_empty() {
                            cursor.kept = next;
                        }
                    }
                }
                () = self.client.signals.reset.notified() => {}
                _ = commit.tick() => self.commit(key, topic, &mut cursor).await,
            }
        }
    }

    /// Pulls until it works.
    async fn pull_at_last(
        &self,
        key: &Key,
        subscription: &Subscription,
        mut cursor: Cursor,
    ) -> (Pulled, Cursor) {
        let mut failures = 0;
        loop {
            self.room().await;
            match self.pull(hold_ms(failures), key, subscription, &mut cursor).await {
                Ok(pulled) => {
                    self.client.condition.no_trouble(&trouble(key, &subscription.topic));
                    return (pulled, cursor);
                }
                Err(error) => {
                    cursor.from = 0;
                    self.pause_after(&error, key, &subscription.topic, failures).await;
                    failures += 1;
                }
            }
        }
    }

    /// Resolves when members acknowledged all of it, with `end`, the offset behind it; `None`: `stop` turned true before that.
    async fn settled(
        &self,
        pulled: Pulled,
        subscription: &Subscription,
        end: i64,
        mut stop: watch::Receiver<bool>,
    ) -> Option<i64> {
        let _held = self.hold(&pulled.messages);
        self.publish(pulled, subscription, false, &mut stop).await.then_some(end)
    }

    /// Writes down where a new group begins, in all queues there are: whoever gets them goes on from there.
    pub(in crate::driver) async fn mark_start(&self) {
        let Some(subscription) = self.client.identity.inward.first() else { return };
        let topic = &*subscription.topic;
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        while let Err(error) = self.mark_start_of(topic).await {
            // A broker that has just started may not know us yet.
            if matches!(error, CallError::Code { .. }) && failures >= 3 {
                self.client.condition.trouble(START, error.to_string());
            }
            failures += 1;
            self.client.doubt_route(topic);
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
        self.client.condition.no_trouble(START);
    }

    async fn mark_start_of(&self, topic: &str) -> Result<(), CallError> {
        let route = self.client.route(topic).await?;
        // A topic that is still to be made has nothing that could be missed.
        let queues = if route.to_be_created { &[][..] } else { &route.readable };
        for queue in queues {
            self.start(&Place { group: &self.client.identity.group, topic, queue }).await?;
        }
        Ok(())
    }
}
