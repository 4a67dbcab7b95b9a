//! What Weft says when it has started: what listens where, where events are, and what to try first.

use std::fmt::Write as _;
use std::path::Path;

use crate::Bridge;

/// The lines, with commands that work as they stand from the folder in which `program` was started.
pub(crate) fn text(bridge: &Bridge, file: Option<&Path>, program: &str) -> String {
    let mut text = String::new();
    let addresses = bridge.addresses();
    let (mqtt, http) = (addresses.mqtt, addresses.http);
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<7}{value}").unwrap_or(());
    line("mqtt", format!("{mqtt}  (MQTT 3.1.1 and 5)"));
    line("http", format!("http://{http}  (/events, /ws, /mqtt, /live, /ready, /metrics)"));
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

fn found(recovered: routing::Recovered) -> String {
    let routing::Recovered { sessions, backlog, retained, records: _, wills: _ } = recovered;
    match (sessions, backlog, retained) {
        (0, 0, 0) => "no sessions yet".to_owned(),
        _ => {
            format!("sessions: {sessions}, events that wait for them: {backlog}, retained events: {retained}")
        }
    }
}
