//! Offers, frames and messages, with the examples of RFC 7692.

use super::*;

fn choose(offers: &str) -> Option<String> {
    Deflate::choose(offers.split(',').map(str::trim)).map(Deflate::answer)
}

#[test]
fn rfc_7692_7_1_offers_are_taken_or_declined() {
    let forget = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let small = format!("{forget}; server_max_window_bits=9");
    for (offers, answer) in [
        ("permessage-deflate", Some(forget)),
        ("x-other, Permessage-Deflate; client_max_window_bits", Some(forget)),
        ("permessage-deflate; client_max_window_bits=8; server_no_context_takeover", Some(forget)),
        ("permessage-deflate; server_max_window_bits=9", Some(&small)),
        ("permessage-deflate; server_max_window_bits=\"9\"", Some(&small)),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some(forget)),
        ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9", Some(&small)),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_no_context_takeover=1", None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate;", None),
        ("x-webkit-deflate-frame", None),
        ("", None),
    ] {
        assert_eq!(choose(offers).as_deref(), answer, "{offers}");
    }
}

/// What comes out of `input`, fed in pieces of `size` bytes.
fn inflated(input: &[u8], size: usize) -> Result<Vec<u8>, NotDeflate> {
    let (mut inflater, mut output) = (Inflater::default(), Vec::new());
    for piece in input.chunks(size) {
        inflater.feed(piece);
        while inflater.step()? {
            output.extend(inflater.output().split());
        }
        output.extend(inflater.output().split());
    }
    Ok(output)
}

/// The opcodes of the frames and the data of all.
fn frames(mut plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    while !plain.is_empty() {
        let mut cursor = Cursor::new(plain);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        heads.push(plain[0]);
        assert!(header.mask.is_none_or(|mask| mask == [0; 4]));
        let (_, rest) = plain.split_at(cursor.position() as usize);
        let (payload, rest) = rest.split_at(length as usize);
        data.extend(payload);
        plain = rest;
    }
    (heads, data)
}

#[test]
fn rfc_7692_7_2_3_the_examples_are_understood() {
    for example in [
        &b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00"[..],
        b"\x41\x03\xf2\x48\xcd\x80\x04\xc9\xc9\x07\x00",
        b"\xc1\x0b\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xc1\x08\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xc1\x0d\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        // With the mask 01 02 03 04.
        b"\xc1\x87\x01\x02\x03\x04\xf3\x4a\xce\xcd\xc8\x05\x03",
    ] {
        for size in [1, 2, 100] {
            let (heads, data) = frames(&inflated(example, size).unwrap());
            assert_eq!(data, b"Hello", "{example:x?}");
            let (last, others) = heads.split_last().unwrap();
            assert_eq!(last & 0xf0, 0x80, "the last frame ends the message: {heads:x?}");
            assert!(others.iter().all(|head| head & 0xf0 == 0), "{heads:x?}");
            assert_eq!(heads[0] & 0x0f, 1);
            assert!(heads[1..].iter().all(|head| head & 0x0f == 0), "{heads:x?}");
        }
    }
}

#[test]
fn what_is_not_compressed_goes_through() {
    let through = [
        &b"\x81\x05Hello\x89\x02hi\x82\x00"[..],
        b"\x01\x03Hel\x8a\x00\x80\x02lo",
        // The reserved bits that mean nothing here.
        b"\xa1\x05Hello",
        b"\xc9\x00",
        b"\xc0\x00",
        // An opcode that does not exist, and whatever follows it.
        b"\x83\x05Hello\xff\xff\xff",
    ];
    for input in through {
        for size in [1, 3, 100] {
            assert_eq!(inflated(input, size).unwrap(), input, "{input:x?}");
        }
    }
}

#[test]
fn control_frames_between_fragments_keep_their_place() {
    let input = b"\x41\x03\xf2\x48\xcd\x89\x02hi\x80\x04\xc9\xc9\x07\x00\x81\x01x";
    for size in [1, 100] {
        let plain = inflated(input, size).unwrap();
        let (heads, _) = frames(&plain);
        let ping = heads.iter().position(|head| *head == 0x89).unwrap();
        assert!(heads[..ping].iter().all(|head| head & 0x80 == 0), "{heads:x?}");
        assert!(heads[ping..].contains(&0x80), "{heads:x?}");
        assert!(plain.ends_with(b"\x81\x01x"));
    }
}

#[test]
fn what_cannot_be_inflated_is_an_error() {
    for wrong in [&b"\xc1\x01\x07"[..], b"\xc1\x05\x00\x05\x00\xfa\xfe", b"\xc2\x03\xff\xff\xff"] {
        inflated(wrong, 100).unwrap_err();
    }
}

#[test]
fn a_bomb_comes_out_in_pieces() {
    let mut compress = Compress::new(Compression::best(), false);
    let mut packed = Vec::with_capacity(1 << 20);
    compress.compress_vec(&vec![b'a'; 10 << 20], &mut packed, FlushCompress::Sync).unwrap();
    let mut inflater = Inflater::default();
    inflater.feed(&[&b"\xc2\x7e"[..], &u16::try_from(packed.len()).unwrap().to_be_bytes(), &packed].concat());
    let mut total = 0;
    while inflater.step().unwrap() {
        let piece = inflater.output().split().len();
        assert!(piece <= PIECE + 14, "{piece}");
        total += piece;
    }
    assert!(total > 10 << 20);
}

/// Bytes that hardly repeat.
fn noise(seed: &mut u64, len: usize) -> Vec<u8> {
    let next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The message that a reader gets of `frame`.
fn read(frame: &Frame) -> Vec<u8> {
    let mut wire = Vec::new();
    frame.header().format(frame.payload().len() as u64, &mut wire).unwrap();
    wire.extend_from_slice(frame.payload());
    frames(&inflated(&wire, 1000).unwrap()).1
}

#[test]
fn what_is_packed_is_smaller_and_comes_out_again() {
    let noise = noise(&mut 1, 5000);
    let text = br#"{"sensor":"a/b/c","value":17.25},"#.repeat(200);
    for bits in [None, Some(9), Some(15)] {
        let deflate = Deflate { window_bits: bits };
        for (payload, is_packed) in
            [(&text[..], true), (&text[..PACK_MIN], true), (&noise, false), (b"short", false)]
        {
            let frame = deflate.pack(Data::Binary, Bytes::copy_from_slice(payload));
            assert_eq!(frame.header().rsv1, is_packed, "{bits:?} {}", payload.len());
            assert_eq!(frame.payload().len() < payload.len(), is_packed);
            assert_eq!(read(&frame), payload);
        }
    }
}

/// One compressor packs all, those that are given up because they get no smaller too.
#[test]
fn nothing_of_a_message_is_in_the_next() {
    let mut seed = 7;
    let deflate = Deflate { window_bits: None };
    for round in 0..3000 {
        let len = PACK_MIN + usize::from(noise(&mut seed, 1)[0]) * if round % 50 == 0 { 255 } else { 12 };
        let mut payload = noise(&mut seed, len);
        match round % 4 {
            // Many in a row that get no smaller.
            _ if round < 500 => {}
            0 => {}
            1 => payload.iter_mut().for_each(|byte| *byte &= 15),
            2 => payload
                .chunks_mut(64)
                .for_each(|chunk| chunk.iter_mut().skip(40).for_each(|byte| *byte = b'a')),
            _ => payload
                .iter_mut()
                .zip(b"sensor value 12".iter().cycle())
                .for_each(|(byte, text)| *byte = *byte & 1 ^ text),
        }
        let frame = deflate.pack(Data::Binary, payload.clone().into());
        assert!(read(&frame) == payload, "round {round}, {len} B");
    }
}

/// The data of each message and of each control frame, behind its opcode; what is no frame is the last.
fn messages(mut plain: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
    loop {
        let mut cursor = Cursor::new(plain);
        let Ok(Some((header, length))) = FrameHeader::parse(&mut cursor) else { break };
        let Some(rest) = plain.get(cursor.position() as usize..).filter(|rest| rest.len() as u64 >= length)
        else {
            break;
        };
        let (data, rest) = rest.split_at(length as usize);
        match all.iter_mut().rev().find(|(opcode, _)| *opcode < 8) {
            Some((_, message)) if header.opcode == OpCode::Data(Data::Continue) => message.extend(data),
            _ => all.push((header.opcode.into(), data.to_vec())),
        }
        plain = rest;
    }
    all.push((0xff, plain.to_vec()));
    all
}

/// Whatever comes: it ends, what comes out is bounded by what went in, and the cuts of the network change nothing.
#[test]
fn wrong_bytes_are_passed_on_or_refused() {
    let deflate = Deflate { window_bits: None };
    let mut good = Vec::new();
    for (len, fin) in [(300, 0x40), (5000, 0xc0)] {
        let payload = deflate.pack(Data::Binary, b"again and ".repeat(len / 10).into()).into_payload();
        good.extend([fin | 2, 0x80 | 126]);
        good.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        good.extend([0; 4]);
        good.extend(&payload);
        good.extend(b"\x89\x80\0\0\0\0\x80\x80\0\0\0\0");
    }
    let mut seed = 1;
    for _ in 0..1000 {
        let mut bytes = good.clone();
        for place in noise(&mut seed, 3).chunks(3) {
            let at = (usize::from(place[0]) << 8 | usize::from(place[1])) % bytes.len();
            bytes[at] ^= 1 << (place[2] % 8);
        }
        let at_once = inflated(&bytes, bytes.len());
        let in_pieces = inflated(&bytes, 1 + usize::from(noise(&mut seed, 1)[0] % 50));
        match (at_once, in_pieces) {
            (Ok(one), Ok(other)) => {
                assert!(one.len() <= 1100 * bytes.len() && other.len() <= 1100 * bytes.len());
                assert!(messages(&one) == messages(&other), "{bytes:x?}");
            }
            (Err(NotDeflate), Err(NotDeflate)) => {}
            _ => panic!("refused or not, by the pieces: {bytes:x?}"),
        }
    }
}
