//! Does what is due: publishes events whose time has come, and asks publishers what became of their transactions.

use std::sync::Arc;
use std::time::Duration;

use event::event::{Attributes, Meta, Value};
use event::hub::{Outcome, Publish};
use event::store::{Append, Entry, Position};
use event::{Event, Guarantee, Origin, Parts, Principal, RejectKind, TopicName};
use tokio::task::JoinSet;

use super::ask::answered;
use super::{Due, Standing, Transaction, Until};
use crate::account::Account;
use crate::notes::Change;
use crate::publish::{Marks, Publisher};
use crate::shared::{Shared, now_ms};

/// How much is read from the log at once.
const BATCH_BYTES: usize = 4 << 20;
/// How long one waits that the store could not take.
const RETRY_MS: u64 = 1000;
/// Who asks for decisions.
const ASKER: &str = "$transactions";

/// Resolves when something is due, and whenever that may have changed. Cancel-safe.
pub(crate) async fn wait(shared: &Shared) {
    let changed = shared.held_changed.notified();
    let next = shared.held.lock().next_due();
    match next.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms()))) {
        None => changed.await,
        // The clock of the day may be set: looked at again at least once a second.
        Some(wait) => tokio::time::timeout(wait.min(Duration::from_secs(1)), changed).await.unwrap_or(()),
    }
}

/// Starts what is due, in `tasks`: a store that is slow holds up nothing else.
pub(crate) async fn publish_due(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    loop {
        let due = shared.held.lock().take_due(now_ms(), BATCH_BYTES);
        if due.is_empty() {
            return;
        }
        let events = shared.store.read(due.iter().map(|one| one.standing.position).collect()).await;
        let events = match events {
            Ok(events) => events,
            Err(reject) => {
                tracing::warn!(%reject, "delayed events cannot be read from the log now");
                let mut held = shared.held.lock();
                due.iter().for_each(|one| held.set_due(one.id, now_ms().saturating_add(RETRY_MS)));
                return;
            }
        };
        for (one, event) in due.into_iter().zip(events) {
            match (event, &one.standing.until) {
                (None, _) => lose(shared, &one),
                (Some(event), Until::Time(_)) => publish(shared, tasks, one, &event),
                (Some(event), Until::Decision(transaction)) => ask(shared, tasks, &one, transaction, &event),
            }
        }
    }
}

/// The log does not hold it any more.
fn lose(shared: &Shared, one: &Due) {
    tracing::error!(position = one.standing.position.0, "a delayed event is gone from the log");
    shared.metrics.dropped_lost.increment(1);
    end(shared, one.id);
}

fn publish(shared: &Arc<Shared>, tasks: &mut JoinSet<()>, Due { id, standing }: Due, event: &Event) {
    let Standing { client, tenant, guarantee, retain, .. } = standing;
    let who = Principal { client, ..Principal::anonymous("") };
    let publish = Publish { event: answered(event, now_ms()), guarantee, retain, id: None };
    let marks = Marks { will: Some((id, tenant)), ..Marks::default() };
    let admission = Publisher::default().publish(shared, &who, marks, vec![publish]);
    let shared = Arc::clone(shared);
    tasks.spawn(async move { settle(&shared, id, admission.receipt().await.await) });
}

/// What becomes of one that was handed to the store.
fn settle(shared: &Shared, id: u64, outcome: Outcome) {
    // After a yes the dispatcher passed it.
    if let Err(reject) = outcome.whole() {
        match reject.kind {
            RejectKind::Denied | RejectKind::Unproved | RejectKind::Malformed => {
                tracing::warn!(%reject, "a delayed event is refused for good");
                end(shared, id);
            }
            RejectKind::Busy | RejectKind::Unavailable => {
                shared.held.lock().set_due(id, now_ms().saturating_add(RETRY_MS));
            }
            // The log has it; it is published after the next start.
            RejectKind::Closed => {}
        }
    }
    shared.held_changed.notify_one();
}

/// Ends one without publishing it. Unrecorded, it would be tried again after the next start.
fn end(shared: &Shared, id: u64) {
    shared.held.lock().remove(id);
    shared.append_unanswered(&Change::Decided { held: id, commit: false, id: None });
}

/// Asks the publisher of a transaction, or gives it up.
fn ask(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    Due { id, standing }: &Due,
    transaction: &Transaction,
    event: &Event,
) {
    let options = &shared.options.held;
    if standing.asked() > options.checks {
        tracing::warn!(
            topic = transaction.topic,
            transaction = transaction.id,
            "nobody decided about a transaction: rolled back"
        );
        shared.metrics.transactions(None);
        return end(shared, *id);
    }
    shared.held.lock().set_due(*id, now_ms().saturating_add(u64::from(options.check_s) * 1000));
    let Some(question) = question(shared, standing, transaction, event) else { return };
    let publish = Publish { event: question, guarantee: Guarantee::AtLeastOnce, retain: false, id: None };
    let who = Principal { origin: Origin::Weft, ..Principal::anonymous(ASKER) };
    let admission = Publisher::default().publish(shared, &who, Marks::default(), vec![publish]);
    // It is asked again if this one is lost. The ledger tells what became of a publish to those who wait for it.
    tasks.spawn(async move { drop(admission.receipt().await.await) });
}

/// The event that asks: what the transaction holds, on a topic of its own.
fn question(shared: &Shared, standing: &Standing, transaction: &Transaction, event: &Event) -> Option<Event> {
    let now_ms = now_ms();
    let stamp = shared.stamps.clone().take();
    let text = |text: &str| Value::String(text.into());
    let attributes = Attributes {
        id: format!("{stamp:016x}").into(),
        source: "/weft".into(),
        ty: "weft.transaction.check".into(),
        subject: Some((&*transaction.topic).into()),
        time: None,
        dataschema: None,
        extensions: vec![
            ("transactionid".into(), text(&transaction.id)),
            ("check".into(), Value::Integer(i32::try_from(standing.asked()).unwrap_or(i32::MAX))),
        ],
    };
    let meta = Meta {
        attributes: Some(attributes),
        content_type: event.data_content_type().map(Into::into),
        ..Meta::default()
    };
    Some(Event::new(Parts {
        topic: TopicName::parse(format!("$weft/transactions/{}", transaction.topic)).ok()?,
        data: event.data().clone(),
        stamp,
        received_ms: now_ms,
        expires_ms: now_ms.saturating_add(u64::from(shared.options.held.check_s) * 1000),
        publisher: Arc::from(ASKER),
        meta: Some(Box::new(meta)),
    }))
}

/// Appends those that stand below `old` again, so that the log can free what is before them.
pub(crate) async fn move_old(shared: &Shared, old: Position) {
    let mut old: Vec<(u64, Standing)> = {
        let held = shared.held.lock();
        let old = held.behind(0).filter(|(_, standing)| standing.position < old);
        old.map(|(id, standing)| (id, standing.clone())).collect()
    };
    while !old.is_empty() {
        let rest = old.split_off(old.len().min(256));
        let some = std::mem::replace(&mut old, rest);
        let Ok(events) = shared.store.read(some.iter().map(|(_, one)| one.position).collect()).await else {
            return;
        };
        let entries = some.into_iter().zip(events).filter_map(|((held, standing), event)| {
            let Standing { client, tenant, guarantee, retain, until, .. } = standing;
            let change = Change::Held { held, client, guarantee, retain, id: None, until, moved: true };
            Some(Entry { event: Some(event?), note: Account::NONE.of(tenant).mark(change.encode()) })
        });
        shared.store.append(Append::unanswered(entries.collect())).await;
    }
}
