//! Subscriptions with filters: which events come, with which numbers, also after a crash, and which filters are refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod support;

use std::time::Duration;

use event::hub::{Attached, Granted, Hub as _, Link, Subscribe, SubscribeOptions};
use event::testing::MemoryStore;
use event::{Guarantee, Language, Principal, Reject, RejectKind, Select, Start};
use routing::{FilterOptions, Options};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Language::{Cel, Cesql};

fn wish(topics: &str, guarantee: Guarantee, (language, text): (Language, &'static str)) -> Subscribe {
    let select = Some(Select { language, text: text.into() });
    Subscribe { select, ..Subscribe::new(filter(topics), SubscribeOptions::new(guarantee)) }
}

async fn ask(link: &mut dyn Link, wanted: Subscribe) -> Result<Granted, Reject> {
    link.subscribe(vec![wanted]).await.unwrap().remove(0)
}

#[tokio::test]
async fn only_what_passes_is_delivered() {
    for keep in [Duration::ZERO, FOREVER] {
        let core = core().await;
        let mut to = attach(&core, "to", keep).await;
        ask(&mut *to.link, wish("a/#", AtLeastOnce, (Cel, "data.t > 20"))).await.unwrap();
        ask(&mut *to.link, wish("b", AtMostOnce, (Cesql, "subject = 'b' AND type = 'weft.message'")))
            .await
            .unwrap();
        for (topic, data) in [
            ("a/1", "{\"t\":21}"),
            ("a/2", "{\"t\":20}"),
            ("a/3", "no json"),
            ("b", "b"),
            ("a/4", "{\"t\":30}"),
        ] {
            for guarantee in [AtLeastOnce, AtMostOnce] {
                send(&core, event(topic, data), guarantee).await;
            }
        }
        let mut got = texts(&take(&mut *to.link, 6).await);
        got.sort();
        assert_eq!(got, ["b", "b", "{\"t\":21}", "{\"t\":21}", "{\"t\":30}", "{\"t\":30}"]);
        nothing(&mut *to.link).await;
    }
}

/// As if each event met only the subscriptions whose filters it passes \[MQTT-3.3.4-2, -3\].
#[tokio::test]
async fn overlapping_subscriptions_deliver_once() {
    let core = core().await;
    let mut to = attach(&core, "to", Duration::ZERO).await;
    let with_id = |id, mut wanted: Subscribe| {
        wanted.options.id = id;
        wanted
    };
    ask(&mut *to.link, with_id(1, wish("a/+", AtLeastOnce, (Cel, "data > 1")))).await.unwrap();
    ask(&mut *to.link, with_id(2, wish("a/#", ExactlyOnce, (Cel, "data > 2")))).await.unwrap();
    let plain = SubscribeOptions { id: 3, ..SubscribeOptions::new(AtMostOnce) };
    subscribe(&mut *to.link, "a/b", plain).await;
    for data in ["1", "2", "3"] {
        send(&core, event("a/b", data), ExactlyOnce).await;
        send(&core, event("a/c", data), ExactlyOnce).await;
    }
    let mut got: Vec<(String, Guarantee, Vec<u32>)> = take(&mut *to.link, 5)
        .await
        .iter()
        .map(|delivery| {
            let mut ids = delivery.subscriptions.as_deref().unwrap_or_default().to_vec();
            ids.sort_unstable();
            let text =
                format!("{} {}", delivery.event.topic(), String::from_utf8_lossy(delivery.event.data()));
            (text, delivery.guarantee, ids)
        })
        .collect();
    got.sort();
    let expected = [
        ("a/b 1", AtMostOnce, vec![3]),
        ("a/b 2", AtLeastOnce, vec![1, 3]),
        ("a/b 3", ExactlyOnce, vec![1, 2, 3]),
        ("a/c 2", AtLeastOnce, vec![1]),
        ("a/c 3", ExactlyOnce, vec![1, 2]),
    ];
    assert_eq!(got, expected.map(|(text, guarantee, ids)| (text.to_owned(), guarantee, ids)));
}

#[tokio::test]
async fn a_filter_is_replaced_with_its_subscription() {
    let core = core().await;
    let mut to = attach(&core, "to", FOREVER).await;
    ask(&mut *to.link, wish("a", AtLeastOnce, (Cel, "data == 1"))).await.unwrap();
    ask(&mut *to.link, wish("a", AtLeastOnce, (Cel, "data == 2"))).await.unwrap();
    send(&core, event("a", "1"), AtLeastOnce).await;
    send(&core, event("a", "2"), AtLeastOnce).await;
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["2"]);
    subscribe(&mut *to.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    send(&core, event("a", "1"), AtLeastOnce).await;
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["1"]);
    to.link.unsubscribe(vec![filter("a")]).await.unwrap();
    send(&core, event("a", "2"), AtLeastOnce).await;
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn retained_events_and_replays_are_filtered() {
    let core = core().await;
    let who = Principal::anonymous("tester");
    for (topic, data) in [("a", "1"), ("b", "2"), ("c", "3")] {
        let mut publish = publish(event(topic, data), AtLeastOnce);
        publish.retain = true;
        settle(core.publish(&who, vec![publish])).await.whole().unwrap();
    }
    for keep in [Duration::ZERO, FOREVER] {
        let client = format!("to-{}", keep.as_secs());
        let mut to = attach(&core, &client, keep).await;
        ask(&mut *to.link, wish("#", AtLeastOnce, (Cel, "data >= 2 && data < 10"))).await.unwrap();
        let mut got = texts(&take(&mut *to.link, 2).await);
        got.sort();
        assert_eq!(got, ["2", "3"]);
        nothing(&mut *to.link).await;
        to.link.unsubscribe(vec![filter("#")]).await.unwrap();
        let mut wanted = wish("+", AtLeastOnce, (Cel, "data != 2 && data < 10 || data == 11"));
        wanted.replay = Some(Start::All);
        ask(&mut *to.link, wanted).await.unwrap();
        assert_eq!(texts(&take(&mut *to.link, 2).await), ["1", "3"]);
        for data in ["10", "11"] {
            send(&core, event("d", data), AtMostOnce).await;
        }
        assert_eq!(texts(&take(&mut *to.link, 1).await), ["11"], "it is live now");
    }
}

#[tokio::test]
async fn what_is_no_filter_is_refused_and_limits_hold() {
    let small = Options { filter: FilterOptions { session: 2, different: 3 }, ..options() };
    let (core, _) = start(&MemoryStore::new(), small).await;
    for keep in [Duration::ZERO, FOREVER] {
        let mut to = attach(&core, "to", keep).await;
        let link = &mut *to.link;
        let broken = ask(link, wish("a", AtLeastOnce, (Cesql, "type == 'x'"))).await.unwrap_err();
        assert_eq!(broken.kind, RejectKind::Malformed);
        assert_eq!(
            broken.reason,
            "the cesql filter is wrong: at character 6: \"==\" is written \"=\" in CESQL"
        );
        let shared = ask(link, wish("$share/g/a", AtLeastOnce, (Cel, "tru"))).await.unwrap_err();
        assert_eq!(shared.kind, RejectKind::Malformed);
        // A refusal refuses nothing else.
        let wanted = vec![
            wish("a", AtLeastOnce, (Cel, "data == 1")),
            wish("b", AtLeastOnce, (Cel, "data = 1")),
            wish("c", AtLeastOnce, (Cel, "data == 2")),
            wish("d", AtLeastOnce, (Cel, "data == 3")),
        ];
        let answers = link.subscribe(wanted).await.unwrap();
        let kinds: Vec<_> = answers.iter().map(|one| one.as_ref().err().map(|reject| reject.kind)).collect();
        assert_eq!(kinds, [None, Some(RejectKind::Malformed), None, Some(RejectKind::Busy)]);
        ask(link, wish("c", AtLeastOnce, (Cel, "data == 2"))).await.unwrap();
        let mut other = attach(&core, "other", keep).await;
        ask(&mut *other.link, wish("a", AtLeastOnce, (Cel, "data == 1"))).await.unwrap();
        ask(&mut *other.link, wish("b", AtLeastOnce, (Cel, "data == 5"))).await.unwrap();
        let mut third = attach(&core, "third", keep).await;
        let full = ask(&mut *third.link, wish("b", AtLeastOnce, (Cel, "data == 6"))).await.unwrap_err();
        assert_eq!(
            (full.kind, &*full.reason),
            (RejectKind::Busy, "3 different filters, the limit core.filter.different")
        );
        ask(&mut *third.link, wish("b", AtLeastOnce, (Cel, "data == 5"))).await.unwrap();
        other.link.unsubscribe(vec![filter("b")]).await.unwrap();
        third.link.unsubscribe(vec![filter("b")]).await.unwrap();
        ask(&mut *third.link, wish("b", AtLeastOnce, (Cel, "data == 6"))).await.unwrap();
        for mut one in [to, other, third] {
            one.link.unsubscribe(["a", "b", "c"].map(filter).to_vec()).await.unwrap();
        }
    }
}

/// Durable sessions with filters, crashes and checkpoints at random: each gets what a plain look at all events says, in
/// order, once, with the numbers it had before.
#[test]
fn what_a_session_is_owed_is_a_function_of_the_log() {
    const FILTERS: [(Language, &str); 4] = [
        (Cel, "data.n % 2 == 0"),
        (Cel, "data.kind == 'x' || data.n > 50"),
        (Cesql, "wefttopic LIKE '%/x' AND subject != 't/y'"),
        (Cel, "has(data.extra) && data.extra.size() > 1"),
    ];
    let passes = |filter: usize, n: u64, kind: &str, extra: Option<u64>| match filter {
        0 => n.is_multiple_of(2),
        1 => kind == "x" || n > 50,
        2 => kind == "x",
        _ => extra.is_some_and(|extra| extra > 1),
    };
    seeds(200, |seed, steps| async move {
        let store = MemoryStore::new();
        let (mut core, _) = start(&store, options()).await;
        let mut expected: Vec<Vec<String>> = vec![Vec::new(); FILTERS.len()];
        for (at, select) in FILTERS.into_iter().enumerate() {
            let mut to = attach(&core, &format!("to-{at}"), FOREVER).await;
            ask(&mut *to.link, wish("t/#", ExactlyOnce, select)).await.unwrap();
        }
        let mut random = seed;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        for step in 0..steps {
            let (n, kind) = (next() % 100, if next() % 2 == 0 { "x" } else { "y" });
            let extra = (next() % 3 == 0).then(|| next() % 4);
            let tail = extra.map_or(String::new(), |extra| {
                format!(",\"extra\":{:?}", vec![0; usize::try_from(extra).unwrap()])
            });
            let data = format!("{{\"step\":{step},\"n\":{n},\"kind\":\"{kind}\"{tail}}}");
            send(&core, event(&format!("t/{kind}"), &data), ExactlyOnce).await;
            for (at, expected) in expected.iter_mut().enumerate() {
                if passes(at, n, kind, extra) {
                    expected.push(data.clone());
                }
            }
            if next() % 40 == 0 {
                if next() % 2 == 0 {
                    core.stop().await;
                }
                drop(core);
                (core, _) = start(&store, options()).await;
            }
        }
        for (at, expected) in expected.iter().enumerate() {
            let mut to = attach(&core, &format!("to-{at}"), FOREVER).await;
            assert!(to.present, "seed {seed}");
            let (mut got, mut all) = (Vec::new(), Vec::new());
            while got.len() < expected.len() {
                let some = take(&mut *to.link, (expected.len() - got.len()).min(8)).await;
                to.link.ack(&numbers(&some));
                all.extend(numbers(&some));
                got.extend(texts(&some));
            }
            assert_eq!(got, *expected, "seed {seed}, filter {at}");
            assert_eq!(all, (0..expected.len() as u64).collect::<Vec<_>>(), "seed {seed}, filter {at}");
            nothing(&mut *to.link).await;
        }
    });
}

/// What each of a group's members got since it was asked last; acknowledged.
async fn drain(members: &mut [&mut Attached]) -> Vec<String> {
    let mut all = Vec::new();
    for member in members {
        let got = ready(&mut *member.link, 100).await;
        member.link.ack(&numbers(&got));
        all.extend(texts(&got));
    }
    all.sort();
    all
}

#[tokio::test]
async fn the_members_of_a_group_have_one_filter() {
    for keep in [Duration::ZERO, FOREVER] {
        let core = core().await;
        let mut one = attach(&core, "one", keep).await;
        let mut two = attach(&core, "two", keep).await;
        let big = |guarantee| wish("$share/g/a/#", guarantee, (Cel, "data > 10"));
        ask(&mut *one.link, big(AtLeastOnce)).await.unwrap();
        ask(&mut *two.link, big(ExactlyOnce)).await.unwrap();
        let other =
            ask(&mut *two.link, wish("$share/g/a/#", AtLeastOnce, (Cel, "data > 11"))).await.unwrap_err();
        assert_eq!(
            (other.kind, &*other.reason),
            (
                RejectKind::Malformed,
                "the members of this group have the cel filter \"data > 10\"; all of them have the same"
            )
        );
        let none = Subscribe::new(filter("$share/g/a/#"), SubscribeOptions::new(AtLeastOnce));
        assert_eq!(ask(&mut *two.link, none.clone()).await.unwrap_err().kind, RejectKind::Malformed);
        // Another group is another group.
        ask(&mut *two.link, wish("$share/h/a/#", AtLeastOnce, (Cel, "data > 11"))).await.unwrap();
        two.link.unsubscribe(vec![filter("$share/h/a/#")]).await.unwrap();
        for guarantee in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
            for data in ["9", "10", "11", "12", "x"] {
                send(&core, event("a/b", data), guarantee).await;
            }
            // A durable member has it when its record was passed.
            send(&core, event("else", ""), AtLeastOnce).await;
            assert_eq!(drain(&mut [&mut one, &mut two]).await, ["11", "12"], "{guarantee:?}");
        }
        // Who is alone may choose anew, and so may a group without members.
        one.link.unsubscribe(vec![filter("$share/g/a/#")]).await.unwrap();
        ask(&mut *two.link, none).await.unwrap();
        send(&core, event("a/b", "9"), AtLeastOnce).await;
        send(&core, event("else", ""), AtLeastOnce).await;
        assert_eq!(drain(&mut [&mut one, &mut two]).await, ["9"]);
        assert_eq!(ask(&mut *one.link, big(AtLeastOnce)).await.unwrap_err().kind, RejectKind::Malformed);
    }
}

/// Both are asked before the dispatcher passed either: the record that is first says what the filter is.
#[tokio::test]
async fn members_that_come_at_the_same_time_have_one_filter_after_a_crash_as_well() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut one = attach(&core, "one", FOREVER).await;
    let mut two = attach(&core, "two", FOREVER).await;
    let first = one.link.subscribe(vec![wish("$share/g/a", AtLeastOnce, (Cel, "data > 10"))]);
    let second = two.link.subscribe(vec![wish("$share/g/a", AtLeastOnce, (Cel, "data < 10"))]);
    first.await.unwrap().remove(0).unwrap();
    assert_eq!(second.await.unwrap().remove(0).unwrap_err().kind, RejectKind::Malformed);
    for data in ["1", "11"] {
        send(&core, event("a", data), AtLeastOnce).await;
    }
    drop((core, one, two));
    let (core, _) = start(&store, options()).await;
    send(&core, event("a", "2"), AtLeastOnce).await;
    send(&core, event("a", "12"), AtLeastOnce).await;
    let mut one = attach(&core, "one", FOREVER).await;
    let mut two = attach(&core, "two", FOREVER).await;
    send(&core, event("else", ""), AtLeastOnce).await;
    assert_eq!(drain(&mut [&mut two]).await, [""; 0]);
    assert_eq!(drain(&mut [&mut one]).await, ["11", "12"]);
}

/// A member that ends with its connection leaves no record, so it gives way to a durable one that came at the same time.
#[tokio::test]
async fn a_durable_member_is_one_whoever_else_came_meanwhile() {
    let core = core().await;
    let mut fleeting = attach(&core, "fleeting", Duration::ZERO).await;
    let mut durable = attach(&core, "durable", FOREVER).await;
    let second = durable.link.subscribe(vec![wish("$share/g/a", AtLeastOnce, (Cel, "data > 10"))]);
    let first = fleeting.link.subscribe(vec![wish("$share/g/a", AtLeastOnce, (Cel, "data < 10"))]);
    let (first, second) = (first.await.unwrap().remove(0), second.await.unwrap().remove(0));
    second.unwrap();
    let refused = first.is_err();
    for data in ["1", "11"] {
        send(&core, event("a", data), AtLeastOnce).await;
    }
    send(&core, event("else", ""), AtLeastOnce).await;
    assert_eq!(drain(&mut [&mut fleeting]).await, [""; 0], "refused: {refused}");
    assert_eq!(drain(&mut [&mut durable]).await, ["11"]);
}
