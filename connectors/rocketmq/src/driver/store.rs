//! RocketMQ as the store of routes: what the core appends is sent, and each append is answered when all of it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::hub::Outcome;
use event::store::{Append, AppendQueue};
use event::{Reject, RejectKind};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::client::{Client, now_ms};
use super::drained;
use super::sender::{Done, Failure, Lanes, Sender};
use crate::binding::{Labels, to_message};
use crate::outbox::Item;

/// Sends what routes append.
pub(super) struct Intake {
    pub(super) client: Arc<Client>,
    pub(super) appends: AppendQueue,
    /// The RocketMQ topic of the store.
    pub(super) topic: Arc<str>,
}

/// An entry: its append, its place there.
type Ticket = (u64, usize);

/// An append that is not answered yet. It holds its share of the store's budget until then.
struct Open {
    append: Append,
    count: usize,
    left: usize,
    refused: Vec<(usize, Reject)>,
}

/// Appends taken in one go.
const TAKE: usize = 64;
/// How long what is in line may take when Weft stops; then its publishers are told.
const LEAVE: Duration = Duration::from_secs(3);

impl Intake {
    /// Sends until the core is gone, or `drain` turned true and all is sent.
    pub(super) async fn run(mut self, mut drain: watch::Receiver<bool>) {
        let mut sender: Sender<Ticket> = Sender::new(Arc::clone(&self.client), None);
        let mut open: BTreeMap<u64, Open> = BTreeMap::new();
        let (mut next, mut taken) = (0, Vec::new());
        loop {
            let (bytes, count) = sender.room();
            tokio::select! {
                biased;
                done = sender.progress() => self.settle(&mut open, done),
                () = drained(&mut drain) => break,
                more = self.appends.next(&mut taken, TAKE), if bytes > 0 && count > 0 => {
                    for append in taken.drain(..) {
                        self.push(&mut sender, &mut open, next, append);
                        next += 1;
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        self.appends.take_ready(&mut taken, usize::MAX);
        for append in taken {
            self.push(&mut sender, &mut open, next, append);
            next += 1;
        }
        let finish = async {
            while !sender.is_empty() {
                let done = sender.progress().await;
                self.settle(&mut open, done);
            }
        };
        // What is not answered by then says that Weft is stopping.
        timeout(LEAVE, finish).await.unwrap_or(());
    }

    fn push(
        &self,
        sender: &mut Sender<Ticket>,
        open: &mut BTreeMap<u64, Open>,
        number: u64,
        mut append: Append,
    ) {
        let options = &self.client.options;
        let deadline = Instant::now() + Duration::from_millis(options.store.deadline_ms.into());
        let entries = std::mem::take(&mut append.entries);
        let mut waiting = Open { append, count: entries.len(), left: 0, refused: Vec::new() };
        for (place, entry) in entries.into_iter().enumerate() {
            // A note without an event is the core's own affair; it keeps those in its log.
            let Some(event) = entry.event else { continue };
            let properties = self.client.kind.properties(&event, options.ttl_ms, now_ms());
            match to_message(&event, Labels::default(), properties, options.message_max.as_usize()) {
                Ok(message) => {
                    let deadline = Some(deadline.into_std());
                    sender.push(
                        &self.topic,
                        (Lanes::InOrder, event.topic().as_str()),
                        Item { message, ticket: Some((number, place)), deadline, alone: false },
                    );
                    waiting.left += 1;
                }
                Err(error) => {
                    self.client.counters.refused.increment(1);
                    waiting.refused.push((place, Reject::new(RejectKind::Denied, error.to_string())));
                }
            }
        }
        if waiting.left == 0 {
            waiting.answer();
        } else {
            open.insert(number, waiting);
        }
    }

    fn settle(&self, open: &mut BTreeMap<u64, Open>, done: Vec<Done<Ticket>>) {
        for ((number, place), result) in done {
            let Some(waiting) = open.get_mut(&number) else { continue };
            waiting.left -= 1;
            if let Err(failure) = result {
                let kind = match failure {
                    Failure::Unfit(_) | Failure::Refused(_) => RejectKind::Denied,
                    Failure::Full => RejectKind::Busy,
                    Failure::Late => RejectKind::Unavailable,
                };
                waiting.refused.push((place, Reject::new(kind, failure.to_string())));
            }
            if waiting.left == 0
                && let Some(waiting) = open.remove(&number)
            {
                waiting.answer();
            }
        }
    }
}

impl Open {
    fn answer(mut self) {
        let Some(receipt) = self.append.receipt.take() else { return };
        self.refused.sort_by_key(|(place, _)| *place);
        receipt.resolve(match self.refused.as_slice() {
            [] => Outcome::Kept,
            [(_, first), ..] if self.refused.len() == self.count => Outcome::Refused(first.clone()),
            _ => Outcome::Partly(self.refused),
        });
    }
}
