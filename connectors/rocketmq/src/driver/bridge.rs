//! The way out of a bridge: a durable session whose deliveries go to RocketMQ and are acked after SEND_OK.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{
    Attach, Close, Closed, Delivery, Hub, Link, RetainedWanted, Room, Subscribe, SubscribeOptions,
};
use event::{Guarantee, Principal, Reject};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::client::Client;
use super::drained;
use super::sender::{Done, Failure, Sender};
use crate::OutRule;
use crate::binding::to_message;
use crate::outbox::Item;

/// Forwards what its rules match.
pub(super) struct Outlet {
    pub(super) client: Arc<Client>,
    pub(super) hub: Arc<dyn Hub>,
    /// The session.
    pub(super) who: Principal,
    pub(super) rules: Vec<(OutRule, Arc<str>)>,
}

/// Between two tries to get the session.
const PAUSE: Duration = Duration::from_secs(1);
/// How long requests that are out may take when Weft stops. What is not acked then goes again after the next start.
const LEAVE: Duration = Duration::from_secs(2);

impl Outlet {
    /// Forwards until `drain` turns true.
    pub(super) async fn run(&self, mut drain: watch::Receiver<bool>) {
        loop {
            let attached = tokio::select! {
                biased;
                () = drained(&mut drain) => return,
                attached = self.attach() => attached,
            };
            let link = match attached {
                Ok(link) => link,
                Err(reject) => {
                    warn!(session = %self.who.client, reason = %reject, "the bridge cannot have its session");
                    pause(&mut drain).await;
                    continue;
                }
            };
            match self.forward(link, &mut drain).await {
                Ok(()) | Err(Closed::Stopping) => return,
                Err(why @ (Closed::TakenOver | Closed::Ended | Closed::QueueFull)) => {
                    warn!(session = %self.who.client, ?why, "the bridge lost its session");
                    pause(&mut drain).await;
                }
            }
        }
    }

    async fn attach(&self) -> Result<Box<dyn Link>, Reject> {
        let request =
            Attach { keep: Duration::MAX, protocol: "RocketMQ", keep_all: true, ..Attach::default() };
        let mut attached = self.hub.attach(self.who.clone(), request).await?;
        attached.link.ack(&attached.unreleased);
        // RocketMQ repeats after a crash; more than at-least-once would promise what it cannot keep.
        let options = SubscribeOptions {
            no_local: true,
            retained: RetainedWanted::Never,
            ..SubscribeOptions::new(Guarantee::AtLeastOnce)
        };
        let wanted =
            self.rules.iter().map(|(rule, _)| Subscribe::new(rule.filter.clone(), options)).collect();
        for granted in attached.link.subscribe(wanted).await? {
            granted?;
        }
        Ok(attached.link)
    }

    /// Forwards until the session is lost, or `drain` turns true (`Ok`).
    async fn forward(
        &self,
        mut link: Box<dyn Link>,
        drain: &mut watch::Receiver<bool>,
    ) -> Result<(), Closed> {
        let mut sender: Sender<Option<u64>> = Sender::new(Arc::clone(&self.client));
        let mut deliveries = Vec::new();
        loop {
            let (bytes, count) = sender.room();
            let room = Room { numbered: u16::try_from(count).unwrap_or(u16::MAX), bytes };
            tokio::select! {
                biased;
                done = sender.progress() => ack(link.as_mut(), done),
                () = drained(drain) => break,
                taken = poll_fn(|cx| link.poll_deliveries(cx, room, &mut deliveries)), if bytes > 0 && count > 0 => {
                    taken?;
                    for delivery in deliveries.drain(..) {
                        self.push(&mut sender, link.as_mut(), delivery);
                    }
                }
            }
        }
        let finish = async {
            while !sender.is_empty() {
                ack(link.as_mut(), sender.progress().await);
            }
        };
        if timeout(LEAVE, finish).await.is_err() {
            debug!(session = %self.who.client, "left with events that go again after the next start");
        }
        link.close(Close { will: false, keep: None });
        Ok(())
    }

    fn push(&self, sender: &mut Sender<Option<u64>>, link: &mut dyn Link, delivery: Delivery) {
        let Delivery { event, number, .. } = delivery;
        let rule = self.rules.iter().find(|(rule, _)| rule.filter.matches(event.topic()));
        let Some((_, topic)) = rule else {
            // A rule that was taken out of the configuration.
            link.ack(number.as_slice());
            return;
        };
        match to_message(&event, self.client.options.message_max.as_usize()) {
            Ok(message) => {
                sender.push(topic, event.topic(), Item { message, ticket: number, deadline: None })
            }
            Err(error) => {
                let counters = &self.client.counters;
                counters.refused.increment(1);
                warn!(session = %self.who.client, %error, "an event cannot go to RocketMQ");
                link.ack(number.as_slice());
            }
        }
    }
}

/// Waits before the next try, unless Weft stops.
async fn pause(drain: &mut watch::Receiver<bool>) {
    timeout(PAUSE, drained(drain)).await.unwrap_or(());
}

/// What is sent is done, and so is what RocketMQ refused for good.
fn ack(link: &mut dyn Link, done: Vec<Done<Option<u64>>>) {
    let numbers: Vec<u64> = done
        .into_iter()
        .filter_map(|(number, result)| match result {
            Ok(()) | Err(Failure::Unfit(_)) => number,
            // No deadline was given.
            Err(Failure::Late) => None,
        })
        .collect();
    link.ack(&numbers);
}
