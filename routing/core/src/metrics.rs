//! What the core counts. Handles are taken once; counting is one addition for each batch.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::table::Reason;

/// Handles of the core's metrics.
pub(crate) struct Metrics {
    pub(crate) events_in: Counter,
    pub(crate) in_bytes: Counter,
    pub(crate) delivered: Counter,
    pub(crate) delivered_bytes: Counter,
    pub(crate) acked: Counter,
    pub(crate) expired: Counter,
    pub(crate) refused: Counter,
    pub(crate) filtered: Counter,
    pub(crate) filter_errors: Counter,
    pub(crate) made: Counter,
    skipped: [Counter; 4],
    pub(crate) dropped_live: Counter,
    pub(crate) dropped_queue: Counter,
    pub(crate) dropped_remote: Counter,
    pub(crate) dropped_lost: Counter,
    replayed: Counter,
    replayed_bytes: Counter,
    pub(crate) replays: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) away: Gauge,
    pub(crate) sessions_expired: Counter,
    pub(crate) subscriptions: Gauge,
    pub(crate) retained: Gauge,
    pub(crate) held: Gauge,
    transactions: [Counter; 3],
    pub(crate) repeats: Counter,
    pub(crate) unique: Gauge,
    pub(crate) unique_forgotten: Counter,
    pub(crate) audit_told: Counter,
    pub(crate) audit_left_out: Counter,
    pub(crate) audit_lost: Counter,
    pub(crate) backlog: Gauge,
    pub(crate) memory: Gauge,
}

const DROPPED: &str = "weft_core_events_dropped_total";
const AUDIT: &str = "weft_core_audit_events_total";
const SKIPPED: &str = "weft_core_targets_skipped_total";

impl Metrics {
    /// Registers all of them.
    pub(crate) fn new() -> Self {
        describe();
        Self {
            events_in: counter!("weft_core_events_in_total"),
            in_bytes: counter!("weft_core_in_bytes_total"),
            delivered: counter!("weft_core_events_delivered_total"),
            delivered_bytes: counter!("weft_core_delivered_bytes_total"),
            acked: counter!("weft_core_events_acked_total"),
            expired: counter!("weft_core_events_expired_total"),
            refused: counter!("weft_core_events_refused_total"),
            filtered: counter!("weft_core_events_filtered_total"),
            filter_errors: counter!("weft_core_filter_errors_total"),
            made: counter!("weft_core_events_made_total"),
            skipped: Reason::ALL.map(|reason| counter!(SKIPPED, "reason" => reason.as_str())),
            dropped_live: counter!(DROPPED, "reason" => "slow_reader"),
            dropped_queue: counter!(DROPPED, "reason" => "queue_full"),
            dropped_remote: counter!(DROPPED, "reason" => "store_busy"),
            dropped_lost: counter!(DROPPED, "reason" => "record_gone"),
            replayed: counter!("weft_core_replayed_events_total"),
            replayed_bytes: counter!("weft_core_replayed_bytes_total"),
            replays: gauge!("weft_core_replays"),
            sessions: gauge!("weft_core_sessions"),
            away: gauge!("weft_core_sessions_away"),
            sessions_expired: counter!("weft_core_sessions_expired_total"),
            subscriptions: gauge!("weft_core_subscriptions"),
            retained: gauge!("weft_core_retained_events"),
            held: gauge!("weft_core_held_events"),
            transactions: ["commit", "rollback", "given_up"]
                .map(|outcome| counter!("weft_core_transactions_total", "outcome" => outcome)),
            repeats: counter!("weft_core_events_repeated_total"),
            unique: gauge!("weft_core_unique_events"),
            unique_forgotten: counter!("weft_core_unique_forgotten_total"),
            audit_told: counter!(AUDIT, "outcome" => "told"),
            audit_left_out: counter!(AUDIT, "outcome" => "left_out"),
            audit_lost: counter!(AUDIT, "outcome" => "lost"),
            backlog: gauge!("weft_core_backlog_events"),
            memory: gauge!("weft_core_memory_bytes"),
        }
    }

    /// Counts a target that was left out.
    pub(crate) fn skipped(&self, reason: Reason) {
        if let Some(counter) = self.skipped.get(reason as usize) {
            counter.increment(1);
        }
    }

    /// Counts the end of a transaction; `None`: nobody decided.
    pub(crate) fn transactions(&self, commit: Option<bool>) {
        let [committed, rolled_back, given_up] = &self.transactions;
        match commit {
            Some(true) => committed.increment(1),
            Some(false) => rolled_back.increment(1),
            None => given_up.increment(1),
        }
    }

    /// Counts what a replay found.
    pub(crate) fn replayed(&self, events: usize, bytes: usize) {
        self.replayed.increment(events as u64);
        self.replayed_bytes.increment(bytes as u64);
    }
}

fn describe() {
    describe_counter!("weft_core_events_in_total", "Events that publishers handed to the core");
    describe_counter!("weft_core_events_delivered_total", "Events handed to connections of subscribers");
    describe_counter!("weft_core_events_acked_total", "Numbered deliveries that subscribers acknowledged");
    describe_counter!(
        "weft_core_events_expired_total",
        "Deliveries that were not made because the event expired"
    );
    describe_counter!(
        "weft_core_events_refused_total",
        "Publishes refused by the core, answered with a reason"
    );
    describe_counter!(
        "weft_core_events_filtered_total",
        "Times that an event did not pass the filter of a subscription"
    );
    describe_counter!(
        "weft_core_filter_errors_total",
        "Times that a filter could not be evaluated for an event, which then did not pass it"
    );
    describe_counter!(
        "weft_core_events_made_total",
        "Events that routes made of published ones, beyond one for each"
    );
    describe_counter!(SKIPPED, "Targets of routes that were left out, as their event could not be made");
    describe_counter!(
        DROPPED,
        "Deliveries dropped: a reader too slow, a queue full, a store too slow, a record gone"
    );
    describe_counter!("weft_core_in_bytes_total", "Data of events that publishers handed to the core");
    describe_counter!("weft_core_delivered_bytes_total", "Data of events handed to subscribers");
    describe_counter!("weft_core_replayed_events_total", "Events that replays found in the log");
    describe_counter!("weft_core_replayed_bytes_total", "Data of events that replays found in the log");
    describe_gauge!("weft_core_replays", "Replays that are not at their end");
    describe_gauge!("weft_core_sessions_away", "Sessions without a connection");
    describe_counter!("weft_core_sessions_expired_total", "Sessions that ended because nobody came back");
    describe_gauge!("weft_core_sessions", "Sessions, connected or not");
    describe_gauge!("weft_core_subscriptions", "Subscriptions of all sessions");
    describe_gauge!("weft_core_retained_events", "Retained events");
    describe_gauge!("weft_core_held_events", "Delayed events, and transactions without a decision");
    describe_counter!("weft_core_transactions_total", "Transactions that were decided, or given up");
    describe_counter!(
        "weft_core_events_repeated_total",
        "Publishes that were known by source and id, answered as the first one and not kept again"
    );
    describe_gauge!(
        "weft_core_store_left_alone",
        "1 while a store gets no events, as several in a row failed"
    );
    describe_gauge!("weft_core_unique_events", "Publishes whose repeats are known");
    describe_counter!(
        "weft_core_unique_forgotten_total",
        "Publishes whose repeats are no longer known before their time, as core.unique_events is reached"
    );
    describe_counter!("weft_ledger_in_total", "Publishes that were handed over, by route");
    describe_counter!("weft_ledger_published_total", "Publishes that ended, by route and how");
    describe_gauge!("weft_ledger_under_way", "Publishes of which nobody knows yet, by route");
    describe_counter!("weft_ledger_owed_total", "Deliveries that were to be made, by route");
    describe_counter!("weft_ledger_ended_total", "Deliveries that ended, by route and how");
    describe_gauge!("weft_ledger_queued", "Deliveries that wait or are not acknowledged, by route");
    describe_counter!(AUDIT, "Audit events that were published, left out as too many, or lost");
    describe_gauge!("weft_core_backlog_events", "Numbered deliveries that wait or are not acknowledged");
    describe_gauge!("weft_core_memory_bytes", "Events held in memory for subscribers");
}
