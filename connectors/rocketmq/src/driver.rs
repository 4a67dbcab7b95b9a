//! The tasks of a bridge and of a store. This file and those of its folder are the only ones that await.

mod arrivals;
mod bridge;
mod client;
mod connection;
mod consumer;
mod queue;
mod sender;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use event::hub::Hub;
use event::store::AppendQueue;
use event::{Health, Origin, Principal, Rate};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::bridge::Outlet;
use self::client::{Client, Identity};
use self::consumer::{Consumer, Manner, Rule};
use self::store::Intake;
use crate::condition::Condition;
use crate::options::RETRIES;
use crate::subscription::{Subscription, Wanted};
use crate::template::Template;
use crate::{BridgeOptions, ClusterOptions, InRule, OptionsError, OutRule};

/// Starts the bridge `name` on `cluster`: the session `$bridge/rocketmq/{name}`, and the part `rocketmq/{name}` of
/// `health`. It works until `drain` turns true; then it finishes what is out, commits, and its task ends.
pub fn spawn_bridge(
    name: &str,
    bridge: &BridgeOptions,
    cluster: &ClusterOptions,
    hub: Arc<dyn Hub>,
    health: &Health,
    drain: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, OptionsError> {
    bridge.check(name, cluster)?;
    let part = format!("rocketmq/{name}");
    let group = cluster.wrap(&bridge.group(name, cluster));
    let subscription = |rule: &InRule| Subscription {
        topic: cluster.wrap(&rule.topic),
        wanted: Wanted::of(rule.tags.as_deref(), rule.sql.as_deref()),
    };
    let address = |rule: &OutRule| Ok((rule.filter.clone(), rule.address(cluster)?));
    let rules_out = bridge.out.iter().map(address).collect::<Result<Vec<_>, OptionsError>>()?;
    let identity = Identity {
        part: part.clone(),
        producer: group.clone(),
        out: rules_out
            .iter()
            .filter_map(|(_, address)| address.fixed().map(|topic| topic.to_string()))
            .collect(),
        inward: with_retries(bridge.inward.iter().map(subscription).collect(), &group),
        group,
        start: bridge.start,
    };
    let condition = Condition::new(part, health.clone());
    let client = Arc::new(Client::new(cluster.clone(), identity, condition)?);
    let who = Principal::anonymous(&*format!("$bridge/rocketmq/{name}"));
    let outlet = Outlet {
        client: Arc::clone(&client),
        hub: Arc::clone(&hub),
        who: who.clone(),
        rules: rules_out,
        rate: Rate::per_second(bridge.rate.into()),
        patience: Duration::from_secs(bridge.refused_s.into()),
        dead_letters: (bridge.dead_letters.clone(), name.to_owned()),
    };
    let template = |to: &str| Template::parse(to).ok_or_else(|| OptionsError::Template(to.to_owned()));
    let rules = bridge.inward.iter().map(|rule| {
        let becomes = Rule { topic: rule.topic.as_str().into(), to: template(&rule.to)? };
        Ok((cluster.wrap(&rule.topic), becomes))
    });
    let rules = rules.collect::<Result<BTreeMap<_, _>, OptionsError>>()?;
    let manner =
        Manner { own: false, alone: bridge.broadcast, ordered: bridge.ordered, retries: bridge.retries };
    let consumer = Consumer {
        client: Arc::clone(&client),
        hub,
        who,
        rules,
        manner,
        pulled: watch::Sender::new(0),
        refusals: AtomicU32::new(0),
    };
    Ok(tokio::spawn(async move {
        let out = async {
            if !outlet.rules.is_empty() {
                outlet.run(drain.clone()).await;
            }
        };
        work(&client, out, consumer.run(drain.clone())).await;
    }))
}

/// Starts the cluster `name` as the store of routes: sends what comes from `appends`, and publishes what its group
/// brings back. The part `rocketmq/{name}/store` of `health` says how it is. It works until `drain` turns true; then it
/// sends what is in line, commits, and its task ends.
///
/// A receipt says yes when a broker answered SEND_OK for every event of its batch.
pub fn spawn_store(
    name: &str,
    cluster: &ClusterOptions,
    appends: AppendQueue,
    hub: Arc<dyn Hub>,
    health: &Health,
    drain: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, OptionsError> {
    let part = format!("rocketmq/{name}/store");
    let store = &cluster.store;
    let (topic, group) = (cluster.wrap(&store.topic), cluster.wrap(&cluster.of_node(&store.group)));
    let all = Subscription { topic: topic.clone(), wanted: Wanted::All };
    let identity = Identity {
        part: part.clone(),
        producer: group.clone(),
        out: [topic.clone()].into(),
        inward: with_retries(vec![all], &group),
        group,
        start: store.start,
    };
    let condition = Condition::new(part, health.clone());
    let client = Arc::new(Client::new(cluster.clone(), identity, condition)?);
    let intake = Intake { client: Arc::clone(&client), appends, topic: Arc::from(&*topic) };
    let who =
        Principal { origin: Origin::Store, ..Principal::anonymous(&*format!("$store/rocketmq/{name}")) };
    let rules = [(topic, Rule { topic: store.topic.as_str().into(), to: Template::origin() })].into();
    let manner = Manner { own: true, alone: true, ordered: false, retries: RETRIES };
    let consumer = Consumer {
        client: Arc::clone(&client),
        hub,
        who,
        rules,
        manner,
        pulled: watch::Sender::new(0),
        refusals: AtomicU32::new(0),
    };
    Ok(tokio::spawn(async move {
        work(&client, intake.run(drain.clone()), consumer.run(drain.clone())).await;
    }))
}

/// Who consumes anything gets again what its group gave back.
fn with_retries(mut subscriptions: Vec<Subscription>, group: &str) -> Vec<Subscription> {
    if !subscriptions.is_empty() {
        subscriptions.push(Subscription::of_retries(group));
    }
    subscriptions
}

/// Runs both ways side by side, watches brokers meanwhile, and says goodbye to them.
async fn work(client: &Client, out: impl Future<Output = ()>, inward: impl Future<Output = ()>) {
    let ways = async { tokio::join!(out, inward) };
    tokio::select! {
        biased;
        _ = ways => {}
        () = client.watch() => {}
    }
    client.leave().await;
}

/// Returns when `drain` is true, or nobody can make it so any more. Cancel-safe.
async fn drained(drain: &mut watch::Receiver<bool>) {
    drain.wait_for(|stop| *stop).await.map(drop).unwrap_or(());
}
