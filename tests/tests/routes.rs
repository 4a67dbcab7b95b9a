//! Routes are replaced while Weft runs: whole or not at all, and no connection feels it.

use serde_json::Value;
use tests::Weft;
use tests::raw::Client;
use tests::util::eventually;
use tests::weft::Setup;
use tests::wire::{Connect, Publish};

/// Only SIGHUP and the admin page, so that each test says when.
const BY_HAND: &str = "reload_s = 0\n";

fn route(topic: &str, durability: &str) -> String {
    format!("[[route]]\ntopic = {topic:?}\ndurability = {durability:?}\n")
}

async fn reload(weft: &Weft) -> (u16, String) {
    let answer = reqwest::Client::new().post(format!("http://{}/admin/reload", weft.http)).send().await;
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Filters of the routes that hold.
async fn topics(weft: &Weft) -> Vec<String> {
    let (status, page) = weft.get("/admin/routes").await.unwrap();
    assert_eq!(status, 200);
    let page: Value = serde_json::from_str(&page).unwrap();
    let routes = page["routes"].as_array().unwrap();
    routes.iter().map(|route| route["topic"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_changed_file_changes_routes_and_no_connection_feels_it() {
    let weft = Setup::new().config(BY_HAND.to_owned() + &route("a/#", "synced")).start().await;
    let (mut to, _) = Client::connect(weft.mqtt, &Connect::v5("to")).await.unwrap();
    assert_eq!(to.subscribe(&[("a/#", 1)]).await, [1]);
    let (mut from, _) = Client::connect(weft.mqtt, &Connect::v5("from")).await.unwrap();
    for n in 0..200_u32 {
        if n % 20 == 10 {
            let durability = ["written", "received", "synced"][(n / 20) as usize % 3];
            weft.configure(&(BY_HAND.to_owned() + &route("a/#", durability) + &route("b", "synced")));
            let (status, page) = reload(&weft).await;
            assert_eq!((status, page.trim()), (200, r#"{"after_restart":[],"routes":2}"#));
        }
        from.publish(Publish::new("a/b", n.to_string(), 1)).await.unwrap();
        let got = to.message().await.unwrap().unwrap();
        assert_eq!(got.payload, n.to_string().as_bytes());
    }
    assert_eq!(topics(&weft).await, ["a/#", "b"]);
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_named() {
    let weft = Setup::new().config(BY_HAND.to_owned() + &route("a/#", "written")).start().await;
    for (broken, what) in [
        (route("a/#/b", "written"), "a/#/b"),
        (route("c", "quickly"), "quickly"),
        ("[[route]]\ntopic = \"c\"\nstore = \"far\"\n".to_owned(), "far"),
        ("[[route\n".to_owned(), "weft.toml"),
    ] {
        weft.configure(&(BY_HAND.to_owned() + &broken));
        let (status, page) = reload(&weft).await;
        assert_eq!(status, 422, "{page}");
        assert!(page.contains(what) && page.contains("weft.toml"), "{what} in {page}");
        assert_eq!(topics(&weft).await, ["a/#"]);
        weft.until_ready_says(503, "what was before still holds").await;
    }
    weft.configure(&(BY_HAND.to_owned() + &route("c", "written")));
    assert_eq!(reload(&weft).await.0, 200);
    weft.until_ready_says(200, "").await;
    assert_eq!(topics(&weft).await, ["c"]);
    assert_eq!(weft.metric("weft_config_reloads_total").await, Some(5.0));
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let weft = Setup::new().config(BY_HAND).start().await;
    weft.configure(&format!(
        "{BY_HAND}stop_timeout_s = 3\n{}[mqtt]\nkeep_alive_max_s = 77\n",
        route("c", "written")
    ));
    let (status, page) = reload(&weft).await;
    assert_eq!((status, page.trim()), (200, r#"{"after_restart":["mqtt","stop_timeout_s"],"routes":1}"#));
}

#[tokio::test]
async fn the_file_is_looked_at_and_a_hangup_reads_it_at_once() {
    let weft = Setup::new().config("reload_s = 1\n").start().await;
    weft.configure(&("reload_s = 1\n".to_owned() + &route("seen", "written")));
    eventually("the file was looked at", async || (topics(&weft).await == ["seen"]).then_some(())).await;

    let weft = Setup::new().config(BY_HAND).start().await;
    weft.configure(&(BY_HAND.to_owned() + &route("said", "written")));
    weft.signal("HUP").await;
    eventually("the signal was heard", async || (topics(&weft).await == ["said"]).then_some(())).await;
}
