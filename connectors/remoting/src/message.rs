//! Messages in bodies: as a broker stores and hands them out, and as a client sends several at once.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::codec::take;

/// Bits of a message's system flag.
pub mod sys_flag {
    /// The body is compressed; [`COMPRESSION`] says how.
    pub const COMPRESSED: i32 = 1;
    /// The address of the client that sent it is IPv6.
    pub const BORN_IPV6: i32 = 16;
    /// The address of the broker that stored it is IPv6.
    pub const STORE_IPV6: i32 = 32;
    /// Mask of the way it is compressed: 0 and [`ZLIB`], [`LZ4`], [`ZSTD`].
    pub const COMPRESSION: i32 = 0x700;
    /// An LZ4 frame.
    pub const LZ4: i32 = 0x100;
    /// A Zstandard frame.
    pub const ZSTD: i32 = 0x200;
    /// A zlib stream.
    pub const ZLIB: i32 = 0x300;
}

/// A message as a broker stores it.
///
/// ```text
/// i32 total   i32 magic   i32 CRC of the stored body   i32 queue   i32 flag
/// i64 offset in the queue   i64 offset in the commit log   i32 system flag
/// i64 born time    4 or 16 B address, i32 port
/// i64 store time   4 or 16 B address, i32 port
/// i32 times consumed again   i64 offset of its prepared transaction
/// i32 length, body   u8 (magic 1) or i16 (magic 2) length, topic   i16 length, properties
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its RocketMQ topic.
    pub topic: ByteString,
    /// Its queue.
    pub queue: i32,
    /// Its place in the queue.
    pub queue_offset: i64,
    /// Its place in the broker's commit log.
    pub physical_offset: i64,
    /// The application's flag.
    pub flag: i32,
    /// See [`sys_flag`].
    pub sys_flag: i32,
    /// When its client made it, milliseconds since 1970.
    pub born_ms: i64,
    /// The client.
    pub born_host: SocketAddr,
    /// When the broker stored it, milliseconds since 1970.
    pub store_ms: i64,
    /// The broker.
    pub store_host: SocketAddr,
    /// How often a group gave it back.
    pub reconsume_times: i32,
    /// Its body as it is stored: compressed if [`sys_flag::COMPRESSED`] is set.
    pub body: Bytes,
    /// Its property string; see [`crate::properties::parse`].
    pub properties: ByteString,
}

/// The bytes are no stored message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends before all its parts are there.
    #[error("a stored message ends too early")]
    Short,
    /// Its length and those of its parts do not agree.
    #[error("a stored message of {total} B has {left} B left over")]
    Length {
        /// The length it says.
        total: i32,
        /// What is left.
        left: usize,
    },
    /// Neither of the two formats.
    #[error("a stored message has magic {0:#010x}")]
    Magic(u32),
    /// The body does not have the sum it was stored with.
    #[error("the body of a stored message has CRC {found:#010x}, not {stored:#010x}")]
    Crc {
        /// The sum that is stored.
        stored: u32,
        /// The sum of the body.
        found: u32,
    },
    /// Topic or properties are not UTF-8.
    #[error("topic or properties of a stored message are not UTF-8")]
    NotUtf8,
}

const MAGIC_V1: u32 = 0xDAA3_20A7;
const MAGIC_V2: u32 = 0xDAA3_20AB;

/// The messages of a body, one after another; bodies and texts are slices of it.
pub fn decode_messages(mut body: Bytes) -> Result<Vec<StoredMessage>, MessageError> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        messages.push(decode_message(&mut body)?);
    }
    Ok(messages)
}

fn decode_message(input: &mut Bytes) -> Result<StoredMessage, MessageError> {
    let total = input.first_chunk().copied().map(i32::from_be_bytes).ok_or(MessageError::Short)?;
    let mut left = need(input, usize::try_from(total).map_err(|_| MessageError::Short)?)?;
    let mut head = need(&mut left, 48)?;
    head.advance(4);
    let magic = head.get_u32();
    if magic != MAGIC_V1 && magic != MAGIC_V2 {
        return Err(MessageError::Magic(magic));
    }
    let crc = head.get_u32();
    let (queue, flag) = (head.get_i32(), head.get_i32());
    let (queue_offset, physical_offset) = (head.get_i64(), head.get_i64());
    let sys_flag = head.get_i32();
    let born_ms = head.get_i64();
    let born_host = host(&mut left, sys_flag & sys_flag::BORN_IPV6 != 0)?;
    let store_ms = need(&mut left, 8)?.get_i64();
    let store_host = host(&mut left, sys_flag & sys_flag::STORE_IPV6 != 0)?;
    let mut tail = need(&mut left, 16)?;
    let reconsume_times = tail.get_i32();
    tail.advance(8);
    let body = need(&mut left, length(tail.get_i32().into())?)?;
    check_sum(crc, &body)?;
    let len = if magic == MAGIC_V1 {
        need(&mut left, 1)?.get_u8().into()
    } else {
        need(&mut left, 2)?.get_i16().into()
    };
    let topic = need_text(&mut left, len)?;
    let len = need(&mut left, 2)?.get_i16().into();
    let properties = need_text(&mut left, len)?;
    if !left.is_empty() {
        return Err(MessageError::Length { total, left: left.len() });
    }
    Ok(StoredMessage {
        topic,
        queue,
        queue_offset,
        physical_offset,
        flag,
        sys_flag,
        born_ms,
        born_host,
        store_ms,
        store_host,
        reconsume_times,
        body,
        properties,
    })
}

fn need(input: &mut Bytes, len: usize) -> Result<Bytes, MessageError> {
    take(input, len).ok_or(MessageError::Short)
}

fn need_text(input: &mut Bytes, len: i64) -> Result<ByteString, MessageError> {
    ByteString::try_from(need(input, length(len)?)?).map_err(|_| MessageError::NotUtf8)
}

fn length(len: i64) -> Result<usize, MessageError> {
    usize::try_from(len).map_err(|_| MessageError::Short)
}

fn host(input: &mut Bytes, ipv6: bool) -> Result<SocketAddr, MessageError> {
    let ip = if ipv6 {
        IpAddr::from(need(input, 16)?.get_u128().to_be_bytes())
    } else {
        IpAddr::from(need(input, 4)?.get_u32().to_be_bytes())
    };
    let port = u16::try_from(need(input, 4)?.get_i32()).unwrap_or_default();
    Ok(SocketAddr::new(ip, port))
}

fn check_sum(stored: u32, body: &[u8]) -> Result<(), MessageError> {
    let found = crc32fast::hash(body) & 0x7fff_ffff;
    if stored != found && !body.is_empty() {
        return Err(MessageError::Crc { stored, found });
    }
    Ok(())
}

/// A message of a batch: all of them go to one queue of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Its body, not compressed.
    pub body: Bytes,
    /// Its property string, at most [`crate::properties::PROPERTIES_MAX`] bytes.
    pub properties: ByteString,
}

impl BatchEntry {
    /// How many bytes of a batch it takes.
    pub fn len(&self) -> usize {
        22 + self.body.len() + self.properties.len()
    }

    /// Never: an entry has a head.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// The body of a SEND_BATCH_MESSAGE, for each entry:
///
/// ```text
/// i32 total   i32 0   i32 0   i32 flag   i32 length, body   i16 length, properties
/// ```
///
/// An entry whose body is 2 GiB or more, or whose properties are too long, is cut: check before.
pub fn encode_batch(entries: &[BatchEntry]) -> Bytes {
    let mut out = BytesMut::with_capacity(entries.iter().map(BatchEntry::len).sum());
    for entry in entries {
        debug_assert!(entry.properties.len() <= crate::properties::PROPERTIES_MAX);
        out.put_i32(i32::try_from(entry.len()).unwrap_or(i32::MAX));
        out.put_bytes(0, 12);
        out.put_i32(i32::try_from(entry.body.len()).unwrap_or(i32::MAX));
        out.extend_from_slice(&entry.body);
        out.put_i16(i16::try_from(entry.properties.len()).unwrap_or(i16::MAX));
        out.extend_from_slice(entry.properties.as_bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as a broker would write them.
    fn stored(topic: &str, body: &[u8], properties: &str, ipv6: bool) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32(0);
        out.put_u32(if topic.len() > 127 { MAGIC_V2 } else { MAGIC_V1 });
        out.put_u32(crc32fast::hash(body) & 0x7fff_ffff);
        out.put_i32(3);
        out.put_i32(9);
        out.put_i64(70);
        out.put_i64(7000);
        out.put_i32(if ipv6 { 48 } else { 0 });
        for ms in [1000, 2000] {
            out.put_i64(ms);
            if ipv6 {
                out.put_u128(1)
            } else {
                out.put_u32(0x7f00_0001)
            }
            out.put_i32(10911);
        }
        out.put_i32(1);
        out.put_i64(0);
        out.put_i32(body.len() as i32);
        out.extend_from_slice(body);
        if topic.len() > 127 {
            out.put_i16(topic.len() as i16)
        } else {
            out.put_u8(topic.len() as u8)
        }
        out.extend_from_slice(topic.as_bytes());
        out.put_i16(properties.len() as i16);
        out.extend_from_slice(properties.as_bytes());
        let total = (out.len() as u32).to_be_bytes();
        out[..4].copy_from_slice(&total);
        out
    }

    #[test]
    fn stored_messages_decode_one_after_another() {
        let long = "t".repeat(200);
        let bytes = [stored("T", b"one", "a\u{1}1\u{2}", false), stored(&long, b"", "", true)].concat();
        let messages = decode_messages(bytes.into()).unwrap();
        let [first, second] = messages.as_slice() else { panic!("{messages:?}") };
        assert_eq!((&*first.topic, &first.body[..], &*first.properties), ("T", &b"one"[..], "a\u{1}1\u{2}"));
        assert_eq!((first.queue, first.flag, first.queue_offset, first.physical_offset), (3, 9, 70, 7000));
        assert_eq!((first.born_ms, first.store_ms, first.reconsume_times), (1000, 2000, 1));
        assert_eq!(first.born_host, "127.0.0.1:10911".parse().unwrap());
        assert_eq!((&*second.topic, second.store_host), (&*long, "[::1]:10911".parse().unwrap()));
    }

    #[test]
    fn damage_is_named() {
        let good = stored("T", b"one", "", false);
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            decode_messages(bytes.into()).unwrap_err()
        };
        assert_eq!(check(&|bytes| bytes.truncate(bytes.len() - 1)), MessageError::Short);
        assert_eq!(check(&|bytes| bytes[0] = 0xff), MessageError::Short);
        assert_eq!(check(&|bytes| bytes[7] = 0), MessageError::Magic(0xDAA3_2000));
        assert!(matches!(check(&|bytes| bytes[90] ^= 1), MessageError::Crc { .. }));
        assert_eq!(check(&|bytes| bytes[92] = 0xff), MessageError::NotUtf8);
        let longer = check(&|bytes| {
            bytes[3] += 1;
            bytes.push(0);
        });
        assert_eq!(longer, MessageError::Length { total: good.len() as i32 + 1, left: 1 });
    }

    #[test]
    fn a_batch_byte_by_byte() {
        let entry = BatchEntry {
            body: Bytes::from_static(b"hi"),
            properties: ByteString::from_static("a\u{1}b\u{2}"),
        };
        let expected: &[u8] = &[
            0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', 0, 4, b'a', 1, b'b', 2,
        ];
        assert_eq!(&encode_batch(std::slice::from_ref(&entry))[..], expected);
        assert_eq!(encode_batch(&[entry.clone(), entry.clone()]).len(), 2 * entry.len());
    }
}
