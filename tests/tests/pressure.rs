//! RocketMQ stops answering under load from every protocol at once: each publisher sees it in its own protocol's words,
//! nothing that was acknowledged is lost, and who has to do with another route sees nothing of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::cloud::CloudEvent;
use tests::eventmesh::{self, Peer};
use tests::eventmesh_grpc::{GrpcEvent, GrpcPeer};
use tests::eventmesh_web::Web;
use tests::raw::Client;
use tests::real::{Received, RocketMq, Tool, needs};
use tests::socket::Socket;
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Publish};
use tests::{Ledger, Promise, Weft, eventually, pause};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

/// How publishers come in.
const WAYS: [&str; 6] = ["mqtt", "websocket", "http", "grpc", "eventmesh-tcp", "eventmesh-http"];

struct Mesh {
    weft: Weft,
    grpc: SocketAddr,
    tcp: SocketAddr,
    http: SocketAddr,
}

/// What publishers were answered, beside "kept".
type Refusals = Arc<Mutex<BTreeMap<&'static str, String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_store_is_seen_by_its_publishers_and_by_no_one_else() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    let mesh = Arc::new(start(&rocketmq).await);
    let ledger = Ledger::new();
    let _consumer = rocketmq.consume("pressure", &["Stored"], note(ledger.clone())).await;
    let refusals = Refusals::default();
    let (stop, stopped) = watch::channel(false);
    let mut publishers = JoinSet::new();
    for way in WAYS {
        publishers.spawn(publish(way, mesh.clone(), ledger.clone(), refusals.clone(), stopped.clone()));
    }
    let everybody = |ledger: &Ledger| WAYS.map(|way| ledger.acknowledged_by(way));
    eventually("everybody publishes", || async {
        everybody(&ledger).iter().all(|count| *count >= 20).then_some(())
    })
    .await;
    refusals.lock().unwrap().clear();
    let calm = sixth(&mesh.weft, 300).await;

    rocketmq.signal_broker("STOP").await;
    eventually("everybody is told", || async {
        (refusals.lock().unwrap().len() == WAYS.len()).then_some(())
    })
    .await;
    let beside = sixth(&mesh.weft, 300).await;
    a_flood_is_not_read(&mesh.weft).await;
    let told = refusals.lock().unwrap().clone();
    let before = everybody(&ledger);
    rocketmq.signal_broker("CONT").await;
    eventually("everybody publishes again", || async {
        everybody(&ledger).iter().zip(before).all(|(now, before)| *now >= before + 20).then_some(())
    })
    .await;
    stop.send_replace(true);
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    ledger.complete("java", |_| true).await;
    ledger.check("java", |_| Some(Promise::AtLeastOnce));
    println!("on another route, p50 and p99: {calm:?} before, {beside:?} beside the pause");
    println!("{told:#?}");
    // MQTT 5 §3.4.2.1 (0x83), `weft.error`, RFC 9110 §15.6.4, and EventMesh's codes for what could not be sent.
    let words = [
        ("mqtt", ", 131)"),
        ("websocket", "\"kind\":\"unavailable\""),
        ("http", "503 retry-after"),
        ("grpc", "Some(\"14\")"),
        ("eventmesh-tcp", "\"code\": Number(1)"),
        ("eventmesh-http", "\"retCode\": Number(15)"),
    ];
    for (way, wanted) in words {
        let said = &told[way];
        assert!(said.contains(wanted), "{way} was told {said}, not {wanted}");
    }
}

async fn start(rocketmq: &RocketMq) -> Mesh {
    let (grpc, tcp, http) = (free_address(), free_address(), free_address());
    let mut config = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\nwaiting_max = \"256 KiB\"\n[rocketmq.main.store]\ntopic = \"Stored\"\n\
         deadline_ms = 2000\n[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n",
        rocketmq.name_server
    );
    for (name, address) in [("eventmesh-tcp", tcp), ("eventmesh-http", http), ("grpc", grpc)] {
        config += &format!("[listener.em-{name}]\nlisten = \"{address}\"\nprotocol = \"{name}\"\n");
    }
    Mesh { weft: Setup::new().config(config).start().await, grpc, tcp, http }
}

/// Publishes by one way, one after the other, until it is told to stop.
async fn publish(
    way: &'static str,
    mesh: Arc<Mesh>,
    ledger: Ledger,
    refusals: Refusals,
    stop: watch::Receiver<bool>,
) {
    let mut writer = Writer::open(way, &mesh).await;
    let topic = format!("stored/{way}");
    for n in 0.. {
        if *stop.borrow() {
            return;
        }
        let data = ledger.sent(&topic, way, n);
        match writer.publish(&topic, &data, n).await {
            Ok(()) => ledger.acked(&topic, way, n),
            Err(told) => {
                refusals.lock().unwrap().insert(way, told);
                // As clients do: who is told that the store is away is told so at once.
                pause(Duration::from_millis(50)).await;
                writer = Writer::open(way, &mesh).await;
            }
        }
    }
}

enum Writer {
    Mqtt(Client),
    Socket(Box<Socket>),
    Http(reqwest::Client, SocketAddr),
    Grpc(GrpcPeer),
    Tcp(Peer),
    Web(Web),
}

impl Writer {
    async fn open(way: &str, mesh: &Mesh) -> Self {
        match way {
            "mqtt" => Self::Mqtt(Client::connect(mesh.weft.mqtt, &Connect::v5("five")).await.unwrap().0),
            "websocket" => Self::Socket(Box::new(Socket::connect(mesh.weft.http, "").await.unwrap())),
            "http" => Self::Http(reqwest::Client::new(), mesh.weft.http),
            "grpc" => Self::Grpc(GrpcPeer::connect(mesh.grpc).await),
            "eventmesh-tcp" => Self::Tcp(Peer::hello(mesh.tcp, "p", "pub").await),
            _ => Self::Web(Web::connect(mesh.http).await),
        }
    }

    /// Publishes and waits for the answer; what it says, if it is not a yes.
    async fn publish(&mut self, topic: &str, data: &str, n: u64) -> Result<(), String> {
        let event =
            || CloudEvent::new(&n.to_string(), "/pressure", "t").data("application/json", data.as_bytes());
        match self {
            Self::Mqtt(client) => {
                client.publish(Publish::new(topic, data, 1)).await.map_err(|error| error.to_string())
            }
            Self::Socket(socket) => {
                let text = event().with("wefttopic", topic).to_json();
                socket.send(Message::text(text)).await.unwrap();
                let answer: Value = serde_json::from_str(&socket.text().await).unwrap();
                if answer["type"] == "weft.published" { Ok(()) } else { Err(answer.to_string()) }
            }
            Self::Http(client, address) => {
                let url = format!("http://{address}/events?topic={topic}");
                let request =
                    client.post(url).header("content-type", "application/json").body(data.to_owned());
                let answer = request.send().await.unwrap();
                let after = answer.headers().get("retry-after").map_or("", |_| " retry-after");
                if answer.status().is_success() {
                    Ok(())
                } else {
                    Err(format!("{}{after}", answer.status().as_u16()))
                }
            }
            Self::Grpc(peer) => {
                let event = GrpcEvent::from(
                    "1",
                    &[
                        ("subject", topic),
                        ("producergroup", "p"),
                        ("uniqueid", "u"),
                        ("seqnum", "s"),
                        ("ttl", "30000"),
                    ],
                    data,
                );
                let answer = peer.call("PublisherService/publish", &event).await;
                if answer.text("statuscode") == Some("0") { Ok(()) } else { Err(format!("{answer:?}")) }
            }
            Self::Tcp(peer) => {
                let message = eventmesh::message(topic, data, &[]);
                let answer =
                    peer.call("ASYNC_MESSAGE_TO_SERVER", &eventmesh::message_properties(), &message).await;
                if answer.code() == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
            }
            Self::Web(web) => {
                let answer = web.send(104, topic, data, &[]).await;
                if answer.code() == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
            }
        }
    }
}

/// p50 and p99 of publishes of QoS 1 on a route of the embedded log.
async fn sixth(weft: &Weft, count: u32) -> [Duration; 2] {
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("sixth")).await.unwrap();
    let mut times = Vec::new();
    for n in 0..count {
        let start = Instant::now();
        writer.publish(Publish::new("elsewhere/t", n.to_string(), 1)).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Who sends without waiting for answers is not read, or is closed: 64 MiB do not go through, and Weft's memory does not have them.
async fn a_flood_is_not_read(weft: &Weft) {
    let (client, _) = Client::connect(weft.mqtt, &Connect::v4("flood")).await.unwrap();
    let (mut stream, _) = client.into_stream();
    let before = weft.memory();
    let packets: Vec<u8> = (1..=64u16)
        .flat_map(|id| {
            Publish { id, ..Publish::new("stored/flood", vec![b'x'; 16 << 10], 1) }
                .encode(tests::wire::Version::V4)
        })
        .collect();
    let flood = async {
        for _ in 0..64 {
            if stream.write_all(&packets).await.is_err() {
                return false;
            }
        }
        true
    };
    let through = tokio::time::timeout(Duration::from_secs(1), flood).await.unwrap_or(false);
    assert!(!through, "64 MiB were read");
    let grown = weft.memory().saturating_sub(before);
    assert!(grown < 32 << 20, "Weft's memory grew by {grown} bytes");
}

/// Notes what the Java consumer gets, under the topic that it had in Weft.
fn note(ledger: Ledger) -> impl FnMut(Received) + Send + 'static {
    move |message| {
        let topic = message.properties.get("WEFT_TOPIC").cloned().unwrap_or_default();
        if topic != "stored/flood" {
            ledger.received("java", &topic, &message.body());
        }
    }
}
