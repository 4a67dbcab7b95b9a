//! Filters of subscriptions, compiled: which events of its topics one wants.
//!
//! Whether an event passes is a function of the event as the log holds it, so what a session is owed stays a function of
//! the log. Subscriptions with the same filter share one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use event::{Event, Reject, RejectKind, Select};
use filter::{EventView, Filter, Verdict};
use foldhash::fast::RandomState;
use metrics::Counter;
use parking_lot::Mutex;

use crate::metrics::Metrics;

/// The filter of a subscription.
pub(crate) struct Selection {
    select: Select,
    /// `None`: the log has it, and this Weft cannot read it. Nothing passes.
    filter: Option<Filter>,
    /// Events that did not pass, and those for which nobody can say.
    failed: Counter,
    unknown: Counter,
}

/// The filters of all subscriptions.
#[derive(Default)]
pub(crate) struct Selections(Mutex<Known>);

#[derive(Default)]
struct Known {
    of: HashMap<Select, Weak<Selection>, RandomState>,
    /// So many in the map, and those that are over are taken out.
    sweep: usize,
}

/// The least number of filters at which those that are over are looked for.
const SWEEP: usize = 64;

impl Selections {
    /// The filter that a subscriber asks for.
    ///
    /// # Errors
    /// It is none, with what is wrong and where.
    pub(crate) fn of(&self, select: &Select, metrics: &Metrics) -> Result<Arc<Selection>, Reject> {
        if let Some(known) = self.known(select) {
            return Ok(known);
        }
        let filter = Filter::of(select).map_err(|error| {
            Reject::new(RejectKind::Malformed, format!("the {} filter is wrong: {error}", select.language))
        })?;
        Ok(self.add(select, Some(filter), metrics))
    }

    /// The filter of a subscription that the log holds.
    pub(crate) fn recorded(&self, select: &Select, metrics: &Metrics) -> Arc<Selection> {
        self.of(select, metrics).unwrap_or_else(|reject| {
            tracing::error!(%reject, "a filter in the log cannot be read; its subscription gets nothing");
            self.add(select, None, metrics)
        })
    }

    /// Whether this one is not known, and there are `most` already.
    pub(crate) fn is_full(&self, select: &Select, most: usize) -> bool {
        let mut known = self.0.lock();
        if known.of.len() < most || known.of.get(select).is_some_and(|known| known.strong_count() > 0) {
            return false;
        }
        known.of.retain(|_, selection| selection.strong_count() > 0);
        known.of.len() >= most
    }

    fn known(&self, select: &Select) -> Option<Arc<Selection>> {
        self.0.lock().of.get(select)?.upgrade()
    }

    fn add(&self, select: &Select, filter: Option<Filter>, metrics: &Metrics) -> Arc<Selection> {
        let mut known = self.0.lock();
        if known.of.len() >= known.sweep {
            known.of.retain(|_, selection| selection.strong_count() > 0);
            known.sweep = known.of.len().saturating_mul(2).max(SWEEP);
        }
        // The text may be a part of a packet, which it must not keep in memory.
        let select = Select { language: select.language, text: String::from(&*select.text).into() };
        let (failed, unknown) = (metrics.filtered.clone(), metrics.filter_errors.clone());
        let selection = Arc::new(Selection { select: select.clone(), filter, failed, unknown });
        known.of.insert(select, Arc::downgrade(&selection));
        selection
    }
}

impl Selection {
    /// As the subscriber wrote it.
    pub(crate) fn select(&self) -> &Select {
        &self.select
    }

    /// Whether an event passes; counted if it does not.
    pub(crate) fn passes(&self, view: &EventView<'_>) -> bool {
        let verdict = self.filter.as_ref().map_or(Verdict::Error, |filter| filter.judge(view));
        match verdict {
            Verdict::Passes => return true,
            Verdict::Fails => self.failed.increment(1),
            Verdict::Error => self.unknown.increment(1),
        }
        false
    }

    /// As [`Self::passes`], where nothing else looks at the event.
    pub(crate) fn passes_event(&self, event: &Event) -> bool {
        self.passes(&EventView::new(event))
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.select.fmt(f)
    }
}
