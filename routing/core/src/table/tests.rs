//! Which rules decide, and what comes of an event.

use event::Value;
use proptest::prelude::*;

use super::*;

fn rule(topic: &str, store: &str, durability: Durability) -> RouteOptions {
    let topic = TopicFilter::parse(topic).unwrap();
    RouteOptions { store: store.into(), durability, ..RouteOptions::new(topic) }
}

fn to(topic: &str) -> TargetOptions {
    TargetOptions { topic: Some(topic.to_owned()), ..TargetOptions::default() }
}

fn cel(text: &str) -> Option<RouteFilter> {
    Some(RouteFilter::try_from(format!("cel: {text}")).unwrap())
}

fn compile(rules: &[RouteOptions]) -> RouteTable {
    RouteTable::compile(rules, &["main".into()]).unwrap()
}

fn legs(table: &RouteTable, event: &Event, came: Came<'_>) -> Result<Legs, Reject> {
    table.ways(event.topic()).legs(event, came, &Metrics::new()).map(|made| made.legs)
}

/// The topic, the remote store and the promise of each leg.
fn shown(table: &RouteTable, event: &Event) -> Vec<(String, Option<usize>, Durability)> {
    let legs = legs(table, event, Came::default()).unwrap();
    let show = |leg: &Leg| {
        (leg.event.topic().to_string(), leg.route.remote, leg.route.durability(Guarantee::AtLeastOnce))
    };
    legs.iter().map(show).collect()
}

#[test]
fn the_first_rule_that_matches_decides() {
    let table = compile(&[
        rule("a/b", EMBEDDED, Durability::Written),
        rule("a/#", "main", Durability::Synced),
        rule("+/b", EMBEDDED, Durability::Received),
    ]);
    for (topic, remote, durability) in [
        ("a/b", None, Durability::Written),
        ("a/c", Some(0), Durability::Remote),
        ("x/b", None, Durability::Received),
        ("x", None, Durability::Synced),
    ] {
        let event = crate::testing::event(topic, "");
        assert_eq!(shown(&table, &event), [(topic.to_owned(), remote, durability)]);
        let only = table.ways(event.topic()).only().unwrap();
        assert_eq!((only.remote, only.durability(Guarantee::AtLeastOnce)), (remote, durability));
        assert_eq!(only.durability(Guarantee::AtMostOnce), Durability::Received);
    }
}

#[test]
fn an_event_goes_by_the_first_rule_that_it_passes() {
    let with = |filter, rule: RouteOptions| RouteOptions { filter, ..rule };
    let cesql = RouteFilter::try_from("cesql: subject = 'a/c'".to_owned()).unwrap();
    let table = compile(&[
        with(cel("data.total > 100"), rule("a/#", "main", Durability::Synced)),
        with(Some(cesql), rule("+/c", EMBEDDED, Durability::Received)),
        rule("a/b", EMBEDDED, Durability::Written),
        with(cel("true"), rule("a/b", "main", Durability::Synced)),
    ]);
    for (topic, data, remote, durability) in [
        ("a/b", "{\"total\":101}", Some(0), Durability::Remote),
        ("a/b", "{\"total\":100}", None, Durability::Written),
        ("a/b", "no json", None, Durability::Written),
        ("a/c", "{}", None, Durability::Received),
        ("b/c", "{\"total\":101}", None, Durability::Synced),
    ] {
        let event = crate::testing::event(topic, data);
        assert_eq!(shown(&table, &event), [(topic.to_owned(), remote, durability)], "{topic} {data}");
    }
}

#[test]
fn a_protocol_is_a_condition() {
    let options = RouteOptions { protocol: Some(Protocol::Http), ..rule("#", EMBEDDED, Durability::Written) };
    let table = compile(&[options, rule("#", EMBEDDED, Durability::Received)]);
    let event = crate::testing::event("a", "x");
    for (protocol, durability) in [
        (Some(Protocol::Http), Durability::Written),
        (Some(Protocol::Mqtt), Durability::Received),
        (None, Durability::Received),
    ] {
        let legs = legs(&table, &event, Came { protocol, ..Came::default() }).unwrap();
        assert_eq!(legs[0].route.durability(Guarantee::AtLeastOnce), durability, "{protocol:?}");
    }
}

#[test]
fn a_listener_is_a_condition() {
    let plant = RouteOptions { listener: Some("plant".into()), ..rule("#", EMBEDDED, Durability::Written) };
    let table = compile(&[plant]);
    let event = crate::testing::event("a", "");
    for (listener, durability) in
        [(Some("plant"), Durability::Written), (Some("mqtt"), Durability::Synced), (None, Durability::Synced)]
    {
        let legs = legs(&table, &event, Came { listener, ..Came::default() }).unwrap();
        assert_eq!(legs[0].route.durability(Guarantee::ExactlyOnce), durability);
    }
}

#[test]
fn targets_take_the_place_of_the_event_and_copies_do_not() {
    let copy = RouteOptions {
        copy: true,
        to: vec![to("audit/{2}"), TargetOptions { store: Some("main".into()), ..to("all/{topic}") }],
        ..rule("a/+", EMBEDDED, Durability::Written)
    };
    let moved = RouteOptions {
        to: vec![TargetOptions { durability: Some(Durability::Received), ..to("by/{data.who}") }],
        ..rule("a/b", EMBEDDED, Durability::Written)
    };
    let table = compile(&[copy, moved]);
    let event = crate::testing::event("a/b", "{\"who\":\"me/you\"}");
    assert_eq!(
        shown(&table, &event),
        [
            ("audit/b".to_owned(), None, Durability::Written),
            ("all/a/b".to_owned(), Some(0), Durability::Remote),
            ("by/me_you".to_owned(), None, Durability::Received),
        ]
    );
    let event = crate::testing::event("a/c", "");
    let last = ("a/c".to_owned(), None, Durability::Synced);
    assert_eq!(shown(&table, &event)[2], last, "the default behind copies");
}

#[test]
fn the_event_as_it_is_goes_to_a_store_once() {
    let copy = |rule| RouteOptions { copy: true, ..rule };
    let table = compile(&[
        copy(rule("a", EMBEDDED, Durability::Received)),
        copy(rule("a", "main", Durability::Synced)),
        copy(rule("#", "main", Durability::Synced)),
        rule("a", EMBEDDED, Durability::Written),
    ]);
    let event = crate::testing::event("a", "");
    assert_eq!(
        shown(&table, &event),
        [("a".to_owned(), None, Durability::Written), ("a".to_owned(), Some(0), Durability::Remote)]
    );
}

#[test]
fn what_cannot_be_made_is_left_out_or_refused_and_never_lost() {
    let with = |missing, topic: &str| TargetOptions { missing, ..to(topic) };
    for (targets, topics) in [
        (vec![with(Missing::Empty, "x/{data.no}")], Some(vec!["x/"])),
        // No topic comes of it: by the rules behind it.
        (vec![with(Missing::Empty, "{data.no}")], Some(vec!["a"])),
        (vec![with(Missing::Skip, "x/{data.no}")], Some(vec!["a"])),
        (vec![with(Missing::Skip, "x/{data.no}"), to("y")], Some(vec!["y"])),
        (vec![to("y"), with(Missing::Refuse, "x/{data.no}")], None),
        // Nobody gets at the topics of Weft by what is in an event.
        (vec![with(Missing::Empty, "{data.sys}/x")], Some(vec!["a"])),
        (vec![with(Missing::Refuse, "{data.sys}/x")], None),
    ] {
        let table = compile(&[RouteOptions { to: targets, ..rule("a", EMBEDDED, Durability::Synced) }]);
        let event = crate::testing::event("a", "{\"sys\":\"$SYS\"}");
        let legs = legs(&table, &event, Came::default());
        let made =
            legs.ok().map(|legs| legs.iter().map(|leg| leg.event.topic().to_string()).collect::<Vec<_>>());
        assert_eq!(made, topics.map(|list| list.into_iter().map(str::to_owned).collect()));
    }
}

#[test]
fn an_event_that_a_store_brings_back_stays_as_it_is() {
    let table =
        compile(&[RouteOptions { to: vec![to("x/{topic}")], ..rule("#", "main", Durability::Synced) }]);
    let event = crate::testing::event("x/a", "");
    let home = table.ways(event.topic()).home(&event, &Metrics::new());
    assert_eq!((home.remote, home.durability(Guarantee::AtLeastOnce)), (None, Durability::Synced));
}

#[test]
fn mistakes_are_told_with_their_place() {
    let with = |to: TargetOptions| RouteOptions {
        to: vec![TargetOptions::default(), to],
        ..rule("a/#", EMBEDDED, Durability::Synced)
    };
    let one = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into();
    let both = ["a", "b"].map(|old| (old.to_owned(), "new".to_owned())).into();
    let plain = TargetOptions::default;
    for (target, key, reason) in [
        (to("a/{data"), ("topic", None), "at character 3: a place is closed"),
        (to("$SYS/{1}"), ("topic", None), "Weft's own"),
        (TargetOptions { key: Some("}".into()), ..plain() }, ("key", None), "closes no place"),
        (TargetOptions { data: Some("cel: 1 +".into()), ..plain() }, ("data", None), "at character"),
        (TargetOptions { drop: vec!["id".into()], ..plain() }, ("drop", None), "every event has id"),
        (
            TargetOptions { rename: one("old", "Neu"), ..plain() },
            ("rename", Some("old")),
            "\"Neu\" is no attribute name",
        ),
        (TargetOptions { rename: both, ..plain() }, ("rename", Some("b")), "another one becomes new already"),
        (
            TargetOptions { set: one("specversion", "1"), ..plain() },
            ("set", Some("specversion")),
            "cannot be changed",
        ),
        (TargetOptions { set: one("x", "{"), ..plain() }, ("set", Some("x")), "a place is closed"),
        (
            TargetOptions { durability: Some(Durability::Remote), ..plain() },
            ("durability", None),
            "not remote",
        ),
    ] {
        let mistake = with(target).check().unwrap_err();
        assert_eq!(
            (mistake.target, mistake.key.0, mistake.key.1.as_deref()),
            (Some(1), key.0, key.1),
            "{mistake}"
        );
        assert!(mistake.reason.contains(reason), "{mistake}");
    }
    let filter = Some(RouteFilter::try_from("cesql: type == 'x'".to_owned()).unwrap());
    let wrong = RouteOptions { filter, ..rule("a/#", EMBEDDED, Durability::Synced) };
    let error = RouteTable::compile(&[wrong], &[]).unwrap_err();
    assert_eq!(
        error,
        "route a/#: the cesql filter is wrong: at character 6: \"==\" is written \"=\" in CESQL"
    );
}

#[test]
fn an_unknown_store_is_named() {
    let error = RouteTable::compile(&[rule("a", "mian", Durability::Synced)], &["main".into()]).unwrap_err();
    assert_eq!(error, "route a: store \"mian\" is not open (open: embedded, main)");
}

/// Rules of few topics and filters, so that many of them meet.
fn rules() -> impl Strategy<Value = Vec<RouteOptions>> {
    let topic = prop::sample::select(vec!["#", "+", "a", "a/#", "a/+", "+/b", "a/b", "b/#", "$x/#"]);
    let filter = prop::sample::select(vec![None, Some("data.n > 1"), Some("data.n < 3"), Some("data.none")]);
    let targets = prop::collection::vec(
        prop::sample::select(vec!["t/{1}", "{topic}/x", "{data.n}", "{data.no}"]),
        0..3,
    );
    let one = (topic, filter, targets, any::<bool>(), any::<bool>());
    let rule = one.prop_map(|(topic, filter, targets, copy, remote)| RouteOptions {
        filter: filter.and_then(cel),
        copy,
        to: targets.into_iter().map(to).collect(),
        ..rule(topic, if remote { "main" } else { EMBEDDED }, Durability::Written)
    });
    prop::collection::vec(rule, 0..12)
}

/// The same, told the long way: rules one by one, filters and templates as they read.
fn naive(rules: &[RouteOptions], topic: &str, n: i64) -> Vec<(String, Option<usize>)> {
    let mut found: Vec<(String, Option<usize>, bool)> = Vec::new();
    let own = |found: &mut Vec<(String, Option<usize>, bool)>, remote| {
        if !found.iter().any(|(_, known, own)| *own && *known == remote) {
            found.push((topic.to_owned(), remote, true));
        }
    };
    let parsed = TopicName::parse(topic.to_owned()).unwrap();
    for rule in rules.iter().filter(|rule| rule.topic.matches(&parsed)) {
        let passes = match rule.filter.clone().map(String::from).as_deref() {
            None => true,
            Some("cel: data.n > 1") => n > 1,
            Some("cel: data.n < 3") => n < 3,
            Some(_) => false,
        };
        if !passes {
            continue;
        }
        let remote = (rule.store != EMBEDDED).then_some(0);
        let mut taken = rule.to.is_empty();
        if taken {
            own(&mut found, remote);
        }
        for target in &rule.to {
            let made = match target.topic.as_deref().unwrap() {
                "t/{1}" => format!("t/{}", topic.split('/').next().unwrap()),
                "{topic}/x" => format!("{topic}/x"),
                "{data.n}" => n.to_string(),
                _ => continue,
            };
            found.push((made, remote, false));
            taken = true;
        }
        if taken && !rule.copy {
            return found.into_iter().map(|(topic, remote, _)| (topic, remote)).collect();
        }
    }
    own(&mut found, None);
    found.into_iter().map(|(topic, remote, _)| (topic, remote)).collect()
}

proptest! {
    #[test]
    fn routes_are_those_of_asking_one_rule_after_the_other(rules in rules(), n in 0i64..5) {
        let table = compile(&rules);
        for topic in ["a", "b", "a/b", "a/c", "c/b", "b/c/d", "$x/a"] {
            let parts = crate::testing::event(topic, "").parts().clone();
            let event = Event::new(event::Parts { data: format!("{{\"n\":{n}}}").into(), ..parts });
            let made: Vec<(String, Option<usize>)> =
                shown(&table, &event).into_iter().map(|(topic, remote, _)| (topic, remote)).collect();
            prop_assert_eq!(made, naive(&rules, topic, n), "{}", topic);
        }
    }
}

#[test]
fn a_key_is_the_partition_key() {
    let keyed = TargetOptions { key: Some("{data.who}".into()), ..TargetOptions::default() };
    let table = compile(&[RouteOptions { to: vec![keyed], ..rule("a", EMBEDDED, Durability::Synced) }]);
    let event = crate::testing::event("a", "{\"who\":\"k1\"}");
    let legs = legs(&table, &event, Came::default()).unwrap();
    let extensions = &legs[0].event.attributes().unwrap().extensions;
    assert_eq!(**extensions, [("partitionkey".into(), Value::String("k1".into()))]);
}
