//! What one evaluation may cost.

/// Steps that are left: some nanoseconds each. A step is one operation, or some bytes looked at or copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuel {
    left: usize,
    full: usize,
}

impl Fuel {
    /// For what the configuration makes of events: more than anything sensible needs. It is also what may be in memory for it, in
    /// bytes, of texts that are made.
    pub(crate) const PLENTY: Self = Self::new(100_000);

    pub(crate) const fn new(full: usize) -> Self {
        Self { left: full, full }
    }

    /// For a filter that looks at an event with so many bytes of data: whoever subscribes sends one, so what it costs is bounded by what
    /// the event costs anyway. Sensible ones take 3 to 150 steps, and ten to thirty for each element of a list they look
    /// through: one look at each part of the data fits, also if that is all numbers; one at all of it for each part does not.
    pub(crate) fn for_filter(data: usize) -> Self {
        Self::new(data.saturating_mul(6).saturating_add(2_000).min(50_000))
    }

    /// Burns `steps`; `None` when there are not so many left: nothing is left then.
    pub(crate) fn take(&mut self, steps: usize) -> Option<()> {
        let left = self.left.checked_sub(steps);
        self.left = left.unwrap_or(0);
        left.map(|_| ())
    }

    /// As [`Self::take`]; that nothing is left, the next step finds.
    pub(crate) fn burn(&mut self, steps: usize) {
        self.left = self.left.saturating_sub(steps);
    }

    /// Steps that were taken.
    pub(crate) fn taken(self) -> usize {
        self.full - self.left
    }

    pub(crate) fn full(self) -> usize {
        self.full
    }
}
