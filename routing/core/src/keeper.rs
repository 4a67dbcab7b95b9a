//! What happens by the clock: wills that are due, sessions that are over, gauges.

use std::sync::Arc;
use std::time::Duration;

use event::hub::{Admission, Publish};
use event::{Event, Principal};

use crate::notes::Change;
use crate::publish::Publisher;
use crate::shared::{Shared, now_ms};

/// A will and when it is published.
pub(crate) struct DueWill {
    at_ms: u64,
    /// The session that can still come back and call it off.
    session: u64,
    who: Principal,
    publish: Publish,
}

/// Publishes a will after `delay`.
pub(crate) fn schedule(shared: &Shared, session: u64, who: Principal, publish: Publish, delay: Duration) {
    let at_ms = now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    shared.wills.lock().push(DueWill { at_ms, session, who, publish });
    shared.wills_changed.notify_one();
}

/// The session is taken up again: its will that is not due is called off \[MQTT-3.1.3-9\].
pub(crate) fn call_off(shared: &Shared, session: u64) {
    let now_ms = now_ms();
    shared.wills.lock().retain(|will| will.session != session || will.at_ms <= now_ms);
}

/// Works until Weft stops. Cancel-safe but for wills that are being published.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !shared.is_stopping() {
        tokio::select! {
            biased;
            () = shared.wills_changed.notified() => {}
            _ = tick.tick() => {
                end_sessions(&shared);
                gauges(&shared);
            }
        }
        publish_wills(&shared).await;
    }
}

/// Publishes every will now: Weft stops, and nobody will be here to publish them later.
pub(crate) async fn publish_all_wills(shared: &Arc<Shared>) {
    for will in &mut *shared.wills.lock() {
        will.at_ms = 0;
    }
    publish_wills(shared).await;
}

async fn publish_wills(shared: &Arc<Shared>) {
    let now_ms = now_ms();
    let due: Vec<DueWill> = {
        let mut wills = shared.wills.lock();
        wills.extract_if(.., |will| will.at_ms <= now_ms).collect()
    };
    for will in due {
        let publish = Publish { event: as_of(&will.publish.event, now_ms), ..will.publish };
        match Publisher::default().publish(shared, &will.who, None, vec![publish]) {
            Admission::Admitted(_) => {}
            Admission::Waiting(admitted) => drop(admitted.await),
        }
        tracing::debug!(client_id = %will.who.client, "will published");
    }
}

/// The event of a will, made when the client came, as if made now: its life begins when it is published (MQTT 5 §3.1.3.2.4).
fn as_of(event: &Event, now_ms: u64) -> Event {
    let mut parts = event.parts().clone();
    if parts.expires_ms != 0 {
        parts.expires_ms = now_ms.saturating_add(parts.expires_ms.saturating_sub(parts.received_ms));
    }
    parts.received_ms = now_ms;
    Event::new(parts)
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
        tracing::debug!(client_id = %session.client, "session expired");
    }
}

fn gauges(shared: &Shared) {
    let metrics = &shared.metrics;
    metrics.sessions.set(shared.registry.lock().len() as f64);
    metrics.subscriptions.set(shared.trie.read().len() as f64);
    metrics.retained.set(shared.retained.read().count() as f64);
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
