//! What operators of EventMesh look at: figures and settings, under EventMesh's names as far as Weft knows their like.

use std::sync::Arc;
use std::time::Instant;

use eventmesh::Clients;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value, json};

use crate::listen::Listening;
use crate::sys::Sums;

/// Where figures come from.
#[derive(Clone)]
pub(super) struct Figures(Arc<(PrometheusHandle, Instant)>);

impl Figures {
    pub(super) fn new(metrics: PrometheusHandle) -> Self {
        Self(Arc::new((metrics, Instant::now())))
    }

    /// `/metrics`.
    pub(super) fn page(&self, clients: &Clients) -> Value {
        let (metrics, start) = &*self.0;
        let sums = Sums::read(&metrics.render(), &crate::process::render());
        of_sums(&sums, start.elapsed().as_secs_f64(), clients)
    }
}

/// The figures of so many seconds. EventMesh's that Weft does not measure are left out.
fn of_sums(sums: &Sums, seconds: f64, clients: &Clients) -> Value {
    let a_second = |count: u64| (count as f64 / seconds.max(1.0) * 100.0).round() / 100.0;
    let rate = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let requests = sums.of("weft_eventmesh_http_requests_total");
    let sent = sums.of("weft_eventmesh_http_events_received_total");
    let failed = sums.with("weft_eventmesh_http_requests_total", "retcode=\"15\"");
    let post = |outcome: &str| sums.with("weft_webhook_posts_total", &format!("outcome=\"{outcome}\""));
    let (pushed, dead) = (post("done"), post("dead"));
    let (frames_in, frames_out) = (sums.of("weft_tcp_frames_in_total"), sums.of("weft_tcp_frames_out_total"));
    let count = |protocol: &str| clients.list(|client| client.protocol == protocol, usize::MAX).len();
    let of_tcp = clients.list(|client| client.protocol == "TCP", usize::MAX);
    let mut topics: Vec<String> = of_tcp.into_iter().flat_map(|client| client.topics).collect();
    topics.sort_unstable();
    topics.dedup();
    json!({
        "avgHTTPTPS": a_second(requests),
        "httpRequestNumSum": requests,
        "sendMsgNumSum": sent,
        "sendMsgFailNumSum": failed,
        "sendMsgFailRate": rate(failed, sent),
        "avgSendMsgTPS": a_second(sent),
        "pushHTTPMsgNumSum": pushed,
        "pushHTTPMsgFailNumSum": dead,
        "pushHTTPMsgFailRate": rate(dead, pushed + dead),
        "pushHTTPMsgRetryNumSum": post("again"),
        "avgPushMsgTPS": a_second(pushed),
        "client2eventMeshTCPTPS": a_second(frames_in),
        "eventMesh2clientTCPTPS": a_second(frames_out),
        "allTCPTPS": a_second(frames_in + frames_out),
        "allTCPConnections": sums.of("weft_tcp_connections"),
        "subTopicTCPNum": topics.len(),
        "clientNumTCP": count("TCP"),
        "clientNumHTTP": count("HTTP"),
        "clientNumGRPC": count("GRPC"),
        "sendMsgNumSumGRPC": sums.of("weft_grpc_events_received_total"),
        "pushMsgNumSumGRPC": sums.of("weft_grpc_events_sent_total"),
        "requestsAnswered": sums.with("weft_eventmesh_requests_total", "outcome=\"answered\""),
        "requestsUnanswered": sums.with("weft_eventmesh_requests_total", "outcome=\"unanswered\""),
        "eventsIn": sums.of("weft_core_events_in_total"),
        "eventsDelivered": sums.of("weft_core_events_delivered_total"),
        "backlogEvents": sums.of("weft_core_backlog_events"),
    })
}

/// `/configuration`. `asks`: clients have to prove who they are.
pub(super) fn configuration(listening: &[Listening], common: &eventmesh::Options, asks: bool) -> Value {
    let mut page = Map::new();
    let mut set = |name: &str, value: Value| {
        page.insert(name.to_owned(), value);
    };
    set("eventMeshName", json!("weft"));
    set("eventMeshCluster", json!(common.cluster));
    set("eventMeshEnv", json!(common.env));
    set("eventMeshIDC", json!(common.idc));
    set("eventMeshServerIp", json!(common.ip));
    set("eventMeshWebhookOrigin", json!(common.webhook_origin));
    set("eventMeshServerSecurityEnable", json!(asks));
    set("eventMeshServerRegistryEnable", json!(false));
    set("eventMeshServerMaxEventSize", json!(common.max_event_chars));
    for (protocol, name) in [
        (config::Protocol::EventmeshTcp, "eventMeshTcpServer"),
        (config::Protocol::EventmeshHttp, "eventMeshHttpServer"),
        (config::Protocol::Grpc, "eventMeshGrpcServer"),
        (config::Protocol::EventmeshAdmin, "eventMeshServerAdmin"),
    ] {
        let listener = listening.iter().find(|listening| listening.protocol == protocol);
        set(&format!("{name}Enabled"), json!(listener.is_some()));
        if let Some(listener) = listener {
            set(&format!("{name}Port"), json!(listener.address.port()));
            set(&format!("{name}UseTls"), json!(listener.carrier != config::Carrier::Tcp));
        }
    }
    Value::Object(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_metrics() {
        let metrics = "# of a test\n\
                       weft_eventmesh_http_requests_total{retcode=\"0\"} 30\n\
                       weft_eventmesh_http_requests_total{retcode=\"15\"} 10\n\
                       weft_eventmesh_http_events_received_total 20\n\
                       weft_webhook_posts_total{outcome=\"done\"} 3\n\
                       weft_webhook_posts_total{outcome=\"dead\"} 1\n\
                       weft_tcp_connections 2\n";
        let page = of_sums(&Sums::read(metrics, ""), 10.0, &Clients::default());
        for (name, value) in [
            ("avgHTTPTPS", json!(4.0)),
            ("sendMsgNumSum", json!(20)),
            ("sendMsgFailRate", json!(0.5)),
            ("pushHTTPMsgFailRate", json!(0.25)),
            ("allTCPConnections", json!(2)),
            ("clientNumGRPC", json!(0)),
        ] {
            assert_eq!(page[name], value, "{name}");
        }
    }

    #[test]
    fn the_configuration_has_the_ports() {
        let listening = [Listening {
            name: "m".to_owned(),
            address: ([127, 0, 0, 1], 10105).into(),
            protocol: config::Protocol::EventmeshHttp,
            carrier: config::Carrier::Tls,
        }];
        let page = configuration(&listening, &eventmesh::Options::default(), true);
        assert_eq!(page["eventMeshHttpServerPort"], 10105);
        assert_eq!(page["eventMeshHttpServerUseTls"], true);
        assert_eq!(
            (&page["eventMeshTcpServerEnabled"], page.get("eventMeshTcpServerPort")),
            (&json!(false), None)
        );
        assert_eq!(page["eventMeshServerSecurityEnable"], true);
    }
}
