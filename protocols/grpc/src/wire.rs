//! Looks at the HTTP/2 frames that leave a connection, to know what the peer has taken. Sans-io.
//!
//! gRPC has no word for "I have this message". But a peer answers a PING only when it has read all that came before it
//! (RFC 9113 §6.7), and TCP keeps the order. So of each stream the bytes of DATA are counted as they are written, and
//! when a PING passes, the counts are noted: its answer confirms them.
//!
//! ```text
//! +-----------------+--------+---------+---------------+----------------
//! | length, 3 bytes | type 1 | flags 1 | stream id, 4  | payload         (RFC 9113 §4.1)
//! +-----------------+--------+---------+---------------+----------------
//! ```

use std::collections::BTreeMap;

/// What was written to one connection.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    head: Head,
    /// Bytes of the payload under way that are not written yet.
    left: usize,
    /// Streams that want to know.
    streams: BTreeMap<u32, Counts>,
}

/// Bytes of DATA of one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    written: u64,
    /// Written when the last PING passed.
    pinged: u64,
    confirmed: u64,
}

/// A frame header, as far as it came.
#[derive(Debug, Default)]
struct Head {
    bytes: [u8; HEAD],
    have: usize,
}

const HEAD: usize = 9;
const DATA: u8 = 0;
const PING: u8 = 6;
const ACK: u8 = 1;

impl Wire {
    /// Counts for stream `id` from now on.
    pub(crate) fn watch(&mut self, id: u32) {
        self.streams.insert(id, Counts::default());
    }

    /// Stream `id` is over.
    pub(crate) fn forget(&mut self, id: u32) {
        self.streams.remove(&id);
    }

    /// How many bytes of DATA of stream `id` the peer is known to have.
    pub(crate) fn confirmed(&self, id: u32) -> u64 {
        self.streams.get(&id).map_or(0, |counts| counts.confirmed)
    }

    /// Whether a PING would tell anything.
    pub(crate) fn wants_proof(&self) -> bool {
        self.streams.values().any(|counts| counts.written > counts.confirmed)
    }

    /// The last PING was answered.
    pub(crate) fn handle_pong(&mut self) {
        for counts in self.streams.values_mut() {
            counts.confirmed = counts.pinged;
        }
    }

    /// `bytes` were written.
    pub(crate) fn handle_written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                self.count(taken);
                bytes = bytes.get(taken..).unwrap_or_default();
                continue;
            }
            let taken = self.head.take(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.head.is_whole() {
                self.left = self.head.length();
                if self.head.is_ping() {
                    self.streams.values_mut().for_each(|counts| counts.pinged = counts.written);
                }
                if self.left == 0 {
                    self.head.have = 0;
                }
            }
        }
    }

    /// `taken` bytes of the payload under way left.
    fn count(&mut self, taken: usize) {
        if self.head.kind() == DATA
            && let Some(counts) = self.streams.get_mut(&self.head.stream())
        {
            counts.written += taken as u64;
        }
        if self.left == 0 {
            self.head.have = 0;
        }
    }
}

impl Head {
    fn take(&mut self, bytes: &[u8]) -> usize {
        let room = self.bytes.get_mut(self.have..).unwrap_or_default();
        let taken = room.len().min(bytes.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.have += taken;
        taken
    }

    fn is_whole(&self) -> bool {
        self.have == HEAD
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.bytes;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn kind(&self) -> u8 {
        let [_, _, _, kind, ..] = self.bytes;
        kind
    }

    /// A PING of ours, not the answer to one of the peer's.
    fn is_ping(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.bytes;
        kind == PING && flags & ACK == 0
    }

    fn stream(&self) -> u32 {
        let [_, _, _, _, _, a, b, c, d] = self.bytes;
        u32::from_be_bytes([a & 0x7f, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(HEAD + payload, 0xee);
        bytes
    }

    #[test]
    fn a_ping_confirms_what_was_written_before_it_however_it_is_cut() {
        let mut all = Vec::new();
        for part in [
            frame(4, 0, 0, 12),
            frame(1, 4, 5, 30),
            frame(DATA, 0, 5, 100),
            frame(DATA, 0, 7, 50),
            frame(4, ACK, 0, 0),
            frame(PING, ACK, 0, 8),
            frame(PING, 0, 0, 8),
            frame(DATA, 0, 5, 11),
        ] {
            all.extend(part);
        }
        for cut in [1, 2, 7, 9, 64, 1000] {
            let mut wire = Wire::default();
            wire.watch(5);
            all.chunks(cut).for_each(|piece| wire.handle_written(piece));
            assert!(wire.wants_proof());
            assert_eq!(wire.confirmed(5), 0);
            wire.handle_pong();
            assert_eq!((wire.confirmed(5), wire.confirmed(7)), (100, 0), "cut {cut}");
            assert!(wire.wants_proof(), "11 bytes came behind it");
            wire.handle_written(&frame(PING, 0, 0, 8));
            wire.handle_pong();
            assert!(!wire.wants_proof());
            wire.forget(5);
            assert_eq!(wire.confirmed(5), 0);
        }
    }
}
