//! What Weft says when it has started: what listens where, where events are, and what to try first.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use config::{Carrier, Protocol};

use crate::{Bridge, Listening};

/// The lines, with commands that work as they stand from the folder in which `program` was started.
pub(crate) fn text(bridge: &Bridge, file: Option<&Path>, program: &str) -> String {
    let mut text = String::new();
    let listening = bridge.listening();
    let address = |name: &str| listening.iter().find(|l| l.name == name).map_or(UNBOUND, |l| l.address);
    let (mqtt, http) = (address("mqtt"), address("http"));
    let wide = listening.iter().map(|l| l.name.len()).max().unwrap_or(0).max(6);
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<wide$} {value}").unwrap_or(());
    for listening in listening {
        line(&listening.name, of_listener(listening));
    }
    line("data", format!("{}  ({})", bridge.data().display(), found(bridge.recovered())));
    line("config", file.map_or_else(|| "defaults".to_owned(), |file| file.display().to_string()));
    let version = env!("CARGO_PKG_VERSION");
    let addr = if mqtt.port() == 1883 && mqtt.ip().is_loopback() {
        String::new()
    } else {
        format!(" --addr {mqtt}")
    };
    format!(
        "weft {version} runs.\n{text}\
         Look at events:    {program} sub{addr} -v 'demo/#'\n\
         Publish one:       {program} pub{addr} demo/hello 'first event'\n\
         Publish with curl: curl -H 'content-type: application/json' -d '{{\"t\": 21.5}}' 'http://{http}/events?topic=demo/hello'\n"
    )
}

fn of_listener(listening: &Listening) -> String {
    let address = listening.address;
    match (listening.protocol, listening.carrier) {
        (Protocol::Mqtt, Carrier::Tcp) => format!("{address}  (MQTT 3.1.1 and 5)"),
        (Protocol::Mqtt, Carrier::Tls) => format!("{address}  (MQTT 3.1.1 and 5 over TLS)"),
        (Protocol::Mqtt, Carrier::Quic) => format!("{address}  (MQTT 3.1.1 and 5 over QUIC, UDP)"),
        (Protocol::Http, Carrier::Tls | Carrier::Quic) => format!("https://{address}  ({PATHS})"),
        (Protocol::Http, Carrier::Tcp) => format!("http://{address}  ({PATHS})"),
        (Protocol::Grpc, Carrier::Tls | Carrier::Quic) => format!("{address}  (EventMesh over gRPC and TLS)"),
        (Protocol::Grpc, Carrier::Tcp) => format!("{address}  (EventMesh over gRPC)"),
        (Protocol::EventmeshHttp, Carrier::Tcp) => format!("http://{address}  (EventMesh over HTTP)"),
        (Protocol::EventmeshHttp, Carrier::Tls | Carrier::Quic) => {
            format!("https://{address}  (EventMesh over HTTP)")
        }
        (Protocol::EventmeshAdmin, Carrier::Tcp) => format!("http://{address}  (EventMesh's operators)"),
        (Protocol::EventmeshAdmin, Carrier::Tls | Carrier::Quic) => {
            format!("https://{address}  (EventMesh's operators)")
        }
        (Protocol::EventmeshTcp, Carrier::Tcp) => format!("{address}  (EventMesh over TCP)"),
        (Protocol::EventmeshTcp, Carrier::Tls | Carrier::Quic) => format!("{address}  (EventMesh over TLS)"),
    }
}

const PATHS: &str = "/events, /ws, /mqtt, /live, /ready, /metrics";
const UNBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn found(recovered: routing::Recovered) -> String {
    let routing::Recovered { sessions, backlog, retained, records: _, wills: _ } = recovered;
    match (sessions, backlog, retained) {
        (0, 0, 0) => "no sessions yet".to_owned(),
        _ => {
            format!("sessions: {sessions}, events that wait for them: {backlog}, retained events: {retained}")
        }
    }
}
