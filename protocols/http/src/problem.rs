//! Refusals as problem details (RFC 9457). The `type` of each is stable; programs may depend on it.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use event::{InvalidEvent, Reject, RejectKind};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    kept: Vec<String>,
    refused: Vec<Refused>,
    /// When to try again, in seconds, if that is known better than by the kind.
    retry_after: Option<u64>,
}

/// One event of a batch that was not kept.
#[derive(Debug, Serialize)]
pub(crate) struct Refused {
    /// Its place in the batch, from 0.
    pub(crate) index: usize,
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) ty: &'static str,
    pub(crate) detail: String,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Query,
    Event,
    Version,
    Topic,
    MediaType,
    TooLarge,
    Timeout,
    Unanswered,
    Origin,
    Method,
    Rejected(RejectKind),
}

impl Kind {
    /// `type`, status and title.
    fn row(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Query => {
                ("urn:weft:problem:query", StatusCode::BAD_REQUEST, "The query of the request is wrong")
            }
            Self::Event => ("urn:weft:problem:event", StatusCode::BAD_REQUEST, "Not a CloudEvent"),
            Self::Version => {
                ("urn:weft:problem:specversion", StatusCode::BAD_REQUEST, "Unknown version of CloudEvents")
            }
            Self::Topic => {
                ("urn:weft:problem:topic", StatusCode::BAD_REQUEST, "Not a topic, or not a topic filter")
            }
            Self::MediaType => (
                "urn:weft:problem:media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unknown format of CloudEvents",
            ),
            Self::TooLarge => {
                ("urn:weft:problem:too-large", StatusCode::PAYLOAD_TOO_LARGE, "Too much at once")
            }
            Self::Timeout => {
                ("urn:weft:problem:timeout", StatusCode::REQUEST_TIMEOUT, "The request took too long")
            }
            Self::Unanswered => {
                ("urn:weft:problem:unanswered", StatusCode::GATEWAY_TIMEOUT, "Nobody answered in time")
            }
            Self::Origin => {
                ("urn:weft:problem:origin", StatusCode::FORBIDDEN, "Web pages of this origin may not")
            }
            Self::Method => ("urn:weft:problem:method", StatusCode::METHOD_NOT_ALLOWED, "Unknown method"),
            Self::Rejected(RejectKind::Malformed) => {
                ("urn:weft:problem:malformed", StatusCode::BAD_REQUEST, "The event cannot be kept as it is")
            }
            Self::Rejected(RejectKind::Unproved) => {
                ("urn:weft:problem:unproved", StatusCode::UNAUTHORIZED, "Credentials are missing or wrong")
            }
            Self::Rejected(RejectKind::Denied) => {
                ("urn:weft:problem:denied", StatusCode::FORBIDDEN, "Not allowed")
            }
            Self::Rejected(RejectKind::Busy) => (
                "urn:weft:problem:busy",
                StatusCode::TOO_MANY_REQUESTS,
                "A limit is reached; try again later",
            ),
            Self::Rejected(RejectKind::Unavailable) => (
                "urn:weft:problem:unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The store is not available",
            ),
            Self::Rejected(RejectKind::Closed) => {
                ("urn:weft:problem:closed", StatusCode::SERVICE_UNAVAILABLE, "Weft is stopping")
            }
        }
    }

    /// When to try again, in seconds.
    fn retry_after(self) -> Option<u64> {
        match self {
            Self::Rejected(RejectKind::Busy) => Some(1),
            Self::Rejected(RejectKind::Unavailable | RejectKind::Closed) => Some(5),
            Self::Rejected(RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied)
            | Self::Query
            | Self::Event
            | Self::Version
            | Self::Topic
            | Self::MediaType
            | Self::TooLarge
            | Self::Timeout
            | Self::Unanswered
            | Self::Origin
            | Self::Method => None,
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), kept: Vec::new(), refused: Vec::new(), retry_after: None }
    }

    /// It is about the event at `index` of a batch.
    pub(crate) fn of_event(mut self, index: usize) -> Self {
        self.detail = format!("event {index}: {}", self.detail);
        self
    }

    /// Not all of a batch was kept: `kept` was, by id; `refused` was not, each with its reason.
    pub(crate) fn partly(first: &Reject, kept: Vec<String>, refused: Vec<Refused>) -> Self {
        let detail =
            format!("{} of {} events were not kept: {first}", refused.len(), refused.len() + kept.len());
        Self { kept, refused, ..Self::new(Kind::Rejected(first.kind), detail) }
    }

    /// Too much was sent; after `wait` there may be more.
    pub(crate) fn too_fast(wait: Duration) -> Self {
        let kind = Kind::Rejected(RejectKind::Busy);
        let detail = "more was sent than this client or user may send; nothing of this request was kept";
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self { retry_after: Some(seconds.max(1)), ..Self::new(kind, detail) }
    }
}

impl Refused {
    pub(crate) fn new(index: usize, id: String, reject: &Reject) -> Self {
        Self { index, id, ty: Kind::Rejected(reject.kind).row().0, detail: reject.to_string() }
    }
}

impl From<InvalidEvent> for Problem {
    fn from(error: InvalidEvent) -> Self {
        let kind = match error {
            InvalidEvent::Version(_) => Kind::Version,
            InvalidEvent::Json(_) | InvalidEvent::Attribute { .. } | InvalidEvent::Data(_) => Kind::Event,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Reject> for Problem {
    fn from(reject: Reject) -> Self {
        Self::new(Kind::Rejected(reject.kind), reject.reason)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Details {
            #[serde(rename = "type")]
            ty: &'static str,
            title: &'static str,
            status: u16,
            detail: String,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            kept: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            refused: Vec<Refused>,
        }
        let (ty, status, title) = self.kind.row();
        let retry_after = self.retry_after.or(self.kind.retry_after());
        let Self { detail, kept, refused, .. } = self;
        let details = Details { ty, title, status: status.as_u16(), detail, kept, refused };
        let mut response = Response::new(Body::from(serde_json::to_vec(&details).unwrap_or_default()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            for challenge in [r#"Basic realm="weft", charset="UTF-8""#, r#"Bearer realm="weft""#] {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
