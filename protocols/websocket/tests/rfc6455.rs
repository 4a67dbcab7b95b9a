//! RFC 6455, section by section, on the wire. The server here echoes on `/mqtt`; `tests/conformance/rfc6455.toml` of the
//! workspace says which test is for which statement, and is checked here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, reason = "this is a test")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use event::ByteLimit;
use support::{Server, frame, next_frame, raw_close, unmasked};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use websocket::Options;

/// What the server closes with when it gets `bytes`.
async fn code_of(server: &Server, bytes: &[u8]) -> u16 {
    let mut raw = server.raw("/mqtt", "mqtt").await;
    raw.write_all(bytes).await.unwrap();
    let code = raw_close(&mut raw).await;
    raw.shutdown().await.unwrap();
    assert_eq!(next_frame(&mut raw).await, None, "nothing follows a close frame");
    code
}

/// The status of the answer to a handshake with these headers; those of `headers` replace the usual ones.
async fn status_of(server: &Server, first_line: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let usual = [
        ("Host", "x"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "mqtt"),
    ];
    let mut request = format!("{first_line}\r\n");
    for (name, value) in usual.iter().filter(|(name, _)| !headers.iter().any(|(own, _)| own == name)) {
        request += &format!("{name}: {value}\r\n");
    }
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request += &format!("{name}: {value}\r\n");
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    (head[9..12].parse().unwrap(), head.to_ascii_lowercase())
}

const GET: &str = "GET /mqtt HTTP/1.1";

#[tokio::test]
async fn rfc_6455_4_2_1_a_handshake_has_all_its_parts() {
    let server = Server::start().await;
    for (first_line, header, status) in [
        (GET, ("Host", "x"), 101),
        (GET, ("Upgrade", "WebSocket"), 101),
        (GET, ("Connection", "upgrade"), 101),
        ("POST /mqtt HTTP/1.1", ("Host", "x"), 405),
        ("GET /mqtt HTTP/1.0", ("Host", "x"), 400),
        (GET, ("Host", ""), 400),
        (GET, ("Upgrade", ""), 426),
        (GET, ("Upgrade", "h2c"), 426),
        (GET, ("Connection", "close"), 426),
        (GET, ("Sec-WebSocket-Key", ""), 400),
        (GET, ("Sec-WebSocket-Key", "c2hvcnQ="), 400),
        (GET, ("Sec-WebSocket-Key", "*"), 400),
        (GET, ("Sec-WebSocket-Protocol", ""), 400),
    ] {
        assert_eq!(status_of(&server, first_line, &[header]).await.0, status, "{first_line} {header:?}");
    }
}

#[tokio::test]
async fn rfc_6455_4_2_2_other_versions_are_told_which_is_spoken() {
    let server = Server::start().await;
    for version in ["8", "14", "0", ""] {
        let (status, head) = status_of(&server, GET, &[("Sec-WebSocket-Version", version)]).await;
        assert_eq!(status, 426, "{version}");
        assert!(head.contains("sec-websocket-version: 13\r\n"), "{head}");
    }
}

#[tokio::test]
async fn rfc_6455_4_2_2_the_accept_key_is_derived_and_no_extension_is_claimed() {
    let server = Server::start().await;
    let offer = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    let (status, head) = status_of(&server, GET, &[offer]).await;
    assert_eq!(status, 101);
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
}

#[tokio::test]
async fn rfc_6455_10_2_pages_from_elsewhere_are_refused() {
    let server = Server::start().await;
    for (origin, status) in [
        ("http://x", 101),
        ("http://x:8000", 101),
        ("https://X", 101),
        ("http://x.evil.example", 403),
        ("http://evil.example", 403),
        ("http://evil.example/x", 403),
        ("null", 403),
        ("file://", 403),
    ] {
        assert_eq!(status_of(&server, GET, &[("Origin", origin)]).await.0, status, "{origin}");
    }
}

#[tokio::test]
async fn rfc_6455_5_1_a_frame_without_mask_closes() {
    let server = Server::start().await;
    for first in [0x82, 0x89, 0x88] {
        assert_eq!(code_of(&server, &unmasked(first, b"")).await, 1002);
    }
}

#[tokio::test]
async fn rfc_6455_5_1_frames_of_the_server_have_no_mask() {
    let server = Server::start().await;
    let mut raw = server.raw("/mqtt", "mqtt").await;
    raw.write_all(&frame(0x82, b"x")).await.unwrap();
    let mut echo = [0; 3];
    raw.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\x82\x01x");
}

#[tokio::test]
async fn rfc_6455_5_2_reserved_bits_and_opcodes_close() {
    let server = Server::start().await;
    let reserved = [0xc2, 0xa2, 0x92, 0xc9, 0xa9];
    for first in (0x83..=0x87).chain(0x8b..=0x8f).chain(reserved) {
        assert_eq!(code_of(&server, &frame(first, b"x")).await, 1002, "{first:x}");
    }
}

#[tokio::test]
async fn rfc_6455_5_2_lengths_of_each_form_are_read_and_written() {
    let server = Server::start().await;
    let mut raw = server.raw("/mqtt", "mqtt").await;
    for len in [0, 1, 125, 126, 127, 65535, 65536, 200_000] {
        let payload: Vec<u8> = (0..len).map(|n| (n * 7 / 5) as u8).collect();
        raw.write_all(&frame(0x82, &payload)).await.unwrap();
        let mut got = Vec::new();
        while got.len() < payload.len() {
            let (first, data) = next_frame(&mut raw).await.unwrap();
            assert_eq!(first, 0x82);
            got.extend(data);
        }
        assert!(got == payload, "{len}");
    }
}

#[tokio::test]
async fn rfc_6455_5_4_fragments_are_in_order() {
    let server = Server::start().await;
    for wrong in [
        frame(0x80, b"continues nothing"),
        frame(0x00, b"continues nothing"),
        [frame(0x02, b"begins"), frame(0x82, b"begins again")].concat(),
        [frame(0x02, b"begins"), frame(0x81, b"begins again")].concat(),
    ] {
        assert_eq!(code_of(&server, &wrong).await, 1002);
    }
}

#[tokio::test]
async fn rfc_6455_5_5_control_frames_are_short_and_whole() {
    let server = Server::start().await;
    for first in [0x88, 0x89, 0x8a] {
        assert_eq!(code_of(&server, &frame(first, &[0; 126])).await, 1002, "{first:x}");
        assert_eq!(code_of(&server, &frame(first & 0x0f, b"")).await, 1002, "{first:x}");
    }
}

#[tokio::test]
async fn rfc_6455_5_5_2_a_ping_is_answered_with_its_data() {
    let server = Server::start().await;
    let mut raw = server.raw("/mqtt", "mqtt").await;
    for data in [vec![], vec![0xff; 125]] {
        raw.write_all(&frame(0x89, &data)).await.unwrap();
        assert_eq!(next_frame(&mut raw).await, Some((0x8a, data)));
    }
}

#[tokio::test]
async fn rfc_6455_5_5_1_a_close_is_answered_and_nothing_follows() {
    let server = Server::start().await;
    for (payload, answer) in [
        (&b""[..], &b""[..]),
        (b"\x03\xe8", b"\x03\xe8"),
        (b"\x03\xe8bye", b"\x03\xe8bye"),
        (b"\x0b\xb8", b"\x0b\xb8"),
        (b"\x13\x87", b"\x13\x87"),
    ] {
        let mut raw = server.raw("/mqtt", "mqtt").await;
        raw.write_all(&[frame(0x88, payload), frame(0x82, b"late"), frame(0x89, b"late")].concat())
            .await
            .unwrap();
        assert_eq!(next_frame(&mut raw).await, Some((0x88, answer.to_vec())));
        // The server closes TCP first (§7.1.1).
        assert_eq!(next_frame(&mut raw).await, None);
    }
}

#[tokio::test]
async fn rfc_6455_7_4_codes_that_may_not_be_sent_close_with_1002() {
    let server = Server::start().await;
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        assert_eq!(code_of(&server, &frame(0x88, &code.to_be_bytes())).await, 1002, "{code}");
    }
    assert_eq!(code_of(&server, &frame(0x88, b"\x03")).await, 1002, "half a code");
}

#[tokio::test]
async fn rfc_6455_8_1_what_is_not_utf8_closes_with_1007() {
    let server = Server::start().await;
    for wrong in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"] {
        assert_eq!(code_of(&server, &frame(0x81, wrong)).await, 1007, "{wrong:x?}");
        let reason = [b"\x03\xe8", wrong].concat();
        assert_eq!(code_of(&server, &frame(0x88, &reason)).await, 1007, "{wrong:x?}");
    }
    // As soon as a fragment shows it.
    assert_eq!(code_of(&server, &frame(0x01, b"fine \xff")).await, 1007);
}

#[tokio::test]
async fn rfc_6455_10_4_a_large_message_closes_with_1009() {
    let options = Options { message_bytes_max: ByteLimit(1000), ..Options::default() };
    let server = Server::start_with(options).await;
    let in_pieces = [frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat();
    // A length alone is enough.
    let claim = |length: u64| [&b"\x82\xff"[..], &length.to_be_bytes(), &[0; 4]].concat();
    for wrong in [frame(0x82, &[0; 1001]), in_pieces, claim(1 << 40), claim(u64::MAX)] {
        assert_eq!(code_of(&server, &wrong).await, 1009);
    }
    let mut raw = server.raw("/mqtt", "mqtt").await;
    raw.write_all(&frame(0x82, &[1; 1000])).await.unwrap();
    assert_eq!(next_frame(&mut raw).await, Some((0x82, vec![1; 1000])));
}

/// What the server says before it ends arrives, although more lies unread.
#[tokio::test]
async fn rfc_6455_7_1_7_the_close_frame_of_a_fault_arrives_before_the_end() {
    let server = Server::start().await;
    let mut raw = server.raw("/mqtt", "mqtt").await;
    let unread = [frame(0xc2, b"wrong"), vec![0xff; 300_000]].concat();
    raw.write_all(&unread).await.unwrap();
    assert_eq!(raw_close(&mut raw).await, 1002);
}

#[test]
fn the_tables_name_tests_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    for file in std::fs::read_dir(folder.join("tests")).unwrap().map(|file| file.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        tests.extend(text.lines().filter_map(|line| {
            let name = line.strip_prefix("async fn ")?;
            Some(name.split('(').next()?.to_owned())
        }));
    }
    for table in ["rfc6455.toml", "rfc7692.toml"] {
        let text = std::fs::read_to_string(folder.join("../../tests/conformance").join(table)).unwrap();
        hold(&text.parse().unwrap(), &tests);
    }
}

fn hold(table: &toml::Table, tests: &BTreeSet<String>) {
    let mut gaps = 0;
    for (clause, entry) in table["statement"].as_table().unwrap() {
        let named = entry.get("tests").and_then(toml::Value::as_array);
        let reason = entry.get("reason").and_then(toml::Value::as_str).unwrap_or_default();
        gaps += i64::from(reason.starts_with("gap"));
        assert!(
            named.is_some_and(|list| !list.is_empty()) == reason.is_empty(),
            "{clause}: tests or a reason"
        );
        for name in named.into_iter().flatten() {
            assert!(tests.contains(name.as_str().unwrap()), "{clause}: there is no test {name}");
        }
    }
    assert!(gaps <= table["gaps_max"].as_integer().unwrap(), "{gaps} gaps: they may only get fewer");
}
