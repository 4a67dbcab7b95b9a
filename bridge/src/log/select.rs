//! The records that were asked for: walks the log from where they can be to where they end.

use std::path::{Path, PathBuf};

use embedded::inspect::{Damage, Found, Log, Record};
use event::store::Position;

use super::args::{Bound, Selection};
use super::progress::Progress;
use super::{say, tell};

/// Segments that were started so long after the end that is asked for hold nothing of it: clocks may differ a little.
const SLACK_MS: u64 = 60_000;

/// Whether to go on.
pub(super) enum Next {
    More,
    Enough,
}

/// What was met on the way.
#[derive(Default)]
pub(super) struct Met {
    /// Damaged places; each was told on standard error.
    pub(super) damaged: u64,
}

/// Gives each record of the selection to `take`, and tells of damage on the way.
pub(super) fn each(
    log: &Log,
    selection: &Selection,
    progress: &mut Progress,
    mut take: impl FnMut(&Record) -> anyhow::Result<Next>,
) -> anyhow::Result<Met> {
    let from = match selection.from {
        None => Position(0),
        Some(Bound::Position(position)) => position,
        Some(Bound::Time(ms)) => log.before(ms)?,
    };
    let mut met = Met::default();
    let mut walk = log.walk(from);
    let mut file = PathBuf::new();
    while let Some(found) = walk.next() {
        match found? {
            Found::Segment(segment) => {
                if is_after(selection.to, segment.base, segment.created_ms) {
                    break;
                }
                file = segment.path;
            }
            Found::Damage(damage) => met.damage(&damage, &file),
            Found::Tail(_) => {}
            Found::Record(record) => {
                if matches!(selection.to, Some(Bound::Position(to)) if record.position >= to) {
                    break;
                }
                if selection.wants(&record) && matches!(take(&record)?, Next::Enough) {
                    break;
                }
                let (done, all) = walk.progress();
                progress.at(done, Some(all));
            }
        }
    }
    Ok(met)
}

/// Whether all of a segment is behind the end that is asked for.
fn is_after(to: Option<Bound>, base: u64, created_ms: Option<u64>) -> bool {
    match to {
        None => false,
        Some(Bound::Position(to)) => base >= to.0,
        Some(Bound::Time(ms)) => created_ms.is_some_and(|created| created > ms.saturating_add(SLACK_MS)),
    }
}

impl Selection {
    /// Notes have no topic and no time: they are wanted when neither was asked for.
    fn wants(&self, record: &Record) -> bool {
        let times = [self.from, self.to].iter().any(|bound| matches!(bound, Some(Bound::Time(_))));
        let Some(event) = &record.event else { return self.topic.is_none() && !times };
        let received = event.parts().received_ms;
        let early = matches!(self.from, Some(Bound::Time(ms)) if received < ms);
        let late = matches!(self.to, Some(Bound::Time(ms)) if received >= ms);
        !early && !late && self.topic.as_ref().is_none_or(|filter| filter.matches(event.topic()))
    }
}

impl Met {
    fn damage(&mut self, damage: &Damage, file: &Path) {
        self.damaged += 1;
        say(format_args!("weft: damage: {}", tell(damage, file)));
    }
}
