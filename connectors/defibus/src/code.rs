//! The codes that RocketMQ does not have.

/// Codes of requests.
pub mod request {
    /// Broker to requester, without an answer: the reply to a request.
    pub const PUSH_REPLY: i32 = 400;
    /// Sends a message that the broker hands on as its `msgType` says; header fields have one-letter names.
    pub const SEND_DIRECT_V2: i32 = 403;
    /// Asks for the members of a group that subscribe one topic.
    pub const MEMBERS_OF_TOPIC: i32 = 507;
    /// Broker to consumers of a topic, without an answer: its queues changed.
    pub const TOPIC_CHANGED: i32 = 508;
    /// Makes or changes a topic. RocketMQ's own code; DeFiBus reads `maxQueueDepth` too.
    pub const CREATE_TOPIC: i32 = 17;
    /// Asks a name server for all brokers. RocketMQ's own code.
    pub const CLUSTER_INFO: i32 = 106;
}

/// Codes of answers.
pub mod response {
    /// CONSUME_DIFF_SPAN_TOO_LONG, the circuit break: the consumers of a queue are too far behind, it takes no more.
    pub const CIRCUIT_BREAK: i32 = 301;
}
