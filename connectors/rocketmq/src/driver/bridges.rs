//! The bridges of the configuration: which there are, and how they change while Weft runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::hub::Hub;
use event::{Health, TopicFilter};
use parts::Parts;
use tokio::time::Instant;

use super::client::Keys;
use super::plan::Plan;
use crate::{BridgeOptions, ClusterOptions, Kind};

/// The bridges that the configuration names. Each is the session `$bridge/KIND/NAME`, if it has `out` rules, and the part
/// `KIND/NAME` of the health: one that goes to a cluster of another kind begins anew.
pub struct Bridges(Parts<Plan>);

/// Bridges that are known to be right.
pub struct Plans(parts::Plans<Plan>);

impl Bridges {
    /// None so far. `past`: the sessions that an earlier run left, as `KIND/NAME`, with what they subscribed.
    pub fn new(hub: Arc<dyn Hub>, health: Health, past: BTreeMap<String, Vec<TopicFilter>>) -> Self {
        Self(Parts::new(hub, health, past))
    }

    /// Looks whether these could be the bridges from now on, each at the cluster that `cluster` has under the name it gives. Reads
    /// the files that clusters name; changes nothing. A bridge stays as it is if neither its settings nor those of its cluster,
    /// but for `store`, nor those files are others.
    ///
    /// # Errors
    /// A setting or a file cannot be used: says which, of which bridge, and why.
    pub fn plan<'a>(
        &self,
        bridges: &BTreeMap<String, BridgeOptions>,
        cluster: impl Fn(&str) -> Option<(Kind, &'a ClusterOptions)>,
    ) -> Result<Plans, String> {
        let plan = |(name, options): (&String, &BridgeOptions)| {
            let wrong = |reason: String| format!("bridge.{name}: {reason}");
            let found = cluster(&options.cluster);
            let (kind, cluster) = found.ok_or_else(|| wrong(format!("no cluster {}", options.cluster)))?;
            let part = format!("{}/{name}", kind.name());
            let keys = Keys::read(cluster).map_err(|error| wrong(error.to_string()))?;
            let stays = self.0.plan_of(&part).is_some_and(|plan| plan.is_of(options, cluster, &keys));
            let plan = (!stays).then(|| Plan::new(kind, name, options, cluster, keys)).transpose();
            Ok((part, plan.map_err(|error| wrong(error.to_string()))?))
        };
        bridges.iter().map(plan).collect::<Result<_, String>>().map(Plans)
    }

    /// These are the bridges from now on. One that changed first waits some seconds for what it has sent, commits what it has
    /// published, and leaves the rest unacknowledged; then the next takes up its session. One that is not among them ends with
    /// its session and all that waits there. Has to be called within a runtime.
    pub fn follow(&mut self, plans: Plans) {
        self.0.follow(plans.0);
    }

    /// Lets what is under way come to an end, until `deadline` at most. Not cancel-safe: dropped, all are cut off.
    pub async fn finish(self, deadline: Instant) {
        self.0.finish(deadline).await;
    }
}

/// What the sessions of bridges begin with; `KIND/NAME` follows.
pub const SESSIONS: &str = "$bridge/";
