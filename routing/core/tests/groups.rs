//! Shared subscriptions through the public face of the core (MQTT 5 §4.8.2).
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use event::hub::{Attached, Close, Delivery, Hub as _, Link, Publish, Room, SubscribeOptions};
use event::testing::MemoryStore;
use event::{Guarantee, Principal};
use routing::{Core, Options, SharedOptions, Strategy};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

const JOBS: &str = "$share/workers/jobs/#";

#[tokio::test]
async fn each_event_goes_to_one_member_in_turn() {
    let core = core().await;
    let mut members = [member(&core, "a", Duration::ZERO).await, member(&core, "b", Duration::ZERO).await];
    let mut alone = attach(&core, "alone", Duration::ZERO).await;
    subscribe(&mut *alone.link, "jobs/#", SubscribeOptions::new(ExactlyOnce)).await;
    for guarantee in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        for n in 0..4 {
            send(&core, event("jobs/x", &n.to_string()), guarantee).await;
        }
        for (member, wanted) in members.iter_mut().zip([["0", "2"], ["1", "3"]]) {
            let got = take(&mut *member.link, 2).await;
            assert_eq!(texts(&got), wanted);
            assert!(got.iter().all(|delivery| delivery.guarantee == guarantee));
            member.link.ack(&numbers(&got));
        }
        let got = take(&mut *alone.link, 4).await;
        alone.link.ack(&numbers(&got));
    }
}

#[tokio::test]
async fn each_member_gets_at_most_the_guarantee_of_its_own_subscription() {
    let core = core().await;
    let mut weak = attach(&core, "weak", Duration::ZERO).await;
    subscribe(&mut *weak.link, JOBS, SubscribeOptions { id: 7, ..SubscribeOptions::new(AtMostOnce) }).await;
    send(&core, event("jobs/x", "1"), ExactlyOnce).await;
    let got = take(&mut *weak.link, 1).await;
    assert_eq!(
        (got[0].guarantee, got[0].number, got[0].subscriptions.as_deref()),
        (AtMostOnce, None, Some(&[7][..]))
    );
}

#[tokio::test]
async fn what_a_member_that_leaves_has_not_acknowledged_goes_to_another() {
    for keep in [Duration::ZERO, FOREVER] {
        let core = core().await;
        let mut leaver = member(&core, "leaver", keep).await;
        for n in 0..4 {
            send(&core, event("jobs/x", &n.to_string()), AtLeastOnce).await;
        }
        let got = take(&mut *leaver.link, 4).await;
        leaver.link.ack(&numbers(&got)[..1]);
        let mut other = member(&core, "other", keep).await;
        drop(leaver);
        let got = take(&mut *other.link, 3).await;
        assert_eq!(texts(&got), ["1", "2", "3"], "kept for {keep:?}");
        assert!(got.iter().all(|delivery| !delivery.again));
    }
}

#[tokio::test]
async fn mqtt_4_8_2_4_exactly_once_deliveries_that_were_sent_end_with_their_member() {
    let core = core().await;
    let mut sent = member(&core, "sent", FOREVER).await;
    send(&core, event("jobs/x", "first"), ExactlyOnce).await;
    let first = take(&mut *sent.link, 1).await;
    let mut other = member(&core, "other", FOREVER).await;
    drop(sent);
    pass(&core).await;
    nothing(&mut *other.link).await;
    let mut sent = attach(&core, "sent", FOREVER).await;
    let again = take(&mut *sent.link, 1).await;
    assert_eq!((numbers(&again), again[0].again), (numbers(&first), true));
    // [MQTT-4.8.2-5]: nor does anyone get it when the session ends.
    sent.link.close(Close { will: false, keep: Some(Duration::ZERO) });
    pass(&core).await;
    nothing(&mut *other.link).await;
}

#[tokio::test]
async fn a_group_without_a_member_here_keeps_its_events_for_the_first_to_come() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    drop(member(&core, "a", FOREVER).await);
    drop(member(&core, "b", FOREVER).await);
    for n in 0..5 {
        send(&core, event("jobs/x", &n.to_string()), AtLeastOnce).await;
    }
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.backlog, 5);
    let mut b = attach(&core, "b", FOREVER).await;
    assert_eq!(texts(&take(&mut *b.link, 5).await), ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn after_a_crash_numbers_are_the_same_and_what_was_acknowledged_is_done() {
    for checkpoint in [false, true] {
        let store = MemoryStore::new();
        let (core, _) = start(&store, options()).await;
        let mut kept = member(&core, "kept", FOREVER).await;
        subscribe(&mut *kept.link, "own", SubscribeOptions::new(ExactlyOnce)).await;
        let mut passing = member(&core, "passing", Duration::ZERO).await;
        for n in 0..6 {
            send(&core, event("jobs/x", &n.to_string()), ExactlyOnce).await;
            send(&core, event("own", &n.to_string()), ExactlyOnce).await;
        }
        let before = take(&mut *kept.link, 9).await;
        let others = take(&mut *passing.link, 3).await;
        let own: Vec<&Delivery> = before.iter().filter(|got| got.event.topic().as_str() == "own").collect();
        assert_eq!(own.len(), 6);
        kept.link.ack(&numbers(&before)[..2]);
        passing.link.ack(&numbers(&others)[..1]);
        send(&core, event("elsewhere", "sync"), AtLeastOnce).await;
        if checkpoint {
            // A stop keeps a checkpoint; connections that are still open then are as in a crash.
            core.stop().await;
        }
        let (core, _) = start(&store, options()).await;
        let mut kept = attach(&core, "kept", FOREVER).await;
        let again = take(&mut *kept.link, 9).await;
        let known: Vec<(u64, String)> = numbers(&before).into_iter().zip(texts(&before)).skip(2).collect();
        let after: Vec<(u64, String)> = numbers(&again).into_iter().zip(texts(&again)).collect();
        assert_eq!(after[..7], known[..], "under their old numbers");
        let passed: BTreeSet<String> = texts(&again)[7..].iter().cloned().collect();
        let unacknowledged: BTreeSet<String> = texts(&others)[1..].iter().cloned().collect();
        assert_eq!(passed, unacknowledged, "of the member that is gone");
    }
}

#[tokio::test]
async fn a_member_has_no_more_than_its_share_unacknowledged() {
    let shared = SharedOptions { inflight: 2, ..SharedOptions::default() };
    let core = start(&MemoryStore::new(), Options { shared, ..options() }).await.0;
    let mut slow = member(&core, "slow", Duration::ZERO).await;
    let mut fast = member(&core, "fast", Duration::ZERO).await;
    for n in 0..8 {
        send(&core, event("jobs/x", &n.to_string()), AtLeastOnce).await;
    }
    assert_eq!(texts(&take(&mut *slow.link, 2).await), ["0", "2"]);
    let mut got = Vec::new();
    while got.len() < 6 {
        let some = take(&mut *fast.link, 1).await;
        fast.link.ack(&numbers(&some));
        got.extend(texts(&some));
    }
    assert_eq!(got, ["1", "3", "4", "5", "6", "7"]);
}

#[tokio::test]
async fn a_hashed_topic_keeps_its_order_while_members_come_and_go() {
    let shared = SharedOptions { strategy: Strategy::HashTopic, inflight: 4, ..SharedOptions::default() };
    let core = start(&MemoryStore::new(), Options { shared, ..options() }).await.0;
    let mut members: Vec<Attached> = vec![member(&core, "m0", Duration::ZERO).await];
    let mut last = [None::<usize>; 5];
    let mut seen = 0;
    for n in 0..200 {
        send(
            &core,
            event(["jobs/a", "jobs/b", "jobs/c", "jobs/d", "jobs/e"][n % 5], &n.to_string()),
            AtLeastOnce,
        )
        .await;
        if n % 20 == 7 {
            members.push(member(&core, &format!("m{n}"), Duration::ZERO).await);
        }
        for member in &mut members {
            for got in ready(&mut *member.link, 100).await {
                let n: usize = texts(std::slice::from_ref(&got))[0].parse().unwrap();
                assert!(last[n % 5].is_none_or(|last| last < n), "{n} behind {:?}", last[n % 5]);
                last[n % 5] = Some(n);
                seen += 1;
                member.link.ack(&numbers(std::slice::from_ref(&got)));
            }
        }
    }
    assert_eq!(seen, 200);
}

#[tokio::test]
async fn after_a_crash_at_least_once_deliveries_go_to_who_comes_first() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut had = member(&core, "had", FOREVER).await;
    let mut other = attach(&core, "other", FOREVER).await;
    for (n, guarantee) in [AtLeastOnce, ExactlyOnce, AtLeastOnce].into_iter().enumerate() {
        send(&core, event("jobs/x", &n.to_string()), guarantee).await;
    }
    let got = take(&mut *had.link, 3).await;
    assert_eq!(texts(&got), ["0", "1", "2"]);
    subscribe(&mut *other.link, JOBS, SubscribeOptions::new(ExactlyOnce)).await;
    let (core, _) = start(&store, options()).await;
    let mut other = attach(&core, "other", FOREVER).await;
    assert_eq!(texts(&take(&mut *other.link, 2).await), ["0", "2"]);
    let mut had = attach(&core, "had", FOREVER).await;
    let again = take(&mut *had.link, 1).await;
    assert_eq!((texts(&again), numbers(&again)), (vec!["1".to_owned()], numbers(&got[1..2])));
}

#[tokio::test]
async fn a_kept_session_that_wants_no_acknowledgement_gets_none_and_is_not_asked_again() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut weak = attach(&core, "weak", FOREVER).await;
    subscribe(&mut *weak.link, JOBS, SubscribeOptions::new(AtMostOnce)).await;
    for n in 0..3 {
        send(&core, event("jobs/x", &n.to_string()), AtLeastOnce).await;
    }
    let got = take(&mut *weak.link, 3).await;
    assert_eq!(texts(&got), ["0", "1", "2"]);
    assert!(got.iter().all(|got| (got.guarantee, got.number) == (AtMostOnce, None)));
    pass(&core).await;
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.backlog, 0);
    nothing(&mut *attach(&core, "weak", FOREVER).await.link).await;
}

#[tokio::test]
async fn retained_events_come_with_their_flag_to_who_asks_for_it_and_not_on_subscribing() {
    let core = core().await;
    let flagged = |text: &str| {
        let Publish { event, guarantee, .. } = publish(event("jobs/x", text), AtLeastOnce);
        Publish { event, guarantee, retain: true, id: None }
    };
    let tester = Principal::anonymous("tester");
    settle(core.publish(&tester, vec![flagged("before")])).await.whole().unwrap();
    for keep in [Duration::ZERO, FOREVER] {
        for retain_as_published in [false, true] {
            let mut member = attach(&core, "member", keep).await;
            let wanted = SubscribeOptions { retain_as_published, ..SubscribeOptions::new(ExactlyOnce) };
            subscribe(&mut *member.link, JOBS, wanted).await;
            settle(core.publish(&tester, vec![flagged("after")])).await.whole().unwrap();
            let got = take(&mut *member.link, 1).await;
            assert_eq!((&*texts(&got)[0], got[0].retain), ("after", retain_as_published));
            member.link.close(Close { will: false, keep: Some(Duration::ZERO) });
        }
    }
}

#[tokio::test]
async fn unsubscribing_leaves_what_was_sent_and_gives_the_rest_away() {
    for keep in [Duration::ZERO, FOREVER] {
        let core = core().await;
        let mut leaver = member(&core, "leaver", keep).await;
        for n in 0..3 {
            send(&core, event("jobs/x", &n.to_string()), AtLeastOnce).await;
        }
        let got = first(&mut *leaver.link).await;
        assert_eq!(texts(&got), ["0"]);
        let mut other = member(&core, "other", keep).await;
        assert_eq!(leaver.link.unsubscribe(vec![filter(JOBS)]).await.unwrap(), [true]);
        assert_eq!(texts(&take(&mut *other.link, 2).await), ["1", "2"]);
        leaver.link.ack(&numbers(&got));
        pass(&core).await;
        nothing(&mut *leaver.link).await;
        drop(leaver);
        pass(&core).await;
        nothing(&mut *other.link).await;
    }
}

/// One delivery, with room for no more.
async fn first(link: &mut dyn Link) -> Vec<Delivery> {
    let room = Room { numbered: 1, bytes: 1 << 20 };
    let mut out = Vec::new();
    std::future::poll_fn(|cx| link.poll_deliveries(cx, room, &mut out)).await.unwrap();
    out
}

/// Waits until everything that was appended before is dispatched, twice: an assignment is a record of its own.
async fn pass(core: &Core) {
    for _ in 0..2 {
        send(core, event("elsewhere", "pass"), AtLeastOnce).await;
    }
}

async fn member(core: &Core, name: &str, keep: Duration) -> Attached {
    let mut member = attach(core, name, keep).await;
    subscribe(&mut *member.link, JOBS, SubscribeOptions::new(ExactlyOnce)).await;
    member
}

/// Its queue is full of other events: what the group has for it waits, without a record for each try, until there is room.
#[tokio::test]
async fn a_member_without_room_is_left_alone_until_it_has_some() {
    for keep in [Duration::ZERO, FOREVER] {
        let store = MemoryStore::new();
        let core = start(&store, Options { queue_events: 2, ..options() }).await.0;
        let mut worker = member(&core, "worker", keep).await;
        subscribe(&mut *worker.link, "other", SubscribeOptions::new(AtLeastOnce)).await;
        for topic in ["other", "other", "jobs/x"] {
            send(&core, event(topic, topic), AtLeastOnce).await;
        }
        let mine = take(&mut *worker.link, 2).await;
        assert_eq!(texts(&mine), ["other", "other"]);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        let records = store.records().len();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.records().len(), records, "tried again and again");
        worker.link.ack(&numbers(&mine));
        assert_eq!(texts(&take(&mut *worker.link, 1).await), ["jobs/x"]);
    }
}
