//! What EventMesh answers: the `retCode`s of its HTTP protocol. Their numbers are not those of its gRPC services.

use axum::body::Body;
use axum::response::Response;
use event::{InvalidEvent, Reject, RejectKind};
use eventmesh::Unusable;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Serialize;
use webhook::Refused;

/// A `retCode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All is done.
    Success,
    /// Too much at once; later it may pass.
    Overload,
    /// There is no such request.
    Command,
    /// A request could not be sent.
    Ask,
    /// Nobody replied in time.
    Unanswered,
    /// The headers that say who asks are wrong, or the event's attributes.
    Header,
    /// What is asked is wrong.
    Body,
    /// The event is too large.
    TooLarge,
    /// Weft is stopping.
    Stopping,
    /// An event was not kept.
    Send,
    /// A reply could not be sent.
    Reply,
    /// A batch was not kept.
    Batch,
    /// A subscription could not be made.
    Subscribe,
    /// A subscription could not be ended.
    Unsubscribe,
    /// Not allowed, or not proved who it is.
    Acl,
    /// Faster than allowed.
    Rate,
    /// Weft does not do that.
    Operation,
}

impl Code {
    /// The number on the wire, and the text that goes before the reason.
    pub const fn row(self) -> (u16, &'static str) {
        match self {
            Self::Success => (0, "success"),
            Self::Overload => (1, "eventMesh overload, try later, "),
            Self::Command => (2, "requestCode can't be null, or must be number, or not supported, "),
            Self::Ask => (3, "eventMesh send rr msg err, "),
            Self::Unanswered => (4, "eventMesh waiting rr msg err, "),
            Self::Header => (6, "eventMesh protocol[header] err, "),
            Self::Body => (7, "eventMesh protocol[body] err, "),
            Self::TooLarge => (8, "Event size exceeds the limit: "),
            Self::Stopping => (9, "eventMesh will stop or had stopped, "),
            Self::Send => (15, "eventMesh send async msg err, "),
            Self::Reply => (16, "eventMesh reply msg err, "),
            Self::Batch => (17, "eventMesh send batchlog msg err, "),
            Self::Subscribe => (19, "eventMesh subscribe err, "),
            Self::Unsubscribe => (20, "eventMesh unsubscribe err, "),
            Self::Acl => (22, "eventMesh acl err, "),
            Self::Rate => (23, "eventMesh http msg send over the limit, "),
            Self::Operation => (100, "operate fail, "),
        }
    }

    /// The code for a refusal; `otherwise` is for what failed.
    fn of(kind: RejectKind, otherwise: Self) -> Self {
        match kind {
            RejectKind::Malformed => Self::Body,
            RejectKind::Unproved | RejectKind::Denied => Self::Acl,
            RejectKind::Busy => Self::Overload,
            RejectKind::Unavailable => otherwise,
            RejectKind::Closed => Self::Stopping,
        }
    }

    /// The word for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Success => "0",
            Self::Overload => "1",
            Self::Command => "2",
            Self::Ask => "3",
            Self::Unanswered => "4",
            Self::Header => "6",
            Self::Body => "7",
            Self::TooLarge => "8",
            Self::Stopping => "9",
            Self::Send => "15",
            Self::Reply => "16",
            Self::Batch => "17",
            Self::Subscribe => "19",
            Self::Unsubscribe => "20",
            Self::Acl => "22",
            Self::Rate => "23",
            Self::Operation => "100",
        }
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The code.
    pub code: Code,
    /// What is wrong, or the outcome, for people; may be empty.
    pub text: String,
    /// Where the outcome is for programs, `text` is all of `retMsg`.
    pub bare: bool,
    /// Members of the answer beside those that all have.
    pub members: serde_json::Map<String, serde_json::Value>,
    /// The status of HTTP: 200 also for most of what fails, as with EventMesh.
    pub status: StatusCode,
}

impl Answer {
    /// `code`, because of `text`.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        let status = if code == Code::Command { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Self { code, text: text.into(), bare: false, members: serde_json::Map::new(), status }
    }

    /// All is done, and `text` is its outcome.
    pub fn outcome(text: String) -> Self {
        Self { bare: true, ..Self::new(Code::Success, text) }
    }

    /// The same with another status of HTTP.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// A refusal by the gate or the core; `otherwise` is for what failed.
    pub fn of(reject: &Reject, otherwise: Code) -> Self {
        Self::new(Code::of(reject.kind, otherwise), reject.reason.clone())
    }

    /// Why a webhook was not subscribed.
    pub fn of_subscribe(refused: &Refused) -> Self {
        match refused {
            Refused::Url(_) | Refused::Consent(..) | Refused::Name(_) => {
                Self::new(Code::Body, refused.to_string())
            }
            Refused::Rejected(reject) => Self::of(reject, Code::Subscribe),
        }
    }

    /// `retMsg`.
    pub fn message(&self) -> String {
        let (_, text) = self.code.row();
        match (self.bare, self.text.is_empty()) {
            (true, _) => self.text.clone(),
            (false, true) => text.trim_end_matches([' ', ',', ':']).to_owned(),
            (false, false) => format!("{text}{}", self.text),
        }
    }

    /// The response to a request that asked for `code`, given at `now_ms` (milliseconds since 1970), with headers that tell who
    /// Weft is.
    pub(crate) fn into_response(
        self,
        code: Option<&HeaderValue>,
        now_ms: u64,
        common: &eventmesh::Options,
    ) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            ret_code: u16,
            ret_msg: String,
            res_time: u64,
            #[serde(flatten)]
            members: serde_json::Map<String, serde_json::Value>,
        }
        let (number, _) = self.code.row();
        let ret_msg = self.message();
        let page = Page { ret_code: number, ret_msg, res_time: now_ms, members: self.members };
        let mut response = Response::new(Body::from(serde_json::to_vec(&page).unwrap_or_default()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in common.headers() {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        if let Some(code) = code {
            headers.insert(HeaderName::from_static("code"), code.clone());
        }
        response
    }
}

/// Why something that was to be published is no event: EventMesh tells apart what it is told about the event (6) and the rest (7).
impl From<Unusable> for Answer {
    fn from(error: Unusable) -> Self {
        let code = match &error {
            Unusable::NoSubject | Unusable::Event(InvalidEvent::Attribute { .. }) => Code::Header,
            Unusable::Kind(_)
            | Unusable::OpenMessage
            | Unusable::Version(_)
            | Unusable::Message(_)
            | Unusable::Event(_)
            | Unusable::Name(_)
            | Unusable::Property(..) => Code::Body,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_code() {
        for (kind, number) in [
            (RejectKind::Malformed, 7),
            (RejectKind::Unproved, 22),
            (RejectKind::Denied, 22),
            (RejectKind::Busy, 1),
            (RejectKind::Unavailable, 15),
            (RejectKind::Closed, 9),
        ] {
            let answer = Answer::of(&Reject::new(kind, "so"), Code::Send);
            assert_eq!(answer.code.row().0, number);
            assert!(answer.message().ends_with(" so"), "{}", answer.message());
        }
        assert_eq!(Answer::new(Code::Success, "").message(), "success");
        assert_eq!(Answer::new(Code::Acl, "").message(), "eventMesh acl err");
        assert_eq!(Answer::outcome("{}".to_owned()).message(), "{}");
    }

    #[test]
    fn labels_are_the_numbers() {
        for code in [Code::Success, Code::TooLarge, Code::Send, Code::Rate, Code::Operation] {
            assert_eq!(code.label(), code.row().0.to_string());
        }
    }
}
