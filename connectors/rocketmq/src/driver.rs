//! The tasks of a bridge and of a store. This file and those of its folder are the only ones that await.

mod arrivals;
mod bridge;
mod bridges;
mod client;
mod connection;
mod consumer;
mod groups;
mod live;
mod plan;
mod popper;
mod queue;
mod replier;
mod requester;
mod sender;
mod store;
mod tracer;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use event::hub::Hub;
use event::store::AppendQueue;
use event::{Health, Origin, Principal};
use parts::FileError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::client::{Client, Identity, Keys};
use self::consumer::{Consumer, Manner, Rule};
use self::groups::Groups;
use self::store::Intake;
use crate::condition::Condition;
use crate::options::RETRIES;
use crate::subscription::{Subscription, Wanted};
use crate::template::Template;
use crate::{ClusterOptions, Kind, OptionsError};

pub use self::bridges::{Bridges, Plans, SESSIONS};

/// Looks whether the files that a cluster names can be used.
///
/// # Errors
/// One cannot.
pub fn check_files(cluster: &ClusterOptions) -> Result<(), FileError> {
    Keys::read(cluster).map(drop)
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
    cluster.check(kind)?;
    let keys = Keys::read(cluster)?;
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
    let client = Arc::new(Client::new(kind, cluster.clone(), keys, identity, condition));
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
