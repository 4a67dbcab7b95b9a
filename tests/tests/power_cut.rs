//! The whole of core and log on a disk that loses what was not synced, over many seeds: a publisher and a subscriber that
//! do what MQTT clients do, power cuts at any operation of the disk, and a model of what was promised.
//!
//! `WEFT_SIM_SEED` starts at another seed, `WEFT_SIM_SEEDS` (256) and `WEFT_SIM_STEPS` (60) widen it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use embedded::sim::{Fault, SimDisk};
use event::hub::{
    Admission, Attach, Attached, Delivery, Hub, Outcome, Publish, Receipt, Room, Subscribe, SubscribeOptions,
};
use event::testing::{Chance, seeds};
use event::{ByteLimit, Event, Guarantee, Health, Parts, Principal, TopicFilter, TopicName};
use routing::Core;

const TOPIC: &str = "plant/line/temperature";

/// Weft between two power cuts.
struct Life {
    core: Arc<Core>,
    log: Option<embedded::Handle>,
}

/// An MQTT publisher: repeats what was not answered, under the id it had.
#[derive(Default)]
struct Publisher {
    link: Option<Attached>,
    /// Exactly-once publishes without an answer, in order.
    unanswered: Vec<(u16, String)>,
    /// Ids that are answered and not released.
    unreleased: BTreeSet<u16>,
    /// Texts that were answered, exactly-once and at-least-once.
    kept_once: Vec<String>,
    kept: Vec<String>,
    sent: BTreeSet<String>,
    next: u16,
}

/// An MQTT subscriber with QoS 2: an event counts when its number is new to it.
#[derive(Default)]
struct Subscriber {
    link: Option<Attached>,
    /// Numbers that it holds between PUBREC and PUBCOMP.
    held: BTreeSet<u64>,
    /// Numbers whose PUBREC is to be sent.
    fresh: Vec<u64>,
    seen: Vec<(u64, String)>,
}

struct World {
    disk: SimDisk,
    life: Life,
    publisher: Publisher,
    subscriber: Subscriber,
    chance: Chance,
}

impl Life {
    async fn begin(disk: &SimDisk) -> Self {
        let log = embedded::Options {
            segment_bytes: ByteLimit::kib(64),
            max_bytes: ByteLimit::mib(4),
            retain_bytes: ByteLimit::kib(128),
            prewrite_bytes: ByteLimit::kib(8),
            ..embedded::Options::default()
        };
        let opened =
            embedded::open(&log, Path::new("/log"), disk.clone(), Health::default()).expect("the log opens");
        let core = routing::Options { checkpoint_bytes: ByteLimit::kib(4), ..routing::Options::default() };
        let (core, _) =
            Core::recover(core, &[], opened.store, opened.feed, Vec::new()).await.expect("the core recovers");
        Self { core, log: Some(opened.handle) }
    }

    /// The process is gone: nothing of it may write any more. The disk was cut before, so closing changes nothing.
    async fn end(&mut self) {
        if let Some(log) = self.log.take() {
            tokio::task::spawn_blocking(move || log.close()).await.expect("the log closes");
        }
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let disk = SimDisk::new();
        let life = Life::begin(&disk).await;
        let (publisher, subscriber) = (Publisher::default(), Subscriber::default());
        let mut world = Self { disk, life, publisher, subscriber, chance: Chance(seed) };
        world.subscriber.join(&world.life.core).await.expect("nothing fails yet");
        world.subscriber.subscribe().await.expect("nothing fails yet");
        world
    }

    async fn step(&mut self) {
        // What fails, fails because the power is off: the next turn sees that.
        let _ = match self.chance.below(12) {
            0..4 => self.publisher.publish(&self.life.core, 1 + self.chance.below(6)).await,
            4 => self.publisher.join(&self.life.core).await,
            5 => self.subscriber.join(&self.life.core).await,
            6..9 => self.subscriber.take(Duration::from_millis(2)).await,
            9 => self.subscriber.answer().await,
            10 => {
                self.disk.fail_after(self.chance.below(12), Fault::Power);
                Some(())
            }
            _ => {
                if self.chance.below(4) == 0 {
                    self.power_cut().await;
                }
                Some(())
            }
        };
        if self.disk.is_off() {
            self.power_cut().await;
        }
    }

    async fn power_cut(&mut self) {
        self.disk.crash(self.chance.number());
        // A lost process says no goodbye.
        std::mem::forget(self.publisher.link.take());
        std::mem::forget(self.subscriber.link.take());
        self.life.end().await;
        self.life = Life::begin(&self.disk).await;
    }

    async fn finish(&mut self) {
        self.disk.clear_fault();
        self.publisher.join(&self.life.core).await.expect("the power is on");
        self.subscriber.join(&self.life.core).await.expect("the power is on");
        // A last event, answered: all before it are on their way when it is.
        self.publisher.publish(&self.life.core, 1).await.expect("the power is on");
        let last = self.publisher.kept.last().cloned().expect("the last event");
        while !self.subscriber.seen.iter().any(|(_, text)| *text == last) {
            self.subscriber.take(Duration::from_secs(10)).await.expect("the power is on");
            self.subscriber.answer().await.expect("the power is on");
        }
        self.check();
        std::mem::forget(self.publisher.link.take());
        std::mem::forget(self.subscriber.link.take());
        self.life.end().await;
    }

    fn check(&self) {
        let Publisher { kept_once, kept, sent, .. } = &self.publisher;
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, text) in &self.subscriber.seen {
            assert!(sent.contains(text), "{text} was never sent");
            *times.entry(text).or_default() += 1;
        }
        let lost: Vec<&String> =
            kept.iter().chain(kept_once).filter(|text| !times.contains_key(text.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        for text in kept_once {
            assert_eq!(times[text.as_str()], 1, "{text} was published once and arrived more often");
        }
        let once: Vec<&str> = self
            .subscriber
            .seen
            .iter()
            .map(|(_, text)| &**text)
            .filter(|text| text.starts_with("once"))
            .collect();
        assert!(once.is_sorted_by_key(|text| number(text)), "out of order: {once:?}");
    }
}

impl Publisher {
    async fn join(&mut self, core: &Core) -> Option<()> {
        let attached = attach(core, "publisher").await?;
        let received: BTreeSet<u16> = attached.received_ids.iter().copied().collect();
        self.link = Some(attached);
        // What was answered is known, whatever happened; what is known here counts as answered now.
        for id in &self.unreleased {
            assert!(received.contains(id) || !self.unanswered.iter().any(|(open, _)| open == id), "id {id}");
        }
        let (known, unknown): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unanswered).into_iter().partition(|(id, _)| received.contains(id));
        for (id, text) in known {
            self.unreleased.insert(id);
            self.kept_once.push(text);
        }
        self.unanswered = unknown;
        let again = self.unanswered.clone();
        self.send_once(again).await?;
        self.release().await
    }

    async fn publish(&mut self, core: &Core, count: u64) -> Option<()> {
        if self.link.is_none() {
            self.join(core).await?;
        }
        let mut fresh = Vec::new();
        for _ in 0..count {
            self.next += 1;
            let text = format!("once {}", self.next);
            self.sent.insert(text.clone());
            fresh.push((self.next, text));
        }
        self.unanswered.extend(fresh.iter().cloned());
        self.send_once(fresh).await?;
        let texts: Vec<String> = (0..count).map(|n| format!("least {} {n}", self.next)).collect();
        self.sent.extend(texts.iter().cloned());
        let batch = texts.iter().map(|text| publish(text, Guarantee::AtLeastOnce, None)).collect();
        kept(self.link.as_mut()?.link.publish(batch)).await?;
        self.kept.extend(texts);
        self.release().await
    }

    async fn send_once(&mut self, batch: Vec<(u16, String)>) -> Option<()> {
        if batch.is_empty() {
            return Some(());
        }
        let publishes =
            batch.iter().map(|(id, text)| publish(text, Guarantee::ExactlyOnce, Some(*id))).collect();
        kept(self.link.as_mut()?.link.publish(publishes)).await?;
        for (id, text) in batch {
            self.unanswered.retain(|(open, _)| *open != id);
            self.unreleased.insert(id);
            self.kept_once.push(text);
        }
        Some(())
    }

    async fn release(&mut self) -> Option<()> {
        let ids: Vec<u16> = self.unreleased.iter().copied().collect();
        answered(self.link.as_mut()?.link.release(&ids)).await?;
        self.unreleased.clear();
        Some(())
    }
}

impl Subscriber {
    async fn join(&mut self, core: &Core) -> Option<()> {
        let mut attached = attach(core, "subscriber").await?;
        // PUBREL again, answered at once.
        attached.link.ack(&attached.unreleased.clone());
        for number in &attached.unreleased {
            self.held.remove(number);
        }
        self.fresh.clear();
        self.link = Some(attached);
        Some(())
    }

    async fn subscribe(&mut self) -> Option<()> {
        let filter = TopicFilter::parse("plant/#").expect("a filter");
        let wanted = Subscribe::new(filter, SubscribeOptions::new(Guarantee::ExactlyOnce));
        let granted = self.link.as_mut()?.link.subscribe(vec![wanted]).await.ok()?;
        granted.into_iter().all(|granted| granted.is_ok()).then_some(())
    }

    /// Takes what comes within `most`.
    async fn take(&mut self, most: Duration) -> Option<()> {
        let link = &mut self.link.as_mut()?.link;
        let mut got: Vec<Delivery> = Vec::new();
        let room = Room { numbered: 20, bytes: 1 << 20 };
        let next = std::future::poll_fn(|cx| link.poll_deliveries(cx, room, &mut got));
        if let Ok(ended) = tokio::time::timeout(most, next).await {
            ended.ok()?;
        }
        for delivery in got {
            let number = delivery.number.expect("QoS 2 is numbered");
            self.fresh.push(number);
            // A number that it holds is a repeat [MQTT-4.3.3-10].
            if self.held.insert(number) {
                self.seen.push((number, String::from_utf8_lossy(delivery.event.data()).into_owned()));
            }
        }
        Some(())
    }

    /// PUBREC, and after PUBREL, PUBCOMP.
    async fn answer(&mut self) -> Option<()> {
        let numbers = std::mem::take(&mut self.fresh);
        let link = &mut self.link.as_mut()?.link;
        answered(link.received(&numbers)).await?;
        for number in &numbers {
            self.held.remove(number);
        }
        link.ack(&numbers);
        Some(())
    }
}

async fn attach(core: &Core, client: &str) -> Option<Attached> {
    let request = Attach { keep: Duration::MAX, ..Attach::default() };
    core.attach(Principal::anonymous(client), request).await.ok()
}

async fn kept(admission: Admission) -> Option<()> {
    answered(admission.receipt().await).await
}

async fn answered(receipt: Receipt) -> Option<()> {
    match receipt.await {
        Outcome::Kept => Some(()),
        Outcome::Partly(_) | Outcome::Refused(_) => None,
    }
}

fn publish(text: &str, guarantee: Guarantee, id: Option<u16>) -> Publish {
    let event = Event::new(Parts {
        topic: TopicName::parse(TOPIC).expect("a topic"),
        data: Bytes::copy_from_slice(text.as_bytes()),
        stamp: 1,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from("publisher"),
        meta: None,
    });
    Publish { event, guarantee, retain: false, id }
}

fn number(text: &str) -> u16 {
    text.rsplit(' ').next().and_then(|digits| digits.parse().ok()).expect("a text ends with its number")
}

#[test]
fn what_was_acknowledged_survives_every_power_cut() {
    seeds(60, |seed, steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new(seed).await;
            for _ in 0..steps {
                world.step().await;
            }
            world.finish().await;
        });
    });
}
