//! Connectors: one match from a table of the configuration to the store or bridge that it means.

use std::sync::Arc;

use anyhow::Context as _;
use config::Config;
use event::Health;
use event::hub::Hub;
use event::store::{AppendQueue, Feed, Store, store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// What runs below the core.
pub(crate) struct Connectors {
    log: embedded::Handle,
    /// Remote stores that are open and not started: their consumers need the hub, which needs them.
    waiting: Vec<(String, AppendQueue)>,
    tasks: Vec<JoinHandle<()>>,
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
    let is_used = |name: &str| config.routes.iter().any(|route| route.store == name);
    for (name, cluster) in config.rocketmq.iter().filter(|(name, _)| is_used(name)) {
        let (handle, ends) = store(cluster.waiting_max, REMOTE_BATCHES);
        remotes.push((name.clone(), handle));
        waiting.push((name.clone(), ends.appends));
    }
    let connectors =
        Connectors { log: opened.handle, waiting, tasks: Vec::new(), drain: watch::Sender::new(false) };
    Ok((connectors, Stores { log: opened.store, feed: opened.feed, remotes }))
}

impl Connectors {
    /// Starts remote stores and bridges.
    pub(crate) fn start(
        &mut self,
        config: &Config,
        hub: &Arc<dyn Hub>,
        health: &Health,
    ) -> anyhow::Result<()> {
        for (name, appends) in self.waiting.drain(..) {
            let cluster = config.rocketmq.get(&name).with_context(|| format!("no cluster {name}"))?;
            let task = rocketmq::spawn_store(
                &name,
                cluster,
                appends,
                Arc::clone(hub),
                health,
                self.drain.subscribe(),
            );
            self.tasks.push(task.with_context(|| format!("rocketmq.{name}"))?);
        }
        for (name, bridge) in &config.bridges {
            let cluster = config.rocketmq.get(&bridge.cluster);
            let cluster = cluster.with_context(|| format!("no cluster {}", bridge.cluster))?;
            let task = rocketmq::spawn_bridge(
                name,
                bridge,
                cluster,
                Arc::clone(hub),
                health,
                self.drain.subscribe(),
            );
            self.tasks.push(task.with_context(|| format!("bridge.{name}"))?);
        }
        Ok(())
    }

    /// Lets stores and bridges finish what they began, until `deadline`; call it when no client is left.
    /// Not cancel-safe.
    pub(crate) async fn finish(&mut self, deadline: Instant) {
        self.drain.send_replace(true);
        for mut task in self.tasks.drain(..) {
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

/// Batches that wait for a remote store; bytes are what limits them.
const REMOTE_BATCHES: u32 = 4096;
