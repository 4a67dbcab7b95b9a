//! Conversations of a client with a server over a hub in memory. Time is virtual.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "test code")]

mod common;

use std::num::{NonZeroU16, NonZeroU32};

use common::{World, agent, emm, event, frame, message};
use event::hub::Publish;
use event::testing::{Answer, Call};
use event::{Event, Guarantee, Meta, Parts, Reject, RejectKind, TopicName};
use eventmesh::Order;
use serde_json::{Value, json};
use tcp::Options;

const PUBLISH: &str = "ASYNC_MESSAGE_TO_SERVER";
const ACK: &str = "ASYNC_MESSAGE_TO_SERVER_ACK 0 success";

fn count(n: u16) -> NonZeroU16 {
    NonZeroU16::new(n).unwrap()
}

fn publish(event: Event) -> Publish {
    Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}

// ---- session

#[tokio::test(start_paused = true)]
async fn both_dialects_are_answered_in_kind() {
    let world = World::new().await;
    for beside in [13, 8] {
        let mut peer = world.open();
        peer.beside = beside;
        peer.hello("pub").await;
        assert_eq!(peer.call("HEARTBEAT_REQUEST", "").await, "HEARTBEAT_RESPONSE 0 success");
        assert_eq!(peer.call_with(PUBLISH, &message(), &emm("t", "x")).await, ACK);
        assert_eq!(peer.call("CLIENT_GOODBYE_REQUEST", "").await, "CLIENT_GOODBYE_RESPONSE 0 success");
        peer.ends().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_lacks_something_is_refused_and_ends() {
    let world = World::new().await;
    let mut no_version = agent("g", "pub");
    no_version["version"] = Value::Null;
    for (agent, why) in [
        (agent("g", "both"), "client purpose config is error: it is \"pub\" or \"sub\""),
        (agent(" ", "pub"), "client group cannot be blank"),
        (no_version, "client version cannot be null"),
        (json!("none"), "the user agent is not readable"),
    ] {
        let mut peer = world.open();
        let got = peer.call("HELLO_REQUEST", &agent.to_string()).await;
        assert!(got.starts_with("HELLO_RESPONSE 1"), "{got}");
        assert!(got.contains(why), "{got}");
        peer.ends().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_gate_decides_by_what_the_hello_shows_and_nobody_else_sees_it() {
    let world = World::new().await;
    let mut peer = world.hello("pub").await;
    let shown = format!("{:?}", world.gate.asked()[0].credentials);
    assert!(shown.contains("PU4283"), "{shown}");
    assert_eq!(world.gate.asked()[0].client.as_str(), "$eventmesh/g/127.0.0.1:1");
    assert_eq!(peer.call_with(PUBLISH, &message(), &emm("t", "x")).await, ACK);
    let published = format!("{:?} {:?}", world.hub.published(), world.clients.list(|_| true, 10));
    assert!(!published.contains("PU4283") && !published.contains("PUPASS"), "{published}");

    for (kind, code) in
        [(RejectKind::Unproved, 2), (RejectKind::Denied, 2), (RejectKind::Busy, 3), (RejectKind::Closed, 1)]
    {
        world.gate.admit_as(Err(Reject::new(kind, "not you")));
        let mut peer = world.open();
        let got = peer.call("HELLO_REQUEST", &agent("g", "pub").to_string()).await;
        assert_eq!(got, format!("HELLO_RESPONSE {code} not you"));
        peer.ends().await;
    }
}

#[tokio::test(start_paused = true)]
async fn commands_that_do_not_fit_are_answered_and_the_connection_stays() {
    let world = World::new().await;
    let mut peer = world.open();
    for cmd in ["HEARTBEAT", "LISTEN", "SUBSCRIBE"] {
        let got = peer.call(&format!("{cmd}_REQUEST"), "").await;
        assert_eq!(got, format!("{cmd}_RESPONSE 1 no session is found: send HELLO_REQUEST first"));
    }
    let refused = "registry enable config is false, not support";
    assert_eq!(peer.call("RECOMMEND_REQUEST", "{}").await, format!("RECOMMEND_RESPONSE 1 {refused}"));
    peer.hello("pub").await;
    peer.hello("pub").await;
    for (cmd, answer) in [
        ("RECOMMEND_REQUEST", "RECOMMEND_RESPONSE 1"),
        ("LISTEN_REQUEST", "LISTEN_RESPONSE 1"),
        ("SUBSCRIBE_REQUEST", "SUBSCRIBE_RESPONSE 1"),
        ("REGISTER_REQUEST", "REGISTER_RESPONSE 1"),
        ("UNREGISTER_REQUEST", "UNREGISTER_RESPONSE 1"),
        ("SYS_LOG_TO_LOGSERVER", "SYS_LOG_TO_LOGSERVER 1"),
        ("TRACE_LOG_TO_LOGSERVER", "TRACE_LOG_TO_LOGSERVER 1"),
        ("HELLO_RESPONSE", "HELLO_RESPONSE 1"),
        ("UNSUBSCRIBE_REQUEST", "UNSUBSCRIBE_RESPONSE 0"),
    ] {
        let got = peer.call(cmd, "").await;
        assert!(got.starts_with(answer), "{got}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_frame_is_told_and_ends_and_harms_nobody_else() {
    let world =
        World::with(Options { max_frame_bytes: event::ByteLimit::kib(1), ..Options::default() }).await;
    let mut other = world.hello("pub").await;
    let mut large = frame(13, "{}", "");
    large[13..17].copy_from_slice(&(1u32 << 20).to_be_bytes());
    for (bytes, why) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "does not begin with"),
        (large, "limit 1024 B"),
        (frame(13, "not json", ""), "the header is not readable"),
        (frame(13, r#"{"cmd":"NO_SUCH_COMMAND","seq":"1"}"#, ""), "command \"NO_SUCH_COMMAND\" is not known"),
    ] {
        let mut peer = world.open();
        peer.write(&bytes).await;
        let got = peer.next().await;
        assert!(
            got.to_string().starts_with("SERVER_GOODBYE_REQUEST 1") && got.to_string().contains(why),
            "{got}"
        );
        assert!(got.header.get("seq").is_none(), "SDKs close on a goodbye without a seq");
        peer.ends().await;
        assert_eq!(other.call("HEARTBEAT_REQUEST", "").await, "HEARTBEAT_RESPONSE 0 success");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_no_hello_or_nothing_more_is_let_go() {
    let world = World::new().await;
    let mut fresh = world.open();
    assert_eq!(fresh.next().await.to_string(), "SERVER_GOODBYE_REQUEST 1 no HELLO_REQUEST within 10000 ms");
    fresh.ends().await;
    let mut silent = world.hello("sub").await;
    assert_eq!(silent.next().await.to_string(), "SERVER_GOODBYE_REQUEST 1 no heartbeat within 60000 ms");
    silent.ends().await;
    assert_eq!(world.hub.sessions(), ["$eventmesh/requests"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_let_go() {
    let world = World::new().await;
    let mut stuck = world.open_with(4096);
    stuck.hello("sub").await;
    stuck.subscribe("t", "BROADCASTING", "ASYNC").await;
    assert_eq!(stuck.call("LISTEN_REQUEST", "").await, "LISTEN_RESPONSE 0 success");
    for _ in 0..100 {
        world.hub.inject("dev", publish(event("t", "0123456789")));
    }
    // The client reads nothing until the connection is over.
    (&mut stuck.task).await.unwrap();
    assert_eq!(world.hub.sessions(), ["$eventmesh/requests"]);
}

// ---- publish

#[tokio::test(start_paused = true)]
async fn a_publish_is_answered_when_it_is_kept_and_each_under_its_own_seq() {
    let world = World::new().await;
    world.hub.answer(Answer::Late);
    let (mut first, mut second) = (world.hello("pub").await, world.hello("pub").await);
    let mut seqs = Vec::new();
    for round in 0..3 {
        let cmd = ["ASYNC_MESSAGE_TO_SERVER", "BROADCAST_MESSAGE_TO_SERVER"][round % 2];
        seqs.push(first.send(cmd, &message(), &emm("t", "a")).await);
        second.send(cmd, &message(), &emm("t", "b")).await;
    }
    first.is_quiet().await;
    assert_eq!(world.hub.published().len(), 6);
    world.hub.release_late();
    for peer in [&mut first, &mut second] {
        for seq in &seqs {
            let got = peer.next().await;
            assert_eq!((got.seq(), got.header["code"].as_u64()), (&**seq, Some(0)), "{got}");
        }
        peer.is_quiet().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_published_is_told_and_the_session_lives_on() {
    let world = World::new().await;
    let mut peer = world.hello("pub").await;
    let ce = json!({"protocoltype": "cloudevents", "protocolversion": "1.0", "protocoldesc": "tcp"});
    let big = "x".repeat(1001);
    for (properties, body, why) in [
        (message(), emm("t", &big), "event size exceeds the limit: 1000"),
        (message(), "not json".to_owned(), "no EventMeshMessage"),
        (message(), emm("$SYS/x", "x"), "begins with '$'"),
        (ce.clone(), r#"{"not":"an event"}"#.to_owned(), "specversion"),
        (ce, "not json".to_owned(), "expected"),
        (json!({"protocoltype": "eventmeshmessage", "protocolversion": "9.9"}), emm("t", "x"), "9.9"),
        (json!({"protocoltype": "openmessage", "protocolversion": "1.0"}), emm("t", "x"), "event is null"),
    ] {
        let got = peer.call_with(PUBLISH, &properties, &body).await;
        assert!(got.starts_with("ASYNC_MESSAGE_TO_SERVER_ACK 1") && got.contains(why), "{got}");
    }
    for (kind, code) in [
        (RejectKind::Malformed, 1),
        (RejectKind::Unproved, 2),
        (RejectKind::Denied, 2),
        (RejectKind::Busy, 3),
        (RejectKind::Unavailable, 1),
        (RejectKind::Closed, 1),
    ] {
        world.hub.answer_next(Answer::Refused(Reject::new(kind, "no")));
        let got = peer.call_with(PUBLISH, &message(), &emm("t", "x")).await;
        assert_eq!(got, format!("ASYNC_MESSAGE_TO_SERVER_ACK {code} no"));
    }
    assert_eq!(peer.call_with(PUBLISH, &message(), &emm("t", "x")).await, ACK);
}

#[tokio::test(start_paused = true)]
async fn one_refused_event_of_a_batch_is_told_to_its_own_frame() {
    let world = World::new().await;
    let mut peer = world.hello("pub").await;
    world.hub.answer_next(Answer::Partly(vec![(1, Reject::new(RejectKind::Denied, "not there"))]));
    let header =
        |seq: u8| json!({"cmd": PUBLISH, "seq": seq.to_string(), "properties": message()}).to_string();
    let three: Vec<u8> = (1..4).flat_map(|seq| frame(13, &header(seq), &emm("t", "x"))).collect();
    peer.write(&three).await;
    for want in [("1", ACK), ("2", "ASYNC_MESSAGE_TO_SERVER_ACK 2 not there"), ("3", ACK)] {
        let got = peer.next().await;
        assert_eq!((got.seq(), &*got.to_string()), want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_read_only_as_fast_as_it_is_kept() {
    let world = World::with(Options { inflight_max: count(2), ..Options::default() }).await;
    let mut peer = world.hello("pub").await;
    world.hub.answer(Answer::Late);
    for _ in 0..5 {
        peer.send(PUBLISH, &message(), &emm("t", "x")).await;
    }
    peer.is_quiet().await;
    assert_eq!(world.hub.published().len(), 2);
    world.hub.answer(Answer::NoRoom);
    world.hub.release_late();
    for _ in 0..2 {
        assert_eq!(peer.next().await.to_string(), ACK);
    }
    peer.is_quiet().await;
    world.hub.answer(Answer::Kept);
    let made = async {
        while world.hub.published().len() < 5 {
            world.hub.make_room();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    made.await;
    for _ in 0..3 {
        assert_eq!(peer.next().await.to_string(), ACK);
    }
}

// ---- deliveries

#[tokio::test(start_paused = true)]
async fn subscriptions_begin_with_listen_and_are_those_of_the_group() {
    let world = World::new().await;
    let mut peer = world.hello("sub").await;
    peer.subscribe("orders", "CLUSTERING", "ASYNC").await;
    peer.subscribe("all", "BROADCASTING", "ASYNC").await;
    let subscribed = |hub: &event::testing::FakeHub| -> Vec<String> {
        let mut filters = Vec::new();
        for call in hub.calls() {
            if let Call::Subscribe { client, wanted } = call
                && client != "$eventmesh/requests"
            {
                filters.extend(wanted.iter().map(|one| one.filter.as_str().to_owned()));
            }
        }
        filters
    };
    assert_eq!(subscribed(&world.hub), [""; 0]);
    assert_eq!(peer.call("LISTEN_REQUEST", "").await, "LISTEN_RESPONSE 0 success");
    assert_eq!(peer.call("LISTEN_REQUEST", "").await, "LISTEN_RESPONSE 0 success");
    peer.subscribe("late", "CLUSTERING", "SYNC").await;
    assert_eq!(subscribed(&world.hub), ["$share/g/orders", "all", "$share/g/late"]);
    assert_eq!(world.clients.list(|client| client.topics.contains(&"late".to_owned()), 10).len(), 1);
    let one = json!({"topicList": [{"topic": "all"}]}).to_string();
    assert_eq!(peer.call("UNSUBSCRIBE_REQUEST", &one).await, "UNSUBSCRIBE_RESPONSE 0 success");
    assert_eq!(peer.call("UNSUBSCRIBE_REQUEST", "").await, "UNSUBSCRIBE_RESPONSE 0 success");
    let mut gone = Vec::new();
    for call in world.hub.calls() {
        if let Call::Unsubscribe { filters, .. } = call {
            gone.push(filters.iter().map(|filter| filter.as_str().to_owned()).collect::<Vec<_>>());
        }
    }
    assert_eq!(gone, [vec!["all"], vec!["$share/g/orders", "$share/g/late"]]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_is_told() {
    let world = World::new().await;
    let mut peer = world.hello("sub").await;
    let body = json!({"topicList": [{"topic": "$SYS/x"}]}).to_string();
    assert!(peer.call("SUBSCRIBE_REQUEST", &body).await.starts_with("SUBSCRIBE_RESPONSE 1"));
    assert!(peer.call("SUBSCRIBE_REQUEST", "nothing").await.starts_with("SUBSCRIBE_RESPONSE 1"));
    peer.subscribe("t", "CLUSTERING", "ASYNC").await;
    world.hub.refuse_subscribe(Some(Reject::new(RejectKind::Denied, "not that one")));
    assert_eq!(peer.call("LISTEN_REQUEST", "").await, "LISTEN_RESPONSE 2 not that one");
}

#[tokio::test(start_paused = true)]
async fn events_are_pushed_as_they_were_subscribed_and_wait_for_their_ack() {
    let world = World::with(Options { deliveries_max: count(2), ..Options::default() }).await;
    for (mode, kind, push, ack) in [
        ("CLUSTERING", "ASYNC", "ASYNC_MESSAGE_TO_CLIENT 0", "ASYNC_MESSAGE_TO_CLIENT_ACK"),
        ("CLUSTERING", "SYNC", "REQUEST_TO_CLIENT 0", "REQUEST_TO_CLIENT_ACK"),
        ("BROADCASTING", "ASYNC", "BROADCAST_MESSAGE_TO_CLIENT 0", "BROADCAST_MESSAGE_TO_CLIENT_ACK"),
    ] {
        let mut peer = world.listener("t", mode, kind).await;
        for data in ["1", "2", "3"] {
            world.hub.inject("dev", publish(event("t", data)));
        }
        let first = peer.next().await;
        assert_eq!((&*first.to_string(), first.json()["body"].as_str()), (push, Some("1")));
        assert_eq!(first.header["properties"]["protocoltype"], "eventmeshmessage");
        assert!(first.seq().len() > 10, "no seq that an SDK makes");
        let second = peer.next().await;
        assert_ne!(first.seq(), second.seq());
        peer.is_quiet().await;
        peer.send_as(ack, "12345", &json!({}), "").await;
        peer.is_quiet().await;
        // SDKs send the body back, quoted once more.
        let echo = json!(first.body).to_string();
        peer.send_as(ack, first.seq(), &json!({}), &echo).await;
        assert_eq!(peer.next().await.json()["body"], "3");
        peer.send_as(ack, second.seq(), &json!({}), "").await;
        peer.is_quiet().await;
        let client = world.hub.sessions().into_iter().find(|name| name.contains("/g/")).unwrap();
        assert_eq!(world.hub.acked(&client), [0, 1]);
        assert_eq!(peer.call("CLIENT_GOODBYE_REQUEST", "").await, "CLIENT_GOODBYE_RESPONSE 0 success");
        peer.ends().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_has_no_more_than_it_can_acknowledge_at_once() {
    let delivery_bytes = event::ByteLimit::kib(1);
    let world = World::with(Options { delivery_bytes, ..Options::default() }).await;
    let mut peer = world.listener("t", "BROADCASTING", "ASYNC").await;
    let data = "x".repeat(2000).leak();
    for guarantee in [Guarantee::AtLeastOnce, Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
        world.hub.inject("dev", Publish { guarantee, ..publish(event("t", data)) });
    }
    for _ in 0..3 {
        let got = peer.next().await;
        peer.is_quiet().await;
        peer.send_as("BROADCAST_MESSAGE_TO_CLIENT_ACK", got.seq(), &json!({}), &json!(got.body).to_string())
            .await;
    }
    peer.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn who_never_acknowledges_is_let_go_so_that_others_get_what_it_has() {
    let timeout = NonZeroU32::new(30_000).unwrap();
    let world = World::with(Options { ack_timeout_ms: timeout, ..Options::default() }).await;
    let mut peer = world.listener("t", "CLUSTERING", "ASYNC").await;
    world.hub.inject("dev", publish(event("t", "x")));
    assert_eq!(peer.next().await.to_string(), "ASYNC_MESSAGE_TO_CLIENT 0");
    assert_eq!(peer.next().await.to_string(), "SERVER_GOODBYE_REQUEST 1 no acknowledgement within 30000 ms");
    peer.ends().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_the_kind_that_it_speaks() {
    let world = World::new().await;
    let mut peer = world.listener("t", "CLUSTERING", "ASYNC").await;
    world.hub.inject("dev", publish(event("t", "plain")));
    let unknown = peer.next().await.json();
    // As long as it is not known what the client reads: both.
    assert_eq!(
        (&unknown["body"], &unknown["data"], &unknown["specversion"]),
        (&json!("plain"), &json!("plain"), &json!("1.0"))
    );
    let named = json!({"protocoltype": "cloudevents"});
    peer.send("HEARTBEAT_REQUEST", &named, "").await;
    assert_eq!(peer.next().await.to_string(), "HEARTBEAT_RESPONSE 0 success");
    world.hub.inject("dev", publish(event("t", "plain")));
    let got = peer.next().await;
    assert_eq!(got.header["properties"]["protocoltype"], "cloudevents");
    assert_eq!((&got.json()["data"], &got.json()["subject"]), (&json!("plain"), &json!("t")));
    assert_eq!(got.json().get("body"), None);
    peer.send("HEARTBEAT_REQUEST", &message(), "").await;
    peer.next().await;
    world.hub.inject("dev", publish(event("t", "plain")));
    let got = peer.next().await.json();
    assert_eq!((&got["body"], got.get("specversion")), (&json!("plain"), None));
}

// ---- requests and replies

#[tokio::test(start_paused = true)]
async fn a_request_gets_the_reply_of_a_responder_on_any_protocol() {
    let world = World::new().await;
    let mut peer = world.hello("pub").await;
    let seq = peer.send("REQUEST_TO_SERVER", &message(), &emm("ask", "question")).await;
    let request = world.hub.until(|calls| published_to(calls, "ask")).await;
    assert_eq!(request.guarantee, Guarantee::AtLeastOnce);
    let meta = request.event.meta().unwrap();
    let answer = Parts {
        topic: meta.reply_to.clone().unwrap(),
        meta: Some(Box::new(Meta { correlation: meta.correlation.clone(), ..Meta::default() })),
        ..event("x", "answer").parts().clone()
    };
    world.hub.inject("device", publish(Event::new(answer)));
    let got = peer.next().await;
    assert_eq!((&*got.to_string(), got.seq()), ("RESPONSE_TO_CLIENT 0 success", &*seq));
    assert_eq!(
        (&got.json()["body"], &got.header["properties"]["protocoltype"]),
        (&json!("answer"), &json!("eventmeshmessage"))
    );
    peer.send_as("RESPONSE_TO_CLIENT_ACK", &seq, &json!({}), "").await;
    peer.is_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_reply_ends_at_its_ttl_or_at_once_if_it_cannot_be_asked() {
    let world = World::with(Options { requests_max: count(1), ..Options::default() }).await;
    let mut peer = world.hello("pub").await;
    let start = tokio::time::Instant::now();
    let first = peer.send("REQUEST_TO_SERVER", &message(), &emm("ask", "?")).await;
    let refused = peer.call_with("REQUEST_TO_SERVER", &message(), &emm("ask", "?")).await;
    assert!(refused.starts_with("RESPONSE_TO_CLIENT 3"), "{refused}");
    let late = peer.next().await;
    assert_eq!(
        (late.seq(), &*late.to_string()),
        (&*first, "RESPONSE_TO_CLIENT 1 nobody answered within 2000 ms")
    );
    assert_eq!(start.elapsed().as_secs(), 2);
    let wrong = emm("ask", "?").replace("2000", "soon");
    let got = peer.call_with("REQUEST_TO_SERVER", &message(), &wrong).await;
    assert_eq!(got, "RESPONSE_TO_CLIENT 1 ttl is no number of milliseconds");
    world.hub.answer_next(Answer::Refused(Reject::new(RejectKind::Denied, "not that")));
    let got = peer.call_with("REQUEST_TO_SERVER", &message(), &emm("ask", "?")).await;
    assert_eq!(got, "RESPONSE_TO_CLIENT 2 not that");
}

#[tokio::test(start_paused = true)]
async fn a_responder_sends_the_request_back_and_its_reply_goes_where_it_is_expected() {
    let world = World::new().await;
    let mut responder = world.listener("ask", "CLUSTERING", "SYNC").await;
    let mut requester = world.hello("pub").await;
    let seq = requester.send("REQUEST_TO_SERVER", &message(), &emm("ask", "question")).await;
    let asked = responder.next().await;
    assert_eq!((&*asked.to_string(), &asked.json()["body"]), ("REQUEST_TO_CLIENT 0", &json!("question")));
    let mut answer = asked.json();
    answer["body"] = json!("re:question");
    responder.send("RESPONSE_TO_SERVER", &message(), &answer.to_string()).await;
    responder.send_as("REQUEST_TO_CLIENT_ACK", asked.seq(), &json!({}), "").await;
    let got = requester.next().await;
    assert_eq!(
        (got.seq(), &got.json()["body"], &got.json()["properties"]["accprop"]),
        (&*seq, &json!("re:question"), &json!("v"))
    );
    let reply =
        world.hub.published().into_iter().find(|one| one.event.topic().as_str().starts_with("$reply/"));
    assert_eq!(reply.unwrap().guarantee, Guarantee::AtMostOnce);
    // Nobody asked for this one.
    let got = responder.call_with("RESPONSE_TO_SERVER", &message(), &emm("ask", "x")).await;
    assert!(got.starts_with("RESPONSE_TO_CLIENT 1 the reply has no property replyto"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn a_device_that_asks_gets_its_reply_on_the_topic_that_it_named() {
    let world = World::new().await;
    let mut responder = world.listener("ask", "CLUSTERING", "SYNC").await;
    let meta = Meta {
        reply_to: Some(TopicName::parse("dev/answers").unwrap()),
        correlation: Some("7".into()),
        ..Meta::default()
    };
    let request = Parts { meta: Some(Box::new(meta)), ..event("ask", "question").parts().clone() };
    world.hub.inject("device", publish(Event::new(request)));
    let mut answer = responder.next().await.json();
    answer["body"] = json!("re:question");
    responder.send("RESPONSE_TO_SERVER", &message(), &answer.to_string()).await;
    let reply = world.hub.until(|calls| published_to(calls, "dev/answers")).await;
    assert_eq!(
        (&reply.event.data()[..], &reply.event.meta().unwrap().correlation.clone().unwrap()[..]),
        (&b"re:question"[..], &b"7"[..])
    );
    responder.is_quiet().await;
}

fn published_to(calls: &[Call], topic: &str) -> Option<Publish> {
    calls.iter().find_map(|call| match call {
        Call::Publish { batch, .. } => batch.iter().find(|one| one.event.topic().as_str() == topic).cloned(),
        _ => None,
    })
}

// ---- the end

#[tokio::test(start_paused = true)]
async fn a_stop_answers_what_was_taken_and_says_goodbye() {
    let world = World::new().await;
    let mut peer = world.hello("pub").await;
    world.hub.answer(Answer::Late);
    peer.send(PUBLISH, &message(), &emm("t", "x")).await;
    peer.send("REQUEST_TO_SERVER", &message(), &emm("ask", "?")).await;
    peer.is_quiet().await;
    world.drain();
    assert_eq!(peer.next().await.to_string(), "SERVER_GOODBYE_REQUEST 0 graceful normal quit from eventmesh");
    assert_eq!(peer.next().await.to_string(), "RESPONSE_TO_CLIENT 1 weft is stopping");
    world.hub.release_late();
    assert_eq!(peer.next().await.to_string(), ACK);
    peer.ends().await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_sends_clients_away() {
    let world = World::new().await;
    let mut peer = world.listener("t", "CLUSTERING", "ASYNC").await;
    let told = world.clients.order(|client| client.peer.port() == 1, &Order::Leave);
    assert_eq!(told.len(), 1);
    assert_eq!(peer.next().await.to_string(), "SERVER_GOODBYE_REQUEST 0 graceful normal quit from eventmesh");
    // Its share is for others by now.
    world
        .hub
        .until(|calls| calls.iter().find(|call| matches!(call, Call::Unsubscribe { .. })).map(drop))
        .await;
    peer.send("SERVER_GOODBYE_RESPONSE", &json!({}), "").await;
    peer.ends().await;

    let mut peer = world.hello("sub").await;
    let order = Order::Redirect { ip: [10, 0, 0, 2].into(), port: 10000 };
    world.clients.order(|_| true, &order);
    let got = peer.next().await;
    assert_eq!(
        (&*got.to_string(), got.json()),
        ("REDIRECT_TO_CLIENT 0 redirect", json!({"ip": "10.0.0.2", "port": 10000}))
    );
    assert_eq!(peer.call("HEARTBEAT_REQUEST", "").await, "HEARTBEAT_RESPONSE 0 success");
    // It does not follow, and is let go.
    peer.ends().await;
    assert!(world.clients.list(|_| true, 10).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_is_told_why() {
    let world = World::new().await;
    let mut peer = world.listener("t", "CLUSTERING", "ASYNC").await;
    world.hub.end("$eventmesh/g/127.0.0.1:1", event::hub::Closed::Ended);
    assert_eq!(peer.next().await.to_string(), "SERVER_GOODBYE_REQUEST 1 an operator ended the session");
    peer.ends().await;
}
