//! Who may come in, with the real program and other people's clients: passwords over MQTT, HTTP and WebSocket, rules
//! that change while clients are connected, tokens that end, and a flood of wrong passwords.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine as _;
use tempfile::TempDir;
use tests::raw::Client;
use tests::real::{Tool, needs};
use tests::weft::{Setup, passwd, program};
use tests::wire::{Connect, Packet, Publish, Version};
use tests::{Weft, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, http::HeaderValue};

/// Two users: alice with the password `secret`, and ops with `admin`.
async fn users(folder: &TempDir) -> PathBuf {
    let file = folder.path().join("passwd");
    passwd(&file, "alice", Some("secret"), &[]).await;
    passwd(&file, "ops", Some("admin"), &[]).await;
    file
}

fn config(lines: &str) -> Setup {
    Setup::new().config(format!("[access]\nanonymous = \"never\"\nreload_s = 1\n{lines}"))
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// The code of CONNACK; the client if it is 0.
async fn connect(weft: SocketAddr, connect: &Connect) -> Result<Client, u8> {
    let mut client = Client::open(weft, connect.version).await.unwrap();
    client.send(&connect.encode()).await.unwrap();
    match client.next().await {
        Packet::ConnAck { code: 0, .. } => Ok(client),
        Packet::ConnAck { code, .. } => Err(code),
        other => panic!("{other:?}"),
    }
}

async fn post(weft: &Weft, topic: &str, user: &str, password: &str) -> u16 {
    let url = format!("http://{}/events?topic={topic}", weft.http);
    let request = reqwest::Client::new().post(url).basic_auth(user, Some(password)).body("x");
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_password_lets_in_over_mqtt_http_and_websocket() {
    let folder = tempfile::tempdir().unwrap();
    let weft = config(&format!("password_file = {:?}\n", users(&folder).await)).start().await;
    let mut alice = connect(weft.mqtt, &Connect::v5("a").login("alice", "secret")).await.ok().unwrap();
    assert_eq!(alice.subscribe(&[("t/#", 1)]).await, [1]);
    for wrong in [
        Connect::v5("b"),
        Connect::v5("b").login("alice", "Secret"),
        Connect::v5("b").login("nobody", "secret"),
    ] {
        assert_eq!(connect(weft.mqtt, &wrong).await.err(), Some(0x86));
        // Bad User Name or Password in 3.1.1.
        let old = Connect { version: Version::V4, ..wrong };
        assert_eq!(connect(weft.mqtt, &old).await.err(), Some(4));
    }
    assert_eq!(post(&weft, "t/http", "alice", "secret").await, 200);
    assert_eq!(post(&weft, "t/http", "alice", "wrong").await, 401);
    assert_eq!(alice.message().await.unwrap().unwrap().topic, "t/http");
    let socket = async |authorization: Option<&str>| {
        let mut request = format!("ws://{}/ws", weft.http).into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", HeaderValue::from_static("cloudevents.json"));
        if let Some(text) = authorization {
            headers.insert("authorization", text.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((_, response)) => response.status().as_u16(),
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(other) => panic!("{other}"),
        }
    };
    let basic = |text| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    assert_eq!(socket(None).await, 401);
    assert_eq!(socket(Some(&basic("alice:wrong"))).await, 401);
    assert_eq!(socket(Some(&basic("alice:secret"))).await, 101);
}

#[tokio::test]
async fn mosquitto_and_curl_show_their_passwords() {
    if !needs(&[Tool::Mosquitto, Tool::Curl]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let weft = config(&format!("password_file = {:?}\n", users(&folder).await)).start().await;
    let publishes = async |password: &str| {
        let (host, port) = (weft.mqtt.ip().to_string(), weft.mqtt.port().to_string());
        let mut command = Command::new("mosquitto_pub");
        command
            .args(["-h", &host, "-p", &port, "-q", "1", "-t", "t", "-m", "x", "-u", "alice", "-P", password]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap().success()
    };
    assert!(publishes("secret").await);
    assert!(!publishes("wrong").await);
    let curl = async |login: &str| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-u", login, "-d", "x"]);
        let output = command.arg(format!("http://{}/events?topic=t", weft.http)).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl("alice:secret").await, "200");
    assert_eq!(curl("alice:wrong").await, "401");
    let mut own = Command::new(program());
    own.args(["pub", "--addr", &weft.mqtt.to_string(), "--user", "alice", "t", "x"])
        .env("WEFT_PASSWORD", "secret");
    assert!(own.status().await.unwrap().success());
}

#[tokio::test]
async fn files_of_mosquitto_are_taken_over() {
    let made = std::process::Command::new("mosquitto_passwd").arg("--help").output().is_ok();
    if !made {
        eprintln!("skipped: needs mosquitto_passwd (apt-get install mosquitto)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("theirs");
    let mut command = Command::new("mosquitto_passwd");
    command.arg("-c").arg("-b").arg(&file).args(["device", "s e:cret"]);
    assert!(command.status().await.unwrap().success());
    let weft = config(&format!("password_file = {file:?}\n")).start().await;
    assert!(connect(weft.mqtt, &Connect::v4("d").login("device", "s e:cret")).await.is_ok());
    assert_eq!(connect(weft.mqtt, &Connect::v4("d").login("device", "s e")).await.err(), Some(4));
}

#[tokio::test]
async fn rules_that_change_hold_at_once_and_no_connection_drops() {
    let folder = tempfile::tempdir().unwrap();
    let rules = |topic: &str| {
        format!("admins = ['ops']\n[[rule]]\nallow = 'all'\ntopic = ['{topic}', 'own/${{user}}/#']\n")
    };
    let (passwords, acl) = (users(&folder).await, write(&folder, "acl.toml", &rules("a/#")));
    let lines = format!("password_file = {passwords:?}\nacl_file = {acl:?}\nmetrics = \"admin\"\n");
    let weft = config(&lines).start().await;
    let mut alice = connect(weft.mqtt, &Connect::v5("a").login("alice", "secret")).await.ok().unwrap();
    let filters = [("a/#", 1), ("own/alice/#", 1), ("own/ops/#", 1), ("#", 1)];
    assert_eq!(alice.subscribe(&filters).await, [1, 1, 0x87, 0x87]);
    assert_eq!(post(&weft, "a/1", "ops", "admin").await, 200);
    assert_eq!(post(&weft, "b/1", "ops", "admin").await, 403);
    assert_eq!(alice.message().await.unwrap().unwrap().topic, "a/1");

    write(&folder, "acl.toml", &rules("b/#"));
    eventually("the new rules", async || (post(&weft, "b/1", "ops", "admin").await == 200).then_some(()))
        .await;
    assert_eq!(post(&weft, "a/2", "ops", "admin").await, 403);
    assert_eq!(post(&weft, "own/ops/x", "ops", "admin").await, 200);
    assert_eq!(alice.subscribe(&[("a/#", 1), ("b/#", 1)]).await, [0x87, 1]);
    assert_eq!(post(&weft, "b/2", "ops", "admin").await, 200);
    assert_eq!(alice.message().await.unwrap().unwrap().topic, "b/2");

    write(&folder, "acl.toml", "[[rule]]\nallow = 'all'\n");
    weft.until_ready_says(503, "acl.toml:1: missing field `topic`").await;
    assert_eq!(post(&weft, "b/3", "ops", "admin").await, 200);
    write(&folder, "acl.toml", &rules("b/#"));
    weft.until_ready_says(200, "ready").await;

    passwd(&passwords, "alice", Some("new"), &[]).await;
    eventually("the new password", async || {
        connect(weft.mqtt, &Connect::v5("x").login("alice", "new")).await.ok().map(drop)
    })
    .await;
    assert_eq!(connect(weft.mqtt, &Connect::v5("x").login("alice", "secret")).await.err(), Some(0x86));
    assert_eq!(alice.message().await.unwrap().unwrap().topic, "b/3", "the connection is still there");
    let metrics = async |login: Option<(&str, &str)>| {
        let mut request = reqwest::Client::new().get(format!("http://{}/metrics", weft.http));
        if let Some((user, password)) = login {
            request = request.basic_auth(user, Some(password));
        }
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(metrics(None).await, 401);
    assert_eq!(metrics(Some(("alice", "new"))).await, 403);
    assert_eq!(metrics(Some(("ops", "admin"))).await, 200);
}

#[tokio::test]
async fn a_token_lets_in_and_ends_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "0123456789abcdef0123456789abcdef";
    let file = write(&folder, "secret", secret);
    let weft =
        config(&format!("[access.jwt]\nsecret_file = {file:?}\nclient_claim = \"cid\"\n")).start().await;
    let token = |seconds: u64, client: &str| {
        let exp = jsonwebtoken::get_current_timestamp() + seconds;
        let claims = serde_json::json!({"sub": "alice", "cid": client, "exp": exp});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    };
    let long = token(600, "a");
    assert!(connect(weft.mqtt, &Connect::v5("a").login("", &long)).await.is_ok());
    assert_eq!(connect(weft.mqtt, &Connect::v5("b").login("", &long)).await.err(), Some(0x87));
    let mut short = connect(weft.mqtt, &Connect::v5("c").login("c", &token(2, "c"))).await.ok().unwrap();
    let bearer =
        reqwest::Client::new().post(format!("http://{}/events?topic=t", weft.http)).bearer_auth(&long);
    assert_eq!(bearer.body("x").send().await.unwrap().status(), 200);
    let stream =
        reqwest::get(format!("http://{}/events?topic=t&access_token={long}", weft.http)).await.unwrap();
    assert_eq!(stream.status(), 200);
    // Maximum connect time: "authorized for this connection" (MQTT 5 §3.14.2.1).
    assert_eq!(short.closed().await, Some(0xa0));
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_costs_others_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("password_file = {:?}\nfailures_per_minute = 5\n", users(&folder).await);
    let weft = config(&lines).start().await;
    // Every address of 127.0.0.0/8 is this machine: the flood comes from another one.
    let flood = async |at: usize| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(weft.mqtt).await.unwrap();
        let hello = Connect::v5(&format!("f{at}")).login("alice", &format!("wrong{at}"));
        stream.write_all(&hello.encode()).await.unwrap();
        let mut answer = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await.unwrap_or(0);
        // Reason code of CONNACK: Bad User Name or Password, or Server Busy.
        answer.get(3).copied()
    };
    let all = futures_util::future::join_all((0..300).map(flood));
    let hello = Connect::v5("a").login("alice", "secret");
    let alice = connect(weft.mqtt, &hello);
    let (codes, alice) = tokio::join!(all, alice);
    assert!(alice.is_ok());
    let count = |code: u8| codes.iter().filter(|have| **have == Some(code)).count();
    assert_eq!(count(0x86) + count(0x89), 300, "{codes:?}");
    let checks = weft.metric("weft_access_check_seconds_count").await.unwrap();
    assert!(checks < 40.0, "{checks} checks for 300 wrong passwords");
    assert_eq!(post(&weft, "t", "alice", "secret").await, 200);
}

#[tokio::test]
async fn an_address_for_everybody_needs_a_way_to_tell_who_comes() {
    let folder = tempfile::tempdir().unwrap();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let (status, text) = Setup::new().at(everywhere, "127.0.0.1:0".parse().unwrap()).start_and_fail().await;
    assert_eq!(status.code(), Some(2));
    assert!(text.contains("weft passwd FILE USER"), "{text}");
    let lines = format!("[access]\npassword_file = {:?}\n", users(&folder).await);
    let http = tests::util::free_address();
    let mqtt = SocketAddr::new("0.0.0.0".parse().unwrap(), tests::util::free_address().port());
    let weft = Setup::new().config(lines).at(mqtt, http).start().await;
    let local = SocketAddr::new("127.0.0.1".parse().unwrap(), mqtt.port());
    // The address is this machine's, the listener is not.
    assert_eq!(connect(local, &Connect::v5("a")).await.err(), Some(0x86));
    assert!(connect(local, &Connect::v5("a").login("alice", "secret")).await.is_ok());
    let answer =
        reqwest::Client::new().post(format!("http://{}/events?topic=t", weft.http)).body("x").send().await;
    assert_eq!(answer.unwrap().status(), 200, "that listener is for this machine only");
}

#[tokio::test]
async fn a_hangup_reads_the_files_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let passwords = users(&folder).await;
    let lines = format!("[access]\nanonymous = \"never\"\nreload_s = 3600\npassword_file = {passwords:?}\n");
    let weft = Setup::new().config(lines).start().await;
    let mut alice = connect(weft.mqtt, &Connect::v5("a").login("alice", "secret")).await.ok().unwrap();
    assert_eq!(alice.subscribe(&[("t", 1)]).await, [1]);
    passwd(&passwords, "alice", None, &["-D"]).await;
    assert_eq!(post(&weft, "t", "alice", "secret").await, 200, "not read yet");
    weft.signal("HUP").await;
    eventually("she is no user", async || (post(&weft, "t", "alice", "secret").await == 401).then_some(()))
        .await;
    assert_eq!(alice.message().await.unwrap().unwrap().topic, "t");
    // Her connection is there, and has no rights.
    assert_eq!(alice.subscribe(&[("u", 1)]).await, [0x87]);
}

#[tokio::test]
async fn rates_hold_over_mqtt_and_http() {
    let folder = tempfile::tempdir().unwrap();
    let lines =
        format!("password_file = {:?}\n[access.user_rates]\npackets_per_second = 20\n", users(&folder).await);
    let weft = config(&lines).start().await;
    let mut alice = connect(weft.mqtt, &Connect::v5("a").login("alice", "secret")).await.ok().unwrap();
    assert_eq!(alice.subscribe(&[("t", 1)]).await, [1]);
    let mut burst = Vec::new();
    for at in 0..100 {
        burst.extend(Publish::new("t", format!("{at}"), 0).encode(Version::V5));
    }
    alice.send(&burst).await.unwrap();
    // What was sent at once leaves a debt of seconds, which all of this user's connections share.
    eventually("429", async || (post(&weft, "x", "alice", "secret").await == 429).then_some(())).await;
    assert_eq!(post(&weft, "x", "ops", "admin").await, 200);
    for at in 0..100 {
        assert_eq!(alice.message().await.unwrap().unwrap().payload, at.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_client_certificate_is_a_user_with_rules() {
    if !needs(&[Tool::Mosquitto]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = write(&folder, "ca.pem", &params.self_signed(&key).unwrap().pem());
    let issuer = rcgen::Issuer::new(params, key);
    let certify = |name: &str| {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        (
            write(&folder, &format!("{name}.pem"), &certificate),
            write(&folder, &format!("{name}.key"), &key.serialize_pem()),
        )
    };
    let (server, server_key) = certify("weft");
    let (device, device_key) = certify("device-7");
    let rules = "[[rule]]\nallow = 'publish'\ntopic = 'own/${user}/#'\n[[rule]]\nallow = 'all'\nuser = 'alice'\ntopic = '#'\n";
    let (passwords, acl) = (users(&folder).await, write(&folder, "acl.toml", rules));
    let address = tests::util::free_address();
    let weft = config(&format!(
        "password_file = {passwords:?}\nacl_file = {acl:?}\ncertificate = \"cn\"\n\
         [listener.devices]\nprotocol = \"mqtt\"\ncarrier = \"tls\"\nlisten = \"{address}\"\n\
         [listener.devices.tls]\ncertificate = {server:?}\nkey = {server_key:?}\nclient_ca = {ca:?}\n\
         client_certificates = \"optional\"\n"
    ))
    .start()
    .await;
    let mut alice = connect(weft.mqtt, &Connect::v5("a").login("alice", "secret")).await.ok().unwrap();
    assert_eq!(alice.subscribe(&[("own/#", 1)]).await, [1]);
    let publish = async |topic: &str, shows: bool| {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "localhost", "-p", &address.port().to_string(), "--cafile"]).arg(&ca);
        command.args(["-V", "5", "-q", "1", "-t", topic, "-m", "x"]);
        if shows {
            command.arg("--cert").arg(&device).arg("--key").arg(&device_key);
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().await.unwrap().success()
    };
    assert!(!publish("own/device-7/none", false).await);
    publish("own/other/denied", true).await;
    assert!(publish("own/device-7/t", true).await);
    assert_eq!(alice.message().await.unwrap().unwrap().topic, "own/device-7/t");
}
