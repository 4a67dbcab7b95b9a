//! An MQTT client on [`crate::wire`]: tells exactly what came, and sends exactly what it is told.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::util::PATIENCE;
use crate::wire::{self, Ack, Connect, Packet, Publish, Version};

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    version: Version,
    next_id: u16,
    receiver: Receiver,
}

/// A receiver's part of the handshakes. Outlives connections as the session does.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    /// QoS 2 deliveries whose PUBREL has not come: a repeat of one is not a new message (§4.3.3).
    unreleased: BTreeSet<u16>,
}

impl Receiver {
    /// The message of `packet`, if it is a new one, and what has to be answered.
    pub fn handle(&mut self, packet: Packet) -> (Option<Publish>, Vec<u8>) {
        match packet {
            Packet::Publish(publish) => match publish.qos {
                0 => (Some(publish), Vec::new()),
                1 => {
                    let answer = wire::ack(Ack::PubAck, publish.id);
                    (Some(publish), answer)
                }
                _ => {
                    let answer = wire::ack(Ack::PubRec, publish.id);
                    (self.unreleased.insert(publish.id).then_some(publish), answer)
                }
            },
            Packet::Ack(Ack::PubRel, id, _) => {
                self.unreleased.remove(&id);
                (None, wire::ack(Ack::PubComp, id))
            }
            Packet::PingResp | Packet::SubAck(..) | Packet::Disconnect(_) => (None, Vec::new()),
            other => panic!("not for a subscriber: {other:?}"),
        }
    }
}

impl Client {
    /// A TCP connection on which nothing was said.
    pub async fn open(address: SocketAddr, version: Version) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, input: Vec::new(), version, next_id: 0, receiver: Receiver::default() })
    }

    /// Connects; the client and whether its session was there. An error if it was refused.
    pub async fn connect(address: SocketAddr, connect: &Connect) -> io::Result<(Self, bool)> {
        let mut client = Self::open(address, connect.version).await?;
        client.send(&connect.encode()).await?;
        match client.recv().await? {
            Some(Packet::ConnAck { present, code: 0, .. }) => Ok((client, present)),
            other => Err(io::Error::other(format!("answer to CONNECT: {other:?}"))),
        }
    }

    /// Writes these bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next packet; `None` when the peer has closed. Cancel-safe. Gives up after [`PATIENCE`] without one.
    pub async fn recv(&mut self) -> io::Result<Option<Packet>> {
        self.recv_within(PATIENCE).await
    }

    /// As [`Self::recv`] with a limit of its own; [`io::ErrorKind::TimedOut`] tells that it was reached.
    pub async fn recv_within(&mut self, limit: Duration) -> io::Result<Option<Packet>> {
        let version = self.version;
        self.read(limit, |input| wire::take(input, version)).await
    }

    /// The bytes of the next packet; panics if there is none.
    pub async fn frame(&mut self) -> Vec<u8> {
        let frame = self.read(PATIENCE, wire::frame).await;
        frame.expect("a packet").expect("a packet, not the end of the connection")
    }

    async fn read<T>(
        &mut self,
        limit: Duration,
        take: impl Fn(&mut Vec<u8>) -> Option<T>,
    ) -> io::Result<Option<T>> {
        loop {
            if let Some(taken) = take(&mut self.input) {
                return Ok(Some(taken));
            }
            let read = self.stream.read_buf(&mut self.input);
            let count = tokio::time::timeout(limit, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
            if count == 0 {
                return Ok(None);
            }
        }
    }

    /// The next packet; panics if there is none.
    pub async fn next(&mut self) -> Packet {
        self.recv().await.expect("a packet").expect("a packet, not the end of the connection")
    }

    /// Whether no new message comes for `time`. What else comes is answered.
    pub async fn is_quiet(&mut self, time: Duration) -> bool {
        !matches!(tokio::time::timeout(time, self.message()).await, Ok(Ok(Some(_))))
    }

    /// Waits for the end of the connection; the reason code of a DISCONNECT that came before it.
    pub async fn closed(&mut self) -> Option<u8> {
        let mut reason = None;
        loop {
            match self.recv().await {
                Ok(Some(Packet::Disconnect(code))) => reason = Some(code),
                Ok(Some(_)) => {}
                Ok(None) => return reason,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("still open after 20 s"),
                Err(_) => return reason,
            }
        }
    }

    /// All that comes until the peer closes, undecoded.
    pub async fn raw_to_end(&mut self) -> Vec<u8> {
        while let Ok(1..) = self.stream.read_buf(&mut self.input).await {}
        std::mem::take(&mut self.input)
    }

    /// Subscribes; the granted codes. Retained messages that come before SUBACK are not expected.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.take_id();
        self.send(&wire::subscribe(self.version, id, filters)).await.expect("SUBSCRIBE leaves");
        match self.next().await {
            Packet::SubAck(of, codes) if of == id => codes,
            other => panic!("answer to SUBSCRIBE: {other:?}"),
        }
    }

    /// Publishes and finishes the handshake; for a client that receives nothing else meanwhile.
    pub async fn publish(&mut self, mut publish: Publish) -> io::Result<()> {
        publish.id = self.take_id();
        let (id, qos) = (publish.id, publish.qos);
        self.send(&publish.encode(self.version)).await?;
        if qos == 1 {
            self.expect_ack(Ack::PubAck, id).await?;
        }
        if qos == 2 {
            self.expect_ack(Ack::PubRec, id).await?;
            self.send(&wire::ack(Ack::PubRel, id)).await?;
            self.expect_ack(Ack::PubComp, id).await?;
        }
        Ok(())
    }

    /// Publishes `count` events of QoS 1, a thousand at a time; `make` makes the one of a number. For a client that receives
    /// nothing else meanwhile.
    pub async fn publish_many(&mut self, count: u64, make: impl Fn(u64) -> Publish) {
        let window: Vec<u16> = (1..=1000).collect();
        let mut numbers = 0..count;
        while !numbers.is_empty() {
            let batch: Vec<(u16, u64)> = window.iter().copied().zip(numbers.by_ref().take(1000)).collect();
            let publishes = batch.iter().map(|(id, number)| Publish { id: *id, qos: 1, ..make(*number) });
            let bytes: Vec<u8> = publishes.flat_map(|publish| publish.encode(self.version)).collect();
            self.send(&bytes).await.unwrap();
            for _ in &batch {
                let answer = self.next().await;
                assert!(matches!(answer, Packet::Ack(Ack::PubAck, _, ..0x80)), "{answer:?}");
            }
        }
    }

    /// The next message, answered as the standard asks; repeats of QoS 2 deliveries are answered and not told.
    /// `None` when the peer has closed.
    pub async fn message(&mut self) -> io::Result<Option<Publish>> {
        loop {
            let Some(packet) = self.recv().await? else { return Ok(None) };
            let (message, answer) = self.receiver.handle(packet);
            self.send(&answer).await?;
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// The receiver's part, for the next connection of the session.
    pub fn receiver(&self) -> Receiver {
        self.receiver.clone()
    }

    /// Goes on with the receiver's part of an older connection.
    pub fn with_receiver(mut self, receiver: Receiver) -> Self {
        self.receiver = receiver;
        self
    }

    /// Ends the connection in an orderly way.
    pub async fn disconnect(mut self) {
        self.send(&wire::DISCONNECT).await.unwrap_or(());
    }

    /// Halves for a writer and a reader that work at the same time.
    pub fn into_stream(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.input)
    }

    fn take_id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }

    async fn expect_ack(&mut self, kind: Ack, id: u16) -> io::Result<()> {
        match self.recv().await? {
            Some(Packet::Ack(have, of, code)) if have == kind && of == id && code < 0x80 => Ok(()),
            other => Err(io::Error::other(format!("instead of {kind:?} for {id}: {other:?}"))),
        }
    }
}
