//! Pop consumption: what a broker hands out is published, and acked when the hub has kept it. What is not acked in time comes again,
//! to whoever pops next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use remoting::Command;
use remoting::code::response;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing::debug;

use super::client::{Identity, code_error, now_ms};
use super::consumer::{Consumer, Key};
use super::drained;
use super::queue::{Pulled, Turn, bad, decode};
use crate::error::CallError;
use crate::pop::{self, Receipt};
use crate::subscription::Subscription;

/// How long the answer of a broker may take.
const POP_LIMIT: Duration = Duration::from_secs(25);

impl Consumer {
    /// One pop, which the broker holds for `hold_ms` if there is nothing, and what it brought kept and acked. Nobody else gets it for
    /// `invisible`, and longer while it is on its way.
    pub(super) async fn pop_turn(
        &self,
        (invisible, hold_ms): (Duration, i64),
        key: &Key,
        subscription: &Subscription,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Turn, CallError> {
        let pop = async {
            self.room().await;
            self.pop((invisible, hold_ms), key, subscription).await
        };
        let pulled = tokio::select! {
            biased;
            () = drained(stop) => return Ok(Turn::Stopped),
            pulled = pop => pulled?,
        };
        let Some(pulled) = pulled else { return Ok(Turn::Done) };
        let _held = self.hold(&pulled.messages);
        let receipts: Vec<Receipt> = pulled.receipts.values().cloned().collect();
        let (addr, topic) = (Arc::clone(&pulled.addr), &*subscription.topic);
        let settled = Notify::new();
        let publish = async {
            let whole = self.publish(pulled, subscription, false, stop).await;
            settled.notify_one();
            whole
        };
        let prolong = async {
            // What is being prolonged has two rights until the answer is here: it is waited for.
            while !is_settled_within(&settled, invisible / 2).await {
                let all: FuturesUnordered<_> =
                    receipts.iter().map(|receipt| self.prolong(&addr, topic, receipt, invisible)).collect();
                all.for_each(std::future::ready).await;
            }
        };
        let (whole, ()) = tokio::join!(publish, prolong);
        if !whole {
            return Ok(Turn::Stopped);
        }
        self.ack(&addr, topic, &receipts).await;
        Ok(Turn::Done)
    }

    /// `None`: there was nothing.
    async fn pop(
        &self,
        (invisible, hold_ms): (Duration, i64),
        key: &Key,
        subscription: &Subscription,
    ) -> Result<Option<Pulled>, CallError> {
        let topic = &*subscription.topic;
        let route = self.client.route(topic).await?;
        let queue = route.readable.iter().find(|queue| queue.broker == key.1);
        let queue = queue.ok_or_else(|| CallError::NoQueue(topic.to_owned()))?;
        let Identity { group, start, .. } = &self.client.identity;
        let who = (&**group, topic, &*key.1);
        let times = (millis(invisible), hold_ms, now_ms());
        let command = pop::pop(who, (*start, &subscription.wanted), times);
        let answer = self.client.ask(&queue.addr, command, POP_LIMIT).await?;
        match answer.code {
            response::SUCCESS => {}
            response::POLLING_TIMEOUT | response::PULL_NOT_FOUND => return Ok(None),
            _ => return Err(code_error(&queue.addr, &answer)),
        }
        let head = Command { body: Bytes::new(), ..answer.clone() };
        let messages = decode(answer).await.map_err(|error| bad(queue, error))?;
        let receipts = pop::receipts(&head, &key.1, &messages).ok_or_else(|| bad(queue, "no receipts"))?;
        let cluster = route.cluster(&key.1).cloned();
        Ok(Some(Pulled { messages, addr: Arc::clone(&queue.addr), cluster, receipts }))
    }

    async fn prolong(&self, addr: &Arc<str>, topic: &str, receipt: &Receipt, invisible: Duration) {
        let group = &self.client.identity.group;
        let Some(command) = receipt.prolong(group, topic, millis(invisible)) else { return };
        match self.client.ask_well(addr, command).await {
            Ok(answer) => receipt.prolonged(&answer),
            Err(error) => debug!(topic, %error, "a message is not prolonged: it may come again"),
        }
    }

    async fn ack(&self, addr: &Arc<str>, topic: &str, receipts: &[Receipt]) {
        let group = &self.client.identity.group;
        let Some(command) = pop::acks(group, topic, receipts) else { return };
        match self.client.ask_well(addr, command).await {
            Ok(_) => {}
            Err(CallError::Code { code: response::REQUEST_CODE_NOT_SUPPORTED, .. }) => {
                let each = receipts.iter().filter_map(|receipt| receipt.ack(group, topic));
                let each: FuturesUnordered<_> =
                    each.map(|command| self.client.ask_well(addr, command)).collect();
                drop(each.collect::<Vec<_>>().await);
            }
            Err(error) => debug!(topic, %error, "messages are not acked: they will come again"),
        }
    }
}

/// Whether it was told within `time`.
async fn is_settled_within(settled: &Notify, time: Duration) -> bool {
    timeout(time, settled.notified()).await.is_ok()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
