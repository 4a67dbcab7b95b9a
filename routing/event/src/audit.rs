//! What Weft tells those who watch over it: changed configuration, refused access, dead letters. Whoever notices one of
//! these tells the [`Audit`]; the core publishes it as an event below [`TOPICS`].
//!
//! Telling never waits. Of each kind only so many are told in a second: a client that is refused again and again must not
//! fill the log. Those left out are counted, and the next one that is told says how many they were.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::{Bucket, Event, Principal, Protocol, Rate, Reject, TopicFilter};

/// Audit events are below this topic.
pub const TOPICS: &str = "$weft/audit/";

/// So many of a kind may be told at once after a pause.
const BURST: u64 = 20;
/// So many may wait to be published.
const WAITING: usize = 64;
/// Text of others is cut off behind so many characters: an event about a refusal must not be larger than what was refused.
const TEXT: usize = 512;
/// So many files are named.
const FILES: usize = 16;

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration, or a file that it names, was read again.
    Config,
    /// Somebody was refused.
    Access,
    /// An event became a dead letter.
    DeadLetter,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Config, Self::Access, Self::DeadLetter];

    /// The last level of its topic, and the end of its CloudEvents type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Access => "access",
            Self::DeadLetter => "dead-letter",
        }
    }
}

/// Something that is told; as JSON it is the data of its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Notice {
    /// The configuration, or files that it names, were read again.
    Config {
        /// Whether it holds now; if not, nothing changed.
        taken: bool,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Keys of the top level that differ from before and hold now.
        changed: Vec<String>,
        /// Keys of the top level that changed and hold from the next start on.
        after_restart: Vec<String>,
        /// If it was files that the configuration names, and not itself: those that changed.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        files: Vec<String>,
    },
    /// Somebody was refused.
    Access(Refused),
    /// An event became a dead letter.
    DeadLetter {
        /// The topic that the event had.
        topic: String,
        /// The topic of the dead letter.
        letter: String,
        /// Its CloudEvents id.
        id: String,
        /// Its CloudEvents source.
        source: String,
        /// Why nobody took it.
        reason: String,
    },
}

/// Somebody who was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// What it wanted.
    pub wanted: Wanted,
    /// The topic or filter, if it wanted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Its client id; for a request without one, a name made for the connection.
    pub client: String,
    /// The user that it is, or says that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The listener it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Arc<str>>,
    /// What it speaks, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The kind of the refusal: "unproved", "denied", "busy", "unavailable".
    pub kind: &'static str,
    /// Why.
    pub reason: String,
}

/// What somebody wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// To come in.
    Connect,
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
    /// To use the pages of administrators.
    Administer,
}

impl Notice {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Config { .. } => Kind::Config,
            Self::Access(_) => Kind::Access,
            Self::DeadLetter { .. } => Kind::DeadLetter,
        }
    }
}

/// The start of a text.
pub fn cut(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

/// Whether subscribers of `filter` see audit events.
pub fn shows(filter: &TopicFilter) -> bool {
    let mut levels = filter.pattern().split('/');
    levels.next() == Some("$weft") && matches!(levels.next(), Some("audit" | "+" | "#"))
}

/// Tells. A clone tells the same; the default tells nobody.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// One for each kind.
    lanes: [Lane; Kind::ALL.len()],
    sender: mpsc::Sender<Told>,
}

#[derive(Debug)]
struct Lane {
    bucket: Bucket,
    left_out: AtomicU64,
}

/// A notice on its way.
#[derive(Debug, Serialize)]
pub struct Told {
    /// What there is to tell.
    #[serde(flatten)]
    pub notice: Notice,
    /// So many of its kind were left out since the one before.
    pub left_out: u64,
}

impl Audit {
    /// An audit that tells so many of each kind in a second, and where they come out; 0: none.
    pub fn new(per_second: u32, now: Instant) -> (Self, mpsc::Receiver<Told>) {
        let (sender, told) = mpsc::channel(WAITING);
        let rate = Rate::per_second(per_second.into());
        let lane = |rate: Rate| {
            let rate = Rate { burst: rate.burst.max(BURST), ..rate };
            Lane { bucket: Bucket::new(rate, now), left_out: AtomicU64::new(0) }
        };
        let inner = rate.map(|rate| Arc::new(Inner { lanes: Kind::ALL.map(|_| lane(rate)), sender }));
        (Self(inner), told)
    }

    /// Tells what `notice` makes, unless too many of its kind were told.
    pub fn tell(&self, kind: Kind, now: Instant, notice: impl FnOnce() -> Notice) {
        let Some(Inner { lanes, sender }) = self.0.as_deref() else { return };
        let [config, access, dead_letter] = lanes;
        let lane = match kind {
            Kind::Config => config,
            Kind::Access => access,
            Kind::DeadLetter => dead_letter,
        };
        if lane.bucket.try_charge(1, now).is_err() {
            lane.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = lane.left_out.swap(0, Ordering::Relaxed);
        if sender.try_send(Told { notice: notice(), left_out }).is_err() {
            lane.left_out.fetch_add(left_out + 1, Ordering::Relaxed);
        }
    }

    /// Tells that files which the configuration names were read again. `changed`: those that are not as they were; `refused`:
    /// why what was read before still holds. Of files that are as they were, and hold, there is nothing to tell.
    pub fn files(&self, changed: &[PathBuf], refused: Option<&dyn Display>, now: Instant) {
        if changed.is_empty() && refused.is_none() {
            return;
        }
        self.tell(Kind::Config, now, || Notice::Config {
            taken: refused.is_none(),
            reason: refused.map(|reason| cut(&reason.to_string())),
            changed: Vec::new(),
            after_restart: Vec::new(),
            files: changed.iter().take(FILES).map(|path| cut(&path.display().to_string())).collect(),
        });
    }

    /// Tells that someone who is known was refused.
    pub fn refused(
        &self,
        who: &Principal,
        wanted: Wanted,
        topic: Option<&str>,
        reject: &Reject,
        now: Instant,
    ) {
        let (address, listener) = who.peer.clone().unzip();
        let refused = || Refused {
            wanted,
            topic: topic.map(cut),
            client: cut(who.client.as_str()),
            user: who.user.as_deref().map(cut),
            address,
            listener,
            protocol: who.protocol,
            kind: reject.kind.as_str(),
            reason: cut(&reject.reason),
        };
        self.tell(Kind::Access, now, || Notice::Access(refused()));
    }

    /// Tells that `event` became the dead letter `letter`. Of a dead letter of an audit event nothing is told: that could be
    /// a dead letter next.
    pub fn buried(&self, event: &Event, letter: &Event, reason: &str, now: Instant) {
        if event.topic().as_str().starts_with(TOPICS) {
            return;
        }
        self.tell(Kind::DeadLetter, now, || Notice::DeadLetter {
            topic: cut(event.topic().as_str()),
            letter: cut(letter.topic().as_str()),
            id: cut(&event.id()),
            source: cut(&event.source()),
            reason: cut(reason),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::RejectKind;

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let now = Instant::now();
        let (audit, mut told) = Audit::new(1, now);
        let who = Principal::anonymous("c");
        let refuse = |at| {
            let reject = Reject::new(RejectKind::Denied, "no".repeat(TEXT));
            audit.refused(&who, Wanted::Publish, Some("t"), &reject, at);
        };
        for _ in 0..BURST + 5 {
            refuse(now);
        }
        for _ in 0..BURST {
            let Told { notice: Notice::Access(refused), left_out: 0 } = told.try_recv().unwrap() else {
                panic!("not as told")
            };
            assert_eq!((refused.kind, refused.reason.len()), ("denied", TEXT));
        }
        assert!(told.try_recv().is_err());
        refuse(now + Duration::from_secs(1));
        assert_eq!(told.try_recv().unwrap().left_out, 5);
        // Another kind has a rate of its own.
        audit.tell(Kind::Config, now, || Notice::Config {
            taken: true,
            reason: None,
            changed: Vec::new(),
            after_restart: Vec::new(),
            files: Vec::new(),
        });
        assert_eq!(told.try_recv().unwrap().left_out, 0);
    }

    #[test]
    fn files_that_are_as_they_were_are_nothing_to_tell() {
        let now = Instant::now();
        let (audit, mut told) = Audit::new(1, now);
        audit.files(&[], None, now);
        assert!(told.try_recv().is_err());
        let mut next = |changed: &[PathBuf], refused: Option<&dyn Display>| {
            audit.files(changed, refused, now);
            serde_json::to_value(told.try_recv().unwrap()).unwrap()
        };
        let file = PathBuf::from("/etc/acl");
        let taken = next(std::slice::from_ref(&file), None);
        assert_eq!((&taken["taken"], &taken["files"][0]), (&true.into(), &"/etc/acl".into()));
        let broken = next(&[], Some(&"line 3"));
        assert_eq!((&broken["taken"], &broken["reason"]), (&false.into(), &"line 3".into()));
    }

    #[test]
    fn dead_letters_of_audit_events_make_no_others() {
        let (audit, mut told) = Audit::new(1, Instant::now());
        let event = |topic: String| {
            Event::new(crate::Parts {
                topic: crate::TopicName::parse(topic).unwrap(),
                data: bytes::Bytes::new(),
                stamp: 1,
                received_ms: 1,
                expires_ms: 0,
                publisher: Arc::from("p"),
                meta: None,
            })
        };
        let buried = |topic: &str| {
            let letter = event(format!("$dead/b/{topic}"));
            audit.buried(&event(topic.to_owned()), &letter, "no", Instant::now());
        };
        buried("$weft/audit/access");
        assert!(told.try_recv().is_err());
        buried("orders");
        let Notice::DeadLetter { topic, letter, .. } = told.try_recv().unwrap().notice else { panic!() };
        assert_eq!((&*topic, &*letter), ("orders", "$dead/b/orders"));
    }

    #[test]
    fn what_finds_no_room_is_left_out() {
        let now = Instant::now();
        let (audit, mut told) = Audit::new(1000, now);
        let reject = Reject::new(RejectKind::Denied, "no");
        let refuse = || audit.refused(&Principal::anonymous("c"), Wanted::Connect, None, &reject, now);
        for _ in 0..WAITING + 3 {
            refuse();
        }
        while told.try_recv().is_ok() {}
        refuse();
        assert_eq!(told.try_recv().unwrap().left_out, 3);
    }

    #[test]
    fn filters_that_show_audit_events_are_told_from_others() {
        let shows = |text: &str| shows(&TopicFilter::parse(text.to_owned()).unwrap());
        for filter in ["$weft/#", "$weft/+/access", "$weft/audit/#", "$weft/audit", "$share/g/$weft/audit/+"]
        {
            assert!(shows(filter), "{filter}");
        }
        for filter in ["#", "+/audit/#", "$weft", "$weft/transactions/#", "$weft/auditor", "weft/audit/#"] {
            assert!(!shows(filter), "{filter}");
        }
    }
}
