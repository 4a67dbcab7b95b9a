//! Deliveries to real webhooks on the loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by it")]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::hub::Hub;
use event::testing::{Answer, FakeHub};
use event::{Event, Guarantee, Parts, Principal, TopicName};
use eventmesh::{Clients, Order, Purpose, Subscription, SubscriptionType, UserAgent};
use support::{BROKEN, GONE, OK, RETRY, Webhook, until};
use tokio::sync::watch;
use tokio::task::JoinSet;
use webhook::push::{Push, Secret};
use webhook::target::BadUrl;
use webhook::{Hooks, Options, Refused, Wanted};

struct Site {
    hub: Arc<FakeHub>,
    clients: Clients,
    hooks: Hooks,
    drain: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Site {
    fn new(options: Options) -> Self {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let hub = Arc::new(FakeHub::new());
        let (drain, drained) = watch::channel(false);
        let clients = Clients::default();
        let of_hooks = Arc::clone(&hub) as Arc<dyn Hub>;
        let names = eventmesh::Options { idc: "FT".to_owned(), ..eventmesh::Options::default() };
        let (hooks, posts) = Hooks::new(of_hooks, clients.clone(), options, &names, drained).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(posts);
        Self { hub, clients, hooks, drain, tasks }
    }

    async fn subscribe(&self, group: &str, url: &str, client: &str) -> Result<(), Refused> {
        let items: Vec<Subscription> =
            serde_json::from_str(r#"[{"topic":"t","mode":"BROADCASTING","type":"ASYNC"}]"#).unwrap();
        let who = Principal::anonymous(&*self.hooks.session_name(group));
        let peer = (Ipv4Addr::LOCALHOST, 1).into();
        let shown = (UserAgent::of(group, Purpose::Subscribe), peer, "HTTP");
        let wanted = Wanted { group, url, client, items: &items, watched: true, write, shown };
        self.hooks.subscribe(who, wanted).await
    }

    /// The session of the one webhook of that group.
    fn session(&self, group: &str) -> String {
        let start = format!("$webhook/{group}/");
        self.hub.sessions().into_iter().find(|name| name.starts_with(&start)).unwrap()
    }

    fn deliver(&self, session: &str, data: &'static str) -> u64 {
        let parts = Parts {
            topic: TopicName::parse("t").unwrap(),
            data: Bytes::from_static(data.as_bytes()),
            stamp: 1,
            received_ms: 1,
            expires_ms: 0,
            publisher: Arc::from("p"),
            meta: None,
        };
        self.hub.deliver(session, Event::new(parts), Guarantee::AtLeastOnce).unwrap()
    }
}

fn write(event: &Event, _kind: SubscriptionType) -> Push {
    let content = String::from_utf8(event.data().to_vec()).unwrap();
    let headers = vec![("code".into(), "105".to_owned()), ("protocoltype".into(), "no\nheader".to_owned())];
    Push { content, headers, topic: event.topic().as_str().to_owned(), ..Push::default() }
}

fn options() -> Options {
    Options { loopback: true, retry_ms: 1, ..Options::default() }
}

#[tokio::test]
async fn an_event_is_done_when_the_webhook_took_it() {
    let site = Site::new(options());
    let hook = Webhook::new().await;
    hook.leave.forget_permits(1000);
    site.subscribe("g", &hook.url, "c").await.unwrap();
    let session = site.session("g");
    let number = site.deliver(&session, "one");
    until(|| hook.got().len() == 1).await;
    let request = hook.got().remove(0);
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("code: 105\r\n") && !request.contains("protocoltype"), "{request}");
    for header in ["eventmeshidc: FT", "eventmeshcluster: weft", "webhook-request-origin: eventmesh.DEFAULT"]
    {
        assert!(request.contains(&format!("{header}\r\n")), "{header} in {request}");
    }
    assert!(
        request.contains("content-type: application/x-www-form-urlencoded; charset=UTF-8\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\n\r\ncontent=one&bizseqno=&uniqueId=&randomNo="), "{request}");
    assert!(site.hub.acked(&session).is_empty(), "it has not answered");
    hook.leave.add_permits(1);
    until(|| site.hub.acked(&session) == [number]).await;
}

#[tokio::test]
async fn what_is_not_taken_is_posted_again_and_given_up_at_last() {
    let site = Site::new(options());
    let hook = Webhook::new().await;
    hook.answer(&[BROKEN, RETRY, OK, BROKEN, BROKEN, BROKEN, BROKEN, GONE]);
    site.subscribe("g", &hook.url, "c").await.unwrap();
    let session = site.session("g");
    for (data, posts) in [("taken", 3), ("dead", 7), ("gone", 8)] {
        let number = site.deliver(&session, data);
        until(|| site.hub.acked(&session).contains(&number)).await;
        assert_eq!(hook.got().len(), posts, "{data}");
    }
}

#[tokio::test]
async fn a_dead_letter_is_kept_before_the_event_is_done() {
    let site = Site::new(Options { retries: 0, ..options() });
    let hook = Webhook::new().await;
    hook.answer(&[BROKEN]);
    site.subscribe("g", &hook.url, "c").await.unwrap();
    let session = site.session("g");
    site.hub.answer(Answer::Late);
    let number = site.deliver(&session, "x");
    until(|| site.hub.published().len() == 1).await;
    let letter = site.hub.published().remove(0);
    assert_eq!((letter.event.topic().as_str(), &letter.event.data()[..]), ("$dead/g/t", &b"x"[..]));
    assert!(site.hub.acked(&session).is_empty(), "it is not kept");
    site.hub.release_late();
    until(|| site.hub.acked(&session) == [number]).await;
}

#[tokio::test]
async fn posts_are_signed_so_that_webhooks_know_them() {
    let file = std::env::temp_dir().join(format!("weft-webhook-secret-{}", std::process::id()));
    std::fs::write(&file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let site = Site::new(Options { secret_file: file.clone(), ..options() });
    std::fs::remove_file(&file).unwrap();
    let hook = Webhook::new().await;
    hook.answer(&[BROKEN]);
    site.subscribe("g", &hook.url, "c").await.unwrap();
    site.deliver(&site.session("g"), "x");
    until(|| hook.got().len() == 2).await;
    let header = |post: &str, name: &str| {
        let value = post.split(&format!("\r\n{name}: ")).nth(1).expect(name).split("\r\n").next();
        value.unwrap().to_owned()
    };
    let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    for post in hook.got() {
        let seconds = header(&post, "webhook-timestamp").parse().unwrap();
        let body = post.split("\r\n\r\n").nth(1).unwrap();
        let [(_, id), _, (_, signature)] = secret.sign(1, seconds, body.as_bytes());
        assert_eq!((header(&post, "webhook-id"), header(&post, "webhook-signature")), (id, signature));
    }
    let ids: Vec<String> = hook.got().iter().map(|post| header(post, "webhook-id")).collect();
    assert_eq!(ids[0], ids[1], "the same event");
    let missing = Options { secret_file: file, ..options() };
    let (_drain, drained) = watch::channel(false);
    let (hub, names) = (Arc::new(FakeHub::new()), eventmesh::Options::default());
    let error = Hooks::new(hub, Clients::default(), missing, &names, drained).err().unwrap();
    assert!(error.to_string().contains("webhook.secret_file"), "{error}");
}

#[tokio::test]
async fn a_webhook_of_others_is_not_posted_to() {
    let site = Site::new(options());
    let hook = Webhook::new().await;
    *hook.allowed.lock().unwrap() = "WebHook-Allowed-Origin: a.example\r\n".to_owned();
    let refused = site.subscribe("g", &hook.url, "c").await.unwrap_err();
    assert!(matches!(&refused, Refused::Consent(url, _) if *url == hook.url), "{refused}");
    assert!(site.hub.sessions().is_empty());
    *hook.allowed.lock().unwrap() = "WebHook-Allowed-Origin: eventmesh.DEFAULT\r\n".to_owned();
    site.subscribe("g", &hook.url, "c").await.unwrap();
}

#[tokio::test]
async fn operators_see_who_has_a_webhook_and_send_them_away() {
    let site = Site::new(options());
    let hook = Webhook::new().await;
    site.subscribe("g", &hook.url, "c1").await.unwrap();
    site.subscribe("g", &hook.url, "c2").await.unwrap();
    let all = site.clients.list(|_| true, 10);
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].url.as_deref(), &*all[0].topics[0]), (Some(&*hook.url), "t"));
    assert!(!site.hooks.unsubscribe("g", &hook.url, None, Some("c1"), ["t"].into_iter()).await);
    assert_eq!(site.clients.list(|_| true, 10).len(), 1);
    site.clients.order(|client| client.protocol == "HTTP", &Order::Leave);
    until(|| site.hub.sessions().is_empty() && site.clients.list(|_| true, 10).is_empty()).await;
}

#[tokio::test]
async fn the_next_webhook_of_the_group_gets_what_one_does_not_take() {
    let site = Site::new(options());
    let (broken, whole) = (Webhook::new().await, Webhook::new().await);
    broken.answer(&[BROKEN; 4]);
    site.subscribe("g", &broken.url, "c").await.unwrap();
    let session = site.session("g");
    site.subscribe("g", &whole.url, "c").await.unwrap();
    let number = site.deliver(&session, "x");
    until(|| site.hub.acked(&session) == [number]).await;
    assert_eq!((broken.got().len(), whole.got().len()), (1, 1));
}

#[tokio::test]
async fn a_webhook_that_does_not_answer_has_no_more_than_its_share_on_its_way() {
    let site = Site::new(Options { in_flight: 2, ..options() });
    let hook = Webhook::new().await;
    hook.leave.forget_permits(1000);
    site.subscribe("g", &hook.url, "c").await.unwrap();
    let session = site.session("g");
    for data in ["a", "b", "c", "d"] {
        site.deliver(&session, data);
    }
    until(|| hook.got().len() == 2).await;
    hook.leave.add_permits(1);
    until(|| hook.got().len() == 3).await;
    assert_eq!(site.hub.acked(&session).len(), 1);
    hook.leave.add_permits(3);
    until(|| site.hub.acked(&session).len() == 4).await;
}

#[tokio::test]
async fn a_webhook_that_nobody_wants_is_no_member_any_more() {
    let site = Site::new(options());
    let hook = Webhook::new().await;
    site.subscribe("g", &hook.url, "c1").await.unwrap();
    site.subscribe("g", &hook.url, "c2").await.unwrap();
    assert_eq!(site.hub.sessions().len(), 1, "one webhook is one member");
    let unsubscribe = |client| site.hooks.unsubscribe("g", &hook.url, None, client, ["t"].into_iter());
    assert!(!unsubscribe(Some("c1")).await, "c2 wants it still");
    assert!(!site.hooks.touch("g", "c1", "t") && site.hooks.touch("g", "c2", "t"));
    assert!(unsubscribe(Some("c2")).await);
    until(|| site.hub.sessions().is_empty()).await;
    assert!(!unsubscribe(None).await);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_what_is_to_be_posted_again() {
    let mut site = Site::new(Options { retry_ms: 3_600_000, ..options() });
    let hook = Webhook::new().await;
    hook.answer(&[BROKEN]);
    site.subscribe("g", &hook.url, "c").await.unwrap();
    let session = site.session("g");
    site.deliver(&session, "x");
    until(|| hook.got().len() == 1).await;
    site.drain.send_replace(true);
    tokio::time::timeout(Duration::from_secs(60), site.tasks.join_next()).await.expect("it stops");
    assert!(site.hub.acked(&session).is_empty(), "it stays for others");
}

#[tokio::test]
async fn addresses_of_this_machine_are_refused_by_default_whatever_they_are_called() {
    let site = Site::new(Options::default());
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 9)).port();
    for url in [format!("http://127.0.0.1:{port}/"), format!("http://localhost:{port}/")] {
        let refused = site.subscribe("g", &url, "c").await.unwrap_err();
        assert!(matches!(refused, Refused::Url(BadUrl::Loopback(_))), "{refused}");
        assert!(refused.to_string().contains("webhook.loopback"), "{refused}");
    }
    let unknown = site.subscribe("g", "http://no-such-host.invalid/", "c").await.unwrap_err();
    assert!(matches!(unknown, Refused::Url(BadUrl::Unknown(_))), "{unknown}");
    assert!(site.hub.sessions().is_empty());
}

#[tokio::test]
async fn one_webhook_has_no_more_clients_than_the_limit() {
    let site = Site::new(options());
    let hook = Webhook::new().await;
    for n in 0..256 {
        site.subscribe("g", &hook.url, &format!("c{n}")).await.unwrap();
    }
    let refused = site.subscribe("g", &hook.url, "one too many").await.unwrap_err();
    assert!(matches!(&refused, Refused::Rejected(reject) if reject.reason.contains("256")), "{refused}");
    site.subscribe("g", &hook.url, "c7").await.unwrap();
    assert_eq!(site.clients.list(|_| true, 1000).len(), 256);
}

#[tokio::test]
async fn there_are_no_more_webhooks_and_topics_than_the_limit() {
    let none = Site::new(Options { topics_max: 0, ..options() });
    none.subscribe("g", "http://127.0.0.1:9/a", "c").await.unwrap_err();
    until(|| none.hub.sessions().is_empty()).await;
    let site = Site::new(Options { webhooks_max: 1, topics_max: 1, ..options() });
    site.subscribe("g", "http://127.0.0.1:9/a", "c").await.unwrap();
    let refused = site.subscribe("g", "http://127.0.0.1:9/b", "c").await.unwrap_err();
    assert!(matches!(&refused, Refused::Rejected(reject) if reject.reason.contains("limit")), "{refused}");
    // What it has already is not counted twice.
    site.subscribe("g", "http://127.0.0.1:9/a", "c").await.unwrap();
}
