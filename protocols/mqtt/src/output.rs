//! Bytes on their way to the socket. Small packets share one buffer, large payloads are queued as they are. Sans-io.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// What is to be written, in order: `queued`, then `tail`.
#[derive(Debug, Default)]
pub struct Output {
    queued: VecDeque<Bytes>,
    queued_bytes: usize,
    tail: BytesMut,
}

impl Output {
    /// From 8 KiB on, queueing a payload costs less than copying it.
    const COPY_MAX: usize = 8 << 10;
    /// Most slices of one write; Linux takes 1024, few are enough for large payloads.
    pub const SLICES: usize = 16;

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.queued_bytes.saturating_add(self.tail.len())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.tail.is_empty()
    }

    /// The buffer that the next packet is written to.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Adds a payload: copied if small, else shared.
    pub(crate) fn payload(&mut self, payload: &Bytes) {
        if payload.len() < Self::COPY_MAX {
            self.tail.extend_from_slice(payload);
            return;
        }
        let head = self.tail.split().freeze();
        for chunk in [head, payload.clone()] {
            self.queued_bytes = self.queued_bytes.saturating_add(chunk.len());
            self.queued.push_back(chunk);
        }
    }

    /// All bytes, if they are in one piece.
    pub fn whole(&self) -> Option<&[u8]> {
        self.queued.is_empty().then_some(&self.tail)
    }

    /// The first pieces for a vectored write; returns how many of `slices` are filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; Self::SLICES]) -> usize {
        let pieces =
            self.queued.iter().map(|chunk| &**chunk).chain([&*self.tail]).filter(|piece| !piece.is_empty());
        let mut count = 0;
        for (slot, piece) in slices.iter_mut().zip(pieces) {
            *slot = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Forgets the first `written` bytes.
    pub fn advance(&mut self, written: usize) {
        let mut left = written;
        while left > 0 {
            let Some(front) = self.queued.front_mut() else { break };
            let part = left.min(front.len());
            front.advance(part);
            left -= part;
            self.queued_bytes -= part;
            if front.is_empty() {
                self.queued.pop_front();
            }
        }
        if left >= self.tail.len() {
            self.tail.clear();
        } else {
            self.tail.advance(left);
        }
    }

    /// Gives memory back when nothing waits.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); Output::SLICES];
        let count = output.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn large_payloads_are_shared_and_bytes_leave_in_order() {
        let large = Bytes::from(vec![7u8; Output::COPY_MAX]);
        let mut output = Output::default();
        output.buffer().extend_from_slice(b"head");
        output.payload(&large);
        output.buffer().extend_from_slice(b"next");
        output.payload(&Bytes::from_static(b"small"));
        assert_eq!(output.len(), 4 + large.len() + 9);
        assert!(output.whole().is_none());
        let mut slices = [IoSlice::new(&[]); Output::SLICES];
        assert_eq!(output.slices(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        let all = gathered(&output);
        for step in [1, 5, 4096] {
            output.advance(step);
        }
        assert_eq!(gathered(&output), all[4102..]);
        output.advance(output.len() - 3);
        assert_eq!(output.whole(), Some(&b"all"[..]));
        output.advance(3);
        assert!(output.is_empty());
    }
}
