//! MQTT clients on links that are slow and break, with takeovers, silent peers and crashes, against the whole of session,
//! core and store, over many seeds: what was answered arrives, once where once was promised, in order for each
//! publisher, whatever happens between.
//!
//! `WEFT_SIM_SEED` starts at another seed, `WEFT_SIM_SEEDS` (256) and `WEFT_SIM_STEPS` (150) widen it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use event::access::Source;
use event::testing::{Chance, MemoryStore, ScriptedGate, seeds};
use event::{ByteLimit, Reject, RejectKind};
use routing::{Core, Options};
use tests::wire::{self, Ack, Connect, Packet, Publish, Version};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinSet;

const PUBLISHERS: usize = 2;
const SUBSCRIBERS: usize = 2;
/// A client that says nothing for one and a half times this is lost.
const KEEP_ALIVE_S: u16 = 30;

/// Why Weft may end a connection here: nothing said in time, taken over, crashed, nothing read in time.
const ENDS: [u8; 4] = [0x8d, 0x8e, 0x8b, 0x98];

/// Weft between two crashes.
struct Life {
    core: Arc<Core>,
    connections: JoinSet<()>,
}

/// A client's end of a link that takes some bytes at a time.
struct Client {
    connect: Connect,
    stream: Option<DuplexStream>,
    /// Older connections that the network still holds open.
    forgotten: Vec<DuplexStream>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// CONNACK came.
    open: bool,
}

#[derive(Default)]
struct Publishing {
    next: u16,
    /// Publishes without final answer, by packet id: whether PUBREC came.
    unanswered: BTreeMap<u16, bool>,
    /// Answered positively.
    promised: BTreeSet<u16>,
}

#[derive(Default)]
struct Subscribing {
    subscribed: bool,
    unreleased: BTreeSet<u16>,
    /// Number of publisher and of event, in the order in which they came first.
    seen: Vec<(usize, u16)>,
    once: BTreeSet<(usize, u16)>,
}

struct World {
    store: MemoryStore,
    life: Life,
    clients: Vec<Client>,
    publishing: Vec<Publishing>,
    subscribing: Vec<Subscribing>,
    chance: Chance,
}

/// QoS follows from the number: repeats have it too.
fn qos(number: u16) -> u8 {
    1 + u8::from(number.is_multiple_of(2))
}

fn publish(at: usize, number: u16, dup: bool) -> Publish {
    let topic = format!("t/{at}");
    Publish { id: number, dup, ..Publish::new(&topic, number.to_string(), qos(number)) }
}

impl Life {
    async fn begin(store: &MemoryStore) -> Self {
        let (handle, feed) = store.open();
        let options = Options {
            checkpoint_bytes: ByteLimit(4000),
            queue_memory_bytes: ByteLimit(600),
            memory_bytes: ByteLimit(4000),
            ..Options::default()
        };
        let (core, _) = Core::recover(options, &[], handle, feed, Vec::new()).await.unwrap();
        Self { core, connections: JoinSet::new() }
    }

    /// Accepts a link with room for `room` bytes each way; the client's end.
    fn accept(&mut self, room: usize) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(room);
        let source = Source { address: ([10, 0, 0, 1], 1).into(), listener: "l".into(), certificate: None };
        let gate = Arc::new(ScriptedGate::new("none"));
        let (keep, drain) = watch::channel(false);
        let served = mqtt::serve(
            ours,
            source,
            gate,
            Arc::clone(&self.core) as _,
            Arc::new(mqtt::Options::default()),
            drain,
        );
        self.connections.spawn(async move {
            served.await;
            drop(keep);
        });
        theirs
    }
}

impl Client {
    fn new(at: usize) -> Self {
        let version = if at.is_multiple_of(2) { Version::V4 } else { Version::V5 };
        let connect = Connect { version, ..Connect::v5(&format!("c{at}")) };
        let connect = connect.persistent().keep_alive(KEEP_ALIVE_S);
        let (input, output) = (Vec::new(), Vec::new());
        Self { connect, stream: None, forgotten: Vec::new(), input, output, open: false }
    }

    fn cut(&mut self) {
        self.stream = None;
        self.open = false;
        self.input.clear();
        self.output.clear();
    }

    /// Moves up to `most` bytes each way, without waiting. Gives the packets that are complete.
    async fn pump(&mut self, most: usize) -> Vec<Packet> {
        let Some(stream) = &mut self.stream else { return Vec::new() };
        let (input, output) = (&mut self.input, &mut self.output);
        let mut over = false;
        std::future::poll_fn(|cx| {
            let mut stream = std::pin::Pin::new(&mut *stream);
            let some = &output[..output.len().min(most)];
            if !some.is_empty() {
                match stream.as_mut().poll_write(cx, some) {
                    Poll::Ready(Ok(written)) => drop(output.drain(..written)),
                    Poll::Ready(Err(_)) => over = true,
                    Poll::Pending => {}
                }
            }
            let mut bytes = vec![0; most];
            let mut read = ReadBuf::new(&mut bytes);
            match stream.poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => input.extend_from_slice(read.filled()),
                Poll::Ready(_) => over = true,
                Poll::Pending => {}
            }
            Poll::Ready(())
        })
        .await;
        let packets = std::iter::from_fn(|| wire::take(&mut self.input, self.connect.version)).collect();
        if over {
            self.cut();
        }
        packets
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let store = MemoryStore::new();
        let life = Life::begin(&store).await;
        let clients = (0..PUBLISHERS + SUBSCRIBERS).map(Client::new).collect();
        let publishing = (0..PUBLISHERS).map(|_| Publishing::default()).collect();
        let subscribing = (0..SUBSCRIBERS).map(|_| Subscribing::default()).collect();
        let mut world = Self { store, life, clients, publishing, subscribing, chance: Chance(seed) };
        // What is published before a subscription is nobody's.
        while world.subscribing.iter().any(|subscribing| !subscribing.subscribed) {
            for at in PUBLISHERS..PUBLISHERS + SUBSCRIBERS {
                world.connect(at);
                world.turn(at, 1 << 16).await;
            }
        }
        world
    }

    async fn step(&mut self) {
        let at = self.chance.below((PUBLISHERS + SUBSCRIBERS) as u64) as usize;
        match self.chance.below(100) {
            0..50 => {
                let most = 1 + self.chance.below(60) as usize;
                self.turn(at, most).await;
            }
            50..75 => self.publish(at % PUBLISHERS),
            75..88 => self.connect(at),
            88..92 => self.clients[at].cut(),
            92..95 => self.take_over(at),
            95..97 => {
                // Who is silent meanwhile is lost.
                tokio::time::advance(Duration::from_secs(10 + self.chance.below(40))).await;
            }
            97 => self.clients[at].forgotten.clear(),
            98 => self.crash().await,
            _ => {}
        }
    }

    fn connect(&mut self, at: usize) {
        if self.clients[at].stream.is_none() {
            let room = [16, 64, 4096][self.chance.below(3) as usize];
            let client = &mut self.clients[at];
            client.stream = Some(self.life.accept(room));
            client.output = client.connect.encode();
        }
    }

    /// Connects again while the old connection is still there.
    fn take_over(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let old = client.stream.take();
        client.cut();
        client.forgotten.extend(old);
        self.connect(at);
    }

    fn publish(&mut self, at: usize) {
        let (client, publishing) = (&mut self.clients[at], &mut self.publishing[at]);
        if client.open && publishing.unanswered.len() < 8 {
            publishing.next += 1;
            let number = publishing.next;
            publishing.unanswered.insert(number, false);
            client.output.extend(publish(at, number, false).encode(client.connect.version));
        }
    }

    /// Moves bytes of one client, and does what its packets ask for.
    async fn turn(&mut self, at: usize, most: usize) {
        let packets = self.clients[at].pump(most).await;
        for packet in packets {
            match at.checked_sub(PUBLISHERS) {
                None => self.answer(at, packet),
                Some(place) => self.receive(at, place, packet),
            }
        }
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    fn answer(&mut self, at: usize, packet: Packet) {
        let (client, publishing) = (&mut self.clients[at], &mut self.publishing[at]);
        match packet {
            Packet::ConnAck { code: 0, .. } => {
                client.open = true;
                for (number, received) in &publishing.unanswered {
                    client.output.extend(match received {
                        true => wire::ack(Ack::PubRel, *number),
                        false => publish(at, *number, true).encode(client.connect.version),
                    });
                }
            }
            Packet::Ack(Ack::PubAck | Ack::PubComp, number, code) => {
                assert!(code < 0x80 || code == 0x92, "{code:#04x}");
                publishing.promised.insert(number);
                publishing.unanswered.remove(&number);
            }
            // 0x10: nobody wants it.
            Packet::Ack(Ack::PubRec, number, 0 | 0x10) => {
                publishing.promised.insert(number);
                publishing.unanswered.insert(number, true);
                client.output.extend(wire::ack(Ack::PubRel, number));
            }
            Packet::Disconnect(code) if ENDS.contains(&code) => {}
            other => panic!("publisher {at} got {other:?}"),
        }
    }

    fn receive(&mut self, at: usize, place: usize, packet: Packet) {
        let (client, subscribing) = (&mut self.clients[at], &mut self.subscribing[place]);
        match packet {
            Packet::ConnAck { code: 0, present, .. } => {
                client.open = true;
                assert!(present || !subscribing.subscribed, "the session is lost");
                if !subscribing.subscribed {
                    client.output.extend(wire::subscribe(client.connect.version, 1, &[("t/#", 2)]));
                }
            }
            Packet::SubAck(1, codes) => {
                assert_eq!(codes, [2]);
                subscribing.subscribed = true;
            }
            Packet::Publish(publish) => {
                let from: usize = publish.topic.strip_prefix("t/").unwrap().parse().unwrap();
                let number: u16 = String::from_utf8(publish.payload).unwrap().parse().unwrap();
                assert_eq!(publish.qos, qos(number));
                let event = (from, number);
                if publish.qos == 2 {
                    if subscribing.unreleased.insert(publish.id) {
                        assert!(subscribing.once.insert(event), "{event:?} comes twice to {place}");
                        subscribing.seen.push(event);
                    }
                    client.output.extend(wire::ack(Ack::PubRec, publish.id));
                } else {
                    if !subscribing.seen.contains(&event) {
                        subscribing.seen.push(event);
                    }
                    client.output.extend(wire::ack(Ack::PubAck, publish.id));
                }
            }
            Packet::Ack(Ack::PubRel, id, _) => {
                subscribing.unreleased.remove(&id);
                client.output.extend(wire::ack(Ack::PubComp, id));
            }
            Packet::Disconnect(code) if ENDS.contains(&code) => {}
            other => panic!("subscriber {place} got {other:?}"),
        }
    }

    async fn crash(&mut self) {
        // Nothing of the old life may be kept any more.
        self.store.refuse(Some(Reject::new(RejectKind::Unavailable, "crashed")));
        self.life.connections.shutdown().await;
        self.store.refuse(None);
        self.store.free_below(self.store.needed());
        self.life = Life::begin(&self.store).await;
        for client in &mut self.clients {
            client.cut();
            client.forgotten.clear();
        }
    }

    async fn finish(&mut self) {
        for _ in 0..3000 {
            for at in 0..self.clients.len() {
                self.connect(at);
                self.turn(at, 1 << 16).await;
            }
            let answered = self.publishing.iter().all(|publishing| publishing.unanswered.is_empty());
            let arrived = |subscribing: &Subscribing| {
                subscribing.seen.len()
                    == self.publishing.iter().map(|publishing| usize::from(publishing.next)).sum::<usize>()
            };
            if answered && self.subscribing.iter().all(arrived) {
                break;
            }
        }
        for (place, subscribing) in self.subscribing.iter().enumerate() {
            for (from, publishing) in self.publishing.iter().enumerate() {
                let seen: Vec<u16> =
                    subscribing.seen.iter().filter(|event| event.0 == from).map(|event| event.1).collect();
                // A client repeats until it is answered: at the end, all is promised.
                assert_eq!(publishing.promised.len(), usize::from(publishing.next), "answers of {from}");
                assert_eq!(seen, (1..=publishing.next).collect::<Vec<_>>(), "from {from} at {place}");
            }
        }
    }
}

#[test]
fn nothing_answered_is_lost_doubled_or_reordered_over_bad_links() {
    seeds(150, |seed, steps| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(seed).await;
            for _ in 0..steps {
                world.step().await;
            }
            world.finish().await;
        });
    });
}
