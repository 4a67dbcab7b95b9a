//! The clients that are connected, for operators: who they are, and orders to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::UserAgent;

/// A client that is connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it says of itself; no secrets.
    pub agent: UserAgent,
    /// Its address.
    pub peer: SocketAddr,
    /// What it speaks: "TCP", "HTTP" or "GRPC".
    pub protocol: &'static str,
    /// Where it gets events, if that is a webhook.
    pub url: Option<String>,
    /// The topics it listens to.
    pub topics: Vec<String>,
}

/// What an operator wants of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// It has to leave.
    Leave,
    /// It has to go on at another EventMesh.
    Redirect {
        /// Where that is.
        ip: IpAddr,
        /// Its port.
        port: u16,
    },
}

/// All clients that are connected. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    registry: Arc<Mutex<Registry>>,
    /// Changes with each order, to whomever.
    ordered: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    clients: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    client: Client,
    orders: watch::Sender<Option<Order>>,
}

/// A client's place among [`Clients`]: dropped, it is gone.
#[derive(Debug)]
pub struct Registered {
    clients: Clients,
    key: u64,
}

impl Clients {
    /// Adds one. What comes out of the receiver is the last order to it.
    pub fn register(&self, client: Client) -> (Registered, watch::Receiver<Option<Order>>) {
        let (orders, receiver) = watch::channel(None);
        let mut registry = self.registry.lock();
        let key = registry.next;
        registry.next += 1;
        registry.clients.insert(key, Entry { client, orders });
        (Registered { clients: self.clone(), key }, receiver)
    }

    /// Those that `wanted` chooses, in the order they came, `limit` at most.
    pub fn list(&self, wanted: impl Fn(&Client) -> bool, limit: usize) -> Vec<Client> {
        let registry = self.registry.lock();
        let clients = registry.clients.values().map(|entry| &entry.client);
        clients.filter(|client| wanted(client)).take(limit).cloned().collect()
    }

    /// Gives `order` to those that `wanted` chooses. Who they are.
    pub fn order(&self, wanted: impl Fn(&Client) -> bool, order: &Order) -> Vec<Client> {
        let registry = self.registry.lock();
        let chosen = registry.clients.values().filter(|entry| wanted(&entry.client));
        let told = chosen.map(|entry| {
            entry.orders.send_replace(Some(order.clone()));
            entry.client.clone()
        });
        let told = told.collect();
        self.ordered.send_replace(());
        told
    }

    /// What changes whenever anybody gets an order: for who looks after many clients.
    pub fn ordered(&self) -> watch::Receiver<()> {
        self.ordered.subscribe()
    }
}

impl Registered {
    /// The client listens to these topics now.
    pub fn listens(&self, topics: Vec<String>) {
        if let Some(entry) = self.clients.registry.lock().clients.get_mut(&self.key) {
            entry.client.topics = topics;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.clients.registry.lock().clients.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_listed_and_get_orders_while_they_are_here() {
        let clients = Clients::default();
        let client = |port| Client {
            agent: UserAgent::default(),
            peer: ([127, 0, 0, 1], port).into(),
            protocol: "TCP",
            url: None,
            topics: Vec::new(),
        };
        let (first, orders) = clients.register(client(1));
        let (_second, others) = clients.register(client(2));
        first.listens(vec!["t".to_owned()]);
        let ordered = clients.ordered();
        let told = clients.order(|client| client.topics == ["t"], &Order::Leave);
        assert_eq!(told.len(), 1);
        assert!(ordered.has_changed().unwrap());
        assert_eq!((orders.borrow().clone(), others.borrow().clone()), (Some(Order::Leave), None));
        drop(first);
        let left: Vec<u16> = clients.list(|_| true, 10).iter().map(|client| client.peer.port()).collect();
        assert_eq!(left, [2]);
    }
}
