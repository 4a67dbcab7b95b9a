//! What the connector counts. `part` is the name of the bridge or store.

use metrics::{Counter, Gauge, counter, gauge};

use crate::Kind;

/// The counters of one bridge or store.
pub(crate) struct Counters {
    /// Events that RocketMQ has.
    pub(crate) sent: Counter,
    /// Requests that carried them.
    pub(crate) requests: Counter,
    /// Requests that failed and were, or will be, repeated.
    pub(crate) retries: Counter,
    /// Events that RocketMQ can never take.
    pub(crate) refused: Counter,
    /// Messages that were published here.
    pub(crate) received: Counter,
    /// Messages that can never be published here.
    pub(crate) unusable: Counter,
    /// Messages given back, to come again or as dead letters.
    pub(crate) returned: Counter,
    /// Bytes that wait to be sent.
    pub(crate) waiting: Gauge,
    /// Bytes that were pulled and are not kept here yet.
    pub(crate) pulled: Gauge,
    /// Queues that are consumed here.
    pub(crate) queues: Gauge,
    /// DeFiBus: messages that had expired when they came.
    pub(crate) expired: Counter,
    /// DeFiBus: requests that a queue refused because its consumers are behind.
    pub(crate) circuit_breaks: Counter,
    /// DeFiBus: pulls that brought nothing because another member has the queue.
    pub(crate) locked: Counter,
    /// Requests to RocketMQ or DeFiBus: their reply was published here.
    pub(crate) requests_answered: Counter,
    /// Their time was over before a reply came.
    pub(crate) requests_unanswered: Counter,
    /// They were not sent, or their reply could not be published.
    pub(crate) requests_refused: Counter,
    /// Replies that nobody waits for.
    pub(crate) replies_late: Counter,
    /// Requests from RocketMQ or DeFiBus: the answer was taken by a broker.
    pub(crate) answers_sent: Counter,
    /// No broker took it.
    pub(crate) answers_failed: Counter,
    /// Nobody answered in time.
    pub(crate) answers_missing: Counter,
    /// They were not published here: too many wait.
    pub(crate) answers_refused: Counter,
    /// Answers to what is answered, or over.
    pub(crate) answers_late: Counter,
}

impl Counters {
    /// The counters of `part`, which has brokers of this kind.
    pub(crate) fn of(part: &str, kind: Kind) -> Self {
        let part = part.to_owned();
        // RocketMQ has none of these.
        let only = |counter: &dyn Fn() -> Counter| match kind {
            Kind::RocketMq => Counter::noop(),
            Kind::Defibus => counter(),
        };
        let requests = |outcome: &'static str| match kind {
            Kind::RocketMq => {
                counter!("weft_rocketmq_requests_total", "part" => part.clone(), "outcome" => outcome)
            }
            Kind::Defibus => {
                counter!("weft_defibus_requests_total", "part" => part.clone(), "outcome" => outcome)
            }
        };
        let answers = |outcome: &'static str| match kind {
            Kind::RocketMq => {
                counter!("weft_rocketmq_answers_total", "part" => part.clone(), "outcome" => outcome)
            }
            Kind::Defibus => {
                counter!("weft_defibus_answers_total", "part" => part.clone(), "outcome" => outcome)
            }
        };
        Self {
            sent: counter!("weft_rocketmq_sent_events_total", "part" => part.clone()),
            requests: counter!("weft_rocketmq_send_requests_total", "part" => part.clone()),
            retries: counter!("weft_rocketmq_send_retries_total", "part" => part.clone()),
            refused: counter!("weft_rocketmq_refused_events_total", "part" => part.clone()),
            received: counter!("weft_rocketmq_received_events_total", "part" => part.clone()),
            unusable: counter!("weft_rocketmq_unusable_messages_total", "part" => part.clone()),
            returned: counter!("weft_rocketmq_returned_messages_total", "part" => part.clone()),
            waiting: gauge!("weft_rocketmq_waiting_bytes", "part" => part.clone()),
            pulled: gauge!("weft_rocketmq_pulled_bytes", "part" => part.clone()),
            queues: gauge!("weft_rocketmq_consumed_queues", "part" => part.clone()),
            expired: only(&|| counter!("weft_defibus_expired_messages_total", "part" => part.clone())),
            circuit_breaks: only(&|| counter!("weft_defibus_circuit_breaks_total", "part" => part.clone())),
            locked: only(&|| counter!("weft_defibus_locked_pulls_total", "part" => part.clone())),
            requests_answered: requests("answered"),
            requests_unanswered: requests("unanswered"),
            requests_refused: requests("refused"),
            replies_late: match kind {
                Kind::RocketMq => counter!("weft_rocketmq_late_replies_total", "part" => part.clone()),
                Kind::Defibus => counter!("weft_defibus_late_replies_total", "part" => part.clone()),
            },
            answers_sent: answers("sent"),
            answers_failed: answers("failed"),
            answers_missing: answers("missing"),
            answers_refused: answers("refused"),
            answers_late: answers("late"),
        }
    }
}
