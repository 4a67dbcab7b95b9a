//! Bridges come, change and go while Weft runs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use remoting::Decoder;
use serde_json::Value;
use tests::actors::{self, Publishing};
use tests::raw::Client;
use tests::real::{RocketMq, Tool, needs};
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Publish};
use tests::{Ledger, Weft, eventually};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// RocketMQ's.
const TOPICS: [&str; 4] = ["Stays", "Before", "After", "Added"];

fn cluster(name_server: &str) -> String {
    format!("reload_s = 0\n[rocketmq.main]\nname_servers = [{name_server:?}]\n")
}

fn bridge(name: &str, filter: &str, topic: &str) -> String {
    format!(
        "[bridge.{name}]\ncluster = \"main\"\n[[bridge.{name}.out]]\nfilter = {filter:?}\ntopic = {topic:?}\n"
    )
}

/// Has the configuration read; gives the status and the answer.
async fn reload(weft: &Weft, toml: &str) -> (u16, String) {
    weft.configure(toml);
    let request = reqwest::Client::new().post(format!("http://{}/admin/reload", weft.http));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// As [`reload`], by SIGHUP; waits until all bridges work.
async fn switch(weft: &Weft, toml: &str) {
    weft.configure(toml);
    let taken = "weft_config_reloads_total{result=\"taken\"}";
    let before = weft.series(taken).await.unwrap_or(0.0);
    weft.signal("HUP").await;
    eventually("it is read", async || (weft.series(taken).await? > before).then_some(())).await;
    weft.until_ready_says(200, "").await;
}

/// Waits until the bridge has a session that subscribed `filter` and no more; `None`: until it has no session.
async fn holds(weft: &Weft, name: &str, filter: Option<&str>) {
    let what = format!("the session of {name} has {filter:?}");
    let path = format!("/admin/subscriptions?client=%24bridge%2Frocketmq%2F{name}");
    eventually(&what, async || {
        let (status, page) = weft.get(&path).await?;
        let Some(filter) = filter else { return (status == 404).then_some(()) };
        let only =
            page.matches("\"filter\":").count() == 1 && page.contains(&format!("\"filter\":{filter:?}"));
        only.then_some(())
    })
    .await;
}

/// So many deliveries the ledger has under this name, of all routes.
async fn booked(weft: &Weft, what: &str) -> u64 {
    let (_, page) = weft.get("/admin/ledger").await.unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    page["deliveries"].as_array().unwrap().iter().map(|route| route[what].as_u64().unwrap()).sum()
}

async fn settled(weft: &Weft) {
    let settled = async || (booked(weft, "queued").await == 0).then_some(());
    eventually("the ledger has settled", settled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bridges_come_change_and_go_under_load_and_nothing_is_lost() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    // Their client looks for new topics every 30 s.
    for topic in TOPICS {
        rocketmq.make_topic(topic).await;
    }
    let base = cluster(&rocketmq.name_server) + &bridge("stays", "load/#", "Stays");
    let config = base.clone() + &bridge("moves", "load/#", "Before");
    let mut weft = Setup::new().config(&*config).start().await;
    let ledger = Ledger::new();
    let note = ledger.clone();
    let _consumer = rocketmq
        .consume("reload", &TOPICS, move |message| {
            let reader = match &*message.topic {
                "Before" | "After" => "moves",
                "Stays" => "stays",
                _ => "added",
            };
            let topic = message.properties.get("WEFT_TOPIC").cloned().unwrap_or_default();
            note.received(reader, &topic, &message.body());
            note.received(&message.topic, &topic, &message.body());
        })
        .await;
    let plan = Publishing {
        connect: Connect::v5("under-load").persistent(),
        topics: vec![("load/all".to_owned(), 1)],
        window: 20,
        every: Duration::from_millis(10),
    };
    let mut load = actors::publish(weft.mqtt, plan, ledger.clone());
    load.ready().await;
    let arrived = async |reader: &str| {
        eventually(reader, async || (ledger.arrivals(reader) > 0).then_some(())).await;
    };
    arrived("Before").await;

    // One goes to another topic, one comes, and one is as it was.
    let moved = base.clone() + &bridge("moves", "load/#", "After");
    switch(&weft, &(moved.clone() + &bridge("added", "load/late", "Added"))).await;
    arrived("After").await;
    holds(&weft, "added", Some("load/late")).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..50 {
        let data = ledger.sent("load/late", "writer", n);
        writer.publish(Publish::new("load/late", data, 1)).await.unwrap();
        ledger.acked("load/late", "writer", n);
    }
    ledger.complete("added", |topic| topic == "load/late").await;

    // It is taken out again.
    switch(&weft, &moved).await;
    holds(&weft, "added", None).await;
    let up = "weft_rocketmq_link_up{part=\"rocketmq/added\"}";
    assert!(weft.series(up).await.is_none_or(f64::is_nan));
    load.finish().await;
    for reader in ["moves", "stays"] {
        ledger.complete(reader, |_| true).await;
    }
    settled(&weft).await;
    assert_eq!(booked(&weft, "owed").await, booked(&weft, "acked").await + booked(&weft, "left").await);
    // Who did not change began once; who changed, again. A busy broker may not answer for a while: that is told, and its end.
    weft.until_ready_says(200, "").await;
    let text = weft.output().text();
    let told = |part: &str, word: &str| {
        text.lines().filter(|line| line.contains(part) && line.contains(word)).count()
    };
    let begun = |part: &str| told(part, ": works ") - told(part, ": does not work ");
    assert_eq!((begun("rocketmq/stays"), begun("rocketmq/added")), (1, 1), "{text}");
    assert!(begun("rocketmq/moves") >= 2, "{text}");

    // And one while Weft is down.
    let (status, ..) = weft.terminate().await;
    assert!(status.success());
    let weft = Setup::new().data(weft.data()).config(&*base).start().await;
    holds(&weft, "stays", Some("load/#")).await;
    holds(&weft, "moves", None).await;
}

/// Nobody is at the other end, so that all stays where it is.
#[tokio::test]
async fn a_backlog_stays_with_its_bridge_and_is_booked_when_the_bridge_goes() {
    let base = cluster(&free_address().to_string());
    let first = base.clone() + &bridge("b", "a/#", "T");
    let mut weft = Setup::new().config(&*first).prepare();
    weft.launch();
    holds(&weft, "b", Some("a/#")).await;
    let (mut from, _) = Client::connect(weft.mqtt, &Connect::v5("publisher")).await.unwrap();
    for n in 0..5 {
        from.publish(Publish::new("a/x", n.to_string(), 1)).await.unwrap();
    }
    assert_eq!(booked(&weft, "queued").await, 5);

    let broken = first.clone() + &bridge("c", "a/#", "not a topic!");
    let (status, reason) = reload(&weft, &broken).await;
    assert!(status == 422 && reason.contains("not a topic!"), "{status} {reason}");
    let broken = first.clone() + "[bridge.c]\ncluster = \"other\"\n";
    let (status, reason) = reload(&weft, &broken).await;
    assert!(status == 422 && reason.contains("other"), "{status} {reason}");

    // Another topic there, another filter here, other settings of the cluster: each on the same session.
    let taken = (200, "{\"after_restart\":[],\"routes\":0}\n".to_owned());
    let turned = base.clone() + "request_ms = 700\n" + &bridge("b", "b/#", "U");
    for (toml, filter) in [
        (base.clone() + &bridge("b", "a/#", "U"), "a/#"),
        (base.clone() + &bridge("b", "b/#", "U"), "b/#"),
        (turned.clone(), "b/#"),
    ] {
        let answer = reload(&weft, &toml).await;
        assert_eq!((answer.0, answer.1.trim()), (taken.0, taken.1.trim()));
        holds(&weft, "b", Some(filter)).await;
    }

    // It goes, and what waited is told as such; one of its name begins anew.
    from.publish(Publish::new("b/x", "5", 1)).await.unwrap();
    let owed = booked(&weft, "owed").await;
    assert_eq!(reload(&weft, &base).await.0, 200);
    holds(&weft, "b", None).await;
    settled(&weft).await;
    assert_eq!((owed, booked(&weft, "acked").await + booked(&weft, "left").await), (6, 6));
    assert!(booked(&weft, "left").await >= 1);
    let (status, page) = weft.get("/ready").await.unwrap();
    assert!(status == 200 && !page.contains("rocketmq/b"), "{page}");

    // So it does if it is taken out while Weft is down.
    assert_eq!(reload(&weft, &turned).await.0, 200);
    holds(&weft, "b", Some("b/#")).await;
    weft.kill().await;
    let weft = Setup::new().data(weft.data()).config(&*base).start().await;
    holds(&weft, "b", None).await;
}

/// What holds until the next start is told, and holds for the bridges of the cluster as well: those that are there, and those that
/// come.
#[tokio::test]
async fn a_cluster_that_is_an_open_store_keeps_its_settings_for_its_bridges_too() {
    for kind in ["rocketmq", "defibus"] {
        let (first, second) = (NameServer::start().await, NameServer::start().await);
        let config = |server: &NameServer, bridges: &str| {
            let cluster = cluster(&server.address.to_string()).replace("[rocketmq.", &format!("[{kind}."));
            cluster + "[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n" + bridges
        };
        let b = bridge("b", "a/#", "OfB");
        let mut weft = Setup::new().config(config(&first, &b)).prepare();
        weft.launch();
        first.until_asked_for("OfB", 1).await;
        let routes = async || weft.get("/admin/routes").await.filter(|(status, _)| *status == 200);
        eventually("it takes reloads", routes).await;

        let both = b + &bridge("c", "c/#", "OfC");
        let (status, answer) = reload(&weft, &config(&second, &both)).await;
        let told = format!("{{\"after_restart\":[{kind:?}],\"routes\":1}}");
        assert_eq!((status, answer.trim()), (200, &*told));
        eventually("the log tells it", async || {
            let text = weft.output().text();
            let mut lines = text.lines();
            lines.find(|line| line.contains("holds after a restart") && line.contains(kind)).map(drop)
        })
        .await;
        first.until_asked_for("OfC", 1).await;
        // One question may have been on its way.
        first.until_asked_for("OfB", first.asked_for("OfB") + 2).await;
        assert!(second.topics.lock().unwrap().is_empty());

        weft.kill().await;
        let mut weft = Setup::new().data(weft.data()).config(config(&second, &both)).prepare();
        weft.launch();
        second.until_asked_for("OfB", 1).await;
        second.until_asked_for("OfC", 1).await;
    }
}

/// A name server that hears and says nothing. Its connections end with it.
struct NameServer {
    address: SocketAddr,
    /// Topics that it was asked for.
    topics: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl NameServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, topics) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let (mut tasks, heard) = (JoinSet::new(), Arc::clone(&topics));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(hear(stream, Arc::clone(&heard)));
            }
        });
        Self { address, topics, _tasks: tasks }
    }

    fn asked_for(&self, topic: &str) -> usize {
        self.topics.lock().unwrap().iter().filter(|asked| *asked == topic).count()
    }

    async fn until_asked_for(&self, topic: &str, times: usize) {
        let what = format!("asked for {topic} {times} times");
        eventually(&what, async || (self.asked_for(topic) >= times).then_some(())).await;
    }
}

/// Notes the topic of the first question, and hangs up.
async fn hear(mut stream: TcpStream, topics: Arc<Mutex<Vec<String>>>) {
    let mut input = BytesMut::new();
    while matches!(stream.read_buf(&mut input).await, Ok(1..)) {
        if let Some(command) = Decoder::default().decode(&mut input).unwrap() {
            topics.lock().unwrap().push(command.field("topic").unwrap_or_default().to_owned());
            return;
        }
    }
}
