//! Rules, as people write them.

use event::{TopicFilter, TopicName};

use super::*;

const FILE: &str = r#"
admins = ["ops"]

[[rule]]
deny = "all"
client = "test-*"
topic = "factory/#"

[[rule]]
allow = "publish"
user = ["sensor-*", "gauge"]
address = "10.0.0.0/8"
topic = ["sensors/${user}/#", "by/%c"]

[[rule]]
deny = "subscribe"
topic = "factory/secret/+"

[[rule]]
allow = "all"
user = "*"
topic = "factory/#"

[[rule]]
allow = "subscribe"
user = ""
topic = ["public/#", "$SYS/broker/+"]
"#;

fn program(acl: &Acl, user: Option<&str>, client: &str, address: &str) -> Arc<Program> {
    acl.program(Subject { user, client, address: address.parse().unwrap() })
}

fn publishes(program: &Program, topic: &str) -> bool {
    program.may_publish(&TopicName::parse(topic).unwrap())
}

fn subscribes(program: &Program, filter: &str) -> bool {
    program.may_subscribe(&TopicFilter::parse(filter).unwrap())
}

#[test]
fn the_first_rule_that_matches_decides() {
    let acl = Acl::parse(FILE).unwrap();
    let sensor = program(&acl, Some("sensor-1"), "c1", "10.1.2.3");
    assert!(publishes(&sensor, "sensors/sensor-1/t") && publishes(&sensor, "by/c1"));
    assert!(!publishes(&sensor, "sensors/sensor-2/t") && !subscribes(&sensor, "sensors/sensor-1/t"));
    let elsewhere = program(&acl, Some("sensor-1"), "c1", "192.168.0.1");
    assert!(!publishes(&elsewhere, "sensors/sensor-1/t") && publishes(&elsewhere, "factory/x"));
    let test = program(&acl, Some("gauge"), "test-7", "10.0.0.1");
    assert!(!publishes(&test, "factory/x") && publishes(&test, "sensors/gauge/x"));
    let nobody = program(&acl, None, "c", "127.0.0.1");
    assert!(subscribes(&nobody, "public/#") && subscribes(&nobody, "$share/g/public/a"));
    assert!(
        !publishes(&nobody, "public/a") && !subscribes(&nobody, "factory/x") && !subscribes(&nobody, "#")
    );
    assert!(subscribes(&nobody, "$SYS/broker/uptime") && !subscribes(&nobody, "$SYS/#"));
    assert!(acl.administers(Some("ops")) && !acl.administers(Some("op")) && !acl.administers(None));
}

#[test]
fn a_subscription_is_whole_or_not_at_all() {
    let acl = Acl::parse(FILE).unwrap();
    let user = program(&acl, Some("u"), "c", "10.0.0.1");
    for (filter, allowed) in [
        ("factory/a/#", true),
        ("factory/+", true),
        ("factory/secret", true),
        ("factory/secret/a/b", true),
        ("factory/#", false),
        ("factory/+/a", false),
        ("factory/secret/a", false),
        ("#", false),
        ("+/a", false),
    ] {
        assert_eq!(subscribes(&user, filter), allowed, "{filter}");
    }
    assert!(publishes(&user, "factory/secret/a"), "that denial is for subscribers");
    let deep = format!("factory{}", "/x".repeat(40));
    assert!(publishes(&user, &deep) && !publishes(&user, &deep.replace("factory", "other")));
}

#[test]
fn names_that_are_no_level_get_nothing_by_places() {
    let acl = Acl::parse(
        "[[rule]]\ndeny = 'all'\ntopic = 'a/x${client}/b'\n[[rule]]\nallow = 'all'\ntopic = ['c/${user}', 'a/#', 'd/#']\n",
    )
    .unwrap();
    for client in ["+", "#", "x/y"] {
        let tricky = program(&acl, Some("#"), client, "::1");
        assert!(
            !publishes(&tricky, "c/x")
                && !subscribes(&tricky, "c/#")
                && !publishes(&tricky, "c/#x".trim_end_matches("#x"))
        );
        assert!(
            !publishes(&tricky, "a/x1/b") && publishes(&tricky, "d/x"),
            "the denial holds for every name"
        );
    }
    let plain = program(&acl, None, "1", "::1");
    assert!(!publishes(&plain, "a/x1/b") && publishes(&plain, "a/x2/b") && !publishes(&plain, "c/"));
}

#[test]
fn connections_with_the_same_rules_share_them() {
    let acl = Acl::parse(FILE).unwrap();
    let one = program(&acl, Some("a"), "1", "10.0.0.1");
    assert!(Arc::ptr_eq(&one, &program(&acl, Some("b"), "2", "10.0.0.2")));
    assert!(!Arc::ptr_eq(&one, &program(&acl, None, "1", "10.0.0.1")));
}

#[test]
fn a_mistake_names_its_line() {
    let mistake = |text: &str| {
        let error = Acl::parse(text).unwrap_err();
        format!("{}: {}", error.line, error.reason)
    };
    for (text, start) in [
        ("\n[[rule]]\nallow = 'all'\n", "2: missing field `topic`"),
        ("[[rule]]\nallow = 'al'\ntopic = 'a'\n", "2: unknown variant `al`"),
        ("\n[[rule]]\ntopic = 'a'\n", "2: a rule has one of allow and deny"),
        ("[[rule]]\nallow = 'all'\ndeny = 'all'\ntopic = 'a'\n", "1: a rule has one of"),
        ("[[rule]]\nallow = 'all'\ntopic = 'a/#/b'\n", "1: topic \"a/#/b\": [MQTT-4.7.1-1]"),
        (
            "[[rule]]\nallow = 'all'\ntopic = 'a/${usr}'\n",
            "1: topic \"a/${usr}\": the places are ${user} and",
        ),
        ("[[rule]]\nallow = 'all'\ntopic = '$share/g/a'\n", "1: topic \"$share/g/a\": leave $share"),
        ("[[rule]]\nallow = 'all'\ntopic = []\n", "1: a rule names at least one topic"),
        ("[[rule]]\nallow = 'all'\ntopics = 'a'\n", "3: unknown field `topics`"),
        ("[[rule]]\nallow = 'all'\ntopic = 'a'\naddress = '10/8'\n", "1: \"10/8\" is no address"),
        ("[[rule\n", "1: "),
    ] {
        let have = mistake(text);
        assert!(have.starts_with(start), "{have}\n should start with\n{start}");
    }
}

#[test]
fn a_star_is_any_text() {
    for (pattern, text, like) in [
        ("*", "", true),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "acb", false),
        ("a*a", "a", false),
        ("ab*bc", "abc", false),
        ("", "", true),
        ("a", "ab", false),
        ("**", "x", true),
    ] {
        assert_eq!(is_like(pattern, text), like, "{pattern} {text}");
    }
}
