//! Delayed events and transactions, over crashes: each is published once, when it is due or was decided, or not at all.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::admin::Admin as _;
use event::event::Meta;
use event::hub::{Attached, Hub as _, Outcome, Publish, SubscribeOptions};
use event::testing::MemoryStore;
use event::{ByteLimit, Event, Guarantee, Principal, RejectKind};
use routing::{Core, HeldOptions, Options};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

fn asking(topic: &str, data: &str, asks: &[(&str, &str)]) -> Event {
    let mut parts = event(topic, data).parts().clone();
    let user = asks.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    parts.meta = Some(Box::new(Meta { user, ..Meta::default() }));
    Event::new(parts)
}

async fn say(core: &Core, event: Event) -> Outcome {
    settle(core.publish(&Principal::anonymous("tester"), vec![publish(event, AtLeastOnce)])).await
}

fn transaction(topic: &str, data: &str, what: &str, id: &str) -> Event {
    asking(topic, data, &[("transaction", what), ("transactionid", id), ("colour", "green")])
}

fn refusal(outcome: &Outcome) -> (RejectKind, String) {
    let reject = outcome.of(0).unwrap_err();
    (reject.kind, reject.reason.to_string())
}

async fn reader(core: &Core, filter: &str) -> Attached {
    let mut to = attach(core, "reader", FOREVER).await;
    subscribe(&mut *to.link, filter, SubscribeOptions::new(ExactlyOnce)).await;
    to
}

/// As the keeper does when it is due; the clock of the day cannot be turned here.
const SOON: &str = "150";

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[tokio::test]
async fn an_event_comes_when_its_delay_is_over_and_asks_for_none_any_more() {
    let core = core().await;
    let mut to = reader(&core, "t/#").await;
    let before = now_ms();
    say(&core, asking("t/1", "later", &[("delayms", SOON), ("colour", "green")])).await.whole().unwrap();
    say(&core, event("t/1", "now")).await.whole().unwrap();
    let got = take(&mut *to.link, 2).await;
    assert_eq!(texts(&got), ["now", "later"]);
    assert!(now_ms() >= before + 150);
    let event = &got[1].event;
    assert_eq!(event.meta().unwrap().user, [("colour".into(), "green".into())]);
    assert!(event.parts().received_ms >= before + 150, "it is as of now");
}

#[tokio::test]
async fn what_cannot_be_delayed_is_refused() {
    let held = HeldOptions { events: 2, bytes: ByteLimit::kib(64), ..HeldOptions::default() };
    let (core, _) = start(&MemoryStore::new(), Options { held, ..options() }).await;
    for (asks, part) in [
        (&[("delayms", "soon")][..], "milliseconds"),
        (&[("deliverytime", "9999-01-01T00:00:00Z")], "delay_max_s"),
        (&[("transaction", "half")], "transactionid"),
        (&[("transaction", "commit"), ("transactionid", "x")], "never begun"),
    ] {
        let (kind, reason) = refusal(&say(&core, asking("t", "x", asks)).await);
        assert_eq!(kind, RejectKind::Malformed);
        assert!(reason.contains(part), "{reason}");
    }
    let large = "x".repeat(70_000);
    assert_eq!(refusal(&say(&core, asking("t", &large, &[("delayms", "60000")])).await).0, RejectKind::Busy);
    for _ in 0..2 {
        say(&core, asking("t", "x", &[("delayms", "60000")])).await.whole().unwrap();
    }
    assert_eq!(refusal(&say(&core, asking("t", "x", &[("delayms", "60000")])).await).0, RejectKind::Busy);
}

#[tokio::test]
async fn a_transaction_is_published_after_its_commit_and_never_after_its_rollback() {
    let core = core().await;
    let mut to = reader(&core, "t/#").await;
    let answer = |event| say(&core, event);
    answer(transaction("t/1", "kept", "half", "a")).await.whole().unwrap();
    answer(transaction("t/1", "dropped", "half", "b")).await.whole().unwrap();
    let again = refusal(&answer(transaction("t/1", "x", "half", "a")).await);
    assert!(again.1.contains("waits already"), "{}", again.1);
    let elsewhere = refusal(&answer(transaction("t/2", "", "commit", "a")).await);
    assert!(elsewhere.1.contains("never begun"), "topics do not share transactions: {}", elsewhere.1);
    nothing(&mut *to.link).await;
    answer(transaction("t/1", "", "rollback", "b")).await.whole().unwrap();
    answer(transaction("t/1", "", "commit", "a")).await.whole().unwrap();
    answer(transaction("t/1", "", "commit", "a")).await.whole().unwrap();
    let late = refusal(&answer(transaction("t/1", "", "rollback", "a")).await);
    assert!(late.1.contains("was committed"), "{}", late.1);
    answer(event("t/1", "behind")).await.whole().unwrap();
    let mut got = texts(&take(&mut *to.link, 2).await);
    got.sort_unstable();
    assert_eq!(got, ["behind", "kept"]);
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn the_publisher_of_a_transaction_is_asked_and_then_it_is_given_up() {
    let held = HeldOptions { check_s: 1, checks: 1, ..HeldOptions::default() };
    let (core, _) = start(&MemoryStore::new(), Options { held, ..options() }).await;
    let mut asked = reader(&core, "$weft/transactions/#").await;
    say(&core, transaction("t/1", "what it is about", "half", "a")).await.whole().unwrap();
    let question = take(&mut *asked.link, 1).await.remove(0);
    assert_eq!(question.event.topic().as_str(), "$weft/transactions/t/1");
    assert_eq!(texts(std::slice::from_ref(&question)), ["what it is about"]);
    let extensions = question.event.extensions();
    let id = extensions.iter().find(|(name, _)| name == "transactionid").unwrap();
    assert_eq!((question.event.ty(), &*id.1.as_text()), ("weft.transaction.check", "a"));
    // Nobody answers.
    let gone = async {
        while say(&core, transaction("t/1", "", "half", "a")).await.whole().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the transaction is given up");
    let fates: Vec<_> = core.ledger().into_iter().flat_map(|view| view.fates).collect();
    let count = |fate| fates.iter().filter(|(name, _)| *name == fate).map(|(_, count)| count).sum::<u64>();
    assert_eq!((count("kept"), count("unanswered")), (1, 0), "{fates:?}");
}

fn crash<T>(core: Arc<Core>, connections: T) {
    std::mem::forget(connections);
    drop(core);
}

#[tokio::test]
async fn a_crash_loses_none_and_repeats_none() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let to = reader(&core, "t/#").await;
    let due = now_ms() + 300;
    for at in 0..20 {
        say(&core, asking("t/1", &format!("{at}"), &[("delayms", "300")])).await.whole().unwrap();
    }
    say(&core, transaction("t/1", "committed", "half", "a")).await.whole().unwrap();
    say(&core, transaction("t/1", "open", "half", "b")).await.whole().unwrap();
    say(&core, transaction("t/1", "rolled back", "half", "c")).await.whole().unwrap();
    say(&core, transaction("t/1", "", "rollback", "c")).await.whole().unwrap();
    // The log grows by more than what checkpoints leave behind: what waits is moved.
    for _ in 0..400 {
        say(&core, event("other", &"x".repeat(200))).await.whole().unwrap();
    }
    say(&core, transaction("t/1", "", "commit", "a")).await.whole().unwrap();
    crash(core, to);
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "reader", FOREVER).await;
    let mut got = texts(&take(&mut *to.link, 21).await);
    assert!(now_ms() >= due);
    got.sort_unstable_by_key(|text| text.parse::<u32>().unwrap_or(99));
    let mut wanted: Vec<String> = (0..20).map(|at: u32| at.to_string()).collect();
    wanted.push("committed".into());
    assert_eq!(got, wanted);
    crash(core, to);
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "reader", FOREVER).await;
    say(&core, transaction("t/1", "", "commit", "b")).await.whole().unwrap();
    let mut left = Vec::new();
    while left.last().is_none_or(|text| text != "open") {
        left.extend(texts(&take(&mut *to.link, 1).await));
    }
    // What the first reader had and did not ack comes again; nothing was published twice.
    left.pop();
    assert_eq!(left.len(), 21);
}

#[tokio::test]
async fn ids_of_exactly_once_publishes_are_remembered() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut from = attach(&core, "from", FOREVER).await;
    for (id, event) in [
        (5, asking("t", "x", &[("delayms", "60000")])),
        (6, transaction("t", "x", "half", "a")),
        (7, transaction("t", "", "commit", "a")),
    ] {
        let one = Publish { id: Some(id), ..publish(event, ExactlyOnce) };
        settle(from.link.publish(vec![one])).await.whole().unwrap();
    }
    crash(core, from);
    let (core, _) = start(&store, options()).await;
    assert_eq!(attach(&core, "from", FOREVER).await.received_ids, [5, 6, 7]);
}

#[tokio::test]
async fn an_unanswered_publish_may_wait_too() {
    let core = core().await;
    let mut to = reader(&core, "t").await;
    let event = asking("t", "later", &[("delayms", SOON)]);
    settle(core.publish(&Principal::anonymous("tester"), vec![publish(event, AtMostOnce)]))
        .await
        .whole()
        .unwrap();
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["later"]);
}
