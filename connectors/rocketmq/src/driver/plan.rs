//! A bridge whose settings and files are known to be right, so that starting it cannot fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use event::{Rate, TopicFilter, TopicName};
use parts::{Part, Place};
use tokio::sync::watch;

use super::bridge::{Outlet, Way};
use super::client::{Client, Identity, Keys, locked};
use super::consumer::{Consumer, Manner, Rule};
use super::replier::{Replier, replies};
use super::requester::Requester;
use super::{with_retries, work};
use crate::condition::Standing;
use crate::options::StoreOptions;
use crate::subscription::{Subscription, Wanted};
use crate::template::Template;
use crate::{BridgeOptions, ClusterOptions, InRule, Kind, OptionsError, OutRule};

/// How one bridge runs.
pub(super) struct Plan {
    kind: Kind,
    name: String,
    options: BridgeOptions,
    /// But for the store, which is no concern of a bridge.
    cluster: ClusterOptions,
    keys: Keys,
    out: Vec<Way>,
    inward: BTreeMap<String, Rule>,
    /// Where answers to requests from RocketMQ are published.
    replies: TopicName,
}

impl Plan {
    /// # Errors
    /// A setting cannot be used: says which, and why.
    pub(super) fn new(
        kind: Kind,
        name: &str,
        options: &BridgeOptions,
        cluster: &ClusterOptions,
        keys: Keys,
    ) -> Result<Self, OptionsError> {
        cluster.check(kind)?;
        options.check(name, cluster)?;
        options.check_kind(kind)?;
        let way = |rule: &OutRule| {
            let requests = rule.requests || kind.asks_always();
            Ok(Way { filter: rule.filter.clone(), address: rule.address(cluster)?, requests })
        };
        let template = |to: &str| Template::parse(to).ok_or_else(|| OptionsError::Template(to.to_owned()));
        let rule = |rule: &InRule| {
            let becomes = Rule { topic: rule.topic.as_str().into(), to: template(&rule.to)? };
            Ok((cluster.wrap(&rule.topic), becomes))
        };
        Ok(Self {
            kind,
            name: name.to_owned(),
            out: options.out.iter().map(way).collect::<Result<_, OptionsError>>()?,
            inward: options.inward.iter().map(rule).collect::<Result<_, OptionsError>>()?,
            options: options.clone(),
            cluster: for_bridges(cluster),
            keys,
            replies: replies().ok_or(OptionsError::Random)?,
        })
    }

    /// Whether it would be the same with these.
    pub(super) fn is_of(&self, options: &BridgeOptions, cluster: &ClusterOptions, keys: &Keys) -> bool {
        self.options == *options && self.cluster == for_bridges(cluster) && self.keys.are(keys)
    }

    fn identity(&self) -> Identity {
        let Self { kind, options, cluster, .. } = self;
        let group = cluster.wrap(&options.group(&self.name, cluster));
        let subscription = |rule: &InRule| Subscription {
            topic: cluster.wrap(&rule.topic),
            wanted: Wanted::of(rule.tags.as_deref(), rule.sql.as_deref()),
        };
        let inward = options.inward.iter().map(subscription).collect();
        Identity {
            part: format!("{}/{}", kind.name(), self.name),
            producer: group.clone(),
            out: self
                .out
                .iter()
                .filter_map(|way| way.address.fixed().map(|topic| topic.to_string()))
                .collect(),
            inward: with_retries(kind.takes_back() && !options.pop, inward, &group),
            pop: options.pop,
            group,
            start: options.start,
            asks: self.out.iter().any(|way| way.requests),
        }
    }
}

fn for_bridges(cluster: &ClusterOptions) -> ClusterOptions {
    ClusterOptions { store: StoreOptions::default(), ..cluster.clone() }
}

impl Part for Plan {
    type Standing = Standing;
    const SESSIONS: &'static str = super::SESSIONS;
    /// A day: how long Weft waits is Weft's own setting.
    const LAST_WORD: Duration = Duration::from_secs(86_400);

    fn has_session(&self) -> bool {
        !self.out.is_empty()
    }

    async fn run(self: Arc<Self>, place: Place<Standing>, subscribed: &mut Vec<TopicFilter>) {
        let Place { who, hub, standing, over, .. } = place;
        let Some(condition) = standing.condition() else { return };
        let options = &self.options;
        let (cluster, keys) = (self.cluster.clone(), self.keys.clone());
        let client = Arc::new(Client::new(self.kind, cluster, keys, self.identity(), condition));
        let requester =
            client.identity.asks.then(|| Requester::new(Arc::clone(&client), Arc::clone(&hub), who.clone()));
        let replier = (!self.inward.is_empty())
            .then(|| Replier::new(Arc::clone(&client), Arc::clone(&hub), &who, self.replies.clone()));
        let outlet = Outlet {
            client: Arc::clone(&client),
            hub: Arc::clone(&hub),
            who: who.clone(),
            rules: self.out.clone(),
            rate: Rate::per_second(options.rate.into()),
            patience: Duration::from_secs(options.refused_s.into()),
            dead_letters: (options.dead_letters.clone(), self.name.clone()),
            requester,
            live_share: options.live_share,
        };
        let consumer = Consumer {
            client,
            hub,
            who,
            rules: self.inward.clone(),
            manner: manner(options),
            group: None,
            replier,
            pulled: watch::Sender::new(0),
            refusals: AtomicU32::new(0),
        };
        run(&outlet, &consumer, over, subscribed).await;
    }
}

/// Both ways of a bridge, and the replies that belong to each. Not cancel-safe: events that are out go again.
async fn run(
    outlet: &Outlet,
    consumer: &Consumer,
    over: watch::Receiver<bool>,
    subscribed: &mut Vec<TopicFilter>,
) {
    let replies = async {
        let pushes = locked(&outlet.client.replies).take();
        if let (Some(requester), Some(pushes)) = (&outlet.requester, pushes) {
            requester.run(pushes, over.clone()).await;
        }
    };
    let out = async {
        if !outlet.rules.is_empty() {
            tokio::join!(outlet.run(over.clone(), subscribed), replies);
        }
    };
    let answers = async {
        if let Some(replier) = &consumer.replier {
            replier.run(over.clone()).await;
        }
    };
    let inward = async {
        tokio::join!(consumer.run(over.clone()), answers);
    };
    Box::pin(work(&outlet.client, out, inward)).await;
    // What was left unsent waits in the log.
    outlet.client.counters.waiting.set(0.0);
}

/// How a bridge consumes.
fn manner(bridge: &BridgeOptions) -> Manner {
    let BridgeOptions { broadcast: alone, pop, invisible_s, ordered, retries, .. } = *bridge;
    let pop = pop.then(|| Duration::from_secs(invisible_s.into()));
    Manner { own: false, alone, pop, ordered, retries }
}
