//! What is published while a bridge has a backlog: a second session, which ends with the backlog and promises nothing, shows
//! events as they come. The durable session comes to each of them later, and acks it then.

use std::future::poll_fn;
use std::time::Duration;

use event::hub::{Attach, Close, Delivery, Link, Room};
use event::{Event, Guarantee, Principal, Reject};
use tracing::{debug, info};

use super::bridge::Outlet;
use super::client::now_ms;
use crate::share::{Fresh, Share};

/// Events that go ahead.
pub(super) struct Live {
    percent: u8,
    share: Share,
    link: Option<Box<dyn Link>>,
    fresh: Fresh,
    taken: Vec<Delivery>,
}

/// How old an event is that shows that there is a backlog, and one that shows its end.
const BEHIND: Duration = Duration::from_secs(5);
const CAUGHT_UP: Duration = Duration::from_secs(1);
/// Taken at a time.
const ROOM: Room = Room { numbered: 0, bytes: 1 << 20 };

impl Live {
    /// With this share of the turns; 0: nothing goes ahead.
    pub(super) fn new(percent: u8) -> Self {
        Self { percent, share: Share::new(percent), link: None, fresh: Fresh::default(), taken: Vec::new() }
    }

    /// Whether there is a backlog.
    pub(super) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Whether something waits to go ahead.
    pub(super) fn waits(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether the next turn is its own.
    pub(super) fn takes_turn(&mut self) -> bool {
        self.share.take_turn()
    }

    /// At most `count` events that go ahead.
    pub(super) fn take(&mut self, count: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.fresh.pop()).take(count).collect()
    }

    /// Takes what is published, but for what the bridge `who` brought in itself. Returns when something came; never when there
    /// is no backlog. Cancel-safe.
    pub(super) async fn listen(&mut self, who: &Principal) {
        let Some(link) = &mut self.link else { return std::future::pending().await };
        if poll_fn(|cx| link.poll_deliveries(cx, ROOM, &mut self.taken)).await.is_err() {
            self.link = None;
        }
        for Delivery { event, .. } in self.taken.drain(..) {
            if **event.publisher() != *who.client.as_str() {
                self.fresh.push(event);
            }
        }
    }

    /// The durable session has come to `last`. Not cancel-safe: a session may be left to its end.
    pub(super) async fn follow(&mut self, outlet: &Outlet, last: Option<&Delivery>) {
        let Some(last) = last.filter(|_| self.percent > 0) else { return };
        let age = Duration::from_millis(now_ms().saturating_sub(last.event.parts().received_ms));
        match self.link.take_if(|_| age < CAUGHT_UP) {
            Some(link) => {
                info!(session = %outlet.who.client, "the backlog is gone: all goes in order");
                link.close(Close { will: false, keep: None });
                self.fresh = Fresh::default();
            }
            None if self.link.is_none() && age > BEHIND => match attach(outlet).await {
                Ok(link) => {
                    info!(session = %outlet.who.client, "there is a backlog: events that are published share the link with it");
                    self.link = Some(link);
                }
                Err(reject) => debug!(session = %outlet.who.client, %reject, "nothing goes ahead"),
            },
            None => {}
        }
    }
}

async fn attach(outlet: &Outlet) -> Result<Box<dyn Link>, Reject> {
    let request = Attach { clean: true, protocol: outlet.client.kind.title(), ..Attach::default() };
    let who = Principal::anonymous(&*format!("{}/live", outlet.who.client));
    let attached = outlet.hub.attach(who, request).await?;
    outlet.subscribe(attached.link, Guarantee::AtMostOnce).await
}
