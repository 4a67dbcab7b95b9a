//! Routes that know repeats: one event for each `source` and `id`, whoever publishes it, over restarts and refusals.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;

use event::Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use event::admin::Admin as _;
use event::event::{Attributes, Meta};
use event::hub::{Hub, Outcome, Publish, SubscribeOptions};
use event::store::Store;
use event::testing::MemoryStore;
use event::{ByteLimit, Event, Guarantee, Origin, Principal, Reject, RejectKind};
use routing::{Core, RouteOptions};
use support::*;

async fn unique(store: &MemoryStore, to: &str, remotes: Vec<(String, Store)>) -> Arc<Core> {
    let rule = RouteOptions { unique_s: 3600, store: to.to_owned(), ..RouteOptions::new(filter("once/#")) };
    let (handle, feed) = store.open();
    Core::recover(options(), &[rule], handle, feed, remotes).await.unwrap().0
}

fn named(topic: &str, source: &str, id: &str) -> Event {
    let mut parts = event(topic, &format!("{source} {id}")).parts().clone();
    let attributes = Attributes {
        id: id.into(),
        source: source.into(),
        ty: "t".into(),
        subject: None,
        time: None,
        dataschema: None,
        extensions: Vec::new(),
    };
    parts.meta = Some(Box::new(Meta { attributes: Some(attributes), ..Meta::default() }));
    Event::new(parts)
}

async fn say(core: &Core, event: Event, guarantee: Guarantee) -> Outcome {
    settle(core.publish(&Principal::anonymous("tester"), vec![publish(event, guarantee)])).await
}

#[tokio::test]
async fn one_event_is_delivered_for_each_source_and_id() {
    let core = unique(&MemoryStore::new(), "embedded", Vec::new()).await;
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "#", SubscribeOptions::new(ExactlyOnce)).await;
    for guarantee in [AtLeastOnce, ExactlyOnce, AtMostOnce, AtLeastOnce] {
        for (topic, source, id) in [
            ("once/a", "s", "1"),
            ("once/b", "s", "1"),
            ("once/a", "s1", ""),
            ("once/a", "s", "2"),
            ("other", "s", "1"),
        ] {
            say(&core, named(topic, source, id), guarantee).await.whole().unwrap();
        }
        say(&core, event("once/a", "plain"), guarantee).await.whole().unwrap();
    }
    let mut got = texts(&ready(&mut *reader.link, 100).await);
    got.sort();
    let others = ["plain"; 4].into_iter().chain(["s 1"; 4]);
    let mut wanted: Vec<&str> = others.chain(["s 1", "s1 ", "s 2"]).collect();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
    let route = core.ledger().into_iter().find(|view| view.route == "once/#").unwrap();
    assert!(route.fates.contains(&("repeated", 13)), "{:?}", route.fates);
}

#[tokio::test]
async fn what_is_kept_is_known_after_a_crash_with_and_without_a_checkpoint() {
    for stops in [false, true] {
        let store = MemoryStore::new();
        let core = unique(&store, "embedded", Vec::new()).await;
        for id in ["1", "2", "3", "4", "5"] {
            say(&core, named("once/a", "s", id), AtLeastOnce).await.whole().unwrap();
        }
        if stops {
            core.stop().await;
        }
        drop(core);
        let core = unique(&store, "embedded", Vec::new()).await;
        let mut reader = attach(&core, "reader", FOREVER).await;
        subscribe(&mut *reader.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
        for id in ["1", "2", "3", "4", "5", "6"] {
            say(&core, named("once/a", "s", id), AtLeastOnce).await.whole().unwrap();
        }
        assert_eq!(texts(&take(&mut *reader.link, 1).await), ["s 6"]);
        nothing(&mut *reader.link).await;
    }
}

#[tokio::test]
async fn a_repeat_of_what_is_not_answered_comes_again_and_a_refused_one_is_new() {
    let (handle, ends) = event::store::store(ByteLimit::mib(1), 16);
    let mut queue = ends.appends;
    let store = MemoryStore::new();
    let core = unique(&store, "main", vec![("main".to_owned(), handle)]).await;
    let mut from = attach(&core, "from", FOREVER).await;
    let second = Publish { id: Some(9), ..publish(named("once/a", "s", "1"), ExactlyOnce) };
    for outcome in [Outcome::Refused(Reject::new(RejectKind::Unavailable, "late")), Outcome::Kept] {
        let first = tokio::spawn({
            let core = Arc::clone(&core);
            async move { say(&core, named("once/a", "s", "1"), AtLeastOnce).await }
        });
        let mut appends = Vec::new();
        assert!(queue.next(&mut appends, 1).await);
        let busy = settle(from.link.publish(vec![second.clone()])).await.whole().unwrap_err();
        assert_eq!(busy.kind, RejectKind::Busy);
        let kept = matches!(outcome, Outcome::Kept);
        appends.remove(0).receipt.unwrap().resolve(outcome);
        assert_eq!(first.await.unwrap().whole().is_ok(), kept);
    }
    settle(from.link.publish(vec![second.clone()])).await.whole().unwrap();
    drop((from, core));
    let (handle, ends) = event::store::store(ByteLimit::mib(1), 16);
    let core = unique(&store, "main", vec![("main".to_owned(), handle)]).await;
    assert_eq!(attach(&core, "from", FOREVER).await.received_ids, [9], "a repeat has its packet id, too");
    say(&core, named("once/b", "s", "1"), AtLeastOnce).await.whole().unwrap();
    drop(core);
    let mut appends = Vec::new();
    let mut queue = ends.appends;
    queue.take_ready(&mut appends, 1);
    assert!(appends.is_empty(), "nothing went to the store again");
}

/// A store says again what was not acknowledged to it: that is no publisher's repeat.
#[tokio::test]
async fn what_a_remote_store_brings_again_is_delivered_again() {
    let (remote, _ends) = event::store::store(ByteLimit::mib(1), 16);
    let core = unique(&MemoryStore::new(), "remote", vec![("remote".to_owned(), remote)]).await;
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "once/#", SubscribeOptions::new(AtLeastOnce)).await;
    let mut worker = attach(&core, "worker", FOREVER).await;
    subscribe(&mut *worker.link, "$share/g/once/#", SubscribeOptions::new(AtLeastOnce)).await;
    let node = Principal { origin: Origin::Node, ..Principal::anonymous("$store/remote") };
    for _ in 0..2 {
        let again = || vec![publish(named("once/a", "s", "1"), AtLeastOnce)];
        settle(core.publish(&node, again())).await.whole().unwrap();
        let receipt = core.feed(&filter("$share/g/once/#"), again()).receipt().await;
        assert_eq!(texts(&take(&mut *reader.link, 1).await), ["s 1"]);
        let got = take(&mut *worker.link, 1).await;
        worker.link.ack(&numbers(&got));
        receipt.await.whole().unwrap();
    }
}
