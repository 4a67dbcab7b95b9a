//! Routes that make events: what readers of each protocol get, over reloads under load and over `kill -9`.

use std::time::Duration;

use serde_json::{Value, json};
use tests::actors::{self, Actor, Publishing, Subscribing};
use tests::cloud::{CloudEvent, STRUCTURED};
use tests::raw::Client;
use tests::socket::Socket;
use tests::weft::Setup;
use tests::wire::{Connect, Property, Publish};
use tests::{Ledger, Promise, Rng, Weft, pause, seed};

const BY_HAND: &str = "reload_s = 0\n";

/// Large orders go to the office as well, with data of their own.
const OFFICE: &str = r#"
[[route]]
topic = "orders/+/new"
filter = "cel: data.total > 1000"
copy = true
[[route.to]]
topic = "office/{2}/{data.region}"
data = 'json: {"order": "{data.id}", "total": "{data.total}", "from": "{source}", "at": "{1}"}'
key = "{data.customer}"
set = { priority = "high", type = "office.order" }
[[route.to]]
topic = "strict/{data.absent}"
missing = "skip"

[[route]]
topic = "orders/+/broken"
to = [{ topic = "x/{data.id}", missing = "refuse" }]

[[route]]
topic = "orders/+/http"
listener = "http"
to = [{ topic = "web/{2..}", data = "text: {data.id}" }]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_goes_on_as_it_is_and_as_the_route_says() {
    let weft = Setup::new().config(OFFICE).start().await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader")).await.unwrap();
    reader.subscribe(&[("orders/#", 1), ("web/#", 1)]).await;
    let (mut office, _) = Client::connect(weft.mqtt, &Connect::v4("office")).await.unwrap();
    office.subscribe(&[("office/#", 2), ("strict/#", 2)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("shop 1")).await.unwrap();
    for qos in 0..3 {
        for order in [
            json!({"id": 1, "total": 999, "region": "eu", "customer": "c1"}),
            json!({"id": 2, "total": 1001.5, "region": "e/u", "customer": "c2"}),
        ] {
            writer.publish(Publish::new("orders/7/new", order.to_string(), qos)).await.unwrap();
            let got = reader.message().await.unwrap().expect("the order itself");
            assert_eq!((got.topic.as_str(), got.payload), ("orders/7/new", order.to_string().into_bytes()));
        }
        let got = office.message().await.unwrap().expect("the large order");
        assert_eq!((got.topic.as_str(), got.qos), ("office/7/e_u", qos));
        // MQTT 3.1.1 has CloudEvents as JSON.
        let event: Value = serde_json::from_slice(&got.payload).unwrap();
        assert_eq!(
            event["data"],
            json!({"order": 2, "total": 1001.5, "from": "/clients/shop%201", "at": "orders"})
        );
        assert_eq!((&event["priority"], &event["partitionkey"]), (&json!("high"), &json!("c2")));
        assert_eq!((&event["type"], &event["subject"]), (&json!("office.order"), &json!("orders/7/new")));
    }
    let refused = writer.publish(Publish::new("orders/7/broken", "{}", 1)).await;
    assert!(refused.is_err(), "an event without an id was acknowledged");
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("shop 1")).await.unwrap();
    writer.publish(Publish::new("orders/7/http", "{\"id\":5}", 1)).await.unwrap();
    let url = format!("http://{}/events?topic=orders/7/http", weft.http);
    let post = reqwest::Client::new().post(url).header("content-type", "application/json").body("{\"id\":6}");
    assert!(post.send().await.unwrap().status().is_success());
    let mut got = Vec::new();
    for _ in 0..2 {
        let message = reader.message().await.unwrap().expect("an order");
        got.push((message.topic, String::from_utf8(message.payload).unwrap()));
    }
    assert_eq!(got, [("orders/7/http".into(), "{\"id\":5}".into()), ("web/7/http".into(), "6".to_owned())]);
    assert_eq!(weft.metric("weft_core_targets_skipped_total").await, Some(3.0));
    assert!(office.is_quiet(Duration::from_millis(100)).await);
}

/// Even numbers go one way and odd ones another, or the other way round, as `turn` says.
fn ways(turn: usize) -> String {
    let (first, rest) = [("a", "b"), ("b", "a")][turn % 2];
    let (remainder, durability) = (turn % 3 % 2, ["synced", "written", "received"][turn % 3]);
    format!(
        "{BY_HAND}[[route]]\ntopic = \"load/#\"\nfilter = \"cel: data.n % 2 == {remainder}\"\ndurability = {durability:?}\n\
         to = [{{ topic = \"{first}/{{topic}}\" }}]\n[[route]]\ntopic = \"load/#\"\nto = [{{ topic = \"{rest}/{{topic}}\" }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_that_change_under_load_lose_and_double_nothing() {
    let weft = Setup::new().config(ways(0)).start().await;
    let ledger = Ledger::new();
    let mut reader = actors::subscribe(
        weft.mqtt,
        Subscribing {
            connect: Connect::v5("reader").persistent(),
            filter: "+/load/#".into(),
            qos: 2,
            above: 1,
            flap: None,
        },
        ledger.clone(),
    );
    reader.ready().await;
    let mut publishers: Vec<Actor> = (0..4).map(|number| publisher(&weft, "load", number, &ledger)).collect();
    for publisher in &mut publishers {
        publisher.ready().await;
    }
    let connected = weft.metric("weft_mqtt_connects_total").await;
    let http = reqwest::Client::new();
    let mut turns = 0;
    let mut before = 0;
    while turns < 100 || ledger.acknowledged() < 4000 {
        turns += 1;
        weft.configure(&ways(turns));
        let answer = http.post(format!("http://{}/admin/reload", weft.http)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        // Each table has some events of its own.
        while ledger.acknowledged() < before + 10 {
            tokio::task::yield_now().await;
        }
        before = ledger.acknowledged();
    }
    for publisher in publishers {
        publisher.finish().await;
    }
    ledger.complete("reader", |_| true).await;
    assert_eq!(weft.metric("weft_mqtt_connects_total").await, connected, "a connection was lost");
    reader.finish().await;
    ledger.check("reader", |topic| {
        Some(if topic.ends_with("q2") { Promise::ExactlyOnce } else { Promise::AtLeastOnce })
    });
    assert_eq!(ledger.arrivals("reader"), ledger.acknowledged(), "nothing came twice");
}

fn publisher(weft: &Weft, topic: &str, number: u32, ledger: &Ledger) -> Actor {
    let plan = Publishing {
        connect: Connect::v5(&format!("publisher-{number}")).persistent(),
        topics: vec![(format!("{topic}/{number}/q1"), 1), (format!("{topic}/{number}/q2"), 2)],
        window: 20,
        every: Duration::from_millis(2),
    };
    actors::publish(weft.mqtt, plan, ledger.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_at_every_target_after_kills() {
    let copies = "[[route]]\ntopic = \"crash/#\"\ncopy = true\n\
        to = [{ topic = \"one/{topic}\" }, { topic = \"two/{topic}\", durability = \"written\", set = { target = \"two\" } }]\n";
    let mut rng = Rng::new(seed(1));
    let mut weft = Setup::new().config(copies).start().await;
    let ledger = Ledger::new();
    let readers = [("as-it-is", "crash/#", 0), ("one", "one/#", 1), ("two", "two/#", 1)];
    let mut subscribers = Vec::new();
    for (name, filter, above) in readers {
        let connect = Connect::v5(name).persistent();
        let plan = Subscribing { connect, filter: filter.to_owned(), qos: 2, above, flap: None };
        let mut subscriber = actors::subscribe(weft.mqtt, plan, ledger.clone());
        subscriber.ready().await;
        subscribers.push(subscriber);
    }
    let publishers: Vec<Actor> = (0..4).map(|number| publisher(&weft, "crash", number, &ledger)).collect();
    for _ in 0..8 {
        ledger.more_acknowledged(65).await;
        pause(rng.millis(0, 1000)).await;
        weft.kill().await;
        weft.restart().await;
    }
    for publisher in publishers {
        publisher.finish().await;
    }
    for (name, ..) in readers {
        ledger.complete(name, |_| true).await;
    }
    for subscriber in subscribers {
        subscriber.finish().await;
    }
    assert!(ledger.acknowledged() > 500, "only {} acknowledged: too few to tell", ledger.acknowledged());
    for (name, ..) in readers {
        ledger.check(name, |topic| {
            Some(if topic.ends_with("q2") { Promise::ExactlyOnce } else { Promise::AtLeastOnce })
        });
    }
}

/// One CloudEvent, published by four protocols and over a kill, is kept once; and goes the way of the protocol that was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_answered_and_not_kept_again() {
    let config = "[[route]]\ntopic = \"once/#\"\nprotocol = \"websocket\"\nunique_s = 3600\nto = [{ topic = \"by-socket\" }]\n\
                  [[route]]\ntopic = \"once/#\"\nunique_s = 3600\n";
    let mut weft = Setup::new().config(config).start().await;
    let event = |id: &str| CloudEvent::new(id, "/shop", "order").data("application/json", b"1");
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap();
    reader.subscribe(&[("once/#", 1), ("by-socket", 1)]).await;
    let mut repeats = 0;
    for round in 0..2 {
        for id in ["first by MQTT", "first by WebSocket"] {
            if id == "first by MQTT" {
                by_mqtt(&weft, &event(id)).await;
            }
            let mut socket = Socket::connect(weft.http, "").await.unwrap();
            socket.publish(&event(id).with("wefttopic", "once/socket")).await;
            let url = format!("http://{}/events?topic=once/http", weft.http);
            let post =
                reqwest::Client::new().post(url).header("content-type", STRUCTURED).body(event(id).to_json());
            assert!(post.send().await.unwrap().status().is_success());
            by_mqtt(&weft, &event(id)).await;
            repeats += if id == "first by MQTT" { 3 } else { 2 } + i32::from(round > 0);
        }
        assert_eq!(weft.metric("weft_core_events_repeated_total").await, Some(f64::from(repeats)));
        if round == 0 {
            for topic in ["once/mqtt", "by-socket"] {
                assert_eq!(reader.message().await.unwrap().expect("a message").topic, topic);
            }
            weft.kill().await;
            weft.restart().await;
            (reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader").persistent()).await.unwrap();
            repeats = 0;
        }
    }
    by_mqtt(&weft, &event("new")).await;
    // What was not known to be acknowledged before the kill comes once more, and nothing else.
    let mut again = Vec::new();
    loop {
        let message = reader.message().await.unwrap().expect("a message");
        if message.properties.contains(&Property::Pair("id".to_owned(), "new".to_owned())) {
            break;
        }
        again.push(message.topic);
    }
    assert!(["once/mqtt", "by-socket"].map(str::to_owned).ends_with(&again), "{again:?}");
}

async fn by_mqtt(weft: &Weft, event: &CloudEvent) {
    let (mut client, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    client.publish(event.to_publish("once/mqtt", 2)).await.unwrap();
    client.disconnect().await;
}
