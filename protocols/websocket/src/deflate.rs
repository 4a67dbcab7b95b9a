//! permessage-deflate (RFC 7692) without anything kept between messages: both sides agree to forget their window, so a
//! connection that rests costs 0.3 KiB for it. Sans-io.
//!
//! The library below refuses reserved bits. So what comes compressed is made plain before it sees it ([`Inflater`]), as frames
//! of at most [`PIECE`]: it checks them as it checks all others, its limits on the size of messages included. What is sent
//! is handed to it as a finished frame ([`Deflate::pack`]).

use std::cell::Cell;
use std::io::Cursor;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deflate {
    /// The client asked for a window of this size (RFC 7692 §7.1.2.1): 2^9 to 2^15 bytes.
    window_bits: Option<u8>,
}

impl Deflate {
    /// The first of a client's offers that can be had: items of `Sec-WebSocket-Extensions`.
    pub(crate) fn choose<'h>(mut offers: impl Iterator<Item = &'h str>) -> Option<Self> {
        offers.find_map(Self::of_offer)
    }

    /// `None`: it is another extension, or not to be had. Parameters that are unknown, wrong or there twice are a reason to
    /// decline (§7.1).
    fn of_offer(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let mut seen = Vec::new();
        let mut window_bits = None;
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(value.trim().trim_matches('"'))),
                None => (part, None),
            };
            let name = name.to_ascii_lowercase();
            match (name.as_str(), value) {
                ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(value)) => {
                    bits(value)?;
                }
                // zlib makes no window of 2^8.
                ("server_max_window_bits", Some(value)) => {
                    window_bits = Some(bits(value).filter(|bits| *bits > 8)?);
                }
                _ => return None,
            }
            if seen.contains(&name) {
                return None;
            }
            seen.push(name);
        }
        Some(Self { window_bits })
    }

    /// What is answered: nobody keeps a window, whether the client offered that or not (§7.1.1).
    pub(crate) fn answer(self) -> String {
        let forget = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        match self.window_bits {
            Some(bits) => format!("{forget}; server_max_window_bits={bits}"),
            None => forget.to_owned(),
        }
    }

    /// A message as a frame, compressed if that makes it smaller (§7.2.1).
    pub(crate) fn pack(self, data: Data, payload: Bytes) -> Frame {
        let packed = self.compressed(&payload);
        let rsv1 = packed.is_some();
        let header = FrameHeader { rsv1, opcode: OpCode::Data(data), ..FrameHeader::default() };
        Frame::from_payload(header, packed.unwrap_or(payload))
    }

    fn compressed(self, payload: &[u8]) -> Option<Bytes> {
        if !(PACK_MIN..=PACK_MAX).contains(&payload.len()) {
            return None;
        }
        let bits = self.window_bits.unwrap_or(15);
        let kept = COMPRESS.take().filter(|(of, _)| *of == bits);
        let mut compress =
            kept.map_or_else(|| Compress::new_with_window_bits(LEVEL, false, bits), |(_, compress)| compress);
        compress.reset();
        // Room for what gets a little longer as well, so that it comes to its end: see below.
        let mut out = Vec::with_capacity(payload.len() + payload.len() / 64 + 256);
        compress.compress_vec(payload, &mut out, FlushCompress::Sync).ok()?;
        if compress.total_in() < payload.len() as u64 || out.len() == out.capacity() {
            // Something of it is still inside: zlib-rs 0.6 does not forget that at a reset.
            return None;
        }
        COMPRESS.set(Some((bits, compress)));
        let packed = out.strip_suffix(&TAIL)?.len();
        out.truncate(packed);
        (packed < payload.len()).then(|| out.into())
    }
}

fn bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok()?;
    // No leading zeros (§7.1.2.1).
    ((8..=15).contains(&bits) && !value.starts_with(['0', '+'])).then_some(bits)
}

thread_local! {
    /// Some 200 KiB: one for each thread, and not for each connection. The window bits it was made for are with it.
    static COMPRESS: Cell<Option<(u8, Compress)>> = const { Cell::new(None) };
}

/// A frame of 9 KB with 100 MQTT packets becomes 1.7 KB in some 40 µs; the best level saves another 0.1 KB in twice the time.
const LEVEL: Compression = Compression::new(2);

/// Shorter messages gain nothing that is worth the work.
const PACK_MIN: usize = 128;

/// Longer ones would hold up others for too long while they are compressed; they are sent as they are.
pub(crate) const PACK_MAX: usize = 64 << 10;

/// What a flush ends with; it is not sent (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What a client sent as compressed cannot be inflated.
#[derive(Debug, thiserror::Error)]
#[error("RFC 7692 §7.2.2: a message is not compressed as it says")]
pub(crate) struct NotDeflate;

/// Makes plain frames of compressed ones; all others go through as they are, the wrong ones too.
#[derive(Debug, Default)]
pub(crate) struct Inflater {
    state: State,
    /// What came and was not looked at.
    input: BytesMut,
    /// Compressed data of the frame under way, without mask.
    packed: BytesMut,
    /// There while a compressed message is under way.
    message: Option<Decompress>,
    output: BytesMut,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// So much of a frame that goes through.
    Plain(u64),
    Packed(PackedFrame),
    /// No frames are left to be told apart: all goes through, and the library says what is wrong.
    Astray,
}

#[derive(Debug)]
struct PackedFrame {
    /// The header of the next plain frame that is made of it.
    header: FrameHeader,
    mask: [u8; 4],
    /// Bytes that are still to come, and how many have.
    left: u64,
    read: usize,
    /// The end that is not sent was added.
    is_closed: bool,
}

/// The most that is inflated at once, and the largest frame that is made.
pub(crate) const PIECE: usize = 64 << 10;

impl Inflater {
    /// Takes what was read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Plain frames that are ready.
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        if self.output.is_empty() {
            // Gives back what a large message took.
            self.output = BytesMut::new();
        }
        &mut self.output
    }

    /// Does some work: at most about [`PIECE`] of output more. False: there is nothing to do without more input.
    pub(crate) fn step(&mut self) -> Result<bool, NotDeflate> {
        match &mut self.state {
            State::Astray if self.input.is_empty() => return Ok(false),
            State::Astray => self.output.unsplit(self.input.split()),
            State::Plain(left) => {
                let len = len(*left).min(self.input.len());
                *left -= len as u64;
                let ended = *left == 0;
                if len == 0 && !ended {
                    return Ok(false);
                }
                self.output.unsplit(self.input.split_to(len));
                if ended {
                    self.state = State::Head;
                }
            }
            State::Head => return Ok(self.begin()),
            State::Packed(_) => return self.inflate(),
        }
        Ok(true)
    }

    /// Reads a header.
    fn begin(&mut self) -> bool {
        let mut cursor = Cursor::new(&self.input[..]);
        let (mut header, left) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(head)) => head,
            Ok(None) => {
                if self.input.is_empty() {
                    // A connection that rests holds no buffers.
                    self.input = BytesMut::new();
                    self.packed = BytesMut::new();
                }
                return false;
            }
            Err(_) => {
                self.state = State::Astray;
                return !self.input.is_empty();
            }
        };
        let head = self.input.split_to(len(cursor.position()));
        let OpCode::Data(data) = header.opcode else { return self.pass(&head, left) };
        match data {
            Data::Text | Data::Binary if header.rsv1 => {
                header.rsv1 = false;
                self.message = Some(Decompress::new(false));
            }
            // Only the first frame has the bit (§6.1).
            Data::Continue if self.message.is_some() && !header.rsv1 => {}
            Data::Text | Data::Binary | Data::Continue | Data::Reserved(_) => return self.pass(&head, left),
        }
        let mask = header.mask.map_or([0; 4], |key| {
            // What comes out is plain; the bit stays, for the library to look at.
            header.mask = Some([0; 4]);
            key
        });
        self.state = State::Packed(PackedFrame { header, mask, left, read: 0, is_closed: false });
        true
    }

    fn pass(&mut self, head: &[u8], left: u64) -> bool {
        self.output.extend_from_slice(head);
        self.state = State::Plain(left);
        true
    }

    /// Inflates what there is of a frame.
    fn inflate(&mut self) -> Result<bool, NotDeflate> {
        let (State::Packed(frame), Some(message)) = (&mut self.state, &mut self.message) else {
            return Ok(false);
        };
        let last = frame.header.is_final;
        if self.packed.is_empty() {
            let mut piece = self.input.split_to(len(frame.left).min(self.input.len()).min(PIECE));
            if piece.is_empty() && frame.left > 0 {
                return Ok(false);
            }
            for (byte, key) in piece.iter_mut().zip(frame.mask.iter().cycle().skip(frame.read % 4)) {
                *byte ^= key;
            }
            frame.read += piece.len();
            frame.left -= piece.len() as u64;
            self.packed = piece;
            if frame.left == 0 && last && !frame.is_closed {
                frame.is_closed = true;
                self.packed.extend_from_slice(&TAIL);
            }
        }
        let mut plain = Vec::with_capacity((self.packed.len() * 4).clamp(1024, PIECE));
        let before = message.total_in();
        let status = message.decompress_vec(&self.packed, &mut plain, FlushDecompress::Sync);
        self.packed.advance(len(message.total_in() - before).min(self.packed.len()));
        match status {
            // A block that says it is the last need not be the last of the message (§7.2.3.4).
            Ok(Status::StreamEnd) => message.reset(false),
            Ok(Status::Ok | Status::BufError) => {}
            Err(_) => return Err(NotDeflate),
        }
        let ended = frame.left == 0 && self.packed.is_empty() && plain.len() < plain.capacity();
        if ended || !plain.is_empty() {
            let header = FrameHeader { is_final: ended && last, ..frame.header.clone() };
            let length = plain.len() as u64;
            header.format(length, &mut (&mut self.output).writer()).map_err(|_| NotDeflate)?;
            self.output.extend_from_slice(&plain);
            frame.header.opcode = OpCode::Data(Data::Continue);
        }
        if ended {
            self.state = State::Head;
            if last {
                self.message = None;
            }
        }
        Ok(true)
    }
}

fn len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
