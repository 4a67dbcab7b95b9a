//! The tasks of one part: each is waited for, and a panic in one is counted and ends that one only.

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

/// Tasks that belong together, such as the connections of a listener.
pub(crate) struct Tasks {
    part: &'static str,
    set: JoinSet<()>,
}

impl Tasks {
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, set: JoinSet::new() }
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(task);
    }

    /// Waits for one to end; for ever when there is none. Cancel-safe.
    pub(crate) async fn ended(&mut self) {
        match self.set.join_next().await {
            Some(outcome) => self.note(outcome),
            None => std::future::pending().await,
        }
    }

    /// Waits for all until `deadline`, then cuts off the rest. Not cancel-safe: dropped, it cuts off all.
    pub(crate) async fn finish(mut self, deadline: Instant) {
        while let Ok(Some(outcome)) = timeout_at(deadline, self.set.join_next()).await {
            self.note(outcome);
        }
        if !self.set.is_empty() {
            let cut = self.set.len();
            tracing::warn!(part = self.part, cut, "cut off connections that did not finish in time");
            metrics::counter!("weft_bridge_connections_cut_total", "part" => self.part).increment(cut as u64);
            self.set.shutdown().await;
        }
    }

    fn note(&self, outcome: Result<(), JoinError>) {
        if outcome.is_err_and(|error| error.is_panic()) {
            metrics::counter!("weft_bridge_panics_total", "part" => self.part).increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_ends_one_task_and_a_busy_one_is_cut_off() {
        let mut tasks = Tasks::new("test");
        tasks.spawn(async { panic!("on purpose") });
        tasks.spawn(std::future::pending());
        tasks.ended().await;
        let start = Instant::now();
        tasks.finish(start + Duration::from_secs(3)).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
