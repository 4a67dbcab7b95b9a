//! Who is here: sessions by client and by number. Sans-io.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use event::ClientId;

use super::Session;

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    by_client: BTreeMap<ClientId, Arc<Session>>,
    by_key: BTreeMap<u64, Arc<Session>>,
    next_key: u64,
    next_holder: u64,
}

impl Registry {
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn client(&self, client: &ClientId) -> Option<&Arc<Session>> {
        self.by_client.get(client)
    }

    pub(crate) fn key(&self, key: u64) -> Option<&Arc<Session>> {
        self.by_key.get(&key)
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.by_key.values()
    }

    /// Sessions by number, behind `after`.
    pub(crate) fn behind_key(&self, after: u64) -> impl Iterator<Item = &Arc<Session>> {
        self.by_key.range((Bound::Excluded(after), Bound::Unbounded)).map(|(_, session)| session)
    }

    /// Sessions by client, behind `after`.
    pub(crate) fn behind(&self, after: Option<&ClientId>) -> impl Iterator<Item = &Arc<Session>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_client.range::<ClientId, _>((from, Bound::Unbounded)).map(|(_, session)| session)
    }

    /// A number for a session that no record names.
    pub(crate) fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    /// A number for a connection, above those of all older ones.
    pub(crate) fn new_holder(&mut self) -> u64 {
        self.next_holder += 1;
        self.next_holder
    }

    pub(crate) fn insert(&mut self, session: Arc<Session>) {
        self.next_key = self.next_key.max(session.key);
        self.by_client.insert(session.client.clone(), Arc::clone(&session));
        self.by_key.insert(session.key, session);
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<Arc<Session>> {
        let session = self.by_key.remove(&key)?;
        if self.by_client.get(&session.client).is_some_and(|other| other.key == key) {
            self.by_client.remove(&session.client);
        }
        Some(session)
    }
}
