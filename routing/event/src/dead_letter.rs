//! Dead letters: events that nobody took in the end, published again at a place of their own.

use crate::event::{Event, Meta, Parts, Value};
use crate::topic::TopicName;

/// The dead letter of an event that `part` (one level of a topic: a group, a bridge) could not get rid of: the same event
/// at `place/part/topic`, with the extension attributes, or for a plain event the user properties, `deadlettertopic` (the
/// topic it had) and `deadletterreason`. `None`: there is no place for it, or it is a dead letter already.
pub fn dead_letter(place: &str, part: &str, event: &Event, reason: &str) -> Option<Event> {
    let origin = event.topic().as_str();
    let is_dead = origin.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'));
    if place.is_empty() || is_dead {
        return None;
    }
    let topic =
        TopicName::parse(format!("{place}/{part}/{origin}")).ok().filter(|topic| !topic.is_reserved())?;
    let mut parts = Parts { topic, ..event.parts().clone() };
    let meta = parts.meta.get_or_insert_default();
    tell(meta, "deadlettertopic", origin);
    tell(meta, "deadletterreason", &reason.chars().filter(|c| !c.is_control()).collect::<String>());
    Some(Event::new(parts))
}

/// Whether dead letters can have `place`: it is a topic that may be published to, or empty, for no place.
pub fn is_dead_letter_place(place: &str) -> bool {
    place.is_empty() || TopicName::parse(place).is_ok_and(|topic| !topic.is_reserved())
}

fn tell(meta: &mut Meta, name: &'static str, value: &str) {
    match &mut meta.attributes {
        Some(attributes) => {
            attributes.extensions.retain(|(known, _)| known != name);
            attributes.extensions.push((name.into(), Value::String(value.into())));
        }
        None => {
            meta.user.retain(|(known, _)| known != name);
            meta.user.push((name.into(), value.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn event(topic: &str) -> Event {
        Event::new(Parts {
            topic: TopicName::parse(topic).unwrap(),
            data: Bytes::from_static(b"data"),
            stamp: 1,
            received_ms: 1,
            expires_ms: 0,
            publisher: Arc::from("p"),
            meta: None,
        })
    }

    #[test]
    fn a_dead_letter_says_what_it_was_and_makes_no_other() {
        let letter = dead_letter("$dead", "a%2Fb", &event("orders/eu"), "no\npermission").unwrap();
        assert_eq!((letter.topic().as_str(), &**letter.data()), ("$dead/a%2Fb/orders/eu", &b"data"[..]));
        let told = [("deadlettertopic", "orders/eu"), ("deadletterreason", "nopermission")];
        assert_eq!(letter.meta().unwrap().user, told.map(|(name, value)| (name.into(), value.into())));
        assert!(dead_letter("$dead", "g", &event("$dead/g/orders"), "").is_none());
        assert!(dead_letter("", "g", &event("orders"), "").is_none());
        assert!(dead_letter("$SYS", "g", &event("orders"), "").is_none());
    }
}
