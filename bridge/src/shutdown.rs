//! When to stop: SIGTERM or Ctrl-C. A second one ends the process at once.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask Weft to stop.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on the signals do not end the process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
        Ok(Self { terminate, interrupt })
    }

    /// Waits for one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for `stopping`, or for a second signal.
    pub(crate) async fn or_at_once(
        &mut self,
        stopping: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<ExitCode> {
        tokio::select! {
            biased;
            outcome = stopping => outcome.map(|()| ExitCode::SUCCESS),
            name = self.next() => {
                tracing::warn!(signal = name, "asked to stop again: ending at once");
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
