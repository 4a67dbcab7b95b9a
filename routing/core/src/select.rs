//! Filters of subscriptions, compiled: which events of its topics one wants.
//!
//! Whether an event passes is a function of the event as the log holds it, so what a session is owed stays a function of
//! the log. Subscriptions with the same filter share one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use event::{Event, Reject, RejectKind, Select};
use filter::{EventView, Filter, Judgement, Verdict};
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

    fn judge(&self, view: &EventView<'_>) -> Judgement {
        let unreadable = Judgement { verdict: Verdict::Error, steps: 0 };
        self.filter.as_ref().map_or(unreadable, |filter| filter.judge(view))
    }

    /// Whether this verdict lets an event pass; counted if it does not.
    fn count(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Passes => return true,
            Verdict::Fails => self.failed.increment(1),
            Verdict::Error => self.unknown.increment(1),
        }
        false
    }

    /// Whether an event passes; counted if it does not.
    pub(crate) fn passes(&self, view: &EventView<'_>) -> bool {
        self.count(self.judge(view).verdict)
    }

    /// As [`Self::passes`], where nothing else looks at the event.
    pub(crate) fn passes_event(&self, event: &Event) -> bool {
        self.passes(&EventView::new(event))
    }
}

/// What the filters of one session may still cost for one event: a session with filters that are made to be slow holds up
/// publishers as some deliveries do, however many it has.
#[derive(Debug)]
pub(crate) struct Allowance(usize);

/// So many times what one filter may cost: more than a hundred sensible ones do.
const FILTERS: usize = 4;

impl Allowance {
    pub(crate) fn new(view: &EventView<'_>) -> Self {
        Self(view.steps_max().saturating_mul(FILTERS))
    }

    /// Whether the event passes; counted if it does not. Nothing does once the allowance is used up. `known` is what the filter
    /// said of the event before: it costs this session the same, so whether an event passes does not depend on others.
    pub(crate) fn passes(
        &mut self,
        selection: &Selection,
        view: &EventView<'_>,
        known: &mut Option<Judgement>,
    ) -> bool {
        if self.0 == 0 {
            return selection.count(Verdict::Error);
        }
        let Judgement { verdict, steps } = *known.get_or_insert_with(|| selection.judge(view));
        self.0 = self.0.saturating_sub(steps);
        selection.count(verdict)
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.select.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use event::Language;

    use super::*;
    use crate::testing::event;

    fn selection(text: &'static str) -> (Selection, Arc<AtomicU64>, Arc<AtomicU64>) {
        let select = Select { language: Language::Cel, text: text.into() };
        let filter = Some(Filter::of(&select).unwrap());
        let (failed, unknown) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counter = |of: &Arc<AtomicU64>| Counter::from_arc(Arc::clone(of));
        let selection = Selection { select, filter, failed: counter(&failed), unknown: counter(&unknown) };
        (selection, failed, unknown)
    }

    /// With five hundred numbers and one.
    fn numbers() -> Event {
        event("a", format!("[{}0]", "1,".repeat(500)))
    }

    #[test]
    fn a_session_costs_an_event_as_much_as_four_filters_whatever_it_sends() {
        let event = numbers();
        let view = EventView::new(&event);
        let (slow, failed, unknown) = selection("data.all(a, data.all(b, data.all(c, a + b + c > 0)))");
        let mut allowance = Allowance::new(&view);
        let mut steps = 0;
        for n in 0..100 {
            let mut known = None;
            assert!(!allowance.passes(&slow, &view, &mut known));
            assert_eq!(known.is_some(), n < FILTERS, "filter {n} was asked");
            steps += known.map_or(0, |known| known.steps);
        }
        assert_eq!(steps, FILTERS * view.steps_max());
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((counted(&failed), counted(&unknown)), (0, 100));
        // What would pass does not either, but for another session.
        let (all, ..) = selection("data[0] == 1");
        assert!(!allowance.passes(&all, &view, &mut None));
        assert!(Allowance::new(&view).passes(&all, &view, &mut None));
    }

    #[test]
    fn a_hundred_sensible_filters_are_within_the_allowance() {
        let event = numbers();
        let view = EventView::new(&event);
        let (sensible, ..) = selection("topic.startsWith('a') && data[0] in [1, 2, 3] && data.size() > 500");
        let mut allowance = Allowance::new(&view);
        for _ in 0..100 {
            assert!(allowance.passes(&sensible, &view, &mut None));
        }
    }

    #[test]
    fn what_another_session_had_judged_costs_as_much() {
        let event = numbers();
        let view = EventView::new(&event);
        let (filter, ..) = selection("data.exists(a, a == 0)");
        let mut known = None;
        let (mut first, mut second) = (Allowance::new(&view), Allowance::new(&view));
        assert!(first.passes(&filter, &view, &mut known));
        assert!(second.passes(&filter, &view, &mut known));
        assert!(second.0 < Allowance::new(&view).0);
        assert_eq!(first.0, second.0);
    }
}
