//! What one evaluation may cost.

/// Steps that are left: some nanoseconds each. A step is one operation, or some bytes looked at or copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuel(usize);

impl Fuel {
    /// What an evaluation starts with: more than any sensible filter needs, and some 100 to 400 µs of one core. It is also what may be
    /// in memory for it, in bytes, of texts that it makes.
    pub(crate) const FULL: Self = Self(100_000);

    /// Burns `steps`; `None` when there are not so many left: nothing is left then.
    pub(crate) fn take(&mut self, steps: usize) -> Option<()> {
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or(0);
        left.map(|_| ())
    }
}
