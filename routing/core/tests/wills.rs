//! Wills, over crashes and stops: each is published once, when it is due, or not at all.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use event::hub::{Attach, Attached, Close, Hub, Publish, RetainedWanted, SubscribeOptions, Will};
use event::store::Position;
use event::testing::{MemoryStore, take_deliveries};
use event::{Guarantee, Principal};
use routing::Core;
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn the_life_of_a_will_begins_when_it_is_published() {
    let core = core().await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "will", SubscribeOptions::new(AtLeastOnce)).await;
    let mut parts = event("will", "x").parts().clone();
    // Made in 1970, of use for a minute: over long ago, were it not published now.
    (parts.received_ms, parts.expires_ms) = (1000, 61_000);
    let will = Will { publish: publish(event::Event::new(parts), AtLeastOnce), delay: Duration::ZERO };
    let request = Attach { will: Some(will), ..Attach::default() };
    drop(core.attach(Principal::anonymous("from"), request).await.unwrap());
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["x"]);
}

/// A client that comes with the will `text` on the topic `will`.
async fn come(core: &Core, client: &str, text: &str, delay: Duration, keep: Duration) -> Attached {
    come_with(core, client, publish(event_by(client, "will", text), ExactlyOnce), delay, keep).await
}

async fn come_with(core: &Core, client: &str, publish: Publish, delay: Duration, keep: Duration) -> Attached {
    let request = Attach { keep, will: Some(Will { publish, delay }), ..Attach::default() };
    core.attach(Principal::anonymous(client), request).await.unwrap()
}

/// A session that is owed every will that must arrive.
async fn watch(core: &Core) -> Attached {
    let mut to = attach(core, "watcher", FOREVER).await;
    let options = SubscribeOptions { retained: RetainedWanted::IfNew, ..SubscribeOptions::new(ExactlyOnce) };
    subscribe(&mut *to.link, "will/#", options).await;
    to
}

/// What the watcher is owed up to here; its acks are kept when this returns.
async fn seen(core: &Core, to: &mut Attached) -> Vec<String> {
    static MARKERS: AtomicUsize = AtomicUsize::new(0);
    let marker = format!("marker {}", MARKERS.fetch_add(1, Ordering::Relaxed));
    send(core, event("will", &marker), AtLeastOnce).await;
    let mut all = Vec::new();
    while all.last() != Some(&marker) {
        let mut got = Vec::new();
        take_deliveries(&mut *to.link, 1, &mut got).await.unwrap();
        to.link.ack(&numbers(&got));
        all.extend(texts(&got));
    }
    send(core, event("sync", ""), AtLeastOnce).await;
    all.retain(|text| !text.starts_with("marker"));
    all
}

/// A crash ends the core's tasks, and runs no destructor of a connection.
fn crash<T>(core: Arc<Core>, connections: T) {
    std::mem::forget(connections);
    drop(core);
}

#[tokio::test]
async fn clients_that_were_connected_are_lost_by_a_crash() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let to = watch(&core).await;
    let open = (
        come(&core, "transient", "transient", LONG, Duration::ZERO).await,
        come(&core, "durable", "durable", Duration::ZERO, FOREVER).await,
        come(&core, "delayed", "delayed", LONG, FOREVER).await,
    );
    let left = come(&core, "left", "left", Duration::ZERO, FOREVER).await;
    left.link.close(Close { will: false, keep: None });
    let retained = Publish { retain: true, ..publish(event_by("r", "last", "retained"), AtMostOnce) };
    let retained = come_with(&core, "r", retained, Duration::ZERO, Duration::ZERO).await;
    crash(core, (to, open, retained));
    for (wills, expected) in [(4, &["durable", "transient"][..]), (1, &[])] {
        let (core, recovered) = start(&store, options()).await;
        assert_eq!(recovered.wills, wills);
        let mut to = watch(&core).await;
        let got = take(&mut *to.link, expected.len()).await;
        let mut told = texts(&got);
        told.sort_unstable();
        assert_eq!(told, expected);
        to.link.ack(&numbers(&got));
        assert!(seen(&core, &mut to).await.is_empty());
        let mut reader = attach(&core, "reader", Duration::ZERO).await;
        subscribe(&mut *reader.link, "last", SubscribeOptions::new(AtLeastOnce)).await;
        assert_eq!(texts(&take(&mut *reader.link, 1).await), ["retained"], "the last of its topic");
        crash(core, (to, reader));
    }
    // The delayed one comes back in time.
    let (core, _) = start(&store, options()).await;
    assert!(attach(&core, "delayed", FOREVER).await.present);
    send(&core, event("sync", ""), AtLeastOnce).await;
    crash(core, ());
    assert_eq!(start(&store, options()).await.1.wills, 0);
}

#[tokio::test]
async fn a_delay_goes_on_over_a_crash_and_ends_once() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let to = watch(&core).await;
    drop(come(&core, "from", "late", SHORT, FOREVER).await);
    drop(come(&core, "short", "session over", LONG, SHORT).await);
    crash(core, to);
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.wills, 2);
    let mut to = watch(&core).await;
    let got = take(&mut *to.link, 2).await;
    to.link.ack(&numbers(&got));
    let mut got = texts(&got);
    got.sort();
    assert_eq!(got, ["late", "session over"]);
    assert!(seen(&core, &mut to).await.is_empty());
    crash(core, to);
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.wills, 0);
    assert!(seen(&core, &mut watch(&core).await).await.is_empty());
}

#[tokio::test]
async fn a_stop_leaves_wills_whose_delay_is_not_over_to_the_next_start() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let to = watch(&core).await;
    drop(come(&core, "from", "late", SHORT, FOREVER).await);
    drop(come(&core, "back", "never", LONG, FOREVER).await);
    drop(come(&core, "now", "now", Duration::ZERO, FOREVER).await);
    drop(to);
    core.stop().await;
    drop(core);
    let (core, recovered) = start(&store, options()).await;
    assert!(recovered.wills >= 1 && recovered.backlog >= 1, "{recovered:?}");
    assert!(attach(&core, "back", FOREVER).await.present);
    let mut to = watch(&core).await;
    assert_eq!(texts(&take(&mut *to.link, 2).await), ["now", "late"]);
    to.link.ack(&[0, 1]);
    assert!(seen(&core, &mut to).await.is_empty());
}

#[tokio::test]
async fn a_newer_connection_of_the_session_calls_a_delayed_will_off_and_a_new_session_does_not() {
    let core = core().await;
    let mut to = watch(&core).await;
    let older = come(&core, "from", "called off", LONG, FOREVER).await;
    let newer = come(&core, "from", "first", LONG, FOREVER).await;
    drop(older);
    let clean = Attach { clean: true, keep: FOREVER, ..Attach::default() };
    core.attach(Principal::anonymous("from"), clean.clone()).await.unwrap();
    drop(newer);
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["first"]);
    drop(come(&core, "from", "second", LONG, FOREVER).await);
    core.attach(Principal::anonymous("from"), clean).await.unwrap();
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["second"]);
    drop(come(&core, "from", "called off", LONG, FOREVER).await);
    drop(attach(&core, "from", FOREVER).await);
    let at_once = come(&core, "from", "third", Duration::ZERO, FOREVER).await;
    attach(&core, "from", FOREVER).await;
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["third"]);
    drop(at_once);
    to.link.ack(&[0, 1, 2]);
    assert!(seen(&core, &mut to).await.is_empty());
}

#[tokio::test]
async fn wills_of_long_connections_do_not_keep_the_log_from_being_freed() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let open = come(&core, "long", "still here", LONG, FOREVER).await;
    let over = come(&core, "over", "no", LONG, FOREVER).await;
    // Eight kilobytes from one checkpoint to the next, and four of these until a will is moved.
    for n in 0..2000 {
        send(&core, event("a", &format!("{n:0100}")), AtLeastOnce).await;
    }
    over.link.close(Close { will: false, keep: None });
    send(&core, event("a", "sync"), AtLeastOnce).await;
    assert!(store.needed() > Position(100_000), "{:?}", store.needed());
    store.free_below(store.needed());
    crash(core, open);
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.wills, 1);
    let mut to = watch(&core).await;
    core.attach(Principal::anonymous("long"), Attach { clean: true, ..Attach::default() }).await.unwrap();
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["still here"]);
}
