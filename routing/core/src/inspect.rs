//! What the core's notes in the log say, for people who look at a log and for whoever takes events out of it.

use event::Guarantee;
use event::store::Position;

use crate::held::Until;
use crate::notes::{Assignment, Change, EventNote, Note, Wish};

/// A note, as far as somebody outside needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What the record is.
    pub what: What,
    /// The note in words; empty for a plain publish.
    pub text: String,
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its event was published, with this guarantee and retain flag.
    Published {
        /// The guarantee of the publish.
        guarantee: Guarantee,
        /// The retain flag.
        retain: bool,
    },
    /// Its event is the copy of a retained event that stood at this position.
    Moved(Position),
    /// Its event, if there is one, is not published by this record: a will, or what another store publishes.
    State,
    /// A note of a newer Weft, or none at all.
    Unknown,
}

/// Reads the note of a record.
pub fn describe(note: &[u8]) -> Described {
    match Note::decode(note) {
        None => Described {
            what: What::Unknown,
            text: format!("a note of {} B that this weft does not know", note.len()),
        },
        Some(Note::Change(change)) => Described { what: What::State, text: of_change(&change) },
        Some(Note::Event(note)) => of_event(&note),
        Some(Note::Part(part, note)) => of_event(&note).and(format!(
            "event {} of {} of one publish",
            u32::from(part.place) + 1,
            part.count
        )),
        Some(Note::Apart(note)) => of_event(&note).and("not for shared subscriptions".to_owned()),
        // The node's own share of the store has it, too.
        Some(Note::Fed(_, note)) => {
            let text = "for one shared subscription".to_owned();
            Described { what: What::State, ..of_event(&note) }.and(text)
        }
    }
}

impl Described {
    fn and(self, more: String) -> Self {
        let text = if self.text.is_empty() { more } else { [self.text, more].join(", ") };
        Self { text, ..self }
    }
}

fn of_event(note: &EventNote) -> Described {
    let EventNote { guarantee, retain, live_done: _, state_only, id, moved, will } = *note;
    let what = match (moved, state_only) {
        (Some(from), _) => What::Moved(from),
        (None, true) => What::State,
        (None, false) => What::Published { guarantee, retain },
    };
    let mut words = Vec::new();
    words.extend((guarantee != Guarantee::AtLeastOnce).then(|| format!("QoS {}", qos(guarantee))));
    words.extend(retain.then(|| "retained".to_owned()));
    words.extend(moved.map(|from| format!("moved from {}", from.0)));
    words.extend((state_only && moved.is_none()).then(|| "state only".to_owned()));
    words.extend(id.map(|(id, session)| format!("packet id {id} of session {session}")));
    words.extend(will.map(|will| format!("will {will}")));
    Described { what, text: words.join(", ") }
}

fn spans(ranges: &[(u64, u32)]) -> impl ExactSizeIterator<Item = String> {
    ranges.iter().map(|(first, count)| match count {
        1 => first.to_string(),
        _ => format!("{first} to {}", first.saturating_add(u64::from(*count)).saturating_sub(1)),
    })
}

fn qos(guarantee: Guarantee) -> u8 {
    match guarantee {
        Guarantee::AtMostOnce => 0,
        Guarantee::AtLeastOnce => 1,
        Guarantee::ExactlyOnce => 2,
    }
}

fn of_change(change: &Change) -> String {
    match change {
        Change::Open { session, client, keep_s, keep_all: _, fresh } => {
            let how = if *fresh { "opened" } else { "taken up" };
            format!("session {session} of client {:?} {how}, stays {}", client.as_str(), stays(*keep_s))
        }
        Change::Closed { session, keep_s, at_ms: _ } => {
            format!("session {session} lost its connection, stays {}", stays(*keep_s))
        }
        Change::Ended { session } => format!("session {session} ended"),
        Change::Subscribed { session, wanted, ticket: _ } => {
            let filters = wanted
                .iter()
                .map(|(filter, options)| format!("{:?} (QoS {})", filter.as_str(), qos(options.guarantee)));
            format!("session {session} subscribed to {}", list(filters))
        }
        Change::Unsubscribed { session, filters, ticket: _ } => {
            let filters = filters.iter().map(|filter| format!("{:?}", filter.as_str()));
            format!("session {session} unsubscribed from {}", list(filters))
        }
        Change::Acked { session, ranges, sent: _ } => {
            format!("session {session} acknowledged deliveries {}", list(spans(ranges)))
        }
        Change::Over { session, ranges, end, sent: _ } => {
            format!("session {session} is done with deliveries {}: {}", list(spans(ranges)), end.as_str())
        }
        Change::Received { session, numbers } => {
            format!("session {session} has deliveries {}", list(numbers.iter().map(u64::to_string)))
        }
        Change::Released { session, ids } => {
            format!("session {session} released packet ids {}", list(ids.iter().map(u16::to_string)))
        }
        Change::Will { will, client, delay_ms, .. } => {
            format!("will {will} of client {:?}, {} s after it is lost", client.as_str(), delay_ms / 1000)
        }
        Change::WillOff { will } => format!("will {will} called off"),
        Change::Held { held, until: Until::Time(at_ms), .. } => {
            format!("event {held} waits until {}", event::event::rfc3339(*at_ms))
        }
        Change::Held { held, until: Until::Decision(transaction), .. } => {
            format!("event {held} waits for the decision about transaction {:?}", transaction.id)
        }
        Change::Decided { held, commit: true, id: _ } => format!("event {held} is to be published"),
        Change::Decided { held, commit: false, id: _ } => format!("event {held} is forgotten"),
        Change::Assigned { session, filter, list: events } => {
            let at = events.iter().map(|Assignment { position, .. }| position.0.to_string());
            format!("session {session} gets events of {:?}: those at {}", filter.as_str(), list(at))
        }
        Change::Returned { session, numbers } => {
            format!("session {session} gave deliveries {} back", list(numbers.iter().map(u64::to_string)))
        }
        Change::SubscribedFrom { session, wanted, ticket: _ } => {
            let filters = wanted.iter().map(|wish| {
                let start = wish.start.map_or("now".to_owned(), |start| format!("position {}", start.0));
                format!("{:?} (QoS {}) from {start} on", wish.filter.as_str(), qos(wish.options.guarantee))
            });
            format!("session {session} subscribed to {}", list(filters))
        }
        Change::SubscribedWith { session, wanted, ticket: _ } => {
            let filters = wanted.iter().map(|(Wish { filter, options, start }, select)| {
                let start = start.map_or(String::new(), |start| format!(" from position {} on", start.0));
                let select =
                    select.as_ref().map_or(String::new(), |select| format!(" where {}", select.text));
                format!("{:?} (QoS {}){start}{select}", filter.as_str(), qos(options.guarantee))
            });
            format!("session {session} subscribed to {}", list(filters))
        }
        Change::Replayed { session, replay, step } => {
            let at = step.list.iter().map(|Assignment { position, .. }| position.0.to_string());
            let (from, to) = (replay.start.0, step.up_to.0);
            format!("session {session} replays from {from} on, up to {to} now: events at {}", list(at))
        }
        Change::Settled { filter, positions } => {
            let at = positions.iter().map(|position| position.0.to_string());
            format!("members of {:?} acknowledged the events at {}", filter.as_str(), list(at))
        }
    }
}

fn stays(keep_s: u64) -> String {
    // What MQTT calls for ever, and more.
    if keep_s >= u64::from(u32::MAX) { "for ever".to_owned() } else { format!("{keep_s} s") }
}

/// The first of many.
fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let more = items.len().saturating_sub(SHOWN);
    let mut text = items.take(SHOWN).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use event::TopicFilter;
    use event::hub::SubscribeOptions;

    use super::*;

    #[test]
    fn notes_are_told_in_words() {
        let retained = EventNote { retain: true, ..EventNote::new(Guarantee::ExactlyOnce) };
        let described = describe(&retained.encode());
        let what = What::Published { guarantee: Guarantee::ExactlyOnce, retain: true };
        assert_eq!(described, Described { what, text: "QoS 2, retained".to_owned() });
        let moved = EventNote { moved: Some(Position(77)), state_only: true, ..retained };
        assert_eq!(describe(&moved.encode()).what, What::Moved(Position(77)));
        assert_eq!(describe(&EventNote::new(Guarantee::AtLeastOnce).encode()).text, "");
        let filter = TopicFilter::parse("a/#").unwrap();
        let wanted = vec![(filter, SubscribeOptions::new(Guarantee::ExactlyOnce))];
        let change = Change::Subscribed { session: 5, ticket: 1, wanted };
        let described = describe(&change.encode());
        assert_eq!(
            (described.what, &*described.text),
            (What::State, "session 5 subscribed to \"a/#\" (QoS 2)")
        );
        let change = Change::Received { session: 5, numbers: (0..20).collect() };
        assert!(describe(&change.encode()).text.ends_with("7 and 12 more"));
        assert_eq!(describe(b"").what, What::Unknown);
        assert_eq!(describe(b"\x09what").text, "a note of 5 B that this weft does not know");
    }
}
