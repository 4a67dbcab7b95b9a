//! Webhooks of the configuration, over a hub in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by it")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use event::hub::{Closed, Hub};
use event::testing::{Answer, Call, FakeHub};
use event::{Event, Guarantee, Health, Parts, TopicFilter, TopicName};
use support::{BROKEN, Webhook, until};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use webhook::{HookOptions, spawn_hook};

const SESSION: &str = "$hook/h";
const BAD: &str = "400 Bad\r\ncontent-length: 0\r\n\r\n";

struct Site {
    hub: Arc<FakeHub>,
    health: Health,
    drain: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Site {
    /// Runs the webhook "h" and waits until it has subscribed.
    async fn start(options: &HookOptions) -> Self {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let (hub, health) = (Arc::new(FakeHub::new()), Health::default());
        let (drain, drained) = watch::channel(false);
        let of_hook = Arc::clone(&hub) as Arc<dyn Hub>;
        let task = spawn_hook("h", options, of_hook, &health, drained).unwrap();
        let site = Self { hub, health, drain, task };
        until(|| site.ready().is_none()).await;
        site
    }

    /// Why it is not ready.
    fn ready(&self) -> Option<String> {
        let parts = self.health.parts();
        assert_eq!(parts[0].0, "hook/h");
        parts[0].1.clone()
    }

    fn deliver(&self, topic: &str, data: &'static str) -> u64 {
        let parts = Parts {
            topic: TopicName::parse(topic.to_owned()).unwrap(),
            data: Bytes::from_static(data.as_bytes()),
            stamp: 1,
            received_ms: 1,
            expires_ms: 0,
            publisher: Arc::from("p"),
            meta: None,
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
    let attaches =
        |calls: &[Call]| calls.iter().filter(|call| matches!(call, Call::Subscribe { .. })).count();
    site.hub.until(|calls| (attaches(calls) == 2).then_some(())).await;
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
    site.drain.send_replace(true);
    hook.leave.add_permits(1);
    site.task.await.unwrap();
    assert_eq!(site.hub.acked(SESSION), [number]);
    assert!(site.hub.sessions().contains(&SESSION.to_owned()), "the session stays");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let hook = Webhook::new().await;
    let file = Some(std::path::PathBuf::from("/nowhere/file"));
    for (options, key) in [
        (HookOptions { token_file: file.clone(), ..options(&hook) }, "token_file"),
        (HookOptions { secret_file: file.clone(), ..options(&hook) }, "secret_file"),
        (HookOptions { ca_file: file.clone(), ..options(&hook) }, "ca_file"),
    ] {
        let (_drain, drained) = watch::channel(false);
        let hub = Arc::new(FakeHub::new()) as Arc<dyn Hub>;
        let reason = spawn_hook("h", &options, hub, &Health::default(), drained).unwrap_err();
        assert!(reason.starts_with(&format!("{key} /nowhere/file: ")), "{reason}");
    }
}
