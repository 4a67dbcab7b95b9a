//! What can fail, shaped by what the caller does next.

use event::TopicError;
use parts::FileError;
use remoting::EncodeError;

use crate::inflate::InflateError;

/// The options make no sense: stop the start.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A cluster without name servers.
    #[error("name_servers is empty; give at least one \"host:port\"")]
    NoNameServer,
    /// A name server that is no address.
    #[error("name_servers has {0:?}; write \"host:port\"")]
    NameServer(String),
    /// A bridge without rules.
    #[error("the bridge has neither out nor in rules; give one")]
    NoRules,
    /// RocketMQ would refuse this topic or group.
    #[error(
        "{key} is {name:?}; RocketMQ takes letters, digits, '_', '-', '|' and '%', at most {max} of them"
    )]
    Name {
        /// Which key.
        key: &'static str,
        /// Its value.
        name: String,
        /// How long it may be.
        max: usize,
    },
    /// A rule's target is no template.
    #[error(
        "to is {0:?}; write a topic with {{topic}}, {{tags}}, {{keys}} or {{origin}} in it, and no wildcard"
    )]
    Template(String),
    /// A rule of `out` has a text that cannot be filled.
    #[error(
        "out.{key} is {text:?}; write text with {{topic}}, {{1}} (a level of the topic), {{type}} or another attribute in it"
    )]
    Pattern {
        /// Which key.
        key: &'static str,
        /// Its value.
        text: String,
    },
    /// The place of dead letters is none.
    #[error("dead_letters is {0:?}; write a topic that is not Weft's own, or nothing")]
    DeadLetters(String),
    /// Two rules consume one topic; a group has one subscription of it.
    #[error("two rules of in have topic {0:?}; give the topic one rule, or each a bridge of its own")]
    TwoRules(String),
    /// A rule with two filters, or an empty one.
    #[error("the rule for {0:?} has to have tags or sql or neither, and what it has must not be empty")]
    Filter(String),
    /// `broadcast` without a node.
    #[error("broadcast needs a name for this Weft: give the cluster a node")]
    NoNode,
    /// Pop consumption with what it has not.
    #[error("pop does not go with ordered, with start at a time, or with DeFiBus")]
    Pop,
    /// A node or namespace that is no name.
    #[error("{key} is {name:?}; write letters, digits, '_' and '-', at most {max} of them")]
    Plain {
        /// Which key.
        key: &'static str,
        /// Its value.
        name: String,
        /// How long it may be.
        max: usize,
    },
    /// A key out of its range.
    #[error("{key} is {value}; it has to be {range}")]
    Range {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What is allowed.
        range: &'static str,
    },
    /// The system gives no random numbers, which topics for replies are named by.
    #[error("the system has no random numbers")]
    Random,
    /// An IDC that is none, or one where there are none.
    #[error(
        "idc is {0:?}; it is for DeFiBus, in a table [defibus.NAME]: upper-case letters and digits, at most 16"
    )]
    Idc(String),
    /// Only one of `access_key` and `secret_key_file` is given.
    #[error("access_key and secret_key_file go together")]
    HalfCredentials,
    /// The secret key or the CAs cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A request got no answer, or none that can be read: try again, on a new connection if need be.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection could be made.
    #[error("cannot connect to {addr}: {reason}")]
    Connect { addr: String, reason: String },
    /// The connection was lost before the answer came.
    #[error("connection to {addr} is lost")]
    Lost { addr: String },
    /// No answer in time.
    #[error("no answer from {addr} in {ms} ms")]
    TimedOut { addr: String, ms: u128 },
    /// The request cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An answer with a code that is not success.
    #[error("{addr} answers code {code}: {remark}")]
    Code { addr: String, code: i32, remark: String },
    /// The answer makes no sense.
    #[error("{addr} sent a bad answer: {reason}")]
    BadAnswer { addr: String, reason: String },
    /// No broker takes or holds the topic, and none creates it.
    #[error("no broker that is up holds topic {0} or creates it (autoCreateTopicEnable)")]
    NoTopic(String),
    /// The consumers of the topic are too far behind: its queues take no more for a while.
    #[error("topic {0} takes no more: its consumers are too far behind (circuit break)")]
    Full(String),
    /// The brokers of the topic allow no writing, or the queue is gone.
    #[error("topic {0} has no such queue")]
    NoQueue(String),
    /// Another member of the group has the lock of the queue.
    #[error("a queue of {0} is locked by another member")]
    Locked(String),
}

/// The event cannot be a RocketMQ message, now or later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// Attributes and user properties take more than a message carries.
    #[error(transparent)]
    Properties(#[from] remoting::properties::TooLong),
    /// The rule makes nothing of it.
    #[error("it has no {0}, which the rule needs")]
    Lacks(String),
    /// The rule makes no topic of it.
    #[error("the rule makes {0:?} of it, which is no topic of RocketMQ")]
    Topic(String),
    /// It would be one topic too many.
    #[error("it would be one topic more than the {0} that a bridge writes to")]
    Topics(usize),
    /// Larger than `message_max`.
    #[error("message of {len} B, limit {max} B")]
    TooLarge { len: usize, max: usize },
    /// The broker says that the message itself is wrong.
    #[error("the broker refuses it: {0}")]
    Illegal(String),
}

/// The message cannot be an event, now or later.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// The topic that the rule makes of it is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Its body cannot be inflated.
    #[error(transparent)]
    Inflate(#[from] InflateError),
}
