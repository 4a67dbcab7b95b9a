//! The operator's view: pages of sessions and retained events, and how to end them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::admin::{Admin, Ending, LedgerView, RetainedView, SessionView, SubscriptionView};
use event::hub::{Closed, Hub as _, Publish, SubscribeOptions};
use event::{ClientId, Event, Guarantee, Parts, Pending, Principal, TopicFilter, TopicName};

use crate::core::Core;
use crate::intake::{Fate, Published};
use crate::ledger::{Book, End};
use crate::notes::Change;
use crate::session::Session;
use crate::shared::now_ms;
use crate::wills;

impl Admin for Core {
    fn sessions(&self, after: Option<&ClientId>, limit: usize) -> Vec<SessionView> {
        let page: Vec<Arc<Session>> =
            self.shared().registry.lock().behind(after).take(limit).cloned().collect();
        page.iter().map(|session| view(session)).collect()
    }

    fn session(&self, client: &ClientId) -> Option<SessionView> {
        let session = self.find(client)?;
        Some(view(&session))
    }

    fn subscriptions(&self, client: &ClientId) -> Option<Vec<SubscriptionView>> {
        let session = self.find(client)?;
        let state = session.state.lock();
        let view = |(filter, options): (&TopicFilter, &SubscribeOptions)| {
            let select = state.subscriptions.selection(filter).map(|selection| selection.select().clone());
            SubscriptionView { filter: filter.clone(), options: *options, select }
        };
        Some(state.subscriptions.iter().map(view).collect())
    }

    fn end(&self, client: &ClientId, forget: bool) -> Ending {
        if client.as_str().starts_with('$') {
            return Ending::Ours;
        }
        let shared = self.shared();
        let mut registry = shared.registry.lock();
        let Some(session) = registry.client(client).cloned() else { return Ending::Unknown };
        tracing::info!(client_id = %client, forget, "session ended by an operator");
        let mut mailbox = session.mailbox.lock();
        if mailbox.attached {
            mailbox.closed = Some(Closed::Ended);
            drop(mailbox);
            if forget {
                // The end of the connection is that of the session.
                session.state.lock().keep = Duration::ZERO;
            }
            session.fill(|_| ());
            return Ending::Ended;
        }
        drop(mailbox);
        if !forget {
            return Ending::Away;
        }
        shared.end(&mut registry, &session);
        drop(registry);
        shared.append_unanswered(&Change::Ended { session: session.key });
        let will = session.state.lock().will;
        if let Some(will) = will {
            wills::lost(shared, will, Duration::ZERO);
        }
        Ending::Ended
    }

    fn retained(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Pending<Vec<RetainedView>> {
        let mut page = Vec::new();
        let now_ms = now_ms();
        self.shared().retained.read().page(filter, after, limit, &mut |kept| {
            let wanted = !kept.event.is_expired(now_ms);
            if wanted {
                let event = kept.event.clone();
                page.push(RetainedView { event, guarantee: kept.guarantee, position: kept.position });
            }
            wanted
        });
        Box::pin(std::future::ready(Ok(page)))
    }

    fn forget(&self, topics: Vec<TopicName>) -> Pending<()> {
        let mut stamps = self.stamps();
        let received_ms = now_ms();
        let publish = |topic| {
            let parts = Parts {
                topic,
                data: Bytes::new(),
                stamp: stamps.take(),
                received_ms,
                expires_ms: 0,
                publisher: Arc::from("$admin"),
                meta: None,
            };
            Publish { event: Event::new(parts), guarantee: Guarantee::AtLeastOnce, retain: true, id: None }
        };
        let batch = topics.into_iter().map(publish).collect();
        let admission = self.publish(&Principal::anonymous("$admin"), batch);
        Box::pin(async move { admission.receipt().await.await.whole() })
    }

    fn ledger(&self) -> Vec<LedgerView> {
        let of = |((route, tenant), (book, published)): ((String, String), (Book, Published))| {
            let ends = End::ALL.map(|end| (end.as_str(), book.of(end))).to_vec();
            let fates = Fate::ALL.map(|fate| (fate.as_str(), published.of(fate))).to_vec();
            let (came, under_way) = (published.came, published.under_way());
            LedgerView { route, tenant, came, under_way, fates, owed: book.owed, queued: book.queued(), ends }
        };
        self.shared().books_by_name().into_iter().map(of).collect()
    }
}

impl Core {
    fn find(&self, client: &ClientId) -> Option<Arc<Session>> {
        self.shared().registry.lock().client(client).cloned()
    }
}

fn view(session: &Session) -> SessionView {
    let state = session.state.lock();
    let mailbox = session.mailbox.lock();
    let counts = mailbox.counts();
    SessionView {
        client: session.client.clone(),
        connection: state.connection.clone().filter(|_| mailbox.attached),
        away_since_ms: state.detached_ms,
        durable: session.durable,
        keep: state.keep,
        subscriptions: state.subscriptions.len(),
        inflight: counts.inflight,
        queued: counts.queued,
        queued_bytes: counts.queued_bytes,
        dropped: counts.dropped,
    }
}
