//! The route table: which store keeps the events of a topic, and what has to be true before they are answered.
//! Compiled once, replaced whole, never edited.

use event::store::WhenFull;
use event::{Durability, Guarantee, TopicFilter, TopicName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The store that every Weft has.
pub const EMBEDDED: &str = "embedded";

/// A rule of the configuration: the first whose filter matches a topic decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteOptions {
    /// Topic filter of the events that go this way, such as "sensors/#".
    #[schemars(with = "String")]
    pub topic: TopicFilter,
    /// Where they are kept: "embedded", or the name of a `[rocketmq.NAME]`. Default "embedded".
    #[serde(default = "embedded")]
    pub store: String,
    /// What has to be true before QoS 1, QoS 2 and HTTP publishes are answered: "received" (in memory), "written"
    /// (survives a crash of the process) or "synced" (survives a power cut). Default "synced". A remote store answers
    /// when it has the event ("remote"), whatever is written here.
    #[serde(default = "synced")]
    #[schemars(with = "String")]
    pub durability: Durability,
    /// What happens to an event of this route when the log has used `store.max_bytes` with events that somebody waits for:
    /// "refuse" (default) answers it as busy; "drop-oldest" takes it and frees the oldest events, whoever waits for them,
    /// which is counted in `weft_store_dropped_bytes_total`, and in `weft_core_events_dropped_total` when they are missed.
    #[serde(default)]
    #[schemars(with = "String")]
    pub when_full: WhenFull,
}

fn embedded() -> String {
    EMBEDDED.to_owned()
}

fn synced() -> Durability {
    Durability::Synced
}

/// Where the events of a topic go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Index of a remote store; `None`: the embedded log.
    pub(crate) remote: Option<usize>,
    durability: Durability,
    pub(crate) when_full: WhenFull,
}

impl Route {
    /// What has to be true before a publish with this guarantee is answered. One that is not answered waits for nothing.
    pub(crate) fn durability(&self, guarantee: Guarantee) -> Durability {
        match guarantee {
            Guarantee::AtMostOnce => Durability::Received,
            Guarantee::AtLeastOnce | Guarantee::ExactlyOnce => self.durability,
        }
    }
}

/// Compiled rules.
#[derive(Debug)]
pub(crate) struct RouteTable {
    rules: Vec<(TopicFilter, Route)>,
}

impl RouteTable {
    /// Compiles rules over the remote stores of these names.
    pub(crate) fn compile(rules: &[RouteOptions], remotes: &[String]) -> Result<Self, String> {
        let compile = |rule: &RouteOptions| {
            let (remote, durability) = if rule.store == EMBEDDED {
                if rule.durability == Durability::Remote {
                    return Err(format!(
                        "route {}: the embedded store cannot promise \"remote\"",
                        rule.topic
                    ));
                }
                (None, rule.durability)
            } else {
                let remote = remotes.iter().position(|name| *name == rule.store);
                let remote = remote.ok_or_else(|| no_store(rule, remotes))?;
                (Some(remote), Durability::Remote)
            };
            Ok((rule.topic.clone(), Route { remote, durability, when_full: rule.when_full }))
        };
        Ok(Self { rules: rules.iter().map(compile).collect::<Result<_, String>>()? })
    }

    /// The route of `topic`: the first rule that matches, else the embedded log, synced.
    pub(crate) fn route(&self, topic: &TopicName) -> Route {
        let rule = self.rules.iter().find(|(filter, _)| filter.matches(topic));
        let default = Route { remote: None, durability: Durability::Synced, when_full: WhenFull::default() };
        rule.map_or(default, |(_, route)| *route)
    }
}

fn no_store(rule: &RouteOptions, remotes: &[String]) -> String {
    let names: Vec<&str> = std::iter::once(EMBEDDED).chain(remotes.iter().map(String::as_str)).collect();
    let (topic, store, names) = (&rule.topic, &rule.store, names.join(", "));
    format!(
        "route {topic}: store {store:?} is not open; a restart opens those that routes name (open: {names})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(topic: &str, store: &str, durability: Durability) -> RouteOptions {
        let (topic, when_full) = (TopicFilter::parse(topic).unwrap(), WhenFull::Refuse);
        RouteOptions { topic, store: store.into(), durability, when_full }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = [
            rule("a/b", EMBEDDED, Durability::Written),
            rule("a/#", "main", Durability::Synced),
            rule("+/b", EMBEDDED, Durability::Received),
        ];
        let table = RouteTable::compile(&rules, &["main".into()]).unwrap();
        let route = |topic: &str| {
            let route = table.route(&TopicName::parse(topic).unwrap());
            (route.remote, route.durability(Guarantee::AtLeastOnce))
        };
        assert_eq!(route("a/b"), (None, Durability::Written));
        assert_eq!(route("a/c"), (Some(0), Durability::Remote));
        assert_eq!(route("x/b"), (None, Durability::Received));
        assert_eq!(route("x"), (None, Durability::Synced));
    }

    #[test]
    fn an_unknown_store_is_named() {
        let error =
            RouteTable::compile(&[rule("a", "mian", Durability::Synced)], &["main".into()]).unwrap_err();
        assert!(error.contains("mian"));
    }
}
