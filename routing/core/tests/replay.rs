//! Subscriptions that start in the past: what comes, from where, in which order, and how they go over to the present.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::time::Duration;

use event::admin::Admin as _;
use event::hub::{Close, Granted, Link, Room, Subscribe, SubscribeOptions};
use event::store::Position;
use event::testing::MemoryStore;
use event::{ByteLimit, ClientId, Event, Guarantee, Parts, Reject, RejectKind, Start};
use routing::{Core, Options, ReplayOptions};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

fn wish(filter_text: &str, guarantee: Guarantee, start: Start) -> Subscribe {
    Subscribe { replay: Some(start), ..Subscribe::new(filter(filter_text), SubscribeOptions::new(guarantee)) }
}

async fn replay(link: &mut dyn Link, wanted: Vec<Subscribe>) -> Vec<Result<Granted, Reject>> {
    link.subscribe(wanted).await.unwrap()
}

async fn replay_one(link: &mut dyn Link, filter: &str, guarantee: Guarantee, start: Start) -> Granted {
    replay(link, vec![wish(filter, guarantee, start)]).await.remove(0).unwrap()
}

async fn say(core: &Core, topic: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        send(core, event(topic, &number.to_string()), AtLeastOnce).await;
    }
}

/// Takes and acks so many, some at a time.
async fn read(link: &mut dyn Link, count: usize) -> Vec<String> {
    let mut got = Vec::new();
    while got.len() < count {
        let some = take(link, (count - got.len()).min(4)).await;
        link.ack(&numbers(&some));
        got.extend(texts(&some));
    }
    got
}

fn all(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

/// As it was received at this time.
fn at(received_ms: u64, data: &str) -> Event {
    Event::new(Parts { received_ms, ..event("a", data).parts().clone() })
}

#[tokio::test]
async fn the_past_comes_first_and_then_the_present() {
    for (keep, guarantee) in [(Duration::ZERO, AtLeastOnce), (FOREVER, ExactlyOnce), (FOREVER, AtMostOnce)] {
        let core = core().await;
        say(&core, "a", 0..2000).await;
        say(&core, "b", 0..10).await;
        let mut to = attach(&core, "to", keep).await;
        let granted = replay_one(&mut *to.link, "a", guarantee, Start::All).await;
        assert_eq!(granted.guarantee, guarantee);
        let first = read(&mut *to.link, 100).await;
        say(&core, "a", 2000..2010).await;
        let rest = read(&mut *to.link, 1910).await;
        assert_eq!([first, rest].concat(), all(0..2010), "{guarantee:?}");
        say(&core, "a", 2010..2012).await;
        assert_eq!(read(&mut *to.link, 2).await, all(2010..2012));
        nothing(&mut *to.link).await;
    }
}

#[tokio::test]
async fn a_start_is_a_place_or_a_time() {
    let core = core().await;
    for n in 0..100_u64 {
        send(&core, at(10_000 + n * 10, &n.to_string()), AtLeastOnce).await;
    }
    let mut places = attach(&core, "places", Duration::ZERO).await;
    replay_one(&mut *places.link, "a", AtLeastOnce, Start::All).await;
    let places = take(&mut *places.link, 100).await;
    let position = places[41].position.unwrap();
    for (start, first) in [
        (Start::Behind(Position(0)), 0),
        (Start::Behind(position), 42),
        (Start::Behind(Position(position.0 - 1)), 41),
        (Start::Behind(Position(u64::MAX)), 100),
        (Start::Since(0), 0),
        (Start::Since(10_500), 50),
        (Start::Since(10_501), 51),
        (Start::Since(u64::MAX), 100),
        (Start::Ago(Duration::from_secs(60)), 100),
        (Start::Ago(Duration::MAX), 0),
    ] {
        let mut to = attach(&core, "to", Duration::ZERO).await;
        replay_one(&mut *to.link, "a", AtLeastOnce, start).await;
        assert_eq!(read(&mut *to.link, 100 - first).await, all(first..100), "{start:?}");
        nothing(&mut *to.link).await;
        send(&core, event("a", "now"), AtMostOnce).await;
        assert_eq!(texts(&take(&mut *to.link, 1).await), ["now"]);
    }
}

#[tokio::test]
async fn what_the_log_has_freed_is_left_out() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    say(&core, "a", 0..50).await;
    store.free_below(store.records()[20].position);
    let mut to = attach(&core, "to", Duration::ZERO).await;
    replay_one(&mut *to.link, "a", AtLeastOnce, Start::Behind(Position(1))).await;
    assert_eq!(read(&mut *to.link, 30).await, all(20..50));
}

#[tokio::test]
async fn several_filters_share_one_walk() {
    let core = core().await;
    for n in 0..60 {
        send(&core, event(["a", "b", "c"][n % 3], &n.to_string()), AtLeastOnce).await;
    }
    let mut to = attach(&core, "to", Duration::ZERO).await;
    let mut wanted: Vec<Subscribe> =
        ["a", "+", "b"].map(|filter| wish(filter, AtLeastOnce, Start::All)).to_vec();
    wanted.push(Subscribe::new(filter("d"), SubscribeOptions::new(AtLeastOnce)));
    for granted in replay(&mut *to.link, wanted).await {
        granted.unwrap();
    }
    assert_eq!(read(&mut *to.link, 60).await, all(0..60), "in the order of the log, each once");
    nothing(&mut *to.link).await;
    say(&core, "d", 0..1).await;
    say(&core, "c", 1..2).await;
    assert_eq!(read(&mut *to.link, 2).await, ["0", "1"], "from here on they are subscriptions like others");
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn only_what_is_allowed_and_makes_sense_is_replayed() {
    let mut options = options();
    options.replay = ReplayOptions { unfinished: 2, ..ReplayOptions::default() };
    let (core, _) = start(&MemoryStore::new(), options).await;
    say(&core, "a", 0..5).await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    let wanted = ["$share/g/a", "a", "b", "c"].map(|filter| wish(filter, AtLeastOnce, Start::All)).to_vec();
    let answers = replay(&mut *to.link, wanted).await;
    let kinds: Vec<Option<RejectKind>> =
        answers.iter().map(|answer| answer.as_ref().err().map(|reject| reject.kind)).collect();
    assert_eq!(kinds, [Some(RejectKind::Malformed), None, None, Some(RejectKind::Busy)]);
    assert_eq!(read(&mut *to.link, 5).await, all(0..5));
    nothing(&mut *to.link).await;
    replay_one(&mut *to.link, "c", AtLeastOnce, Start::All).await;
}

#[tokio::test]
async fn an_unsubscribe_ends_it_and_a_subscribe_replaces_it() {
    let core = core().await;
    say(&core, "a", 0..5000).await;
    for keep in [Duration::ZERO, FOREVER] {
        let mut to = attach(&core, "to", keep).await;
        replay_one(&mut *to.link, "a", AtLeastOnce, Start::All).await;
        assert_eq!(read(&mut *to.link, 20).await, all(0..20));
        assert_eq!(to.link.unsubscribe(vec![filter("a")]).await.unwrap(), [true]);
        // Some were on their way.
        let mut rest = 0;
        loop {
            let some = ready(&mut *to.link, 100).await;
            to.link.ack(&numbers(&some));
            rest += some.len();
            if some.is_empty() {
                break;
            }
        }
        assert!(rest < 2000, "{rest} came after the end");
        replay_one(&mut *to.link, "a", AtLeastOnce, Start::All).await;
        assert_eq!(read(&mut *to.link, 20).await, all(0..20));
        subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
        send(&core, event("a", "live"), AtLeastOnce).await;
        let mut got = String::new();
        let mut count = 0;
        while got != "live" {
            got = read(&mut *to.link, 1).await.remove(0);
            count += 1;
        }
        assert!(count < 2000);
        nothing(&mut *to.link).await;
        to.link.close(Close { will: false, keep: Some(Duration::ZERO) });
    }
}

#[tokio::test]
async fn a_subscriber_that_takes_nothing_is_sent_little_and_holds_up_nobody() {
    let (core, _) = start(&MemoryStore::new(), options()).await;
    for n in 0..3000 {
        send(&core, event("a", &format!("{n} {}", "x".repeat(1000))), AtLeastOnce).await;
    }
    let mut stuck = attach(&core, "stuck", Duration::ZERO).await;
    replay_one(&mut *stuck.link, "a", AtLeastOnce, Start::All).await;
    let mut out = Vec::new();
    for _ in 0..200 {
        // It polls, and has no room.
        let room = Room { numbered: 0, bytes: 1 << 20 };
        let polled = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(stuck.link.poll_deliveries(cx, room, &mut out).is_ready())
        });
        assert!(!polled.await);
        tokio::task::yield_now().await;
    }
    let mut other = attach(&core, "other", Duration::ZERO).await;
    replay_one(&mut *other.link, "a", AtLeastOnce, Start::All).await;
    assert_eq!(read(&mut *other.link, 3000).await.len(), 3000);
    let waits = core.session(&ClientId::from("stuck")).unwrap().queued;
    assert!((1..1500).contains(&waits), "{waits} events wait in memory");
}

#[tokio::test]
async fn a_queue_smaller_than_a_piece_of_the_log_loses_nothing() {
    for keep in [Duration::ZERO, FOREVER] {
        let small = Options { queue_events: 10, queue_bytes: ByteLimit(2000), ..options() };
        let (core, _) = start(&MemoryStore::new(), small).await;
        say(&core, "a", 0..500).await;
        let mut to = attach(&core, "to", keep).await;
        replay_one(&mut *to.link, "a", ExactlyOnce, Start::All).await;
        assert_eq!(read(&mut *to.link, 500).await, all(0..500));
    }
}

#[tokio::test]
async fn events_without_a_promise_come_in_their_place_while_it_runs() {
    let core = core().await;
    say(&core, "a", 0..1500).await;
    send(&core, event("a", "not kept"), AtMostOnce).await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    replay_one(&mut *to.link, "a", AtLeastOnce, Start::All).await;
    assert_eq!(read(&mut *to.link, 10).await, all(0..10));
    for n in 1500..1520 {
        send(&core, event("a", &n.to_string()), [AtMostOnce, AtLeastOnce][n % 2]).await;
    }
    assert_eq!(read(&mut *to.link, 1510).await, all(10..1520));
    nothing(&mut *to.link).await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_keeps_to_its_rate() {
    let mut options = options();
    options.replay = ReplayOptions { bytes_per_second: ByteLimit::kib(100), ..ReplayOptions::default() };
    let (core, _) = start(&MemoryStore::new(), options).await;
    for _ in 0..1000 {
        send(&core, event("a", &"x".repeat(900)), AtLeastOnce).await;
    }
    let mut to = attach(&core, "to", Duration::ZERO).await;
    let begin = tokio::time::Instant::now();
    replay_one(&mut *to.link, "a", AtLeastOnce, Start::All).await;
    read(&mut *to.link, 1000).await;
    // A million bytes, of which the first hundred thousand are free.
    let took = begin.elapsed().as_secs_f64();
    assert!((7.0..12.0).contains(&took), "{took} s");
}

#[tokio::test]
async fn a_durable_session_goes_on_where_it_was() {
    let store = MemoryStore::new();
    let (mut core, _) = start(&store, options()).await;
    say(&core, "a", 0..2000).await;
    let mut to = attach(&core, "to", FOREVER).await;
    replay_one(&mut *to.link, "a", ExactlyOnce, Start::All).await;
    let mut got = read(&mut *to.link, 100).await;
    let mut published = 2000;
    for round in 0..6 {
        if round % 2 == 0 {
            to.link.close(Close { will: false, keep: None });
        } else {
            // A crash runs no destructor.
            std::mem::forget(to);
            core = start(&store, options()).await.0;
        }
        say(&core, "a", published..published + 50).await;
        published += 50;
        store.free_below(store.needed());
        to = attach(&core, "to", FOREVER).await;
        assert!(to.present);
        got.extend(read(&mut *to.link, 300).await);
    }
    got.extend(read(&mut *to.link, 400).await);
    assert_eq!(got, all(0..published));
    say(&core, "a", published..published + 1).await;
    assert_eq!(read(&mut *to.link, 1).await, all(published..published + 1));
}
