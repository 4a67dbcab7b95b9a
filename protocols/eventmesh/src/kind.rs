//! The kinds of payload (`protocoltype`).

use event::Event;

/// Property: the kind of the payload, a [`Kind`].
pub const PROTOCOL_TYPE: &str = "protocoltype";
/// Property: the version of that, `1.0` or `0.3`.
pub const PROTOCOL_VERSION: &str = "protocolversion";
/// Property: what carried the event in: `tcp`, `http` or `grpc-cloud-event`.
pub const PROTOCOL_DESC: &str = "protocoldesc";

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// EventMesh's own message of texts, an [`crate::EventMeshMessage`].
    EventMeshMessage,
    /// A CloudEvent in JSON.
    CloudEvents,
    /// OpenMessaging: named by SDKs, and taken by no EventMesh.
    OpenMessage,
}

impl Kind {
    /// The `type` of events that came as an EventMeshMessage by TCP or HTTP.
    pub const MESSAGE_TYPE: &str = "eventmeshmessage";
    /// The `type` that SDKs give an EventMeshMessage by gRPC.
    pub const GRPC_MESSAGE_TYPE: &str = "org.apache.eventmesh";

    /// The kind of that name; `None`: there is no such kind. SDKs up to 1.2 name none, and mean an EventMeshMessage.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("eventmeshmessage") => Some(Self::EventMeshMessage),
            Some("cloudevents") => Some(Self::CloudEvents),
            Some("openmessage") => Some(Self::OpenMessage),
            Some(_) => None,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventMeshMessage => "eventmeshmessage",
            Self::CloudEvents => "cloudevents",
            Self::OpenMessage => "openmessage",
        }
    }

    /// What `event` is by nature: for subscribers that do not say what they speak. A publish that is no CloudEvent counts as
    /// an EventMeshMessage if its data is text, which is all that one can carry.
    pub fn of(event: &Event) -> Self {
        match event.attributes() {
            Some(attributes) if &*attributes.ty == Self::MESSAGE_TYPE => Self::EventMeshMessage,
            Some(attributes) if &*attributes.ty == Self::GRPC_MESSAGE_TYPE && &*attributes.source == "/" => {
                Self::EventMeshMessage
            }
            Some(_) => Self::CloudEvents,
            None if std::str::from_utf8(event.data()).is_ok() => Self::EventMeshMessage,
            None => Self::CloudEvents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for kind in [Kind::EventMeshMessage, Kind::CloudEvents, Kind::OpenMessage] {
            assert_eq!(Kind::parse(Some(kind.as_str())), Some(kind));
        }
        assert_eq!(Kind::parse(None), Some(Kind::EventMeshMessage));
        assert_eq!(Kind::parse(Some("nosuch")), None);
    }
}
