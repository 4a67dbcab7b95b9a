//! Frames, byte by byte, in both dialects.

use super::*;
use crate::error::Code;

fn frame(beside: u32, header: &str, body: &str) -> Vec<u8> {
    let mut bytes = b"EventMesh0000".to_vec();
    let length = |text: &str| u32::try_from(text.len()).unwrap();
    bytes.extend_from_slice(&(beside + length(header) + length(body)).to_be_bytes());
    bytes.extend_from_slice(&length(header).to_be_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

const HELLO: &str = r#"{"cmd":"HELLO_REQUEST","code":0,"seq":"3646678830","command":"HELLO_REQUEST"}"#;
const AGENT: &str = r#"{"group":"g1","purpose":"sub","version":"2.0.11"}"#;

#[test]
fn the_first_frame_tells_the_dialect_wherever_the_input_is_cut() {
    for (beside, dialect) in [(13, Dialect::From19), (8, Dialect::UpTo18)] {
        let hello = frame(beside, HELLO, AGENT);
        for cut in 0..hello.len() {
            let found = find(&hello[..cut], None, 1 << 20).unwrap();
            assert!(
                matches!(found, Found::Need(more) if more > cut && more <= hello.len()),
                "{cut}: {found:?}"
            );
        }
        assert_eq!(find(&hello, None, 1 << 20), Ok(Found::Whole(dialect, hello.len())));
        let mut two = hello.clone();
        two.extend_from_slice(&frame(beside, r#"{"cmd":"HEARTBEAT_REQUEST","seq":"1"}"#, ""));
        assert_eq!(find(&two, None, 1 << 20), Ok(Found::Whole(dialect, hello.len())));
        let read = read(hello.into()).unwrap();
        assert_eq!(
            (read.header.cmd, read.header.seq.as_deref()),
            (Command::HelloRequest, Some("3646678830"))
        );
        assert_eq!(read.body, AGENT);
    }
}

#[test]
fn a_first_frame_without_a_body_or_with_one_that_is_no_json_tells_it_too() {
    let heartbeat = r#"{"cmd":"HEARTBEAT_REQUEST","seq":"1"}"#;
    for (beside, body, dialect) in [
        (13, "", Dialect::From19),
        (8, "", Dialect::UpTo18),
        (13, "not json at all", Dialect::From19),
        (13, "[1,2]", Dialect::From19),
    ] {
        let bytes = frame(beside, heartbeat, body);
        assert_eq!(find(&bytes, None, 1 << 20), Ok(Found::Whole(dialect, bytes.len())), "{beside} {body:?}");
    }
    // JSON that is cut short, and then the next frame: what is wrong is the body.
    let mut bytes = frame(13, heartbeat, "{\"a\":1");
    let end = bytes.len();
    assert_eq!(find(&bytes, None, 1 << 20), Ok(Found::Need(end + 5)));
    bytes.extend_from_slice(&frame(13, heartbeat, ""));
    assert_eq!(find(&bytes, None, 1 << 20), Ok(Found::Whole(Dialect::From19, end)));
}

#[test]
fn what_is_no_frame_is_told_as_soon_as_it_shows() {
    let mut large = frame(13, HELLO, AGENT);
    large[13..17].copy_from_slice(&(4u32 << 20).to_be_bytes());
    let mut header = large.clone();
    header[17..21].copy_from_slice(&(1u32 << 19).to_be_bytes());
    let mut short = frame(13, HELLO, AGENT);
    short[13..17].copy_from_slice(&20u32.to_be_bytes());
    for (bytes, dialect, violation) in [
        (b"X".to_vec(), None, Violation::Magic),
        (b"EventMesh0001".to_vec(), None, Violation::Magic),
        (b"GET / HTTP/1.1\r\n".to_vec(), None, Violation::Magic),
        (large[..21].to_vec(), None, Violation::TooLarge { len: 4 << 20, max: 1 << 20 }),
        (header[..21].to_vec(), None, Violation::TooLarge { len: 4 << 20, max: 1 << 20 }),
        (short[..21].to_vec(), None, Violation::Length { package: 20, header: 77 }),
        (
            frame(8, "{}", "")[..21].to_vec(),
            Some(Dialect::From19),
            Violation::Length { package: 10, header: 2 },
        ),
    ] {
        assert_eq!(find(&bytes, dialect, 1 << 20), Err(violation), "{bytes:?}");
    }
    let mut header = frame(13, HELLO, AGENT);
    header[17..21].copy_from_slice(&(1u32 << 19).to_be_bytes());
    assert_eq!(find(&header, None, 1 << 20), Err(Violation::HeaderTooLarge { len: 1 << 19, max: 64 << 10 }));
}

#[test]
fn a_header_is_a_json_object_with_a_known_command() {
    let header = |json: &str| read(frame(13, json, "").into()).map(|frame| frame.header);
    assert_eq!(header(r#"{"cmd":"NO_SUCH","seq":"1"}"#), Err(Violation::Command("NO_SUCH".to_owned())));
    for wrong in ["", "not json", "[]", "{}", r#"{"cmd":1}"#, r#"{"cmd":null}"#] {
        assert!(matches!(header(wrong), Err(Violation::Header(_))), "{wrong}");
    }
    let read = header(r#"{"cmd":"LISTEN_REQUEST","seq":17,"properties":{"a":"b","n":1,"z":null},"new":{}}"#)
        .unwrap();
    assert_eq!(
        (read.seq.as_deref(), read.property("a"), read.property("n")),
        (Some("17"), Some("b"), Some("1"))
    );
    assert_eq!(read.property("z"), None);
}

#[test]
fn what_is_written_is_what_eventmesh_writes() {
    let mut out = BytesMut::new();
    let answer = Answer::new(Command::HelloResponse, Some("77")).said(Code::Success, "success");
    write(&mut out, Dialect::From19, &answer, b"");
    let json = r#"{"cmd":"HELLO_RESPONSE","code":0,"desc":"success","seq":"77","properties":{}}"#;
    assert_eq!(out, frame(13, json, "")[..]);
    out.clear();
    let push = Answer::new(Command::AsyncMessageToClient, Some("9")).carrying(eventmesh::Kind::CloudEvents);
    write(&mut out, Dialect::UpTo18, &push, b"{}");
    let json =
        r#"{"cmd":"ASYNC_MESSAGE_TO_CLIENT","code":0,"seq":"9","properties":{"protocoltype":"cloudevents"}}"#;
    assert_eq!(out, frame(8, json, "{}")[..]);
}
