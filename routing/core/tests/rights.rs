//! Rights: asked on every publish and subscribe, and again when the rules change.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use event::access::{Rights, Rules};
use event::hub::{Attach, Attached, Close, Hub, Outcome, Subscribe, SubscribeOptions, Will};
use event::testing::MemoryStore;
use event::{Guarantee, Principal, RejectKind, TopicFilter, TopicName};
use parking_lot::Mutex;
use routing::Core;
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Rules that deny what the test says.
#[derive(Default)]
struct Scripted {
    denied: Mutex<Vec<&'static str>>,
    revision: AtomicU64,
    asked: AtomicUsize,
}

impl Scripted {
    fn deny(&self, filters: &[&'static str]) {
        *self.denied.lock() = filters.to_vec();
        self.revision.fetch_add(1, Ordering::Release);
    }
}

impl Rules for Scripted {
    fn may_publish(&self, topic: &TopicName) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        !self.denied.lock().iter().any(|filter| TopicFilter::parse(*filter).unwrap().matches(topic))
    }

    fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        !self.denied.lock().contains(&filter.as_str())
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }
}

fn someone(client: &str, rules: &Arc<Scripted>) -> Principal {
    Principal { rights: Rights::by(Arc::clone(rules) as Arc<dyn Rules>), ..Principal::anonymous(client) }
}

async fn join(core: &Core, client: &str, rules: &Arc<Scripted>, keep: Duration) -> Attached {
    core.attach(someone(client, rules), Attach { keep, ..Attach::default() }).await.unwrap()
}

fn wish(filter: &str) -> Subscribe {
    let filter = TopicFilter::parse(filter.to_owned()).unwrap();
    Subscribe::new(filter, SubscribeOptions::new(ExactlyOnce))
}

#[tokio::test]
async fn what_may_not_be_published_is_refused_and_the_rest_of_the_batch_kept() {
    let core = core().await;
    let rules = Arc::new(Scripted::default());
    rules.deny(&["no/#"]);
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let mut from = join(&core, "from", &rules, Duration::ZERO).await;
    for guarantee in [AtMostOnce, ExactlyOnce] {
        let batch =
            ["yes", "no/a", "yes", "no"].map(|topic| publish(event_by("from", topic, "x"), guarantee));
        let outcome = settle(from.link.publish(batch.to_vec())).await;
        let Outcome::Partly(refused) = outcome else { panic!("{outcome:?}") };
        assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3]);
        assert!(refused.iter().all(|(_, reject)| reject.kind == RejectKind::Denied));
        assert_eq!(texts(&take(&mut *to.link, 2).await), ["x", "x"]);
    }
    let outcome =
        settle(core.publish(&someone("http", &rules), vec![publish(event("no", "x"), AtLeastOnce)]));
    assert_eq!(outcome.await.whole().unwrap_err().kind, RejectKind::Denied);
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn a_repeated_topic_is_asked_for_once_until_the_rules_change() {
    let core = core().await;
    let rules = Arc::new(Scripted::default());
    let mut from = join(&core, "from", &rules, Duration::ZERO).await;
    let send = async |from: &mut Attached| {
        settle(from.link.publish(vec![publish(event_by("from", "a", "x"), AtLeastOnce)])).await.whole()
    };
    for _ in 0..10 {
        send(&mut from).await.unwrap();
    }
    assert_eq!(rules.asked.load(Ordering::Relaxed), 1);
    rules.deny(&["a"]);
    assert_eq!(send(&mut from).await.unwrap_err().kind, RejectKind::Denied);
    rules.deny(&[]);
    send(&mut from).await.unwrap();
    assert_eq!(rules.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn who_proves_anew_has_the_new_rights() {
    let core = core().await;
    let (open, closed) = (Arc::new(Scripted::default()), Arc::new(Scripted::default()));
    closed.denied.lock().push("a");
    let mut client = join(&core, "c", &open, Duration::ZERO).await;
    subscribe(&mut *client.link, "a", SubscribeOptions::new(AtLeastOnce)).await;
    let send = async |client: &mut Attached| {
        settle(client.link.publish(vec![publish(event_by("c", "a", "x"), AtLeastOnce)])).await.whole()
    };
    send(&mut client).await.unwrap();
    assert_eq!(take(&mut *client.link, 1).await.len(), 1);
    client.link.renew(someone("c", &closed));
    assert_eq!(send(&mut client).await.unwrap_err().kind, RejectKind::Denied);
    let other = core.publish(&Principal::anonymous("http"), vec![publish(event("a", "x"), AtLeastOnce)]);
    settle(other).await.whole().unwrap();
    nothing(&mut *client.link).await;
}

#[tokio::test]
async fn what_may_not_be_subscribed_is_refused_at_its_place() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let rules = Arc::new(Scripted::default());
    rules.deny(&["no", "$SYS/#"]);
    for keep in [Duration::ZERO, FOREVER] {
        let mut to = join(&core, "to", &rules, keep).await;
        let wanted = ["no", "a", "$SYS/#", "b", "no"].map(wish).to_vec();
        let answers = to.link.subscribe(wanted).await.unwrap();
        let kinds: Vec<_> =
            answers.iter().map(|a| a.as_ref().map(drop).map_err(|reject| reject.kind)).collect();
        let denied = Err(RejectKind::Denied);
        assert_eq!(kinds, [denied, Ok(()), denied, Ok(()), denied]);
        let answers = to.link.subscribe(vec![wish("no")]).await.unwrap();
        assert!(answers.len() == 1 && answers[0].is_err());
        for topic in ["no", "a", "b"] {
            send(&core, event(topic, topic), AtLeastOnce).await;
        }
        assert_eq!(texts(&take(&mut *to.link, 2).await), ["a", "b"]);
        to.link.close(Close { will: false, keep: Some(Duration::ZERO) });
    }
}

#[tokio::test]
async fn rules_that_change_end_subscriptions_of_open_connections_at_once() {
    let core = core().await;
    for keep in [Duration::ZERO, FOREVER] {
        let rules = Arc::new(Scripted::default());
        let mut to = join(&core, "to", &rules, keep).await;
        to.link.subscribe(["a", "b"].map(wish).to_vec()).await.unwrap();
        // What waits already is not given out either.
        send(&core, event("a", "before"), AtLeastOnce).await;
        send(&core, event("a", "before"), AtMostOnce).await;
        rules.deny(&["a"]);
        send(&core, event("a", "after"), AtLeastOnce).await;
        send(&core, event("b", "marker"), AtLeastOnce).await;
        assert_eq!(texts(&take(&mut *to.link, 1).await), ["marker"]);
        // Allowed again, it has to be asked for again.
        rules.deny(&[]);
        send(&core, event("a", "no"), AtLeastOnce).await;
        send(&core, event("b", "marker"), AtLeastOnce).await;
        assert_eq!(texts(&take(&mut *to.link, 1).await), ["marker"]);
        to.link.subscribe(vec![wish("a")]).await.unwrap();
        send(&core, event("a", "again"), AtLeastOnce).await;
        assert_eq!(texts(&take(&mut *to.link, 1).await), ["again"]);
        to.link.close(Close { will: false, keep: Some(Duration::ZERO) });
    }
}

#[tokio::test]
async fn rules_that_changed_end_subscriptions_of_a_session_when_it_comes_back() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let rules = Arc::new(Scripted::default());
    let mut to = join(&core, "to", &rules, FOREVER).await;
    to.link.subscribe(["a", "b"].map(wish).to_vec()).await.unwrap();
    drop(to);
    send(&core, event("a", "no"), AtLeastOnce).await;
    send(&core, event("b", "yes"), AtLeastOnce).await;
    rules.deny(&["a"]);
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.backlog, 2);
    let mut to = join(&core, "to", &rules, FOREVER).await;
    let got = take(&mut *to.link, 1).await;
    assert_eq!((texts(&got), numbers(&got)), (vec!["yes".to_owned()], vec![1]));
    to.link.ack(&[1]);
    send(&core, event("b", "sync"), AtLeastOnce).await;
    // It stays so, and what was left out does not come back.
    rules.deny(&[]);
    let (core, recovered) = start(&store, options()).await;
    assert_eq!(recovered.backlog, 1);
    let mut to = join(&core, "to", &rules, FOREVER).await;
    send(&core, event("a", "no"), AtLeastOnce).await;
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["sync"]);
    nothing(&mut *to.link).await;
}

#[tokio::test]
async fn a_will_is_refused_with_the_connection_and_again_when_it_is_due() {
    let core = core().await;
    let rules = Arc::new(Scripted::default());
    let mut to = attach(&core, "to", Duration::ZERO).await;
    subscribe(&mut *to.link, "#", SubscribeOptions::new(AtLeastOnce)).await;
    let with_will = || Attach {
        will: Some(Will {
            publish: publish(event_by("from", "a", "will"), AtLeastOnce),
            delay: Duration::ZERO,
        }),
        ..Attach::default()
    };
    let from = core.attach(someone("from", &rules), with_will()).await.unwrap();
    rules.deny(&["a"]);
    let refused = core.attach(someone("other", &rules), with_will()).await.err().unwrap();
    assert_eq!(refused.kind, RejectKind::Denied);
    drop(from);
    rules.deny(&[]);
    let from = core.attach(someone("from", &rules), with_will()).await.unwrap();
    drop(from);
    assert_eq!(texts(&take(&mut *to.link, 1).await), ["will"]);
}
