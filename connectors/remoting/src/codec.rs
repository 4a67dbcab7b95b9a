//! Bytes into commands and back. The layout of a frame is drawn at [`Command`].

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Command, binary, json};

/// The largest frame brokers and clients of RocketMQ take: 16 MiB.
pub const FRAME_MAX: u32 = 16 << 20;
/// The largest header taken here. RocketMQ limits properties, the largest part of a header, to 32 KiB.
pub const HEADER_MAX: u32 = 256 << 10;

/// How a header is written. Frames are read by their own top byte, whatever was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// JSON: takes every code.
    Json,
    /// RocketMQ's binary form: smaller and faster, codes up to 32,767.
    #[default]
    Binary,
}

/// What a peer may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one frame, without its first field.
    pub frame: u32,
    /// Bytes of one header.
    pub header: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frame: FRAME_MAX, header: HEADER_MAX }
    }
}

/// The peer sent what is no frame: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Larger than [`Limits::frame`].
    #[error("frame of {len} B, limit {max} B")]
    TooLarge {
        /// What the frame says.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// Too short to hold the header it announces.
    #[error("frame of {len} B cannot hold a header of {header} B")]
    TooShort {
        /// What the frame says.
        len: u32,
        /// What it says of its header.
        header: u32,
    },
    /// A header larger than [`Limits::header`].
    #[error("header of {len} B, limit {max} B")]
    HeaderTooLarge {
        /// What the frame says of its header.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// The top byte is neither 0 nor 1.
    #[error("unknown header encoding {0}")]
    UnknownEncoding(u8),
    /// A JSON header that is none.
    #[error("bad JSON header: {0}")]
    Json(String),
    /// A binary header that ends too early, goes on too long or is not UTF-8.
    #[error("bad binary header: {0}")]
    Binary(&'static str),
}

/// The command cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A binary header holds codes of 16 bits.
    #[error("code {0} needs a JSON header")]
    Code(i32),
    /// Header and body are more than any receiver takes.
    #[error("frame of {len} B, limit {max} B")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: u32,
    },
}

/// Cuts a stream of bytes into commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    limits: Limits,
}

impl Decoder {
    /// With these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes the next whole frame from the front of `input`, if it is there. Its body is a slice of `input`.
    /// After an error the stream cannot be read any further.
    pub fn decode(&self, input: &mut BytesMut) -> Result<Option<Command>, FrameError> {
        let Some((len, encoding, header)) = self.peek(input)? else { return Ok(None) };
        let whole = 4 + len as usize;
        if input.len() < whole {
            input.reserve(whole - input.len());
            return Ok(None);
        }
        let mut frame = input.split_to(whole).freeze();
        frame.advance(8);
        let header = frame.split_to(header as usize);
        let command = match encoding {
            0 => json::decode(&header, frame),
            1 => binary::decode(header, frame),
            other => Err(FrameError::UnknownEncoding(other)),
        };
        command.map(Some)
    }

    /// Reads and checks the first eight bytes: length, encoding, header length.
    fn peek(&self, input: &BytesMut) -> Result<Option<(u32, u8, u32)>, FrameError> {
        let mut head: &[u8] = input;
        if head.len() < 8 {
            return Ok(None);
        }
        let len = head.get_u32();
        let word = head.get_u32();
        let (encoding, header) = ((word >> 24) as u8, word & 0x00ff_ffff);
        if len > self.limits.frame {
            return Err(FrameError::TooLarge { len, max: self.limits.frame });
        }
        if encoding > 1 {
            return Err(FrameError::UnknownEncoding(encoding));
        }
        if header > self.limits.header {
            return Err(FrameError::HeaderTooLarge { len: header, max: self.limits.header });
        }
        if len < 4 || len - 4 < header {
            return Err(FrameError::TooShort { len, header });
        }
        Ok(Some((len, encoding, header)))
    }
}

/// Appends `command` as one frame to `out`; leaves `out` as it was on error.
pub fn encode(command: &Command, encoding: Encoding, out: &mut BytesMut) -> Result<(), EncodeError> {
    let start = out.len();
    out.reserve(256 + command.body.len());
    out.put_u64(0);
    let top = match encoding {
        Encoding::Json => {
            json::encode(command, out);
            0
        }
        Encoding::Binary => {
            if let Err(error) = binary::encode(command, out) {
                out.truncate(start);
                return Err(error);
            }
            1_u32
        }
    };
    let header = out.len() - start - 8;
    let len = 4 + header + command.body.len();
    if header >= 1 << 24 || len > FRAME_MAX as usize {
        out.truncate(start);
        return Err(EncodeError::TooLarge { len, max: FRAME_MAX });
    }
    // Both fit: they were compared with FRAME_MAX just now.
    let first = [(len as u32).to_be_bytes(), (top << 24 | header as u32).to_be_bytes()].concat();
    if let Some(place) = out.get_mut(start..start + 8) {
        place.copy_from_slice(&first);
    }
    out.extend_from_slice(&command.body);
    Ok(())
}

/// Takes `len` bytes, if they are there.
pub(crate) fn take(input: &mut Bytes, len: usize) -> Option<Bytes> {
    (input.len() >= len).then(|| input.split_to(len))
}

#[cfg(test)]
mod tests {
    use bytestring::ByteString;
    use proptest::prelude::*;

    use super::*;
    use crate::Language;

    fn decode_whole(frame: &[u8]) -> Result<Option<Command>, FrameError> {
        Decoder::default().decode(&mut BytesMut::from(frame))
    }

    fn frame(header: &[u8], top: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u32((4 + header.len() + body.len()) as u32);
        out.put_u32(u32::from(top) << 24 | header.len() as u32);
        out.extend_from_slice(header);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_json_header_as_java_writes_it() {
        let header = br#"{"code":17,"extFields":{"a":"1","b":"x y"},"flag":1,"language":"JAVA","opaque":7,"remark":"no route","serializeTypeCurrentRPC":"JSON","version":479}"#;
        let command = decode_whole(&frame(header, 0, b"body")).unwrap().unwrap();
        assert_eq!((command.code, command.opaque, command.version, command.is_answer()), (17, 7, 479, true));
        assert_eq!(command.remark.as_deref(), Some("no route"));
        assert_eq!(
            (command.field("a"), command.field("b"), command.field("c")),
            (Some("1"), Some("x y"), None)
        );
        assert_eq!(&command.body[..], b"body");
    }

    #[test]
    fn a_json_header_without_fields_and_remark() {
        let header = br#"{"code":0,"flag":1,"language":"JAVA","opaque":1,"version":407,"remark":null}"#;
        let command = decode_whole(&frame(header, 0, b"")).unwrap().unwrap();
        assert_eq!((command.remark, command.fields.len()), (None, 0));
    }

    #[test]
    fn a_binary_header_byte_by_byte() {
        let request = Command { opaque: 7, ..Command::request(310) }
            .with("b", "T")
            .with_body(Bytes::from_static(b"hi"));
        let mut out = BytesMut::new();
        encode(&request, Encoding::Binary, &mut out).unwrap();
        let expected: &[u8] = &[
            0, 0, 0, 35, // total
            1, 0, 0, 29, // binary, header length
            1, 54, // code 310
            12, // RUST
            1, 151, // version 407
            0, 0, 0, 7, // opaque
            0, 0, 0, 0, // flag
            0, 0, 0, 0, // no remark
            0, 0, 0, 8, // fields
            0, 1, b'b', 0, 0, 0, 1, b'T', // b=T
            b'h', b'i',
        ];
        assert_eq!(&out[..], expected);
        assert_eq!(decode_whole(&out).unwrap().unwrap(), request);
    }

    #[test]
    fn frames_come_in_pieces_and_together() {
        let mut stream = BytesMut::new();
        for opaque in 0..3 {
            let command = Command { opaque, ..Command::request(34) }.with_body(Bytes::from(vec![1; 100]));
            encode(&command, if opaque == 1 { Encoding::Json } else { Encoding::Binary }, &mut stream)
                .unwrap();
        }
        let (mut input, mut seen) = (BytesMut::new(), Vec::new());
        for byte in stream {
            input.put_u8(byte);
            while let Some(command) = Decoder::default().decode(&mut input).unwrap() {
                seen.push(command.opaque);
            }
        }
        assert_eq!((seen, input.len()), (vec![0, 1, 2], 0));
    }

    #[test]
    fn wrong_frames_are_named() {
        for (bytes, error) in [
            (vec![1, 0, 0, 1, 0, 0, 0, 0], FrameError::TooLarge { len: FRAME_MAX + 1, max: FRAME_MAX }),
            (vec![0xff; 8], FrameError::TooLarge { len: u32::MAX, max: FRAME_MAX }),
            (vec![0, 0, 0, 3, 0, 0, 0, 0], FrameError::TooShort { len: 3, header: 0 }),
            (vec![0, 0, 0, 9, 0, 0, 0, 6], FrameError::TooShort { len: 9, header: 6 }),
            (vec![0, 0, 0, 9, 2, 0, 0, 6], FrameError::UnknownEncoding(2)),
            (vec![0, 0, 0, 9, 0, 255, 0, 6], FrameError::HeaderTooLarge { len: 0xff0006, max: HEADER_MAX }),
            (frame(&[0; 10], 1, b""), FrameError::Binary("it ends too early")),
            (frame(&[0; 22], 1, b""), FrameError::Binary("bytes are left over")),
        ] {
            assert_eq!(decode_whole(&bytes).unwrap_err(), error);
        }
        assert!(matches!(decode_whole(&frame(b"{]", 0, b"")), Err(FrameError::Json(_))));
        assert!(matches!(decode_whole(&frame(b"[1]", 0, b"")), Err(FrameError::Json(_))));
    }

    #[test]
    fn what_cannot_be_written_leaves_the_output_alone() {
        let mut out = BytesMut::from(&b"x"[..]);
        assert_eq!(
            encode(&Command::request(200_050), Encoding::Binary, &mut out),
            Err(EncodeError::Code(200_050))
        );
        let large = Command::request(1).with_body(Bytes::from(vec![0; FRAME_MAX as usize]));
        assert!(matches!(encode(&large, Encoding::Json, &mut out), Err(EncodeError::TooLarge { .. })));
        assert_eq!(&out[..], b"x");
        encode(&Command::request(200_050), Encoding::Json, &mut out).unwrap();
    }

    proptest! {
        #[test]
        fn commands_survive_both_encodings(
            code in 0..=i32::from(i16::MAX), version in 0..=i32::from(i16::MAX), opaque: i32, flag: i32,
            remark in proptest::option::of(".{1,40}"),
            fields in proptest::collection::vec((".{0,20}", ".{0,60}"), 0..8),
            body in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let fields = fields.into_iter().map(|(n, v)| (ByteString::from(n), ByteString::from(v))).collect();
            let remark = remark.map(ByteString::from);
            let command = Command { code, language: Language::default(), version, opaque, flag, remark, fields, body: body.into() };
            for encoding in [Encoding::Json, Encoding::Binary] {
                let mut out = BytesMut::new();
                encode(&command, encoding, &mut out).unwrap();
                prop_assert_eq!(Decoder::default().decode(&mut out).unwrap().unwrap(), command.clone());
                prop_assert!(out.is_empty());
            }
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200), top in 0..2_u8) {
            decode_whole(&bytes).ok();
            decode_whole(&frame(&bytes, top, b"")).ok();
        }
    }
}
