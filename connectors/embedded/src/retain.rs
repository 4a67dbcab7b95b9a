//! Whose events a segment holds, as far as `retain` of the options tells topics apart: it may go when all of them may.

use bytes::Bytes;
use event::{Event, TopicName};

use crate::body;
use crate::disk::{Disk, DiskFile};
use crate::options::Retain;
use crate::record::FRAME;
use crate::segment::HEADER;
use crate::shared::{Segment, Shared};
use crate::walk::{self, AHEAD, Place, Step};
use crate::window::Window;

/// What is in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mix {
    /// Events that no rule names.
    pub(crate) plain: bool,
    /// The longest age of the rules that name the others; 0: no limit by age.
    pub(crate) ruled_s: Option<u64>,
}

impl Mix {
    pub(crate) fn add(&mut self, rules: &[Retain], topic: &TopicName) {
        match rules.iter().find(|rule| rule.topic.matches(topic)) {
            None => self.plain = true,
            Some(Retain { age_s, .. }) => {
                let longer = |a: u64, b: u64| if a == 0 || b == 0 { 0 } else { a.max(b) };
                self.ruled_s = Some(self.ruled_s.map_or(*age_s, |known| longer(known, *age_s)));
            }
        }
    }

    /// Reads a sealed segment. One that cannot be read is taken for one with events that no rule names.
    pub(crate) fn of<D: Disk>(shared: &Shared<D>, segment: Segment) -> Self {
        let unknown = Self { plain: true, ruled_s: None };
        let Ok(Some(file)) = shared.file(segment.base) else { return unknown };
        let mut window = Window::new(file, shared.salt, segment.base, segment.end, AHEAD);
        Self::walk(&mut window, &shared.options.retain).unwrap_or(unknown)
    }

    fn walk<F: DiskFile>(window: &mut Window<F>, rules: &[Retain]) -> std::io::Result<Self> {
        let mut mix = Self::default();
        let mut at = window.base() + HEADER;
        loop {
            match walk::step(window, at, Place::Sealed)? {
                Step::Record(length) => {
                    let body = window.record(at, length)?.get(FRAME..).map(Bytes::copy_from_slice);
                    let event = body.and_then(body::decode).and_then(|body| body.event);
                    event.as_ref().map(Event::topic).into_iter().for_each(|topic| mix.add(rules, topic));
                    at += length as u64;
                }
                Step::Damage(to) => at = to,
                Step::End => return Ok(mix),
            }
        }
    }
}
