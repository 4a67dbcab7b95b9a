//! RocketMQ's own request and reply, with its Java client at the other end, both ways: a request by MQTT 5 or by a synchronous
//! call over HTTP is answered by a Java service, and one of a Java client by an MQTT 5 service.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tests::eventmesh_web::Web;
use tests::raw::Client;
use tests::real::{RocketMq, Tool, needs};
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Property, Publish};
use tests::{Weft, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_replies_cross_rocketmq() {
    if !needs(&[Tool::Java]) {
        return;
    }
    for version in ["4.9.7", "5.3.3"] {
        let rocketmq = RocketMq::start(version).await;
        let eventmesh = free_address();
        let config = format!(
            "[rocketmq.main]\nname_servers = [\"{}\"]\n[bridge.rpc]\ncluster = \"main\"\n\
             [[bridge.rpc.out]]\nfilter = \"ask/#\"\ntopic = \"Ask\"\nrequests = true\n\
             [[bridge.rpc.in]]\ntopic = \"Serve\"\nto = \"serve\"\n\
             [listener.em]\nlisten = \"{eventmesh}\"\nprotocol = \"eventmesh-http\"\n",
            rocketmq.name_server
        );
        // An answer to what a topic is asked for the first time makes the topic.
        rocketmq.make_topic("Ask").await;
        rocketmq.make_topic("Serve").await;
        let weft = Setup::new().config(config).start().await;
        a_request_from_here_is_answered_there(&rocketmq, &weft, eventmesh).await;
        if version != "5.3.3" {
            a_request_from_there_is_answered_here(&rocketmq, &weft).await;
        }
    }
}

async fn a_request_from_here_is_answered_there(rocketmq: &RocketMq, weft: &Weft, eventmesh: SocketAddr) {
    let mut service = rocketmq.rpc("serve", "Ask", "").await;
    let (mut device, mut writer) = (connect(weft, "requester").await, connect(weft, "asking").await);
    device.subscribe(&[("answers/requester", 1)]).await;
    // Their client compresses what is longer than 4 KiB.
    let long = "long ".repeat(2000);
    for (number, body) in ["what?", long.trim(), "and?"].into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let request = Publish::new("ask/one", body, 1)
            .with(Property::Text(8, "answers/requester".to_owned()))
            .with(Property::Data(9, vec![0, 255, number]));
        writer.publish(request).await.unwrap();
        assert_eq!(service.next().await, format!("asked {body}"));
        let answer = device.message().await.unwrap().unwrap();
        let expected = format!("reply to {body}");
        assert_eq!((&*answer.topic, &*answer.payload), ("answers/requester", expected.as_bytes()));
        assert!(answer.properties.contains(&Property::Data(9, vec![0, 255, number])), "{answer:?}");
    }
    let fields = [
        ("topic", "ask/http"),
        ("content", "over HTTP"),
        ("bizseqno", "1"),
        ("uniqueid", "2"),
        ("producergroup", "p"),
        ("ttl", "20000"),
    ];
    let answer = Web::connect(eventmesh).await.command(101, "7", &fields).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let said: Value = serde_json::from_str(answer.body["retMsg"].as_str().unwrap()).unwrap();
    assert_eq!(said["body"], "reply to over HTTP", "{said}");
    assert_eq!(outcomes(weft, "weft_rocketmq_requests_total", "answered").await, 4);
}

async fn a_request_from_there_is_answered_here(rocketmq: &RocketMq, weft: &Weft) {
    let mut service = connect(weft, "service").await;
    service.subscribe(&[("serve", 1)]).await;
    let mut requester = rocketmq.rpc("ask", "Serve", "20000").await;
    for body in ["one", "two"] {
        requester.say(body).await;
        let asked = service.message().await.unwrap().unwrap();
        assert_eq!(&*asked.payload, body.as_bytes());
        let (mut topic, mut correlation) = (None, None);
        for property in &asked.properties {
            match property {
                Property::Text(8, text) => topic = Some(text.clone()),
                Property::Data(9, data) => correlation = Some(data.clone()),
                _ => {}
            }
        }
        // Two answers: the first is the reply.
        for answer in [format!("answer to {body}"), "another".to_owned()] {
            let publish = Publish::new(topic.as_ref().unwrap(), answer, 1)
                .with(Property::Data(9, correlation.clone().unwrap()));
            service.publish(publish).await.unwrap();
        }
        assert_eq!(requester.next().await, format!("reply answer to {body}"));
    }
    let mut requester = rocketmq.rpc("ask", "Serve", "1000").await;
    requester.say("unanswered").await;
    assert_eq!(&*service.message().await.unwrap().unwrap().payload, b"unanswered");
    assert_eq!(requester.next().await, "none");
    eventually(Duration::from_secs(10), "the request is given up", || async {
        (outcomes(weft, "weft_rocketmq_answers_total", "missing").await == 1).then_some(())
    })
    .await;
    for outcome in ["sent", "late"] {
        assert_eq!(outcomes(weft, "weft_rocketmq_answers_total", outcome).await, 2, "{outcome}");
    }
}

async fn connect(weft: &Weft, client: &str) -> Client {
    Client::connect(weft.mqtt, &Connect::v5(client)).await.unwrap().0
}

/// How often the bridge counted this outcome.
async fn outcomes(weft: &Weft, metric: &str, outcome: &str) -> u64 {
    let (_, text) = weft.get("/metrics").await.unwrap();
    let outcome = format!("outcome=\"{outcome}\"");
    let line = text.lines().find(|line| line.starts_with(metric) && line.contains(&outcome));
    let (_, value) = line.unwrap_or_else(|| panic!("no {metric} of {outcome}")).rsplit_once(' ').unwrap();
    value.parse().unwrap()
}
