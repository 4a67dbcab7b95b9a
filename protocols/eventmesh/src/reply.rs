//! Replies: where one goes.
//!
//! A request carries where its reply is expected ([`event::Meta::reply_to`]) and what the reply repeats
//! ([`event::Meta::correlation`]): for MQTT 5 these are Response Topic and Correlation Data, for EventMesh the properties
//! `replyto` and `correlationdata`. EventMesh responders send back the properties that the request came with, so both return.

use bytes::Bytes;
use event::{Parts, REPLY_TOPICS, TopicName};

use crate::payload::property;

/// As whom a reply is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responder {
    /// As Weft: the topic is below [`REPLY_TOPICS`]. No rule has to allow clients these topics.
    Weft,
    /// As the client, with its rights: the requester chose the topic.
    Client,
}

/// A reply that does not say what it replies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply has no property replyto: send it with all properties of the request that it answers")]
pub struct NotARequest;

/// Turns `parts`, in which a responder sent back what the request said, into the reply: the topic is where it is expected.
///
/// # Errors
/// It does not say where that is.
pub fn address_reply(parts: &mut Parts) -> Result<Responder, NotARequest> {
    let meta = parts.meta.as_deref_mut().ok_or(NotARequest)?;
    let (named, correlation) = (property(meta, ROCKETMQ_REPLY_TO), property(meta, ROCKETMQ_CORRELATION));
    let named = named.and_then(|name| TopicName::parse(&*name).ok());
    let correlation = correlation.map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let topic = meta.reply_to.take().or(named).filter(|topic| !topic.is_reserved()).ok_or(NotARequest)?;
    meta.correlation = meta.correlation.take().or(correlation);
    let weft = topic.as_str().starts_with(REPLY_TOPICS);
    parts.topic = topic;
    Ok(if weft { Responder::Weft } else { Responder::Client })
}

/// What RocketMQ calls the two; `99` stands for `_`.
const ROCKETMQ_REPLY_TO: &str = "reply99to99client";
const ROCKETMQ_CORRELATION: &str = "correlation99id";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Arrival, EventMeshMessage};

    fn parts(properties: &[(&'static str, &'static str)]) -> Parts {
        let properties = properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let message = EventMeshMessage { topic: "t".into(), properties, ..EventMeshMessage::default() };
        let arrival = Arrival { publisher: &Arc::from("me"), stamp: 1, now_ms: 2 };
        message.into_payload(arrival).unwrap().parts_mut().clone()
    }

    #[test]
    fn a_reply_goes_where_the_request_says() {
        for (properties, topic, responder, correlation) in [
            (
                &[("replyto", "$reply/x"), ("correlationdata", "AQI=")][..],
                "$reply/x",
                Responder::Weft,
                &[1, 2][..],
            ),
            (&[("replyto", "dev/answers")], "dev/answers", Responder::Client, &[]),
            (&[("reply99to99client", "q"), ("correlation99id", "77")], "q", Responder::Client, b"77"),
        ] {
            let mut parts = parts(properties);
            assert_eq!(address_reply(&mut parts), Ok(responder));
            assert_eq!(parts.topic.as_str(), topic);
            let meta = parts.meta.unwrap();
            assert_eq!(
                (meta.correlation.unwrap_or_default(), meta.reply_to),
                (correlation.to_vec().into(), None)
            );
        }
    }

    #[test]
    fn what_answers_nothing_is_told_apart() {
        for properties in [&[][..], &[("replyto", "$SYS/x")], &[("replyto", "a/#")]] {
            assert_eq!(address_reply(&mut parts(properties)), Err(NotARequest));
        }
    }
}
