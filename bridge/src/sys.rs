//! `$SYS/broker/…`: what `/metrics` says, under the topics that mosquitto's users know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::TopicName;
use metrics_exporter_prometheus::PrometheusHandle;
use routing::Core;
use tokio::sync::watch;

use crate::listen::stopped;

/// Publishes every `interval` what has changed; zero: never. Ends when `drain` turns true. Cancel-safe.
pub(crate) async fn publish(
    core: Arc<Core>,
    metrics: PrometheusHandle,
    interval: Duration,
    mut drain: watch::Receiver<bool>,
) {
    if interval.is_zero() {
        return stopped(&mut drain).await;
    }
    let mut board = Board::new(interval);
    let mut often = tokio::time::interval(interval);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut drain) => return,
            _ = often.tick() => {
                core.refresh_gauges();
                let sums = Sums::read(&metrics.render(), &crate::process::render());
                core.publish_system(board.values(&sums));
            }
        }
    }
}

/// Metrics by name and labels, as the text of Prometheus has them.
pub(crate) struct Sums(BTreeMap<String, f64>);

impl Sums {
    pub(crate) fn read(metrics: &str, process: &str) -> Self {
        let lines = metrics.lines().chain(process.lines()).filter(|line| !line.starts_with('#'));
        let values = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(values.collect())
    }

    /// The sum of all series of a metric whose labels hold `label`.
    pub(crate) fn with(&self, name: &str, label: &str) -> u64 {
        let series = self.0.range(name.to_owned()..).take_while(|(series, _)| series.starts_with(name));
        let same = series.filter(|(series, _)| {
            let rest = series.get(name.len()..).unwrap_or_default();
            (rest.is_empty() || rest.starts_with('{')) && rest.contains(label)
        });
        same.map(|(_, value)| *value).sum::<f64>().max(0.0) as u64
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.with(name, "")
    }
}

/// What is remembered from one time to the next.
struct Board {
    start: Instant,
    interval: Duration,
    connected_max: u64,
    heap_max: u64,
    loads: BTreeMap<&'static str, Load>,
}

/// How much happens in a minute, on the average of the last 1, 5 and 15.
#[derive(Default)]
struct Load {
    before: u64,
    averages: [f64; 3],
}

const MINUTES: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

impl Load {
    fn add(&mut self, total: u64, seconds: f64) {
        let a_minute = total.saturating_sub(self.before) as f64 * 60.0 / seconds;
        self.before = total;
        for (average, (_, span)) in self.averages.iter_mut().zip(MINUTES) {
            let weight = (-seconds / span).exp();
            *average = a_minute + weight * (*average - a_minute);
        }
    }
}

const PUBLISH: &str = "class=\"publish\"";

impl Board {
    fn new(interval: Duration) -> Self {
        let (connected_max, heap_max, loads) = (0, 0, BTreeMap::new());
        Self { start: Instant::now(), interval, connected_max, heap_max, loads }
    }

    /// The values of all topics.
    fn values(&mut self, sums: &Sums) -> Vec<(TopicName, String)> {
        let connected = sums.of("weft_mqtt_connections");
        let away = sums.of("weft_core_sessions_away");
        let heap = sums.of("process_resident_memory_bytes");
        let dropped = sums.of("weft_core_events_dropped_total");
        let retained = sums.of("weft_core_retained_events");
        let stored = sums.of("weft_core_backlog_events").saturating_add(retained);
        self.connected_max = self.connected_max.max(connected);
        self.heap_max = self.heap_max.max(heap).max(sums.of("process_resident_memory_max_bytes"));
        let counts = [
            ("clients/connected", connected),
            ("clients/disconnected", away),
            ("clients/total", connected.saturating_add(away)),
            ("clients/maximum", self.connected_max),
            ("clients/expired", sums.of("weft_core_sessions_expired_total")),
            ("clients/active", connected),
            ("clients/inactive", away),
            ("messages/stored", stored),
            ("store/messages/count", stored),
            ("store/messages/bytes", sums.of("weft_core_memory_bytes")),
            ("retained messages/count", retained),
            ("subscriptions/count", sums.of("weft_core_subscriptions")),
            ("heap/current", heap),
            ("heap/maximum", self.heap_max),
            ("publish/messages/dropped", dropped),
        ];
        // These have averages beside them.
        let rising = [
            ("messages/received", "messages/received", sums.of("weft_mqtt_packets_in_total")),
            ("messages/sent", "messages/sent", sums.of("weft_mqtt_packets_out_total")),
            (
                "publish/messages/received",
                "publish/received",
                sums.with("weft_mqtt_packets_in_total", PUBLISH),
            ),
            ("publish/messages/sent", "publish/sent", sums.with("weft_mqtt_packets_out_total", PUBLISH)),
            ("bytes/received", "bytes/received", sums.of("weft_mqtt_in_bytes_total")),
            ("bytes/sent", "bytes/sent", sums.of("weft_mqtt_out_bytes_total")),
            ("publish/bytes/received", "", sums.of("weft_core_in_bytes_total")),
            ("publish/bytes/sent", "", sums.of("weft_core_delivered_bytes_total")),
            ("", "publish/dropped", dropped),
            ("", "connections", sums.of("weft_mqtt_connects_total")),
            ("", "sockets", sums.of("weft_transport_connections_accepted_total")),
        ];
        let mut all = vec![
            value("version", format!("weft version {}", env!("CARGO_PKG_VERSION"))),
            value("uptime", format!("{} seconds", self.start.elapsed().as_secs())),
        ];
        all.extend(counts.iter().map(|(name, count)| value(name, count.to_string())));
        for (name, load, total) in rising {
            if !name.is_empty() {
                all.push(value(name, total.to_string()));
            }
            if !load.is_empty() {
                let averages = self.loads.entry(load).or_default();
                averages.add(total, self.interval.as_secs_f64());
                for (average, (minutes, _)) in averages.averages.iter().zip(MINUTES) {
                    all.push(value(&format!("load/{load}/{minutes}"), format!("{average:.2}")));
                }
            }
        }
        all.into_iter().flatten().collect()
    }
}

fn value(name: &str, text: String) -> Option<(TopicName, String)> {
    Some((TopicName::parse(format!("$SYS/broker/{name}")).ok()?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "# HELP weft_mqtt_packets_in_total x\n\
        weft_mqtt_packets_in_total{class=\"publish\"} 60\n\
        weft_mqtt_packets_in_total{class=\"ack\"} 30\n\
        weft_mqtt_connections 3\n\
        weft_mqtt_connections_of_another 7\n\
        weft_core_sessions_away 2\n";

    fn find(values: &[(TopicName, String)], name: &str) -> String {
        let topic = format!("$SYS/broker/{name}");
        let (_, data) = values.iter().find(|(have, _)| have.as_str() == topic).unwrap();
        data.clone()
    }

    #[test]
    fn values_are_those_of_the_metrics() {
        let mut board = Board::new(Duration::from_secs(10));
        let values = board.values(&Sums::read(METRICS, "process_resident_memory_bytes 4096\n"));
        for (name, text) in [
            ("messages/received", "90"),
            ("publish/messages/received", "60"),
            ("clients/connected", "3"),
            ("clients/total", "5"),
            ("heap/current", "4096"),
            ("retained messages/count", "0"),
        ] {
            assert_eq!(find(&values, name), text, "{name}");
        }
    }

    #[test]
    fn averages_follow_the_rate_of_a_minute() {
        let mut load = Load::default();
        for tick in 1..=600 {
            load.add(tick * 10, 10.0);
        }
        // 10 in 10 seconds for 100 minutes.
        assert!(load.averages.iter().all(|average| (59.5..=60.0).contains(average)), "{:?}", load.averages);
        load.add(6000, 10.0);
        assert!(load.averages[0] < 52.0 && load.averages[2] > 58.0, "{:?}", load.averages);
    }
}
