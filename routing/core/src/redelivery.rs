//! Events that connections end on come again later, and become dead letters.
//!
//! Which event a client fell over, nobody can see. It had the oldest one that it did not acknowledge before all others, so
//! that one is suspected: a session counts how many connections ended with it, a shared subscription how many members did. The
//! others of what was sent are innocent until they are the oldest.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event::hub::{Delivery, Publish};
use event::{Event, Guarantee, Origin, Principal, dead_letter};

use crate::RedeliveryOptions;
use crate::publish::{Marks, Publisher};
use crate::session::Session;
use crate::shared::Shared;

/// Who publishes dead letters.
const UNDERTAKER: &str = "$redelivery";
/// How long one waits that the store could not take.
const RETRY: Duration = Duration::from_secs(1);

/// What holds for a session, if somebody has to count.
pub(crate) fn limits<'a>(shared: &'a Shared, session: &Session) -> Option<&'a RedeliveryOptions> {
    // Parts of Weft have retries of their own.
    let own = session.client.as_str().starts_with('$');
    Some(&shared.options.redelivery).filter(|options| options.is_on() && !own)
}

/// Dead letters of one connection on their way.
#[derive(Default)]
pub(crate) struct Burials(Vec<Burial>);

struct Burial {
    number: u64,
    kept: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What becomes of a delivery with which too many connections ended.
#[derive(Debug)]
pub(crate) struct Dead {
    letter: Option<Event>,
}

impl Dead {
    /// `None`: it is a dead letter already, and is delivered again. `part`: who did not take it.
    pub(crate) fn of(shared: &Shared, delivery: &Delivery, part: &str) -> Option<Self> {
        let place = &shared.options.redelivery.dead_letters;
        let once = delivery.guarantee == Guarantee::ExactlyOnce;
        let letter = dead_letter(place, part, &delivery.event, &reason(shared));
        (!once && (letter.is_some() || place.is_empty())).then_some(Self { letter })
    }
}

fn reason(shared: &Shared) -> String {
    match shared.options.redelivery.limit {
        1 => "a connection ended without acknowledging it".to_owned(),
        limit => format!("{limit} connections ended without acknowledging it"),
    }
}

impl Burials {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the dead letter of a delivery; [`Self::poll`] tells when that is done.
    pub(crate) fn add(&mut self, shared: &Arc<Shared>, Delivery { event, number, .. }: Delivery, dead: Dead) {
        let Some(number) = number.filter(|number| !self.0.iter().any(|known| known.number == *number)) else {
            return;
        };
        tracing::warn!(topic = %event.topic(), reason = reason(shared), "an event is a dead letter");
        let shared = Arc::clone(shared);
        self.0.push(Burial { number, kept: Box::pin(bury(shared, event, dead.letter)) });
    }

    /// Numbers of deliveries whose dead letters are kept by now.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Vec<u64> {
        let done = |burial: &mut Burial| burial.kept.as_mut().poll(cx) == Poll::Ready(());
        self.0.extract_if(.., done).map(|burial| burial.number).collect()
    }
}

/// Returns when the dead letter is kept. Until then it may be there twice, if the connection ends meanwhile.
async fn bury(shared: Arc<Shared>, event: Event, letter: Option<Event>) {
    let Some(letter) = letter else { return };
    let who = Principal { origin: Origin::Weft, ..Principal::anonymous(UNDERTAKER) };
    loop {
        let (event, guarantee) = (letter.clone(), Guarantee::AtLeastOnce);
        let publish = Publish { event, guarantee, retain: false, id: None };
        let admission = Publisher::default().publish(&shared, &who, Marks::default(), vec![publish]);
        match admission.receipt().await.await.whole() {
            Ok(()) => break,
            Err(reject) => {
                tracing::warn!(%reject, "a dead letter waits");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    shared.audit.buried(&event, &letter, &reason(&shared), Instant::now());
}
