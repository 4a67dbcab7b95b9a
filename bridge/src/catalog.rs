//! Every metric of Weft, with what it tells: `/metrics` shows it as help, README as a table. A test compares this list
//! with the names in the sources of all crates.

use std::fmt::Write as _;

/// What a metric is.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels, between commas.
    pub labels: &'static str,
    /// What it tells.
    pub meaning: &'static str,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts values by size.
    Histogram,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The table of README.
pub fn markdown() -> String {
    let mut text = String::from("| metric | kind | labels | tells |\n|---|---|---|---|\n");
    for Metric { name, kind, labels, meaning } in METRICS {
        writeln!(text, "| `{name}` | {} | {labels} | {meaning} |", kind.as_str()).unwrap_or(());
    }
    text
}

const fn counter(name: &'static str, labels: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, meaning }
}

const fn gauge(name: &'static str, labels: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, meaning }
}

const fn histogram(name: &'static str, labels: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, meaning }
}

/// All of them, by part.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    counter("weft_access_admissions_total", "outcome", "Clients and requests that asked to come in: admitted, unproved, denied, busy, unavailable"),
    histogram("weft_access_check_seconds", "", "How long the check of one password took"),
    counter("weft_access_callouts_total", "answer", "Questions to the call-out: allow, deny, or silent when it did not answer"),
    counter("weft_access_jwks_fetches_total", "result", "Times that keys were asked for at their URL: fetched, failed"),
    counter("weft_access_reloads_total", "result", "Changed files of access control: taken, or broken and not taken"),
    counter("weft_bridge_connections_cut_total", "part", "Connections that were still busy when the time to stop was over"),
    counter("weft_bridge_panics_total", "part", "Tasks that ended in a panic; each closed one connection. More than 0 is a bug to report"),
    counter("weft_config_reloads_total", "result", "Times that the configuration was read again: taken, or broken and not taken"),
    counter("weft_core_events_in_total", "", "Events that publishers handed to the core"),
    counter("weft_core_in_bytes_total", "", "Data of events that publishers handed to the core"),
    counter("weft_core_events_refused_total", "", "Publishes refused by the core, answered with a reason"),
    counter(
        "weft_core_events_filtered_total",
        "",
        "Times that an event did not pass the filter of a subscription",
    ),
    counter(
        "weft_core_filter_errors_total",
        "",
        "Times that a filter could not be evaluated for an event, which then did not pass it",
    ),
    counter("weft_core_events_made_total", "", "Events that routes made of published ones, beyond one for each"),
    counter(
        "weft_core_targets_skipped_total",
        "reason",
        "Targets of routes left out as their event could not be made: missing (it lacks something), topic, attribute, data",
    ),
    counter("weft_core_events_delivered_total", "", "Events handed to connections of subscribers"),
    counter("weft_core_delivered_bytes_total", "", "Data of events handed to connections of subscribers"),
    counter("weft_core_events_acked_total", "", "Numbered deliveries that subscribers acknowledged"),
    counter("weft_core_events_expired_total", "", "Deliveries not made because the event expired"),
    counter("weft_core_events_dropped_total", "reason", "Deliveries dropped: reader too slow, queue full, store too slow, record gone"),
    counter("weft_ledger_in_total", "route, tenant", "Publishes that were handed over; kept over restarts"),
    counter(
        "weft_ledger_published_total",
        "route, tenant, how",
        "Publishes that ended: kept, passed (QoS 0), repeated, held (delayed, or a transaction), unanswered (the publisher went away first), or rejected as malformed, unproved, denied, busy, unavailable, closed",
    ),
    gauge("weft_ledger_under_way", "route, tenant", "Publishes of which nobody knows yet: what came and has not ended"),
    counter("weft_ledger_owed_total", "route, tenant", "Deliveries that were to be made, one for each subscriber an event was for; kept over restarts"),
    counter(
        "weft_ledger_ended_total",
        "route, tenant, how",
        "Deliveries that ended: acked, sent (nobody acknowledges it), dead_lettered, expired, queue_full, slow_reader, record_gone, forbidden, left (the session or connection ended), returned (to the remote store that brought it)",
    ),
    gauge("weft_ledger_queued", "route, tenant", "Deliveries that wait or are not acknowledged: what is owed and has not ended"),
    gauge("weft_core_backlog_events", "", "Numbered deliveries that wait or are not acknowledged"),
    gauge("weft_core_memory_bytes", "", "Events held in memory for subscribers"),
    gauge("weft_core_replays", "", "Replays that are not at their end"),
    counter("weft_core_replayed_events_total", "", "Events that replays found in the log"),
    counter("weft_core_replayed_bytes_total", "", "Data of events that replays found in the log"),
    gauge("weft_core_retained_events", "", "Retained events"),
    gauge("weft_core_held_events", "", "Delayed events, and transactions without a decision"),
    gauge("weft_core_unique_events", "", "Publishes whose repeats are known (`unique_s` of a route)"),
    counter(
        "weft_core_events_repeated_total",
        "",
        "Publishes that were known by source and id, answered as the first one and not kept again",
    ),
    counter(
        "weft_core_unique_forgotten_total",
        "",
        "Publishes whose repeats are not known any more before their time, as `core.unique_events` is reached",
    ),
    gauge("weft_core_store_left_alone", "store", "1 while a store gets no events, as several batches in a row failed"),
    counter(
        "weft_core_transactions_total",
        "outcome",
        "Transactions that ended: commit, rollback, given_up (nobody decided: rolled back)",
    ),
    counter(
        "weft_core_quota_refused_total",
        "quota, what",
        "Events, connections, subscriptions and retained events that a quota refused",
    ),
    counter(
        "weft_core_audit_events_total",
        "outcome",
        "Audit events: told, left out as there were too many, lost as the log did not take them",
    ),
    gauge("weft_core_sessions", "", "Sessions, connected or not"),
    gauge("weft_core_sessions_away", "", "Sessions without a connection"),
    counter("weft_core_sessions_expired_total", "", "Sessions that ended because their client did not come back in time"),
    gauge("weft_core_subscriptions", "", "Subscriptions of all sessions"),
    counter("weft_eventmesh_http_requests_total", "retcode", "Requests of EventMesh over HTTP, answered with this `retCode`"),
    counter("weft_eventmesh_http_events_received_total", "", "Events published with EventMesh over HTTP"),
    counter("weft_eventmesh_requests_total", "outcome", "Requests of EventMesh clients: answered, unanswered within their time, refused at the limit"),
    counter("weft_eventmesh_replies_late_total", "", "Replies that nobody waited for any more"),
    counter("weft_grpc_calls_total", "statuscode", "Calls answered with an EventMesh status code"),
    counter("weft_grpc_connections_opened_total", "", "gRPC connections begun"),
    counter("weft_grpc_connections_closed_total", "", "gRPC connections ended"),
    counter("weft_grpc_events_received_total", "", "Events published over gRPC"),
    counter("weft_grpc_events_sent_total", "", "Events written to streams"),
    counter("weft_grpc_streams_opened_total", "", "Streams of subscribers begun"),
    counter("weft_grpc_streams_closed_total", "", "Streams of subscribers ended"),
    gauge("weft_hook_up", "hook", "1 while a webhook of the configuration takes events, as far as is known and as in /ready; else 0; NaN once it was taken out"),
    counter("weft_hook_events_total", "hook, outcome", "Events for it: delivered, posted again, expired, or dead when it refused one or took none in time"),
    counter("weft_http_requests_total", "method, status", "Requests to `/events`, answered"),
    counter("weft_http_events_received_total", "", "Events published over HTTP and kept"),
    counter("weft_http_events_sent_total", "", "Events written to event streams"),
    counter("weft_http_streams_opened_total", "", "Event streams begun"),
    counter("weft_http_streams_closed_total", "", "Event streams ended"),
    gauge("weft_mqtt_connections", "", "Clients that are connected"),
    counter("weft_mqtt_connects_total", "", "Connections begun"),
    counter("weft_mqtt_packets_in_total", "class", "Packets read: publish, ack, other"),
    counter("weft_mqtt_packets_out_total", "class", "Packets written: publish, ack, other"),
    counter("weft_mqtt_in_bytes_total", "", "Bytes read"),
    counter("weft_mqtt_out_bytes_total", "", "Bytes written"),
    counter("weft_mqtt_deliveries_left_out_total", "why", "Deliveries not sent: expired, or larger than the client takes"),
    counter("weft_mqtt_violations_total", "kind", "Connections, and data streams of QUIC, closed because the client broke the protocol"),
    counter("weft_quic_retries_total", "listener", "Clients that had to show their address by a Retry"),
    counter("weft_quic_streams_opened_total", "listener", "Data streams opened"),
    counter("weft_rocketmq_sent_events_total", "part", "Events that RocketMQ answered for"),
    counter("weft_rocketmq_send_requests_total", "part", "Requests that carried them"),
    counter("weft_rocketmq_send_retries_total", "part", "Requests that failed and are sent again"),
    counter("weft_rocketmq_refused_events_total", "part", "Events that RocketMQ does not take, such as too large ones; a bridge makes dead letters of them"),
    counter("weft_rocketmq_received_events_total", "part", "Messages from RocketMQ that were published here"),
    counter("weft_rocketmq_unusable_messages_total", "part", "Messages from RocketMQ that can never be published here"),
    counter("weft_rocketmq_returned_messages_total", "part", "Messages that were refused here and given back, to come again or as dead letters"),
    gauge("weft_rocketmq_waiting_bytes", "part", "Bytes that wait to be sent"),
    gauge("weft_rocketmq_pulled_bytes", "part", "Bytes that were pulled and are not kept here yet"),
    gauge("weft_rocketmq_link_up", "part", "1 while its brokers answer and nothing is in trouble, as in /ready; else 0"),
    gauge("weft_rocketmq_consumed_queues", "part", "Queues that are consumed here"),
    counter("weft_rocketmq_requests_total", "part, outcome", "Requests to RocketMQ that were answered here, were unanswered when their time was over, or were refused: no room, no such reply topic, no message"),
    counter("weft_rocketmq_late_replies_total", "part", "Replies of RocketMQ that nobody waits for any more"),
    counter("weft_rocketmq_answers_total", "part, outcome", "Requests from RocketMQ: an answer was sent, failed to be sent, was missing when their time was over, came late or twice, or the request was refused for want of room"),
    counter("weft_defibus_requests_total", "part, outcome", "Requests to DeFiBus that were answered here, were unanswered when their time was over, or were refused: no room, no such reply topic, no message"),
    counter("weft_defibus_late_replies_total", "part", "Replies of DeFiBus that nobody waits for any more"),
    counter("weft_defibus_answers_total", "part, outcome", "Requests from DeFiBus: an answer was sent, failed to be sent, was missing when their time was over, came late or twice, or the request was refused for want of room"),
    counter("weft_defibus_expired_messages_total", "part", "Messages of DeFiBus that had expired when they came"),
    counter("weft_defibus_circuit_breaks_total", "part", "Sends that a queue of DeFiBus refused because its consumers are too far behind"),
    counter("weft_defibus_locked_pulls_total", "part", "Pulls that brought nothing because another member has the queue"),
    counter("weft_store_appended_records_total", "", "Records written to the log"),
    counter("weft_store_appended_bytes_total", "", "Bytes written to the log"),
    histogram("weft_store_batch_records", "", "Records of one write"),
    counter("weft_store_syncs_total", "", "Calls of fdatasync"),
    histogram("weft_store_sync_seconds", "", "How long fdatasync took"),
    counter("weft_store_refused_total", "reason", "Appends that the log refused"),
    counter("weft_store_damaged_records_total", "", "Records found damaged"),
    counter("weft_store_dropped_bytes_total", "", "Files of the log freed at `max_bytes` though somebody waited for events in them"),
    gauge("weft_store_segments", "", "Files of the log"),
    gauge("weft_store_disk_bytes", "", "What the log takes of the disk"),
    gauge("weft_tcp_connections", "", "EventMesh clients that are connected over TCP"),
    counter("weft_tcp_connects_total", "", "Connections begun"),
    counter("weft_tcp_frames_in_total", "", "Frames read"),
    counter("weft_tcp_frames_out_total", "", "Frames written"),
    counter("weft_tcp_in_bytes_total", "", "Bytes read"),
    counter("weft_tcp_out_bytes_total", "", "Bytes written"),
    counter("weft_tcp_commands_refused_total", "reason", "Commands refused: fail, acl_fail, tps_overload (codes 1, 2, 3)"),
    counter("weft_tcp_violations_total", "kind", "Connections closed because the client broke the protocol, or was silent or stuck"),
    counter("weft_transport_connections_accepted_total", "listener", "Connections accepted"),
    counter("weft_transport_connections_closed_total", "listener", "Accepted connections that ended"),
    counter("weft_transport_connections_refused_total", "listener, reason", "Connections closed as soon as they were accepted: the limit that was reached, or no trusted proxy"),
    counter("weft_transport_connections_revoked_total", "listener", "Connections ended because the client's certificate was revoked"),
    counter("weft_transport_handshakes_failed_total", "listener, reason", "Connections that did not finish PROXY header and handshake of TLS or QUIC"),
    counter("weft_transport_tls_reloads_total", "listener, result", "Changed files of TLS: taken, or broken and not taken"),
    counter("weft_transport_accept_errors_total", "listener", "Failures to accept, such as no free file descriptor"),
    counter("weft_webhook_posts_total", "outcome", "Events for webhooks of EventMesh clients: done, posted again, expired, or dead when no try was left or the webhook refused for good"),
    counter("weft_websocket_connections_opened_total", "", "CloudEvents connections begun"),
    counter("weft_websocket_connections_closed_total", "", "CloudEvents connections ended"),
    counter("weft_websocket_events_received_total", "", "Events published by CloudEvents frames"),
    counter("weft_websocket_events_sent_total", "", "Events delivered as CloudEvents frames"),
    counter("weft_websocket_errors_total", "kind", "Requests of clients answered with `weft.error`"),
];
