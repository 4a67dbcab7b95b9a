//! The tasks of a bridge and of a store. This file and those of its folder are the only ones that await.

mod arrivals;
mod bridge;
mod client;
mod connection;
mod consumer;
mod groups;
mod live;
mod popper;
mod queue;
mod replier;
mod requester;
mod sender;
mod store;
mod tracer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use event::hub::Hub;
use event::store::AppendQueue;
use event::{Health, Origin, Principal, Rate};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::bridge::{Outlet, Way};
use self::client::{Client, Identity, locked};
use self::consumer::{Consumer, Manner, Rule};
use self::groups::Groups;
use self::replier::Replier;
use self::requester::Requester;
use self::store::Intake;
use crate::condition::Condition;
use crate::options::RETRIES;
use crate::subscription::{Subscription, Wanted};
use crate::template::Template;
use crate::{BridgeOptions, ClusterOptions, InRule, Kind, OptionsError, OutRule};

/// Starts the bridge `name` on `cluster`, which has brokers of this kind: the session `$bridge/{kind}/{name}`, and the part
/// `{kind}/{name}` of `health`. It works until `drain` turns true; then it finishes what is out, commits, and its task ends.
pub fn spawn_bridge(
    kind: Kind,
    name: &str,
    bridge: &BridgeOptions,
    cluster: &ClusterOptions,
    hub: Arc<dyn Hub>,
    health: &Health,
    drain: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, OptionsError> {
    bridge.check(name, cluster)?;
    bridge.check_kind(kind)?;
    let part = format!("{}/{name}", kind.name());
    let group = cluster.wrap(&bridge.group(name, cluster));
    let subscription = |rule: &InRule| Subscription {
        topic: cluster.wrap(&rule.topic),
        wanted: Wanted::of(rule.tags.as_deref(), rule.sql.as_deref()),
    };
    let address = |rule: &OutRule| {
        let requests = rule.requests || kind.asks_always();
        Ok(Way { filter: rule.filter.clone(), address: rule.address(cluster)?, requests })
    };
    let rules_out = bridge.out.iter().map(address).collect::<Result<Vec<_>, OptionsError>>()?;
    let identity = Identity {
        part: part.clone(),
        producer: group.clone(),
        out: rules_out.iter().filter_map(|way| way.address.fixed().map(|topic| topic.to_string())).collect(),
        inward: with_retries(
            kind.takes_back() && !bridge.pop,
            bridge.inward.iter().map(subscription).collect(),
            &group,
        ),
        pop: bridge.pop,
        group,
        start: bridge.start,
        asks: rules_out.iter().any(|way| way.requests),
    };
    let condition = Condition::new(part, health.clone(), None);
    let client = Arc::new(Client::new(kind, cluster.clone(), identity, condition)?);
    let who = Principal::anonymous(&*format!("$bridge/{}/{name}", kind.name()));
    let requester =
        client.identity.asks.then(|| Requester::new(Arc::clone(&client), Arc::clone(&hub), who.clone()));
    let replier =
        (!bridge.inward.is_empty()).then(|| Replier::new(Arc::clone(&client), Arc::clone(&hub), &who));
    let replier = replier.map(|replier| replier.ok_or(OptionsError::Random)).transpose()?;
    let outlet = Outlet {
        client: Arc::clone(&client),
        hub: Arc::clone(&hub),
        who: who.clone(),
        rules: rules_out,
        rate: Rate::per_second(bridge.rate.into()),
        patience: Duration::from_secs(bridge.refused_s.into()),
        dead_letters: (bridge.dead_letters.clone(), name.to_owned()),
        requester,
        live_share: bridge.live_share,
    };
    let template = |to: &str| Template::parse(to).ok_or_else(|| OptionsError::Template(to.to_owned()));
    let rules = bridge.inward.iter().map(|rule| {
        let becomes = Rule { topic: rule.topic.as_str().into(), to: template(&rule.to)? };
        Ok((cluster.wrap(&rule.topic), becomes))
    });
    let rules = rules.collect::<Result<BTreeMap<_, _>, OptionsError>>()?;
    let consumer = Consumer {
        client: Arc::clone(&client),
        hub,
        who,
        rules,
        manner: manner(bridge),
        group: None,
        replier,
        pulled: watch::Sender::new(0),
        refusals: AtomicU32::new(0),
    };
    Ok(tokio::spawn(async move { run_bridge(&outlet, &consumer, drain).await }))
}

/// Both ways of a bridge, and the replies that belong to each. Not cancel-safe: events that are out go again.
async fn run_bridge(outlet: &Outlet, consumer: &Consumer, drain: watch::Receiver<bool>) {
    let replies = async {
        let pushes = locked(&outlet.client.replies).take();
        if let (Some(requester), Some(pushes)) = (&outlet.requester, pushes) {
            requester.run(pushes, drain.clone()).await;
        }
    };
    let out = async {
        if !outlet.rules.is_empty() {
            tokio::join!(outlet.run(drain.clone()), replies);
        }
    };
    let answers = async {
        if let Some(replier) = &consumer.replier {
            replier.run(drain.clone()).await;
        }
    };
    let inward = async {
        tokio::join!(consumer.run(drain.clone()), answers);
    };
    Box::pin(work(&outlet.client, out, inward)).await;
}

/// Starts the cluster `name`, which has brokers of this kind, as the store of routes: sends what comes from `appends`, and
/// publishes what its group brings back; if the cluster has a `node`, it feeds shared subscriptions by groups that they have at
/// all nodes. The part `{kind}/{name}/store` of `health` says how it is. It works until `drain` turns true; then it sends what
/// is in line, commits, and its task ends.
///
/// A receipt says yes when a broker answered SEND_OK for every event of its batch.
pub fn spawn_store(
    kind: Kind,
    name: &str,
    cluster: &ClusterOptions,
    appends: AppendQueue,
    hub: Arc<dyn Hub>,
    health: &Health,
    drain: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, OptionsError> {
    let part = format!("{}/{name}/store", kind.name());
    let store = &cluster.store;
    let (topic, group) = (cluster.wrap(&store.topic), cluster.wrap(&cluster.of_node(&store.group)));
    let all = Subscription { topic: topic.clone(), wanted: Wanted::All };
    let identity = Identity {
        part: part.clone(),
        producer: group.clone(),
        out: [topic.clone()].into(),
        inward: with_retries(kind.takes_back(), vec![all], &group),
        pop: false,
        group,
        start: store.start,
        asks: false,
    };
    let condition = Condition::new(part, health.clone(), Some(appends.up()));
    let client = Arc::new(Client::new(kind, cluster.clone(), identity, condition)?);
    let intake = Intake { client: Arc::clone(&client), appends, topic: Arc::from(&*topic) };
    let session = format!("$store/{}/{name}", kind.name());
    let shares = cluster.shares_groups(kind);
    let origin = if shares { Origin::Node } else { Origin::Store };
    let who = Principal { origin, ..Principal::anonymous(&*session) };
    let groups = shares.then(|| Groups {
        name: name.to_owned(),
        client: Arc::clone(&client),
        hub: Arc::clone(&hub),
        who: who.clone(),
    });
    let rules = [(topic, Rule { topic: store.topic.as_str().into(), to: Template::origin() })].into();
    let manner = Manner { own: true, alone: true, pop: None, ordered: false, retries: RETRIES };
    let consumer = Consumer {
        client: Arc::clone(&client),
        hub,
        who,
        rules,
        manner,
        group: None,
        replier: None,
        pulled: watch::Sender::new(0),
        refusals: AtomicU32::new(0),
    };
    Ok(tokio::spawn(async move {
        let shared = async {
            if let Some(groups) = groups {
                groups.run(drain.clone()).await;
            }
        };
        let inward = async {
            tokio::join!(consumer.run(drain.clone()), shared);
        };
        Box::pin(work(&client, intake.run(drain.clone()), inward)).await;
    }))
}

/// How a bridge consumes.
fn manner(bridge: &BridgeOptions) -> Manner {
    let BridgeOptions { broadcast: alone, pop, invisible_s, ordered, retries, .. } = *bridge;
    let pop = pop.then(|| Duration::from_secs(invisible_s.into()));
    Manner { own: false, alone, pop, ordered, retries }
}

/// Who consumes anything gets again what its group gave back.
fn with_retries(takes_back: bool, mut subscriptions: Vec<Subscription>, group: &str) -> Vec<Subscription> {
    if takes_back && !subscriptions.is_empty() {
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
        () = tracer::run(client) => {}
    }
    client.leave().await;
}

/// Returns when `drain` is true, or nobody can make it so any more. Cancel-safe.
async fn drained(drain: &mut watch::Receiver<bool>) {
    drain.wait_for(|stop| *stop).await.map(drop).unwrap_or(());
}

/// Bytes that cannot be guessed. `None`: the system gives none.
fn random() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

/// In hexadecimal digits.
fn hex(bytes: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*bytes))
}
