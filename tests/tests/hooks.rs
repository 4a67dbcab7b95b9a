//! Webhooks of the configuration: what is published by any protocol is posted as CloudEvents, in order, at least once, over
//! crashes and outages; what a webhook does not take becomes a dead letter.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::authority::Authority;
use tests::cloud::{CloudEvent, STRUCTURED};
use tests::hook::{Hook, Post};
use tests::raw::Client;
use tests::real::{Language, Sdk, Tool, needs};
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Property, Publish};
use tests::{Weft, eventually};

/// Message Expiry Interval (MQTT 5 §3.3.2.3.3).
const EXPIRY: u8 = 2;

/// A hook of the name "h" for `a/#` that tries again soon.
fn hook(url: &str, more: &str) -> String {
    format!(
        "[hook.h]\nurl = {url:?}\ntopics = [\"a/#\"]\nretry_ms = 20\nretry_max_ms = 100\npause_ms = 100\n{more}\n"
    )
}

async fn start(hook_: &Hook, more: &str) -> Weft {
    Setup::new().config(hook(&hook_.url(), more)).start().await
}

async fn publisher(weft: &Weft) -> Client {
    Client::connect(weft.mqtt, &Connect::v5("publisher")).await.unwrap().0
}

async fn publish(client: &mut Client, topic: &str, data: &str) {
    client.publish(Publish::new(topic, data, 1)).await.unwrap();
}

/// Topic and data of a post in structured mode.
fn seen(post: &Post) -> (String, String) {
    assert_eq!(post.headers["content-type"], STRUCTURED);
    let event: Value = serde_json::from_slice(&post.body).unwrap();
    (event["wefttopic"].as_str().unwrap().to_owned(), event["data"].to_string())
}

/// Waits until so many events of hook "h" had this outcome.
async fn counted(weft: &Weft, outcome: &str, count: u32) {
    let series = format!("weft_hook_events_total{{hook=\"h\",outcome=\"{outcome}\"}} {count}");
    let what = format!("/metrics has {series}");
    eventually(&what, || async {
        let (_, page) = weft.get("/metrics").await?;
        page.lines().any(|line| line == series).then_some(())
    })
    .await;
}

#[tokio::test]
async fn events_are_posted_in_order_and_not_again_after_a_crash() {
    let mut target = Hook::start().await;
    let mut weft = start(&target, "").await;
    let mut from = publisher(&weft).await;
    for n in 0..30 {
        // Also what nobody promised to keep: it goes through the log for a webhook.
        from.publish(Publish::new("a/b", n.to_string(), n % 3)).await.unwrap();
    }
    publish(&mut from, "other", "not this").await;
    for n in 0..30 {
        assert_eq!(seen(&target.next().await), ("a/b".to_owned(), n.to_string()));
    }
    counted(&weft, "delivered", 30).await;
    // Acks are appended and not waited for: something that is synced behind them keeps them.
    publish(&mut from, "other", "not this").await;
    weft.kill().await;
    weft.restart().await;
    let mut from = publisher(&weft).await;
    publish(&mut from, "a/b", "30").await;
    assert_eq!(seen(&target.next().await).1, "30");
}

#[tokio::test]
async fn what_was_not_answered_is_posted_again_after_a_crash() {
    let mut target = Hook::start().await;
    target.never_answer();
    let mut weft = start(&target, "").await;
    let mut from = publisher(&weft).await;
    for n in 0..3 {
        publish(&mut from, "a", &n.to_string()).await;
    }
    assert_eq!(seen(&target.next().await).1, "0");
    weft.kill().await;
    weft.restart().await;
    for n in 0..3 {
        assert_eq!(seen(&target.next().await).1, n.to_string());
    }
}

#[tokio::test]
async fn a_webhook_that_was_away_catches_up_in_order() {
    let address = free_address();
    let url = format!("http://{address}/hook");
    let weft = Setup::new().config(hook(&url, "failures_max = 2")).start().await;
    let mut from = publisher(&weft).await;
    for n in 0..50 {
        publish(&mut from, "a", &n.to_string()).await;
    }
    weft.until_ready_says(503, r#""hook/h":{"ok":false,"reason":"2 posts in a row failed: "#).await;
    assert_eq!(weft.metric("weft_hook_up").await, Some(0.0));
    let mut target = Hook::at(address).await;
    for n in 0..50 {
        assert_eq!(seen(&target.next().await).1, n.to_string());
    }
    weft.until_ready_says(200, r#""hook/h":{"ok":true}"#).await;
    assert_eq!(weft.metric("weft_hook_up").await, Some(1.0));
}

#[tokio::test]
async fn what_it_refuses_is_a_dead_letter_and_holds_up_nothing() {
    let mut target = Hook::start().await;
    target.answer(400, "", "");
    target.answer(500, "", "");
    let weft = start(&target, "").await;
    let mut dead = Client::connect(weft.mqtt, &Connect::v5("dead")).await.unwrap().0;
    dead.subscribe(&[("$dead/#", 1)]).await;
    let mut from = publisher(&weft).await;
    for data in ["1", "2"] {
        publish(&mut from, "a/b", data).await;
    }
    let letter = dead.message().await.unwrap().unwrap();
    assert_eq!((letter.topic.as_str(), &letter.payload[..]), ("$dead/h/a/b", &b"1"[..]));
    let pair = |name: &str, value: &str| Property::Pair(name.to_owned(), value.to_owned());
    assert!(letter.properties.contains(&pair("deadlettertopic", "a/b")), "{letter:?}");
    assert!(letter.properties.contains(&pair("deadletterreason", "the webhook answered 400")), "{letter:?}");
    for data in ["1", "2", "2"] {
        assert_eq!(seen(&target.next().await).1, data);
    }
    counted(&weft, "delivered", 1).await;
    let (_, ledger) = weft.get("/admin/ledger").await.unwrap();
    assert!(ledger.contains(r#""dead_lettered":1"#), "{ledger}");
}

#[tokio::test]
async fn what_it_does_not_take_in_time_is_a_dead_letter() {
    let mut target = Hook::start().await;
    let weft = start(&target, "give_up_s = 1\nfailures_max = 1000").await;
    let mut dead = Client::connect(weft.mqtt, &Connect::v5("dead")).await.unwrap().0;
    dead.subscribe(&[("$dead/#", 1)]).await;
    for _ in 0..1000 {
        target.answer(500, "", "");
    }
    let mut from = publisher(&weft).await;
    publish(&mut from, "a", "1").await;
    let letter = dead.message().await.unwrap().unwrap();
    assert_eq!(letter.topic, "$dead/h/a");
    assert!(target.next().await.body == target.next().await.body, "it was tried more than once");
}

#[tokio::test]
async fn one_that_is_gone_gets_nothing_more_until_the_next_start() {
    let mut target = Hook::start().await;
    target.answer(410, "", "");
    let mut weft = start(&target, "").await;
    let mut from = publisher(&weft).await;
    for data in ["1", "2"] {
        publish(&mut from, "a", data).await;
    }
    assert_eq!(seen(&target.next().await).1, "1");
    weft.until_ready_says(503, "it answered 410 Gone").await;
    weft.kill().await;
    assert!(target.next_within(Duration::ZERO).await.is_none());
    weft.restart().await;
    for data in ["1", "2"] {
        assert_eq!(seen(&target.next().await).1, data);
    }
}

#[tokio::test]
async fn who_says_when_to_come_again_is_left_alone_until_then() {
    let mut target = Hook::start().await;
    target.answer(429, "retry-after: 1\r\n", "");
    let weft = start(&target, "in_flight = 4").await;
    let mut from = publisher(&weft).await;
    publish(&mut from, "a", "1").await;
    target.next().await;
    let asked = Instant::now();
    publish(&mut from, "a", "2").await;
    let next = [target.next().await, target.next().await];
    // The answer left before `asked`, by less than it takes to read it.
    assert!(asked.elapsed() > Duration::from_millis(900), "{next:?}");
}

#[tokio::test]
async fn what_expired_meanwhile_is_not_posted() {
    let address = free_address();
    let weft = Setup::new().config(hook(&format!("http://{address}/"), "")).start().await;
    let mut from = publisher(&weft).await;
    from.publish(Publish::new("a", "old", 1).with(Property::Four(EXPIRY, 1))).await.unwrap();
    publish(&mut from, "a", "2").await;
    counted(&weft, "expired", 1).await;
    let mut target = Hook::at(address).await;
    assert_eq!(seen(&target.next().await).1, "2");
}

#[tokio::test]
async fn several_are_on_their_way_if_that_is_allowed() {
    let mut target = Hook::start().await;
    let weft = start(&target, "in_flight = 3").await;
    for _ in 0..3 {
        target.never_answer();
    }
    let mut from = publisher(&weft).await;
    for n in 0..4 {
        publish(&mut from, "a", &n.to_string()).await;
    }
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(seen(&target.next().await).1);
    }
    got.sort();
    assert_eq!(got, ["0", "1", "2"]);
}

#[tokio::test]
async fn only_what_passes_the_filter_is_posted_with_proof_of_who_posts() {
    let folder = tempfile::tempdir().unwrap();
    let (token, secret) = (folder.path().join("token"), folder.path().join("secret"));
    std::fs::write(&token, "mF_9.B5f-4.1JqM\n").unwrap();
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let mut target = Hook::start().await;
    let more = format!("filter = \"cel: data > 1\"\ntoken_file = {token:?}\nsecret_file = {secret:?}");
    let weft = start(&target, &more).await;
    let mut from = publisher(&weft).await;
    for data in ["1", "2"] {
        publish(&mut from, "a", data).await;
    }
    let post = target.next().await;
    assert_eq!(seen(&post).1, "2");
    assert_eq!(post.headers["authorization"], "Bearer mF_9.B5f-4.1JqM");
    assert!(post.headers["webhook-signature"].starts_with("v1,"), "{post:?}");
}

#[tokio::test]
async fn a_webhook_is_asked_first_if_weft_says_who_it_is() {
    let mut target = Hook::start().await;
    let mut weft = Setup::new().config(hook(&target.url(), "origin = \"weft.example.org\"")).prepare();
    weft.launch();
    let asked = target.next().await;
    assert_eq!(
        (asked.method.as_str(), &*asked.headers["webhook-request-origin"]),
        ("OPTIONS", "weft.example.org")
    );
    let reason = "it answers OPTIONS without a WebHook-Allowed-Origin for weft.example.org";
    weft.until_ready_says(503, reason).await;
    let mut from = publisher(&weft).await;
    publish(&mut from, "a", "1").await;
    target.consent("WebHook-Allowed-Origin: weft.example.org\r\nWebHook-Allowed-Rate: 6000\r\n");
    let post = loop {
        let post = target.next().await;
        if post.method == "POST" {
            break post;
        }
    };
    assert_eq!((&*seen(&post).1, &*post.headers["webhook-request-origin"]), ("1", "weft.example.org"));
}

#[tokio::test]
async fn over_tls_the_authority_of_the_configuration_is_believed_and_no_other() {
    let (ca, other) = (Authority::new(), Authority::new());
    let mut target = Hook::over_tls(ca.server()).await;
    let url = format!("https://localhost:{}/hook", target.address.port());
    for (believed, ok) in [(&other, false), (&ca, true)] {
        let more = format!("failures_max = 1\nca_file = {:?}", believed.path("ca.pem"));
        let weft = Setup::new().config(hook(&url, &more)).start().await;
        let mut from = publisher(&weft).await;
        publish(&mut from, "a", "1").await;
        match ok {
            true => assert_eq!(seen(&target.next().await).1, "1"),
            false => drop(weft.until_ready_says(503, "\"hook/h\":{\"ok\":false").await),
        }
    }
}

/// One of the name `name` for `topic`; the configuration is read when a test says so.
fn named(name: &str, url: &str, topic: &str) -> String {
    format!("[hook.{name}]\nurl = {url:?}\ntopics = [{topic:?}]\nretry_ms = 20\n")
}

/// Writes the configuration, has it read again, and waits until the webhooks in it hold.
async fn switch(weft: &Weft, hooks: &str, count: usize) {
    weft.configure(&format!("reload_s = 0\n{hooks}"));
    let reloads = weft.metric("weft_config_reloads_total").await.unwrap_or(0.0);
    weft.signal("HUP").await;
    eventually("it is read", async || {
        (weft.metric("weft_config_reloads_total").await? > reloads).then_some(())
    })
    .await;
    weft.until_ready_says(200, "").await;
    let (_, page) = weft.get("/ready").await.unwrap();
    assert_eq!(page.matches("\"hook/").count(), count, "{page}");
}

/// So many deliveries the ledger has under this name, of all routes.
async fn booked(weft: &Weft, what: &str) -> u64 {
    let (_, page) = weft.get("/admin/ledger").await.unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    page["deliveries"].as_array().unwrap().iter().map(|route| route[what].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn webhooks_come_change_and_go_under_load_and_no_event_is_lost_or_doubled() {
    let (mut one, mut two, mut three) = (Hook::start().await, Hook::start().await, Hook::start().await);
    let first = named("first", &one.url(), "load/#");
    let weft = Setup::new().config(format!("reload_s = 0\n{first}")).start().await;
    let (mut from, mut count) = (publisher(&weft).await, 0);
    let mut load = async |events: u32| {
        for _ in 0..events {
            publish(&mut from, "load/a", &count.to_string()).await;
            count += 1;
        }
    };
    load(100).await;
    // One comes beside it.
    switch(&weft, &(first.clone() + &named("second", &two.url(), "load/#")), 2).await;
    load(100).await;
    // One goes elsewhere, while events are on their way to it, and the other is as it was.
    let moved = named("first", &three.url(), "load/#") + &named("second", &two.url(), "load/#");
    weft.configure(&format!("reload_s = 0\n{moved}"));
    weft.signal("HUP").await;
    load(100).await;
    switch(&weft, &moved, 2).await;
    load(100).await;
    let numbers = async |hook: &mut Hook, count: usize| {
        let mut numbers = Vec::new();
        for _ in 0..count {
            numbers.push(seen(&hook.next().await).1.parse::<u32>().unwrap());
        }
        numbers
    };
    assert_eq!(numbers(&mut two, 300).await, Vec::from_iter(100..400));
    let mut of_first = Vec::new();
    while let Some(post) = one.next_within(Duration::ZERO).await {
        of_first.push(seen(&post).1.parse::<u32>().unwrap());
    }
    let rest = 400 - of_first.len();
    assert!((100..400).contains(&of_first.len()), "{} before it moved", of_first.len());
    of_first.extend(numbers(&mut three, rest).await);
    assert_eq!(of_first, Vec::from_iter(0..400));

    // One is taken out while it does not answer: its session ends with what waits, and the other goes on.
    three.never_answer();
    load(10).await;
    three.next().await;
    drop(three);
    switch(&weft, &named("second", &two.url(), "load/#"), 1).await;
    let ended = async || {
        let (status, _) = weft.get("/admin/sessions/%24hook%2Ffirst").await?;
        (status == 404).then_some(())
    };
    eventually("its session has ended", ended).await;
    load(10).await;
    assert_eq!(numbers(&mut two, 20).await, Vec::from_iter(400..420));
    let settled = async || (booked(&weft, "queued").await == 0).then_some(());
    eventually("the ledger has settled", settled).await;
    let book = [booked(&weft, "owed").await, booked(&weft, "acked").await, booked(&weft, "left").await];
    assert_eq!(book, [730, 720, 10]);
    assert!(
        one.next_within(Duration::ZERO).await.is_none() && two.next_within(Duration::ZERO).await.is_none()
    );
}

#[tokio::test]
async fn one_that_was_taken_out_while_weft_was_down_leaves_nothing() {
    let (mut kept, address) = (Hook::start().await, free_address());
    let folder = tempfile::tempdir().unwrap();
    let stays = named("kept", &kept.url(), "a/#");
    let goes = named("gone", &format!("http://{address}/"), "a/#");
    let mut weft = Setup::new().data(folder.path()).config(stays + &goes).start().await;
    let mut from = publisher(&weft).await;
    publish(&mut from, "a", "1").await;
    assert_eq!(seen(&kept.next().await).1, "1");
    weft.kill().await;
    let weft = Setup::new().data(folder.path()).config(named("kept", &kept.url(), "b")).start().await;
    let sessions = async || {
        let (_, page) = weft.get("/admin/sessions").await?;
        let page: Value = serde_json::from_str(&page).unwrap();
        let names =
            page["sessions"].as_array().unwrap().iter().map(|one| one["client"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>() == ["$hook/kept"]).then_some(())
    };
    eventually("its session has ended", sessions).await;
    // And the one that is there has no topic that it had before.
    let (_, page) = weft.get("/admin/subscriptions?client=%24hook%2Fkept").await.unwrap();
    assert!(page.contains(r#""filter":"b""#) && !page.contains("a/#"), "{page}");
}

#[tokio::test]
async fn the_sdk_reads_what_is_posted_in_both_modes() {
    if !needs(&[Tool::SdkPython]) {
        return;
    }
    let mut sdk = Sdk::start(Language::Python);
    let event = CloudEvent::new("1", "/sdk/a%20b", "com.example.sdk")
        .with("subject", "größe 世界 \"100 %\"")
        // One without a time would get that of now from the SDK.
        .with("time", "2018-04-05T17:31:00Z")
        .with("anextension", "a, b; c=d")
        .with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .data("application/json", r#"{"t": 20.5, "list": [1, "ä", null]}"#.as_bytes());
    for mode in ["binary", "structured"] {
        let mut target = Hook::start().await;
        let weft = start(&target, &format!("mode = {mode:?}")).await;
        let mut from = publisher(&weft).await;
        from.publish(event.to_publish("a/sdk", 1)).await.unwrap();
        let post = target.next().await;
        assert_eq!(post.headers.contains_key("ce-id"), mode == "binary");
        let answer = sdk.call(&json!({ "do": "read", "headers": post.headers, "body": post.text() })).await;
        let mut read: BTreeMap<String, String> =
            serde_json::from_value(answer["attributes"].clone()).unwrap();
        assert_eq!(read.remove("wefttopic").as_deref(), Some("a/sdk"));
        assert!(read.remove("weftposition").is_some());
        assert_eq!(read, event.attributes, "{mode}");
        assert_eq!(answer["data"], json!({ "t": 20.5, "list": [1, "ä", null] }), "{mode}");
    }
}
