//! permessage-deflate (RFC 7692) on the wire. The server here echoes on `/mqtt`; `tests/conformance/rfc7692.toml` of the
//! workspace says which test is for which statement.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "this is a test")]

mod support;

use event::{ByteLimit, Guarantee};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;
use support::{Server, frame, next_frame, raw_close, unmasked};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use websocket::Options;

async fn server() -> Server {
    let options = Options { deflate: true, message_bytes_max: ByteLimit(100_000), ..Options::default() };
    Server::start_with(options).await
}

/// A connection to what echoes, with compression.
async fn open(server: &Server) -> TcpStream {
    let (stream, head) = server.deflated("/mqtt", "mqtt", "permessage-deflate; client_max_window_bits").await;
    assert!(head.contains("\r\nsec-websocket-extensions: permessage-deflate"), "{head}");
    stream
}

fn packed(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 100);
    Compress::new(Compression::default(), false).compress_vec(data, &mut out, FlushCompress::Sync).unwrap();
    out.truncate(out.len() - 4);
    out
}

fn unpacked(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    let data = [data, b"\0\0\xff\xff"].concat();
    Decompress::new(false).decompress_vec(&data, &mut out, FlushDecompress::Sync).unwrap();
    out
}

#[tokio::test]
async fn rfc_7692_5_it_is_spoken_if_it_is_offered_and_wanted() {
    let server = server().await;
    let (_, head) =
        server.deflated("/mqtt", "mqtt", "x, permessage-deflate; server_max_window_bits=10").await;
    let answer = "\r\nsec-websocket-extensions: permessage-deflate; server_no_context_takeover; \
        client_no_context_takeover; server_max_window_bits=10\r\n";
    assert!(head.contains(answer), "{head}");
    for offer in ["permessage-deflate; wrong", "permessage-deflate; server_max_window_bits=8", "x"] {
        let (mut stream, head) = server.deflated("/mqtt", "mqtt", offer).await;
        assert!(head.starts_with("HTTP/1.1 101") && !head.contains("sec-websocket-extensions"), "{head}");
        stream.write_all(&frame(0xc2, &packed(b"x"))).await.unwrap();
        assert_eq!(raw_close(&mut stream).await, 1002, "{offer}");
    }
    let off = Server::start().await;
    let (_, head) = off.deflated("/mqtt", "mqtt", "permessage-deflate").await;
    assert!(head.starts_with("HTTP/1.1 101") && !head.contains("sec-websocket-extensions"), "{head}");
}

#[tokio::test]
async fn rfc_7692_6_and_7_messages_are_compressed_both_ways() {
    let server = server().await;
    let mut stream = open(&server).await;
    let data = b"the same again, ".repeat(600);
    let bytes = packed(&data);
    let (first, second) = bytes.split_at(20);
    let whole = frame(0xc2, &bytes);
    let in_pieces =
        [frame(0x42, first), frame(0x89, b"between"), frame(0x00, second), frame(0x80, b"")].concat();
    let plain = frame(0x82, &data);
    for message in [&whole, &in_pieces, &plain, &whole] {
        // The network cuts where it likes.
        for piece in message.chunks(7) {
            stream.write_all(piece).await.unwrap();
        }
        let (mut got, mut pongs) = (Vec::new(), 0);
        while got.len() < data.len() {
            match next_frame(&mut stream).await.unwrap() {
                // Each message can be read without those before it.
                (0xc2, payload) => got.extend(unpacked(&payload)),
                // Too short to be worth it, or not smaller.
                (0x82, payload) => got.extend(payload),
                (0x8a, payload) if payload == b"between" => pongs += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(got == data);
        assert_eq!(pongs, usize::from(message == &in_pieces));
    }
    stream.write_all(&frame(0x82, &data)).await.unwrap();
    let (first, payload) = next_frame(&mut stream).await.unwrap();
    assert!(first == 0xc2 && payload.len() < 200, "{first:x} {} B", payload.len());
}

#[tokio::test]
async fn rfc_7692_6_1_the_bit_is_for_the_first_frame_of_a_message() {
    let server = server().await;
    for wrong in [
        frame(0xc9, b"ping"),
        frame(0xe2, &packed(b"x")),
        [frame(0x42, &packed(b"x")), frame(0xc0, &packed(b"x"))].concat(),
        [frame(0x42, &packed(b"x")), frame(0xc2, &packed(b"x"))].concat(),
        [frame(0x02, b"x"), frame(0xc0, &packed(b"x"))].concat(),
        unmasked(0xc2, &packed(b"x")),
    ] {
        let mut stream = open(&server).await;
        stream.write_all(&wrong).await.unwrap();
        assert_eq!(raw_close(&mut stream).await, 1002, "{wrong:x?}");
    }
}

#[tokio::test]
async fn rfc_7692_7_2_2_what_cannot_be_inflated_closes_with_1007() {
    let server = server().await;
    for wrong in [&b"\x07"[..], b"\xff\xff\xff\xff", b"\x00\x05\x00\xfa\xfe"] {
        let mut stream = open(&server).await;
        stream.write_all(&frame(0xc2, wrong)).await.unwrap();
        assert_eq!(raw_close(&mut stream).await, 1007, "{wrong:x?}");
    }
    // Text is UTF-8 after it was inflated.
    let (mut stream, _) = server.deflated("/ws", "cloudevents.json", "permessage-deflate").await;
    stream.write_all(&frame(0xc1, &packed(b"\xff"))).await.unwrap();
    assert_eq!(raw_close(&mut stream).await, 1007);
}

#[tokio::test]
async fn rfc_7692_8_a_small_frame_with_a_large_message_closes_with_1009() {
    let server = server().await;
    let bomb = packed(&vec![0; 10 << 20]);
    let mut stream = open(&server).await;
    let (mut read, mut write) = stream.split();
    // Whole or not: it is ended before all is read.
    let sent = async { write.write_all(&frame(0xc2, &bomb)).await.unwrap_or_default() };
    let answer = async {
        assert_eq!(read.read_u8().await.unwrap(), 0x88);
        read.read_u8().await.unwrap();
        read.read_u16().await.unwrap()
    };
    assert_eq!(tokio::join!(sent, answer).1, 1009);
    let mut fits = open(&server).await;
    fits.write_all(&frame(0xc2, &packed(&[7; 100_000]))).await.unwrap();
    let mut got = 0;
    while got < 100_000 {
        let (first, payload) = next_frame(&mut fits).await.unwrap();
        got += if first == 0xc2 { unpacked(&payload).len() } else { payload.len() };
    }
    assert_eq!(got, 100_000);
}

#[tokio::test]
async fn rfc_7692_6_events_are_compressed_both_ways() {
    let server = server().await;
    let (mut stream, _) = server.deflated("/ws", "cloudevents.json", "permessage-deflate").await;
    let subscribe =
        r#"{"specversion":"1.0","id":"1","source":"/web","type":"weft.subscribe","data":{"topic":"a"}}"#;
    stream.write_all(&frame(0xc1, &packed(subscribe.as_bytes()))).await.unwrap();
    let text = |(first, payload): (u8, Vec<u8>)| -> Value {
        let text = if first == 0xc1 { unpacked(&payload) } else { payload };
        serde_json::from_slice(&text).unwrap()
    };
    assert_eq!(text(next_frame(&mut stream).await.unwrap())["type"], "weft.subscribed");
    let data = "again and ".repeat(1000);
    server.inject("a", &data, Guarantee::AtLeastOnce);
    let (first, payload) = next_frame(&mut stream).await.unwrap();
    assert!(first == 0xc1 && payload.len() < 1000, "{first:x} {} B", payload.len());
    assert_eq!(text((first, payload))["data"], data);
    // A fault is told in plain, and what follows it is not looked at.
    stream.write_all(&[frame(0xc2, &packed(b"binary")), frame(0xc1, b"\xff\xff")].concat()).await.unwrap();
    assert_eq!(raw_close(&mut stream).await, 1003);
}
