//! The client's side of the stream: the only file of the client that awaits.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::time::Duration;

use bytes::BytesMut;
use event::{CEL_NAME, CESQL_NAME, Guarantee, Language, Select};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{ClientError, Hello, Message};
use crate::codec::client::{self as codec, AckKind, ServerPacket, ack, decode_server};
use crate::codec::encode::PublishHead;
use crate::codec::{FilterOptions, PacketId, Property, REPLAY_FROM, Reason, Version};

/// A connected client.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    input: BytesMut,
    output: BytesMut,
    /// Came while an answer was waited for.
    waiting: VecDeque<Message>,
    /// QoS 2 ids between PUBREC and PUBREL.
    received: BTreeSet<PacketId>,
    next_id: NonZeroU16,
    patience: Duration,
    keep_alive: Option<Duration>,
    last_out: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Connects over `stream`. Not cancel-safe: the stream is lost.
    pub async fn connect(stream: S, hello: Hello) -> Result<Self, ClientError> {
        let mut client = Self {
            stream,
            input: BytesMut::with_capacity(4096),
            output: BytesMut::new(),
            waiting: VecDeque::new(),
            received: BTreeSet::new(),
            next_id: NonZeroU16::MIN,
            patience: hello.patience,
            keep_alive: None,
            last_out: Instant::now(),
        };
        let properties =
            [Property::SessionExpiry(hello.session_expiry_s), Property::ReceiveMaximum(RECEIVE_MAX)];
        let packet = codec::Hello {
            client_id: &hello.client_id,
            clean: hello.clean,
            keep_alive_s: hello.keep_alive_s,
            user: hello.user.as_deref(),
            password: hello.password.as_deref(),
            properties: &properties,
            ..codec::Hello::default()
        };
        codec::connect(&mut client.output, Version::V5, &packet);
        let answer = client.answer(|packet| matches!(packet, ServerPacket::ConnAck { .. })).await?;
        let ServerPacket::ConnAck { code, properties, .. } = answer else { return Err(ClientError::Timeout) };
        accepted(code)?;
        let mut seconds = hello.keep_alive_s;
        for property in properties.iter() {
            if let Property::ServerKeepAlive(theirs) = property {
                seconds = theirs;
            }
        }
        client.keep_alive = (seconds != 0).then(|| Duration::from_secs(u64::from(seconds)));
        Ok(client)
    }

    /// Publishes, and waits until it is acknowledged if `guarantee` has an acknowledgement. Not cancel-safe: it may
    /// be published or not.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        guarantee: Guarantee,
        retain: bool,
        properties: &[Property<'_>],
    ) -> Result<(), ClientError> {
        let id = (guarantee != Guarantee::AtMostOnce).then(|| self.take_id());
        let head = PublishHead { dup: false, guarantee, retain, topic, id };
        if !codec::publish(&mut self.output, Version::V5, head, properties, payload) {
            return Err(ClientError::TooLarge);
        }
        match (guarantee, id) {
            (Guarantee::AtLeastOnce, Some(id)) => self.acked(AckKind::PubAck, id).await,
            (Guarantee::ExactlyOnce, Some(id)) => {
                self.acked(AckKind::PubRec, id).await?;
                ack(&mut self.output, Version::V5, AckKind::PubRel, id, Reason::Success);
                self.acked(AckKind::PubComp, id).await
            }
            (Guarantee::AtMostOnce | Guarantee::AtLeastOnce | Guarantee::ExactlyOnce, _) => {
                self.flush().await
            }
        }
    }

    /// Subscribes to all of `filters` with at most `guarantee`; fails when one is refused. Not cancel-safe.
    pub async fn subscribe(&mut self, filters: &[&str], guarantee: Guarantee) -> Result<(), ClientError> {
        self.subscribe_with(filters, guarantee, None, None).await
    }

    /// As [`Self::subscribe`]; with `from`, a Weft first sends what it has kept from there on ([`event::replay`]); with
    /// `select`, it sends only what passes. Other brokers take no notice.
    pub async fn subscribe_with(
        &mut self,
        filters: &[&str],
        guarantee: Guarantee,
        from: Option<&str>,
        select: Option<&Select>,
    ) -> Result<(), ClientError> {
        let id = self.take_id();
        let options =
            FilterOptions { guarantee, no_local: false, retain_as_published: false, retain_handling: 0 };
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, options)).collect();
        let from = from.map(|start| Property::User(REPLAY_FROM, start));
        let select = select.map(|select| {
            let name = match select.language {
                Language::Cesql => CESQL_NAME,
                Language::Cel => CEL_NAME,
            };
            Property::User(name, &select.text)
        });
        let properties: Vec<_> = from.into_iter().chain(select).collect();
        codec::subscribe(&mut self.output, Version::V5, id, &filters, &properties);
        let answer = self.answer(|packet| matches!(packet, ServerPacket::SubAck(of, _) if *of == id)).await?;
        let ServerPacket::SubAck(_, codes) = answer else { return Err(ClientError::Timeout) };
        codes.into_iter().try_for_each(accepted)
    }

    /// The next message; it is acknowledged when the one behind it is asked for, or on [`Client::disconnect`].
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Message, ClientError> {
        self.flush().await?;
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Ok(message);
            }
            if let Some(packet) = decode_server(&mut self.input, Version::V5)? {
                self.take(packet)?;
                continue;
            }
            self.flush().await?;
            match self.keep_alive {
                None => self.read().await?,
                Some(keep_alive) => {
                    if let Ok(read) = timeout_at(self.last_out + keep_alive, self.read()).await {
                        read?;
                    } else {
                        codec::pingreq(&mut self.output);
                    }
                }
            }
        }
    }

    /// Says goodbye. Not cancel-safe.
    pub async fn disconnect(mut self) -> Result<(), ClientError> {
        codec::disconnect(&mut self.output, Version::V5, 0, &[]);
        self.flush().await?;
        Ok(self.stream.shutdown().await?)
    }

    /// Waits for the ack `what` of `id`; fails when it says no.
    async fn acked(&mut self, what: AckKind, id: PacketId) -> Result<(), ClientError> {
        let code_of = |packet: &ServerPacket| match (what, packet) {
            (AckKind::PubAck, ServerPacket::PubAck(ack))
            | (AckKind::PubRec, ServerPacket::PubRec(ack))
            | (AckKind::PubComp, ServerPacket::PubComp(ack)) => Some(*ack).filter(|ack| ack.id == id),
            _ => None,
        };
        let answer = self.answer(|packet| code_of(packet).is_some()).await?;
        code_of(&answer).map_or(Ok(()), |ack| accepted(ack.code))
    }

    /// Sends what is written, and waits for the packet that `wanted` picks.
    async fn answer(&mut self, wanted: impl Fn(&ServerPacket) -> bool) -> Result<ServerPacket, ClientError> {
        let patience = self.patience;
        let wait = async {
            loop {
                self.flush().await?;
                while let Some(packet) = decode_server(&mut self.input, Version::V5)? {
                    if wanted(&packet) {
                        return Ok(packet);
                    }
                    self.take(packet)?;
                }
                self.flush().await?;
                self.read().await?;
            }
        };
        timeout(patience, wait).await.unwrap_or(Err(ClientError::Timeout))
    }

    /// Takes a packet that nobody asked for.
    fn take(&mut self, packet: ServerPacket) -> Result<(), ClientError> {
        match packet {
            ServerPacket::Publish(message) => {
                let fresh = match (message.guarantee, message.id) {
                    (Guarantee::AtLeastOnce, Some(id)) => {
                        ack(&mut self.output, Version::V5, AckKind::PubAck, id, Reason::Success);
                        true
                    }
                    (Guarantee::ExactlyOnce, Some(id)) => {
                        ack(&mut self.output, Version::V5, AckKind::PubRec, id, Reason::Success);
                        self.received.insert(id)
                    }
                    (Guarantee::AtMostOnce | Guarantee::AtLeastOnce | Guarantee::ExactlyOnce, _) => true,
                };
                if fresh {
                    self.waiting.push_back(message);
                }
            }
            ServerPacket::PubRel(released) => {
                self.received.remove(&released.id);
                ack(&mut self.output, Version::V5, AckKind::PubComp, released.id, Reason::Success);
            }
            ServerPacket::Disconnect(code) => return Err(ClientError::Closed(code)),
            ServerPacket::ConnAck { .. }
            | ServerPacket::PubAck(_)
            | ServerPacket::PubRec(_)
            | ServerPacket::PubComp(_)
            | ServerPacket::SubAck(..)
            | ServerPacket::UnsubAck(..)
            | ServerPacket::Auth(_)
            | ServerPacket::PingResp => {}
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ClientError> {
        while !self.output.is_empty() {
            self.stream.write_buf(&mut self.output).await?;
            self.last_out = Instant::now();
        }
        Ok(self.stream.flush().await?)
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(ClientError::Closed(0)),
            _ => Ok(()),
        }
    }

    fn take_id(&mut self) -> PacketId {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(NonZeroU16::MIN);
        PacketId(id)
    }
}

fn accepted(code: u8) -> Result<(), ClientError> {
    if code >= 0x80 { Err(ClientError::Refused(code)) } else { Ok(()) }
}

/// Few, so that what was not printed yet is with the server and not here.
const RECEIVE_MAX: NonZeroU16 = NonZeroU16::MIN.saturating_add(99);
