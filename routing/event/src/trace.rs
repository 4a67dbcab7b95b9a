//! Trace Context (W3C) in headers beside an event: it becomes the event's own, as the CloudEvents extension Distributed Tracing
//! has it, and so goes with it through every protocol and store. A plain publish carries it as user properties (MQTT 5), which
//! are shown as that extension to whoever sees attributes.

use bytestring::ByteString;

use crate::incoming::EXTENSIONS_MAX;
use crate::{Meta, Parts, Value};

/// The attribute, and the header: which trace the event belongs to.
pub const TRACEPARENT: &str = "traceparent";
/// The attribute, and the header: what tracing systems add.
pub const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` that is taken along; the standard asks for 512 (§3.3.1.5).
const STATE_MAX: usize = 1024;

/// Gives the event the trace of its carrier, unless it has one of its own, or `parent` is none. A CloudEvent gets extension
/// attributes, a plain publish user properties.
pub fn adopt(parts: &mut Parts, parent: Option<&str>, state: Option<&str>) {
    let Some(parent) = parent.filter(|text| is_traceparent(text)) else { return };
    let meta = parts.meta.get_or_insert_default();
    if meta.value(TRACEPARENT).is_some() {
        return;
    }
    let state = state.filter(|text| is_tracestate(text));
    let state = state.filter(|_| meta.value(TRACESTATE).is_none()).map(|text| (TRACESTATE, text));
    for (name, text) in [Some((TRACEPARENT, parent)), state].into_iter().flatten() {
        let (name, text) = (ByteString::from_static(name), ByteString::from(text));
        match &mut meta.attributes {
            Some(attributes) if attributes.extensions.len() < EXTENSIONS_MAX => {
                attributes.extensions.push((name, Value::String(text)));
            }
            Some(_) => {}
            None => meta.user.push((name, text)),
        }
    }
}

impl Meta {
    /// The trace that stands in user properties, `traceparent` and perhaps `tracestate` with their values, if the event has none in
    /// its attributes. What is no trace context stays a user property as any other.
    pub fn carried_trace(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let mut own = self.attributes.iter().flat_map(|attributes| &attributes.extensions);
        let has_own = own.any(|(name, _)| name == TRACEPARENT);
        let user =
            |wanted: &str| self.user.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
        let parent = if has_own { None } else { user(TRACEPARENT).filter(|text| is_traceparent(text)) };
        let state = parent.and_then(|_| user(TRACESTATE).filter(|text| is_tracestate(text)));
        let trace = [(TRACEPARENT, parent), (TRACESTATE, state)].into_iter();
        trace.filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Short enough, and of visible characters and spaces (W3C Trace Context §3.3.1).
fn is_tracestate(text: &str) -> bool {
    !text.is_empty() && text.len() <= STATE_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Version, trace id, parent id, flags, in lower-case hexadecimal figures (W3C Trace Context §3.2.2); neither id is all zeros, and
/// the version is not ff. Later versions may have more behind them.
fn is_traceparent(text: &str) -> bool {
    let mut fields = text.split('-');
    let lengths = [2, 32, 16, 2];
    let known = lengths.map(|length| {
        fields.next().filter(|field| {
            field.len() == length && field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    });
    let [Some(version), Some(trace), Some(parent), Some(_)] = known else { return false };
    let is_zero = |field: &str| field.bytes().all(|byte| byte == b'0');
    version != "ff"
        && !is_zero(trace)
        && !is_zero(parent)
        && (version != "00" || fields.next().is_none())
        && text.len() <= 255
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{Attributes, Meta, TopicName};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parts(meta: Option<Meta>) -> Parts {
        let topic = TopicName::parse("a").unwrap();
        let (data, publisher, meta) = (Bytes::new(), Arc::from("p"), meta.map(Box::new));
        Parts { topic, data, stamp: 1, received_ms: 1, expires_ms: 0, publisher, meta }
    }

    #[test]
    fn what_is_a_traceparent() {
        assert!(is_traceparent(PARENT));
        assert!(is_traceparent(&format!("01{}-more", &PARENT[2..])));
        for wrong in [
            String::new(),
            "00".to_owned(),
            format!("ff{}", &PARENT[2..]),
            format!("{PARENT}-more"),
            PARENT.to_uppercase(),
            PARENT.replace("00f067aa0ba902b7", "0000000000000000"),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            PARENT.replace("-01", "-1"),
        ] {
            assert!(!is_traceparent(&wrong), "{wrong}");
        }
    }

    #[test]
    fn an_event_gets_the_trace_of_its_carrier_and_keeps_its_own() {
        let mut plain = parts(None);
        adopt(&mut plain, Some(PARENT), Some("a=1"));
        let user = &plain.meta.as_ref().unwrap().user;
        assert_eq!(*user, [(TRACEPARENT.into(), PARENT.into()), (TRACESTATE.into(), "a=1".into())]);

        let attributes = Attributes {
            id: "1".into(),
            source: "s".into(),
            ty: "t".into(),
            subject: None,
            time: None,
            dataschema: None,
            extensions: Vec::new(),
        };
        let mut event = parts(Some(Meta { attributes: Some(attributes), ..Meta::default() }));
        adopt(&mut event, Some("nonsense"), None);
        adopt(&mut event, Some(PARENT), None);
        adopt(&mut event, Some(&PARENT.replace("-01", "-00")), Some("b=2"));
        let attributes = event.meta.unwrap().attributes.unwrap();
        assert_eq!(attributes.extensions, [(TRACEPARENT.into(), Value::String(PARENT.into()))]);
    }
}
