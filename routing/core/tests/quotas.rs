//! Quotas: what is refused, to whom, and when there is room again.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::hub::{Attach, Attached, Hub, Subscribe, SubscribeOptions};
use event::{ByteLimit, Guarantee, Pending, Principal, Reject, RejectKind};
use routing::{Core, Each, QuotaOptions, TenantOptions};
use support::*;

use Guarantee::AtLeastOnce;

async fn limited(quotas: &[(&str, QuotaOptions)]) -> Arc<Core> {
    let core = core().await;
    core.set_quotas(&BTreeMap::new(), &named(quotas));
    core
}

fn named(quotas: &[(&str, QuotaOptions)]) -> BTreeMap<String, QuotaOptions> {
    quotas.iter().map(|(name, quota)| ((*name).to_owned(), quota.clone())).collect()
}

fn user(user: &str, client: &str) -> Principal {
    let peer = Some(("192.0.2.1:5".parse().unwrap(), Arc::from("plant")));
    Principal { user: Some(Arc::from(user)), peer, ..Principal::anonymous(client) }
}

async fn send_as(core: &Core, who: &Principal, topic: &str, retain: bool) -> Result<(), Reject> {
    let publish = event::hub::Publish { retain, ..publish(event(topic, "12345"), AtLeastOnce) };
    settle(core.publish(who, vec![publish])).await.whole()
}

fn join(core: &Core, who: Principal) -> Pending<Attached> {
    core.attach(who, Attach { keep: Duration::ZERO, ..Attach::default() })
}

fn busy<T>(answer: Result<T, Reject>, quota: &str) {
    let reject = answer.err().unwrap();
    assert_eq!(reject.kind, RejectKind::Busy);
    assert!(reject.reason.contains(&format!("above quota.{quota}: ")), "{reject}");
}

async fn subscribe_one(attached: &mut Attached, filter: &str) -> Result<(), Reject> {
    let wanted = Subscribe::new(support::filter(filter), SubscribeOptions::new(AtLeastOnce));
    attached.link.subscribe(vec![wanted]).await.unwrap().remove(0).map(drop)
}

#[tokio::test]
async fn events_above_a_quota_are_refused_to_those_whom_it_is_for() {
    let quota = QuotaOptions {
        user: "plant-*".to_owned(),
        each: Each::User,
        topic: Some(filter("a/#")),
        events_per_second: 2,
        ..QuotaOptions::default()
    };
    let core = limited(&[("events", quota)]).await;
    let (one, two) = (user("plant-1", "x"), user("plant-2", "y"));
    for who in [&one, &two] {
        for _ in 0..2 {
            send_as(&core, who, "a/b", false).await.unwrap();
        }
        busy(send_as(&core, who, "a/b", false).await, "events");
    }
    for (who, topic) in
        [(one.clone(), "b"), (user("office", "z"), "a/b"), (Principal::anonymous("$bridge/x"), "a")]
    {
        for _ in 0..5 {
            send_as(&core, &who, topic, false).await.unwrap();
        }
    }
    core.set_quotas(&BTreeMap::new(), &BTreeMap::new());
    send_as(&core, &one, "a/b", false).await.unwrap();
}

#[tokio::test]
async fn a_large_event_passes_and_holds_up_those_behind_it() {
    let quota = QuotaOptions {
        listener: "plant".to_owned(),
        bytes_per_second: ByteLimit(1),
        ..QuotaOptions::default()
    };
    let core = limited(&[("bytes", quota)]).await;
    send_as(&core, &user("a", "x"), "t", false).await.unwrap();
    busy(send_as(&core, &user("b", "y"), "t", false).await, "bytes");
}

#[tokio::test]
async fn connections_and_subscriptions_have_room_again_when_others_go() {
    let quota = QuotaOptions { connections: 2, subscriptions: 3, ..QuotaOptions::default() };
    let core = limited(&[("few", quota.clone())]).await;
    let mut one = join(&core, user("u", "one")).await.unwrap();
    let mut two = join(&core, user("u", "two")).await.unwrap();
    busy(join(&core, user("u", "three")).await, "few");
    for filter in ["a", "b"] {
        subscribe_one(&mut one, filter).await.unwrap();
    }
    subscribe_one(&mut two, "a").await.unwrap();
    busy(subscribe_one(&mut two, "b").await, "few");
    subscribe_one(&mut two, "a").await.unwrap();
    one.link.unsubscribe(vec![filter("a"), filter("none"), filter("a")]).await.unwrap();
    subscribe_one(&mut two, "b").await.unwrap();
    busy(subscribe_one(&mut one, "c").await, "few");

    // A client that comes again takes its own place, and what others hold is known after a change.
    let mut again = join(&core, user("u", "two")).await.unwrap();
    drop(two);
    core.set_quotas(&BTreeMap::new(), &named(&[("few", QuotaOptions { connections: 1, ..quota })]));
    drop(one);
    busy(join(&core, user("u", "three")).await, "few");
    for filter in ["a", "b", "c"] {
        subscribe_one(&mut again, filter).await.unwrap();
    }
    drop(again);
    let mut three = join(&core, user("u", "three")).await.unwrap();
    subscribe_one(&mut three, "a").await.unwrap();
}

#[tokio::test]
async fn retained_events_of_a_topic_are_counted() {
    let quota = QuotaOptions { topic: Some(filter("a/#")), retained_events: 2, ..QuotaOptions::default() };
    assert!(QuotaOptions { topic: None, ..quota.clone() }.check().is_err());
    let core = limited(&[("kept", quota)]).await;
    let who = user("u", "x");
    for topic in ["a/1", "a/2", "a/1", "b/1", "b/2", "b/3"] {
        send_as(&core, &who, topic, true).await.unwrap();
    }
    busy(send_as(&core, &who, "a/3", true).await, "kept");
    send_as(&core, &who, "a/3", false).await.unwrap();
    let forget = event::hub::Publish { retain: true, ..publish(event("a/1", ""), AtLeastOnce) };
    settle(core.publish(&who, vec![forget])).await.whole().unwrap();
    send_as(&core, &who, "a/3", true).await.unwrap();
}

#[tokio::test]
async fn each_tenant_has_its_own_or_one_alone_has_a_quota() {
    let tenant = |user: &str| TenantOptions { users: vec![user.to_owned()], ..TenantOptions::default() };
    let tenants = BTreeMap::from([("a".to_owned(), tenant("a-*")), ("b".to_owned(), tenant("b"))]);
    let each = QuotaOptions { each: Each::Tenant, events_per_second: 2, ..QuotaOptions::default() };
    let core = core().await;
    core.set_quotas(&tenants, &named(&[("each", each)]));
    for others in [["a-1", "a-2"], ["b", "b"], ["c", "d"]] {
        for name in others {
            send_as(&core, &user(name, name), "t", false).await.unwrap();
        }
        busy(send_as(&core, &user(others[0], "third"), "t", false).await, "each");
    }
    let one = QuotaOptions { tenant: "b".to_owned(), connections: 1, ..QuotaOptions::default() };
    core.set_quotas(&tenants, &named(&[("one", one)]));
    let _first = join(&core, user("b", "x")).await.unwrap();
    busy(join(&core, user("b", "y")).await, "one");
    join(&core, user("a-1", "z")).await.unwrap();
}
