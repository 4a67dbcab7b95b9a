//! The shared subscriptions that a store feeds. Each is a consumer group of its own, whose members are the nodes where it has
//! members: RocketMQ spreads the queues over them. This node is in it while a member of it is here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use event::hub::Hub;
use event::{Principal, TopicFilter};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info};

use super::client::{Client, Identity, Keys, now_ms};
use super::consumer::{Consumer, Manner, Rule};
use super::queue::LAST_PAUSE;
use super::{drained, with_retries, work};
use crate::Start;
use crate::options::RETRIES;
use crate::subscription::{Subscription, Wanted};
use crate::template::Template;

/// Feeds shared subscriptions from a store.
pub(super) struct Groups {
    /// The name of the store in routes.
    pub(super) name: String,
    /// That of the store itself.
    pub(super) client: Arc<Client>,
    pub(super) hub: Arc<dyn Hub>,
    pub(super) who: Principal,
}

impl Groups {
    /// Is in the groups that have members here, until `drain` turns true. Not cancel-safe: what it has of them ends without a
    /// commit.
    pub(super) async fn run(self, mut drain: watch::Receiver<bool>) {
        let this = Arc::new(self);
        let mut here = this.hub.groups(&this.name);
        let mut held: BTreeMap<TopicFilter, watch::Sender<bool>> = BTreeMap::new();
        let mut running = JoinSet::new();
        loop {
            let wanted = here.borrow_and_update().clone();
            for (_, stop) in held.iter().filter(|(filter, _)| !wanted.contains(filter)) {
                stop.send_replace(true);
            }
            let most = usize::try_from(this.client.options.store.groups_max).unwrap_or(usize::MAX);
            let mut left_out = 0_usize;
            for filter in wanted {
                if held.contains_key(&filter) {
                    continue;
                }
                if held.len() >= most {
                    left_out += 1;
                    continue;
                }
                let (stop, stopped) = watch::channel(false);
                running.spawn(Arc::clone(&this).feed(filter.clone(), stopped));
                held.insert(filter, stop);
            }
            this.tell(left_out);
            tokio::select! {
                biased;
                () = drained(&mut drain) => break,
                Some(ended) = running.join_next() => match ended {
                    Ok(filter) => drop(held.remove(&filter)),
                    Err(error) => error!(%error, "the feed of a shared subscription failed"),
                },
                changed = here.changed() => if changed.is_err() {
                    break;
                },
            }
        }
        for stop in held.values() {
            stop.send_replace(true);
        }
        while running.join_next().await.is_some() {}
    }

    fn tell(&self, left_out: usize) {
        let condition = &self.client.condition;
        match left_out {
            0 => condition.no_trouble("groups"),
            more => condition.trouble(
                "groups",
                format!("{more} shared subscriptions get nothing: store.groups_max is reached"),
            ),
        }
    }

    /// Consumes for one group until `stop` turns true. Gives its filter.
    async fn feed(self: Arc<Self>, filter: TopicFilter, mut stop: watch::Receiver<bool>) -> TopicFilter {
        let Client { kind, options: cluster, condition, .. } = &*self.client;
        let group = cluster.shared(&filter);
        info!(group, "a shared subscription has a member here");
        let topic = cluster.wrap(&cluster.store.topic);
        let all = Subscription { topic: topic.clone(), wanted: Wanted::All };
        let identity = Identity {
            part: format!("{}/{}/groups", kind.name(), self.name),
            producer: group.clone(),
            out: [].into(),
            inward: with_retries(kind.takes_back(), vec![all], &group),
            group: group.clone(),
            pop: false,
            start: Start::At(now_ms()),
            asks: false,
        };
        let keys = match Keys::read(cluster) {
            Ok(keys) => keys,
            Err(error) => {
                error!(%error, "a shared subscription cannot be fed");
                timeout(LAST_PAUSE, drained(&mut stop)).await.unwrap_or(());
                return filter;
            }
        };
        let condition = condition.of_group(&group);
        let client = Arc::new(Client::new(*kind, cluster.clone(), keys, identity, condition));
        let to = Rule { topic: cluster.store.topic.as_str().into(), to: Template::origin() };
        let consumer = Consumer {
            client: Arc::clone(&client),
            hub: Arc::clone(&self.hub),
            who: self.who.clone(),
            rules: [(topic, to)].into(),
            manner: Manner { own: true, alone: false, pop: None, ordered: false, retries: RETRIES },
            group: Some(filter.clone()),
            replier: None,
            pulled: watch::Sender::new(0),
            refusals: AtomicU32::new(0),
        };
        Box::pin(work(&client, async {}, consumer.run(stop))).await;
        info!(group, "no member of a shared subscription is here any more");
        filter
    }
}
