//! What happens by the clock: wills and delayed events that are due, sessions that are over, gauges; and audit events.

use std::sync::Arc;
use std::time::Duration;

use event::audit::Told;
use metrics::{Label, counter, gauge};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::audit;
use crate::held;
use crate::intake::Fate;
use crate::ledger::End;
use crate::notes::Change;
use crate::shared::{Shared, now_ms};
use crate::wills;

/// Works until Weft stops. Cancel-safe but for wills that are being published.
pub(crate) async fn run(shared: Arc<Shared>, mut audit: mpsc::Receiver<Told>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut publishing = JoinSet::new();
    while !shared.is_stopping() {
        tokio::select! {
            biased;
            () = wills::wait(&shared) => wills::publish_due(&shared).await,
            () = held::wait(&shared) => held::publish_due(&shared, &mut publishing).await,
            Some(told) = audit.recv(), if publishing.len() < audit::WAITING => {
                audit::publish(&shared, &told, &mut publishing);
            }
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
    ledger(shared);
    metrics.memory.set(shared.totals.memory.load(std::sync::atomic::Ordering::Relaxed) as f64);
}

/// What became of publishes and deliveries, by route and tenant. A count that was seen stays, also where a sum that is taken piece by piece misses
/// what moves meanwhile.
fn ledger(shared: &Shared) {
    for ((route, tenant), (book, published)) in shared.books_by_name() {
        let of = || vec![Label::new("route", route.clone()), Label::new("tenant", tenant.clone())];
        let how = |how: &'static str| [of(), vec![Label::new("how", how)]].concat();
        counter!("weft_ledger_in_total", of()).absolute(published.came);
        gauge!("weft_ledger_under_way", of()).set(published.under_way() as f64);
        for fate in Fate::ALL {
            counter!("weft_ledger_published_total", how(fate.as_str())).absolute(published.of(fate));
        }
        gauge!("weft_ledger_queued", of()).set(book.queued() as f64);
        counter!("weft_ledger_owed_total", of()).absolute(book.owed);
        for end in End::ALL {
            counter!("weft_ledger_ended_total", how(end.as_str())).absolute(book.of(end));
        }
    }
}

/// Whole seconds of a session's life as a record holds it; `u64::MAX` is for ever.
pub(crate) fn keep_s(keep: Duration) -> u64 {
    keep.as_secs().saturating_add(u64::from(keep.subsec_nanos() > 0))
}

/// The reverse of [`keep_s`].
pub(crate) fn keep_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
