//! What one session subscribed: few filters in most sessions, and many sessions, so they stand in one sorted piece of
//! memory without room to spare. Sans-io.

use event::TopicFilter;
use event::hub::SubscribeOptions;

/// Filters with their options, sorted by filter.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<(TopicFilter, SubscribeOptions)>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, filter: &TopicFilter) -> bool {
        self.place(filter).is_ok()
    }

    /// Puts a subscription in, in place of one with the same filter.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, options: SubscribeOptions) {
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
