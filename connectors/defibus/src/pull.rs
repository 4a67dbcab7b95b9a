//! Pulls that bring nothing. DeFiBus answers PULL_NOT_FOUND for more than RocketMQ does: it holds back a queue that
//! another member has, and turns other refusals into it.

use remoting::Command;

/// What an answer PULL_NOT_FOUND means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    /// There is nothing. If it came at once, wait before the next pull: it may stand for a refusal.
    Nothing,
    /// Another member has the queue (access lock). Its offset stays as it is.
    Locked,
    /// The queue is ours from now on: go on at this offset, the last that its holder committed.
    Taken(i64),
}

impl Empty {
    /// Reads the answer.
    pub fn of(answer: &Command) -> Self {
        let remark = answer.remark.as_deref().unwrap_or_default();
        if remark.starts_with("mq is locked by other client") {
            return Self::Locked;
        }
        match answer.number("nextBeginOffset") {
            Some(offset) if remark.starts_with("lock a queue success") => Self::Taken(offset),
            _ => Self::Nothing,
        }
    }
}
