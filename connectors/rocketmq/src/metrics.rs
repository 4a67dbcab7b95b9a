//! What the connector counts. `part` is the name of the bridge or store.

use metrics::{Counter, Gauge, counter, gauge};

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
}

impl Counters {
    /// The counters of `part`.
    pub(crate) fn of(part: &str) -> Self {
        let part = part.to_owned();
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
            queues: gauge!("weft_rocketmq_consumed_queues", "part" => part),
        }
    }
}
