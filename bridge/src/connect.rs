//! Connectors: one match from a table of the configuration to the store or bridge that it means.

use std::sync::Arc;

use anyhow::Context as _;
use config::Config;
use event::Health;
use event::hub::Hub;
use event::store::{AppendQueue, Feed, Store, store};
use parking_lot::Mutex;
use rocketmq::{ClusterOptions, Kind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

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
    /// `None`: they are being ended, and none is started any more.
    tasks: Arc<Mutex<Option<Vec<JoinHandle<()>>>>>,
    drain: watch::Sender<bool>,
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
    let running = Running { tasks: Arc::new(Mutex::new(Some(Vec::new()))), drain: watch::Sender::new(false) };
    let connectors = Connectors { log: opened.handle, waiting, running };
    Ok((connectors, Stores { log: opened.store, feed: opened.feed, remotes }))
}

impl Connectors {
    /// Starts remote stores, bridges and webhooks.
    pub(crate) fn start(
        &mut self,
        config: &Config,
        hub: &Arc<dyn Hub>,
        health: &Health,
    ) -> anyhow::Result<()> {
        for (name, appends) in self.waiting.drain(..) {
            let cluster = config.cluster(&name).with_context(|| format!("no cluster {name}"))?;
            self.running.start_store(&name, cluster, appends, hub, health)?;
        }
        for (name, bridge) in &config.bridges {
            let cluster = config.cluster(&bridge.cluster);
            let (kind, cluster) = cluster.with_context(|| format!("no cluster {}", bridge.cluster))?;
            let task = rocketmq::spawn_bridge(
                kind,
                name,
                bridge,
                cluster,
                Arc::clone(hub),
                health,
                self.running.drain.subscribe(),
            );
            self.running.hold(task.with_context(|| format!("bridge.{name}"))?);
        }
        for (name, hook) in &config.hooks {
            let drain = self.running.drain.subscribe();
            let task = webhook::spawn_hook(name, hook, Arc::clone(hub), health, drain);
            self.running.hold(task.map_err(|reason| anyhow::anyhow!("hook.{name}: {reason}"))?);
        }
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
        Ok(())
    }

    fn hold(&self, task: JoinHandle<()>) {
        match &mut *self.tasks.lock() {
            Some(tasks) => tasks.push(task),
            None => task.abort(),
        }
    }
}

/// Batches that wait for a remote store; bytes are what limits them.
const REMOTE_BATCHES: u32 = 4096;
