//! What an event asks for with its attributes. They may be extension attributes of a CloudEvent or user properties of
//! MQTT 5: every protocol carries one of the two.
//!
//! | name | value | |
//! |---|---|---|
//! | `delayms` | Integer | publish it so many milliseconds later |
//! | `deliverytime` | Timestamp | publish it at that time |
//! | `transaction` | `half`, `commit`, `rollback` | keep it until its publisher decides; the decision |
//! | `transactionid` | text of 1 to 128 bytes | which transaction of the topic |

use event::event::Meta;
use event::hub::Publish;
use event::store::Entry;
use event::{Event, Reject, RejectKind};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Transaction, Until};
use crate::notes::Change;
use crate::publish::Marks;
use crate::shared::{Shared, now_ms};

const DELAY: &str = "delayms";
const TIME: &str = "deliverytime";
const TRANSACTION: &str = "transaction";
const TRANSACTION_ID: &str = "transactionid";

/// The longest id of a transaction, in bytes.
const ID_MAX: usize = 128;

/// What becomes of a publish.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It is a plain one.
    Nothing,
    /// This record stands for it.
    Record(Entry),
    /// What it asks for is done already.
    Done,
}

/// Looks at what a publish asks for, beside being published.
///
/// # Errors
/// It makes no sense, or there is no room for it.
pub(crate) fn asked(shared: &Shared, publish: &Publish, marks: Marks<'_>) -> Result<Asked, Reject> {
    let Some(meta) = publish.event.meta() else { return Ok(Asked::Nothing) };
    match read(meta, now_ms) {
        Ok(None) => Ok(Asked::Nothing),
        Ok(Some(ask)) => perform(shared, publish, marks, ask),
        Err(reason) => Err(Reject::new(RejectKind::Malformed, reason)),
    }
}

/// What one asks for.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Time(u64),
    Half(String),
    Decide(String, bool),
}

/// `now_ms` is asked for only if it matters: most events ask for nothing.
fn read(meta: &Meta, now_ms: impl Fn() -> u64) -> Result<Option<Ask>, String> {
    if let Some(text) = meta.value(TRANSACTION) {
        let id = meta.value(TRANSACTION_ID).unwrap_or_default().into_owned();
        if id.is_empty() || id.len() > ID_MAX {
            return Err(format!("{TRANSACTION} needs a {TRANSACTION_ID} of 1 to {ID_MAX} bytes"));
        }
        return match &*text {
            "half" => Ok(Some(Ask::Half(id))),
            "commit" => Ok(Some(Ask::Decide(id, true))),
            "rollback" => Ok(Some(Ask::Decide(id, false))),
            _ => Err(format!("{TRANSACTION} is {text:?}; write \"half\", \"commit\" or \"rollback\"")),
        };
    }
    let at_ms = if let Some(text) = meta.value(DELAY) {
        let delay: u64 = text.parse().map_err(|_| format!("{DELAY} is {text:?}; write milliseconds"))?;
        now_ms().saturating_add(delay)
    } else if let Some(text) = meta.value(TIME) {
        let at = OffsetDateTime::parse(&text, &Rfc3339)
            .map_err(|_| format!("{TIME} is {text:?}; write a time such as \"2030-01-31T12:00:00Z\""))?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
    } else {
        return Ok(None);
    };
    Ok((at_ms > now_ms()).then_some(Ask::Time(at_ms)))
}

fn perform(shared: &Shared, publish: &Publish, marks: Marks<'_>, ask: Ask) -> Result<Asked, Reject> {
    let malformed = |reason: String| Reject::new(RejectKind::Malformed, reason);
    let topic = publish.event.topic().as_str().to_owned();
    let id = marks.id(publish);
    let options = &shared.options.held;
    let until = match ask {
        Ask::Decide(name, commit) => {
            let decided = shared.held.lock().decide(&Transaction { topic, id: name }, commit);
            return Ok(decided.map_err(malformed)?.map_or(Asked::Done, |held| {
                Asked::Record(Entry { event: None, note: Change::Decided { held, commit, id }.encode() })
            }));
        }
        Ask::Time(at_ms) if at_ms > now_ms().saturating_add(u64::from(options.delay_max_s) * 1000) => {
            let reason =
                format!("delivery more than {} s from now (core.held.delay_max_s)", options.delay_max_s);
            return Err(malformed(reason));
        }
        Ask::Time(at_ms) => Until::Time(at_ms),
        Ask::Half(name) => Until::Decision(Transaction { topic, id: name }),
    };
    let held = shared.held.lock();
    if let Until::Decision(transaction) = &until
        && held.is_open(transaction)
    {
        return Err(malformed(format!("transaction {:?} waits already on this topic", transaction.id)));
    }
    let full = held.len() >= options.events as usize
        || held.bytes().saturating_add(publish.event.weight()) > options.bytes.as_usize();
    if full {
        let reason = "the limit of delayed events and transactions is reached; raise core.held.events or core.held.bytes";
        return Err(Reject::new(RejectKind::Busy, reason));
    }
    drop(held);
    let change = Change::Held {
        held: shared.stamps.clone().take(),
        client: event::ClientId::from(&**publish.event.publisher()),
        guarantee: publish.guarantee,
        retain: publish.retain,
        id,
        until,
        moved: false,
    };
    Ok(Asked::Record(Entry { event: Some(publish.event.clone()), note: change.encode() }))
}

/// The event as it is published in the end, at `now_ms`: it asks for nothing any more.
pub(super) fn answered(event: &Event, now_ms: u64) -> Event {
    let mut parts = event.parts().clone();
    parts.received_ms = now_ms;
    if let Some(meta) = &mut parts.meta {
        let asks = |name: &str| matches!(name, DELAY | TIME | TRANSACTION);
        meta.user.retain(|(name, _)| !asks(name));
        if let Some(attributes) = &mut meta.attributes {
            attributes.extensions.retain(|(name, _)| !asks(name));
        }
    }
    Event::new(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(pairs: &[(&str, &str)]) -> Meta {
        let user = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Meta { user, ..Meta::default() }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        for (pairs, ask) in [
            (&[("colour", "green")][..], None),
            (&[("delayms", "0")], None),
            (&[("delayms", "250")], Some(Ask::Time(1250))),
            (&[("deliverytime", "1970-01-01T00:00:02.5Z")], Some(Ask::Time(2500))),
            (&[("deliverytime", "1960-01-01T00:00:00Z")], None),
            (&[("transaction", "half"), ("transactionid", "t")], Some(Ask::Half("t".into()))),
            (&[("transaction", "commit"), ("transactionid", "t")], Some(Ask::Decide("t".into(), true))),
            (&[("transactionid", "t"), ("transaction", "rollback")], Some(Ask::Decide("t".into(), false))),
            (&[("transactionid", "t")], None),
        ] {
            assert_eq!(read(&meta(pairs), || 1000), Ok(ask), "{pairs:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let long = "x".repeat(129);
        for (pairs, part) in [
            (&[("delayms", "soon")][..], "milliseconds"),
            (&[("delayms", "-1")], "milliseconds"),
            (&[("deliverytime", "tomorrow")], "2030"),
            (&[("transaction", "half")], "1 to 128 bytes"),
            (&[("transaction", "half"), ("transactionid", &long)], "1 to 128 bytes"),
            (&[("transaction", "maybe"), ("transactionid", "t")], "\"half\""),
        ] {
            let error = read(&meta(pairs), || 1000).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
