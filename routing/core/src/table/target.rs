//! What a rule makes of an event: one event for each target.

use bytes::Bytes;
use bytestring::ByteString;
use event::event::{CORRELATION_DATA, EXPIRY_TIME, REPLY_TO, USER_PROPERTIES, parse_rfc3339};
use event::incoming::{EXTENSIONS_MAX, TEXT_MAX};
use event::trace::{TRACEPARENT, TRACESTATE};
use event::{Attributes, Event, Meta, Parts, Reject, RejectKind, TopicName, Value, has_control};
use filter::{Build, EventView, Filled, NotBuilt, Template};

use super::options::{Missing, TargetOptions};

/// How a target's event is made; compiled.
#[derive(Debug)]
pub(crate) struct Recipe {
    topic: Option<Template>,
    data: Option<Build>,
    drop: Vec<String>,
    /// From, to, and the value of from.
    rename: Vec<(String, String, Template)>,
    set: Vec<(String, Template)>,
    missing: Missing,
}

/// Why there is no event for a target.
#[derive(Debug)]
pub(crate) enum Unmade {
    /// It is left out.
    Skipped(Reason),
    /// The publish is refused.
    Refused(Reject),
}

/// What is in the way of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The event has nothing for a place.
    Missing,
    /// No topic that one may publish to comes of it.
    Topic,
    /// CloudEvents forbids an attribute that comes of it.
    Attribute,
    /// Its data would be too large.
    Data,
}

impl Reason {
    /// In their order.
    pub(crate) const ALL: [Self; 4] = [Self::Missing, Self::Topic, Self::Attribute, Self::Data];

    /// As a label of metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Topic => "topic",
            Self::Attribute => "attribute",
            Self::Data => "data",
        }
    }
}

impl Recipe {
    /// The recipe of a target; `None`: the event as it is.
    pub(super) fn compile(target: &TargetOptions) -> Result<Option<Self>, String> {
        let text = |error: filter::FilterError| error.to_string();
        let mut set = Vec::new();
        for (name, template) in &target.set {
            set.push((name.clone(), Template::parse(template).map_err(text)?));
        }
        if let Some(key) = &target.key {
            set.push((PARTITION_KEY.to_owned(), Template::parse(key).map_err(text)?));
        }
        let rename =
            target.rename.iter().map(|(old, new)| (old.clone(), new.clone(), Template::attribute(old)));
        let recipe = Self {
            topic: target.topic.as_deref().map(Template::topic).transpose().map_err(text)?,
            data: target.data.as_deref().map(Build::compile).transpose().map_err(text)?,
            drop: target.drop.clone(),
            rename: rename.collect(),
            set,
            missing: target.missing,
        };
        let changes = recipe.topic.is_some()
            || recipe.data.is_some()
            || !recipe.drop.is_empty()
            || !recipe.rename.is_empty()
            || !recipe.set.is_empty();
        Ok(changes.then_some(recipe))
    }

    /// The event for the target. `clears`: it is to forget the retained event of its topic, and so has no data.
    pub(crate) fn make(&self, view: &EventView<'_>, clears: bool) -> Result<Event, Unmade> {
        let mut parts = view.event().parts().clone();
        for name in &self.drop {
            take(&mut parts, name);
        }
        if !self.rename.is_empty() || !self.set.is_empty() {
            as_cloud_event(&mut parts, view.event());
        }
        for (old, new, value) in &self.rename {
            let Filled { value, whole } = value.fill_value(view);
            if whole && !self.drop.contains(old) {
                take(&mut parts, old);
                self.put(&mut parts, new, value)?;
            }
        }
        if let Some(build) = self.data.as_ref().filter(|_| !clears) {
            self.build(build, view, &mut parts)?;
        }
        for (name, template) in &self.set {
            let value = self.filled(template.fill_value(view))?;
            let is_empty = matches!(&value, Value::String(text) if text.is_empty());
            if !is_empty {
                self.put(&mut parts, name, value)?;
            }
        }
        if let Some(template) = &self.topic {
            let topic = TopicName::parse(self.filled(template.fill_topic(view))?);
            let topic = topic.ok().filter(|topic| !topic.is_reserved());
            parts.topic = topic.ok_or_else(|| self.unmade(Reason::Topic))?;
        }
        Ok(Event::new(parts))
    }

    fn build(&self, build: &Build, view: &EventView<'_>, parts: &mut Parts) -> Result<(), Unmade> {
        let data = match build.make(view) {
            Ok(filled) => self.filled(filled)?,
            Err(NotBuilt::NoValue) => self.filled(Filled { value: b"null".to_vec(), whole: false })?,
            Err(NotBuilt::TooLarge) => return Err(self.unmade(Reason::Data)),
        };
        parts.data = Bytes::from(data);
        // A plain publish without a media type goes on without one: readers look at the data.
        if let Some(meta) =
            parts.meta.as_mut().filter(|meta| meta.attributes.is_some() || meta.content_type.is_some())
        {
            meta.content_type = Some(ByteString::from_static(build.media_type()));
        }
        Ok(())
    }

    fn filled<T>(&self, Filled { value, whole }: Filled<T>) -> Result<T, Unmade> {
        match whole || self.missing == Missing::Empty {
            true => Ok(value),
            false => Err(self.unmade(Reason::Missing)),
        }
    }

    fn put(&self, parts: &mut Parts, name: &str, value: Value) -> Result<(), Unmade> {
        put(parts, name, value).ok_or_else(|| self.unmade(Reason::Attribute))
    }

    fn unmade(&self, reason: Reason) -> Unmade {
        match self.missing {
            Missing::Empty | Missing::Skip => Unmade::Skipped(reason),
            Missing::Refuse => {
                let what = match reason {
                    Reason::Missing => "the event lacks what a target of its route is made of",
                    Reason::Topic => "no topic comes of the event for a target of its route",
                    Reason::Attribute => "an attribute of a target of the route would be none of CloudEvents",
                    Reason::Data => "the data for a target of the route would be too large",
                };
                Unmade::Refused(Reject::new(RejectKind::Malformed, what))
            }
        }
    }
}

/// The extension that keys go into (CloudEvents extension "Partitioning").
const PARTITION_KEY: &str = "partitionkey";

/// Gives a plain publish the attributes that readers see of it.
fn as_cloud_event(parts: &mut Parts, event: &Event) {
    let meta = parts.meta.get_or_insert_default();
    if meta.attributes.is_some() {
        return;
    }
    // What is shown as an attribute is one from now on.
    let trace = carried_trace(meta);
    meta.user.retain(|pair| !trace.contains(pair));
    meta.content_type = event.data_content_type().map(ByteString::from);
    meta.attributes = Some(Attributes {
        id: event.id().into_owned().into(),
        source: event.source().into_owned().into(),
        ty: event.ty().into(),
        subject: event.subject().map(ByteString::from),
        time: event.time().map(|time| time.into_owned().into()),
        dataschema: None,
        extensions: trace.into_iter().map(|(name, value)| (name, Value::String(value))).collect(),
    });
}

/// The user properties that are shown as attributes of their own.
fn carried_trace(meta: &Meta) -> Vec<(ByteString, ByteString)> {
    meta.carried_trace().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Takes an attribute away.
fn take(parts: &mut Parts, name: &str) {
    if name == EXPIRY_TIME {
        parts.expires_ms = 0;
    }
    let Some(meta) = &mut parts.meta else { return };
    if name == USER_PROPERTIES {
        meta.user = carried_trace(meta);
    }
    let Meta { attributes, content_type, utf8: _, reply_to, correlation, user } = &mut **meta;
    match name {
        "datacontenttype" => *content_type = None,
        REPLY_TO => *reply_to = None,
        CORRELATION_DATA => *correlation = None,
        TRACEPARENT | TRACESTATE => user.retain(|(known, _)| known != name),
        _ => {}
    }
    let Some(attributes) = attributes else { return };
    match name {
        "subject" => attributes.subject = None,
        "time" => attributes.time = None,
        "dataschema" => attributes.dataschema = None,
        _ => attributes.extensions.retain(|(known, _)| known != name),
    }
}

/// Gives a CloudEvent an attribute, in place of what it had; `None` if CloudEvents forbids it.
fn put(parts: &mut Parts, name: &str, value: Value) -> Option<()> {
    let text: ByteString = match &value {
        Value::String(text) => text.clone(),
        Value::Boolean(_) | Value::Integer(_) => value.as_text().as_ref().into(),
    };
    if text.is_empty() || text.len() > TEXT_MAX || has_control(&text) {
        return None;
    }
    if name == EXPIRY_TIME {
        parts.expires_ms = parse_rfc3339(&text)?;
        return Some(());
    }
    let meta = parts.meta.as_mut()?;
    match name {
        "datacontenttype" => meta.content_type = Some(text),
        REPLY_TO => meta.reply_to = Some(TopicName::parse(text).ok()?),
        _ => {
            let attributes = meta.attributes.as_mut()?;
            match name {
                "id" => attributes.id = text,
                "source" => attributes.source = text,
                "type" => attributes.ty = text,
                "subject" => attributes.subject = Some(text),
                "time" => {
                    parse_rfc3339(&text)?;
                    attributes.time = Some(text);
                }
                "dataschema" => attributes.dataschema = Some(text),
                _ => {
                    let full = attributes.extensions.len() >= EXTENSIONS_MAX;
                    match attributes.extensions.iter_mut().find(|(known, _)| known == name) {
                        Some((_, old)) => *old = value,
                        None if full => return None,
                        None => attributes.extensions.push((name.into(), value)),
                    }
                }
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
