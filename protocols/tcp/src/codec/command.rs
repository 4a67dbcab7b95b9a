//! Commands. Their numbers are never on the wire.

use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

/// What a frame asks for, or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are the protocol's")]
pub enum Command {
    HeartbeatRequest,
    HeartbeatResponse,
    HelloRequest,
    HelloResponse,
    ClientGoodbyeRequest,
    ClientGoodbyeResponse,
    ServerGoodbyeRequest,
    ServerGoodbyeResponse,
    SubscribeRequest,
    SubscribeResponse,
    UnsubscribeRequest,
    UnsubscribeResponse,
    ListenRequest,
    ListenResponse,
    RequestToServer,
    RequestToClient,
    RequestToClientAck,
    ResponseToServer,
    ResponseToClient,
    ResponseToClientAck,
    AsyncMessageToServer,
    AsyncMessageToServerAck,
    AsyncMessageToClient,
    AsyncMessageToClientAck,
    BroadcastMessageToServer,
    BroadcastMessageToServerAck,
    BroadcastMessageToClient,
    BroadcastMessageToClientAck,
    SysLogToLogserver,
    TraceLogToLogserver,
    RedirectToClient,
    RegisterRequest,
    RegisterResponse,
    UnregisterRequest,
    UnregisterResponse,
    RecommendRequest,
    RecommendResponse,
}

impl Command {
    /// The command of that name; `None`: there is no such command.
    pub fn parse(name: &str) -> Option<Self> {
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        Self::deserialize(name).ok()
    }

    /// What answers it, or refuses it. A command that a server never gets is refused under its own name, as EventMesh does.
    pub fn answer(self) -> Self {
        match self {
            Self::HeartbeatRequest => Self::HeartbeatResponse,
            Self::HelloRequest => Self::HelloResponse,
            Self::ClientGoodbyeRequest => Self::ClientGoodbyeResponse,
            Self::ServerGoodbyeRequest => Self::ServerGoodbyeResponse,
            Self::SubscribeRequest => Self::SubscribeResponse,
            Self::UnsubscribeRequest => Self::UnsubscribeResponse,
            Self::ListenRequest => Self::ListenResponse,
            Self::RequestToServer | Self::ResponseToServer => Self::ResponseToClient,
            Self::RequestToClient => Self::RequestToClientAck,
            Self::ResponseToClient => Self::ResponseToClientAck,
            Self::AsyncMessageToServer => Self::AsyncMessageToServerAck,
            Self::AsyncMessageToClient => Self::AsyncMessageToClientAck,
            Self::BroadcastMessageToServer => Self::BroadcastMessageToServerAck,
            Self::BroadcastMessageToClient => Self::BroadcastMessageToClientAck,
            Self::RegisterRequest => Self::RegisterResponse,
            Self::UnregisterRequest => Self::UnregisterResponse,
            Self::RecommendRequest => Self::RecommendResponse,
            Self::HeartbeatResponse
            | Self::HelloResponse
            | Self::ClientGoodbyeResponse
            | Self::ServerGoodbyeResponse
            | Self::SubscribeResponse
            | Self::UnsubscribeResponse
            | Self::ListenResponse
            | Self::RequestToClientAck
            | Self::ResponseToClientAck
            | Self::AsyncMessageToServerAck
            | Self::AsyncMessageToClientAck
            | Self::BroadcastMessageToServerAck
            | Self::BroadcastMessageToClientAck
            | Self::SysLogToLogserver
            | Self::TraceLogToLogserver
            | Self::RedirectToClient
            | Self::RegisterResponse
            | Self::UnregisterResponse
            | Self::RecommendResponse => self,
        }
    }
}
