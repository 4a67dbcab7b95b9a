//! What the fuzz target and the replay of its corpus run.

use bytes::{Bytes, BytesMut};

use super::{Packet, Version, client, decode, scan};

/// Reads `data` as what a peer may send: as a client in both versions, from CONNECT on and behind it, and as a server.
/// The first byte chooses. Panics only when the codec is wrong.
pub fn exercise(data: &[u8]) {
    let Some((&mode, stream)) = data.split_first() else { return };
    let version = match mode & 3 {
        0 => None,
        1 => Some(Version::V311),
        _ => Some(Version::V5),
    };
    let found = scan(stream, 1 << 20, version.is_some());
    assert!(found.complete <= stream.len(), "complete packets are within the input");
    let mut burst = Bytes::copy_from_slice(stream.get(..found.complete).unwrap_or_default());
    let mut version = version;
    while let Ok(Some(packet)) = decode(&mut burst, version) {
        if let Packet::Connect(connect) = &packet {
            version = Some(connect.version);
        }
        if let Packet::Publish(publish) = &packet {
            assert!(publish.properties.is_empty() || publish.properties.iter().next().is_some());
        }
    }
    let mut input = BytesMut::from(stream);
    while let Ok(Some(_)) = client::decode_server(&mut input, version.unwrap_or(Version::V5)) {}
}
