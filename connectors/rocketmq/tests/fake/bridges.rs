//! A bridge alone, as Weft runs those of its configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::Health;
use event::hub::Hub;
use rocketmq::{BridgeOptions, Bridges, ClusterOptions, Kind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Starts the bridge `name`. It works until `drain` turns true.
pub(crate) fn spawn_bridge(
    kind: Kind,
    name: &str,
    bridge: &BridgeOptions,
    cluster: &ClusterOptions,
    hub: Arc<dyn Hub>,
    health: &Health,
    mut drain: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, String> {
    let mut bridges = Bridges::new(hub, health.clone(), BTreeMap::new());
    let plans =
        bridges.plan(&BTreeMap::from([(name.to_owned(), bridge.clone())]), |_| Some((kind, cluster)))?;
    bridges.follow(plans);
    Ok(tokio::spawn(async move {
        drain.wait_for(|drain| *drain).await.map(drop).unwrap_or(());
        bridges.finish(Instant::now() + Duration::from_secs(60)).await;
    }))
}
