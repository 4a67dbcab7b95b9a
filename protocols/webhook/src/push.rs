//! What is posted to a webhook, and what its answer means. Sans-io.
//!
//! | answer | means |
//! |---|---|
//! | 200, 201, 202 or 204 with JSON `{"retCode": 2}` (retry) or `5` (nobody listens) | again, later |
//! | the same statuses with any other body | done |
//! | 429 with `Retry-After` in figures | again after so many **milliseconds** |
//! | 410, 415 | given up |
//! | any other status, no answer | again, later |

use std::borrow::Cow;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

/// An event as it is posted: each protocol has its own way to fill it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Headers beside those that all have: names in lower case, and values.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// Field `content`.
    pub content: String,
    /// Field `bizseqno`.
    pub seq_num: String,
    /// Field `uniqueId`.
    pub unique_id: String,
    /// Field `topic`.
    pub topic: String,
    /// Field `extFields`: names and values.
    pub extensions: Vec<(String, String)>,
}

/// What becomes of an event that was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The webhook has it.
    Done,
    /// Post it again, after this time if that is given.
    Again(Option<Duration>),
    /// The webhook will never take it.
    GivenUp,
}

/// The media type of [`Push::body`].
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=UTF-8";

/// Headers that all have, beside those that tell who Weft is.
pub const HEADERS: [(&str, &str); 2] = [("language", "JAVA"), ("version", "1.0")];

/// Header: who wants to post (CloudEvents webhooks §4.1.1).
pub const REQUEST_ORIGIN: &str = "webhook-request-origin";
/// Header of a webhook's answer to OPTIONS: who may post (CloudEvents webhooks §4.2.1).
pub const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";

/// Header there: how many posts a minute it takes, or `*` (CloudEvents webhooks §4.2.2).
pub const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// Whether a webhook whose answer to OPTIONS has these [`ALLOWED_ORIGIN`]s lets `origin` post to it; `None`: it says nothing of it.
pub fn consents<'a>(allowed: impl Iterator<Item = &'a str>, origin: &str) -> Option<bool> {
    let named = |one: &str| one.trim() == "*" || one.trim().eq_ignore_ascii_case(origin);
    allowed.map(|origins| origins.split(',').any(named)).reduce(|one, other| one || other)
}

/// What Weft signs its posts with, so that a webhook can tell them from others': the three headers of Standard Webhooks.
///
/// | header | value |
/// |---|---|
/// | `webhook-id` | the same each time that an event is posted |
/// | `webhook-timestamp` | seconds since 1970 of this post |
/// | `webhook-signature` | `v1,` and base64 of HMAC-SHA256 over id, `.`, timestamp, `.`, body |
#[derive(Debug)]
pub struct Secret(hmac::Key);

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// After `whsec_` there has to be base64.
    #[error("what follows whsec_ is no base64")]
    Base64,
    /// It could be guessed.
    #[error("it has less than 24 bytes")]
    Short,
}

impl Secret {
    /// Reads one: `whsec_` and base64, or the bytes of the text itself. White space around it does not count.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let text = text.trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(coded) => STANDARD.decode(coded).map_err(|_| BadSecret::Base64)?,
            None => text.as_bytes().to_vec(),
        };
        match bytes.len() {
            0..24 => Err(BadSecret::Short),
            _ => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))),
        }
    }

    /// The three headers for a post of `body`, the event with this stamp, at `seconds` since 1970.
    pub fn sign(&self, stamp: u64, seconds: u64, body: &[u8]) -> [(&'static str, String); 3] {
        self.sign_as(format!("msg_{stamp:016x}"), seconds, body)
    }

    fn sign_as(&self, id: String, seconds: u64, body: &[u8]) -> [(&'static str, String); 3] {
        let seconds = seconds.to_string();
        let mut sum = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
            sum.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(sum.sign()));
        [("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature)]
    }
}

impl Push {
    /// The form that is posted at `now_ms` (milliseconds since 1970). `random`: four figures.
    pub fn body(&self, now_ms: u64, random: u16) -> Bytes {
        let extensions: serde_json::Map<String, serde_json::Value> =
            self.extensions.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(self.content.len() + 512));
        form.append_pair("content", &self.content)
            .append_pair("bizseqno", &self.seq_num)
            .append_pair("uniqueId", &self.unique_id)
            .append_pair("randomNo", &format!("{now_ms}{:04}", random % 10_000))
            .append_pair("topic", &self.topic)
            .append_pair("extFields", &serde_json::Value::Object(extensions).to_string());
        form.finish().into()
    }
}

impl Verdict {
    /// What an answer means. `retry_after`: the header of that name.
    pub fn of(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "retCode")]
            code: i64,
        }
        match status {
            200 | 201 | 202 | 204 => match serde_json::from_slice::<Answer>(body) {
                Ok(Answer { code: 2 | 5 }) => Self::Again(None),
                Ok(_) | Err(_) => Self::Done,
            },
            429 => {
                Self::Again(retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_millis))
            }
            410 | 415 => Self::GivenUp,
            _ => Self::Again(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_eventmesh_means() {
        for (status, header, body, want) in [
            (200, None, r#"{"retCode":0}"#, Verdict::Done),
            (201, None, r#"{"retCode":1}"#, Verdict::Done),
            (202, None, r#"{"retCode":3}"#, Verdict::Done),
            (204, None, "", Verdict::Done),
            (200, None, "not json", Verdict::Done),
            (200, None, r#"{"retCode":"2"}"#, Verdict::Done),
            (200, None, r#"{"retCode":2}"#, Verdict::Again(None)),
            (200, None, r#"{"retCode":5}"#, Verdict::Again(None)),
            (429, Some("1500"), "", Verdict::Again(Some(Duration::from_millis(1500)))),
            (429, Some("Thu, 01 Jan 1970"), "", Verdict::Again(None)),
            (410, None, "", Verdict::GivenUp),
            (415, None, "", Verdict::GivenUp),
            (500, None, r#"{"retCode":0}"#, Verdict::Again(None)),
            (302, None, "", Verdict::Again(None)),
        ] {
            assert_eq!(Verdict::of(status, header, body.as_bytes()), want, "{status} {body}");
        }
    }

    #[test]
    fn a_webhook_that_names_others_only_does_not_consent() {
        for (allowed, want) in [
            (&[][..], None),
            (&["*"], Some(true)),
            (&["eventmesh.DEFAULT"], Some(true)),
            (&["a.example, EVENTMESH.default"], Some(true)),
            (&["a.example", "*"], Some(true)),
            (&["a.example"], Some(false)),
            (&[""], Some(false)),
        ] {
            assert_eq!(consents(allowed.iter().copied(), "eventmesh.DEFAULT"), want, "{allowed:?}");
        }
    }

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the specification's libraries.
        let secret = Secret::parse(" whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let [id, seconds, signature] = secret.sign_as(
            "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(id, ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()));
        assert_eq!(seconds, ("webhook-timestamp", "1614265330".to_owned()));
        assert_eq!(signature.1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(Secret::parse("short").unwrap_err(), BadSecret::Short);
        assert_eq!(Secret::parse("whsec_???").unwrap_err(), BadSecret::Base64);
    }

    #[test]
    fn a_push_is_a_form() {
        let push = Push {
            content: "a&b=ą".to_owned(),
            seq_num: "1".to_owned(),
            unique_id: "2".to_owned(),
            topic: "t".to_owned(),
            extensions: vec![("x".to_owned(), "\"".to_owned())],
            ..Push::default()
        };
        let body = String::from_utf8(push.body(77, 12_345).to_vec()).unwrap();
        assert_eq!(
            body,
            "content=a%26b%3D%C4%85&bizseqno=1&uniqueId=2&randomNo=772345&topic=t&extFields=%7B%22x%22%3A%22%5C%22%22%7D"
        );
    }
}
