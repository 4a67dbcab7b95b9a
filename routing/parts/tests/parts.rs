//! Parts that come, change and go, over a hub in memory.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use event::hub::{Attach, Hub};
use event::testing::{Call, FakeHub};
use event::{Health, TopicFilter};
use parts::{Part, Parts, Place, Plans, Standing};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const LIMIT: Duration = Duration::from_secs(60);

/// One that tells what it does, and ends when it is let.
struct Fake {
    number: u32,
    session: bool,
    tell: mpsc::Sender<String>,
    ends: Arc<tokio::sync::Semaphore>,
}

struct Said {
    name: String,
    health: Health,
}

impl Standing for Said {
    fn new(name: &str, health: &Health) -> Self {
        Self { name: name.to_owned(), health: health.clone() }
    }

    fn begin(&self, reason: &str) {
        self.health.down(&self.name, reason);
    }

    fn end(&self) {
        self.health.gone(&self.name);
    }
}

impl Part for Fake {
    type Standing = Said;
    const SESSIONS: &'static str = "$fake/";
    const LAST_WORD: Duration = LIMIT;

    fn has_session(&self) -> bool {
        self.session
    }

    async fn run(self: Arc<Self>, mut place: Place<Said>, subscribed: &mut Vec<TopicFilter>) {
        let who = &place.who.client;
        self.tell.try_send(format!("{who} {} begins with {}", self.number, subscribed.len())).unwrap();
        if self.session {
            let request = Attach { keep: Duration::MAX, ..Attach::default() };
            drop(place.hub.attach(place.who.clone(), request).await.unwrap());
            subscribed.push(TopicFilter::parse("a").unwrap());
        }
        place.over.wait_for(|over| *over).await.unwrap();
        self.ends.acquire().await.unwrap().forget();
        self.tell.try_send(format!("{who} {} has ended", self.number)).unwrap();
    }
}

struct Site {
    hub: FakeHub,
    health: Health,
    parts: Parts<Fake>,
    tell: mpsc::Sender<String>,
    told: Mutex<mpsc::Receiver<String>>,
    ends: Arc<tokio::sync::Semaphore>,
}

impl Site {
    fn new(past: &[&str]) -> Self {
        let (hub, health, (tell, told)) = (FakeHub::new(), Health::default(), mpsc::channel(16));
        let filters = || vec![TopicFilter::parse("a").unwrap(), TopicFilter::parse("b").unwrap()];
        let past = past.iter().map(|name| (name.to_string(), filters())).collect();
        let of_parts = Arc::new(hub.clone()) as Arc<dyn Hub>;
        let parts = Parts::new(of_parts, health.clone(), past);
        Self {
            hub,
            health,
            parts,
            tell,
            told: Mutex::new(told),
            ends: Arc::new(tokio::sync::Semaphore::new(0)),
        }
    }

    fn plan(&self, number: u32, session: bool) -> Option<Fake> {
        Some(Fake { number, session, tell: self.tell.clone(), ends: Arc::clone(&self.ends) })
    }

    fn follow(&mut self, plans: impl IntoIterator<Item = (&'static str, Option<Fake>)>) {
        let plans: Plans<Fake> = plans.into_iter().map(|(name, plan)| (name.to_owned(), plan)).collect();
        self.parts.follow(plans);
    }

    async fn next(&mut self) -> String {
        timeout(LIMIT, self.told.get_mut().unwrap().recv()).await.unwrap().unwrap()
    }

    /// Waits until the session has been ended as one that was taken out.
    async fn until_ended(&self, session: &str) {
        let is = |call: &Call| matches!(call, Call::Close { client, how } if client == session && how.keep == Some(Duration::ZERO));
        timeout(LIMIT, self.hub.until(|calls| calls.iter().any(is).then_some(()))).await.unwrap();
    }
}

#[tokio::test]
async fn one_plan_follows_another_and_who_did_not_change_goes_on() {
    let mut site = Site::new(&[]);
    site.follow([("one", site.plan(1, true)), ("two", site.plan(1, true))]);
    let begun = [site.next().await, site.next().await];
    assert!(begun.contains(&"$fake/one 1 begins with 0".to_owned()), "{begun:?}");
    // What is to be changes twice before the first has ended: the one between never begins.
    site.follow([("one", site.plan(2, true)), ("two", None)]);
    site.follow([("one", site.plan(3, true)), ("two", None)]);
    assert_eq!(site.health.parts()[0].1.as_deref(), Some("its new settings do not hold yet"));
    site.ends.add_permits(1);
    assert_eq!(site.next().await, "$fake/one 1 has ended");
    // It knows what its session has subscribed.
    assert_eq!(site.next().await, "$fake/one 3 begins with 1");
    assert!(site.told.get_mut().unwrap().try_recv().is_err(), "the other one was not disturbed");
    assert!(site.parts.plan_of("one").is_some_and(|plan| plan.number == 3));
    site.ends.add_permits(2);
    site.parts.finish(Instant::now() + LIMIT).await;
    let ended = site.hub.calls().into_iter().filter(|call| matches!(call, Call::Close { .. })).count();
    assert_eq!(ended, 0, "sessions stay when Weft stops");
}

#[tokio::test]
async fn who_is_taken_out_ends_with_its_session_once_its_last_plan_has_ended() {
    let mut site = Site::new(&["past", "stays"]);
    site.follow([("one", site.plan(1, true)), ("stays", site.plan(1, true))]);
    site.until_ended("$fake/past").await;
    let begun = [site.next().await, site.next().await];
    assert!(begun.contains(&"$fake/stays 1 begins with 2".to_owned()), "{begun:?}");
    site.follow([("stays", None)]);
    assert_eq!(site.health.parts().len(), 1);
    assert!(site.parts.plan_of("one").is_none());
    site.ends.add_permits(1);
    assert_eq!(site.next().await, "$fake/one 1 has ended");
    site.until_ended("$fake/one").await;
    // One of its name begins anew.
    site.follow([("one", site.plan(2, true)), ("stays", None)]);
    assert_eq!(site.next().await, "$fake/one 2 begins with 0");
}

#[tokio::test]
async fn a_plan_without_a_session_ends_that_of_the_one_before_it() {
    let mut site = Site::new(&["one"]);
    site.follow([("one", site.plan(1, false))]);
    assert_eq!(site.next().await, "$fake/one 1 begins with 0");
    site.until_ended("$fake/one").await;
}
