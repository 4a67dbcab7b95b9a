//! Connectors: one match from a table of the configuration to the store or bridge that it means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use config::Config;
use event::admin::Admin;
use event::hub::Hub;
use event::store::{AppendQueue, Feed, Store, store};
use event::{ClientId, Health, TopicFilter};
use parking_lot::Mutex;
use rocketmq::{Bridges, ClusterOptions, Kind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use webhook::NamedHooks;

/// What runs below the core.
pub(crate) struct Connectors {
    log: embedded::Handle,
    /// Remote stores that are open and not started: their consumers need the hub, which needs them.
    waiting: Vec<(String, AppendQueue)>,
    running: Running,
}

/// Remote stores, bridges and webhooks that run. A clone is the same ones.
#[derive(Clone)]
pub(crate) struct Running {
    /// Those of stores. `None`: they are being ended, and none is started any more.
    tasks: Arc<Mutex<Option<Vec<JoinHandle<()>>>>>,
    drain: watch::Sender<bool>,
    /// Clusters that are open as stores.
    stores: Arc<Mutex<BTreeSet<String>>>,
    /// `None`: they are not started yet, or being ended.
    parts: Arc<Mutex<Option<Parts>>>,
}

/// What follows the configuration while Weft runs.
struct Parts {
    bridges: Bridges,
    hooks: NamedHooks,
}

/// Bridges and webhooks that are known to be right.
pub(crate) struct Plans {
    bridges: rocketmq::Plans,
    hooks: webhook::Plans,
}

/// The handles for the core.
pub(crate) struct Stores {
    pub(crate) log: Store,
    pub(crate) feed: Feed,
    pub(crate) remotes: Vec<(String, Store)>,
}

/// Opens the log, and a queue for each cluster that a route names. Not cancel-safe: dropped, the log closes by itself.
pub(crate) async fn open(config: &Config, health: &Health) -> anyhow::Result<(Connectors, Stores)> {
    let (options, folder, board) = (config.store.clone(), config.data.clone(), health.clone());
    let opening =
        tokio::task::spawn_blocking(move || embedded::open(&options, &folder, embedded::RealDisk, board));
    let opened = opening.await.context("opening the log")??;
    let mut remotes = Vec::new();
    let mut waiting = Vec::new();
    let is_used = |name: &str| config.routes.iter().any(|route| route.stores().any(|store| store == name));
    for (name, _, cluster) in config.clusters().filter(|(name, _, _)| is_used(name)) {
        let (handle, ends) = store(cluster.waiting_max, REMOTE_BATCHES);
        remotes.push((name.clone(), handle));
        waiting.push((name.clone(), ends.appends));
    }
    let tasks = Arc::new(Mutex::new(Some(Vec::new())));
    let running =
        Running { tasks, drain: watch::Sender::new(false), stores: Arc::default(), parts: Arc::default() };
    let connectors = Connectors { log: opened.handle, waiting, running };
    Ok((connectors, Stores { log: opened.store, feed: opened.feed, remotes }))
}

impl Connectors {
    /// Starts remote stores, bridges and webhooks. `admin` knows the sessions that those of an earlier run left.
    pub(crate) fn start(
        &mut self,
        config: &Config,
        hub: &Arc<dyn Hub>,
        admin: &dyn Admin,
        health: &Health,
    ) -> anyhow::Result<()> {
        for (name, appends) in self.waiting.drain(..) {
            let cluster = config.cluster(&name).with_context(|| format!("no cluster {name}"))?;
            self.running.start_store(&name, cluster, appends, hub, health)?;
        }
        let (bridges, hooks) = (left_by(rocketmq::SESSIONS, admin), left_by(webhook::SESSIONS, admin));
        *self.running.parts.lock() = Some(Parts {
            bridges: Bridges::new(Arc::clone(hub), health.clone(), bridges),
            hooks: NamedHooks::new(Arc::clone(hub), health.clone(), hooks),
        });
        self.running.follow(self.running.plan(config).map_err(anyhow::Error::msg)?);
        Ok(())
    }

    /// What runs, for who starts more.
    pub(crate) fn running(&self) -> Running {
        self.running.clone()
    }

    /// Lets stores, bridges and webhooks finish what they began, until `deadline`; call it when no client is left.
    /// Not cancel-safe.
    pub(crate) async fn finish(&mut self, deadline: Instant) {
        self.running.drain.send_replace(true);
        let parts = self.running.parts.lock().take();
        if let Some(Parts { bridges, hooks }) = parts {
            tokio::join!(bridges.finish(deadline), hooks.finish(deadline));
        }
        let tasks = self.running.tasks.lock().take();
        for mut task in tasks.into_iter().flatten() {
            match timeout_at(deadline, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a connector failed"),
                Err(_) => {
                    tracing::warn!("cut off a connector that did not finish in time");
                    task.abort();
                }
            }
        }
    }

    /// Closes the log. Not cancel-safe: dropped, it closes all the same.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        tokio::task::spawn_blocking(move || self.log.close()).await.context("closing the log")
    }
}

impl Running {
    /// Opens a cluster as a store while Weft runs.
    pub(crate) fn open_store(
        &self,
        name: &str,
        cluster: (Kind, &ClusterOptions),
        hub: &Arc<dyn Hub>,
        health: &Health,
    ) -> anyhow::Result<Store> {
        let (handle, ends) = store(cluster.1.waiting_max, REMOTE_BATCHES);
        self.start_store(name, cluster, ends.appends, hub, health)?;
        Ok(handle)
    }

    /// Looks whether those of `config` could be the bridges and webhooks from now on; changes nothing. `None`: Weft stops.
    pub(crate) fn plan(&self, config: &Config) -> Result<Option<Plans>, String> {
        let plan = |running: &Parts| {
            let bridges = running.bridges.plan(&config.bridges, |name| config.cluster(name))?;
            Ok(Plans { bridges, hooks: running.hooks.plan(&config.hooks)? })
        };
        self.parts.lock().as_ref().map(plan).transpose()
    }

    /// These are the bridges and webhooks from now on. Has to be called within a runtime.
    pub(crate) fn follow(&self, plans: Option<Plans>) {
        if let (Some(running), Some(plans)) = (&mut *self.parts.lock(), plans) {
            running.bridges.follow(plans.bridges);
            running.hooks.follow(plans.hooks);
        }
    }

    /// Whether the cluster is open as a store.
    pub(crate) fn is_store(&self, name: &str) -> bool {
        self.stores.lock().contains(name)
    }

    fn start_store(
        &self,
        name: &str,
        (kind, cluster): (Kind, &ClusterOptions),
        appends: AppendQueue,
        hub: &Arc<dyn Hub>,
        health: &Health,
    ) -> anyhow::Result<()> {
        let drain = self.drain.subscribe();
        let task = rocketmq::spawn_store(kind, name, cluster, appends, Arc::clone(hub), health, drain);
        self.hold(task.with_context(|| format!("{}.{name}", kind.name()))?);
        self.stores.lock().insert(name.to_owned());
        Ok(())
    }

    fn hold(&self, task: JoinHandle<()>) {
        match &mut *self.tasks.lock() {
            Some(tasks) => tasks.push(task),
            None => task.abort(),
        }
    }
}

/// What the sessions that begin with `sessions` and that the log knows subscribed, by what follows in their names.
fn left_by(sessions: &str, admin: &dyn Admin) -> BTreeMap<String, Vec<TopicFilter>> {
    let mut left = BTreeMap::new();
    let mut after = ClientId::from(sessions);
    loop {
        let page = admin.sessions(Some(&after), PAGE);
        let ours = page.iter().map_while(|session| {
            let name = session.client.as_str().strip_prefix(sessions)?;
            Some((name.to_owned(), session.client.clone()))
        });
        let before = left.len();
        for (name, client) in ours {
            let subscribed = admin.subscriptions(&client).unwrap_or_default();
            left.insert(name, subscribed.into_iter().map(|subscription| subscription.filter).collect());
            after = client;
        }
        if left.len() < before + PAGE {
            return left;
        }
    }
}

/// So many sessions are looked at together.
const PAGE: usize = 256;
/// Batches that wait for a remote store; bytes are what limits them.
const REMOTE_BATCHES: u32 = 4096;
