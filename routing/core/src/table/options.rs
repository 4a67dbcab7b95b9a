//! Rules as the configuration has them, and what is wrong with one.

use std::collections::BTreeMap;

use event::event::{CORRELATION_DATA, USER_PROPERTIES, is_attribute_name};
use event::incoming::{POSITION, RETAIN, TOPIC};
use event::store::WhenFull;
use event::{BadSelect, Durability, Protocol, Select, TopicFilter, has_control};
use filter::{Build, Filter, Template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The store that every Weft has.
pub const EMBEDDED: &str = "embedded";

/// A rule of the configuration. Rules are asked in their order: the first that an event matches says where it goes, and no
/// rule behind it is asked, unless this one makes copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteOptions {
    /// What it is called in metrics and by people who look. Default: its topic filter. Routes of one name are counted together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Topic filter of the events that go this way, such as "sensors/#".
    #[schemars(with = "String")]
    pub topic: TopicFilter,
    /// Only events that pass this filter go this way, others by the rules behind it: "cesql: type = 'com.example.order'" or
    /// "cel: data.total > 100". Default none: all of the topic. An event for which it cannot be evaluated does not pass,
    /// and is counted in `weft_core_filter_errors_total`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub filter: Option<RouteFilter>,
    /// Only events that came by the listener of this name: "mqtt", "http", or that of a `[listener.NAME]`. Default none:
    /// whatever way they came. Wills that are published after a crash came by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Only events that came by this protocol: "mqtt", over whatever carries it; "websocket", CloudEvents at `/ws`; "http"; "grpc",
    /// "eventmesh-tcp" or "eventmesh-http". Default none: whatever way they came. Wills that are published after a crash, and
    /// delayed events, came by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub protocol: Option<Protocol>,
    /// Whether the event goes by the rules behind this one as well. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub copy: bool,
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
    /// For how many seconds a CloudEvent with the same `source` and `id` is a repeat: it is answered as the first one was, and
    /// not kept again, whatever way and by whomever it comes; counted in `weft_core_events_repeated_total`. Default 0, none;
    /// at most 604800, a week. Publishes without CloudEvents attributes have neither, and delayed events are looked at
    /// when their time has come.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(max = 604_800))]
    pub unique_s: u32,
    /// What becomes of them: an event for each target. Default none: the event as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<TargetOptions>,
}

/// A target of a rule: an event that is made of the published one. It is not routed again. A positive answer says that all
/// targets have theirs. Texts may have places that the published event fills: `{topic}`, `{2}` (a level of the topic, from 1 on),
/// `{2..}` (it and all behind it), `{source}` (an attribute), `{data.order.id}`, `{data.items[0]}` (JSON data); `{{` and `}}` are braces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetOptions {
    /// Its topic, such as "audit/{2}/{data.region}". Default: that of the published event. What fills a place stays one level:
    /// '/', '+' and '#' of a value become '_', but for `{topic}` and `{2..}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Where it is kept. Default: `store` of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// What has to be true before the publish is answered. Default: `durability` of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub durability: Option<Durability>,
    /// What happens when the log is full. Default: `when_full` of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub when_full: Option<WhenFull>,
    /// Its `partitionkey` (CloudEvents extension Partitioning), such as "{data.customer}". Default: as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its data: "json: TEMPLATE", where every text is a template and one that is a single place becomes what fills it, of
    /// whatever kind; "cel: EXPRESSION"; or "text: TEMPLATE". At most 1 MiB comes of it. Default: as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What happens when the event has nothing for a place: "empty" (default) puts nothing there, `null` in JSON, and leaves
    /// an attribute as it was that would be empty; "skip" leaves the target out; "refuse" refuses the publish. A target that
    /// cannot be made (no topic comes of it, an attribute CloudEvents forbids, too much data) is left out, or refuses as well.
    /// What is left out is counted in `weft_core_targets_skipped_total`; an event for which a rule has no target left goes by
    /// the rules behind it.
    #[serde(default, skip_serializing_if = "Missing::is_default")]
    #[schemars(with = "String")]
    pub missing: Missing,
    /// Attributes that it does not have: `["secret", "userproperties"]`. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Attributes that get another name: `{ old = "new" }`. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
    /// Attributes that it has: `{ region = "eu", customer = "{data.customer}" }`. Default none. With one of these a publish without
    /// CloudEvents attributes becomes a CloudEvent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
}

/// What happens when an event has nothing for a place of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Nothing is put there.
    #[default]
    Empty,
    /// The target is left out.
    Skip,
    /// The publish is refused.
    Refuse,
}

impl Missing {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
    fn is_default(&self) -> bool {
        *self == Self::Empty
    }
}

/// What is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RouteMistake {
    /// The target that it is in, from 0 on.
    pub target: Option<usize>,
    /// The key, and one in it.
    pub key: (&'static str, Option<String>),
    /// What.
    pub reason: String,
}

/// A filter as it is written: `LANGUAGE: EXPRESSION`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteFilter(Select);

impl TryFrom<String> for RouteFilter {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: BadSelect| error.to_string())
    }
}

impl From<RouteFilter> for String {
    fn from(filter: RouteFilter) -> Self {
        filter.0.to_string()
    }
}

impl RouteFilter {
    pub(super) fn compile(&self) -> Result<Filter, String> {
        Filter::of(&self.0).map_err(|error| format!("the {} filter is wrong: {error}", self.0.language))
    }
}

impl RouteOptions {
    /// A rule for all events of `topic`, which are kept as they are in the embedded log, synced.
    pub fn new(topic: TopicFilter) -> Self {
        Self {
            name: None,
            topic,
            filter: None,
            listener: None,
            protocol: None,
            copy: false,
            store: embedded(),
            durability: synced(),
            when_full: WhenFull::Refuse,
            unique_s: 0,
            to: Vec::new(),
        }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.topic.as_str())
    }

    /// What is wrong with it, whatever stores there are.
    ///
    /// # Errors
    /// The first of it.
    pub fn check(&self) -> Result<(), RouteMistake> {
        let wrong = |key, reason| RouteMistake { target: None, key: (key, None), reason };
        if let Some(filter) = &self.filter {
            filter.compile().map_err(|reason| wrong("filter", reason))?;
        }
        if let Some(name) = &self.name
            && (name.is_empty() || name.len() > NAME_MAX || has_control(name) || name.starts_with('('))
        {
            let reason = format!("1 to {NAME_MAX} bytes without control characters, not beginning with '('");
            return Err(wrong("name", reason));
        }
        if self.unique_s > UNIQUE_MAX_S {
            return Err(wrong("unique_s", format!("more than {UNIQUE_MAX_S}, a week")));
        }
        if self.to.len() > TARGETS_MAX {
            return Err(wrong("to", format!("more than {TARGETS_MAX} targets")));
        }
        if self.to.is_empty() {
            return check_promise(&self.store, self.durability).map_err(|reason| wrong("durability", reason));
        }
        for (at, target) in self.to.iter().enumerate() {
            let placed = |(key, name, reason)| RouteMistake { target: Some(at), key: (key, name), reason };
            target.check().map_err(placed)?;
            let promise = check_promise(target.store_in(self), target.durability_in(self));
            promise.map_err(|reason| placed(("durability", None, reason)))?;
        }
        Ok(())
    }

    /// The stores that it names.
    pub fn stores(&self) -> impl Iterator<Item = &str> {
        let own = self.to.is_empty().then_some(&*self.store);
        own.into_iter().chain(self.to.iter().map(|target| target.store_in(self)))
    }
}

/// The longest name, bytes.
const NAME_MAX: usize = 256;

/// A key, one in it, and what is wrong with that.
type Wrong = (&'static str, Option<String>, String);

impl TargetOptions {
    pub(super) fn store_in<'t>(&'t self, rule: &'t RouteOptions) -> &'t str {
        self.store.as_deref().unwrap_or(&rule.store)
    }

    pub(super) fn durability_in(&self, rule: &RouteOptions) -> Durability {
        self.durability.unwrap_or(rule.durability)
    }

    fn check(&self) -> Result<(), Wrong> {
        let whole = |key: &'static str| move |error: filter::FilterError| (key, None, error.to_string());
        if let Some(topic) = &self.topic {
            Template::topic(topic).map_err(whole("topic"))?;
        }
        if let Some(key) = &self.key {
            Template::parse(key).map_err(whole("key"))?;
        }
        if let Some(data) = &self.data {
            Build::compile(data).map_err(whole("data"))?;
        }
        for name in &self.drop {
            let refused = refuse_name(name, &[]).or_else(|| refuse_needed(name));
            refused.map_or(Ok(()), |reason| Err(("drop", None, reason)))?;
        }
        for (old, new) in &self.rename {
            let refused =
                refuse_name(old, &[]).or_else(|| refuse_needed(old)).or_else(|| refuse_name(new, NOT_SET));
            let wrong = |reason| ("rename", Some(old.clone()), reason);
            refused.map_or(Ok(()), |reason| Err(wrong(reason)))?;
            if self.rename.iter().any(|(other, name)| other < old && name == new) {
                return Err(wrong(format!("another one becomes {new} already")));
            }
        }
        for (name, template) in &self.set {
            let wrong = |reason| ("set", Some(name.clone()), reason);
            refuse_name(name, NOT_SET).map_or(Ok(()), |reason| Err(wrong(reason)))?;
            Template::parse(template).map_err(|error| wrong(error.to_string()))?;
        }
        Ok(())
    }
}

/// What a store can promise.
fn check_promise(store: &str, durability: Durability) -> Result<(), String> {
    match store == EMBEDDED && durability == Durability::Remote {
        true => {
            Err("the embedded log is not remote; \"synced\" is the strongest promise of one machine"
                .to_owned())
        }
        false => Ok(()),
    }
}

fn refuse_name(name: &str, also: &[&str]) -> Option<String> {
    if !is_attribute_name(name) {
        return Some(format!(
            "{name:?} is no attribute name: those are lower-case letters and digits, and not \"data\""
        ));
    }
    let own = [TOPIC, RETAIN, POSITION, "specversion"];
    (own.contains(&name) || also.contains(&name)).then(|| format!("{name} cannot be changed"))
}

fn refuse_needed(name: &str) -> Option<String> {
    ["id", "source", "type"].contains(&name).then(|| format!("every event has {name}"))
}

/// What comes with a publish in its own form.
const NOT_SET: &[&str] = &[CORRELATION_DATA, USER_PROPERTIES];

/// How long repeats may be known.
const UNIQUE_MAX_S: u32 = 7 * 24 * 60 * 60;

/// Targets of one rule.
const TARGETS_MAX: usize = 32;

fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

fn embedded() -> String {
    EMBEDDED.to_owned()
}

fn synced() -> Durability {
    Durability::Synced
}
