//! What Weft tells on `$weft/audit/…`, and to whom.

use std::path::Path;

use serde_json::{Value, json};
use tests::Weft;
use tests::authority::Authority;
use tests::eventmesh::Peer;
use tests::raw::Client;
use tests::util::free_address;
use tests::weft::{Setup, passwd};
use tests::wire::{Connect, Packet, Publish};

/// A Weft with two users: alice may use `a/#`, and ops everything.
async fn start(folder: &tempfile::TempDir) -> Weft {
    let (users, acl) = (folder.path().join("users"), folder.path().join("acl"));
    write_access(&users, &acl).await;
    Setup::new().config(config(&users, &acl, "")).start().await
}

async fn write_access(users: &Path, acl: &Path) {
    passwd(users, "alice", Some("secret"), &[]).await;
    passwd(users, "ops", Some("admin"), &[]).await;
    let rules = "admins = ['ops']\n[[rule]]\nallow = 'all'\nuser = 'ops'\ntopic = ['#', '$weft/audit/#']\n\
        [[rule]]\nallow = 'all'\nuser = 'alice'\ntopic = 'a/#'\n";
    std::fs::write(acl, rules).unwrap();
}

fn config(users: &Path, acl: &Path, more: &str) -> String {
    let access = format!(
        "[access]\nanonymous = \"never\"\nfailures_per_minute = 0\nreload_s = 1\npassword_file = {users:?}\nacl_file = {acl:?}\n"
    );
    format!("reload_s = 0\n{access}{more}")
}

/// The next audit event: the end of its topic, and its data.
async fn told(ops: &mut Client) -> (String, Value) {
    let event = ops.message().await.unwrap().unwrap();
    let kind = event.topic.strip_prefix("$weft/audit/").unwrap().to_owned();
    let property = |name: &str| event.properties.iter().any(|p| format!("{p:?}").contains(name));
    assert!(property(&format!("weft.audit.{kind}")), "{event:?}");
    (kind, serde_json::from_slice(&event.payload).unwrap())
}

async fn reload(weft: &Weft) -> u16 {
    let request = reqwest::Client::new().post(format!("http://{}/admin/reload", weft.http));
    request.basic_auth("ops", Some("admin")).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn who_is_refused_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let weft = start(&folder).await;
    let (mut ops, _) = Client::connect(weft.mqtt, &Connect::v5("ops").login("ops", "admin")).await.unwrap();
    assert_eq!(ops.subscribe(&[("$weft/audit/#", 1)]).await, [1]);

    let wrong = Connect::v5("a").login("alice", "guess-4711");
    let mut stranger = Client::open(weft.mqtt, wrong.version).await.unwrap();
    stranger.send(&wrong.encode()).await.unwrap();
    assert!(matches!(stranger.next().await, Packet::ConnAck { code: 0x86, .. }));
    let (kind, data) = told(&mut ops).await;
    assert_eq!(kind, "access");
    for (name, value) in [
        ("wanted", "connect"),
        ("client", "a"),
        ("user", "alice"),
        ("listener", "mqtt"),
        ("kind", "unproved"),
    ] {
        assert_eq!(data[name], value, "{data}");
    }
    assert!(data["address"].as_str().unwrap().starts_with("127.0.0.1:"), "{data}");
    assert!(!data.to_string().contains("4711"), "the password is shown: {data}");

    let (mut alice, _) =
        Client::connect(weft.mqtt, &Connect::v5("a").login("alice", "secret")).await.unwrap();
    assert_eq!(alice.subscribe(&[("a/#", 1), ("$weft/#", 1)]).await, [1, 0x87]);
    let (_, data) = told(&mut ops).await;
    assert_eq!((&data["wanted"], &data["topic"]), (&json!("subscribe"), &json!("$weft/#")));
    alice.publish(Publish::new("b", "x", 0)).await.unwrap();
    let (_, data) = told(&mut ops).await;
    assert_eq!((&data["wanted"], &data["topic"]), (&json!("publish"), &json!("b")));
    assert_eq!((&data["kind"], &data["protocol"]), (&json!("denied"), &json!("mqtt")));
    let page = reqwest::Client::new().get(format!("http://{}/admin/sessions", weft.http));
    assert_eq!(page.basic_auth("alice", Some("secret")).send().await.unwrap().status(), 403);
    let (_, data) = told(&mut ops).await;
    assert_eq!((&data["wanted"], &data["topic"]), (&json!("administer"), &json!("/admin/sessions")));

    // A topic of Weft's own is refused with a code of its own, and told of all the same.
    alice.publish(Publish::new("$weft/audit/access", "forged", 0)).await.unwrap();
    let (_, data) = told(&mut ops).await;
    assert_eq!((&data["wanted"], &data["topic"]), (&json!("publish"), &json!("$weft/audit/access")));
    let will = Publish::new("$weft/audit/config", "forged", 1);
    let forger = Connect::v5("forger").login("alice", "secret").will(will);
    let mut refused = Client::open(weft.mqtt, forger.version).await.unwrap();
    refused.send(&forger.encode()).await.unwrap();
    assert!(matches!(refused.next().await, Packet::ConnAck { code: 0x90, .. }));
    let (_, data) = told(&mut ops).await;
    assert_eq!((&data["wanted"], &data["topic"]), (&json!("publish"), &json!("$weft/audit/config")));

    // They are in the log: who comes later finds them.
    let (mut late, _) = Client::connect(weft.mqtt, &Connect::v5("late").login("ops", "admin")).await.unwrap();
    assert_eq!(late.subscribe(&[("$replay/all/$weft/audit/access", 1)]).await, [1]);
    for wanted in ["connect", "subscribe", "publish", "administer", "publish", "publish"] {
        assert_eq!(told(&mut late).await.1["wanted"], wanted);
    }
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_counted_and_leaves_other_kinds_alone() {
    let folder = tempfile::tempdir().unwrap();
    let weft = start(&folder).await;
    let (mut ops, _) = Client::connect(weft.mqtt, &Connect::v5("ops").login("ops", "admin")).await.unwrap();
    assert_eq!(ops.subscribe(&[("$weft/audit/#", 1)]).await, [1]);
    let web = reqwest::Client::new();
    let mut refused = 0;
    let mut fail = async || {
        let request =
            web.post(format!("http://{}/events?topic=a", weft.http)).basic_auth("nobody", Some("x"));
        assert_eq!(request.body("x").send().await.unwrap().status(), 401);
        refused += 1;
    };
    for _ in 0..100 {
        fail().await;
    }
    let (mut sum, mut events) = (0, 0);
    // What was left out last is told with the next one.
    while sum < 100 {
        fail().await;
        while let Some(Packet::Publish(event)) =
            ops.recv_within(std::time::Duration::from_millis(100)).await.unwrap_or(None)
        {
            let data: Value = serde_json::from_slice(&event.payload).unwrap();
            sum += 1 + data["left_out"].as_u64().unwrap();
            events += 1;
        }
    }
    assert!(events < sum, "all {events} were told");
    assert_eq!(reload(&weft).await, 200);
    while told(&mut ops).await.0 != "config" {}
}

#[tokio::test]
async fn a_changed_configuration_is_told_of_whether_it_is_taken_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let weft = start(&folder).await;
    let (mut ops, _) = Client::connect(weft.mqtt, &Connect::v5("ops").login("ops", "admin")).await.unwrap();
    assert_eq!(ops.subscribe(&[("$weft/audit/config", 1)]).await, [1]);
    let (users, acl) = (folder.path().join("users"), folder.path().join("acl"));
    weft.configure(&config(&users, &acl, "[log]\nlevel = \"debug\"\n[[route]]\ntopic = \"x\"\n"));
    assert_eq!(reload(&weft).await, 200);
    let (_, data) = told(&mut ops).await;
    let taken = json!({ "taken": true, "changed": ["route"], "after_restart": ["log"], "left_out": 0 });
    assert_eq!(data, taken);
    weft.configure(&config(&users, &acl, "[[route]]\ntopic = \"x/#/y\"\n"));
    assert_eq!(reload(&weft).await, 422);
    let (_, data) = told(&mut ops).await;
    assert_eq!(data["taken"], false);
    assert!(data["reason"].as_str().unwrap().contains("x/#/y"), "{data}");
}

/// As careful people do it: a look never finds half of it.
fn replace(file: &Path, text: &str) {
    let part = file.with_extension("part");
    std::fs::write(&part, text).unwrap();
    std::fs::rename(part, file).unwrap();
}

/// The next audit event of the configuration that names files.
async fn told_of_files(ops: &mut Client) -> Value {
    loop {
        let (kind, data) = told(ops).await;
        if kind == "config" && data.get("files").is_some() {
            return data;
        }
    }
}

#[tokio::test]
async fn files_that_changed_are_told_of_whether_they_are_taken_or_not() {
    let (folder, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let (users, acl) = (folder.path().join("users"), folder.path().join("acl"));
    write_access(&users, &acl).await;
    let listener = format!("[listener.tls]\nlisten = \"127.0.0.1:0\"\n{}", ca.tls("tls", ""));
    let weft = Setup::new().config(config(&users, &acl, &listener)).start().await;
    let (mut ops, _) = Client::connect(weft.mqtt, &Connect::v5("ops").login("ops", "admin")).await.unwrap();
    assert_eq!(ops.subscribe(&[("$weft/audit/config", 1)]).await, [1]);

    let rules = std::fs::read_to_string(&acl).unwrap();
    replace(&acl, &(rules + "[[rule]]\nallow = 'all'\nuser = 'bob'\ntopic = 'b'\n"));
    let data = told_of_files(&mut ops).await;
    assert_eq!((&data["taken"], &data["files"]), (&json!(true), &json!([acl])), "{data}");
    passwd(&users, "bob", Some("secret"), &[]).await;
    let data = told_of_files(&mut ops).await;
    assert_eq!((&data["taken"], &data["files"]), (&json!(true), &json!([users])), "{data}");
    replace(&acl, "[[rule]]\nallow = 'everything'\n");
    let data = told_of_files(&mut ops).await;
    assert_eq!((&data["taken"], &data["files"]), (&json!(false), &json!([acl])), "{data}");
    assert!(data["reason"].as_str().unwrap().contains(acl.to_str().unwrap()), "{data}");

    // Certificates, of which two files change: a look may find one before the other, and that they do not fit.
    let certificate = ca.path("server.pem");
    ca.sign("server", &["localhost"], 7);
    loop {
        let data = told_of_files(&mut ops).await;
        let named = data["files"].as_array().unwrap();
        assert!(named.iter().all(|file| file.as_str().unwrap().contains("server.")), "{data}");
        if data["taken"] == true && named.contains(&json!(certificate)) {
            break;
        }
    }
    std::fs::write(&certificate, "no certificate").unwrap();
    let data = told_of_files(&mut ops).await;
    assert_eq!((&data["taken"], &data["files"]), (&json!(false), &json!([certificate])), "{data}");
}

#[tokio::test]
async fn eventmeshs_own_check_of_subscriptions_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (users, acl, address) = (folder.path().join("users"), folder.path().join("acl"), free_address());
    write_access(&users, &acl).await;
    passwd(&users, "somebody", Some("hidden-password"), &[]).await;
    let mesh = format!("[listener.mesh]\nlisten = \"{address}\"\nprotocol = \"eventmesh-tcp\"\n");
    let weft = Setup::new().config(config(&users, &acl, &mesh)).start().await;
    let (mut ops, _) = Client::connect(weft.mqtt, &Connect::v5("ops").login("ops", "admin")).await.unwrap();
    assert_eq!(ops.subscribe(&[("$weft/audit/access", 1)]).await, [1]);
    let mut peer = Peer::hello(address, "group", "sub").await;
    let wanted = json!({"topicList": [{"topic": "secrets", "mode": "CLUSTERING", "type": "ASYNC"}]});
    assert_eq!(peer.call("SUBSCRIBE_REQUEST", &json!({}), &wanted).await.code(), 2);
    let (_, data) = told(&mut ops).await;
    for (name, value) in [
        ("wanted", "subscribe"),
        ("topic", "$share/group/secrets"),
        ("user", "somebody"),
        ("protocol", "eventmesh-tcp"),
        ("kind", "denied"),
    ] {
        assert_eq!(data[name], value, "{data}");
    }
}
