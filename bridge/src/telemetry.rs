//! Logs to standard error, and the recorder behind `/metrics`.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use config::{Log, LogFormat};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::catalog::{Kind, METRICS};
use crate::listen::stopped;

/// Upper bounds of time buckets, seconds: from a write to memory to a disk that is stuck.
const SECONDS: &[f64] = &[0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Upper bounds of other buckets (events, bytes): powers of four.
const SIZES: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0];

/// Sends logs to standard error, panics included.
pub fn start_logs(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).context("log.level")?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    outcome.map_err(|error| anyhow::anyhow!("logs were started twice: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(reason, at, "a task panicked");
    }));
    Ok(())
}

/// Folds histograms together, so that they take no more memory while nobody asks for `/metrics`. Ends when `drain`
/// turns true. Cancel-safe.
pub(crate) async fn upkeep(metrics: PrometheusHandle, mut drain: watch::Receiver<bool>) {
    let mut often = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut drain) => return,
            _ = often.tick() => metrics.run_upkeep(),
        }
    }
}

const UPKEEP: Duration = Duration::from_secs(5);

/// Starts to count; the handle renders `/metrics`.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets(SIZES)?;
    let handle = builder.install_recorder().context("metrics were started twice")?;
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
        }
    }
    Ok(handle)
}
