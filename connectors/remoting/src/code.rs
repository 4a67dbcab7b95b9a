//! The codes of requests and answers that Weft uses.

/// Codes of requests.
pub mod request {
    /// Takes messages from a queue.
    pub const PULL_MESSAGE: i32 = 11;
    /// Asks how far a group has consumed a queue.
    pub const QUERY_CONSUMER_OFFSET: i32 = 14;
    /// Says how far a group has consumed a queue.
    pub const UPDATE_CONSUMER_OFFSET: i32 = 15;
    /// Asks for the first message of a queue that was stored at a time or later.
    pub const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
    /// Asks for the end of a queue.
    pub const GET_MAX_OFFSET: i32 = 30;
    /// Asks for the start of a queue.
    pub const GET_MIN_OFFSET: i32 = 31;
    /// Asks when the first message of a queue was stored.
    pub const GET_EARLIEST_MSG_STORETIME: i32 = 32;
    /// Names a client's groups and subscriptions; keeps it alive.
    pub const HEART_BEAT: i32 = 34;
    /// Says goodbye.
    pub const UNREGISTER_CLIENT: i32 = 35;
    /// Gives a message back that could not be consumed: it comes again later, or becomes a dead letter.
    pub const CONSUMER_SEND_MSG_BACK: i32 = 36;
    /// Asks who consumes as a group.
    pub const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
    /// Broker to client: the members of a group changed.
    pub const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
    /// Asks for the locks of queues, for one member of a group.
    pub const LOCK_BATCH_MQ: i32 = 41;
    /// Gives the locks of queues back.
    pub const UNLOCK_BATCH_MQ: i32 = 42;
    /// Asks a name server which brokers hold a topic.
    pub const GET_ROUTE_BY_TOPIC: i32 = 105;
    /// Broker to client: set consumer offsets.
    pub const RESET_CONSUMER_CLIENT_OFFSET: i32 = 220;
    /// Broker to client: tell consumer offsets.
    pub const GET_CONSUMER_STATUS_FROM_CLIENT: i32 = 221;
    /// Sends the reply to a request; header fields have one-letter names.
    pub const SEND_REPLY_MESSAGE_V2: i32 = 325;
    /// Broker to client: the reply to a request; it wants to hear whether it came.
    pub const PUSH_REPLY_MESSAGE_TO_CLIENT: i32 = 326;
    /// Broker to client: tell what is running.
    pub const GET_CONSUMER_RUNNING_INFO: i32 = 307;
    /// Sends one message; header fields have one-letter names.
    pub const SEND_MESSAGE_V2: i32 = 310;
    /// Sends several messages of one topic to one queue.
    pub const SEND_BATCH_MESSAGE: i32 = 320;
    /// Takes messages from any queue, for a while. This code and those behind it do not fit into a binary header.
    pub const POP_MESSAGE: i32 = 200_050;
    /// Says that a message that was popped is done.
    pub const ACK_MESSAGE: i32 = 200_051;
    /// Says it of several; brokers know it since 5.1.
    pub const BATCH_ACK_MESSAGE: i32 = 200_151;
    /// Says when a message that was popped comes again.
    pub const CHANGE_MESSAGE_INVISIBLETIME: i32 = 200_053;
}

/// Codes of answers.
pub mod response {
    /// Done.
    pub const SUCCESS: i32 = 0;
    /// The broker failed.
    pub const SYSTEM_ERROR: i32 = 1;
    /// Later it may pass.
    pub const SYSTEM_BUSY: i32 = 2;
    /// The receiver does not know the request code.
    pub const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
    /// Stored, but the flush to disk was not confirmed in time.
    pub const FLUSH_DISK_TIMEOUT: i32 = 10;
    /// Stored, but no replica is there.
    pub const SLAVE_NOT_AVAILABLE: i32 = 11;
    /// Stored, but no replica confirmed in time.
    pub const FLUSH_SLAVE_TIMEOUT: i32 = 12;
    /// The message itself is wrong.
    pub const MESSAGE_ILLEGAL: i32 = 13;
    /// The broker takes no messages now.
    pub const SERVICE_NOT_AVAILABLE: i32 = 14;
    /// Not allowed.
    pub const NO_PERMISSION: i32 = 16;
    /// No such topic.
    pub const TOPIC_NOT_EXIST: i32 = 17;
    /// Nothing to pull until the hold was over.
    pub const PULL_NOT_FOUND: i32 = 19;
    /// Nothing matched; go on at the offset in the answer.
    pub const PULL_RETRY_IMMEDIATELY: i32 = 20;
    /// The offset is outside of the queue; go on at the offset in the answer.
    pub const PULL_OFFSET_MOVED: i32 = 21;
    /// The group has no offset for this queue.
    pub const QUERY_NOT_FOUND: i32 = 22;
    /// The broker knows no subscription of the group for this topic: send a heartbeat first.
    pub const SUBSCRIPTION_NOT_EXIST: i32 = 24;
    /// The broker knows an older subscription: send a heartbeat first.
    pub const SUBSCRIPTION_NOT_LATEST: i32 = 25;
    /// The broker does not know the group.
    pub const SUBSCRIPTION_GROUP_NOT_EXIST: i32 = 26;
    /// Too many wait for messages already.
    pub const POLLING_FULL: i32 = 209;
    /// Nothing to pop until the wait was over.
    pub const POLLING_TIMEOUT: i32 = 210;
    /// The broker takes less for a while.
    pub const FLOW_CONTROL: i32 = 215;
}
