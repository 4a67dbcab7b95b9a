//! What became of deliveries is counted once each, under the route they came by, and outlives Weft.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::admin::{Admin as _, LedgerView};
use event::hub::{Attach, Close, Hub as _, Publish, SubscribeOptions, Will};
use event::testing::MemoryStore;
use event::{ByteLimit, Event, Guarantee, Parts, Principal, Reject, RejectKind, TopicFilter};
use routing::{Core, Options, QueueFull, RouteOptions, TenantOptions};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce};

/// A route by another name than its topics, one by theirs.
fn routes() -> Vec<RouteOptions> {
    let of = |topic: &str| RouteOptions::new(TopicFilter::parse(topic.to_owned()).unwrap());
    vec![RouteOptions { name: Some("orders".to_owned()), ..of("shop/orders/#") }, of("plant/#")]
}

async fn start_with(store: &MemoryStore, options: Options) -> Arc<Core> {
    let (handle, feed) = store.open();
    Core::recover(options, &routes(), handle, feed, Vec::new()).await.unwrap().0
}

/// Kills Weft, and starts it again.
async fn killed(core: Arc<Core>, store: &MemoryStore, options: Options) -> Arc<Core> {
    core.check_ledger().unwrap();
    drop(core);
    let core = start_with(store, options).await;
    core.check_ledger().unwrap();
    core
}

/// What a route's book says: owed, queued, and the ends that there were.
fn book(core: &Core, route: &str) -> (u64, u64, Vec<(&'static str, u64)>) {
    let found = core.ledger().into_iter().find(|view| view.route == route);
    let LedgerView { owed, queued, ends, .. } = found.unwrap_or_else(|| panic!("no book of {route}"));
    let ends: Vec<_> = ends.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(owed, queued + ends.iter().map(|(_, count)| count).sum::<u64>());
    (owed, queued, ends)
}

/// Its time is over.
fn stale(topic: &str) -> Event {
    Event::new(Parts { expires_ms: 1, ..event(topic, "x").parts().clone() })
}

fn small() -> Options {
    Options { checkpoint_bytes: ByteLimit(u64::MAX), ..Options::default() }
}

#[tokio::test]
async fn each_delivery_stands_once_under_its_route_and_stays_over_a_crash_and_a_stop() {
    let store = MemoryStore::new();
    let core = start_with(&store, small()).await;
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let mut watcher = attach(&core, "watcher", Duration::ZERO).await;
    subscribe(&mut *watcher.link, "shop/#", SubscribeOptions::new(AtMostOnce)).await;
    for topic in ["shop/orders/1", "shop/orders/2", "plant/1", "elsewhere"] {
        send(&core, event(topic, "x"), AtLeastOnce).await;
    }
    send(&core, stale("plant/2"), AtLeastOnce).await;
    let taken = take(&mut *reader.link, 4).await;
    reader.link.ack(&[taken[0].number.unwrap()]);
    reader.link.dead_lettered(&[taken[2].number.unwrap()]);
    nothing(&mut *reader.link).await;
    take(&mut *watcher.link, 2).await;
    let orders = (4, 1, vec![("acked", 1), ("sent", 2)]);
    assert_eq!(book(&core, "orders"), orders);
    assert_eq!(book(&core, "(none)"), (1, 1, vec![]));
    std::mem::forget((reader, watcher));
    // What went past the log is forgotten with a crash, if no checkpoint knew of it.
    let core = killed(core, &store, small()).await;
    assert_eq!(book(&core, "orders"), (2, 1, vec![("acked", 1)]));
    let plant = book(&core, "plant/#");
    assert_eq!(plant, (2, 0, vec![("dead_lettered", 1), ("expired", 1)]));
    core.stop().await;
    let core = killed(core, &store, small()).await;
    assert_eq!(book(&core, "orders"), (2, 1, vec![("acked", 1)]));
    assert_eq!(book(&core, "plant/#"), plant);
    let mut reader = attach(&core, "reader", FOREVER).await;
    let rest = take(&mut *reader.link, 2).await;
    reader.link.ack(&numbers(&rest));
    assert_eq!(book(&core, "orders"), (2, 0, vec![("acked", 2)]));
    assert_eq!(book(&core, "(none)"), (1, 0, vec![("acked", 1)]));
    core.check_ledger().unwrap();
}

#[tokio::test]
async fn what_is_dropped_and_who_leaves_is_counted() {
    let store = MemoryStore::new();
    let options = Options { queue_events: 3, queue_full: QueueFull::DropOldest, ..small() };
    let core = start_with(&store, options.clone()).await;
    let mut away = attach(&core, "away", FOREVER).await;
    subscribe(&mut *away.link, "plant/+", SubscribeOptions::new(AtLeastOnce)).await;
    away.link.close(Close { will: false, keep: None });
    let mut passing = attach(&core, "passing", Duration::ZERO).await;
    subscribe(&mut *passing.link, "plant/+", SubscribeOptions::new(AtLeastOnce)).await;
    for _ in 0..5 {
        send(&core, event("plant/1", "x"), AtLeastOnce).await;
    }
    assert_eq!(book(&core, "plant/#"), (10, 6, vec![("queue_full", 4)]));
    passing.link.close(Close { will: false, keep: None });
    assert_eq!(book(&core, "plant/#"), (10, 3, vec![("queue_full", 4), ("left", 3)]));
    core.check_ledger().unwrap();
    // A stop keeps a checkpoint; the new one has all of it, and the same queue.
    core.stop().await;
    let core = killed(core, &store, options.clone()).await;
    assert_eq!(book(&core, "plant/#"), (10, 3, vec![("queue_full", 4), ("left", 3)]));
    let away = attach(&core, "away", Duration::ZERO).await;
    away.link.close(Close { will: false, keep: Some(Duration::ZERO) });
    assert_eq!(book(&core, "plant/#"), (10, 0, vec![("queue_full", 4), ("left", 6)]));
    // The record that ends it is behind the checkpoint: it ends once.
    let core = killed(core, &store, options).await;
    assert_eq!(book(&core, "plant/#"), (10, 0, vec![("queue_full", 4), ("left", 6)]));
}

#[tokio::test]
async fn what_a_group_passes_on_is_owed_once() {
    let store = MemoryStore::new();
    let core = start_with(&store, small()).await;
    let mut keeper = attach(&core, "keeper", FOREVER).await;
    subscribe(&mut *keeper.link, "$share/g/plant/+", SubscribeOptions::new(AtLeastOnce)).await;
    keeper.link.close(Close { will: false, keep: None });
    let mut worker = attach(&core, "worker", Duration::ZERO).await;
    subscribe(&mut *worker.link, "$share/g/plant/+", SubscribeOptions::new(AtLeastOnce)).await;
    for _ in 0..3 {
        send(&core, event("plant/1", "x"), AtLeastOnce).await;
    }
    let taken = take(&mut *worker.link, 3).await;
    worker.link.ack(&[taken[0].number.unwrap()]);
    assert_eq!(book(&core, "plant/#"), (3, 2, vec![("acked", 1)]));
    worker.link.close(Close { will: false, keep: None });
    assert_eq!(book(&core, "plant/#"), (3, 2, vec![("acked", 1)]), "the others wait for a member");
    core.check_ledger().unwrap();
    let core = killed(core, &store, small()).await;
    assert_eq!(book(&core, "plant/#"), (3, 2, vec![("acked", 1)]));
    let mut keeper = attach(&core, "keeper", FOREVER).await;
    let taken = take(&mut *keeper.link, 2).await;
    assert_eq!(book(&core, "plant/#"), (3, 2, vec![("acked", 1)]));
    keeper.link.ack(&numbers(&taken));
    assert_eq!(book(&core, "plant/#"), (3, 0, vec![("acked", 3)]));
    core.check_ledger().unwrap();
}

/// What a route's publishes came to: how many came, and the ends that there were; none is under way.
fn publishes(core: &Core, route: &str) -> (u64, Vec<(&'static str, u64)>) {
    let found = core.ledger().into_iter().find(|view| view.route == route);
    let LedgerView { came, under_way, fates, .. } = found.unwrap_or_else(|| panic!("no book of {route}"));
    assert_eq!((under_way, came), (0, fates.iter().map(|(_, count)| count).sum()));
    (came, fates.into_iter().filter(|(_, count)| *count > 0).collect())
}

#[tokio::test]
async fn each_publish_comes_to_one_end() {
    let store = MemoryStore::new();
    let options = Options { retained_events: 1, ..small() };
    let core = start_with(&store, options.clone()).await;
    send(&core, event("plant/1", "x"), AtLeastOnce).await;
    send(&core, event("plant/1", "x"), AtMostOnce).await;
    let who = Principal::anonymous("tester");
    let retained = |topic: &str| Publish { retain: true, ..publish(event(topic, "x"), AtLeastOnce) };
    settle(core.publish(&who, vec![retained("plant/1")])).await;
    let batch = vec![retained("plant/2"), publish(event("$SYS/x", "x"), AtLeastOnce)];
    settle(core.publish(&who, batch)).await;
    assert_eq!(publishes(&core, "plant/#"), (4, vec![("kept", 2), ("passed", 1), ("busy", 1)]));
    // An audit event about it may be there as well, by now or later.
    let denied_and_closed = |core: &Core| {
        let none = core.ledger().into_iter().find(|view| view.route == "(none)").unwrap();
        let of = |name: &str| none.fates.iter().find(|(fate, _)| *fate == name).unwrap().1;
        (of("denied"), of("closed"))
    };
    assert_eq!(denied_and_closed(&core), (1, 0));
    // The store says no later.
    store.refuse(Some(Reject::new(RejectKind::Unavailable, "no disk")));
    settle(core.publish(&who, vec![publish(event("shop/orders/1", "x"), AtLeastOnce)])).await;
    store.refuse(None);
    assert_eq!(publishes(&core, "orders"), (1, vec![("unavailable", 1)]));
    // Nobody waits for the answer.
    drop(core.publish(&who, vec![publish(event("shop/orders/2", "x"), AtLeastOnce)]));
    assert_eq!(publishes(&core, "orders"), (2, vec![("unanswered", 1), ("unavailable", 1)]));
    core.stop().await;
    let refused = settle(core.publish(&who, vec![publish(event("plant/1", "x"), AtLeastOnce)])).await;
    assert!(refused.whole().is_err());
    let (denied, closed) = denied_and_closed(&core);
    assert!(denied == 1 && closed >= 1, "{closed}");
    let core = killed(core, &store, options).await;
    assert_eq!(publishes(&core, "plant/#"), (4, vec![("kept", 2), ("passed", 1), ("busy", 1)]));
    assert_eq!(publishes(&core, "orders"), (2, vec![("unanswered", 1), ("unavailable", 1)]));
}

/// What came of whom by which route and was kept, and what was owed of it.
fn by_tenant(core: &Core) -> Vec<(String, String, u64, u64)> {
    let kept = |fates: &[(&str, u64)]| fates.iter().find(|(fate, _)| *fate == "kept").unwrap().1;
    let of = |view: LedgerView| (view.tenant, view.route, kept(&view.fates), view.owed);
    let mut all: Vec<_> = core.ledger().into_iter().map(of).collect();
    all.retain(|(.., kept, owed)| *kept + *owed > 0);
    all.sort();
    all
}

fn named(tenants: &[&str]) -> BTreeMap<String, TenantOptions> {
    let of = |name: &&str| {
        let options = TenantOptions { users: vec![format!("{name}-*")], ..TenantOptions::default() };
        ((*name).to_owned(), options)
    };
    tenants.iter().map(of).collect()
}

#[tokio::test]
async fn what_a_tenant_published_is_booked_under_it_over_crashes() {
    let store = MemoryStore::new();
    let core = start_with(&store, small()).await;
    core.set_quotas(&named(&["acme", "ban"]), &BTreeMap::new());
    let mut reader = attach(&core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let who = |user: &str| Principal {
        user: Some(Arc::from(user)),
        peer: Some(("192.0.2.1:5".parse().unwrap(), Arc::from("tcp"))),
        ..Principal::anonymous(user)
    };
    let delayed = |topic: &str| {
        let mut parts = event(topic, "x").parts().clone();
        parts.meta.get_or_insert_default().user.push(("delayms".into(), "1000".into()));
        Event::new(parts)
    };
    for (user, topic) in
        [("acme-1", "plant/1"), ("acme-2", "plant/1"), ("ban-1", "plant/1"), ("x", "plant/1")]
    {
        settle(core.publish(&who(user), vec![publish(event(topic, "x"), AtLeastOnce)]))
            .await
            .whole()
            .unwrap();
    }
    settle(core.publish(&who("ban-1"), vec![publish(delayed("shop/orders/1"), AtLeastOnce)]))
        .await
        .whole()
        .unwrap();
    let will = Will { publish: publish(event("will", "x"), AtLeastOnce), delay: Duration::ZERO };
    let request = Attach { keep: FOREVER, will: Some(will), ..Attach::default() };
    let lost = core.attach(who("acme-1"), request).await.unwrap();
    let row = |tenant: &str, route: &str, kept, owed| (tenant.to_owned(), route.to_owned(), kept, owed);
    let before = [row("", "plant/#", 1, 1), row("acme", "plant/#", 2, 2), row("ban", "plant/#", 1, 1)];
    assert_eq!(by_tenant(&core), before);
    // Killed once with nothing but the log, once with a checkpoint.
    std::mem::forget((lost, reader));
    let core = killed(core, &store, small()).await;
    core.set_quotas(&named(&["acme", "ban"]), &BTreeMap::new());
    core.stop().await;
    // The checkpoint knows the names, too.
    let core = killed(core, &store, small()).await;
    let mut reader = attach(&core, "reader", FOREVER).await;
    // The will is due after the crash, the other one when its time has come.
    let taken = take(&mut *reader.link, 6).await;
    reader.link.ack(&numbers(&taken));
    core.check_ledger().unwrap();
    let ban = row("ban", "orders", 1, 1);
    let found = by_tenant(&core);
    assert!(found.contains(&row("acme", "(none)", 1, 1)) && found.contains(&ban), "{found:?}");
    let owed: Vec<_> = found.iter().map(|(tenant, route, _, owed)| (&**tenant, &**route, *owed)).collect();
    assert!(owed.contains(&("acme", "plant/#", 2)) && owed.contains(&("", "plant/#", 1)), "{owed:?}");
}

#[tokio::test]
async fn what_a_remote_store_has_no_room_for_is_refused_whatever_its_qos() {
    let (handle, feed) = MemoryStore::new().open();
    let (far, _ends) = event::store::store(ByteLimit::kib(1), 1);
    let route = RouteOptions {
        name: Some("far".to_owned()),
        store: "far".to_owned(),
        ..RouteOptions::new(TopicFilter::parse("far/#".to_owned()).unwrap())
    };
    let remotes = vec![("far".to_owned(), far)];
    let core = Core::recover(small(), &[route], handle, feed, remotes).await.unwrap().0;
    let data = "x".repeat(600);
    let who = Principal::anonymous("tester");
    let mut busy = 0;
    for _ in 0..4 {
        let outcome = settle(core.publish(&who, vec![publish(event("far/1", &data), AtMostOnce)])).await;
        busy += u64::from(outcome.of(0).is_err_and(|reject| reject.kind == RejectKind::Busy));
    }
    assert!((1..4).contains(&busy), "{busy}");
    assert_eq!(publishes(&core, "far"), (4, vec![("passed", 4 - busy), ("busy", busy)]));
}
