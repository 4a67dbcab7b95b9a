//! What a peer can do wrong, and what it is told.

use event::RejectKind;

/// The peer broke the protocol: say goodbye with code 1 and this text, and close.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not an EventMesh client.
    #[error("the frame does not begin with \"EventMesh\" and version \"0000\"")]
    Magic,
    /// Lengths that no frame has.
    #[error("package length {package} does not go with header length {header}")]
    Length {
        /// The package length of the frame.
        package: u32,
        /// The header length of the frame.
        header: u32,
    },
    /// More than the limit, told before it is read.
    #[error("frame of {len} B, limit {max} B")]
    TooLarge {
        /// The package length of the frame, bytes.
        len: u32,
        /// The limit, bytes.
        max: u32,
    },
    /// A header longer than any client's.
    #[error("header of {len} B, limit {max} B")]
    HeaderTooLarge {
        /// Its length, bytes.
        len: u32,
        /// The limit, bytes.
        max: u32,
    },
    /// A header that is no JSON object with a `cmd`.
    #[error("the header is not readable: {0}")]
    Header(String),
    /// A command that does not exist.
    #[error("command {0:?} is not known")]
    Command(String),
    /// No HELLO in time.
    #[error("no HELLO_REQUEST within {0} ms")]
    NoHello(u32),
    /// Nothing was heard of the client: it is gone, or the network is.
    #[error("no heartbeat within {0} ms")]
    Silent(u32),
    /// The client takes nothing of what is written for it.
    #[error("nothing was taken for {0} ms")]
    Stuck(u32),
    /// The client has an event and does not acknowledge it: others of its group get it.
    #[error("no acknowledgement within {0} ms")]
    NoAck(u32),
}

impl Violation {
    /// The label of metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Magic => "magic",
            Self::Length { .. } => "length",
            Self::TooLarge { .. } => "too_large",
            Self::HeaderTooLarge { .. } => "header_too_large",
            Self::Header(_) => "header",
            Self::Command(_) => "command",
            Self::NoHello(_) => "no_hello",
            Self::Silent(_) => "silent",
            Self::Stuck(_) => "stuck",
            Self::NoAck(_) => "no_ack",
        }
    }
}

/// The code of an answer (`OPStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Success,
    /// Not done.
    Fail,
    /// Not allowed.
    AclFail,
    /// Too much at the moment.
    TpsOverload,
}

impl Code {
    /// Its number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Fail => 1,
            Self::AclFail => 2,
            Self::TpsOverload => 3,
        }
    }
}

impl From<RejectKind> for Code {
    fn from(kind: RejectKind) -> Self {
        match kind {
            RejectKind::Malformed | RejectKind::Unavailable | RejectKind::Closed => Self::Fail,
            RejectKind::Unproved | RejectKind::Denied => Self::AclFail,
            RejectKind::Busy => Self::TpsOverload,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_code() {
        for (kind, code) in [
            (RejectKind::Malformed, 1),
            (RejectKind::Unproved, 2),
            (RejectKind::Denied, 2),
            (RejectKind::Busy, 3),
            (RejectKind::Unavailable, 1),
            (RejectKind::Closed, 1),
        ] {
            assert_eq!(Code::from(kind).number(), code, "{}", kind.as_str());
        }
    }
}
