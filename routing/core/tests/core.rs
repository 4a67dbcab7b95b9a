//! The core through its public face, on a store in memory.

mod support;

use std::time::Duration;

use event::hub::{Attach, Close, Closed, Hub, Publish, RetainedWanted, Room, SubscribeOptions, Will};
use event::testing::{MemoryStore, next_deliveries};
use event::{Durability, Guarantee, Origin, Principal, Reject, RejectKind, TopicFilter};
use routing::{Core, Options, QueueFull, RouteOptions};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

#[tokio::test]
async fn delivers_with_the_weaker_guarantee_of_publish_and_subscription() {
    let core = core().await;
    for subscribed in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
        let mut to = attach(&core, "to", Duration::ZERO).await;
        subscribe(&mut *to.link, "a/+", SubscribeOptions::new(subscribed)).await;
        for published in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            send(&core, event("a/b", "x"), published).await;
            let got = take(&mut *to.link, 1).await;
            assert_eq!(got[0].guarantee, published.min(subscribed));
            assert_eq!(got[0].number.is_some(), got[0].guarantee != AtMostOnce);
            to.link.ack(&numbers(&got));
        }
    }
}

#[tokio::test]
async fn a_session_that_is_away_gets_its_events_in_order_and_with_the_same_numbers_after_a_crash() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "#", SubscribeOptions::new(ExactlyOnce)).await;
    to.link.close(Close { will: false, keep: None });
    for n in 0..300 {
        send(&core, event("a", &n.to_string()), ExactlyOnce).await;
    }
    let mut before = Vec::new();
    for _ in 0..3 {
        let (core, recovered) = start(&store, options()).await;
        assert_eq!((recovered.sessions, recovered.backlog), (1, 300));
        let mut to = attach(&core, "to", FOREVER).await;
        assert!(to.present);
        let got = take(&mut *to.link, 300).await;
        assert_eq!(texts(&got), (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(before.is_empty() || before == numbers(&got));
        before = numbers(&got);
    }
}

#[tokio::test]
async fn acked_deliveries_stay_done_and_others_come_again() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    for n in 0..5 {
        send(&core, event("a", &n.to_string()), AtLeastOnce).await;
    }
    let got = take(&mut *to.link, 5).await;
    to.link.ack(&[1, 3, 77]);
    drop(got);
    // The same connection is not offered them again; the next one is, and so is the one after a crash.
    nothing(&mut *to.link).await;
    drop(to);
    let mut to = attach(&core, "to", FOREVER).await;
    let got = take(&mut *to.link, 3).await;
    assert_eq!((numbers(&got), got.iter().all(|d| d.again)), (vec![0, 2, 4], true));
    send(&core, event("a", "sync"), AtLeastOnce).await;
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", FOREVER).await;
    assert_eq!(texts(&take(&mut *to.link, 4).await), ["0", "2", "4", "sync"]);
}

#[tokio::test]
async fn ids_of_exactly_once_publishes_survive_until_they_are_released() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut from = attach(&core, "from", FOREVER).await;
    let batch = [7, 9].map(|id| Publish { id: Some(id), ..publish(event_by("from", "a", "x"), ExactlyOnce) });
    settle(from.link.publish(batch.to_vec())).await.whole().unwrap();
    let (core, _) = start(&store, options()).await;
    let mut from = attach(&core, "from", FOREVER).await;
    assert_eq!(from.received_ids, [7, 9]);
    from.link.release(&[7]).await.whole().unwrap();
    let (core, _) = start(&store, options()).await;
    assert_eq!(attach(&core, "from", FOREVER).await.received_ids, [9]);
}

#[tokio::test]
async fn what_the_subscriber_received_is_never_sent_again_but_waits_for_release() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(ExactlyOnce)).await;
    for n in 0..3 {
        send(&core, event("a", &n.to_string()), ExactlyOnce).await;
    }
    take(&mut *to.link, 3).await;
    to.link.received(&[0, 2]).await.whole().unwrap();
    to.link.ack(&[0]);
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", FOREVER).await;
    assert!(to.unreleased == [2] || to.unreleased == [0, 2]);
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["1"]);
}

#[tokio::test]
async fn retained_events_survive_and_are_sent_as_the_subscription_asks() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let retain = |topic: &str, data: &str, guarantee| Publish {
        retain: true,
        ..publish(event(topic, data), guarantee)
    };
    let who = Principal::anonymous("tester");
    let batch =
        vec![retain("a", "0", AtMostOnce), retain("b", "1", AtLeastOnce), retain("c", "2", AtLeastOnce)];
    settle(core.publish(&who, batch)).await.whole().unwrap();
    settle(core.publish(&who, vec![retain("c", "", AtLeastOnce)])).await.whole().unwrap();
    for _ in 0..2 {
        let (core, recovered) = start(&store, options()).await;
        assert_eq!(recovered.retained, 2);
        let mut to = attach(&core, "to", Duration::ZERO).await;
        subscribe(&mut *to.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
        let mut got = take(&mut *to.link, 2).await;
        got.sort_by_key(|delivery| delivery.event.topic().clone());
        assert_eq!(texts(&got), ["0", "1"]);
        assert!(got.iter().all(|delivery| delivery.retain));
        assert_eq!(got.iter().map(|d| d.guarantee).collect::<Vec<_>>(), [AtMostOnce, AtLeastOnce]);
        let options =
            SubscribeOptions { retained: RetainedWanted::IfNew, ..SubscribeOptions::new(AtLeastOnce) };
        subscribe(&mut *to.link, "#", options).await;
        nothing(&mut *to.link).await;
        core.stop().await;
    }
}

#[tokio::test]
async fn overlapping_subscriptions_deliver_once_with_all_their_ids() {
    let core = core().await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "a/#", SubscribeOptions { id: 1, ..SubscribeOptions::new(AtMostOnce) }).await;
    subscribe(&mut *to.link, "a/+", SubscribeOptions { id: 2, ..SubscribeOptions::new(AtLeastOnce) }).await;
    send(&core, event("a/b", "x"), ExactlyOnce).await;
    let got = take(&mut *to.link, 1).await;
    assert_eq!((got[0].guarantee, got[0].subscriptions.as_deref()), (AtLeastOnce, Some(&[1, 2][..])));
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn no_local_leaves_out_what_the_client_publishes_itself() {
    let core = core().await;
    let mut me = attach(&core, "me", Duration::ZERO).await;
    subscribe(&mut *me.link, "a", SubscribeOptions { no_local: true, ..SubscribeOptions::new(AtLeastOnce) })
        .await;
    let mine = vec![
        publish(event_by("me", "a", "mine"), AtLeastOnce),
        publish(event_by("me", "a", "0"), AtMostOnce),
    ];
    settle(me.link.publish(mine)).await.whole().unwrap();
    send(&core, event("a", "yours"), AtLeastOnce).await;
    assert_eq!(texts(&take(&mut *me.link, 1).await), ["yours"]);
    nothing(&mut *me.link).await;
}

#[tokio::test]
async fn a_newer_connection_takes_the_session() {
    let core = core().await;
    let mut old = attach(&core, "me", FOREVER).await;
    let mut new = attach(&core, "me", FOREVER).await;
    assert!(new.present);
    let mut out = Vec::new();
    let room = Room { numbered: 1, bytes: 1 };
    assert_eq!(next_deliveries(&mut *old.link, room, &mut out).await, Err(Closed::TakenOver));
    drop(old);
    subscribe(&mut *new.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    send(&core, event("a", "x"), AtLeastOnce).await;
    assert_eq!(texts(&take(&mut *new.link, 1).await), ["x"]);
}

#[tokio::test]
async fn a_lost_connection_publishes_its_will_and_an_orderly_one_does_not() {
    let core = core().await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "will", SubscribeOptions::new(AtLeastOnce)).await;
    for (lost, text) in [(false, "no"), (true, "yes")] {
        let will =
            Will { publish: publish(event_by("from", "will", text), AtLeastOnce), delay: Duration::ZERO };
        let request = Attach { will: Some(will), ..Attach::default() };
        let from = core.attach(Principal::anonymous("from"), request).await.unwrap();
        match lost {
            true => drop(from),
            false => from.link.close(Close { will: false, keep: None }),
        }
    }
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["yes"]);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_loses_live_events_and_keeps_the_others() {
    let small = Options { live_bytes: event::ByteLimit(1000), queue_events: 10, ..options() };
    let (core, _) = start(&MemoryStore::new(), small).await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    for n in 0..20 {
        send(&core, event("a", &format!("live {n}")), AtMostOnce).await;
        send(&core, event("a", &format!("kept {n}")), AtLeastOnce).await;
    }
    let mut got = Vec::new();
    next_deliveries(&mut *to.link, Room { numbered: 100, bytes: 1 << 20 }, &mut got).await.unwrap();
    let kept = texts(&got).into_iter().filter(|text| text.starts_with("kept")).count();
    assert_eq!(kept, 10, "the queue's limit");
    assert!(got.len() - kept < 10, "the lane's limit");
}

#[tokio::test]
async fn a_full_queue_follows_its_policy() {
    for (queue_full, wanted) in [
        (QueueFull::DropNewest, ["0", "1", "2", "3", "4"]),
        (QueueFull::DropOldest, ["0", "1", "17", "18", "19"]),
    ] {
        for by_bytes in [false, true] {
            let weight = event("a", "10").weight() as u64;
            let small = match by_bytes {
                false => Options { queue_events: 5, queue_full, ..options() },
                true => Options { queue_bytes: event::ByteLimit(5 * weight), queue_full, ..options() },
            };
            let (core, _) = start(&MemoryStore::new(), small).await;
            let mut to = attach(&core, "to", FOREVER).await;
            subscribe(&mut *to.link, "a", SubscribeOptions::new(ExactlyOnce)).await;
            let send = async |n: usize| send(&core, event("a", &format!("{n:<2}")), ExactlyOnce).await;
            send(0).await;
            send(1).await;
            // What was sent is never dropped.
            let sent = take(&mut *to.link, 2).await;
            for n in 2..20 {
                send(n).await;
            }
            let rest = take(&mut *to.link, 3).await;
            nothing(&mut *to.link).await;
            let all: Vec<String> = texts(&sent).into_iter().chain(texts(&rest)).collect();
            assert_eq!(all.iter().map(|text| text.trim_end()).collect::<Vec<_>>(), wanted);
            assert!(numbers(&rest).is_sorted());
            to.link.ack(&[numbers(&sent), numbers(&rest)].concat());
            send(20).await;
            assert_eq!(texts(&take(&mut *to.link, 1).await), ["20"]);
        }
    }
}

#[tokio::test]
async fn a_full_queue_may_let_everything_wait() {
    let limit = event::ByteLimit(100);
    let small = Options { queue_events: 5, queue_bytes: limit, queue_full: QueueFull::Wait, ..options() };
    let store = MemoryStore::new();
    let (core, _) = start(&store, Options { backlog_events: 40, ..small }).await;
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    for n in 0..50 {
        send(&core, event("a", &n.to_string()), AtLeastOnce).await;
    }
    let waited: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    assert_eq!(texts(&take(&mut *to.link, 40).await), waited, "up to what all sessions may have");
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn a_full_queue_may_end_the_connection_and_keeps_what_was_there() {
    let small = Options { queue_events: 2, queue_full: QueueFull::Disconnect, ..options() };
    let (core, _) = start(&MemoryStore::new(), small).await;
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    for n in 0..4 {
        send(&core, event("a", &n.to_string()), AtLeastOnce).await;
    }
    let room = Room { numbered: 10, bytes: 1 << 20 };
    let ended = next_deliveries(&mut *to.link, room, &mut Vec::new()).await;
    assert_eq!(ended, Err(Closed::QueueFull));
    drop(to);
    let mut to = attach(&core, "to", FOREVER).await;
    assert_eq!(texts(&take(&mut *to.link, 2).await), ["0", "1"]);
}

#[tokio::test]
async fn a_backlog_beyond_the_memory_of_a_session_is_read_from_the_log() {
    let small = Options { queue_memory_bytes: event::ByteLimit(300), ..options() };
    let (core, _) = start(&MemoryStore::new(), small).await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    for n in 0..500 {
        send(&core, event("a", &n.to_string()), AtLeastOnce).await;
    }
    assert_eq!(texts(&take(&mut *to.link, 500).await), (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_that_keeps_all_gets_live_events_numbered() {
    let core = core().await;
    let request = Attach { keep: FOREVER, keep_all: true, ..Attach::default() };
    let mut bridge = core.attach(Principal::anonymous("$bridge/x"), request).await.unwrap();
    subscribe(&mut *bridge.link, "#", SubscribeOptions::new(ExactlyOnce)).await;
    let mut live = attach(&core, "live", Duration::ZERO).await;
    subscribe(&mut *live.link, "#", SubscribeOptions::new(ExactlyOnce)).await;
    send(&core, event("a", "x"), AtMostOnce).await;
    let got = take(&mut *bridge.link, 1).await;
    assert_eq!((got[0].guarantee, got[0].number), (AtLeastOnce, Some(0)));
    assert_eq!(take(&mut *live.link, 1).await[0].number, None);
    nothing(&mut *live.link).await;
}

#[tokio::test]
async fn a_refused_append_is_told_to_its_publisher_and_reaches_nobody() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    store.refuse(Some(Reject::new(RejectKind::Unavailable, "the disk failed")));
    let outcome =
        settle(core.publish(&Principal::anonymous("x"), vec![publish(event("a", "x"), AtLeastOnce)])).await;
    assert_eq!(outcome.whole().unwrap_err().kind, RejectKind::Unavailable);
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn a_route_with_a_remote_store_is_answered_by_it_and_fed_by_its_consumer() {
    let (remote, mut ends) = event::store::store(event::ByteLimit::mib(1), 16);
    let (handle, feed) = MemoryStore::new().open();
    let route = |store: &str| RouteOptions {
        store: store.to_owned(),
        ..RouteOptions::new(TopicFilter::parse("far/#").unwrap())
    };
    let (core, _) =
        Core::recover(options(), &[route("main")], handle, feed, vec![("main".to_owned(), remote)])
            .await
            .unwrap();
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "far/#", SubscribeOptions::new(AtLeastOnce)).await;
    let who = Principal::anonymous("tester");
    let publishing =
        tokio::spawn(settle(core.publish(&who, vec![publish(event("far/a", "x"), AtLeastOnce)])));
    let mut appends = Vec::new();
    assert!(ends.appends.next(&mut appends, 8).await);
    let append = appends.remove(0);
    assert_eq!(append.durability, Durability::Remote);
    nothing(&mut *to.link).await;
    append.receipt.unwrap().resolve(event::hub::Outcome::Kept);
    publishing.await.unwrap().whole().unwrap();
    nothing(&mut *to.link).await;
    let consumer = Principal { origin: Origin::Store, ..Principal::anonymous("$store/main") };
    settle(core.publish(&consumer, vec![publish(event("far/a", "x"), AtLeastOnce)])).await.whole().unwrap();
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["x"]);
}

fn no_other(name: &str) -> Result<event::store::Store, String> {
    Err(format!("no store {name}"))
}

#[tokio::test]
async fn routes_are_replaced_whole_and_what_was_published_keeps_its_own() {
    let (remote, mut ends) = event::store::store(event::ByteLimit::mib(1), 16);
    let (handle, feed) = MemoryStore::new().open();
    let route = |store: &str| RouteOptions {
        store: store.to_owned(),
        ..RouteOptions::new(TopicFilter::parse("a").unwrap())
    };
    let (core, _) =
        Core::recover(options(), &[], handle, feed, vec![("main".to_owned(), remote)]).await.unwrap();
    let mut from = attach(&core, "from", Duration::ZERO).await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    let mut say = |text: &str| settle(from.link.publish(vec![publish(event("a", text), AtLeastOnce)]));
    say("here").await.whole().unwrap();

    core.set_routes(&[route("main")], no_other).unwrap();
    let far = tokio::spawn(say("there"));
    let mut appends = Vec::new();
    assert!(ends.appends.next(&mut appends, 8).await);
    // One of two is wrong: none holds.
    let error = core.set_routes(&[route("embedded"), route("nowhere")], no_other).unwrap_err();
    assert_eq!(error, "no store nowhere");
    let far_again = tokio::spawn(say("there again"));
    assert!(ends.appends.next(&mut appends, 8).await);

    core.set_routes(&[], no_other).unwrap();
    say("here again").await.whole().unwrap();
    // The store of the route that is no more answers what it was given.
    for append in appends {
        append.receipt.unwrap().resolve(event::hub::Outcome::Kept);
    }
    far.await.unwrap().whole().unwrap();
    far_again.await.unwrap().whole().unwrap();
    assert_eq!(texts(&take(&mut *to.link, 2).await), ["here", "here again"]);
}

#[tokio::test]
async fn an_unknown_store_of_a_route_stops_the_start() {
    let (handle, feed) = MemoryStore::new().open();
    let route =
        RouteOptions { store: "nowhere".to_owned(), ..RouteOptions::new(TopicFilter::parse("a").unwrap()) };
    let error = Core::recover(options(), &[route], handle, feed, Vec::new()).await.err().unwrap();
    assert!(error.reason.contains("nowhere"));
}

#[tokio::test]
async fn a_stopped_core_says_so() {
    let core = core().await;
    let mut to = attach(&core, "to", FOREVER).await;
    core.stop().await;
    let mut out = Vec::new();
    let room = Room { numbered: 1, bytes: 1 };
    assert_eq!(next_deliveries(&mut *to.link, room, &mut out).await, Err(Closed::Stopping));
    let refused = core.attach(Principal::anonymous("x"), Attach::default()).await.err().unwrap();
    assert_eq!(refused.kind, RejectKind::Closed);
}

#[tokio::test]
async fn what_weft_says_about_itself_is_for_those_who_ask_and_only_when_it_changes() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let say = |uptime: &str| {
        let topic = |name: &str| event::TopicName::parse(format!("$SYS/broker/{name}")).unwrap();
        core.publish_system(vec![(topic("uptime"), uptime.to_owned()), (topic("version"), "1".to_owned())]);
    };
    let mut all = attach(&core, "all", Duration::ZERO).await;
    subscribe(&mut *all.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    say("0");
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "$SYS/broker/+", SubscribeOptions::new(ExactlyOnce)).await;
    let got = take(&mut *to.link, 2).await;
    assert_eq!(texts(&got), ["0", "1"]);
    assert!(got.iter().all(|d| d.retain && d.number.is_none() && d.guarantee == AtMostOnce));
    say("10");
    let got = take(&mut *to.link, 1).await;
    assert_eq!((texts(&got), got[0].retain), (vec!["10".to_owned()], false));
    nothing(&mut *all.link).await;
    assert!(store.records().iter().all(|record| record.event.is_none()), "none of it is in the log");
}

#[tokio::test]
async fn it_passes_the_contract_of_hubs() {
    event::testing::hub_contract::all(core).await;
}

/// A Weft that is killed again and again, each time before it has grown enough for a checkpoint.
#[tokio::test]
async fn what_was_replayed_counts_for_the_next_checkpoint() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut to = attach(&core, "to", FOREVER).await;
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    drop((to, core));
    let mut replayed = Vec::new();
    for life in 0..12 {
        let (core, recovered) = start(&store, options()).await;
        replayed.push(recovered.records);
        for n in 0..3 {
            send(&core, event("a", &format!("{life}/{n} {:1000}", "")), AtLeastOnce).await;
        }
        // One thread: a checkpoint that was begun is kept by then.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        drop(core);
    }
    assert!(replayed.iter().all(|records| *records < 30), "it never gets shorter: {replayed:?}");
}
