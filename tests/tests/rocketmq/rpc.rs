//! RocketMQ's own request and reply, with its Java client at the other end, both ways: a request by MQTT 5 or by a synchronous
//! call over HTTP is answered by a Java service, and one of a Java client by an MQTT 5 service.

use std::net::SocketAddr;

use tests::real::{RocketMq, Tool, needs};
use tests::requests::{self, answer_twice, ask_in_vain, connect, outcomes};
use tests::util::free_address;
use tests::weft::Setup;
use tests::{Weft, eventually};

/// The bridge, as metrics and `/ready` call it.
const PART: &str = "rocketmq/rpc";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_replies_cross_rocketmq() {
    if !needs(&[Tool::Java]) {
        return;
    }
    for version in ["4.9.7", "5.3.3"] {
        let rocketmq = RocketMq::start(version).await;
        let eventmesh = free_address();
        let config = format!(
            "[rocketmq.main]\nname_servers = [\"{}\"]\nreply_ms = 60000\n[bridge.rpc]\ncluster = \"main\"\n\
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
    // Their client compresses what is longer than 4 KiB.
    let long = "long ".repeat(2000);
    let heard = |line: &str, body: &str| assert_eq!(line, format!("asked {body}"));
    requests::ask(weft, eventmesh, &mut service, &["what?", long.trim(), "and?"], heard, "reply to ").await;
    assert_eq!(outcomes(weft, PART, "weft_rocketmq_requests_total", "answered").await, 4);
}

async fn a_request_from_there_is_answered_here(rocketmq: &RocketMq, weft: &Weft) {
    let mut service = connect(weft, "service").await;
    service.subscribe(&[("serve", 1)]).await;
    let mut requester = rocketmq.rpc("ask", "Serve", "20000").await;
    for body in ["one", "two"] {
        requester.say(body).await;
        answer_twice(&mut service, body).await;
        assert_eq!(requester.next().await, format!("reply answer to {body}"));
    }
    let mut requester = rocketmq.rpc("ask", "Serve", "5000").await;
    ask_in_vain(&mut service, &mut requester).await;
    eventually("the request is given up", || async {
        (outcomes(weft, PART, "weft_rocketmq_answers_total", "missing").await == 1).then_some(())
    })
    .await;
    for outcome in ["sent", "late"] {
        assert_eq!(outcomes(weft, PART, "weft_rocketmq_answers_total", outcome).await, 2, "{outcome}");
    }
}
