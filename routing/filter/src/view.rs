//! What a filter sees of an event: what a CloudEvents reader would see, made only when it is asked for, and once for all
//! filters that look at the same event.

use std::borrow::Cow;
use std::cell::OnceCell;

use event::event::{CORRELATION_DATA, EXPIRY_TIME, REPLY_TO, USER_PROPERTIES};
use event::incoming::TOPIC;
use event::trace::{TRACEPARENT, TRACESTATE};
use event::{Event, Value};

use crate::data::Tape;
use crate::fuel::Fuel;

/// An event, as filters see it: the attributes of a CloudEvent, derived for a plain publish ([`event::event`] has the
/// table), the extensions that Weft adds for readers, and the data if it is JSON.
#[derive(Debug)]
pub struct EventView<'e> {
    event: &'e Event,
    id: OnceCell<Cow<'e, str>>,
    source: OnceCell<Cow<'e, str>>,
    time: OnceCell<Option<Cow<'e, str>>>,
    content_type: OnceCell<Option<&'e str>>,
    /// What [`event::Meta`] shows as extensions.
    derived: OnceCell<Vec<(Cow<'e, str>, Cow<'e, Value>)>>,
    data: OnceCell<Option<Tape<'e>>>,
}

/// Which attribute; found out when a filter is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    SpecVersion,
    Id,
    Source,
    Type,
    Subject,
    Time,
    DataSchema,
    DataContentType,
    /// The extension `wefttopic`.
    Topic,
    /// `traceparent` or `tracestate`.
    Trace(&'static str),
    /// One that may come from what a publish carries beside its data.
    Derived(Box<str>),
    Extension(Box<str>),
}

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute<'v> {
    Boolean(bool),
    Integer(i32),
    Text(&'v str),
}

impl Name {
    /// The attribute called `name`.
    pub(crate) fn new(name: &str) -> Self {
        match name {
            "specversion" => Self::SpecVersion,
            "id" => Self::Id,
            "source" => Self::Source,
            "type" => Self::Type,
            "subject" => Self::Subject,
            "time" => Self::Time,
            "dataschema" => Self::DataSchema,
            "datacontenttype" => Self::DataContentType,
            TOPIC => Self::Topic,
            EXPIRY_TIME | REPLY_TO | CORRELATION_DATA | USER_PROPERTIES => Self::Derived(name.into()),
            TRACEPARENT => Self::Trace(TRACEPARENT),
            TRACESTATE => Self::Trace(TRACESTATE),
            _ => Self::Extension(name.into()),
        }
    }
}

impl<'e> EventView<'e> {
    /// A view of `event`. Costs next to nothing until a filter asks.
    pub fn new(event: &'e Event) -> Self {
        Self {
            event,
            id: OnceCell::new(),
            source: OnceCell::new(),
            time: OnceCell::new(),
            content_type: OnceCell::new(),
            derived: OnceCell::new(),
            data: OnceCell::new(),
        }
    }

    /// The event.
    pub fn event(&self) -> &'e Event {
        self.event
    }

    /// Steps that one filter may take for the event: 2000, and six for each byte of the data, but not more than 50 000.
    pub fn steps_max(&self) -> usize {
        self.fuel().full()
    }

    pub(crate) fn fuel(&self) -> Fuel {
        Fuel::for_filter(self.event.data().len())
    }

    /// Steps that [`Self::attribute`] takes: it looks through the extensions.
    pub(crate) fn steps_to(&self, name: &Name) -> usize {
        match name {
            Name::Extension(_) | Name::Derived(_) => {
                self.event.attributes().map_or(0, |attributes| attributes.extensions.len() / 2)
            }
            // User properties are looked through for both.
            Name::Trace(_) => self.event.meta().map_or(0, |meta| {
                let own = meta.attributes.as_ref().map_or(0, |attributes| attributes.extensions.len());
                TRACE_COST + own + meta.user.len()
            }),
            Name::SpecVersion
            | Name::Id
            | Name::Source
            | Name::Type
            | Name::Subject
            | Name::Time
            | Name::DataSchema
            | Name::DataContentType
            | Name::Topic => 0,
        }
    }

    /// The value of an attribute, if the event has it.
    pub(crate) fn attribute(&self, name: &Name) -> Option<Attribute<'_>> {
        let event = self.event;
        let text = match name {
            Name::SpecVersion => Some("1.0"),
            Name::Id => Some(&**self.id.get_or_init(|| event.id())),
            Name::Source => Some(&**self.source.get_or_init(|| event.source())),
            Name::Type => Some(event.ty()),
            Name::Subject => event.subject(),
            Name::Time => self.time.get_or_init(|| event.time()).as_deref(),
            Name::DataSchema => event.dataschema(),
            Name::DataContentType => *self.content_type.get_or_init(|| event.data_content_type()),
            Name::Topic => Some(event.topic().as_str()),
            Name::Trace(name) => return self.own(name).or_else(|| self.carried(name)),
            Name::Extension(name) => return self.own(name),
            Name::Derived(name) => return self.own(name).or_else(|| self.derived(name)),
        };
        text.map(Attribute::Text)
    }

    /// The data as JSON; `None` if it is none, or said to be something else.
    pub(crate) fn data(&self) -> Option<&Tape<'e>> {
        let read = || {
            let is_json = self.event.content_type().is_none_or(event::json::is_json);
            is_json.then(|| Tape::read(self.event.data())).flatten()
        };
        self.data.get_or_init(read).as_ref()
    }

    fn own(&self, name: &str) -> Option<Attribute<'_>> {
        let extensions = &self.event.attributes()?.extensions;
        extensions.iter().find(|(known, _)| known == name).map(|(_, value)| Attribute::from(value))
    }

    fn carried(&self, name: &str) -> Option<Attribute<'_>> {
        let mut trace = self.event.meta()?.carried_trace();
        trace.find(|(known, _)| *known == name).map(|(_, value)| Attribute::Text(value))
    }

    fn derived(&self, name: &str) -> Option<Attribute<'_>> {
        let derived = self.derived.get_or_init(|| self.event.extensions());
        derived.iter().find(|(known, _)| known == name).map(|(_, value)| Attribute::from(&**value))
    }
}

/// What it costs to see whether a text is a trace context.
const TRACE_COST: usize = 50;

impl<'v> From<&'v Value> for Attribute<'v> {
    fn from(value: &'v Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Integer(value) => Self::Integer(*value),
            Value::String(text) => Self::Text(text),
        }
    }
}
