//! Pop consumption: what a broker hands out is published, and acked when the hub has kept it. What is not acked in time comes again,
//! to whoever pops next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use remoting::code::response;
use tokio::sync::watch;
use tracing::debug;

use super::client::{Identity, code_error, now_ms};
use super::consumer::{Consumer, Key};
use super::drained;
use super::queue::{Pulled, Turn, bad, decode};
use crate::error::CallError;
use crate::pop::{self, Popped, Receipt};
use crate::subscription::Subscription;

/// For how long nobody else gets what is popped.
const INVISIBLE_MS: i64 = 60_000;
/// How long a broker waits for messages if there are none, and how long its answer may take.
const POLL_MS: i64 = 15_000;
const POP_LIMIT: Duration = Duration::from_secs(25);

impl Consumer {
    /// One pop, and what it brought kept and acked.
    pub(super) async fn pop_turn(
        &self,
        key: &Key,
        subscription: &Subscription,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Turn, CallError> {
        let pop = async {
            self.room().await;
            self.pop(key, subscription).await
        };
        let pulled = tokio::select! {
            biased;
            () = drained(stop) => return Ok(Turn::Stopped),
            pulled = pop => pulled?,
        };
        let Some(pulled) = pulled else { return Ok(Turn::Done) };
        let _held = self.hold(&pulled.messages);
        let receipts: Vec<(i64, Receipt)> = pulled
            .messages
            .iter()
            .filter_map(|message| Some((message.physical_offset, pulled.popped.as_ref()?.receipt(message)?)))
            .collect();
        let addr = Arc::clone(&pulled.addr);
        let Some(again) = self.publish(pulled, subscription, false, stop).await else {
            return Ok(Turn::Stopped);
        };
        let done = receipts.iter().filter(|(offset, _)| !again.contains(offset));
        let acks: FuturesUnordered<_> =
            done.map(|(_, receipt)| self.ack(&addr, &subscription.topic, receipt)).collect();
        acks.for_each(|()| std::future::ready(())).await;
        Ok(Turn::Done)
    }

    /// `None`: there was nothing.
    async fn pop(&self, key: &Key, subscription: &Subscription) -> Result<Option<Pulled>, CallError> {
        let topic = &*subscription.topic;
        let route = self.client.route(topic).await?;
        let queue = route.readable.iter().find(|queue| queue.broker == key.1);
        let queue = queue.ok_or_else(|| CallError::NoQueue(topic.to_owned()))?;
        let Identity { group, start, .. } = &self.client.identity;
        let who = (&**group, topic, &*key.1);
        let times = (INVISIBLE_MS, POLL_MS, now_ms());
        let command = pop::pop(who, (*start, &subscription.wanted), times);
        let answer = self.client.ask(&queue.addr, command, POP_LIMIT).await?;
        match answer.code {
            response::SUCCESS => {}
            response::POLLING_TIMEOUT | response::PULL_NOT_FOUND => return Ok(None),
            _ => return Err(code_error(&queue.addr, &answer)),
        }
        let popped = Popped::of(&answer, &key.1).ok_or_else(|| bad(queue, "no receipts"))?;
        let messages = decode(answer).await.map_err(|error| bad(queue, error))?;
        let cluster = route.cluster(&key.1).cloned();
        Ok(Some(Pulled { messages, addr: Arc::clone(&queue.addr), cluster, popped: Some(popped) }))
    }

    async fn ack(&self, addr: &Arc<str>, topic: &str, receipt: &Receipt) {
        let command = pop::ack(&self.client.identity.group, topic, receipt);
        if let Err(error) = self.client.ask_well(addr, command).await {
            debug!(topic, %error, "a message is not acked: it will come again");
        }
    }
}
