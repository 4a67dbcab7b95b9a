//! Calls of one message: what is published, answered, refused.

#![allow(clippy::unwrap_used, reason = "tests fail by it")]

mod common;

use std::sync::Arc;

use common::*;
use event::testing::{Answer, ScriptedGate};
use event::{Reject, RejectKind};
use grpc::Options;
use grpc::proto::{Attr, CloudEvent, CloudEventBatch, Data};
use prost::Message as _;

#[tokio::test(start_paused = true)]
async fn an_event_is_acknowledged_when_it_is_kept() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let answer: CloudEvent = client.unary(PUBLISH, &event("a/b", "x")).await.unwrap();
    assert_eq!((code(&answer), answer.text("responsemessage")), ("0", Some("success")));
    assert!(matches!(answer.value("time"), Some(Attr::Timestamp(_))));
    let published = site.hub.published();
    assert_eq!(published[0].event.topic().as_str(), "a/b");

    site.hub.answer_next(Answer::Refused(Reject::new(RejectKind::Unavailable, "the disk is gone")));
    let answer: CloudEvent = client.unary(PUBLISH, &event("a/b", "x")).await.unwrap();
    assert_eq!(code(&answer), "14");
    assert!(answer.text("responsemessage").unwrap().contains("the disk is gone"));
}

/// W3C Trace Context §3: the trace of a call is that of its event, if the event has none.
#[tokio::test(start_paused = true)]
async fn the_trace_of_a_call_is_that_of_its_event() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let trace = |digit: &str| format!("00-{}-00f067aa0ba902b7-01", digit.repeat(32));
    let mut own = event("t", "x");
    own.set("traceparent", Attr::String(trace("b")));
    for event in [event("t", "x"), own] {
        let headers = [("traceparent", &*trace("a"))];
        let answer: CloudEvent = client.unary_with(PUBLISH, &headers, &event).await.unwrap();
        assert_eq!(code(&answer), "0");
    }
    let published = site.hub.published();
    let traces = published.iter().map(|one| one.event.meta().unwrap().value("traceparent").unwrap());
    assert_eq!(traces.collect::<Vec<_>>(), [trace("a"), trace("b")]);
}

#[tokio::test(start_paused = true)]
async fn one_way_calls_publish_and_errors_are_a_status() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let () = client.unary(ONE_WAY, &event("t", "x")).await.unwrap();
    let batch = CloudEventBatch { events: vec![event("t", "y"), event("t", "z")] };
    let () = client
        .unary("/org.apache.eventmesh.cloudevents.v1.PublisherService/batchPublishOneWay", &batch)
        .await
        .unwrap();
    assert_eq!(site.hub.published().len(), 3);
    let refused: Result<(), _> = client.unary(ONE_WAY, &CloudEvent::default()).await;
    assert_eq!(refused.unwrap_err().0, 3, "INVALID_ARGUMENT");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_publish_and_nothing_of_a_wrong_one() {
    let mut site = Site::new(Options { batch_events_max: 3, ..Options::default() }).await;
    let mut client = site.connect().await;
    let mut no_idc = event("t", "x");
    no_idc.attributes.retain(|entry| entry.name != "idc");
    let mut no_subject = event("t", "x");
    no_subject.attributes.retain(|entry| entry.name != "subject");
    let mut kind = event("t", "x");
    kind.set("protocoltype", Attr::String("nosuch".to_owned()));
    let mut version = event("t", "x");
    version.spec_version = "9".to_owned();
    for (events, want) in [
        (vec![], "6"),
        (vec![event("t", "x"), no_idc], "6"),
        (vec![event("t", "x"), no_subject], "7"),
        (vec![event("t", "x"), kind], "14"),
        (vec![event("t", "x"), version], "7"),
        (vec![event("t", "x"); 4], "7"),
    ] {
        let answer: CloudEvent = client.unary(BATCH, &CloudEventBatch { events }).await.unwrap();
        assert_eq!(code(&answer), want, "{:?}", answer.text("responsemessage"));
    }
    assert_eq!(site.hub.published().len(), 0);
    let batch = CloudEventBatch { events: vec![event("a", "1"), event("b", "2")] };
    let answer: CloudEvent = client.unary(BATCH, &batch).await.unwrap();
    assert_eq!(code(&answer), "0");
    assert_eq!(site.hub.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_gate_is_status_code_20() {
    let mut site = Site::new(Options::default()).await;
    let gate = Arc::new(ScriptedGate::new("none"));
    site.gate = Arc::clone(&gate) as Arc<dyn event::access::Gate>;
    gate.admit_as(Err(Reject::new(RejectKind::Unproved, "wrong password")));
    let mut client = site.connect().await;
    for path in [PUBLISH, REQUEST] {
        let answer: CloudEvent = client.unary(path, &event("t", "x")).await.unwrap();
        assert_eq!(code(&answer), "20");
        assert_eq!(answer.text("passwd"), None, "secrets do not come back");
    }
    let mut stream = client.open(STREAM).await;
    stream.send(&subscription("1", "g", "t", "CLUSTERING"));
    assert_eq!(code(&stream.event().await), "20");
    assert_eq!(stream.next::<CloudEvent>().await, Ok(None));
    // What a header shows goes before the message.
    let answer: CloudEvent =
        client.unary_with(PUBLISH, &[("authorization", "Bearer abc")], &event("t", "x")).await.unwrap();
    assert_eq!(code(&answer), "20");
    let asked = gate.asked().pop().unwrap();
    assert!(matches!(asked.credentials, event::access::Credentials::Token(token) if token == "abc"));
    assert!(site.hub.published().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nobody_answers_comes_back_after_its_ttl() {
    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    let mut request = event("t", "ask");
    request.set("ttl", Attr::String("2000".to_owned()));
    let before = tokio::time::Instant::now();
    let answer: CloudEvent = client.unary(REQUEST, &request).await.unwrap();
    assert_eq!((code(&answer), answer.data.clone()), ("22", Some(Data::Text("ask".to_owned()))));
    assert_eq!(before.elapsed().as_secs(), 2);
    request.set("ttl", Attr::String("soon".to_owned()));
    let answer: CloudEvent = client.unary(REQUEST, &request).await.unwrap();
    assert_eq!(code(&answer), "7");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_harms_nobody() {
    let mut site =
        Site::new(Options { message_bytes_max: event::ByteLimit::kib(2), ..Options::default() }).await;
    let mut client = site.connect().await;
    let mut open = client.open_with("/nosuch.Service/call", &[]).await;
    open.out.send_data(bytes::Bytes::new(), true).unwrap_or(());
    let too_large: Result<CloudEvent, _> = client.unary(PUBLISH, &event("t", &"x".repeat(4096))).await;
    assert_eq!(too_large.unwrap_err().0, 11, "OUT_OF_RANGE");
    let unknown: Result<CloudEvent, _> = client.unary("/nosuch.Service/call", &event("t", "x")).await;
    assert_eq!(unknown.unwrap_err().0, 12, "UNIMPLEMENTED");
    // A string where protobuf wants a message.
    let garbage: Result<CloudEvent, _> = client.unary(PUBLISH, &Garbage { text: "x".to_owned() }).await;
    assert_eq!(garbage.unwrap_err().0, 13, "INTERNAL");
    let answer: CloudEvent = client.unary(PUBLISH, &event("t", "x")).await.unwrap();
    assert_eq!(code(&answer), "0");
}

#[derive(Clone, PartialEq, prost::Message)]
struct Garbage {
    #[prost(string, tag = "5")]
    text: String,
}

#[tokio::test(start_paused = true)]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

    let mut site = Site::new(Options::default()).await;
    let mut client = site.connect().await;
    for service in ["", "org.apache.eventmesh.cloudevents.v1.PublisherService"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let health: HealthCheckResponse = client.unary("/grpc.health.v1.Health/Check", &asked).await.unwrap();
        assert_eq!(health.status, 1, "SERVING");
    }
    let mut call = client.open("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo").await;
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    call.send(&ask(MessageRequest::ListServices(String::new())));
    let Ok(Some(ServerReflectionResponse {
        message_response: Some(MessageResponse::ListServicesResponse(list)),
        ..
    })) = call.next().await
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "org.apache.eventmesh.cloudevents.v1.ConsumerService",
        "eventmesh.common.protocol.grpc.ConsumerService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    call.send(&ask(MessageRequest::FileContainingSymbol(
        "org.apache.eventmesh.cloudevents.v1.CloudEvent".to_owned(),
    )));
    let Ok(Some(ServerReflectionResponse {
        message_response: Some(MessageResponse::FileDescriptorResponse(files)),
        ..
    })) = call.next().await
    else {
        panic!("no file")
    };
    let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap();
    assert_eq!(file.package(), "org.apache.eventmesh.cloudevents.v1");
}
