//! What the tests of the core share: a core on a store in memory, and events.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests; each test file uses a part of them")]

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use event::hub::{
    Admission, Attach, Attached, Delivery, Hub, Link, Outcome, Publish, Room, Subscribe, SubscribeOptions,
};
use event::testing::{MemoryStore, take_deliveries};
use event::{ByteLimit, Event, Guarantee, Parts, Principal, TopicFilter, TopicName};
use routing::{Core, Options, Recovered};

pub(crate) const FOREVER: Duration = Duration::MAX;

/// Small limits, so that tests reach them.
pub(crate) fn options() -> Options {
    Options { checkpoint_bytes: ByteLimit::kib(8), ..Options::default() }
}

pub(crate) async fn start(store: &MemoryStore, options: Options) -> (Arc<Core>, Recovered) {
    let (handle, feed) = store.open();
    Core::recover(options, &[], handle, feed, Vec::new()).await.unwrap()
}

pub(crate) async fn core() -> Arc<Core> {
    start(&MemoryStore::new(), options()).await.0
}

pub(crate) fn event(topic: &str, data: &str) -> Event {
    event_by("tester", topic, data)
}

pub(crate) fn event_by(publisher: &str, topic: &str, data: &str) -> Event {
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        stamp: 1,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from(publisher),
        meta: None,
    })
}

pub(crate) fn publish(event: Event, guarantee: Guarantee) -> Publish {
    Publish { event, guarantee, retain: false, id: None }
}

pub(crate) async fn attach(core: &Core, client: &str, keep: Duration) -> Attached {
    core.attach(Principal::anonymous(client), Attach { keep, ..Attach::default() }).await.unwrap()
}

pub(crate) async fn settle(admission: Admission) -> Outcome {
    admission.receipt().await.await
}

pub(crate) async fn send(core: &Core, event: Event, guarantee: Guarantee) {
    settle(core.publish(&Principal::anonymous("tester"), vec![publish(event, guarantee)]))
        .await
        .whole()
        .unwrap();
}

pub(crate) fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text.to_owned()).unwrap()
}

pub(crate) async fn subscribe(link: &mut dyn Link, filter: &str, options: SubscribeOptions) {
    let wanted = Subscribe::new(TopicFilter::parse(filter.to_owned()).unwrap(), options);
    for granted in link.subscribe(vec![wanted]).await.unwrap() {
        granted.unwrap();
    }
}

/// Exactly `count` deliveries.
pub(crate) async fn take(link: &mut dyn Link, count: usize) -> Vec<Delivery> {
    let mut out = Vec::new();
    take_deliveries(link, count, &mut out).await.unwrap();
    assert_eq!(out.len(), count, "{:?}", texts(&out));
    out
}

/// What is there, without waiting for more: the mailbox may read from the log first.
pub(crate) async fn ready(link: &mut dyn Link, room: u16) -> Vec<Delivery> {
    let mut out = Vec::new();
    for _ in 0..20 {
        let room = Room { numbered: room, bytes: 1 << 20 };
        let polled = std::future::poll_fn(|cx| Poll::Ready(link.poll_deliveries(cx, room, &mut out)));
        if polled.await.is_ready() {
            break;
        }
        tokio::task::yield_now().await;
    }
    out
}

/// Asserts that nothing is ready.
pub(crate) async fn nothing(link: &mut dyn Link) {
    let room = Room { numbered: 10, bytes: 1 << 20 };
    let ready = std::future::poll_fn(|cx| {
        let polled = link.poll_deliveries(cx, room, &mut Vec::new());
        Poll::Ready(polled.is_ready())
    });
    assert!(!ready.await, "something was ready");
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|d| String::from_utf8_lossy(d.event.data()).into_owned()).collect()
}

pub(crate) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().filter_map(|delivery| delivery.number).collect()
}

/// As [`event::testing::seeds`], with a runtime for each.
pub(crate) fn seeds<F: Future<Output = ()>>(steps: u64, world: impl Fn(u64, u64) -> F + Sync) {
    event::testing::seeds(steps, |seed, steps| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(world(seed, steps));
    });
}
