//! A whole Weft: build it, run it, stop it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::Access;
use anyhow::Context as _;
use config::{Config, Sources};
use event::Health;
use event::access::Gate;
use event::admin::Admin;
use event::hub::Hub;
use metrics_exporter_prometheus::PrometheusHandle;
use routing::{Core, Recovered};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use transport::Tls;

use crate::admin::{Doorman, Front};
use crate::audited::audited;
use crate::connect::{self, Connectors};
use crate::listen::{self, Bound, Http, Listening, Mqtt, Protocol, Stop};
use crate::metered::speaking;
use crate::reload::Reload;
use crate::traces::Traces;
use crate::upgrade::{self, Upgrades};
use crate::{mesh, operate, sys, telemetry};

/// A Weft that runs. Dropped without [`Bridge::stop`], it ends as in a crash: what was acknowledged is kept.
pub struct Bridge {
    listening: Vec<Listening>,
    data: PathBuf,
    recovered: Recovered,
    core: Arc<Core>,
    connectors: Connectors,
    parts: JoinSet<()>,
    drain: watch::Sender<bool>,
    patience: Duration,
}

/// The names of the listeners that only this machine reaches.
fn loopback(config: &Config) -> impl Iterator<Item = Arc<str>> {
    let local = config.listeners().filter(|(_, table)| table.listen.0.ip().is_loopback());
    local.map(|(name, _)| Arc::from(name)).collect::<Vec<_>>().into_iter()
}

impl Bridge {
    /// Binds the listeners, opens the log, recovers, connects, and takes clients. The admin pages answer from the first
    /// step on. `config` came from `sources`: routes follow them while it runs. Not cancel-safe: dropped, it ends as in a crash.
    ///
    /// # Errors
    /// One line that says what to do.
    pub async fn build(config: Config, sources: Sources, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let (drain, drained) = watch::channel(false);
        let patience = Duration::from_secs(u64::from(config.stop_timeout_s));
        let stop = Stop { drain: drained.clone(), patience };
        let health = Health::default();
        let mut bound = listen::bind(&config, &health)?;
        let listening: Vec<Listening> = bound.iter().map(|bound| bound.listening.clone()).collect();
        let certificates: Vec<Arc<Tls>> = bound.iter().filter_map(Bound::tls).collect();
        let settings = mesh::Settings::of(&config);

        let access = Access::open(config.access(), loopback(&config), health.clone()).context("access")?;
        let front = Front::new(access.clone(), health.clone(), metrics.clone(), drained.clone());
        let options = Arc::new(config.http.options.clone());
        let speak_http = Protocol::Http(Http { router: front.router(), options: Arc::clone(&options) });
        let mut parts = JoinSet::new();
        parts.spawn(access.clone().watch(drained.clone()));
        parts.spawn(telemetry::upkeep(metrics.clone(), drained.clone()));
        listen::serve(&mut bound, config::Protocol::Http, &speak_http, &stop, &mut parts);

        let (mut connectors, stores) = connect::open(&config, &health).await?;
        let recovery =
            Core::recover(config.core.clone(), &config.routes, stores.log, stores.feed, stores.remotes);
        let (core, recovered) = recovery.await.context("the log cannot be read back")?;
        core.set_quotas(&config.tenants, &config.quotas);
        access.tells(core.audit());
        certificates.iter().for_each(|tls| tls.tells(core.audit()));
        let hub: Arc<dyn Hub> = Arc::clone(&core) as Arc<dyn Hub>;
        connectors.start(&config, &hub, core.as_ref(), &health)?;

        let interval = Duration::from_secs(u64::from(config.core.sys_interval_s));
        parts.spawn(sys::publish(Arc::clone(&core), metrics.clone(), interval, drained.clone()));
        let connected = connectors.running();
        let reload = Reload::new(sources, config.clone(), Arc::clone(&core), connected, health.clone());
        parts.spawn(Arc::clone(&reload).watch(drained.clone()));
        let speak_mqtt = Arc::new(config.mqtt.options);
        let gate: Arc<dyn Gate> = audited(Arc::new(access), core.audit());
        let upgrades = Upgrades {
            gate: Arc::clone(&gate),
            hub: Arc::clone(&hub),
            websocket: Arc::new(config.websocket),
            mqtt: Arc::clone(&speak_mqtt),
            drain: drained.clone(),
        };
        let by_http = speaking(Arc::clone(&gate), event::Protocol::Http);
        let events = http_front::router(by_http, Arc::clone(&hub), options, drained.clone());
        let admin: Arc<dyn Admin> = Arc::clone(&core) as Arc<dyn Admin>;
        let traces = Traces::new(config.data.clone(), config.core.clone());
        let doorman = Doorman { gate: Arc::clone(&gate), audit: core.audit() };
        let operate = operate::router(doorman.clone(), admin, reload, traces);
        front.open(events.merge(upgrade::router(upgrades)).merge(operate), doorman);
        let by_mqtt = speaking(Arc::clone(&gate), event::Protocol::Mqtt);
        let speak_mqtt = Protocol::Mqtt(Mqtt { gate: by_mqtt, hub: Arc::clone(&hub), options: speak_mqtt });
        listen::serve(&mut bound, config::Protocol::Mqtt, &speak_mqtt, &stop, &mut parts);
        if !bound.is_empty() {
            // What is left speaks a protocol of EventMesh.
            let site = mesh::Site { gate, hub, metrics, listening: &listening, stop: &stop };
            mesh::start(&mut bound, settings, site, &mut parts).await?;
        }
        Ok(Self { listening, data: config.data, recovered, core, connectors, parts, drain, patience })
    }

    /// Where it listens: MQTT and HTTP first, then the tables `[listener.NAME]` by name.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Where events are.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it found there.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Waits until a part fails that Weft cannot go on without, and says why. Cancel-safe.
    pub async fn broken(&mut self) -> anyhow::Error {
        match self.parts.join_next().await {
            Some(outcome) => anyhow::anyhow!("a part ended by itself ({outcome:?}): please report this"),
            None => std::future::pending().await,
        }
    }

    /// Takes no new connections, lets the open ones finish, keeps a checkpoint, closes the log. Not cancel-safe: dropped,
    /// it ends as in a crash.
    ///
    /// # Errors
    /// The log could not be closed in order.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.drain.send_replace(true);
        while self.parts.join_next().await.is_some() {}
        self.connectors.finish(Instant::now() + self.patience).await;
        self.core.stop().await;
        self.connectors.close().await?;
        self.core.join().await;
        tracing::info!("stopped");
        Ok(())
    }
}
