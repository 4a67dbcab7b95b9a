//! Compressed bodies, as RocketMQ's own producers send large ones.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::ZlibEncoder;

/// The body as a zlib stream, if that is shorter. Takes a while: for a thread of its own.
pub(crate) fn deflate(body: &[u8]) -> Option<Bytes> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
    encoder.write_all(body).ok()?;
    let out = encoder.finish().ok()?;
    (out.len() < body.len()).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use remoting::sys_flag::COMPRESSED;

    use super::*;
    use crate::inflate::inflate;

    #[test]
    fn what_is_compressed_is_inflated_again() {
        let body = b"weft ".repeat(1000);
        let small = deflate(&body).unwrap();
        assert!(small.len() < 200);
        assert_eq!(inflate(COMPRESSED, small).unwrap(), body);
        // Bytes of a generator repeat nothing.
        let noise: Vec<u8> = (0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(deflate(&noise[..64]), None);
    }
}
