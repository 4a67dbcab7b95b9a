//! The tasks of a bridge and of a store. This file and those of its folder are the only ones that await.

mod bridge;
mod client;
mod connection;
mod consumer;
mod sender;
mod store;

use std::sync::Arc;

use event::hub::Hub;
use event::store::AppendQueue;
use event::{Health, Origin, Principal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::bridge::Outlet;
use self::client::{Client, Identity};
use self::consumer::Consumer;
use self::store::Intake;
use crate::condition::Condition;
use crate::template::Template;
use crate::{BridgeOptions, ClusterOptions, OptionsError};

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
    bridge.check(name)?;
    let part = format!("rocketmq/{name}");
    let identity = Identity {
        part: part.clone(),
        producer: bridge.group(name),
        group: bridge.group(name),
        out: bridge.out.iter().map(|rule| rule.topic.clone()).collect(),
        inward: bridge.inward.iter().map(|rule| rule.topic.clone()).collect(),
    };
    let condition = Condition::new(part, health.clone());
    let client = Arc::new(Client::new(cluster.clone(), identity, condition)?);
    let who = Principal::anonymous(&*format!("$bridge/rocketmq/{name}"));
    let outlet = Outlet {
        client: Arc::clone(&client),
        hub: Arc::clone(&hub),
        who: who.clone(),
        rules: bridge.out.iter().map(|rule| (rule.clone(), Arc::from(&*rule.topic))).collect(),
    };
    let template = |to: &str| Template::parse(to).ok_or_else(|| OptionsError::Template(to.to_owned()));
    let rules = bridge.inward.iter().map(|rule| Ok((rule.topic.clone(), template(&rule.to)?)));
    let rules = rules.collect::<Result<Vec<_>, OptionsError>>()?;
    let consumer = Consumer { client: Arc::clone(&client), hub, who, own: false, rules };
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
    let identity = Identity {
        part: part.clone(),
        producer: store.group.clone(),
        group: store.group.clone(),
        out: [store.topic.clone()].into(),
        inward: vec![store.topic.clone()],
    };
    let condition = Condition::new(part, health.clone());
    let client = Arc::new(Client::new(cluster.clone(), identity, condition)?);
    let intake = Intake { client: Arc::clone(&client), appends, topic: Arc::from(&*store.topic) };
    let who =
        Principal { origin: Origin::Store, ..Principal::anonymous(&*format!("$store/rocketmq/{name}")) };
    let rules = vec![(store.topic.clone(), Template::origin())];
    let consumer = Consumer { client: Arc::clone(&client), hub, who, own: true, rules };
    Ok(tokio::spawn(async move {
        work(&client, intake.run(drain.clone()), consumer.run(drain.clone())).await;
    }))
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
