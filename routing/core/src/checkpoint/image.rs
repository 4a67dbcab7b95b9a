//! What a checkpoint holds, as bytes: the version, the highest stamp, then parts up to the end.
//!
//! Parts are of different moments: the walk takes them one after the other while events go on. Each session and group says
//! as of which record it is, and replay leaves out for it what it has seen. All else is such that replay comes to the
//! same end from any moment between: the last retained event of a topic, a will that stands or not.

use event::hub::SubscribeOptions;
use event::store::Position;
use event::{ClientId, Guarantee, Select, TopicFilter};
use serde::{Deserialize, Serialize};

use crate::account::{Account, Tenant};
use crate::group::GroupImage;
use crate::held::{self, Until};
use crate::intake::Published;
use crate::keeper;
use crate::ledger::Books;
use crate::replay::ReplayImage;
use crate::session::Session;
use crate::session::slot::{Slot, SlotState};
use crate::unique::Once;
use crate::wills::Standing;

/// The version of the format that this code writes.
pub(super) const VERSION: u16 = 10;
/// The oldest that it reads. Version 9 is the same without tenants, 8 is the same without [`Part::Books`], [`Part::Ledger`] and [`Part::Intake`], 7 without [`Part::Unique`] as
/// well, 6 without [`Part::Held`] as well, 5 without [`Part::Selects`] as well.
pub(super) const OLDEST: u16 = 5;

#[derive(Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u16,
    pub(super) stamp: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Part {
    /// Retained events by record; the log holds them.
    Retained(Vec<(Position, Guarantee)>),
    Session(SessionImage),
    /// What waits in a shared subscription that durable sessions are members of.
    Group {
        as_of: Position,
        image: GroupImage,
    },
    Wills(Vec<WillImage>),
    /// The filters of the session that follows, by topic filter.
    Selects(Vec<(TopicFilter, Select)>),
    /// Events that wait for their time or a decision.
    Held(Vec<HeldImage>),
    /// Publishes whose repeats are known.
    Unique(Vec<Once>),
    /// The books of the session or the shared subscription that follows, and the routes of what waits there: of so many, one
    /// after the other.
    Books {
        books: Books,
        accounts: Vec<(Account, u32)>,
    },
    /// The books of all that is over or leaves no records, and the names of routes and tenants.
    Ledger {
        books: Books,
        names: Vec<(Account, String)>,
    },
    /// What became of publishes.
    Intake(Vec<(Account, Published)>),
    /// The tenants of some wills and events that wait, by their numbers: they follow.
    Tenants(Vec<(u64, Tenant)>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct SessionImage {
    pub(super) as_of: Position,
    pub(super) key: u64,
    pub(super) client: ClientId,
    pub(super) keep_s: u64,
    pub(super) keep_all: bool,
    pub(super) detached_ms: Option<u64>,
    pub(super) subscriptions: Vec<(TopicFilter, SubscribeOptions)>,
    /// Those of them that have not met the present yet.
    pub(super) replays: Vec<ReplayImage>,
    pub(super) received_ids: Vec<u16>,
    pub(super) first: u64,
    pub(super) sent: u64,
    pub(super) slots: Vec<SlotImage>,
    /// A part of its own, before this one.
    #[serde(skip)]
    pub(super) selects: Vec<(TopicFilter, Select)>,
    /// With the routes of its slots in a part of its own, before this one.
    #[serde(skip)]
    pub(super) books: Books,
    #[serde(skip)]
    pub(super) accounts: Vec<Account>,
}

/// The log holds the event.
#[derive(Serialize, Deserialize)]
pub(super) struct WillImage {
    pub(super) will: u64,
    pub(super) position: Position,
    pub(super) session: Option<u64>,
    pub(super) client: ClientId,
    pub(super) delay_ms: u64,
    pub(super) guarantee: Guarantee,
    pub(super) retain: bool,
}

/// The log holds the event.
#[derive(Serialize, Deserialize)]
pub(super) struct HeldImage {
    pub(super) held: u64,
    pub(super) position: Position,
    pub(super) client: ClientId,
    pub(super) guarantee: Guarantee,
    pub(super) retain: bool,
    pub(super) until: Until,
    pub(super) weight: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SlotImage {
    /// From the position of the slot before: positions mostly rise by little, which takes two bytes.
    pub(super) step: i64,
    pub(super) guarantee: Guarantee,
    pub(super) retain: bool,
    pub(super) state: SlotState,
    pub(super) weight: u32,
    pub(super) ids: Vec<u32>,
    /// The shared subscription it came by.
    pub(super) group: Option<TopicFilter>,
}

/// The state of a session now, and the lowest position that it needs.
pub(super) fn session(session: &Session, as_of: Position) -> (SessionImage, Option<Position>) {
    let state = session.state.lock();
    let mailbox = session.mailbox.lock();
    let (first, sent, slots) = mailbox.image();
    let (mut lowest, mut before, mut accounts) = (None, Position(0), Vec::new());
    let slots = slots
        .map(|slot| {
            if slot.state == SlotState::Open {
                lowest = Some(lowest.map_or(slot.position, |lowest: Position| lowest.min(slot.position)));
            }
            accounts.push(slot.account);
            SlotImage::new(&slot, std::mem::replace(&mut before, slot.position))
        })
        .collect();
    let image = SessionImage {
        as_of,
        key: session.key,
        client: session.client.clone(),
        keep_s: keeper::keep_s(state.keep),
        keep_all: session.keep_all,
        detached_ms: state.detached_ms,
        subscriptions: state
            .subscriptions
            .iter()
            .map(|(filter, options)| (filter.clone(), *options))
            .collect(),
        replays: state.replays.iter().map(|replay| replay.image()).collect(),
        received_ids: state.received_ids.iter().copied().collect(),
        first,
        sent,
        slots,
        selects: state
            .subscriptions
            .selections()
            .map(|(filter, selection)| (filter.clone(), selection.select().clone()))
            .collect(),
        books: mailbox.books.clone(),
        accounts,
    };
    (image, lowest)
}

impl SessionImage {
    /// Whether it is a member of a shared subscription, or has deliveries of one.
    pub(super) fn is_shared(&self) -> bool {
        self.subscriptions.iter().any(|(filter, _)| filter.share().is_some())
            || self.slots.iter().any(|slot| slot.group.is_some())
    }
}

impl SlotImage {
    fn new(slot: &Slot, before: Position) -> Self {
        Self {
            step: slot.position.0.wrapping_sub(before.0).cast_signed(),
            guarantee: slot.guarantee,
            retain: slot.retain,
            state: slot.state,
            weight: slot.weight,
            ids: slot.ids.as_deref().unwrap_or_default().to_vec(),
            group: slot.group.as_ref().map(|group| group.filter.clone()),
        }
    }
}

impl WillImage {
    pub(super) fn new(will: u64, position: Position, standing: &Standing) -> Self {
        Self {
            will,
            position,
            session: standing.session,
            client: standing.who.client.clone(),
            delay_ms: u64::try_from(standing.will.delay.as_millis()).unwrap_or(u64::MAX),
            guarantee: standing.will.publish.guarantee,
            retain: standing.will.publish.retain,
        }
    }
}

impl HeldImage {
    pub(super) fn new(held: u64, standing: &held::Standing) -> Self {
        let held::Standing { client, guarantee, retain, until, position, weight, .. } = standing.clone();
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        Self { held, position, client, guarantee, retain, until, weight }
    }
}
