//! What every [`Hub`] promises to a protocol, as tests. [`all`] runs them, each on a hub of its own.
//!
//! Nothing here waits for time to pass: that nothing more comes is shown by a marker that comes next. A hub that does
//! not answer within ten seconds fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code, kept here so that other crates can run it"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{next_deliveries, take_deliveries};
use crate::hub::{
    Admission, Attach, Attached, Close, Closed, Delivery, Granted, Hub, Link, Outcome, Publish, Receipt,
    RetainedWanted, Room, Stamps, Subscribe, SubscribeOptions, Will,
};
use crate::store::Position;
use crate::{Event, Guarantee, Parts, Principal, Start, TopicFilter, TopicName};

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Runs the whole contract; `make` makes a fresh hub.
pub async fn all<H: Hub>(make: impl AsyncFn() -> Arc<H>) {
    published_events_are_delivered_in_order(&*make().await).await;
    the_weaker_guarantee_counts(&*make().await).await;
    someone_without_a_session_can_publish(&*make().await).await;
    unsubscribed_events_do_not_come(&*make().await).await;
    options_of_subscriptions_are_kept(&*make().await).await;
    room_is_kept_to(&*make().await).await;
    acked_deliveries_are_gone_and_others_come_again(&*make().await).await;
    a_connection_that_lost_deliveries_gets_them_again(&*make().await).await;
    a_session_collects_while_its_client_is_away(&*make().await).await;
    a_session_without_keep_ends_with_its_connection(&*make().await).await;
    a_clean_attach_forgets(&*make().await).await;
    a_newer_connection_takes_the_session(&*make().await).await;
    ids_of_exactly_once_publishes_are_kept_until_released(&*make().await).await;
    received_deliveries_are_not_sent_again(&*make().await).await;
    retained_events_come_first(&*make().await).await;
    a_lost_connection_publishes_its_will(&*make().await).await;
    a_subscription_may_start_in_the_past(&*make().await).await;
}

async fn published_events_are_delivered_in_order(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a/#", AtLeastOnce).await;
    let mut writer = Client::transient(hub, "writer").await;
    for start in (0..90).step_by(30) {
        let batch = (start..start + 30).map(|n| writer.make("a/b", &n.to_string(), AtLeastOnce)).collect();
        assert!(matches!(writer.publish(batch).await, Outcome::Kept));
    }
    let got = reader.take(90).await;
    let mut last = Position(0);
    for (n, delivery) in got.iter().enumerate() {
        assert_eq!(text(delivery), n.to_string());
        assert_eq!((delivery.number, delivery.again, delivery.retain), (Some(n as u64), false, false));
        assert_eq!(delivery.event.topic().as_str(), "a/b");
        assert_eq!(&**delivery.event.publisher(), "writer");
        let position = delivery.position.expect("a kept event has a position");
        assert!(position > last, "positions rise");
        last = position;
    }
}

async fn the_weaker_guarantee_counts(hub: &dyn Hub) {
    for wanted in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        for published in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            let mut reader = Client::transient(hub, "reader").await;
            let granted = reader.subscribe("a", wanted).await;
            assert_eq!(granted.guarantee, wanted);
            reader.say("a", "x", published).await;
            let got = reader.take(1).await;
            assert_eq!(got[0].guarantee, wanted.min(published), "{wanted:?} {published:?}");
            assert_eq!(got[0].number.is_some(), got[0].guarantee != AtMostOnce);
            reader.close().await;
        }
    }
}

async fn someone_without_a_session_can_publish(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    let batch = vec![reader.make("a", "1", AtLeastOnce), reader.make("a", "2", AtLeastOnce)];
    let admission = hub.publish(&Principal::anonymous("nobody"), batch);
    assert!(matches!(outcome(admission).await, Outcome::Kept));
    assert_eq!(reader.texts(2).await, ["1", "2"]);
}

async fn unsubscribed_events_do_not_come(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    reader.subscribe("b", AtLeastOnce).await;
    let ended = reader.link.unsubscribe(vec![filter("a"), filter("never")]);
    assert_eq!(soon(ended).await.unwrap(), [true, false]);
    reader.say("a", "no", AtLeastOnce).await;
    reader.say("b", "marker", AtLeastOnce).await;
    assert_eq!(reader.texts(1).await, ["marker"]);
}

async fn options_of_subscriptions_are_kept(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    let options = SubscribeOptions { id: 7, ..SubscribeOptions::new(AtLeastOnce) };
    reader.subscribe_with("a/+", options).await;
    let options = SubscribeOptions {
        id: 9,
        no_local: true,
        retain_as_published: true,
        ..SubscribeOptions::new(AtMostOnce)
    };
    reader.subscribe_with("a/#", options).await;
    reader.say("a/b", "own", AtLeastOnce).await;
    let mut writer = Client::transient(hub, "writer").await;
    writer.say("a/b", "both", AtLeastOnce).await;
    let got = reader.take(2).await;
    assert_eq!((text(&got[0]), got[0].subscriptions.as_deref()), ("own", Some(&[7][..])));
    let mut ids = got[1].subscriptions.as_deref().unwrap().to_vec();
    ids.sort_unstable();
    assert_eq!(
        (text(&got[1]), got[1].guarantee, &ids[..]),
        ("both", AtLeastOnce, &[7, 9][..]),
        "one copy for all"
    );
    let mut kept = writer.make("a/b/c", "retained", AtLeastOnce);
    kept.retain = true;
    writer.publish(vec![kept]).await;
    assert!(reader.take(1).await[0].retain, "retain as published");
}

async fn room_is_kept_to(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    for n in 0..3 {
        reader.say("a", &n.to_string(), AtLeastOnce).await;
    }
    reader.say("a", "marker", AtMostOnce).await;
    let mut got = Vec::new();
    while !got.iter().any(|delivery| text(delivery) == "marker") {
        let none = Room { numbered: 0, bytes: 1 << 20 };
        soon(next_deliveries(&mut *reader.link, none, &mut got)).await.unwrap();
        assert!(got.iter().all(|delivery| delivery.number.is_none()), "no numbered ones without room");
    }
    got.clear();
    let two = Room { numbered: 2, bytes: 1 << 20 };
    soon(next_deliveries(&mut *reader.link, two, &mut got)).await.unwrap();
    assert!(got.len() <= 2, "room for two");
    let rest = 3 - got.len();
    got.extend(reader.take(rest).await);
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), ["0", "1", "2"]);
}

async fn acked_deliveries_are_gone_and_others_come_again(hub: &dyn Hub) {
    let mut reader = Client::durable(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    for n in 0..3 {
        reader.say("a", &n.to_string(), AtLeastOnce).await;
    }
    assert_eq!(reader.texts(3).await, ["0", "1", "2"]);
    reader.link.ack(&[0, 2, 99]);
    drop(reader.link);
    let mut reader = Client::durable(hub, "reader").await;
    assert!(reader.present);
    reader.say("a", "3", AtLeastOnce).await;
    let got = reader.take(2).await;
    assert_eq!(shown(&got), [("1", Some(1), true), ("3", Some(3), false)]);
}

async fn a_connection_that_lost_deliveries_gets_them_again(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a", ExactlyOnce).await;
    for n in 0..4 {
        reader.say("a", &n.to_string(), ExactlyOnce).await;
    }
    assert_eq!(reader.texts(4).await, ["0", "1", "2", "3"]);
    reader.link.ack(&[0]);
    assert!(matches!(soon(reader.link.received(&[2])).await, Outcome::Kept));
    reader.link.rewind();
    reader.say("a", "4", ExactlyOnce).await;
    let got = reader.take(3).await;
    assert_eq!(shown(&got), [("1", Some(1), true), ("3", Some(3), true), ("4", Some(4), false)]);
}

async fn a_session_collects_while_its_client_is_away(hub: &dyn Hub) {
    let mut reader = Client::durable(hub, "reader").await;
    reader.subscribe("a", ExactlyOnce).await;
    reader.close().await;
    let mut writer = Client::transient(hub, "writer").await;
    writer.say("a", "0", AtLeastOnce).await;
    writer.say("a", "1", ExactlyOnce).await;
    for _ in 0..2 {
        let mut reader = Client::durable(hub, "reader").await;
        let got = reader.take(2).await;
        let numbers: Vec<_> = got.iter().map(|delivery| (text(delivery), delivery.number)).collect();
        assert_eq!(numbers, [("0", Some(0)), ("1", Some(1))], "numbers stay");
        reader.close().await;
    }
}

async fn a_session_without_keep_ends_with_its_connection(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    reader.close().await;
    let mut reader = Client::transient(hub, "reader").await;
    assert!(!reader.present);
    reader.say("a", "no", AtLeastOnce).await;
    reader.subscribe("a", AtLeastOnce).await;
    reader.say("a", "marker", AtLeastOnce).await;
    assert_eq!(reader.texts(1).await, ["marker"]);
}

async fn a_clean_attach_forgets(hub: &dyn Hub) {
    let mut reader = Client::durable(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    reader.say("a", "old", AtLeastOnce).await;
    reader.close().await;
    let mut reader =
        Client::attach(hub, "reader", Attach { clean: true, keep: HOUR, ..Attach::default() }).await;
    assert!(!reader.present);
    reader.say("a", "no", AtLeastOnce).await;
    reader.subscribe("b", AtLeastOnce).await;
    reader.say("b", "marker", AtLeastOnce).await;
    let got = reader.take(1).await;
    assert_eq!(shown(&got), [("marker", Some(0), false)], "numbers start anew");
}

async fn a_newer_connection_takes_the_session(hub: &dyn Hub) {
    let mut older = Client::durable(hub, "reader").await;
    older.subscribe("a", AtLeastOnce).await;
    let mut newer = Client::durable(hub, "reader").await;
    assert!(newer.present);
    let mut out = Vec::new();
    let closed = soon(next_deliveries(&mut *older.link, Room { numbered: 1, bytes: 1 }, &mut out)).await;
    assert_eq!(closed, Err(Closed::TakenOver));
    older.say("a", "what was under way", AtMostOnce).await;
    drop(older);
    assert_eq!(newer.texts(1).await, ["what was under way"]);
    newer.say("a", "x", AtLeastOnce).await;
    assert_eq!(newer.texts(1).await, ["x"]);
}

async fn ids_of_exactly_once_publishes_are_kept_until_released(hub: &dyn Hub) {
    let mut writer = Client::durable(hub, "writer").await;
    let batch = [7, 9].map(|id| Publish { id: Some(id), ..writer.make("a", "x", ExactlyOnce) });
    assert!(matches!(writer.publish(batch.to_vec()).await, Outcome::Kept));
    writer.close().await;
    let mut writer = Client::durable(hub, "writer").await;
    assert_eq!(writer.received_ids, [7, 9]);
    assert!(matches!(soon(writer.link.release(&[7])).await, Outcome::Kept));
    writer.close().await;
    assert_eq!(Client::durable(hub, "writer").await.received_ids, [9]);
}

async fn received_deliveries_are_not_sent_again(hub: &dyn Hub) {
    let mut reader = Client::durable(hub, "reader").await;
    reader.subscribe("a", ExactlyOnce).await;
    for n in 0..3 {
        reader.say("a", &n.to_string(), ExactlyOnce).await;
    }
    reader.take(3).await;
    assert!(matches!(soon(reader.link.received(&[0, 1])).await, Outcome::Kept));
    reader.link.ack(&[0]);
    reader.close().await;
    let mut reader = Client::durable(hub, "reader").await;
    assert_eq!(reader.unreleased, [1]);
    let got = reader.take(1).await;
    assert_eq!(shown(&got), [("2", Some(2), true)]);
    reader.link.ack(&[1]);
    reader.close().await;
    assert!(Client::durable(hub, "reader").await.unreleased.is_empty());
}

async fn retained_events_come_first(hub: &dyn Hub) {
    let mut writer = Client::transient(hub, "writer").await;
    for (topic, data) in [("a", "old"), ("a", "new"), ("b", "gone"), ("b", "")] {
        let retained = Publish { retain: true, ..writer.make(topic, data, AtLeastOnce) };
        assert!(matches!(writer.publish(vec![retained]).await, Outcome::Kept));
    }
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("#", AtLeastOnce).await;
    writer.say("a", "live", AtLeastOnce).await;
    let got = reader.take(2).await;
    assert_eq!((text(&got[0]), got[0].retain), ("new", true));
    assert_eq!((text(&got[1]), got[1].retain), ("live", false));
    for (retained, comes) in
        [(RetainedWanted::Always, true), (RetainedWanted::IfNew, false), (RetainedWanted::Never, false)]
    {
        reader.subscribe_with("#", SubscribeOptions { retained, ..SubscribeOptions::new(AtLeastOnce) }).await;
        writer.say("a", "marker", AtLeastOnce).await;
        let expected: &[&str] = if comes { &["new", "marker"] } else { &["marker"] };
        assert_eq!(reader.texts(expected.len()).await, expected, "{retained:?}");
    }
}

async fn a_lost_connection_publishes_its_will(hub: &dyn Hub) {
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("a", AtLeastOnce).await;
    for (name, last, close) in
        [("lost", "gone", None), ("left", "no", Some(false)), ("said", "said", Some(true))]
    {
        let will = Will { publish: reader.make("a", last, AtLeastOnce), delay: Duration::ZERO };
        let client = Client::attach(hub, name, Attach { will: Some(will), ..Attach::default() }).await;
        match close {
            None => drop(client),
            Some(will) => client.link.close(Close { will, keep: None }),
        }
        if last != "no" {
            assert_eq!(reader.texts(1).await, [last]);
        }
    }
}

async fn a_subscription_may_start_in_the_past(hub: &dyn Hub) {
    let mut writer = Client::transient(hub, "writer").await;
    let mut reader = Client::transient(hub, "reader").await;
    reader.subscribe("#", AtLeastOnce).await;
    for n in 0..10 {
        let topic = if n % 2 == 0 { "a" } else { "b" };
        writer.say(topic, &n.to_string(), AtLeastOnce).await;
    }
    let first = reader.take(1).await[0].position.unwrap();
    let ways = [
        (Start::All, 0),
        (Start::Behind(Position(0)), 0),
        (Start::Behind(first), 2),
        (Start::Since(1), 0),
        (Start::Since(u64::MAX), 10),
        (Start::Ago(Duration::MAX), 0),
        (Start::Ago(Duration::ZERO), 10),
    ];
    for (round, (start, from)) in ways.into_iter().enumerate() {
        for keep in [Duration::ZERO, HOUR] {
            let request = Attach { clean: true, keep, ..Attach::default() };
            let mut late = Client::attach(hub, "late", request).await;
            let options = SubscribeOptions { id: 7, ..SubscribeOptions::new(ExactlyOnce) };
            let wanted = Subscribe { replay: Some(start), ..Subscribe::new(filter("a"), options) };
            let granted = soon(late.link.subscribe(vec![wanted])).await.unwrap().remove(0).unwrap();
            writer.say("a", "now", AtLeastOnce).await;
            let expected: Vec<String> = (from..10).step_by(2).map(|n| n.to_string()).collect();
            // What was said in the rounds before is a part of the past by now.
            let said = if from < 10 { 2 * round + usize::from(keep == HOUR) } else { 0 };
            let got = late.take(expected.len() + said + 1).await;
            let texts: Vec<&str> = got.iter().map(text).collect();
            assert_eq!(texts[..expected.len()], expected, "{start:?}");
            assert!(texts[expected.len()..].iter().all(|text| *text == "now"));
            let mut last = Position(0);
            for (n, delivery) in got.iter().enumerate() {
                let position = delivery.position.unwrap();
                assert!(position > last && (position > granted.as_of) == (n + 1 == got.len()));
                assert_eq!((delivery.number, delivery.retain), (Some(n as u64), false));
                assert_eq!(delivery.subscriptions.as_deref(), Some(&[7][..]));
                last = position;
            }
            late.close().await;
        }
    }
}

/// A client as a test sees it.
struct Client {
    link: Box<dyn Link>,
    present: bool,
    received_ids: Vec<u16>,
    unreleased: Vec<u64>,
    name: &'static str,
    stamps: Stamps,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Client {
    async fn attach(hub: &dyn Hub, name: &'static str, request: Attach) -> Self {
        let Attached { link, present, received_ids, unreleased } =
            soon(hub.attach(Principal::anonymous(name), request)).await.unwrap();
        Self { link, present, received_ids, unreleased, name, stamps: hub.stamps() }
    }

    async fn transient(hub: &dyn Hub, name: &'static str) -> Self {
        Self::attach(hub, name, Attach::default()).await
    }

    async fn durable(hub: &dyn Hub, name: &'static str) -> Self {
        Self::attach(hub, name, Attach { keep: HOUR, ..Attach::default() }).await
    }

    async fn subscribe(&mut self, pattern: &str, guarantee: Guarantee) -> Granted {
        self.subscribe_with(pattern, SubscribeOptions::new(guarantee)).await
    }

    async fn subscribe_with(&mut self, pattern: &str, options: SubscribeOptions) -> Granted {
        let granted = self.link.subscribe(vec![Subscribe::new(filter(pattern), options)]);
        soon(granted).await.unwrap().remove(0).unwrap()
    }

    fn make(&mut self, topic: &str, data: &str, guarantee: Guarantee) -> Publish {
        let event = Event::new(Parts {
            topic: TopicName::parse(topic).unwrap(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            stamp: self.stamps.take(),
            received_ms: 1_700_000_000_000,
            expires_ms: 0,
            publisher: Arc::from(self.name),
            meta: None,
        });
        Publish { event, guarantee, retain: false, id: None }
    }

    async fn publish(&mut self, batch: Vec<Publish>) -> Outcome {
        outcome(self.link.publish(batch)).await
    }

    async fn say(&mut self, topic: &str, data: &str, guarantee: Guarantee) {
        let publish = self.make(topic, data, guarantee);
        assert!(matches!(self.publish(vec![publish]).await, Outcome::Kept));
    }

    async fn take(&mut self, count: usize) -> Vec<Delivery> {
        let mut out = Vec::new();
        soon(take_deliveries(&mut *self.link, count, &mut out)).await.unwrap();
        assert_eq!(out.len(), count, "{out:?}");
        out
    }

    async fn texts(&mut self, count: usize) -> Vec<String> {
        self.take(count).await.iter().map(|delivery| text(delivery).to_owned()).collect()
    }

    async fn close(self) {
        self.link.close(Close { will: false, keep: None });
        tokio::task::yield_now().await;
    }
}

async fn outcome(admission: Admission) -> Outcome {
    let receipt: Receipt = match admission {
        Admission::Admitted(receipt) => receipt,
        Admission::Waiting(room) => soon(room).await,
    };
    soon(receipt).await
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("an answer")
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn text(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.event.data()).unwrap()
}

fn shown(deliveries: &[Delivery]) -> Vec<(&str, Option<u64>, bool)> {
    deliveries.iter().map(|delivery| (text(delivery), delivery.number, delivery.again)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeHub;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        all(async || Arc::new(FakeHub::new())).await;
    }
}
