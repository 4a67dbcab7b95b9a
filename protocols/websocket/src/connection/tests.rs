//! A conversation, frame by frame.

use event::store::Position;
use event::{Event, Guarantee, Parts, Reject, RejectKind, TopicName};
use serde_json::{Value, json};

use super::*;

fn connection(acks: bool) -> Connection {
    Connection::new(Arc::from("web"), acks, &Options { receive_max: 4, ..Options::default() })
}

fn event(ty: &str, members: &str) -> Bytes {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/web","type":"{ty}"{members}}}"#).into()
}

fn say(connection: &mut Connection, text: impl Into<Bytes>) {
    connection.handle_text(text.into(), &mut Stamps::starting_at(1), 7);
}

fn delivery(topic: &str, position: Option<u64>, number: Option<u64>) -> Delivery {
    let event = Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::from_static(b"1"),
        stamp: 1,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    });
    Delivery {
        event,
        guarantee: Guarantee::AtLeastOnce,
        retain: false,
        again: false,
        number,
        position: position.map(Position),
        subscriptions: None,
    }
}

/// All actions, in short words.
fn actions(connection: &mut Connection) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(action) = connection.poll_action() {
        all.push(match action {
            Action::Publish(publish, said) => {
                format!("publish {} {} retain={}", publish.event.topic(), said.id, publish.retain)
            }
            Action::Subscribe(asked) => {
                let starts: Vec<_> = asked.wanted.iter().map(|one| one.replay).collect();
                format!("subscribe {starts:?}")
            }
            Action::Unsubscribe { filters, .. } => format!("unsubscribe {filters:?}"),
            Action::Ack(numbers) => format!("ack {numbers:?}"),
            Action::Send(text) => {
                let event: Value = serde_json::from_slice(&text).unwrap();
                match event["type"].as_str().unwrap() {
                    "weft.message" => format!("deliver {} {}", event["wefttopic"], event["weftposition"]),
                    ty => format!("{ty} {}", event["data"]),
                }
            }
            Action::Close(code, reason) => format!("close {} {reason}", u16::from(code)),
        });
    }
    all
}

#[test]
fn an_event_is_published_and_answered() {
    let mut web = connection(false);
    say(&mut web, event("t", r#","wefttopic":"a/b","weftretain":true"#));
    say(&mut web, event("weft.message", r#","subject":"again""#));
    assert_eq!(actions(&mut web), ["publish a/b 1 retain=true", "publish again 1 retain=false"]);
    let said = |id: &str| Said { id: id.into(), source: "/web".into() };
    let partly = Outcome::Partly(vec![(1, Reject::new(RejectKind::Busy, "full"))]);
    web.handle_outcome(&[said("1"), said("2")], &partly);
    assert_eq!(
        actions(&mut web),
        [
            r#"weft.published {"id":"1","source":"/web"}"#,
            r#"weft.error {"kind":"busy","of":"2","reason":"full","retry_after_ms":1000}"#
        ]
    );
}

#[test]
fn every_kind_of_reject_has_its_error() {
    for (kind, word, retry) in [
        (RejectKind::Malformed, "malformed", Value::Null),
        (RejectKind::Denied, "denied", Value::Null),
        (RejectKind::Busy, "busy", json!(1000)),
        (RejectKind::Unavailable, "unavailable", json!(5000)),
        (RejectKind::Closed, "closed", json!(5000)),
    ] {
        let reject = Reject::new(kind, "for a reason");
        let data = serde_json::to_value(ErrorData::new(Some("7"), &reject)).unwrap();
        assert_eq!(
            (&data["kind"], &data["retry_after_ms"], &data["of"]),
            (&json!(word), &retry, &json!("7"))
        );
    }
}

#[test]
fn what_is_not_json_closes_and_what_is_no_event_does_not() {
    let mut web = connection(false);
    for (text, word) in [
        (event("t", r#","wefttopic":"a/#""#), "wildcard"),
        (Bytes::from(r#"{"specversion":"0.3","id":"1"}"#), "0.3"),
        (event("t", r#","NO":1"#), "lower-case"),
        (event("weft.subscribe", r#","data":{"topic":"a/#/b"}"#), "last level"),
        (event("weft.hello", ""), "none of"),
    ] {
        say(&mut web, text);
        let [error] = &actions(&mut web)[..] else { panic!("one answer") };
        assert!(
            error.starts_with("weft.error") && error.contains(word) && error.contains("malformed"),
            "{error}"
        );
    }
    say(&mut web, "{");
    say(&mut web, event("t", ""));
    let said = actions(&mut web);
    assert!(said[0].starts_with("weft.error"), "{said:?}");
    assert_eq!(said[1..], ["close 1007 a frame was not JSON"], "nothing is read after that");
}

fn grant(web: &mut Connection, members: &str, as_of: u64) -> Vec<String> {
    say(web, event("weft.subscribe", &format!(r#","data":{{"topic":"a"{members}}}"#)));
    let Some(Action::Subscribe(asked)) = web.poll_action() else { panic!("a subscribe") };
    let granted = Granted { guarantee: Guarantee::AtLeastOnce, as_of: Position(as_of) };
    web.handle_granted(asked, Ok(vec![Ok(granted)]));
    actions(web)
}

#[test]
fn a_grant_is_answered() {
    let mut web = connection(false);
    let subscribed = r#"weft.subscribed {"as_of":"9","of":"1","topics":[{"guarantee":1,"topic":"a"}]}"#;
    assert_eq!(grant(&mut web, "", 9), [subscribed]);
    assert_eq!(grant(&mut web, r#","from":"4""#, 9), [subscribed]);
}

#[test]
fn acks_make_room_in_the_window() {
    let mut web = connection(true);
    for (position, number) in [(Some(10), 0), (Some(20), 1), (Some(30), 2), (Some(10), 3)] {
        web.handle_delivery(delivery("a", position, Some(number)));
    }
    assert_eq!((web.room().numbered, actions(&mut web).len()), (0, 4));
    say(&mut web, event("weft.ack", r#","data":{"positions":["20",99]}"#));
    assert_eq!((actions(&mut web), web.room().numbered), (vec!["ack [1]".to_owned()], 1));
    say(&mut web, event("weft.ack", r#","data":{"upto":"29"}"#));
    assert_eq!((actions(&mut web), web.room().numbered), (vec!["ack [0, 3]".to_owned()], 3));
    say(&mut web, event("weft.ack", r#","data":{"upto":"29"}"#));
    assert!(actions(&mut web).is_empty(), "acked twice is acked once");
    web.handle_delivery(delivery("a", None, Some(4)));
    web.handle_written();
    assert_eq!(actions(&mut web), [r#"deliver "a" null"#, "ack [4]"], "without position nobody could ack it");
}

#[test]
fn without_a_session_of_its_own_written_is_acked() {
    let mut web = connection(false);
    web.handle_delivery(delivery("a", Some(10), Some(0)));
    web.handle_delivery(delivery("a", Some(20), None));
    assert_eq!(actions(&mut web).len(), 2);
    web.handle_written();
    web.handle_written();
    assert_eq!(actions(&mut web), ["ack [0]"]);
}
