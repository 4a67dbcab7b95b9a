//! Webhooks of the configuration, over a hub in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by it")]

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use event::hub::{Closed, Hub};
use event::testing::{Answer, Call, FakeHub};
use event::{Event, Guarantee, Health, Meta, Parts, TopicFilter, TopicName};
use support::{BROKEN, Webhook, until};
use tokio::time::Instant;
use webhook::{HookOptions, NamedHooks};

const SESSION: &str = "$hook/h";
const BAD: &str = "400 Bad\r\ncontent-length: 0\r\n\r\n";

struct Site {
    hub: Arc<FakeHub>,
    health: Health,
    hooks: NamedHooks,
}

impl Site {
    /// Knows of no webhook yet.
    fn new(past: &[(&str, &[&str])]) -> Self {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let (hub, health) = (Arc::new(FakeHub::new()), Health::default());
        let past = past.iter().map(|(name, topics)| {
            (name.to_string(), topics.iter().map(|topic| TopicFilter::parse(*topic).unwrap()).collect())
        });
        let of_hooks = Arc::clone(&hub) as Arc<dyn Hub>;
        let hooks = NamedHooks::new(of_hooks, health.clone(), past.collect());
        Self { hub, health, hooks }
    }

    /// Runs the webhook "h" and waits until it has subscribed.
    async fn start(options: &HookOptions) -> Self {
        let mut site = Self::new(&[]);
        site.turn(Some(options)).await;
        site
    }

    /// The webhook "h" is this one from now on, or there is none; waits until it has subscribed.
    async fn turn(&mut self, options: Option<&HookOptions>) {
        self.begin(options);
        until(|| self.ready().is_none()).await;
    }

    fn begin(&mut self, options: Option<&HookOptions>) {
        let hooks: BTreeMap<_, _> =
            options.map(|options| ("h".to_owned(), options.clone())).into_iter().collect();
        let plans = self.hooks.plan(&hooks).unwrap();
        self.hooks.follow(plans);
    }

    /// Why it is not ready.
    fn ready(&self) -> Option<String> {
        self.health.parts().into_iter().find(|(part, _)| part == "hook/h").and_then(|(_, reason)| reason)
    }

    fn deliver(&self, topic: &str, data: &'static str) -> u64 {
        self.deliver_with(topic, data, None)
    }

    /// With this `partitionkey`.
    fn deliver_with(&self, topic: &str, data: &'static str, key: Option<&str>) -> u64 {
        let with = |key: &str| Meta { user: vec![("partitionkey".into(), key.into())], ..Meta::default() };
        let parts = Parts {
            topic: TopicName::parse(topic.to_owned()).unwrap(),
            data: Bytes::from_static(data.as_bytes()),
            stamp: 1,
            received_ms: 1,
            expires_ms: 0,
            publisher: Arc::from("p"),
            meta: key.map(|key| Box::new(with(key))),
        };
        self.hub.deliver(SESSION, Event::new(parts), Guarantee::AtLeastOnce).unwrap()
    }

    async fn acked(&self, numbers: &[u64]) {
        until(|| self.hub.acked(SESSION) == numbers).await;
    }
}

fn options(hook: &Webhook) -> HookOptions {
    let topics = vec![TopicFilter::parse("a/#").unwrap()];
    HookOptions { url: hook.url.clone(), topics, retry_ms: 1, ..HookOptions::default() }
}

#[tokio::test]
async fn a_dead_letter_is_kept_before_the_event_is_done_and_before_the_next_goes() {
    let hook = Webhook::new().await;
    hook.answer(&[BAD]);
    let site = Site::start(&options(&hook)).await;
    site.hub.answer(Answer::Late);
    let (one, two) = (site.deliver("a/b", "one"), site.deliver("a/b", "two"));
    until(|| site.hub.published().len() == 1).await;
    assert_eq!(site.hub.published()[0].event.topic().as_str(), "$dead/h/a/b");
    assert_eq!((hook.got().len(), site.hub.acked(SESSION).len()), (1, 0));
    site.hub.release_late();
    site.acked(&[one, two]).await;
    assert_eq!(hook.got().len(), 2);
}

#[tokio::test]
async fn a_session_that_is_lost_is_taken_up_again() {
    let hook = Webhook::new().await;
    let site = Site::start(&options(&hook)).await;
    site.hub.end(SESSION, Closed::Ended);
    let subscribes =
        |calls: &[Call]| calls.iter().filter(|call| matches!(call, Call::Subscribe { .. })).count();
    site.hub.until(|calls| (subscribes(calls) == 2).then_some(())).await;
    let number = site.deliver("a", "x");
    site.acked(&[number]).await;
}

#[tokio::test]
async fn what_was_subscribed_before_and_is_not_any_more_is_not_posted() {
    let hook = Webhook::new().await;
    let site = Site::start(&options(&hook)).await;
    let (old, now) = (site.deliver("b", "old"), site.deliver("a", "now"));
    site.acked(&[old, now]).await;
    assert_eq!(hook.got().len(), 1);
}

#[tokio::test]
async fn a_stop_hears_out_what_is_being_posted_and_leaves_what_waits() {
    let hook = Webhook::new().await;
    hook.leave.forget_permits(1000);
    let options =
        HookOptions { in_flight: 2, retry_ms: 3_600_000, retry_max_ms: 3_600_000, ..options(&hook) };
    hook.answer(&[BROKEN]);
    let site = Site::start(&options).await;
    site.deliver("a", "waits");
    until(|| hook.got().len() == 1).await;
    hook.leave.add_permits(1);
    let number = site.deliver("a", "is posted");
    until(|| hook.got().len() == 2).await;
    let Site { hub, hooks, .. } = site;
    hook.leave.add_permits(1);
    hooks.finish(Instant::now() + std::time::Duration::from_secs(3600)).await;
    assert_eq!(hub.acked(SESSION), [number]);
    assert!(hub.sessions().contains(&SESSION.to_owned()), "the session stays");
}

#[tokio::test]
async fn events_of_one_key_go_one_after_the_other_and_others_beside_them() {
    let hook = Webhook::new().await;
    hook.leave.forget_permits(1000);
    let options = HookOptions { in_flight: 5, retry_ms: 1, ..options(&hook) };
    let site = Site::start(&options).await;
    hook.answer(&[BROKEN]);
    let first = site.deliver_with("a", "red-1", Some("red"));
    until(|| hook.got().len() == 1).await;
    let behind = [("red-2", Some("red")), ("blue-1", Some("blue")), ("alone", None), ("red-3", Some("red"))];
    let behind = behind.map(|(data, key)| site.deliver_with("a", data, key));
    until(|| hook.got().len() == 3).await;
    let posts = |text: &str| hook.got().iter().filter(|post| post.contains(text)).count();
    assert_eq!((posts("blue-1"), posts("alone"), posts("red-2")), (1, 1, 0), "red-1 is not answered");
    // The first answer is a refusal: red-1 goes again before the others with its key.
    hook.leave.add_permits(1000);
    until(|| site.hub.acked(SESSION).len() == 5).await;
    let reds: Vec<u64> =
        site.hub.acked(SESSION).into_iter().filter(|n| [first, behind[0], behind[3]].contains(n)).collect();
    assert_eq!(reds, [first, behind[0], behind[3]]);
    let order: Vec<String> = hook
        .got()
        .iter()
        .filter_map(|post| post.find("red-").map(|at| post[at..at + 5].to_owned()))
        .collect();
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(order, sorted);
}

fn attaches(hub: &FakeHub) -> usize {
    hub.calls().iter().filter(|call| matches!(call, Call::Attach { .. })).count()
}

#[tokio::test]
async fn one_that_changes_is_heard_out_and_the_next_goes_on_with_what_waits() {
    let (old, new) = (Webhook::new().await, Webhook::new().await);
    old.leave.forget_permits(1000);
    let mut site = Site::start(&options(&old)).await;
    let numbers = [site.deliver("a", "1"), site.deliver("a", "2")];
    until(|| old.got().len() == 1).await;
    site.begin(Some(&options(&new)));
    assert_eq!(site.ready().as_deref(), Some("its new settings do not hold yet"));
    assert_eq!(new.got().len(), 0, "it waits for the answer to the one before");
    old.leave.add_permits(1);
    site.acked(&numbers).await;
    assert_eq!((old.got().len(), new.got().len(), site.ready()), (1, 1, None));
}

#[tokio::test]
async fn one_that_does_not_change_is_left_alone() {
    let hook = Webhook::new().await;
    hook.leave.forget_permits(1000);
    let mut site = Site::start(&options(&hook)).await;
    let number = site.deliver("a", "1");
    until(|| hook.got().len() == 1).await;
    site.turn(Some(&options(&hook))).await;
    hook.leave.add_permits(1);
    site.acked(&[number]).await;
    assert_eq!((attaches(&site.hub), hook.got().len()), (1, 1));
}

#[tokio::test]
async fn one_that_is_taken_out_is_heard_out_and_its_session_ends() {
    let hook = Webhook::new().await;
    hook.leave.forget_permits(1000);
    let mut site = Site::start(&options(&hook)).await;
    let number = site.deliver("a", "1");
    site.deliver("a", "2");
    until(|| hook.got().len() == 1).await;
    site.begin(None);
    assert!(site.health.parts().is_empty());
    hook.leave.add_permits(1);
    until(|| site.hub.sessions().is_empty()).await;
    assert_eq!((site.hub.acked(SESSION), hook.got().len()), (vec![number], 1));
    // It comes back as a new one.
    hook.leave.add_permits(1);
    site.turn(Some(&options(&hook))).await;
    site.deliver("a", "three");
    until(|| hook.got().len() == 2).await;
    assert!(hook.got()[1].contains("three"), "{:?}", hook.got());
}

#[tokio::test]
async fn what_an_earlier_run_left_ends_or_goes_on_with_the_topics_of_now() {
    let hook = Webhook::new().await;
    let mut site = Site::new(&[("h", &["a/#", "b"]), ("other", &["c"])]);
    site.turn(Some(&options(&hook))).await;
    let ended = |calls: &[Call]| {
        let closed = |call: &Call| matches!(call, Call::Close { client, .. } if client == "$hook/other");
        calls.iter().any(closed).then_some(())
    };
    site.hub.until(ended).await;
    assert_eq!(site.hub.sessions(), [SESSION]);
    let unsubscribed = |call| if let Call::Unsubscribe { filters, .. } = call { Some(filters) } else { None };
    let gone = site.hub.calls().into_iter().find_map(unsubscribed);
    assert_eq!(gone.unwrap(), [TopicFilter::parse("b").unwrap()]);
}

#[tokio::test]
async fn a_file_that_changes_makes_another_webhook() {
    let (hook, folder) = (Webhook::new().await, tempfile::tempdir().unwrap());
    let token = folder.path().join("token");
    let options = HookOptions { token_file: Some(token.clone()), ..options(&hook) };
    std::fs::write(&token, "one").unwrap();
    let mut site = Site::start(&options).await;
    let first = site.deliver("a", "1");
    site.acked(&[first]).await;
    std::fs::write(&token, "two").unwrap();
    site.turn(Some(&options)).await;
    let second = site.deliver("a", "2");
    site.acked(&[first, second]).await;
    let shown: Vec<bool> = ["one", "two"]
        .iter()
        .zip(hook.got())
        .map(|(token, post)| post.contains(&format!("Bearer {token}")))
        .collect();
    assert_eq!(shown, [true, true], "{:?}", hook.got());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_nothing_changes() {
    let hook = Webhook::new().await;
    let site = Site::start(&options(&hook)).await;
    let file = Some(PathBuf::from("/nowhere/file"));
    for (options, key) in [
        (HookOptions { token_file: file.clone(), ..options(&hook) }, "token_file"),
        (HookOptions { secret_file: file.clone(), ..options(&hook) }, "secret_file"),
        (HookOptions { ca_file: file.clone(), ..options(&hook) }, "ca_file"),
    ] {
        let reason = site.hooks.plan(&BTreeMap::from([("h".to_owned(), options)])).err().unwrap();
        assert!(reason.starts_with(&format!("hook.h: {key} /nowhere/file: ")), "{reason}");
    }
    let number = site.deliver("a", "1");
    site.acked(&[number]).await;
}
