//! What happens by the clock: wills and delayed events that are due, sessions that are over, gauges.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::held;
use crate::notes::Change;
use crate::shared::{Shared, now_ms};
use crate::wills;

/// Works until Weft stops. Cancel-safe but for wills that are being published.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut publishing = JoinSet::new();
    while !shared.is_stopping() {
        tokio::select! {
            biased;
            () = wills::wait(&shared) => wills::publish_due(&shared).await,
            () = held::wait(&shared) => held::publish_due(&shared, &mut publishing).await,
            Some(_) = publishing.join_next() => {}
            _ = tick.tick() => {
                end_sessions(&shared);
                wills::record(&shared);
                gauges(&shared);
            }
        }
    }
}

fn end_sessions(shared: &Shared) {
    let now_ms = now_ms();
    let mut registry = shared.registry.lock();
    let over: Vec<_> = registry
        .sessions()
        .filter(|session| session.expires_ms().is_some_and(|expires| expires <= now_ms))
        .cloned()
        .collect();
    for session in over {
        shared.end(&mut registry, &session);
        if session.durable {
            shared.append_unanswered(&Change::Ended { session: session.key });
        }
        shared.metrics.sessions_expired.increment(1);
        tracing::debug!(client_id = %session.client, "session expired");
    }
}

/// Sets the gauges to what is.
pub(crate) fn gauges(shared: &Shared) {
    let metrics = &shared.metrics;
    let sessions = shared.registry.lock().len();
    let attached = shared.totals.attached.load(std::sync::atomic::Ordering::Relaxed);
    metrics.sessions.set(sessions as f64);
    metrics.away.set(sessions.saturating_sub(attached) as f64);
    metrics.subscriptions.set(shared.trie.read().len() as f64);
    metrics.retained.set(shared.retained.read().count() as f64);
    metrics.held.set(shared.held.lock().len() as f64);
    metrics.replays.set(shared.replays.load(std::sync::atomic::Ordering::Relaxed) as f64);
    metrics.backlog.set(shared.totals.backlog.load(std::sync::atomic::Ordering::Relaxed) as f64);
    metrics.memory.set(shared.totals.memory.load(std::sync::atomic::Ordering::Relaxed) as f64);
}

/// Whole seconds of a session's life as a record holds it; `u64::MAX` is for ever.
pub(crate) fn keep_s(keep: Duration) -> u64 {
    keep.as_secs().saturating_add(u64::from(keep.subsec_nanos() > 0))
}

/// The reverse of [`keep_s`].
pub(crate) fn keep_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
