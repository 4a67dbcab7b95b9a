//! The binary header.
//!
//! ```text
//! i16 code   u8 language   i16 version   i32 opaque   i32 flag
//! i32 length, remark       i32 length, fields: i16 length, name, i32 length, value; repeated
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::codec::take;
use crate::{Command, EncodeError, FrameError, Language};

/// RocketMQ's numbers of languages.
const RUST: u8 = 12;
const OTHER: u8 = 7;

pub(crate) fn decode(mut header: Bytes, body: Bytes) -> Result<Command, FrameError> {
    let early = FrameError::Binary("it ends too early");
    let Some(mut fixed) = take(&mut header, 13) else { return Err(early) };
    let code = i32::from(fixed.get_i16());
    let language = if fixed.get_u8() == RUST { Language::Rust } else { Language::Other };
    let (version, opaque, flag) = (i32::from(fixed.get_i16()), fixed.get_i32(), fixed.get_i32());
    let remark = long_text(&mut header)?;
    let Some(mut map) = long(&mut header) else { return Err(early) };
    if !header.is_empty() {
        return Err(FrameError::Binary("bytes are left over"));
    }
    let mut fields = Vec::new();
    while !map.is_empty() {
        let name = text(short(&mut map).ok_or_else(|| early.clone())?)?;
        fields.push((name, long_text(&mut map)?));
    }
    let remark = (!remark.is_empty()).then_some(remark);
    Ok(Command { code, language, version, opaque, flag, remark, fields, body })
}

pub(crate) fn encode(command: &Command, out: &mut BytesMut) -> Result<(), EncodeError> {
    let too_large = |len: usize| EncodeError::TooLarge { len, max: crate::FRAME_MAX };
    out.put_i16(i16::try_from(command.code).map_err(|_| EncodeError::Code(command.code))?);
    out.put_u8(match command.language {
        Language::Rust => RUST,
        Language::Other => OTHER,
    });
    // The version is what the sender names; one that does not fit cannot come from this client.
    out.put_i16(i16::try_from(command.version).unwrap_or(i16::MAX));
    out.put_i32(command.opaque);
    out.put_i32(command.flag);
    let remark = command.remark.as_deref().unwrap_or_default();
    out.put_i32(i32::try_from(remark.len()).map_err(|_| too_large(remark.len()))?);
    out.extend_from_slice(remark.as_bytes());
    let map: usize = command.fields.iter().map(|(name, value)| 6 + name.len() + value.len()).sum();
    out.put_i32(i32::try_from(map).map_err(|_| too_large(map))?);
    for (name, value) in &command.fields {
        out.put_i16(i16::try_from(name.len()).map_err(|_| too_large(name.len()))?);
        out.extend_from_slice(name.as_bytes());
        out.put_i32(i32::try_from(value.len()).map_err(|_| too_large(value.len()))?);
        out.extend_from_slice(value.as_bytes());
    }
    Ok(())
}

/// Bytes behind an i16 length.
fn short(input: &mut Bytes) -> Option<Bytes> {
    let len = take(input, 2)?.get_i16();
    take(input, usize::try_from(len).ok()?)
}

/// Bytes behind an i32 length.
fn long(input: &mut Bytes) -> Option<Bytes> {
    let len = take(input, 4)?.get_i32();
    take(input, usize::try_from(len).ok()?)
}

fn long_text(input: &mut Bytes) -> Result<ByteString, FrameError> {
    text(long(input).ok_or(FrameError::Binary("it ends too early"))?)
}

fn text(bytes: Bytes) -> Result<ByteString, FrameError> {
    ByteString::try_from(bytes).map_err(|_| FrameError::Binary("text is not UTF-8"))
}
