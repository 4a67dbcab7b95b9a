//! One record as bytes: frame, mark and sum. Sans-io. What is inside the frame is the business of [`crate::body`].
//!
//! ```text
//! offset size
//!      0    4  length of the whole record; 0: here the log ends
//!      4    4  mark: binds length and position to this data folder
//!      8    4  CRC-32 (IEEE) of the bytes from 12 on, started with the mark
//!     12    …  body
//! ```
//!
//! The mark is `mix(mix(salt, position), length)`, its upper half, where `mix(a, b) = ((a ^ b) * K) ^ ((a ^ b) * K >> 32)`
//! in 64 bits and `K = 0x9E3779B97F4A7C15`. The salt is random, made with the data folder, and in the header of every
//! segment. So bytes at any other place than the one they were written for are never taken for a record: not the
//! rest of an older write, not a record that somebody published as data. And where a record is damaged the next
//! one can be found, at the price of one multiplication for each byte.

use event::store::Entry;

use crate::body;

/// Bytes before the body.
pub(crate) const FRAME: usize = 12;
/// The shortest record: a frame, the flags and the length of an empty note.
pub(crate) const SHORTEST: usize = FRAME + 2;
/// The longest record, 1 GiB: four times the largest MQTT packet.
pub(crate) const LONGEST: usize = 1 << 30;

/// What makes the marks of one data folder its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) u64);

impl Salt {
    fn mark(self, position: u64, length: u32) -> u32 {
        let bound = mix(mix(self.0, position), u64::from(length));
        (bound >> 32) as u32
    }
}

const fn mix(a: u64, b: u64) -> u64 {
    let product = (a ^ b).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
}

/// What is at a place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// The log ends here: a length of zero.
    End,
    /// A record of this many bytes is said to be here, and the mark agrees.
    Record(usize),
    /// Something else.
    Bad,
}

/// What the first bytes of a record say. `bytes` has to hold a frame, else it is [`Head::Bad`].
pub(crate) fn head(bytes: &[u8], salt: Salt, position: u64) -> Head {
    let Some((length, rest)) = bytes.split_first_chunk() else { return Head::Bad };
    let length = u32::from_le_bytes(*length);
    let Some(mark) = rest.first_chunk() else { return Head::Bad };
    match length as usize {
        0 => Head::End,
        SHORTEST..=LONGEST if u32::from_le_bytes(*mark) == salt.mark(position, length) => {
            Head::Record(length as usize)
        }
        _ => Head::Bad,
    }
}

/// Whether the sum of a whole record is right. The head was checked before.
pub(crate) fn is_whole(record: &[u8]) -> bool {
    let (Some(frame), Some(body)) = (record.first_chunk::<FRAME>(), record.get(FRAME..)) else {
        return false;
    };
    let [_, _, _, _, m0, m1, m2, m3, c0, c1, c2, c3] = *frame;
    sum(u32::from_le_bytes([m0, m1, m2, m3]), body) == u32::from_le_bytes([c0, c1, c2, c3])
}

fn sum(mark: u32, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new_with_initial(mark);
    sum.update(body);
    sum.finalize()
}

/// The record would be longer than [`LONGEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong(pub(crate) usize);

/// Appends a record that will be at `position`. `synced` tells up to where the log is durable, if that is news.
/// On error `out` is as it was.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    salt: Salt,
    position: u64,
    entry: &Entry,
    synced: Option<u64>,
) -> Result<(), TooLong> {
    frame(out, salt, position, |out| body::encode(out, entry, synced))
}

/// As [`encode`], with the body that `body` appends.
pub(crate) fn frame(
    out: &mut Vec<u8>,
    salt: Salt,
    position: u64,
    body: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLong> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    body(out);
    let length = out.len() - start;
    let short = u32::try_from(length).ok().filter(|_| length <= LONGEST);
    let (Some(short), Some(record)) = (short, out.get_mut(start..)) else {
        out.truncate(start);
        return Err(TooLong(length));
    };
    let mark = salt.mark(position, short);
    let (frame, body) = record.split_at_mut(FRAME);
    let [l0, l1, l2, l3] = short.to_le_bytes();
    let [m0, m1, m2, m3] = mark.to_le_bytes();
    let [c0, c1, c2, c3] = sum(mark, body).to_le_bytes();
    frame.copy_from_slice(&[l0, l1, l2, l3, m0, m1, m2, m3, c0, c1, c2, c3]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const SALT: Salt = Salt(0x0123_4567_89ab_cdef);

    fn record(position: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let entry = Entry { event: None, note: Bytes::from_static(b"note") };
        encode(&mut out, SALT, position, &entry, None).unwrap();
        out
    }

    #[test]
    fn a_record_is_known_at_its_own_place_only() {
        let bytes = record(4096);
        assert_eq!(head(&bytes, SALT, 4096), Head::Record(bytes.len()));
        assert!(is_whole(&bytes));
        assert_eq!(head(&bytes, SALT, 4097), Head::Bad);
        assert_eq!(head(&bytes, Salt(1), 4096), Head::Bad);
        assert_eq!(head(&[0; FRAME], SALT, 4096), Head::End);
        assert_eq!(head(&bytes[..7], SALT, 4096), Head::Bad);
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = record(64);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let seen = head(&bad, SALT, 64) != Head::Record(bad.len()) || !is_whole(&bad);
            assert!(seen, "bit {bit}");
        }
    }
}
