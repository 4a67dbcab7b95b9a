//! Rights on the way in: which wishes of a batch are not allowed, and subscriptions that rules, once changed, end.

use std::sync::atomic::Ordering;
use std::time::Instant;

use event::access::Rights;
use event::audit::Wanted;
use event::hub::{Delivery, Granted, Subscribe};
use event::{Principal, Reject, RejectKind, TopicFilter};

use crate::group::other_filter;
use crate::notes::Change;
use crate::quota::Held;
use crate::session::{Session, Subscriptions};
use crate::shared::Shared;

/// A refusal for who may not do what it asks.
pub(crate) fn denied(what: &'static str) -> Reject {
    Reject::new(RejectKind::Denied, what)
}

/// Takes out of `wanted` what the session cannot have; gives why, with the places it had, rising.
pub(crate) fn refuse(
    shared: &Shared,
    (who, held): (&Principal, &mut Held),
    session: &Session,
    wanted: &mut Vec<Subscribe>,
) -> Vec<(usize, Reject)> {
    let mut refused = Vec::new();
    let mut place = 0;
    let unfinished = shared.replays.load(Ordering::Relaxed);
    let mut room =
        usize::try_from(shared.options.replay.unfinished).unwrap_or(usize::MAX).saturating_sub(unfinished);
    let state = session.state.lock();
    let mut filters = state.subscriptions.selective();
    held.set_subscriptions(state.subscriptions.len());
    wanted.retain(|wish| {
        let reject =
            if let Some(reject) = refuse_filter(shared, session, &state.subscriptions, &mut filters, wish) {
                Some(reject)
            } else if !who.rights.may_subscribe(&wish.filter) {
                let reject = denied("not allowed to subscribe to this filter");
                let filter = wish.filter.as_str();
                shared.audit.refused(who, Wanted::Subscribe, Some(filter), &reject, Instant::now());
                Some(reject)
            } else if !state.subscriptions.contains(&wish.filter)
                && let Err(reject) = held.subscribe()
            {
                Some(reject)
            } else if wish.replay.is_none() {
                None
            } else if wish.filter.share().is_some() {
                let reason = "a shared subscription has no replay: its group shares one place in the log";
                Some(Reject::new(RejectKind::Malformed, reason))
            } else if room == 0 {
                let reason = format!("{unfinished} replays are unfinished, the limit core.replay.unfinished");
                Some(Reject::new(RejectKind::Busy, reason))
            } else {
                room -= 1;
                None
            };
        let taken = reject.is_none();
        refused.extend(reject.map(|reject| (place, reject)));
        place += 1;
        taken
    });
    refused
}

/// Why a wish cannot have its filter; `filters` counts those of the session.
fn refuse_filter(
    shared: &Shared,
    session: &Session,
    have: &Subscriptions,
    filters: &mut usize,
    wish: &Subscribe,
) -> Option<Reject> {
    if let Some(group) = shared.group(&wish.filter)
        && group.differs(session.key, wish.select.as_ref(), false)
    {
        return Some(other_filter(&group));
    }
    let select = wish.select.as_ref()?;
    let limits = &shared.options.filter;
    let (most, different) = (limits.session as usize, limits.different as usize);
    // One that is replaced leaves its place.
    let new = have.selection(&wish.filter).is_none();
    if new && *filters >= most {
        let reason = format!("{most} filters, the limit core.filter.session");
        return Some(Reject::new(RejectKind::Busy, reason));
    }
    if shared.selections.is_full(select, different) {
        let reason = format!("{different} different filters, the limit core.filter.different");
        return Some(Reject::new(RejectKind::Busy, reason));
    }
    let refused = shared.selections.of(select, &shared.metrics).err();
    if new && refused.is_none() {
        *filters += 1;
    }
    refused
}

/// The answers to all wishes: those to the allowed ones, with refusals at the places that [`refuse`] gave.
pub(crate) fn answers(
    mut granted: Vec<Result<Granted, Reject>>,
    refused: Vec<(usize, Reject)>,
) -> Vec<Result<Granted, Reject>> {
    // Places rise, so each insert finds all before it in place.
    for (place, reject) in refused {
        granted.insert(place.min(granted.len()), Err(reject));
    }
    granted
}

/// Ends the subscriptions of `session` that `rights` do not allow, and tells whether there was one.
pub(crate) fn revoke(shared: &Shared, session: &Session, rights: &Rights) -> bool {
    let over: Vec<TopicFilter> = {
        let state = session.state.lock();
        let all = state.subscriptions.iter().map(|(filter, _)| filter);
        all.filter(|filter| !rights.may_subscribe(filter)).cloned().collect()
    };
    if over.is_empty() {
        return false;
    }
    tracing::info!(client_id = %session.client, ended = over.len(), "subscriptions ended: not allowed any more");
    if session.durable {
        // Until the dispatcher passes it, the connection leaves out what is not allowed. A store without room loses the
        // record; then the next attach ends them.
        shared.append_unanswered(&Change::Unsubscribed { session: session.key, ticket: 0, filters: over });
    } else {
        shared.unsubscribe(session, &over, false);
    }
    true
}

/// Takes out of `deliveries`, from place `start` on, what no subscription that is allowed wants. Gives the numbers of
/// those that have to be acked in the subscriber's place.
pub(crate) fn leave_out(
    session: &Session,
    rights: &Rights,
    deliveries: &mut Vec<Delivery>,
    start: usize,
) -> Vec<u64> {
    let state = session.state.lock();
    let allowed: Vec<&TopicFilter> =
        state.subscriptions.iter().map(|(filter, _)| filter).filter(|f| rights.may_subscribe(f)).collect();
    let mut numbers = Vec::new();
    let mut place = 0;
    deliveries.retain(|delivery| {
        place += 1;
        let wanted = place <= start || allowed.iter().any(|filter| filter.matches(delivery.event.topic()));
        if !wanted {
            numbers.extend(delivery.number);
        }
        wanted
    });
    numbers
}
