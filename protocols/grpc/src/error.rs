//! What EventMesh answers: the status codes of its gRPC services. Sans-io.
//!
//! They are texts in the attributes of the answer; the gRPC status is OK beside them. Their numbers are not those of
//! EventMesh over HTTP.

use event::{Reject, RejectKind};
use prost_types::Timestamp;

use crate::proto::{Attr, CloudEvent};

/// A status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All is done.
    Success,
    /// Too much at once; later it may pass.
    Overload,
    /// The attributes that say who asks are wrong.
    Header,
    /// What is asked is wrong.
    Body,
    /// Weft is stopping.
    Stopping,
    /// A batch was not kept.
    Batch,
    /// An event was not kept.
    Send,
    /// A reply could not be sent.
    Reply,
    /// Something failed that is none of the others.
    Runtime,
    /// A subscription could not be made.
    Subscribe,
    /// A subscription could not be ended.
    Unsubscribe,
    /// Not allowed, or not proved who it is.
    Acl,
    /// Faster than allowed.
    Rate,
    /// Nobody replied in time.
    RequestReply,
    /// The client has to subscribe again.
    Resubscribe,
}

impl Code {
    /// The code on the wire and the text that goes before the reason.
    pub const fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::Success => ("0", "success"),
            Self::Overload => ("1", "eventMesh overload, try later, "),
            Self::Header => ("6", "eventMesh CloudEvent[header] err, "),
            Self::Body => ("7", "eventMesh CloudEvent[body] err, "),
            Self::Stopping => ("8", "eventMesh will stop or had stopped, "),
            Self::Batch => ("10", "eventMesh batch publish messages error, "),
            Self::Send => ("14", "eventMesh send async msg err, "),
            Self::Reply => ("15", "eventMesh reply msg err, "),
            Self::Runtime => ("16", "eventMesh runtime err, "),
            Self::Subscribe => ("17", "eventMesh subscribe err"),
            Self::Unsubscribe => ("18", "eventMesh unsubscribe err"),
            Self::Acl => ("20", "eventMesh acl err"),
            Self::Rate => ("21", "eventMesh send message speed over the limit err."),
            Self::RequestReply => ("22", "eventMesh request reply msg err, "),
            Self::Resubscribe => ("30", "client needs to resubscribe."),
        }
    }

    /// The code for a refusal, where no other kind of work has a code of its own: `otherwise` is for what failed.
    pub fn of(kind: RejectKind, otherwise: Self) -> Self {
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
        self.row().0
    }
}

/// What became of a request: a code with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The code.
    pub code: Code,
    /// What is wrong, for people; may be empty.
    pub reason: String,
}

impl Answer {
    /// `code`, because of `reason`.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// All is done.
    pub fn success() -> Self {
        Self::new(Code::Success, "")
    }

    /// A refusal by the gate or the core; `otherwise` is for what failed.
    pub fn of(reject: &Reject, otherwise: Code) -> Self {
        Self::new(Code::of(reject.kind, otherwise), reject.reason.clone())
    }

    /// The text for people.
    pub fn message(&self) -> String {
        let (_, text) = self.code.row();
        match self.reason.is_empty() {
            true => text.to_owned(),
            false => format!("{} {}", text.trim_end(), self.reason),
        }
    }

    /// `event` with the attributes of this answer, given at `now_ms` (milliseconds since 1970).
    pub fn mark(&self, mut event: CloudEvent, now_ms: u64) -> CloudEvent {
        event.set("statuscode", Attr::String(self.code.row().0.to_owned()));
        event.set("responsemessage", Attr::String(self.message()));
        event.set("time", Attr::Timestamp(timestamp(now_ms)));
        event
    }

    /// This answer as an event of its own.
    pub fn event(&self, now_ms: u64) -> CloudEvent {
        let empty = CloudEvent {
            id: String::new(),
            source: "/".to_owned(),
            spec_version: "1.0".to_owned(),
            ty: "org.apache.eventmesh".to_owned(),
            attributes: Vec::with_capacity(3),
            data: None,
        };
        self.mark(empty, now_ms)
    }
}

fn timestamp(ms: u64) -> Timestamp {
    let nanos = i32::try_from(ms % 1000 * 1_000_000).unwrap_or_default();
    Timestamp { seconds: i64::try_from(ms / 1000).unwrap_or(i64::MAX), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_code() {
        for (kind, code) in [
            (RejectKind::Malformed, "7"),
            (RejectKind::Unproved, "20"),
            (RejectKind::Denied, "20"),
            (RejectKind::Busy, "1"),
            (RejectKind::Unavailable, "14"),
            (RejectKind::Closed, "8"),
        ] {
            let answer = Answer::of(&Reject::new(kind, "so"), Code::Send).event(1_700_000_000_123);
            assert_eq!(answer.text("statuscode"), Some(code));
            assert!(answer.text("responsemessage").is_some_and(|text| text.ends_with(" so")));
            let at = Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 };
            assert_eq!(answer.value("time"), Some(&Attr::Timestamp(at)));
        }
    }

    #[test]
    fn an_answer_replaces_what_the_request_said() {
        let mut request = CloudEvent::default();
        request.push_text("time", "x");
        request.push_text("idc", "FT");
        let marked = Answer::success().mark(request, 0);
        assert_eq!(marked.attributes.iter().filter(|entry| entry.name == "time").count(), 1);
        assert_eq!((marked.text("idc"), marked.text("statuscode")), (Some("FT"), Some("0")));
        assert_eq!(marked.text("responsemessage"), Some("success"));
    }
}
