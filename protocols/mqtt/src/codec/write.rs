//! Writes the basic types of both standards. What is written once can be measured before: packets start with a length.

use bytes::{BufMut, BytesMut};

use super::reader::varint_len;

/// Takes bytes: a buffer, or a count of them.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.put_slice(bytes);
    }
}

/// Counts what would be written.
#[derive(Default)]
pub(crate) struct Measure(pub(crate) usize);

impl Sink for Measure {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }
}

/// A variable byte integer (MQTT 5 §1.5.5); `value` is at most 268,435,455.
#[inline]
pub(crate) fn write_varint(sink: &mut impl Sink, value: u32) {
    let [_, _, _, low] = value.to_be_bytes();
    if value < 128 {
        return sink.put(&[low]);
    }
    let group = |shift: u32| {
        let [_, _, _, byte] = (value >> shift).to_be_bytes();
        byte | 0x80
    };
    let bytes = [group(0), group(7), group(14), group(21)];
    let len = varint_len(value);
    for (place, byte) in bytes.iter().take(len).enumerate() {
        let last = place.saturating_add(1) == len;
        sink.put(&[if last { byte & 0x7f } else { *byte }]);
    }
}

/// Data of at most 65,535 bytes behind its length; longer data is cut, which no caller does.
#[inline]
pub(crate) fn write_binary(sink: &mut impl Sink, data: &[u8]) {
    let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
    sink.put(&len.to_be_bytes());
    sink.put(data.get(..usize::from(len)).unwrap_or_default());
}

/// A UTF-8 string behind its length.
#[inline]
pub(crate) fn write_text(sink: &mut impl Sink, text: &str) {
    write_binary(sink, text.as_bytes());
}
