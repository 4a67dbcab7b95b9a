//! The operator's view of the core.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use event::admin::{Admin, Ending};
use event::hub::{Attach, Close, Closed, Hub, Publish, Room, SubscribeOptions, Will};
use event::testing::{MemoryStore, next_deliveries};
use event::{ClientId, Guarantee, Principal, TopicFilter, TopicName};
use support::*;

use Guarantee::{AtLeastOnce, AtMostOnce};

fn id(client: &str) -> ClientId {
    ClientId::from(client)
}

#[tokio::test]
async fn sessions_are_listed_in_pages_with_what_they_hold() {
    let core = core().await;
    let mut links = Vec::new();
    for client in ["a", "b", "c", "d", "e"] {
        links.push(attach(&core, client, if client < "d" { Duration::ZERO } else { FOREVER }).await);
    }
    let mut names = Vec::new();
    loop {
        let page = core.sessions(names.last().map(|name: &String| id(name)).as_ref(), 2);
        names.extend(page.iter().map(|view| view.client.to_string()));
        if page.len() < 2 {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let mut e = links.pop().unwrap();
    subscribe(&mut *e.link, "x/#", SubscribeOptions::new(AtLeastOnce)).await;
    for n in 0..5 {
        send(&core, event("x/y", &n.to_string()), AtLeastOnce).await;
    }
    take_some(&mut e, 2).await;
    e.link.ack(&[0]);
    let view = core.session(&id("e")).unwrap();
    assert_eq!((view.inflight, view.queued, view.subscriptions, view.durable), (1, 3, 1, true));
    assert!(view.queued_bytes > 0 && view.away_since_ms.is_none());
    let connection = view.connection.unwrap();
    assert!(connection.user.is_none() && connection.peer.is_none() && connection.since_ms > 0);
    let filters: Vec<String> =
        core.subscriptions(&id("e")).unwrap().iter().map(|one| one.filter.to_string()).collect();
    assert_eq!(filters, ["x/#"]);
    e.link.close(Close { will: false, keep: None });
    let view = core.session(&id("e")).unwrap();
    assert_eq!(
        (view.inflight, view.queued, view.connection, view.away_since_ms.is_some()),
        (0, 4, None, true)
    );
    assert!(core.session(&id("nobody")).is_none() && core.subscriptions(&id("nobody")).is_none());
}

/// Takes `count` numbered deliveries and leaves the rest.
async fn take_some(to: &mut event::hub::Attached, count: u16) {
    let mut out = Vec::new();
    next_deliveries(&mut *to.link, Room { numbered: count, bytes: 1 << 20 }, &mut out).await.unwrap();
    assert_eq!(out.len(), usize::from(count));
}

#[tokio::test]
async fn ending_a_session_ends_its_connection_and_with_forget_all_of_it() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut watcher = attach(&core, "watcher", Duration::ZERO).await;
    subscribe(&mut *watcher.link, "will", SubscribeOptions::new(AtLeastOnce)).await;
    for forget in [false, true] {
        let will = Will { publish: publish(event_by("to", "will", "gone"), AtLeastOnce), delay: FOREVER };
        let request = Attach { keep: FOREVER, will: Some(will), ..Attach::default() };
        let mut to = core.attach(Principal::anonymous("to"), request).await.unwrap();
        assert_eq!(core.end(&id("to"), forget), Ending::Ended);
        let room = Room { numbered: 1, bytes: 1 };
        assert_eq!(next_deliveries(&mut *to.link, room, &mut Vec::new()).await, Err(Closed::Ended));
        drop(to);
        assert_eq!(core.session(&id("to")).is_some(), !forget);
    }
    // The end of the session is that of the delay.
    assert_eq!(texts(&take(&mut *watcher.link, 1).await), ["gone"]);
    attach(&core, "away", FOREVER).await.link.close(Close { will: false, keep: None });
    assert_eq!(core.end(&id("away"), false), Ending::Away);
    assert_eq!(core.end(&id("away"), true), Ending::Ended);
    assert_eq!(core.end(&id("away"), true), Ending::Unknown);
    assert_eq!(core.end(&id("$bridge/x"), true), Ending::Ours);
    send(&core, event("sync", ""), AtLeastOnce).await;
    drop(core);
    assert_eq!(start(&store, options()).await.1.sessions, 0, "it stays so");
}

#[tokio::test]
async fn retained_events_are_listed_and_forgotten() {
    let store = MemoryStore::new();
    let (core, _) = start(&store, options()).await;
    let mut batch = Vec::new();
    for n in 0..7 {
        batch.push(Publish { retain: true, ..publish(event(&format!("r/{n}"), "x"), AtMostOnce) });
    }
    let mut parts = event("r/over", "x").parts().clone();
    parts.expires_ms = 2;
    batch.push(Publish { retain: true, ..publish(event::Event::new(parts), AtLeastOnce) });
    settle(core.publish(&Principal::anonymous("w"), batch)).await.whole().unwrap();
    let filter = TopicFilter::parse("r/+").unwrap();
    let after = TopicName::parse("r/3").unwrap();
    let page = core.retained(&filter, Some(&after), 2).await.unwrap();
    let topics: Vec<&str> = page.iter().map(|view| view.event.topic().as_str()).collect();
    assert_eq!(topics, ["r/4", "r/5"]);
    assert_eq!(core.retained(&filter, None, 100).await.unwrap().len(), 7, "what is expired is not there");
    core.forget(vec![TopicName::parse("r/4").unwrap()]).await.unwrap();
    assert_eq!(core.retained(&filter, None, 100).await.unwrap().len(), 6);
    drop(core);
    let (core, _) = start(&store, options()).await;
    assert_eq!(core.retained(&filter, None, 100).await.unwrap().len(), 6);
}
