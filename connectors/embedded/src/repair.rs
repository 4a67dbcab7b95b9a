//! Puts damage out of the way so that a log opens, as far as that can be: first a plan to read, then the deeds.
//!
//! | what is found | what is done |
//! |---|---|
//! | a checkpoint that is not whole | moved aside |
//! | a segment whose header is damaged, with records that can be read | its header is written again; the old one is kept aside |
//! | a segment of which nothing can be read | moved aside |
//! | a torn tail | cut, as every start does |
//! | damaged bytes between whole records | nothing: every reader passes them, and they go with their segment |
//!
//! Nothing is deleted: what is moved aside is in a folder `damaged-N` of the data folder. Whole records are not touched.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use event::Health;
use event::store::Position;

use crate::disk::{Disk, DiskFile, RealDisk};
use crate::error::OpenError;
use crate::inspect::{Damage, DamageKind, Found, Log, Segment};
use crate::options::Options;
use crate::recovery::{self, recover};
use crate::segment::{self, HEADER, Header};
use crate::{checkpoint, driver};

/// What has to be done to a log. The folder is locked as long as this lives.
pub struct Repair {
    dir: PathBuf,
    actions: Vec<Action>,
    losses: Vec<Damage>,
    lock: Box<dyn Send>,
}

/// One deed of a repair. As text it completes "will".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    path: PathBuf,
    deed: Deed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Deed {
    /// Moves the file aside, because of this.
    Aside(&'static str),
    /// Writes the header again.
    Header(Header),
    /// Cuts a torn tail.
    Cut(Range<u64>),
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Where the damaged files are, if there are any.
    pub aside: Option<PathBuf>,
    /// How many segments the log has.
    pub segments: usize,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().unwrap_or_default().display();
        match &self.deed {
            Deed::Aside(why) => write!(f, "move {name} aside: {why}"),
            Deed::Header(_) => {
                write!(f, "write the header of {name} again: it is damaged, and its records are not")
            }
            Deed::Cut(tail) => write!(
                f,
                "cut {} B behind the end of {name}: of a write that a crash left unfinished, nothing was confirmed",
                tail.end - tail.start
            ),
        }
    }
}

impl Repair {
    /// Locks the log in `dir`, looks at all of it, and says what has to be done.
    ///
    /// # Errors
    /// There is no log, a weft runs on it, it is of another format, or it cannot be read.
    pub fn plan(dir: &Path) -> Result<Self, OpenError> {
        let look = || match Log::open(dir) {
            Err(OpenError::Header { .. }) => Ok(None),
            other => other.map(Some),
        };
        // A folder that holds no log stays as it is, without a lock.
        look()?;
        let lock = Box::new(recovery::lock_folder(&RealDisk, dir)?);
        let mut plan = Self { dir: dir.to_owned(), actions: Vec::new(), losses: Vec::new(), lock };
        match look()? {
            Some(log) => plan.look(&log)?,
            None => plan.all_aside()?,
        }
        Ok(plan)
    }

    /// What has to be done for the log to be opened and to be whole, but for its losses.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }

    /// What no repair brings back.
    pub fn losses(&self) -> &[Damage] {
        &self.losses
    }

    fn act(&mut self, path: PathBuf, deed: Deed) {
        self.actions.push(Action { path, deed });
    }

    fn look(&mut self, log: &Log) -> Result<(), OpenError> {
        for checkpoint in log.checkpoints().iter().filter(|checkpoint| !checkpoint.whole) {
            self.act(checkpoint.path.clone(), Deed::Aside("the checkpoint is not whole"));
        }
        let mut created_ms = 0;
        // The segment that is walked, if it has no header, and whether it has records.
        let mut headless: Option<(Segment, bool)> = None;
        let mut last = PathBuf::new();
        for found in log.walk(Position(0)) {
            match found? {
                Found::Segment(segment) => {
                    self.close(log, headless.take(), created_ms);
                    created_ms = segment.created_ms.unwrap_or(created_ms);
                    last.clone_from(&segment.path);
                    headless = Some((segment, false)).filter(|(segment, _)| segment.created_ms.is_none());
                }
                Found::Record(_) => {
                    if let Some((_, has_records)) = &mut headless {
                        *has_records = true;
                    }
                }
                Found::Damage(damage) if damage.kind == DamageKind::Header => {}
                Found::Damage(damage) => self.losses.push(damage),
                Found::Tail(tail) => self.act(last.clone(), Deed::Cut(tail)),
            }
        }
        self.close(log, headless, created_ms);
        Ok(())
    }

    fn close(&mut self, log: &Log, headless: Option<(Segment, bool)>, created_ms: u64) {
        match headless {
            None => {}
            Some((segment, true)) => {
                let (version, salt) = (segment::VERSION, log.salt());
                let header = Header { version, base: segment.base, salt, created_ms };
                self.act(segment.path, Deed::Header(header));
            }
            Some((segment, false)) => self.act(segment.path, Deed::Aside("nothing in it can be read")),
        }
    }

    /// No segment has a header, no checkpoint is whole, and the lock's file has no salt: nobody can tell what is a record.
    fn all_aside(&mut self) -> Result<(), OpenError> {
        let mut names = RealDisk.list(&self.dir).map_err(|error| OpenError::io("list", &self.dir, error))?;
        names.retain(|name| {
            [".log", checkpoint::EXTENSION].iter().any(|end| segment::number_of(name, end).is_some())
        });
        names.sort_unstable();
        for name in names {
            self.act(
                self.dir.join(name),
                Deed::Aside(
                    "its header is damaged, and without any header or checkpoint no record can be told",
                ),
            );
        }
        Ok(())
    }

    /// Does it, then opens the log once to see that it opens.
    ///
    /// # Errors
    /// The disk fails, or the log does not open all the same.
    pub fn carry_out(self) -> Result<Repaired, OpenError> {
        let Self { dir, actions, lock, .. } = self;
        let aside =
            actions.iter().any(|action| !matches!(action.deed, Deed::Cut(_))).then(|| free_name(&dir));
        if let Some(aside) = &aside {
            RealDisk.create_dir(aside).map_err(|error| OpenError::io("create", aside, error))?;
            for action in &actions {
                carry_out(action, aside).map_err(|error| OpenError::io("repair", &action.path, error))?;
            }
            let sync = || RealDisk.sync_dir(aside).and_then(|()| RealDisk.sync_dir(&dir));
            sync().map_err(|error| OpenError::io("sync", &dir, error))?;
        }
        // Opening takes the lock itself.
        drop(lock);
        let (_, _, report) =
            recover(RealDisk, &dir, &Options::default(), Health::default(), driver::now_ms())?;
        Ok(Repaired { aside, segments: report.segments })
    }
}

fn carry_out(action: &Action, aside: &Path) -> io::Result<()> {
    let name = action.path.file_name().unwrap_or_default();
    match &action.deed {
        Deed::Aside(_) => RealDisk.rename(&action.path, &aside.join(name)),
        Deed::Header(header) => {
            let file = RealDisk.open(&action.path)?;
            let mut old = [0; HEADER as usize];
            let read = file.read_at(&mut old, 0)?;
            let mut copy = name.to_owned();
            copy.push(".header");
            let copy = RealDisk.create(&aside.join(copy))?;
            copy.write_at(old.get(..read).unwrap_or_default(), 0)?;
            copy.sync_all()?;
            file.write_at(&header.encode(), 0)?;
            file.sync_all()
        }
        // As every start does.
        Deed::Cut(_) => Ok(()),
    }
}

/// `damaged-N`, the first that is not there.
fn free_name(dir: &Path) -> PathBuf {
    let mut names = (1..=u32::MAX).map(|n| dir.join(format!("damaged-{n}")));
    names.find(|path| !path.exists()).unwrap_or_else(|| dir.join("damaged"))
}
