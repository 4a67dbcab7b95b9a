//! The gate as protocols see it, with real files and a real HTTP server beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::unused_async, reason = "helpers of tests")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::{Access, Anonymous, CalloutOptions, Change, JwtOptions, Options, Rates, Silent};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use event::access::{Asking, Credentials, Gate as _};
use event::{ClientId, Health, Principal, Reject, RejectKind, Source, TopicFilter, TopicName};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

/// A gate with a folder for its files.
struct Bench {
    access: Access,
    folder: TempDir,
    health: Health,
    drain: watch::Sender<bool>,
}

impl Bench {
    fn new(options: impl FnOnce(&TempDir) -> Options) -> Self {
        let (folder, health) = (tempfile::tempdir().unwrap(), Health::default());
        let options = options(&folder);
        let access = Access::open(options, [Arc::from("local")], health.clone()).unwrap();
        Self { access, folder, health, drain: watch::channel(false).0 }
    }

    /// Lets it follow its files.
    fn watch(&self) {
        tokio::spawn(self.access.clone().watch(self.drain.subscribe()));
    }

    async fn ask(&self, client: &str, source: Source, credentials: Credentials) -> Result<Principal, Reject> {
        self.access.admit(Asking { client: ClientId::from(client), source, credentials }).await
    }

    async fn password(&self, user: &str, password: &str) -> Result<Principal, Reject> {
        self.ask("c1", remote(), shown(user, password)).await
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.folder, name, text)
    }
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn from(address: &str, listener: &str) -> Source {
    Source { address: address.parse().unwrap(), listener: Arc::from(listener), certificate: None }
}

fn remote() -> Source {
    from("192.0.2.1:1000", "public")
}

fn shown(user: &str, password: &str) -> Credentials {
    let password = Some(Bytes::copy_from_slice(password.as_bytes()));
    Credentials::Password { user: Some(user.into()), password }
}

fn users(all: &[(&str, &str)]) -> String {
    all.iter().fold(String::new(), |text, (user, password)| {
        access::change(&text, user, Change::Set { password: password.as_bytes(), scram: false }).unwrap()
    })
}

fn kind(answer: &Result<Principal, Reject>) -> Option<RejectKind> {
    answer.as_ref().err().map(|reject| reject.kind)
}

/// Looks until it is so; a test that never sees it is ended by its runner.
async fn until(mut check: impl AsyncFnMut() -> bool) {
    while !check().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_proof_only_this_machine_comes_in_by_a_listener_of_its_own() {
    let local = || from("127.0.0.1:1", "local");
    let mapped = || from("[::ffff:127.0.0.1]:1", "local");
    for (anonymous, source, comes_in) in [
        (Anonymous::Loopback, local(), true),
        (Anonymous::Loopback, mapped(), true),
        (Anonymous::Loopback, from("127.0.0.1:1", "public"), false),
        (Anonymous::Loopback, from("192.0.2.1:1", "local"), false),
        (Anonymous::Never, local(), false),
        (Anonymous::Always, remote(), true),
    ] {
        let bench = Bench::new(|_| Options { anonymous, ..Options::default() });
        let answer = bench.ask("c", source.clone(), Credentials::None).await;
        assert_eq!(kind(&answer), (!comes_in).then_some(RejectKind::Unproved), "{anonymous:?} {source:?}");
        if let Ok(who) = answer {
            assert_eq!(
                (who.user, who.rights.may_administer()),
                (None, source.address.ip().to_canonical().is_loopback())
            );
        }
    }
    // With nothing to check it by, a password is not looked at, as it was always.
    let bench = Bench::new(|_| Options::default());
    assert!(bench.ask("c", local(), shown("x", "y")).await.is_ok());
    let bench = Bench::new(|folder| Options {
        password_file: write(folder, "users", &users(&[("alice", "a")])),
        ..Options::default()
    });
    assert_eq!(kind(&bench.ask("c", local(), shown("x", "y")).await), Some(RejectKind::Unproved));
    assert!(bench.ask("c", local(), Credentials::None).await.is_ok());
}

#[tokio::test]
async fn without_rules_only_administrators_see_audit_events() {
    let bench = Bench::new(|folder| Options {
        password_file: write(folder, "users", &users(&[("alice", "a")])),
        ..Options::default()
    });
    let audit = TopicFilter::parse("$weft/audit/#").unwrap();
    let alice = bench.password("alice", "a").await.unwrap();
    assert!(!alice.rights.may_subscribe(&audit));
    assert!(alice.rights.may_subscribe(&TopicFilter::parse("$weft/transactions/#").unwrap()));
    let here = bench.ask("c", from("127.0.0.1:1000", "local"), Credentials::None).await.unwrap();
    assert!(here.rights.may_subscribe(&audit));
}

#[tokio::test]
async fn a_changed_file_is_followed_by_those_who_are_in() {
    let rules = "[[rule]]\nallow = 'all'\ntopic = 'a/#'\n";
    let bench = Bench::new(|folder| Options {
        password_file: write(folder, "users", &users(&[("alice", "one"), ("bob", "b")])),
        acl_file: write(folder, "acl", rules),
        reload_s: 1,
        ..Options::default()
    });
    bench.watch();
    let alice = bench.password("alice", "one").await.unwrap();
    let topic = |text: &str| TopicName::parse(text).unwrap();
    assert_eq!(alice.user.as_deref(), Some("alice"));
    assert!(alice.rights.may_publish(&topic("a/b")) && !alice.rights.may_publish(&topic("b")));
    assert!(
        alice.rights.may_subscribe(&TopicFilter::parse("a/+").unwrap()) && !alice.rights.may_administer()
    );
    let before = alice.rights.revision();

    bench.write("acl", &format!("admins = ['alice']\n{}", rules.replace("a/#", "b")));
    until(async || alice.rights.revision() != before).await;
    assert!(alice.rights.may_publish(&topic("b")) && !alice.rights.may_publish(&topic("a/b")));
    assert!(alice.rights.may_administer());

    bench.write("acl", "[[rule]]\nallow = 'everything'\n");
    until(async || bench.health.parts().iter().any(|(_, reason)| reason.is_some())).await;
    let reason = bench.health.parts().into_iter().find_map(|(_, reason)| reason).unwrap();
    assert!(reason.contains("acl:2: unknown variant") && reason.contains("still holds"), "{reason}");
    assert!(alice.rights.may_publish(&topic("b")), "what was read before holds");

    bench.write("acl", rules);
    until(async || bench.health.parts().iter().all(|(_, reason)| reason.is_none())).await;
    assert!(alice.rights.may_publish(&topic("a/b")));

    let bob = bench.password("bob", "b").await.unwrap();
    bench.write("users", &users(&[("alice", "two")]));
    until(async || !bob.rights.may_publish(&topic("a/b"))).await;
    assert!(alice.rights.may_publish(&topic("a/b")), "she is still a user");
    assert_eq!(kind(&bench.password("alice", "one").await), Some(RejectKind::Unproved), "it was remembered");
    assert!(bench.password("alice", "two").await.is_ok());
}

#[tokio::test]
async fn wrong_passwords_make_their_address_wait_and_nobody_else() {
    let bench = Bench::new(|folder| Options {
        password_file: write(folder, "users", &users(&[("alice", "a")])),
        failures_per_minute: 5,
        ..Options::default()
    });
    assert!(bench.password("alice", "a").await.is_ok());
    let mut outcomes = Vec::new();
    for at in 0..20 {
        outcomes.push(kind(&bench.password(["alice", "nobody"][at % 2], "wrong").await));
    }
    let unproved = outcomes.iter().filter(|kind| **kind == Some(RejectKind::Unproved)).count();
    let busy = outcomes.iter().filter(|kind| **kind == Some(RejectKind::Busy)).count();
    // One more than five: a debt of none is no wait. Time goes on, so it may be some more.
    assert!((6..12).contains(&unproved) && unproved + busy == 20, "{outcomes:?}");
    assert!(bench.password("alice", "a").await.is_ok(), "what was right before still works");
    let other = bench.ask("c", from("192.0.2.2:1", "public"), shown("alice", "a")).await;
    assert!(other.is_ok());
}

#[tokio::test]
async fn many_passwords_at_once_are_bounded() {
    let bench = Bench::new(|folder| Options {
        password_file: write(folder, "users", &users(&[("alice", "a")])),
        hash_threads: 1,
        hash_queue: 4,
        failures_per_minute: 0,
        ..Options::default()
    });
    let mut all = tokio::task::JoinSet::new();
    for at in 0..50 {
        let (access, source) = (bench.access.clone(), from(&format!("192.0.2.{at}:1"), "public"));
        let asking = Asking { client: ClientId::from("c"), source, credentials: shown("alice", "wrong") };
        all.spawn(async move { access.admit(asking).await });
    }
    let outcomes: Vec<_> = all.join_all().await.iter().map(kind).collect();
    let busy = outcomes.iter().filter(|kind| **kind == Some(RejectKind::Busy)).count();
    assert!(busy >= 40, "one runs and four wait: {outcomes:?}");
    assert!(bench.password("alice", "a").await.is_ok());
}

#[tokio::test]
async fn who_connects_too_often_comes_again_later() {
    let rates = Rates { connects_per_second: 2, ..Rates::default() };
    let bench = Bench::new(|_| Options { client_rates: rates, ..Options::default() });
    let ask = |client| bench.ask(client, from("127.0.0.1:1", "local"), Credentials::None);
    assert!(ask("a").await.is_ok() && ask("a").await.is_ok());
    assert_eq!(kind(&ask("a").await), Some(RejectKind::Busy));
    assert!(ask("b").await.is_ok());
}

#[tokio::test]
async fn a_certificate_names_its_user() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["dev.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "device-7");
    let uri = rcgen::SanType::URI("spiffe://example/dev".try_into().unwrap());
    params.subject_alt_names.extend([uri, rcgen::SanType::Rfc822Name("d@example.org".try_into().unwrap())]);
    let der = Bytes::copy_from_slice(params.self_signed(&pair).unwrap().der());
    for (which, name) in [
        (access::CertificateName::Cn, "device-7"),
        (access::CertificateName::Dns, "dev.example"),
        (access::CertificateName::Uri, "spiffe://example/dev"),
        (access::CertificateName::Email, "d@example.org"),
    ] {
        let bench = Bench::new(|_| Options { certificate: which, ..Options::default() });
        let source = Source { certificate: Some(der.clone()), ..remote() };
        let who = bench.ask("c", source, Credentials::None).await.unwrap();
        assert_eq!(who.user.as_deref(), Some(name));
        let broken = Source { certificate: Some(Bytes::from_static(b"x")), ..remote() };
        assert_eq!(kind(&bench.ask("c", broken, Credentials::None).await), Some(RejectKind::Unproved));
        assert_eq!(kind(&bench.ask("c", remote(), Credentials::None).await), Some(RejectKind::Unproved));
    }
}

/// What the server says, and what it was asked.
#[derive(Clone, Default)]
struct Service {
    says: Arc<Mutex<Value>>,
    asked: Arc<Mutex<Vec<Value>>>,
    fails: Arc<AtomicU64>,
}

impl Service {
    /// A real server on loopback: `/weft` is a call-out, `/keys` a JWKS.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new().route("/weft", post(Self::decide)).route("/keys", get(Self::keys));
        let router = router.with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    async fn decide(State(service): State<Self>, body: Bytes) -> impl IntoResponse {
        service.answer(serde_json::from_slice(&body).unwrap())
    }

    async fn keys(State(service): State<Self>) -> impl IntoResponse {
        service.answer(Value::Null)
    }

    fn answer(&self, asked: Value) -> (StatusCode, String) {
        self.asked.lock().unwrap().push(asked);
        let fails = self.fails.load(Ordering::Relaxed) > 0;
        let status = if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        (status, self.says.lock().unwrap().to_string())
    }

    fn say(&self, value: Value) {
        *self.says.lock().unwrap() = value;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn callout(url: &str, change: impl FnOnce(&mut CalloutOptions)) -> Bench {
    let mut callout = CalloutOptions { url: format!("{url}/weft"), ..CalloutOptions::default() };
    change(&mut callout);
    Bench::new(|_| Options { callout, ..Options::default() })
}

#[tokio::test]
async fn a_service_decides_and_is_remembered() {
    let service = Service::default();
    let bench = callout(&service.start().await, |_| ());
    let acl = json!([{"deny": "all", "topic": "a/secret"}, {"allow": "publish", "topic": "a/#"}]);
    service.say(json!({"allow": true, "user": "Alice", "acl": acl}));
    let who = bench.password("alice", "a").await.unwrap();
    let question = service.asked.lock().unwrap().pop().unwrap();
    let expected = json!({
        "client": "c1", "user": "alice", "password": "a", "address": "192.0.2.1", "listener": "public", "certificate": null
    });
    assert_eq!(question, expected);
    assert_eq!(who.user.as_deref(), Some("Alice"));
    let may = |topic: &str| who.rights.may_publish(&TopicName::parse(topic).unwrap());
    assert!(may("a/b") && !may("a/secret") && !may("b"));
    assert!(bench.password("alice", "a").await.is_ok() && service.asked() == 0, "a yes is remembered");
    service.say(json!({"allow": false}));
    assert_eq!(kind(&bench.password("alice", "b").await), Some(RejectKind::Unproved));
    assert_eq!(
        kind(&bench.ask("c", remote(), Credentials::Token("t".into())).await),
        Some(RejectKind::Unproved)
    );
    assert_eq!(service.asked(), 2);
    for wrong in [json!({}), json!("x"), json!({"allow": true, "acl": [{"allow": "all"}]})] {
        service.say(wrong);
        assert_eq!(kind(&bench.password("alice", "c").await), Some(RejectKind::Unavailable));
    }
}

#[tokio::test]
async fn a_service_that_fails_is_left_alone_for_a_while() {
    let service = Service::default();
    let bench = callout(&service.start().await, |callout| {
        (callout.failures_max, callout.pause_ms) = (2, 600_000);
    });
    service.fails.store(1, Ordering::Relaxed);
    for _ in 0..5 {
        assert_eq!(kind(&bench.password("alice", "a").await), Some(RejectKind::Unavailable));
    }
    assert_eq!(service.asked(), 2);
    // Nothing listens there.
    let bench = callout("http://127.0.0.1:1", |callout| callout.silent = Silent::Allow);
    assert_eq!(bench.password("alice", "a").await.unwrap().user.as_deref(), Some("alice"));
}

#[tokio::test]
async fn keys_of_a_url_are_fetched_for_a_new_id_and_kept_while_it_fails() {
    let key = || {
        let pair = rcgen::KeyPair::generate().unwrap();
        EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap()
    };
    let (old, new) = (key(), key());
    let jwk = |key: &EncodingKey, id: &str| {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = json!(id);
        jwk
    };
    let token = |key: &EncodingKey, id: &str| {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        let claims = json!({"sub": "alice", "exp": get_current_timestamp() + 60});
        Credentials::Token(encode(&header, &claims, key).unwrap().into())
    };
    let service = Service::default();
    service.say(json!({"keys": [jwk(&old, "old")]}));
    let jwks_url = format!("{}/keys", service.start().await);
    let jwt = JwtOptions { jwks_url, ..JwtOptions::default() };
    let bench = Bench::new(|_| Options { jwt, ..Options::default() });
    assert!(bench.health.parts().iter().any(|(_, reason)| reason.is_some()), "no keys yet");
    let ask = |credentials| bench.ask("c", remote(), credentials);
    let who = ask(token(&old, "old")).await.unwrap();
    assert!(who.user.as_deref() == Some("alice") && who.until_ms.is_some() && service.asked() == 1);
    assert!(bench.health.parts().iter().all(|(_, reason)| reason.is_none()));

    service.say(json!({"keys": [jwk(&new, "new")]}));
    for _ in 0..5 {
        assert_eq!(kind(&ask(token(&new, "new")).await), Some(RejectKind::Unproved));
    }
    assert_eq!(service.asked(), 1, "strangers do not make us ask often");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert!(ask(token(&new, "new")).await.is_ok() && service.asked() == 2);

    service.fails.store(1, Ordering::Relaxed);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(kind(&ask(token(&old, "old")).await), Some(RejectKind::Unproved));
    assert!(service.asked() == 3 && ask(token(&new, "new")).await.is_ok());
}
