//! The body of a record: note and event as bytes and back. Sans-io; trusts nothing that it reads.
//!
//! Numbers are little-endian. `text` is a varint (LEB128, at most 5 bytes, 32 bits) with the length, then so many bytes.
//!
//! ```text
//! u8    flags: 1 event, 2 expires, 4 meta, 8 synced; other bits are 0
//! u64   [synced]  the log was durable up to here when this record was written
//! text  note
//!       [event]
//! u64     stamp
//! u64     received, milliseconds since 1970
//! u64     [expires] milliseconds since 1970, not 0
//! text    topic, UTF-8
//! text    publisher, UTF-8
//! text    [meta], as below
//! …       data, up to the end of the record
//!
//! meta:
//! u8    flags: 1 CloudEvent, 2 content type, 4 data is UTF-8, 8 reply topic, 16 correlation data,
//!              32 subject, 64 time, 128 data schema
//! text  [content type]  text [reply topic]  text [correlation data]
//!       [CloudEvent]
//! text    id  text source  text type  text [subject]  text [time]  text [data schema]
//! varint  extensions, each: text name, u8 kind: 0 false, 1 true, 2 integer (then i32), 3 string (then text)
//! varint user properties, each: text name, text value
//! ```

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use bytestring::ByteString;
use event::store::Entry;
use event::{Attributes, Event, Meta, Parts, TopicName, Value};

/// What a body says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Body {
    /// Up to here the log was durable when the record was written, if it says so.
    pub(crate) synced: Option<u64>,
    pub(crate) note: Bytes,
    pub(crate) event: Option<Event>,
}

pub(crate) fn encode(out: &mut Vec<u8>, entry: &Entry, synced: Option<u64>) {
    let parts = entry.event.as_ref().map(Event::parts);
    let mut flags = 0;
    if let Some(parts) = parts {
        flags |= EVENT;
        flags |= if parts.expires_ms == 0 { 0 } else { EXPIRES };
        flags |= if parts.meta.is_some() { META } else { 0 };
    }
    flags |= if synced.is_some() { SYNCED } else { 0 };
    out.push(flags);
    if let Some(synced) = synced {
        out.extend_from_slice(&synced.to_le_bytes());
    }
    put_text(out, &entry.note);
    let Some(parts) = parts else { return };
    out.extend_from_slice(&parts.stamp.to_le_bytes());
    out.extend_from_slice(&parts.received_ms.to_le_bytes());
    if parts.expires_ms != 0 {
        out.extend_from_slice(&parts.expires_ms.to_le_bytes());
    }
    put_text(out, parts.topic.as_str().as_bytes());
    put_text(out, parts.publisher.as_bytes());
    if let Some(meta) = &parts.meta {
        let mut block = Vec::new();
        encode_meta(&mut block, meta);
        put_text(out, &block);
    }
    out.extend_from_slice(&parts.data);
}

fn encode_meta(out: &mut Vec<u8>, meta: &Meta) {
    let attributes = meta.attributes.as_ref();
    let has = [
        (CLOUD_EVENT, attributes.is_some()),
        (CONTENT_TYPE, meta.content_type.is_some()),
        (UTF8, meta.utf8),
        (REPLY_TO, meta.reply_to.is_some()),
        (CORRELATION, meta.correlation.is_some()),
        (SUBJECT, attributes.is_some_and(|a| a.subject.is_some())),
        (TIME, attributes.is_some_and(|a| a.time.is_some())),
        (SCHEMA, attributes.is_some_and(|a| a.dataschema.is_some())),
    ];
    out.push(has.iter().filter(|(_, there)| *there).fold(0, |flags, (flag, _)| flags | flag));
    let fields = [
        meta.content_type.as_ref().map(|text| text.as_bytes()),
        meta.reply_to.as_ref().map(|topic| topic.text().as_bytes()),
        meta.correlation.as_ref(),
    ];
    fields.into_iter().flatten().for_each(|field| put_text(out, field));
    if let Some(attributes) = attributes {
        encode_attributes(out, attributes);
    }
    put_count(out, meta.user.len());
    for (name, value) in &meta.user {
        put_text(out, name.as_bytes());
        put_text(out, value.as_bytes());
    }
}

fn encode_attributes(out: &mut Vec<u8>, attributes: &Attributes) {
    let Attributes { id, source, ty, subject, time, dataschema, extensions } = attributes;
    let fields = [Some(id), Some(source), Some(ty), subject.as_ref(), time.as_ref(), dataschema.as_ref()];
    fields.into_iter().flatten().for_each(|field| put_text(out, field.as_bytes()));
    put_count(out, extensions.len());
    for (name, value) in extensions {
        put_text(out, name.as_bytes());
        match value {
            Value::Boolean(truth) => out.push(u8::from(*truth)),
            Value::Integer(number) => {
                out.push(INTEGER);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Value::String(text) => {
                out.push(STRING);
                put_text(out, text.as_bytes());
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

// Beyond 32 bits the count is cut; such a record is longer than the longest and refused as a whole.
fn put_count(out: &mut Vec<u8>, count: usize) {
    let mut rest = count & 0xffff_ffff;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a body; `None` if it is none. Texts and data are slices of `bytes`.
pub(crate) fn decode(bytes: Bytes) -> Option<Body> {
    decode_after(bytes, &mut None)
}

/// As [`decode`]. `publisher` is that of the record before, and then of this one: most often it is the same.
pub(crate) fn decode_after(bytes: Bytes, publisher: &mut Option<Arc<str>>) -> Option<Body> {
    let mut fields = Fields(bytes);
    let flags = fields.byte()?;
    if flags & !(EVENT | EXPIRES | META | SYNCED) != 0
        || (flags & EVENT == 0 && flags & (EXPIRES | META) != 0)
    {
        return None;
    }
    let synced = fields.when(flags & SYNCED, Fields::number)?;
    let note = fields.bytes()?;
    if flags & EVENT == 0 {
        return fields.0.is_empty().then_some(Body { synced, note, event: None });
    }
    let stamp = fields.number()?;
    let received_ms = fields.number()?;
    let expires_ms = fields.when(flags & EXPIRES, Fields::number)?;
    if expires_ms == Some(0) {
        return None;
    }
    let topic = TopicName::parse(fields.text()?).ok()?;
    let name = fields.text()?;
    let publisher = match publisher {
        Some(known) if **known == *name => Arc::clone(known),
        Some(_) | None => Arc::clone(publisher.insert(Arc::from(&*name))),
    };
    let meta = fields.when(flags & META, |fields| decode_meta(Fields(fields.bytes()?)))?;
    let expires_ms = expires_ms.unwrap_or(0);
    let parts =
        Parts { topic, data: fields.0, stamp, received_ms, expires_ms, publisher, meta: meta.map(Box::new) };
    Some(Body { synced, note, event: Some(Event::new(parts)) })
}

/// Up to where the log was durable when this body was written, if it says so.
pub(crate) fn synced(body: &[u8]) -> Option<u64> {
    let (flags, rest) = body.split_first()?;
    let number = rest.first_chunk().filter(|_| flags & SYNCED != 0)?;
    Some(u64::from_le_bytes(*number))
}

/// When the event of this body was received, if it has one.
pub(crate) fn received_ms(body: &[u8]) -> Option<u64> {
    let (flags, rest) = body.split_first()?;
    let rest = if flags & SYNCED == 0 { rest } else { rest.get(8..)? };
    let (mut note, mut shift, mut digits) = (0_usize, 0, rest.iter());
    loop {
        let byte = usize::from(*digits.next()?);
        note |= (byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 || shift > 28 {
            break;
        }
    }
    // Behind the note and the stamp.
    let number = digits.as_slice().get(note..)?.get(8..)?.first_chunk().filter(|_| flags & EVENT != 0)?;
    Some(u64::from_le_bytes(*number))
}

fn decode_meta(mut fields: Fields) -> Option<Meta> {
    let flags = fields.byte()?;
    if flags & CLOUD_EVENT == 0 && flags & (SUBJECT | TIME | SCHEMA) != 0 {
        return None;
    }
    let content_type = fields.when(flags & CONTENT_TYPE, Fields::text)?;
    let reply_to = fields.when(flags & REPLY_TO, |fields| TopicName::parse(fields.text()?).ok())?;
    let correlation = fields.when(flags & CORRELATION, Fields::bytes)?;
    let attributes = fields.when(flags & CLOUD_EVENT, |fields| {
        Some(Attributes {
            id: fields.text()?,
            source: fields.text()?,
            ty: fields.text()?,
            subject: fields.when(flags & SUBJECT, Fields::text)?,
            time: fields.when(flags & TIME, Fields::text)?,
            dataschema: fields.when(flags & SCHEMA, Fields::text)?,
            extensions: fields.list(|fields| Some((fields.text()?, fields.value()?)))?,
        })
    })?;
    let user = fields.list(|fields| Some((fields.text()?, fields.text()?)))?;
    let utf8 = flags & UTF8 != 0;
    fields.0.is_empty().then_some(Meta { attributes, content_type, utf8, reply_to, correlation, user })
}

/// Takes fields from the front; each method is `None` when they are not there.
struct Fields(Bytes);

impl Fields {
    fn byte(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.0.try_get_u64_le().ok()
    }

    fn count(&mut self) -> Option<usize> {
        let mut count: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            count |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(count).ok().map(|count| count as usize);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.count()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn text(&mut self) -> Option<ByteString> {
        ByteString::try_from(self.bytes()?).ok()
    }

    fn value(&mut self) -> Option<Value> {
        match self.byte()? {
            0 => Some(Value::Boolean(false)),
            1 => Some(Value::Boolean(true)),
            INTEGER => self.0.try_get_i32_le().ok().map(Value::Integer),
            STRING => self.text().map(Value::String),
            _ => None,
        }
    }

    /// A list with its count in front. The count is not trusted with memory: each item takes at least two bytes.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.count()?;
        if count > self.0.len() / 2 {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// A field that is there when `flag` is not 0.
    fn when<T>(&mut self, flag: u8, field: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if flag == 0 { Some(None) } else { field(self).map(Some) }
    }
}

const EVENT: u8 = 1;
const EXPIRES: u8 = 2;
const META: u8 = 4;
const SYNCED: u8 = 8;

const CLOUD_EVENT: u8 = 1;
const CONTENT_TYPE: u8 = 2;
const UTF8: u8 = 4;
const REPLY_TO: u8 = 8;
const CORRELATION: u8 = 16;
const SUBJECT: u8 = 32;
const TIME: u8 = 64;
const SCHEMA: u8 = 128;

const INTEGER: u8 = 2;
const STRING: u8 = 3;
