//! TLS, proxies and limits of listeners, with the real program and other people's clients: mosquitto, openssl, curl, rustls.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;

use rustls::pki_types::ServerName;
use tests::authority::Authority;
use tests::raw::Client;
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Version};
use tests::{PATIENCE, Process, Weft, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

/// A Weft with one more listener, "plant".
async fn weft_with(listener: &str) -> (Weft, SocketAddr) {
    let address = free_address();
    let config = format!("[listener.plant]\nlisten = \"{address}\"\n{listener}");
    // Clients behind a proxy are not on this machine.
    (Setup::new().config(config).env("WEFT_ALLOW_ANONYMOUS", "true").start().await, address)
}

fn mosquitto(program: &str, address: SocketAddr, ca: &Path, arguments: &[&str]) -> Command {
    // Line by line: it is read while it runs.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(program);
    command.args(["-h", "localhost", "-p", &address.port().to_string(), "--cafile"]).arg(ca).args(arguments);
    command
}

async fn publish(address: SocketAddr, ca: &Path, arguments: &[&str]) -> bool {
    let all = [&["-q", "1", "-t", "tls/t", "-m", "hello"], arguments].concat();
    let run = mosquitto("mosquitto_pub", address, ca, &all).output();
    tokio::time::timeout(PATIENCE, run).await.expect("mosquitto_pub ends").unwrap().status.success()
}

async fn openssl(address: SocketAddr, ca: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("localhost:{}", address.port()), "-CAfile"]).arg(ca);
    command.args(arguments).stdin(std::process::Stdio::null());
    let Output { stdout, stderr, .. } =
        tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr)
}

#[tokio::test]
async fn mosquitto_over_tls_and_wrong_cas() {
    let (ca, other) = (Authority::new(), Authority::new());
    let (weft, address) = weft_with(&ca.tls("plant", "")).await;
    let (mut plain, _) = Client::connect(weft.mqtt, &Connect::v5("plain")).await.unwrap();
    plain.subscribe(&[("tls/#", 1)]).await;
    assert!(publish(address, &ca.path("ca.pem"), &[]).await);
    assert_eq!(plain.message().await.unwrap().unwrap().payload, b"hello");
    assert!(!publish(address, &other.path("ca.pem"), &[]).await, "the client trusts another CA");
    eventually("the failure is counted", || async {
        weft.metric("weft_transport_handshakes_failed_total").await.filter(|failed| *failed >= 1.0)
    })
    .await;
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_revoked_ones_end_at_once() {
    let (ca, other) = Authority::with_clients();
    let (weft, address) = weft_with(&ca.tls("plant", &ca.clients())).await;
    let trusted = ca.path("ca.pem");
    let with = |from: &Authority, file: &str| {
        let path = |end| from.path(&format!("{file}.{end}")).to_str().unwrap().to_owned();
        ["--cert".to_owned(), path("pem"), "--key".to_owned(), path("key")]
    };
    let (good, bad, stranger) = (with(&ca, "good"), with(&ca, "bad"), with(&other, "stranger"));
    let list = |arguments: &[String; 4]| arguments.clone();
    let may = async |arguments: &[String; 4]| {
        publish(address, &trusted, &arguments.each_ref().map(String::as_str)).await
    };
    assert!(!publish(address, &trusted, &[]).await, "no certificate");
    assert!(!may(&stranger).await, "a certificate of another CA");
    assert!(may(&good).await && may(&bad).await);

    let reader = |name: &'static str, arguments: [String; 4]| {
        let mut command = mosquitto("mosquitto_sub", address, &trusted, &["-d", "-t", "x/#", "-i", name]);
        command.args(arguments);
        Process::start(name, command, |_| ())
    };
    let (kept, cut) = (reader("kept", list(&good)), reader("cut", list(&bad)));
    for process in [&kept, &cut] {
        eventually("it subscribes", || async { process.output().text().contains("SUBACK").then_some(()) })
            .await;
    }
    ca.revoke(&[11]);
    eventually("the revoked one is cut off", || async {
        weft.metric("weft_transport_connections_revoked_total").await.filter(|cut| *cut >= 1.0)
    })
    .await;
    assert!(!may(&bad).await, "revoked");
    assert!(may(&good).await);
    assert_eq!(kept.output().text().matches("CONNACK").count(), 1, "others stay connected");
    drop(cut);
}

#[tokio::test]
async fn versions_names_and_protocols() {
    let ca = Authority::new();
    ca.sign("other", &["other.example.org", "*.deep.example.org"], 2);
    let (certificate, key) = (ca.path("other.pem"), ca.path("other.key"));
    let sni = format!("[[listener.plant.tls.sni]]\ncertificate = {certificate:?}\nkey = {key:?}");
    let (_weft, address) = weft_with(&ca.tls("plant", &sni)).await;
    let trusted = ca.path("ca.pem");
    let ask = async |arguments: &[&str]| openssl(address, &trusted, arguments).await;
    for (version, said) in [("-tls1_2", "TLSv1.2, Cipher"), ("-tls1_3", "TLSv1.3, Cipher")] {
        let text = ask(&[version, "-alpn", "mqtt"]).await;
        assert!(text.contains(said) && text.contains("ALPN protocol: mqtt"), "{text}");
    }
    assert!(ask(&["-tls1_1"]).await.contains("(NONE)"));
    assert!(ask(&["-alpn", "h2"]).await.contains("no application protocol"));
    for (name, subject) in [
        ("localhost", "CN = server"),
        ("other.example.org", "CN = other"),
        ("OTHER.example.org", "CN = other"),
        ("a.deep.example.org", "CN = other"),
        ("a.b.deep.example.org", "CN = server"),
        ("unknown.example.org", "CN = server"),
    ] {
        let text = ask(&["-servername", name]).await;
        assert!(text.contains(&format!("subject={subject}")), "{name}: {text}");
    }
    assert!(ask(&["-noservername"]).await.contains("subject=CN = server"));

    let (_weft, address) = weft_with(&ca.tls("plant", "min_version = \"1.3\"")).await;
    assert!(openssl(address, &trusted, &["-tls1_2"]).await.contains("(NONE)"));
    assert!(openssl(address, &trusted, &["-tls1_3"]).await.contains("TLSv1.3, Cipher"));
}

#[tokio::test]
async fn files_are_followed_and_connections_stay() {
    let ca = Authority::new();
    let (weft, address) = weft_with(&ca.tls("plant", "")).await;
    let trusted = ca.path("ca.pem");
    let reader = Process::start(
        "reader",
        mosquitto("mosquitto_sub", address, &trusted, &["-d", "-t", "tls/#"]),
        |_| (),
    );
    eventually("it subscribes", || async { reader.output().text().contains("SUBACK").then_some(()) }).await;
    std::fs::write(ca.path("server.pem"), "broken").unwrap();
    weft.until_ready_says(503, "server.pem").await;
    assert!(publish(address, &trusted, &[]).await, "the old certificate still holds");
    ca.sign("server", &["localhost", "renewed.example.org"], 77);
    weft.signal("HUP").await;
    weft.until_ready_says(200, "\"tls/plant\":{\"ok\":true}").await;
    let text = openssl(address, &trusted, &["-verify_hostname", "renewed.example.org"]).await;
    assert!(text.contains("Verification: OK"), "{text}");
    assert!(publish(address, &trusted, &[]).await);
    eventually("both events came", || async {
        (reader.output().text().matches("hello").count() == 2).then_some(())
    })
    .await;
    assert_eq!(reader.output().text().matches("CONNACK").count(), 1);
}

#[tokio::test]
async fn https_and_websocket_over_tls() {
    let ca = Authority::new();
    let (_weft, address) = weft_with(&("protocol = \"http\"\n".to_owned() + &ca.tls("plant", ""))).await;
    let url = format!("https://localhost:{}/ready", address.port());
    for (version, said) in [("--http1.1", "200 1.1"), ("--http2", "200 2")] {
        let mut command = Command::new("curl");
        command.args(["-sS", version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "--cacert"]);
        let output = command.arg(ca.path("ca.pem")).arg(&url).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), said);
    }
    let mut request = format!("wss://localhost:{}/mqtt", address.port()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
    let stream = secure(address, &ca, &[b"http/1.1"]).await;
    let (_socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "mqtt");
}

/// A connection of rustls' client.
async fn secure(
    address: SocketAddr,
    ca: &Authority,
    alpn: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(ca.client(alpn)).connect(name, tcp).await.unwrap()
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let ca = Authority::new();
    let (weft, address) = weft_with(&ca.tls("plant", "handshakes_max = 8")).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(publish(address, &ca.path("ca.pem"), &[]).await);
    eventually("the oldest were closed", || async {
        weft.metric("weft_transport_handshakes_failed_total").await.filter(|failed| *failed >= 56.0)
    })
    .await;
}

#[tokio::test]
async fn a_proxy_tells_the_client_and_others_may_not() {
    let proxied = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let (weft, address) =
        weft_with(&format!("{proxied}[listener.plant.limits]\naddress_connections = 1")).await;
    let connect = async |header: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let hello = [header, &Connect::v4("proxied").encode()].concat();
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; 4];
        let read =
            tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.expect("an answer or an end");
        (stream, read.unwrap_or(0))
    };
    let v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 1883\r\n";
    let (first, read) = connect(v1).await;
    assert_eq!(read, 4, "CONNACK");
    eventually("the log names the client", || async {
        weft.output().text().contains("192.0.2.7:4711").then_some(())
    })
    .await;
    assert_eq!(connect(v1).await.1, 0, "one connection of that address");
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x7f\0\0\x01\x12\x34\x07\x5b";
    assert_eq!(connect(v2).await.1, 4, "another address");
    assert_eq!(connect(b"").await.1, 0, "no header");
    drop(first);

    let untrusted = proxied.replace("\"127.0.0.1\"", "\"192.0.2.0/24\"");
    let (_weft, address) = weft_with(&untrusted).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(v1).await.unwrap_or(());
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap_or(0), 0, "not from a trusted proxy");
}

#[tokio::test]
async fn connections_above_the_limits_are_closed_and_counted() {
    let limits = "[listener.plant.limits]\nconnections = 3\naddress_connections = 2";
    let (weft, address) = weft_with(limits).await;
    let one = Client::connect(address, &Connect::v4("one")).await.unwrap();
    let _two = Client::connect(address, &Connect::v4("two")).await.unwrap();
    let refused = async || match Client::open(address, Version::V4).await {
        Ok(mut client) => client.raw_to_end().await.is_empty(),
        Err(_) => true,
    };
    assert!(refused().await);
    eventually("it is counted", || async {
        let (_, text) = weft.get("/metrics").await?;
        text.contains("refused_total{listener=\"plant\",reason=\"address_connections\"} 1").then_some(())
    })
    .await;
    one.0.disconnect().await;
    eventually("there is room again", || async {
        Client::connect(address, &Connect::v4("three")).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_certificate_to_try_works_as_it_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("cert");
    let make = || Command::new(tests::weft::program()).args(["cert", "--out"]).arg(&out).output();
    let made = make().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let address = free_address();
    let config = String::from_utf8(made.stdout).unwrap().replace("127.0.0.1:8883", &address.to_string());
    let _weft = Setup::new().config(config).start().await;
    assert!(publish(address, &out.join("ca.pem"), &[]).await);
    let again = make().await.unwrap();
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("ca.pem"));
}

/// Without a password only clients on this machine may publish: the forwarded address is none of it.
#[tokio::test]
async fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    for (trusted, status) in [("127.0.0.1", 401), ("192.0.2.1", 200)] {
        let address = free_address();
        let listener = format!(
            "[listener.plant]\nlisten = \"{address}\"\nprotocol = \"http\"\ntrusted_proxies = [\"{trusted}\"]\n"
        );
        let _weft = Setup::new().config(listener).start().await;
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "x-forwarded-for: 203.0.113.9"]);
        command.args(["-d", "x", &format!("http://{address}/events?topic=a")]);
        let output = command.output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), status.to_string(), "{trusted}");
    }
}
