//! What kind of brokers a cluster has, and what that changes. DeFiBus is RocketMQ 4.4 with rules of its own; the crate
//! `defibus` has them.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use defibus::{Asked, Pushed};
use event::Event;
use remoting::properties::Properties;
use remoting::{BatchEntry, Command, Language};

use crate::allot::allot;
use crate::route::{Queue, Route};
use crate::{ClusterOptions, request, rpc};

/// The kind of brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RocketMQ 4.9 or 5.x.
    RocketMq,
    /// DeFiBus 1.0 to 1.2.
    Defibus,
}

impl Kind {
    /// Its name in parts of health, names of sessions, metrics and the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::RocketMq => "rocketmq",
            Self::Defibus => "defibus",
        }
    }

    /// Its name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RocketMq => "RocketMQ",
            Self::Defibus => "DeFiBus",
        }
    }

    /// How old a route may be. DeFiBus' brokers change the queues of a topic with the number of its consumers.
    pub(crate) fn route_age(self) -> Duration {
        match self {
            Self::RocketMq => Duration::from_secs(30),
            Self::Defibus => Duration::from_secs(5),
        }
    }

    /// Whether a send to a topic that is missing makes it, where brokers are set so.
    pub(crate) fn creates_topics(self) -> bool {
        match self {
            Self::RocketMq => true,
            Self::Defibus => false,
        }
    }

    /// Whether messages that are refused here can be given back, to come again.
    pub(crate) fn takes_back(self) -> bool {
        match self {
            Self::RocketMq => true,
            Self::Defibus => false,
        }
    }

    /// Whether shared subscriptions are consumer groups there, over all nodes.
    pub(crate) fn feeds_groups(self) -> bool {
        match self {
            Self::RocketMq => true,
            // A topic there has as many queues as consumers, which each group would change.
            Self::Defibus => false,
        }
    }

    /// Whether each event that names a topic for its reply goes out as a request. RocketMQ's rules say so themselves.
    pub(crate) fn asks_always(self) -> bool {
        match self {
            Self::RocketMq => false,
            Self::Defibus => true,
        }
    }

    /// Marks a request of the client `reply_to` under the name `id`, which waits for `ttl_ms`.
    pub(crate) fn mark_request(self, properties: &mut Properties, id: &str, reply_to: &str, ttl_ms: u64) {
        match self {
            Self::RocketMq => rpc::push_request(properties, id, reply_to, ttl_ms),
            Self::Defibus => {
                defibus::property::push_request(properties, id, reply_to);
                defibus::property::push_ttl(properties, ttl_ms);
            }
        }
    }

    /// The reply that a broker pushed.
    pub(crate) fn pushed(self, push: &Command) -> Option<Pushed> {
        let request_id = match self {
            Self::RocketMq => rpc::CORRELATION_ID,
            Self::Defibus => defibus::property::REQUEST_ID,
        };
        defibus::pushed(push, request_id)
    }

    /// Marks a reply to `asked`.
    pub(crate) fn mark_reply(self, asked: &Asked, properties: &mut Properties) {
        match self {
            Self::RocketMq => rpc::reply_properties(asked, properties),
            Self::Defibus => asked.reply_properties(properties),
        }
    }

    /// Sends a reply to a request that `cluster` stored.
    pub(crate) fn reply(self, group: &str, cluster: &str, now_ms: u64, reply: BatchEntry) -> Command {
        let send = match self {
            Self::RocketMq => rpc::reply,
            Self::Defibus => defibus::request::reply,
        };
        send(group, cluster, now_ms, reply.properties, reply.body)
    }

    /// Asks for the members of a group. DeFiBus' brokers know who subscribes which topic.
    pub(crate) fn members(self, group: &str, topic: &str) -> Command {
        match self {
            Self::RocketMq => request::members(group),
            Self::Defibus => defibus::request::members(group, topic),
        }
    }

    /// The share of the client `me` among `members` of its group.
    pub(crate) fn share(self, route: &Route, members: &[String], me: &str) -> Vec<Queue> {
        match self {
            Self::RocketMq => allot(&route.readable, members, me).to_vec(),
            Self::Defibus => {
                let shared = |queue: &Queue| defibus::Shared {
                    cluster: route.cluster(&queue.broker).map(|name| name.to_string()).unwrap_or_default(),
                    queue: queue.clone(),
                };
                defibus::allocate(me, members, &route.readable.iter().map(shared).collect::<Vec<_>>())
            }
        }
    }

    /// A name that no other client has, on this machine or another: members of a group are told apart by it, and replies
    /// find their requester by it. DeFiBus reads the data centre in it.
    pub(crate) fn client_id(self, part: &str, options: &ClusterOptions, ip: Option<IpAddr>) -> String {
        let (pid, random) = (std::process::id(), RandomState::new().build_hasher().finish());
        match self {
            Self::RocketMq => format!("weft@{part}@{pid}@{random:016x}"),
            Self::Defibus => {
                let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
                defibus::client_id(&ip, &format!("{pid}-{part}-{random:016x}"), options.idc.as_deref())
            }
        }
    }

    /// Makes a request one of a client that such brokers know.
    pub(crate) fn sign_as(self, request: &mut Command) {
        if self == Self::Defibus {
            request.language = Language::Other;
            request.version = defibus::VERSION;
        }
    }

    /// What has to be on every message, beside the event's own. Listeners of DeFiBus drop what has no TTL.
    pub(crate) fn properties(self, event: &Event, ttl_ms: u64, now_ms: u64) -> Properties {
        let mut properties = Properties::default();
        if self == Self::Defibus {
            defibus::property::push_ttl(&mut properties, lifetime(event, ttl_ms, now_ms));
        }
        properties
    }
}

/// How long an event is of use from now on, milliseconds: `most`, or less if it expires sooner.
pub(crate) fn lifetime(event: &Event, most: u64, now_ms: u64) -> u64 {
    match event.parts().expires_ms {
        0 => most,
        expires_ms => expires_ms.saturating_sub(now_ms).min(most),
    }
}

/// The queue of a topic for a lane at DeFiBus: one of our own data centre, and one that is not `shunned`, if there is one.
pub(crate) fn choose_near<'a>(
    route: &'a Route,
    lane: u64,
    idc: Option<&str>,
    shunned: impl Fn(&Queue) -> bool,
) -> Option<&'a Queue> {
    let near = |queue: &Queue| {
        let theirs = route.cluster(&queue.broker).and_then(|name| defibus::idc_of_cluster(name));
        idc.zip(theirs).is_some_and(|(ours, theirs)| ours.eq_ignore_ascii_case(theirs))
    };
    let candidate = |queue: &Queue| defibus::Candidate { near: near(queue), isolated: shunned(queue) };
    let candidates: Vec<_> = route.writable.iter().map(candidate).collect();
    route.writable.get(defibus::choose(&candidates, usize::try_from(lane).ok()?)?)
}
