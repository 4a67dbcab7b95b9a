//! Frames. Sans-io.
//!
//! ```text
//! offset  0        9        13              17             21         21+H
//!         "EventMesh" "0000" package length L  header length H  header JSON  body
//! ```
//!
//! Integers are big-endian. L has two meanings under the same version; nothing in the frame tells which:
//!
//! | | L counts | body |
//! |---|---|---|
//! | from 1.9 ([`Dialect::From19`]) | magic, version, header, body | L − 13 − H |
//! | up to 1.8 ([`Dialect::UpTo18`]) | both length fields, header, body | L − 8 − H |
//!
//! A client's first frame tells: the body of its HELLO_REQUEST is one JSON object, which ends where the frame ends.

mod command;
mod header;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::Violation;

pub use command::Command;
pub use header::{Answer, Header};

/// What the package length counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SDKs from 1.9 on.
    From19,
    /// SDKs up to 1.8.
    UpTo18,
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// What it is.
    pub header: Header,
    /// What the command needs.
    pub body: Bytes,
}

/// Magic, version and two lengths.
pub const PREFIX: usize = 21;

/// The longest header that is read, bytes: far more than SDKs write.
pub const HEADER_MAX: u32 = 64 << 10;

const MAGIC: &[u8; 13] = b"EventMesh0000";

impl Dialect {
    /// What a package length counts beside header and body.
    fn beside(self) -> u32 {
        match self {
            Self::From19 => 13,
            Self::UpTo18 => 8,
        }
    }
}

/// Where the first frame of the input ends, or what is needed to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole frame of this dialect and length.
    Whole(Dialect, usize),
    /// No whole frame yet: read until there are at least this many bytes.
    Need(usize),
}

/// Looks for the first frame of `input`. `dialect`: that of the connection, once its first frame told.
///
/// # Errors
/// What is there is no frame, or one larger than `max` bytes.
pub fn find(input: &[u8], dialect: Option<Dialect>, max: u32) -> Result<Found, Violation> {
    let known = input.len().min(MAGIC.len());
    if input.get(..known) != MAGIC.get(..known) {
        return Err(Violation::Magic);
    }
    let Some(mut lengths) = input.get(MAGIC.len()..PREFIX) else { return Ok(Found::Need(PREFIX)) };
    let (package, header) = (lengths.get_u32(), lengths.get_u32());
    if package > max {
        return Err(Violation::TooLarge { len: package, max });
    }
    if header > HEADER_MAX {
        return Err(Violation::HeaderTooLarge { len: header, max: HEADER_MAX });
    }
    let end = |dialect: Dialect| {
        let body = package.checked_sub(dialect.beside())?.checked_sub(header)?;
        let header = usize::try_from(header).ok()?;
        Some(PREFIX + header + usize::try_from(body).ok()?)
    };
    let wrong = Violation::Length { package, header };
    let whole = |dialect, end| if input.len() >= end { Found::Whole(dialect, end) } else { Found::Need(end) };
    if let Some(dialect) = dialect {
        return Ok(whole(dialect, end(dialect).ok_or(wrong)?));
    }
    let old = end(Dialect::UpTo18).ok_or(wrong)?;
    let Some(new) = end(Dialect::From19) else { return Ok(whole(Dialect::UpTo18, old)) };
    let start = PREFIX + usize::try_from(header).unwrap_or(usize::MAX);
    let Some(body) = input.get(start..new) else { return Ok(Found::Need(new)) };
    if !is_cut(body) || input.get(new).is_some_and(|next| Some(next) == MAGIC.first()) {
        return Ok(Found::Whole(Dialect::From19, new));
    }
    Ok(match input.get(start..old) {
        None => Found::Need(old),
        Some(body) if is_cut(body) => Found::Whole(Dialect::From19, new),
        Some(_) => Found::Whole(Dialect::UpTo18, old),
    })
}

/// Whether `body` is JSON that goes on behind its end.
fn is_cut(body: &[u8]) -> bool {
    let read: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(body);
    !body.is_empty() && read.is_err_and(|error| error.is_eof())
}

/// Reads a whole frame, as [`find`] found it.
///
/// # Errors
/// Its header is none, or names a command that does not exist.
pub fn read(mut frame: Bytes) -> Result<Frame, Violation> {
    let mut lengths = frame.get(MAGIC.len() + 4..PREFIX).unwrap_or_default();
    let header = if lengths.len() == 4 { lengths.get_u32() } else { 0 };
    let end = PREFIX.saturating_add(usize::try_from(header).unwrap_or(usize::MAX));
    let body = frame.split_off(end.min(frame.len()));
    let header = Header::read(frame.get(PREFIX..).unwrap_or_default())?;
    Ok(Frame { header, body })
}

/// Writes a frame to the end of `out`.
pub fn write(out: &mut BytesMut, dialect: Dialect, answer: &Answer<'_>, body: &[u8]) {
    let start = out.len();
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[0; 8]);
    answer.write(out);
    let header = out.len() - start - PREFIX;
    out.extend_from_slice(body);
    // What is written was an event of less than 4 GiB.
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let package = length(header + body.len()).saturating_add(dialect.beside());
    let lengths = out.get_mut(start + MAGIC.len()..start + PREFIX);
    if let Some((first, second)) = lengths.and_then(|lengths| lengths.split_at_mut_checked(4)) {
        first.copy_from_slice(&package.to_be_bytes());
        second.copy_from_slice(&length(header).to_be_bytes());
    }
}

/// What a fuzz target, and the replay of its corpus, run: reads `data` as a client's bytes. The first byte chooses the
/// dialect. Panics only when the codec is wrong.
pub fn exercise(data: &[u8]) {
    let Some((&mode, mut stream)) = data.split_first() else { return };
    let mut dialect = match mode % 3 {
        0 => None,
        1 => Some(Dialect::From19),
        _ => Some(Dialect::UpTo18),
    };
    while let Ok(Found::Whole(found, end)) = find(stream, dialect, 1 << 20) {
        assert!(end >= PREFIX && end <= stream.len(), "a frame is within the input");
        assert!(dialect.is_none_or(|known| known == found), "a connection keeps its dialect");
        dialect = Some(found);
        let (frame, rest) = stream.split_at(end);
        stream = rest;
        let Ok(frame) = read(Bytes::copy_from_slice(frame)) else { return };
        let answer = Answer::new(frame.header.cmd, frame.header.seq.as_deref());
        let mut out = BytesMut::new();
        write(&mut out, found, &answer, &frame.body);
        let again = find(&out, Some(found), u32::MAX);
        assert_eq!(again, Ok(Found::Whole(found, out.len())), "what is written is a frame");
        let again = read(out.freeze());
        assert!(again.is_ok_and(|again| again.body == frame.body && again.header.seq == frame.header.seq));
    }
}

#[cfg(test)]
mod tests;
