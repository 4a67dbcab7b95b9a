//! What must hold for any bytes. Run on the corpus by `corpus.rs`, and on new bytes by the fuzz target.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use remoting::properties::{Properties, is_name, parse, unescape};
use remoting::{Command, Decoder, Encoding, decode_messages, encode};

/// Decodes `data` in every way; panics where what was decoded does not survive a second round.
pub(crate) fn check(data: &[u8]) {
    let mut stream = BytesMut::from(data);
    while let Ok(Some(command)) = Decoder::default().decode(&mut stream) {
        decode_messages(command.body.clone()).ok();
        check_round(&command, Encoding::Json);
        let binary = i16::try_from(command.version).is_ok() && command.remark.as_deref() != Some("");
        if binary {
            check_round(&command, Encoding::Binary);
        }
    }
    decode_messages(Bytes::copy_from_slice(data)).ok();
    if let Ok(text) = std::str::from_utf8(data) {
        check_properties(&ByteString::from(text));
    }
}

fn check_round(command: &Command, encoding: Encoding) {
    let mut frame = BytesMut::new();
    if encode(command, encoding, &mut frame).is_ok() {
        // A header may grow beyond the limit on its way: JSON escapes what the binary form does not.
        if let Ok(again) = Decoder::default().decode(&mut frame) {
            assert_eq!(again.as_ref(), Some(command));
        }
    }
}

fn check_properties(text: &ByteString) {
    let pairs: Vec<_> = parse(text).filter(|(name, _)| is_name(name)).collect();
    let mut properties = Properties::default();
    for (name, value) in &pairs {
        properties.push(name, value);
    }
    if let Ok(text) = properties.finish() {
        let again: Vec<_> = parse(&text).map(|(name, value)| (name, unescape(&value))).collect();
        assert_eq!(again, pairs);
    }
}
