//! The route table: which store keeps the events of a topic, and what has to be true before they are answered.
//! Compiled once, replaced whole, never edited.

use std::sync::Arc;

use event::store::WhenFull;
use event::{Durability, Event, Guarantee, Language, Select, TopicFilter, TopicName, UnknownLanguage};
use filter::{EventView, Filter, Verdict};
use metrics::Counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The store that every Weft has.
pub const EMBEDDED: &str = "embedded";

/// A rule of the configuration: the first whose topic filter matches a topic decides, if it has no filter, or the event passes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteOptions {
    /// Topic filter of the events that go this way, such as "sensors/#".
    #[schemars(with = "String")]
    pub topic: TopicFilter,
    /// Only events that pass this filter go this way, others by the rules behind it: "cesql: type = 'com.example.order'" or
    /// "cel: data.total > 100". Default none: all of the topic. An event for which it cannot be evaluated does not pass,
    /// and is counted in `weft_core_filter_errors_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<RouteFilter>,
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

/// A filter as it is written: `LANGUAGE: EXPRESSION`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteFilter(Select);

impl TryFrom<String> for RouteFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (language, expression) =
            text.split_once(':').ok_or("a filter is \"cesql: EXPRESSION\" or \"cel: EXPRESSION\"")?;
        let language: Language =
            language.trim().parse().map_err(|error: UnknownLanguage| error.to_string())?;
        Ok(Self(Select::new(language, expression.trim())))
    }
}

impl From<RouteFilter> for String {
    fn from(filter: RouteFilter) -> Self {
        format!("{}: {}", filter.0.language, filter.0.text)
    }
}

impl RouteFilter {
    fn compile(&self) -> Result<Filter, String> {
        Filter::of(&self.0).map_err(|error| format!("the {} filter is wrong: {error}", self.0.language))
    }
}

impl RouteOptions {
    /// What is wrong with it, whatever stores there are.
    ///
    /// # Errors
    /// Its filter is none, with place and reason.
    pub fn check(&self) -> Result<(), String> {
        self.filter.as_ref().map_or(Ok(()), |filter| filter.compile().map(|_| ()))
    }
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

/// Where the events of one topic go: by the first filter that they pass, else the last way.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    first: Vec<(Arc<Filter>, Route)>,
    last: Route,
}

impl Ways {
    /// The way of `event`; `unknown` counts filters that cannot be evaluated for it.
    pub(crate) fn of(&self, event: &Event, unknown: &Counter) -> Route {
        if self.first.is_empty() {
            return self.last;
        }
        let view = EventView::new(event);
        let passes = |filter: &Filter| match filter.judge(&view) {
            Verdict::Passes => true,
            Verdict::Fails => false,
            Verdict::Error => {
                unknown.increment(1);
                false
            }
        };
        let way = self.first.iter().find(|(filter, _)| passes(filter));
        way.map_or(self.last, |(_, route)| *route)
    }
}

/// Compiled rules.
#[derive(Debug)]
pub(crate) struct RouteTable {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    topic: TopicFilter,
    filter: Option<Arc<Filter>>,
    route: Route,
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
            let filter = rule.filter.as_ref().map(RouteFilter::compile).transpose();
            let filter = filter.map_err(|reason| format!("route {}: {reason}", rule.topic))?.map(Arc::new);
            let route = Route { remote, durability, when_full: rule.when_full };
            Ok(Rule { topic: rule.topic.clone(), filter, route })
        };
        Ok(Self { rules: rules.iter().map(compile).collect::<Result<_, String>>()? })
    }

    /// The ways of `topic`: the rules that match, up to the first without a filter; else the embedded log, synced.
    pub(crate) fn ways(&self, topic: &TopicName) -> Ways {
        let mut first = Vec::new();
        for Rule { filter, route, .. } in self.rules.iter().filter(|rule| rule.topic.matches(topic)) {
            match filter {
                Some(filter) => first.push((Arc::clone(filter), *route)),
                None => return Ways { first, last: *route },
            }
        }
        let last = Route { remote: None, durability: Durability::Synced, when_full: WhenFull::default() };
        Ways { first, last }
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
        RouteOptions { topic, filter: None, store: store.into(), durability, when_full }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = [
            rule("a/b", EMBEDDED, Durability::Written),
            rule("a/#", "main", Durability::Synced),
            rule("+/b", EMBEDDED, Durability::Received),
        ];
        let table = RouteTable::compile(&rules, &["main".into()]).unwrap();
        let route = |topic: &'static str| {
            let event = crate::testing::event(topic, "");
            let route = table.ways(event.topic()).of(&event, &Counter::noop());
            (route.remote, route.durability(Guarantee::AtLeastOnce))
        };
        assert_eq!(route("a/b"), (None, Durability::Written));
        assert_eq!(route("a/c"), (Some(0), Durability::Remote));
        assert_eq!(route("x/b"), (None, Durability::Received));
        assert_eq!(route("x"), (None, Durability::Synced));
    }

    #[test]
    fn an_event_goes_by_the_first_rule_that_it_passes() {
        let with = |filter, rule: RouteOptions| RouteOptions { filter: Some(filter), ..rule };
        let cel = |text: &str| RouteFilter::try_from(format!("cel: {text}")).unwrap();
        let rules = [
            with(cel("data.total > 100"), rule("a/#", "main", Durability::Synced)),
            with(
                RouteFilter::try_from("cesql: subject = 'a/c'".to_owned()).unwrap(),
                rule("+/c", EMBEDDED, Durability::Received),
            ),
            rule("a/b", EMBEDDED, Durability::Written),
            with(cel("true"), rule("a/b", "main", Durability::Synced)),
        ];
        let table = RouteTable::compile(&rules, &["main".into()]).unwrap();
        for (topic, data, remote, durability) in [
            ("a/b", "{\"total\":101}", Some(0), Durability::Remote),
            ("a/b", "{\"total\":100}", None, Durability::Written),
            ("a/b", "no json", None, Durability::Written),
            ("a/c", "{}", None, Durability::Received),
            ("b/c", "{\"total\":101}", None, Durability::Synced),
        ] {
            let event = crate::testing::event(topic, data);
            let route = table.ways(event.topic()).of(&event, &Counter::noop());
            assert_eq!(
                (route.remote, route.durability(Guarantee::AtLeastOnce)),
                (remote, durability),
                "{topic} {data}"
            );
        }
    }

    #[test]
    fn a_wrong_filter_is_refused_with_its_place() {
        let filter = Some(RouteFilter::try_from("cesql: type == 'x'".to_owned()).unwrap());
        let wrong = RouteOptions { filter, ..rule("a/#", EMBEDDED, Durability::Synced) };
        let error = RouteTable::compile(&[wrong], &[]).unwrap_err();
        assert_eq!(
            error,
            "route a/#: the cesql filter is wrong: at character 6: \"==\" is written \"=\" in CESQL"
        );
    }

    #[test]
    fn an_unknown_store_is_named() {
        let error =
            RouteTable::compile(&[rule("a", "mian", Durability::Synced)], &["main".into()]).unwrap_err();
        assert!(error.contains("mian"));
    }
}
