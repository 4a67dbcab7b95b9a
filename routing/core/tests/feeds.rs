//! Shared subscriptions whose events a remote store brings: who is told of which groups, what members get, and what becomes of
//! what they do not acknowledge.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use event::Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use event::hub::{Attached, Close, Hub as _, Outcome, Receipt, SubscribeOptions};
use event::testing::MemoryStore;
use event::{ByteLimit, Event, Origin, Principal, RejectKind, TopicFilter};
use routing::{Core, Options, RouteOptions};
use support::*;
use tokio::sync::watch;

const JOBS: &str = "$share/workers/jobs/#";

fn route(topic: &str, store: &str) -> RouteOptions {
    RouteOptions { store: store.to_owned(), ..RouteOptions::new(filter(topic)) }
}

/// A core with a remote store for `jobs/#`; nobody takes what is appended to that.
async fn start_with(store: &MemoryStore, options: Options) -> Arc<Core> {
    let (remote, _ends) = event::store::store(ByteLimit::mib(1), 16);
    let (handle, feed) = store.open();
    let remotes = vec![("main".to_owned(), remote)];
    Core::recover(options, &[route("jobs/#", "main")], handle, feed, remotes).await.unwrap().0
}

async fn worker(core: &Core, name: &str, keep: Duration) -> Attached {
    let mut worker = attach(core, name, keep).await;
    subscribe(&mut *worker.link, JOBS, SubscribeOptions::new(ExactlyOnce)).await;
    worker
}

/// Feeds one batch; its receipt.
async fn feed(core: &Core, events: &[(&str, &str)]) -> Receipt {
    let batch = events.iter().map(|(topic, data)| publish(event(topic, data), AtLeastOnce)).collect();
    core.feed(&filter(JOBS), batch).receipt().await
}

async fn is_open(receipt: &mut Receipt) -> bool {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *receipt).poll(cx).is_pending())).await
}

fn known(groups: &watch::Receiver<BTreeSet<TopicFilter>>) -> Vec<String> {
    groups.borrow().iter().map(|filter| filter.as_str().to_owned()).collect()
}

fn ack(member: &mut Attached, delivery: &event::hub::Delivery) {
    member.link.ack(&[delivery.number.unwrap()]);
}

const AWAY: Close = Close { will: false, keep: None };

#[tokio::test]
async fn a_store_is_told_of_groups_that_have_a_member_here_and_may_get_its_events() {
    let core = start_with(&MemoryStore::new(), options()).await;
    let groups = core.groups("main");
    let mut plain = attach(&core, "plain", FOREVER).await;
    let wanted = ["jobs/#", "$share/workers/other", "$share/all/+/a", "$share/workers/jobs/#"];
    for filter in wanted {
        subscribe(&mut *plain.link, filter, SubscribeOptions::new(AtLeastOnce)).await;
    }
    assert_eq!(known(&groups), ["$share/all/+/a", JOBS]);
    let second = worker(&core, "second", FOREVER).await;
    plain.link.unsubscribe(vec![filter(JOBS)]).await.unwrap();
    assert_eq!(known(&groups), ["$share/all/+/a", JOBS]);
    // It stays a member, but nobody is here: other nodes shall have the events.
    second.link.close(AWAY);
    assert_eq!(known(&groups), ["$share/all/+/a"]);
    let second = attach(&core, "second", FOREVER).await;
    assert_eq!(known(&core.groups("main")), ["$share/all/+/a", JOBS]);
    core.set_routes(&[route("other", "main")], |_| unreachable!()).unwrap();
    assert_eq!(known(&groups), ["$share/workers/other"]);
    assert!(known(&core.groups("unknown")).is_empty());
    drop(second);
}

#[tokio::test]
async fn what_is_fed_is_the_groups_alone_and_done_when_it_is_acknowledged() {
    let core = start_with(&MemoryStore::new(), options()).await;
    let mut plain = attach(&core, "plain", Duration::ZERO).await;
    subscribe(&mut *plain.link, "jobs/#", SubscribeOptions::new(AtLeastOnce)).await;
    let mut one = worker(&core, "one", Duration::ZERO).await;
    let mut two = worker(&core, "two", FOREVER).await;

    // The node's own share of the store is for all but groups.
    let node = Principal { origin: Origin::Node, ..Principal::anonymous("$store/main") };
    settle(core.publish(&node, vec![publish(event("jobs/a", "all"), AtLeastOnce)])).await.whole().unwrap();
    assert_eq!(texts(&take(&mut *plain.link, 1).await), ["all"]);
    nothing(&mut *one.link).await;
    nothing(&mut *two.link).await;

    let events = [("jobs/a", "x"), ("other", "not wanted"), ("$weft/jobs", "reserved"), ("jobs/b", "y")];
    let mut receipt = feed(&core, &events).await;
    let (x, y) = (take(&mut *one.link, 1).await.remove(0), take(&mut *two.link, 1).await.remove(0));
    assert_eq!(texts(&[x.clone(), y.clone()]), ["x", "y"]);
    nothing(&mut *plain.link).await;
    ack(&mut one, &x);
    assert!(is_open(&mut receipt).await, "one of two is acknowledged");
    ack(&mut two, &y);
    receipt.await.whole().unwrap();
    // What nobody wants is done.
    feed(&core, &[("other", "z")]).await.await.whole().unwrap();
}

#[tokio::test]
async fn a_group_gets_what_other_routes_keep_as_before() {
    let core = start_with(&MemoryStore::new(), options()).await;
    let mut one = attach(&core, "one", FOREVER).await;
    subscribe(&mut *one.link, "$share/all/#", SubscribeOptions::new(AtLeastOnce)).await;
    send(&core, event("here", "embedded"), AtLeastOnce).await;
    let batch = vec![publish(event("jobs/a", "remote"), AtLeastOnce)];
    let receipt = core.feed(&filter("$share/all/#"), batch).receipt().await;
    let got = take(&mut *one.link, 2).await;
    assert_eq!(texts(&got), ["embedded", "remote"]);
    one.link.ack(&numbers(&got));
    receipt.await.whole().unwrap();
}

#[tokio::test]
async fn another_member_gets_what_one_leaves_behind_and_the_store_what_nobody_has() {
    let core = start_with(&MemoryStore::new(), options()).await;
    let mut one = worker(&core, "one", FOREVER).await;
    let mut receipt = feed(&core, &[("jobs/a", "x"), ("jobs/a", "y")]).await;
    let first = take(&mut *one.link, 2).await.remove(0);
    ack(&mut one, &first);
    let mut two = worker(&core, "two", FOREVER).await;
    // At least once: what is not acknowledged may have been lost with the connection.
    drop(one);
    let y = take(&mut *two.link, 1).await.remove(0);
    assert_eq!(texts(std::slice::from_ref(&y)), ["y"]);
    assert!(is_open(&mut receipt).await);
    ack(&mut two, &y);
    receipt.await.whole().unwrap();

    let more = feed(&core, &[("jobs/a", "z")]).await;
    let got = take(&mut *two.link, 1).await;
    assert_eq!(texts(&got), ["z"]);
    two.link.close(AWAY);
    let Outcome::Partly(refused) = more.await else { panic!("kept") };
    assert_eq!(
        refused.iter().map(|(place, reject)| (*place, reject.kind)).collect::<Vec<_>>(),
        [(0, RejectKind::Unavailable)]
    );
    // Nobody is here: it is not taken.
    let outcome = feed(&core, &[("jobs/a", "w")]).await.await;
    assert!(matches!(outcome, Outcome::Refused(reject) if reject.kind == RejectKind::Unavailable));
    // Nor does the member that comes back have it: other nodes may.
    let mut two = attach(&core, "two", FOREVER).await;
    nothing(&mut *two.link).await;
}

#[tokio::test]
async fn what_was_sent_exactly_once_stays_with_its_member_and_holds_up_nobody() {
    let core = start_with(&MemoryStore::new(), options()).await;
    let mut one = worker(&core, "one", FOREVER).await;
    let _two = worker(&core, "two", FOREVER).await;
    let batch = vec![publish(event("jobs/a", "x"), ExactlyOnce)];
    let mut receipt = core.feed(&filter(JOBS), batch).receipt().await;
    take(&mut *one.link, 1).await;
    assert!(is_open(&mut receipt).await);
    one.link.close(AWAY);
    receipt.await.whole().unwrap();
    let mut one = attach(&core, "one", FOREVER).await;
    let again = take(&mut *one.link, 1).await.remove(0);
    assert_eq!((texts(std::slice::from_ref(&again)), again.again), (vec!["x".to_owned()], true));
}

#[tokio::test]
async fn a_store_that_does_not_wait_any_more_takes_back_what_no_member_has() {
    let mut options = options();
    options.shared.inflight = 1;
    let core = start_with(&MemoryStore::new(), options).await;
    let mut one = worker(&core, "one", Duration::ZERO).await;
    let receipt = feed(&core, &[("jobs/a", "x"), ("jobs/a", "y")]).await;
    let x = take(&mut *one.link, 1).await.remove(0);
    // The queue is another node's now.
    drop(receipt);
    ack(&mut one, &x);
    nothing(&mut *one.link).await;
    let receipt = feed(&core, &[("jobs/a", "z")]).await;
    let z = take(&mut *one.link, 1).await.remove(0);
    assert_eq!(texts(std::slice::from_ref(&z)), ["z"]);
    ack(&mut one, &z);
    receipt.await.whole().unwrap();
}

#[tokio::test]
async fn what_is_not_to_be_acknowledged_is_done_when_it_is_sent_or_over() {
    for (name, keep) in [("ends", Duration::ZERO), ("stays", FOREVER)] {
        let core = start_with(&MemoryStore::new(), options()).await;
        let mut one = attach(&core, name, keep).await;
        subscribe(&mut *one.link, JOBS, SubscribeOptions::new(AtMostOnce)).await;
        let mut late = event("jobs/a", "late").parts().clone();
        (late.received_ms, late.expires_ms) = (1, 2);
        let batch = [event("jobs/a", "in time"), Event::new(late)].map(|event| publish(event, AtLeastOnce));
        let receipt = core.feed(&filter(JOBS), batch.to_vec()).receipt().await;
        assert_eq!(texts(&take(&mut *one.link, 1).await), ["in time"]);
        nothing(&mut *one.link).await;
        receipt.await.whole().unwrap();
    }
}

/// With a checkpoint before the crash, and without one.
#[tokio::test]
async fn after_a_crash_the_store_has_what_was_not_acknowledged() {
    for checkpoint in [1 << 10, 1 << 20] {
        let options = Options { checkpoint_bytes: ByteLimit(checkpoint), ..options() };
        let store = MemoryStore::new();
        let core = start_with(&store, options.clone()).await;
        let mut one = attach(&core, "one", FOREVER).await;
        subscribe(&mut *one.link, JOBS, SubscribeOptions::new(AtLeastOnce)).await;
        let _receipt = feed(&core, &[("jobs/a", "x"), ("jobs/a", "y")]).await;
        let got = take(&mut *one.link, 2).await;
        ack(&mut one, &got[0]);
        for n in 0..20 {
            send(&core, event("here", &format!("{n:100}")), AtLeastOnce).await;
            tokio::task::yield_now().await;
        }
        // The crash: nobody says goodbye.
        let _stuck = (one, core);
        let core = start_with(&store, options).await;
        let mut one = attach(&core, "one", FOREVER).await;
        assert!(one.present);
        nothing(&mut *one.link).await;
        let receipt = feed(&core, &[("jobs/a", "y")]).await;
        let again = take(&mut *one.link, 1).await.remove(0);
        assert_eq!((texts(std::slice::from_ref(&again)), again.number), (vec!["y".to_owned()], Some(2)));
        ack(&mut one, &again);
        receipt.await.whole().unwrap();
    }
}
