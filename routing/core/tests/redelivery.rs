//! An event with which connections end, one after the other, becomes a dead letter, and nothing else does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use event::admin::Admin as _;
use event::hub::{Attached, Close, Delivery, SubscribeOptions};
use event::testing::MemoryStore;
use event::{Guarantee, Reject, RejectKind};
use routing::{Core, Options, RedeliveryOptions};
use support::*;

use Guarantee::{AtLeastOnce, ExactlyOnce};

async fn limited(store: &MemoryStore, limit: u32) -> Arc<Core> {
    let redelivery = RedeliveryOptions { limit, ..RedeliveryOptions::default() };
    start(store, Options { redelivery, ..options() }).await.0
}

/// Who reads dead letters.
async fn undertaker(core: &Core) -> Attached {
    let mut watcher = attach(core, "watcher", Duration::ZERO).await;
    subscribe(&mut *watcher.link, "$dead/#", SubscribeOptions::new(AtLeastOnce)).await;
    watcher
}

/// A client with a subscription, and events that wait for it.
async fn owed(core: &Core, filter: &str, guarantee: Guarantee, events: &[&str]) {
    let mut reader = attach(core, "reader", FOREVER).await;
    subscribe(&mut *reader.link, filter, SubscribeOptions::new(guarantee)).await;
    reader.link.close(Close { will: false, keep: None });
    for text in events {
        send(core, event("plant/1", text), guarantee).await;
    }
}

/// The client comes, takes so many events, acknowledges as many of them, and is lost.
async fn falls_over(core: &Core, client: &str, takes: usize, acks: usize) -> Vec<String> {
    let mut reader = attach(core, client, FOREVER).await;
    let taken = take(&mut *reader.link, takes).await;
    reader.link.ack(&numbers(&taken[..acks]));
    texts(&taken)
}

fn told(letter: &Delivery, name: &str) -> String {
    let user = &letter.event.meta().unwrap().user;
    user.iter().find(|(known, _)| known == name).unwrap().1.to_string()
}

fn dead(core: &Core) -> u64 {
    let ends = core.ledger().into_iter().flat_map(|view| view.ends);
    ends.filter(|(end, _)| *end == "dead_lettered").map(|(_, count)| count).sum()
}

#[tokio::test]
async fn the_oldest_event_that_connections_end_with_becomes_a_dead_letter() {
    let store = MemoryStore::new();
    let core = limited(&store, 3).await;
    let mut watcher = undertaker(&core).await;
    owed(&core, "plant/+", AtLeastOnce, &["good", "bad", "next", "last"]).await;
    assert_eq!(falls_over(&core, "reader", 4, 1).await, ["good", "bad", "next", "last"]);
    for _ in 0..2 {
        assert_eq!(falls_over(&core, "reader", 3, 0).await, ["bad", "next", "last"]);
    }
    nothing(&mut *watcher.link).await;
    // The others were sent as often, and stay.
    let mut reader = attach(&core, "reader", FOREVER).await;
    assert_eq!(texts(&take(&mut *reader.link, 2).await), ["next", "last"]);
    nothing(&mut *reader.link).await;
    let letter = take(&mut *watcher.link, 1).await.remove(0);
    assert_eq!(letter.event.topic().as_str(), "$dead/reader/plant/1");
    assert_eq!(
        (letter.event.data().as_ref(), told(&letter, "deadlettertopic")),
        (&b"bad"[..], "plant/1".into())
    );
    assert_eq!(told(&letter, "deadletterreason"), "3 connections ended without acknowledging it");
    assert_eq!(dead(&core), 1);
    core.check_ledger().unwrap();
    // It is over for good; what follows is counted from its first time on.
    std::mem::forget(reader);
    drop(core);
    let core = limited(&store, 3).await;
    for _ in 0..3 {
        assert_eq!(falls_over(&core, "reader", 2, 0).await, ["next", "last"]);
    }
    assert_eq!(falls_over(&core, "reader", 1, 0).await, ["last"]);
}

#[tokio::test]
async fn a_client_that_gets_on_is_not_suspected() {
    let core = limited(&MemoryStore::new(), 3).await;
    owed(&core, "plant/+", AtLeastOnce, &["a", "b", "c", "d"]).await;
    // Each connection acknowledges the one that the last one ended with.
    for left in ["a", "b", "c"] {
        let mut reader = attach(&core, "reader", FOREVER).await;
        let taken = take(&mut *reader.link, 1).await;
        assert_eq!(texts(&taken), [left]);
        drop(reader);
        let mut reader = attach(&core, "reader", FOREVER).await;
        let taken = ready(&mut *reader.link, 2).await;
        reader.link.ack(&numbers(&taken[..1]));
        drop(reader);
    }
    assert_eq!(dead(&core), 0);
    // What a connection never had is not why it ended.
    for _ in 0..5 {
        drop(attach(&core, "reader", FOREVER).await);
    }
    assert_eq!(falls_over(&core, "reader", 1, 1).await, ["d"]);
}

#[tokio::test]
async fn without_a_limit_and_for_exactly_once_there_is_none() {
    for (limit, guarantee) in [(0, AtLeastOnce), (1, ExactlyOnce)] {
        let core = limited(&MemoryStore::new(), limit).await;
        owed(&core, "plant/+", guarantee, &["bad"]).await;
        for _ in 0..5 {
            assert_eq!(falls_over(&core, "reader", 1, 0).await, ["bad"]);
        }
        assert_eq!(dead(&core), 0);
    }
}

#[tokio::test]
async fn members_that_fall_over_one_after_the_other_leave_one_dead_letter() {
    for keep in [Duration::ZERO, FOREVER] {
        let core = limited(&MemoryStore::new(), 2).await;
        let mut watcher = undertaker(&core).await;
        // Somebody has to keep the group while nobody is here.
        owed(&core, "$share/g/plant/+", AtLeastOnce, &["bad", "good"]).await;
        for client in ["m1", "m2"] {
            let mut member = attach(&core, client, keep).await;
            subscribe(&mut *member.link, "$share/g/plant/+", SubscribeOptions::new(AtLeastOnce)).await;
            assert_eq!(texts(&take(&mut *member.link, 2).await), ["bad", "good"]);
        }
        let mut member = attach(&core, "m3", keep).await;
        subscribe(&mut *member.link, "$share/g/plant/+", SubscribeOptions::new(AtLeastOnce)).await;
        let taken = take(&mut *member.link, 1).await;
        assert_eq!(texts(&taken), ["good"]);
        nothing(&mut *member.link).await;
        let letter = take(&mut *watcher.link, 1).await.remove(0);
        assert_eq!(letter.event.topic().as_str(), "$dead/g/plant/1");
        member.link.ack(&numbers(&taken));
        drop(member);
        nothing(&mut *attach(&core, "reader", FOREVER).await.link).await;
        assert_eq!(dead(&core), 1);
        core.check_ledger().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn until_its_letter_is_kept_an_event_stays_and_what_is_behind_it_waits() {
    let store = MemoryStore::new();
    let core = limited(&store, 1).await;
    let mut watcher = undertaker(&core).await;
    owed(&core, "plant/+", AtLeastOnce, &["good", "bad", "next"]).await;
    falls_over(&core, "reader", 3, 1).await;
    let mut reader = attach(&core, "reader", FOREVER).await;
    store.refuse(Some(Reject::new(RejectKind::Unavailable, "no disk")));
    assert!(ready(&mut *reader.link, 3).await.is_empty());
    assert_eq!(dead(&core), 0);
    store.refuse(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(texts(&take(&mut *reader.link, 1).await), ["next"]);
    assert_eq!(dead(&core), 1);
    assert_eq!(texts(&take(&mut *watcher.link, 1).await), ["bad"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_comes_again_later_each_time_and_what_is_behind_it_waits() {
    let redelivery = RedeliveryOptions { delay_ms: 1000, ..RedeliveryOptions::default() };
    for (subscription, client) in [("plant/+", "reader"), ("$share/g/plant/+", "other")] {
        let store = MemoryStore::new();
        let core = start(&store, Options { redelivery: redelivery.clone(), ..options() }).await.0;
        owed(&core, subscription, AtLeastOnce, &["first", "bad", "next"]).await;
        falls_over(&core, "reader", 3, 1).await;
        for seconds in [1, 2, 4] {
            let mut reader = attach(&core, client, FOREVER).await;
            subscribe(&mut *reader.link, subscription, SubscribeOptions::new(AtLeastOnce)).await;
            let since = tokio::time::Instant::now();
            assert!(ready(&mut *reader.link, 5).await.is_empty());
            assert_eq!(texts(&take(&mut *reader.link, 2).await), ["bad", "next"]);
            let waited = since.elapsed();
            assert!(
                (seconds * 1000..seconds * 1000 + 100).contains(&(waited.as_millis() as u64)),
                "{waited:?}"
            );
            drop(reader);
        }
    }
}

#[tokio::test]
async fn a_dead_letter_makes_no_other_and_without_a_place_events_are_gone() {
    let core = limited(&MemoryStore::new(), 1).await;
    owed(&core, "$dead/#", AtLeastOnce, &[]).await;
    send(&core, event("$dead/x/plant/1", "bad"), AtLeastOnce).await;
    for _ in 0..3 {
        assert_eq!(falls_over(&core, "reader", 1, 0).await, ["bad"]);
    }
    let redelivery =
        RedeliveryOptions { limit: 1, dead_letters: String::new(), ..RedeliveryOptions::default() };
    let core = start(&MemoryStore::new(), Options { redelivery, ..options() }).await.0;
    owed(&core, "plant/+", AtLeastOnce, &["bad", "good"]).await;
    falls_over(&core, "reader", 2, 0).await;
    assert_eq!(falls_over(&core, "reader", 1, 1).await, ["good"]);
    assert_eq!(dead(&core), 1);
}
