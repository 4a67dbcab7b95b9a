//! Routes with several targets: what subscribers get of them, and what an answer says.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use event::Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use event::access::{Rights, Rules};
use event::hub::{Hub, Outcome, Publish, SubscribeOptions};
use event::store::{Append, AppendQueue, Entry, Store};
use event::testing::MemoryStore;
use event::{Principal, Reject, RejectKind, TopicFilter, TopicName};
use routing::{Core, Options, RouteOptions, TargetOptions};
use support::*;

fn to(topic: &str) -> TargetOptions {
    TargetOptions { topic: Some(topic.to_owned()), ..TargetOptions::default() }
}

fn far(topic: &str) -> TargetOptions {
    TargetOptions { store: Some("main".to_owned()), ..to(topic) }
}

fn rule(topic: &str, copy: bool, to: &[TargetOptions]) -> RouteOptions {
    RouteOptions { copy, to: to.to_vec(), ..RouteOptions::new(filter(topic)) }
}

async fn routed(routes: &[RouteOptions], remotes: Vec<(String, Store)>) -> Arc<Core> {
    let (handle, feed) = MemoryStore::new().open();
    Core::recover(Options::default(), routes, handle, feed, remotes).await.unwrap().0
}

fn remote() -> (Vec<(String, Store)>, AppendQueue) {
    let (store, ends) = event::store::store(event::ByteLimit::mib(1), 16);
    (vec![("main".to_owned(), store)], ends.appends)
}

async fn next(queue: &mut AppendQueue) -> Append {
    let mut out = Vec::new();
    assert!(queue.next(&mut out, 1).await);
    out.remove(0)
}

fn topics(append: &Append) -> Vec<String> {
    append.entries.iter().map(|entry| entry.event.as_ref().unwrap().topic().to_string()).collect()
}

#[tokio::test]
async fn every_target_has_its_subscribers_with_every_guarantee() {
    let routes =
        [rule("a/+", true, &[to("audit/{2}"), to("who/{data.who}")]), rule("a/gone", false, &[to("moved")])];
    let core = routed(&routes, Vec::new()).await;
    let mut all = attach(&core, "all", FOREVER).await;
    subscribe(&mut *all.link, "#", SubscribeOptions::new(ExactlyOnce)).await;
    for guarantee in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        send(&core, event("a/b", "{\"who\":\"me\"}"), guarantee).await;
        send(&core, event("a/gone", "{\"who\":\"you\"}"), guarantee).await;
        let got = take(&mut *all.link, 6).await;
        let topics: Vec<&str> = got.iter().map(|delivery| delivery.event.topic().as_str()).collect();
        assert_eq!(topics, ["audit/b", "who/me", "a/b", "audit/gone", "who/you", "moved"], "{guarantee:?}");
        assert!(got.iter().all(|delivery| delivery.guarantee == guarantee));
        all.link.ack(&numbers(&got));
    }
    nothing(&mut *all.link).await;
}

#[tokio::test]
async fn a_target_of_a_retained_publish_is_retained_and_forgotten_with_it() {
    let data = TargetOptions { data: Some("text: was {data}".to_owned()), ..to("copy/{topic}") };
    let core = routed(&[rule("a", true, &[data])], Vec::new()).await;
    let retain = |data: &str| Publish { retain: true, ..publish(event("a", data), AtLeastOnce) };
    let who = Principal::anonymous("tester");
    for (said, kept) in [("1", vec!["1", "was 1"]), ("", vec![])] {
        settle(core.publish(&who, vec![retain(said)])).await.whole().unwrap();
        let mut reader = attach(&core, "reader", Duration::ZERO).await;
        subscribe(&mut *reader.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
        let mut texts = texts(&ready(&mut *reader.link, 10).await);
        texts.sort();
        assert_eq!(texts, kept);
    }
}

#[tokio::test]
async fn an_answer_waits_for_every_store_and_is_no_if_one_says_no() {
    let (remotes, mut queue) = remote();
    let core = routed(&[rule("a", false, &[to("here"), far("there/{topic}")])], remotes).await;
    let mut here = attach(&core, "here", FOREVER).await;
    subscribe(&mut *here.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let mut from = attach(&core, "from", FOREVER).await;
    let say = |id| Publish { id: Some(id), ..publish(event("a", "x"), ExactlyOnce) };
    let mut publishing = Box::pin(settle(from.link.publish(vec![say(1)])));
    let append = tokio::select! {
        biased;
        outcome = &mut publishing => panic!("answered before the remote store: {outcome:?}"),
        append = next(&mut queue) => append,
    };
    assert_eq!(topics(&append), ["there/a"]);
    assert!(futures_are_pending(&mut publishing).await);
    append.receipt.unwrap().resolve(Outcome::Kept);
    publishing.await.whole().unwrap();
    assert_eq!(texts(&take(&mut *here.link, 1).await), ["x"]);

    let publishing = tokio::spawn(settle(from.link.publish(vec![say(2)])));
    let busy = Reject::new(RejectKind::Busy, "full");
    next(&mut queue).await.receipt.unwrap().resolve(Outcome::Refused(busy));
    assert_eq!(publishing.await.unwrap().whole().unwrap_err().kind, RejectKind::Busy);

    // The publish that was answered is known when the publisher comes back, the refused one is not.
    drop(from);
    assert_eq!(attach(&core, "from", FOREVER).await.received_ids, [1]);
}

/// Whether the future is not done after everything else had its turn.
async fn futures_are_pending<F: Future + Unpin>(future: &mut F) -> bool {
    for _ in 0..20 {
        tokio::select! {
            biased;
            _ = &mut *future => return false,
            () = tokio::task::yield_now() => {}
        }
    }
    true
}

/// May publish below `in/`.
struct OnlyIn;

impl Rules for OnlyIn {
    fn may_publish(&self, topic: &TopicName) -> bool {
        topic.as_str().starts_with("in/")
    }
    fn may_subscribe(&self, _filter: &TopicFilter) -> bool {
        true
    }
    fn revision(&self) -> u64 {
        0
    }
}

#[tokio::test]
async fn a_target_may_be_where_the_publisher_may_not_publish() {
    let core = routed(&[rule("in/#", false, &[to("out/{2}")])], Vec::new()).await;
    let who = Principal { rights: Rights::by(Arc::new(OnlyIn)), ..Principal::anonymous("limited") };
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let mut link = core.attach(who, event::hub::Attach::default()).await.unwrap().link;
    settle(link.publish(vec![publish(event("in/a", "1"), AtLeastOnce)])).await.whole().unwrap();
    // That it went there once through a route gives no right.
    let refused =
        settle(link.publish(vec![publish(event("out/a", "2"), AtLeastOnce)])).await.whole().unwrap_err();
    assert_eq!(refused.kind, RejectKind::Denied);
    assert_eq!(texts(&take(&mut *reader.link, 1).await), ["1"]);
    nothing(&mut *reader.link).await;
}

#[tokio::test]
async fn a_refusing_target_refuses_before_anything_is_kept() {
    let strict = TargetOptions { missing: routing::Missing::Refuse, ..to("x/{data.id}") };
    let core = routed(&[rule("a", true, &[to("copy"), strict])], Vec::new()).await;
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let who = Principal::anonymous("tester");
    let batch = ["{}", "{\"id\":1}"].map(|data| publish(event("a", data), AtLeastOnce));
    let Outcome::Partly(refused) = settle(core.publish(&who, batch.to_vec())).await else {
        panic!("not partly")
    };
    assert!(matches!(&*refused, [(0, reject)] if reject.kind == RejectKind::Malformed), "{refused:?}");
    let got = take(&mut *reader.link, 3).await;
    let topics: Vec<&str> = got.iter().map(|delivery| delivery.event.topic().as_str()).collect();
    assert_eq!(topics, ["copy", "x/1", "a"]);
    nothing(&mut *reader.link).await;
}

#[tokio::test]
async fn a_store_that_no_route_named_before_is_opened_once() {
    let core = routed(&[], Vec::new()).await;
    let (store, mut ends) = event::store::store(event::ByteLimit::mib(1), 16);
    let mut opened = Vec::new();
    let routes = [rule("a", false, &[far("x")]), rule("b", false, &[far("y"), to("b")])];
    for _ in 0..2 {
        let open = |name: &str| {
            opened.push(name.to_owned());
            Ok(store.clone())
        };
        core.set_routes(&routes, open).unwrap();
    }
    assert_eq!(opened, ["main"]);
    let who = Principal::anonymous("tester");
    let publishing = tokio::spawn(settle(core.publish(&who, vec![publish(event("a", ""), AtLeastOnce)])));
    let append = next(&mut ends.appends).await;
    assert_eq!(topics(&append), ["x"]);
    append.receipt.unwrap().resolve(Outcome::Kept);
    publishing.await.unwrap().whole().unwrap();
    // A wrong rule opens nothing.
    let wrong = [rule("a", false, &[TargetOptions { store: Some("other".to_owned()), ..to("$SYS/x") }])];
    core.set_routes(&wrong, |name| panic!("{name} was opened")).unwrap_err();
}

/// A log that a crash cut off within what came of one publish has none of it: the publisher was not answered.
#[tokio::test]
async fn what_comes_of_a_publish_counts_as_a_whole() {
    let routes = [rule("a", true, &[to("one"), to("two")])];
    let say = || Publish { id: Some(7), ..publish(event("a", "x"), ExactlyOnce) };
    let before = MemoryStore::new();
    let (handle, feed) = before.open();
    let (core, _) = Core::recover(Options::default(), &routes, handle, feed, Vec::new()).await.unwrap();
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "#", SubscribeOptions::new(ExactlyOnce)).await;
    let mut from = attach(&core, "from", FOREVER).await;
    settle(from.link.publish(vec![say()])).await.whole().unwrap();
    let records = before.records();
    for lost in 0..=3 {
        let after = MemoryStore::new();
        let (handle, feed) = after.open();
        let kept = records.iter().take(records.len() - lost);
        let entries = kept.map(|record| Entry { event: record.event.clone(), note: record.note.clone() });
        let (append, receipt) = Append::new(entries.collect(), event::Durability::Synced);
        handle.append(append).await;
        drop(feed);
        drop((handle, receipt));
        let (handle, feed) = after.open();
        let (core, _) = Core::recover(Options::default(), &routes, handle, feed, Vec::new()).await.unwrap();
        let mut from = attach(&core, "from", FOREVER).await;
        assert_eq!(from.received_ids.is_empty(), lost > 0, "{lost} records lost");
        if lost > 0 {
            settle(from.link.publish(vec![say()])).await.whole().unwrap();
        }
        let mut reader = attach(&core, "reader", FOREVER).await;
        let got = take(&mut *reader.link, 3).await;
        let topics: Vec<&str> = got.iter().map(|delivery| delivery.event.topic().as_str()).collect();
        assert_eq!(topics, ["one", "two", "a"], "{lost} records lost");
        assert_eq!(numbers(&got), [0, 1, 2]);
        nothing(&mut *reader.link).await;
    }
}

/// A store that does not answer is left alone: its publishers are told at once, and one batch finds out when it works again.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_left_alone_for_a_while() {
    let (remotes, mut queue) = remote();
    queue.up().set(false);
    let core = routed(&[rule("far/#", false, &[far("{topic}")])], remotes).await;
    let who = Principal::anonymous("tester");
    let say = || {
        let (core, who) = (Arc::clone(&core), who.clone());
        let batch = vec![publish(event("far/a", "x"), AtLeastOnce)];
        tokio::spawn(async move { settle(core.publish(&who, batch)).await })
    };
    let late = || Outcome::Refused(Reject::new(RejectKind::Unavailable, "late"));
    for _ in 0..5 {
        let publishing = say();
        next(&mut queue).await.receipt.unwrap().resolve(late());
        publishing.await.unwrap().whole().unwrap_err();
    }
    let refused = say().await.unwrap().whole().unwrap_err();
    assert_eq!(
        (refused.kind, refused.reason.contains("\"main\"")),
        (RejectKind::Unavailable, true),
        "{refused}"
    );
    settle(core.publish(&who, vec![publish(event("near", "x"), AtLeastOnce)])).await.whole().unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let publishing = say();
    let trial = next(&mut queue).await;
    say().await.unwrap().whole().unwrap_err();
    trial.receipt.unwrap().resolve(Outcome::Kept);
    publishing.await.unwrap().whole().unwrap();
    let publishing = say();
    next(&mut queue).await.receipt.unwrap().resolve(Outcome::Kept);
    publishing.await.unwrap().whole().unwrap();
}
