//! What one session subscribed: few topic filters in most sessions, and many sessions, so they stand in one sorted piece of
//! memory without room to spare. What selects among their events is beside them: most have nothing that does. Sans-io.

use std::sync::Arc;

use event::TopicFilter;
use event::hub::SubscribeOptions;

use crate::select::Selection;

/// Filters with their options, sorted by filter.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<(TopicFilter, SubscribeOptions)>, Vec<(TopicFilter, Arc<Selection>)>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, filter: &TopicFilter) -> bool {
        self.place(filter).is_ok()
    }

    /// How many of them have a filter.
    pub(crate) fn selective(&self) -> usize {
        self.1.len()
    }

    /// The filter of a subscription, if it has one.
    pub(crate) fn selection(&self, filter: &TopicFilter) -> Option<&Arc<Selection>> {
        self.1.iter().find(|(known, _)| known == filter).map(|(_, selection)| selection)
    }

    /// All that have a filter, with it.
    pub(crate) fn selections(&self) -> impl Iterator<Item = (&TopicFilter, &Arc<Selection>)> {
        self.1.iter().map(|(filter, selection)| (filter, selection))
    }

    /// Puts a subscription in, in place of one with the same topic filter.
    pub(crate) fn insert(
        &mut self,
        filter: &TopicFilter,
        options: SubscribeOptions,
        selection: Option<Arc<Selection>>,
    ) {
        self.1.retain(|(known, _)| known != filter);
        self.1.extend(selection.map(|selection| (filter.detached(), selection)));
        match self.place(filter) {
            Ok(at) => {
                if let Some(known) = self.0.get_mut(at) {
                    known.1 = options;
                }
            }
            Err(at) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, (filter.detached(), options));
            }
        }
    }

    /// Takes a subscription out; tells whether it was there.
    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> bool {
        let place = self.place(filter);
        self.1.retain(|(known, _)| known != filter);
        if let Ok(at) = place {
            self.0.remove(at);
        }
        place.is_ok()
    }

    /// All of them, by filter.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&TopicFilter, &SubscribeOptions)> {
        self.0.iter().map(|(filter, options)| (filter, options))
    }

    fn place(&self, filter: &TopicFilter) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(filter))
    }
}
