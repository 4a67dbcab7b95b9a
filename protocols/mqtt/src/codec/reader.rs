//! Reads the basic types of both standards out of one packet (MQTT 5 §1.5). Knows no packet.

use bytes::Bytes;
use bytestring::ByteString;

use event::has_control;

use crate::Violation;

/// The largest value of a variable byte integer (MQTT 5 §1.5.5).
pub(crate) const VARINT_MAX: u32 = 268_435_455;

/// What is left of a packet. Every read takes from the front or says [`Violation::Truncated`].
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        let (&byte, rest) = self.rest.split_first().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Violation> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(bytes))
    }

    /// A variable byte integer in its shortest form \[MQTT-1.5.5-1\].
    pub(crate) fn varint(&mut self) -> Result<u32, Violation> {
        match varint(self.rest)? {
            None => Err(Violation::Truncated),
            Some((value, used)) if used == varint_len(value) => {
                self.rest = self.rest.get(used..).unwrap_or_default();
                Ok(value)
            }
            Some(_) => Err(Violation::Length),
        }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Violation> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Binary data: a length of two bytes, then the data (MQTT 5 §1.5.6).
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Violation> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// A UTF-8 string without U+0000 \[MQTT-1.5.4-1\] \[MQTT-1.5.4-2\], and without the characters that §1.5.4 advises
    /// against: strings go on to other clients, and some close when they see one.
    pub(crate) fn text(&mut self) -> Result<&'a str, Violation> {
        let text = std::str::from_utf8(self.binary()?).map_err(|_| Violation::Utf8)?;
        match has_control(text) {
            false => Ok(text),
            true if text.contains('\0') => Err(Violation::Null),
            true => Err(Violation::Control),
        }
    }

    /// All that is left.
    pub(crate) fn remainder(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(Violation::Trailing) }
    }
}

/// A variable byte integer at the front of `bytes` and how many bytes it takes; `None` when more are needed.
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Violation> {
    let mut value = 0u32;
    for (place, &byte) in bytes.iter().take(4).enumerate() {
        let shift = u32::try_from(place).unwrap_or(0).saturating_mul(7);
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((value, place.saturating_add(1))));
        }
    }
    if bytes.len() >= 4 { Err(Violation::Length) } else { Ok(None) }
}

/// How many bytes `value` takes in its shortest form.
pub(crate) fn varint_len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// `part`, a slice of `whole`, as text that shares its memory.
pub(crate) fn share_text(whole: &Bytes, part: &str) -> ByteString {
    // The bytes were found to be UTF-8 when `part` was read, so this never takes the default.
    ByteString::try_from(whole.slice_ref(part.as_bytes())).unwrap_or_default()
}
