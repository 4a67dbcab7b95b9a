//! Publishers and subscribers that do what MQTT asks of a client with a session, across any number of kills: repeat
//! what was not answered under the same packet id and in the same order, and know a repeat when they get one.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::ledger::Ledger;
use crate::raw::{Client, Receiver};
use crate::util::{PATIENCE, Rng, pause};
use crate::wire::{self, Ack, Connect, Packet, Publish};

/// What a publisher does.
#[derive(Clone, Debug)]
pub struct Publishing {
    /// How it connects; has to be persistent.
    pub connect: Connect,
    /// Topics with their QoS, used in turn.
    pub topics: Vec<(String, u8)>,
    /// Publishes without an answer that it may have open.
    pub window: usize,
    /// Time between two publishes.
    pub every: Duration,
}

/// What a subscriber does.
#[derive(Clone, Debug)]
pub struct Subscribing {
    /// How it connects; has to be persistent.
    pub connect: Connect,
    /// What it subscribes to.
    pub filter: String,
    /// The QoS it asks for.
    pub qos: u8,
    /// Levels that a route put before the topics: the books are kept without them.
    pub above: usize,
    /// Cuts its own connection now and then, and stays away for a while.
    pub flap: Option<Rng>,
}

/// A task that runs until it is told to stop.
#[derive(Debug)]
pub struct Actor {
    stop: watch::Sender<bool>,
    ready: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Actor {
    /// Waits until it is connected, and subscribed if it is a subscriber.
    pub async fn ready(&mut self) {
        self.ready.wait_for(|ready| *ready).await.expect("the actor lives");
    }

    /// Tells it to stop and waits until it has: a publisher once everything is acknowledged.
    pub async fn finish(self) {
        self.stop.send_replace(true);
        match tokio::time::timeout(PATIENCE, self.task).await {
            Ok(ended) => ended.expect("the actor did not panic"),
            Err(_) => panic!("an actor does not come to its end within {PATIENCE:?}"),
        }
    }
}

/// Starts a publisher.
pub fn publish(address: SocketAddr, plan: Publishing, ledger: Ledger) -> Actor {
    let (stop, stopped) = watch::channel(false);
    let (ready_sender, ready) = watch::channel(false);
    let publisher = Publisher { plan, ledger, open: VecDeque::new(), n: 0, next_id: 0, was_connected: false };
    let task = tokio::spawn(publisher.run(address, stopped, ready_sender));
    Actor { stop, ready, task }
}

/// Starts a subscriber that notes in `ledger` what it gets, under its client id.
pub fn subscribe(address: SocketAddr, plan: Subscribing, ledger: Ledger) -> Actor {
    let (stop, stopped) = watch::channel(false);
    let (ready_sender, ready) = watch::channel(false);
    let task = tokio::spawn(Subscriber { plan, ledger }.run(address, stopped, ready_sender));
    Actor { stop, ready, task }
}

struct Publisher {
    plan: Publishing,
    ledger: Ledger,
    open: VecDeque<Open>,
    n: u64,
    next_id: u16,
    was_connected: bool,
}

/// A publish that is not finished.
struct Open {
    publish: Publish,
    n: u64,
    received: bool,
}

impl Publisher {
    async fn run(mut self, address: SocketAddr, mut stop: watch::Receiver<bool>, ready: watch::Sender<bool>) {
        while !(*stop.borrow() && self.open.is_empty()) {
            if self.connection(address, &mut stop, &ready).await.is_err() {
                pause(Duration::from_millis(20)).await;
            }
        }
    }

    async fn connection(
        &mut self,
        address: SocketAddr,
        stop: &mut watch::Receiver<bool>,
        ready: &watch::Sender<bool>,
    ) -> io::Result<()> {
        let (mut client, present) = Client::connect(address, &self.plan.connect).await?;
        let who = &self.plan.connect.client;
        assert!(present || !self.was_connected, "{who}: its session was lost");
        self.was_connected = true;
        ready.send_replace(true);
        self.repeat(&mut client).await?;
        let mut tick = interval(self.plan.every.max(Duration::from_micros(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if *stop.borrow() && self.open.is_empty() {
                client.disconnect().await;
                return Ok(());
            }
            let room = self.open.len() < self.plan.window && !*stop.borrow();
            tokio::select! {
                biased;
                packet = client.recv(), if !self.open.is_empty() => match packet? {
                    Some(packet) => self.answer(&mut client, packet).await?,
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                _ = tick.tick(), if room => self.send_next(&mut client).await?,
                _ = stop.changed() => {}
            }
        }
    }

    /// [MQTT-4.4.0-1]: what was not answered is sent again when the client is back.
    async fn repeat(&mut self, client: &mut Client) -> io::Result<()> {
        for open in &mut self.open {
            if open.received {
                client.send(&wire::ack(Ack::PubRel, open.publish.id)).await?;
            } else {
                open.publish.dup = true;
                client.send(&open.publish.encode(self.plan.connect.version)).await?;
            }
        }
        Ok(())
    }

    async fn send_next(&mut self, client: &mut Client) -> io::Result<()> {
        let at = usize::try_from(self.n).unwrap() % self.plan.topics.len();
        let (topic, qos) = self.plan.topics[at].clone();
        let data = self.ledger.sent(&topic, &self.plan.connect.client, self.n);
        let mut publish = Publish::new(&topic, data, qos);
        if qos > 0 {
            self.next_id = self.next_id % u16::MAX + 1;
            publish.id = self.next_id;
            self.open.push_back(Open { publish: publish.clone(), n: self.n, received: false });
        }
        self.n += 1;
        client.send(&publish.encode(self.plan.connect.version)).await
    }

    async fn answer(&mut self, client: &mut Client, packet: Packet) -> io::Result<()> {
        let Packet::Ack(kind, id, code) = packet else {
            return Err(io::Error::other(format!("not for a publisher: {packet:?}")));
        };
        // A PUBREL that is repeated may find its id gone: the first one was taken (MQTT 5 §3.7.2.1, code 0x92).
        let taken = code < 0x80 || (kind == Ack::PubComp && code == 0x92);
        assert!(taken, "{kind:?} of {id} refuses with {code:#x}");
        let at =
            self.open.iter().position(|open| open.publish.id == id).expect("an answer to an open publish");
        let (qos, received) = (self.open[at].publish.qos, self.open[at].received);
        match (kind, qos) {
            (Ack::PubRec, 2) => {
                self.open[at].received = true;
                // PUBREC is the promise: from here on the message is Weft's.
                self.note_acked(at);
                client.send(&wire::ack(Ack::PubRel, id)).await?;
            }
            (Ack::PubComp, 2) if received => drop(self.open.remove(at)),
            (Ack::PubAck, 1) => {
                self.note_acked(at);
                drop(self.open.remove(at));
            }
            _ => panic!("{kind:?} answers a publish of QoS {qos}"),
        }
        Ok(())
    }

    fn note_acked(&self, at: usize) {
        let open = &self.open[at];
        self.ledger.acked(&open.publish.topic, &self.plan.connect.client, open.n);
    }
}

struct Subscriber {
    plan: Subscribing,
    ledger: Ledger,
}

/// What outlives a connection.
#[derive(Default)]
struct Kept {
    subscribed: bool,
    was_connected: bool,
    receiver: Receiver,
}

impl Subscriber {
    async fn run(mut self, address: SocketAddr, mut stop: watch::Receiver<bool>, ready: watch::Sender<bool>) {
        let mut kept = Kept::default();
        while !*stop.borrow() {
            let away = match self.connection(address, &mut kept, &mut stop, &ready).await {
                Ok(()) => return,
                Err(_) => match &mut self.plan.flap {
                    Some(rng) => rng.millis(1, 300),
                    None => Duration::from_millis(20),
                },
            };
            pause(away).await;
        }
    }

    async fn connection(
        &mut self,
        address: SocketAddr,
        kept: &mut Kept,
        stop: &mut watch::Receiver<bool>,
        ready: &watch::Sender<bool>,
    ) -> io::Result<()> {
        let (mut client, present) = Client::connect(address, &self.plan.connect).await?;
        let who = self.plan.connect.client.clone();
        assert!(present || !kept.was_connected, "{who}: its session was lost");
        kept.was_connected = true;
        if !kept.subscribed {
            let filters = [(self.plan.filter.as_str(), self.plan.qos)];
            client.send(&wire::subscribe(self.plan.connect.version, 1, &filters)).await?;
        }
        let mut left = self.plan.flap.as_mut().map_or(u64::MAX, |rng| rng.within(1..1000));
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => return Ok(()),
                packet = client.recv_within(Duration::from_secs(3600)) => {
                    let packet = packet?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    if let Packet::SubAck(_, codes) = &packet {
                        assert_eq!(codes, &[self.plan.qos], "{who}: SUBACK");
                        kept.subscribed = true;
                        ready.send_replace(true);
                    }
                    let (message, answer) = kept.receiver.handle(packet);
                    if let Some(message) = message {
                        let topic = message.topic.splitn(self.plan.above + 1, '/').last().unwrap_or_default();
                        self.ledger.received(&who, topic, &message.payload);
                    }
                    client.send(&answer).await?;
                    left -= 1;
                    if left == 0 {
                        return Err(io::Error::other("cut by the subscriber itself"));
                    }
                }
            }
        }
    }
}
