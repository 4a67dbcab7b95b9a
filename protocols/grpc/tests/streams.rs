//! Streams of events: what is delivered, when it is done, and what becomes of it when a stream breaks.

#![allow(clippy::unwrap_used, reason = "tests fail by it")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::*;
use event::{Event, Guarantee, Parts, TopicName};
use eventmesh::Order;
use grpc::Options;
use grpc::proto::{Attr, CloudEvent, Data};

fn kept(topic: &str, data: &[u8], stamp: u64) -> Event {
    Event::new(Parts {
        topic: TopicName::parse(topic.to_owned()).unwrap(),
        data: Bytes::copy_from_slice(data),
        stamp,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from("p"),
        meta: None,
    })
}

/// A stream with one subscription, answered.
async fn subscribed(client: &mut Client, pid: &str, group: &str, topic: &str) -> Call {
    let mut stream = client.open(STREAM).await;
    stream.send(&subscription(pid, group, topic, "CLUSTERING"));
    let answer = stream.event().await;
    assert_eq!(code(&answer), "0");
    stream
}

#[tokio::test(start_paused = true)]
async fn the_first_message_is_the_subscription_with_its_status() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut stream = client.open(STREAM).await;
    let mut wanted = subscription("7", "g", "t", "BROADCASTING");
    wanted.set("seqnum", Attr::String("1".to_owned()));
    stream.send(&wanted);
    let answer = stream.event().await;
    assert_eq!(code(&answer), "0");
    assert_eq!(answer.data, wanted.data, "Java's SDK reads it as JSON");
    for name in ["seqnum", "uniqueid", "passwd", "username"] {
        assert_eq!(answer.text(name), None, "{name}");
    }
    assert!(site.session().starts_with("$grpc/g/127.0.0.1:7/"));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_done_when_the_client_answered_a_ping_behind_it() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut stream = subscribed(&mut client, "1", "g", "t").await;
    let session = site.session();
    let number = site.hub.deliver(&session, kept("t", b"one", 1), Guarantee::AtLeastOnce).unwrap();
    let event = stream.event().await;
    assert_eq!((event.text("subject"), &event.data), (Some("t"), &Some(Data::Text("one".to_owned()))));
    until(|| site.hub.acked(&session) == [number]).await;
}

#[tokio::test(start_paused = true)]
async fn operators_see_streams_and_end_them() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut stream = subscribed(&mut client, "7", "g", "t").await;
    let all = site.clients.list(|_| true, 10);
    let [shown] = &all[..] else { panic!("{all:?}") };
    assert_eq!((shown.agent.group(), shown.agent.pid, shown.protocol), (Some("g"), 7, "GRPC"));
    assert_eq!(shown.topics, ["t"]);
    let to = Order::Redirect { ip: [10, 0, 0, 9].into(), port: 10205 };
    site.clients.order(|client| client.agent.group() == Some("g"), &to);
    let (status, text) = stream.next::<CloudEvent>().await.unwrap_err();
    assert_eq!(status, 14, "UNAVAILABLE");
    assert!(text.contains("10.0.0.9"), "{text}");
    until(|| site.sessions().is_empty() && site.clients.list(|_| true, 10).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_client_did_not_take_is_not_done() {
    let mut site = Site::new(Options { ping_s: 5, ..Options::default() }).await;
    let (near, far) = tokio::io::duplex(64 << 10);
    let (relay, server) = tokio::io::duplex(64 << 10);
    site.serve(server);
    // A wire between that stops.
    let (cut, mut is_cut) = tokio::sync::watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    let (mut far, mut relay) = (far, relay);
    tasks.spawn(async move {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut far, &mut relay) => {}
            _ = is_cut.wait_for(|cut| *cut) => {}
        }
        std::future::pending::<()>().await;
    });
    let mut client = Client::new(near).await;
    let _stream = subscribed(&mut client, "1", "g", "t").await;
    let session = site.session();
    cut.send_replace(true);
    for stamp in 0..10 {
        site.hub.deliver(&session, kept("t", b"lost", stamp), Guarantee::AtLeastOnce).unwrap();
    }
    let before = tokio::time::Instant::now();
    until(|| site.sessions().is_empty()).await;
    assert!(before.elapsed() < Duration::from_secs(11), "{:?}", before.elapsed());
    assert!(site.hub.acked(&session).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_leaves_its_groups_at_once() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let stream = subscribed(&mut client, "1", "g", "t").await;
    let mut other = site.connect().await;
    let answer: CloudEvent = other.unary(HEARTBEAT, &heartbeat("1", "g", "t")).await.unwrap();
    assert_eq!(code(&answer), "0");
    drop((stream, client));
    until(|| site.sessions().is_empty()).await;
    let answer: CloudEvent = other.unary(HEARTBEAT, &heartbeat("1", "g", "t")).await.unwrap();
    assert_eq!(code(&answer), "30");
}

#[tokio::test(start_paused = true)]
async fn a_reset_stream_and_a_closed_one_leave_their_groups_at_once() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut reset = subscribed(&mut client, "1", "g", "t").await;
    reset.out.send_reset(h2::Reason::CANCEL);
    until(|| site.sessions().is_empty()).await;
    let mut closed = subscribed(&mut client, "1", "g", "t").await;
    closed.out.send_data(Bytes::new(), true).unwrap();
    assert_eq!(closed.next::<CloudEvent>().await, Ok(None));
    until(|| site.sessions().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_little() {
    let mut site = Site::new(Options { window: 65_000, ..Options::default() }).await;
    let (near, server) = tokio::io::duplex(16 << 10);
    site.serve(server);
    let mut client = Client::with_window(near, 8 << 10).await;
    let mut stream = subscribed(&mut client, "1", "g", "t").await;
    let session = site.session();
    for stamp in 0..2000 {
        site.hub.deliver(&session, kept("t", &[b'x'; 1024], stamp), Guarantee::AtLeastOnce).unwrap();
    }
    // It answers pings, so it lives; but takes nothing more than its window.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let acked = site.hub.acked(&session).len();
    assert!(acked < 20, "{acked} done, more than fit its window of 8 KiB");
    for at in 0..2000 {
        let event = stream.event().await;
        assert_eq!(event.id, format!("{at:016x}"));
    }
    until(|| site.hub.acked(&session).len() == 2000).await;
}

#[tokio::test(start_paused = true)]
async fn a_window_bounds_what_is_not_known_to_be_taken() {
    let mut site = Site::new(Options { window: 8, ..Options::default() }).await;
    let mut client = site.connect().await;
    let mut stream = subscribed(&mut client, "1", "g", "t").await;
    let session = site.session();
    for stamp in 0..100 {
        site.hub.deliver(&session, kept("t", b"x", stamp), Guarantee::AtLeastOnce).unwrap();
    }
    for at in 0..100 {
        assert_eq!(stream.event().await.id, format!("{at:016x}"));
    }
    until(|| site.hub.acked(&session).len() == 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_stream_of_the_same_client_takes_its_topic() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut old = subscribed(&mut client, "1", "g", "t").await;
    let old_session = site.session();
    let mut other = site.connect().await;
    let mut new = subscribed(&mut other, "1", "g", "t").await;
    let unsubscribed = format!("{:?}", site.hub.calls());
    assert!(unsubscribed.contains("Unsubscribe"), "{unsubscribed}");
    // What still comes for the old one stays undone.
    site.hub.deliver(&old_session, kept("t", b"late", 1), Guarantee::AtLeastOnce);
    let new_session = site.sessions().into_iter().find(|name| *name != old_session).unwrap();
    site.hub.deliver(&new_session, kept("t", b"x", 2), Guarantee::AtLeastOnce).unwrap();
    assert_eq!(new.event().await.id, format!("{:016x}", 2));
    old.out.send_data(Bytes::new(), true).unwrap();
    assert_eq!(old.next::<CloudEvent>().await, Ok(None));
    let answer: CloudEvent = other.unary(HEARTBEAT, &heartbeat("1", "g", "t")).await.unwrap();
    assert_eq!(code(&answer), "0", "the old one's end takes nothing from the new one");
}

#[tokio::test(start_paused = true)]
async fn one_stream_has_several_groups_and_topics_and_gives_up_one() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut stream = subscribed(&mut client, "1", "g", "t").await;
    for (group, topic) in [("g", "u"), ("h", "t"), ("g", "t")] {
        stream.send(&subscription("1", group, topic, "CLUSTERING"));
        assert_eq!(code(&stream.event().await), "0");
    }
    assert_eq!(site.sessions().len(), 2, "one for each group");
    let answer: CloudEvent =
        client.unary(UNSUBSCRIBE, &subscription("1", "g", "t", "CLUSTERING")).await.unwrap();
    assert_eq!(code(&answer), "0");
    for (group, topic, want) in [("g", "t", "30"), ("g", "u", "0"), ("h", "t", "0"), ("x", "t", "30")] {
        let answer: CloudEvent = client.unary(HEARTBEAT, &heartbeat("1", group, topic)).await.unwrap();
        assert_eq!(code(&answer), want, "{group} {topic}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_subscription_is_answered_and_ends_the_stream() {
    let mut site = Site::new(Options { subscriptions_max: 1, ..Options::default() }).await;
    let mut client = site.connect().await;
    let mut no_idc = subscription("1", "g", "t", "CLUSTERING");
    no_idc.attributes.retain(|entry| entry.name != "idc");
    let mut two = subscription("1", "g", "t", "CLUSTERING");
    two.data = Some(Data::Text(r#"[{"topic":"a"},{"topic":"b"}]"#.to_owned()));
    for (message, want) in [
        (no_idc, "6"),
        (subscription("1", "", "t", "CLUSTERING"), "7"),
        (subscription("1", "g", "t", "UNRECOGNIZED"), "7"),
        (subscription("1", "g", "a/#/b", "CLUSTERING"), "7"),
        (subscription("1", "g", "$SYS/x", "CLUSTERING"), "7"),
        (two, "7"),
    ] {
        let mut stream = client.open(STREAM).await;
        stream.send(&message);
        let answer = stream.event().await;
        assert_eq!(code(&answer), want, "{:?}", answer.text("responsemessage"));
        assert_eq!(stream.next::<CloudEvent>().await, Ok(None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_goes_to_who_asked() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut stream = subscribed(&mut client, "1", "g", "t").await;
    let mut asker = site.connect().await;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { asker.unary::<_, CloudEvent>(REQUEST, &event("t", "ask")).await.unwrap() });
    let mut reply = stream.event().await;
    assert_eq!(reply.data, Some(Data::Text("ask".to_owned())));
    reply.set("submessagetype", Attr::String("subscription_reply".to_owned()));
    reply.data = Some(Data::Text("answer".to_owned()));
    stream.send(&reply);
    let answer = tasks.join_next().await.unwrap().unwrap();
    assert_eq!((answer.data.as_ref(), code(&answer)), (Some(&Data::Text("answer".to_owned())), "none"));
    assert_eq!((answer.text("subject"), answer.text("wefttopic")), (Some("t"), None));

    // One that replies to nothing is told so, and its stream ends.
    stream.send(&{
        let mut wrong = event("t", "x");
        wrong.set("submessagetype", Attr::String("subscription_reply".to_owned()));
        wrong
    });
    assert_eq!(code(&stream.event().await), "15");
    assert_eq!(stream.next::<CloudEvent>().await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_streams_with_a_status() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut stream = subscribed(&mut client, "1", "g", "t").await;
    site.drain.send_replace(true);
    assert_eq!(stream.next::<CloudEvent>().await.unwrap_err().0, 14, "UNAVAILABLE");
    until(|| site.sessions().is_empty()).await;
}
