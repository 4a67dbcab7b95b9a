//! Reads the configuration again while Weft runs. Routes, tenants, quotas, bridges and webhooks are replaced as a whole, or not at all;
//! everything else that changed is named, and holds from the next start on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use config::{Config, Sources};
use event::Health;
use event::audit::{self, Notice};
use event::hub::Hub;
use event::store::Store;
use http::StatusCode;
use parking_lot::Mutex;
use rocketmq::Kind;
use routing::Core;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::{found, problem};
use crate::connect::Running;

/// What `/ready` calls it.
const PART: &str = "configuration";

/// The way from a changed configuration to the routes of the core.
pub(crate) struct Reload {
    sources: Sources,
    core: Arc<Core>,
    /// Where stores are opened that no route named before, and bridges and webhooks are.
    connected: Running,
    health: Health,
    /// What holds: as it was at the start, with the routes, quotas, bridges and webhooks of now, and the clusters that are no open stores.
    /// Held while a change is made.
    running: Mutex<Config>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Taken {
    /// Routes that hold now.
    routes: usize,
    /// Keys of the top level that changed and hold from the next start on.
    after_restart: Vec<String>,
}

impl Reload {
    pub(crate) fn new(
        sources: Sources,
        running: Config,
        core: Arc<Core>,
        connected: Running,
        health: Health,
    ) -> Arc<Self> {
        Arc::new(Self { sources, core, connected, health, running: Mutex::new(running) })
    }

    /// Reads the configuration and takes its routes, quotas, bridges and webhooks. On an error, which says what is wrong where, nothing changes.
    fn now(&self) -> Result<Taken, String> {
        let mut running = self.running.lock();
        let result = config::load(&self.sources).map_err(|mistake| mistake.to_string()).and_then(|loaded| {
            let config = loaded.config;
            let next = self.next(&running, &config);
            let plans = self.connected.plan(&next)?;
            self.core.set_routes(&next.routes, |name| self.open(name, &config, &mut running))?;
            Ok((config, next, plans))
        });
        let outcome = match result {
            Ok((config, next, plans)) => {
                self.core.set_quotas(&next.tenants, &next.quotas);
                self.connected.follow(plans);
                let mut changed = differing(&running, &config);
                let taken = Taken { routes: next.routes.len(), after_restart: differing(&next, &config) };
                *running = next;
                self.health.up(PART);
                changed.retain(|key| !taken.after_restart.contains(key));
                self.tell(None, changed, taken.after_restart.clone());
                tracing::info!(routes = taken.routes, "configuration read again");
                if !taken.after_restart.is_empty() {
                    let keys = taken.after_restart.join(", ");
                    tracing::warn!(%keys, "changed in the configuration, and holds after a restart");
                }
                Ok(taken)
            }
            Err(reason) => {
                tracing::error!(%reason, "configuration not taken; that of before still holds");
                self.health.down(PART, format!("{reason}; what was before still holds"));
                self.tell(Some(audit::cut(&reason)), Vec::new(), Vec::new());
                Err(reason)
            }
        };
        let result = if outcome.is_ok() { "taken" } else { "broken" };
        metrics::counter!("weft_config_reloads_total", "result" => result).increment(1);
        outcome
    }

    /// Tells those who watch over Weft; `reason`: why nothing changed.
    fn tell(&self, reason: Option<String>, changed: Vec<String>, after_restart: Vec<String>) {
        let taken = reason.is_none();
        let notice = || Notice::Config { taken, reason, changed, after_restart, files: Vec::new() };
        self.core.audit().tell(audit::Kind::Config, Instant::now(), notice);
    }

    /// What is to hold instead of `running`: `config`, as far as it needs no restart. A cluster that is an open store stays as it
    /// is, for bridges as well.
    fn next(&self, running: &Config, config: &Config) -> Config {
        let mut next = running.clone();
        next.routes.clone_from(&config.routes);
        next.tenants.clone_from(&config.tenants);
        next.quotas.clone_from(&config.quotas);
        next.bridges.clone_from(&config.bridges);
        next.hooks.clone_from(&config.hooks);
        for (clusters, wanted) in
            [(&mut next.rocketmq, &config.rocketmq), (&mut next.defibus, &config.defibus)]
        {
            clusters.retain(|name, _| self.connected.is_store(name));
            let free = wanted.iter().filter(|(name, _)| !self.connected.is_store(name));
            clusters.extend(free.map(|(name, cluster)| (name.clone(), cluster.clone())));
        }
        next
    }

    /// Opens the cluster `name` of `config` as a store.
    fn open(&self, name: &str, config: &Config, running: &mut Config) -> Result<Store, String> {
        let found = config.cluster(name);
        let (kind, cluster) =
            found.ok_or_else(|| format!("there is no [rocketmq.{name}] or [defibus.{name}]"))?;
        let hub: Arc<dyn Hub> = Arc::clone(&self.core) as Arc<dyn Hub>;
        let opened = self.connected.open_store(name, (kind, cluster), &hub, &self.health);
        let store = opened.map_err(|error| format!("{error:#}"))?;
        let clusters = match kind {
            Kind::RocketMq => &mut running.rocketmq,
            Kind::Defibus => &mut running.defibus,
        };
        clusters.insert(name.to_owned(), cluster.clone());
        tracing::info!(store = name, "store opened");
        Ok(store)
    }

    /// Reads the configuration again when its file has changed, or on SIGHUP, until `drain` turns true. Cancel-safe.
    pub(crate) async fn watch(self: Arc<Self>, mut drain: watch::Receiver<bool>) {
        let every = u64::from(self.running.lock().reload_s);
        let mut looks = tokio::time::interval(Duration::from_secs(every.max(1)));
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut seen = self.look();
        loop {
            let asked = tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return,
                Some(()) = async { hangup.as_mut()?.recv().await } => true,
                _ = looks.tick(), if every > 0 => false,
            };
            let now = self.look();
            if asked || now != seen {
                seen = now;
                let reload = Arc::clone(&self);
                // What came of it was said where people look.
                tokio::task::spawn_blocking(move || reload.now()).await.map(drop).unwrap_or(());
            }
        }
    }

    /// What tells whether the file is another one.
    fn look(&self) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(self.sources.file.as_ref()?).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }

    /// `/admin/routes` and `/admin/reload`, behind the guard of the admin pages.
    pub(crate) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/admin/routes", get(routes))
            .route("/admin/reload", post(reload))
            .with_state(self)
    }
}

/// The keys of the top level that differ.
fn differing(one: &Config, other: &Config) -> Vec<String> {
    let table = |config| match serde_json::to_value(config) {
        Ok(Value::Object(table)) => table,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (one, other) = (table(one), table(other));
    one.into_iter().filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key).collect()
}

async fn routes(State(reload): State<Arc<Reload>>) -> Response {
    let running = reload.running.lock();
    let file = reload.sources.file.as_deref();
    found(&json!({ "file": file, "routes": running.routes }))
}

async fn reload(State(reload): State<Arc<Reload>>) -> Response {
    match tokio::task::spawn_blocking(move || reload.now()).await {
        Ok(Ok(taken)) => found(&json!(taken)),
        Ok(Err(reason)) => problem(StatusCode::UNPROCESSABLE_ENTITY, "configuration", &reason),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, "failed", &error.to_string()),
    }
}
