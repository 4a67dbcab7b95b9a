//! Requests and replies, over a hub in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::hub::{Hub as _, Publish};
use event::testing::FakeHub;
use event::{Event, Guarantee, Parts, Principal, RejectKind, TopicName};
use eventmesh::{Call, Options, REPLY_TOPICS, Requester, Responder, Unanswered, address_reply};
use tokio::sync::watch;

struct Bench {
    hub: FakeHub,
    requester: Requester,
    stop: watch::Sender<bool>,
    service: tokio::task::JoinHandle<()>,
}

async fn bench(requests_max: u32) -> Bench {
    let hub = FakeHub::new();
    let (stop, drain) = watch::channel(false);
    let options = Options { requests_max, ..Options::default() };
    let started = Requester::start(Arc::new(hub.clone()), &options, drain).await;
    let (requester, service) = started.unwrap();
    Bench { hub, requester, stop, service: tokio::spawn(service) }
}

fn request(call: &Call) -> Parts {
    let mut parts = Parts {
        topic: TopicName::parse("orders").unwrap(),
        data: Bytes::from_static(b"ask"),
        stamp: 1,
        received_ms: 1000,
        expires_ms: 0,
        publisher: Arc::from("me"),
        meta: None,
    };
    call.address(&mut parts, 1000);
    parts
}

impl Bench {
    async fn answer(&self, mut parts: Parts, data: &'static [u8]) {
        assert_eq!(address_reply(&mut parts), Ok(Responder::Weft));
        parts.data = Bytes::from_static(data);
        let publish =
            Publish { event: Event::new(parts), guarantee: Guarantee::AtMostOnce, retain: false, id: None };
        let admission = self.hub.publish(self.requester.replier(), vec![publish]);
        admission.receipt().await.await.whole().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_request_gets_its_own_reply() {
    let bench = bench(10).await;
    let (first, second) = (call(&bench), call(&bench));
    let (ask_first, ask_second) = (request(&first), request(&second));
    let reply_to = ask_first.meta.as_ref().unwrap().reply_to.clone().unwrap();
    assert!(
        reply_to.as_str().starts_with(REPLY_TOPICS) && reply_to.as_str().len() == REPLY_TOPICS.len() + 32
    );
    assert_eq!(ask_first.expires_ms, 4000);
    assert_ne!(ask_first.meta.as_ref().unwrap().correlation, ask_second.meta.as_ref().unwrap().correlation);
    bench.answer(ask_second, b"two").await;
    bench.answer(ask_first, b"one").await;
    let first = first.await.unwrap();
    assert_eq!(&first.data()[..], b"one");
    assert_eq!(first.meta().unwrap().correlation, None);
    assert_eq!(&second.await.unwrap().data()[..], b"two");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_ends_at_its_deadline_and_late_replies_go_nowhere() {
    let bench = bench(10).await;
    let late = call(&bench);
    let parts = request(&late);
    assert_eq!(late.await.unwrap_err(), Unanswered::Late(Duration::from_secs(3)));
    bench.answer(parts, b"too late").await;
    let next = call(&bench);
    let parts = request(&next);
    bench.answer(parts, b"in time").await;
    assert_eq!(&next.await.unwrap().data()[..], b"in time");
}

#[tokio::test(start_paused = true)]
async fn requests_are_limited_and_a_dropped_one_makes_room() {
    let bench = bench(1).await;
    let held = call(&bench);
    let refused = bench.requester.call(Duration::from_secs(3)).unwrap_err();
    assert_eq!(refused.kind, RejectKind::Busy);
    drop(held);
    assert!(bench.requester.call(Duration::from_secs(3)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_when_weft_stops_is_told_at_once() {
    let bench = bench(10).await;
    let waiting = call(&bench);
    bench.stop.send(true).unwrap();
    assert_eq!(waiting.await.unwrap_err(), Unanswered::Stopping);
    bench.service.await.unwrap();
    assert_eq!(bench.requester.call(Duration::from_secs(3)).unwrap_err().kind, RejectKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_an_operator_ends_is_made_anew() {
    let bench = bench(10).await;
    let waiting = call(&bench);
    bench.hub.end("$eventmesh/requests", event::hub::Closed::Ended);
    bench
        .hub
        .until(|calls| {
            let subscribes =
                |call: &&event::testing::Call| matches!(call, event::testing::Call::Subscribe { .. });
            (calls.iter().filter(subscribes).count() == 2).then_some(())
        })
        .await;
    let parts = request(&waiting);
    bench.answer(parts, b"still").await;
    assert_eq!(&waiting.await.unwrap().data()[..], b"still");
}

#[tokio::test]
async fn the_replier_is_no_client() {
    let bench = bench(1).await;
    let Principal { client, .. } = bench.requester.replier();
    assert!(client.as_str().starts_with('$'));
}

fn call(bench: &Bench) -> Call {
    bench.requester.call(Duration::from_secs(3)).unwrap()
}
