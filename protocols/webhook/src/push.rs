//! What is posted to a webhook, and what its answer means. Sans-io.
//!
//! | answer | means |
//! |---|---|
//! | 200, 201, 202 or 204 with JSON `{"retCode": 2}` (retry) or `5` (nobody listens) | again, later |
//! | the same statuses with any other body | done |
//! | 429 with `Retry-After` in figures | again after so many **milliseconds** |
//! | 410, 415 | given up |
//! | any other status, no answer | again, later |

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

/// An event as it is posted: each protocol has its own way to fill it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Push {
    /// Headers beside those that all have: names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
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

/// Headers that all have.
pub const HEADERS: [(&str, &str); 7] = [
    ("language", "JAVA"),
    ("version", "1.0"),
    ("eventmeshcluster", "weft"),
    ("eventmeship", "127.0.0.1"),
    ("eventmeshenv", "weft"),
    ("eventmeshidc", "DEFAULT"),
    ("webhook-request-origin", "eventmesh.DEFAULT"),
];

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
