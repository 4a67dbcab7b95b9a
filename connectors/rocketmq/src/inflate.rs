//! Compressed bodies. Brokers hand out what producers sent; a consumer inflates it.

use std::io::Read;

use bytes::Bytes;
use remoting::sys_flag::{COMPRESSED, COMPRESSION, LZ4, ZLIB, ZSTD};

/// The most bytes a body may have once it is inflated: as much as the largest frame.
const INFLATED_MAX: usize = remoting::FRAME_MAX as usize;

/// The body cannot be inflated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InflateError {
    /// The bytes are not what the flag says.
    #[error("the compressed body is damaged: {0}")]
    Damaged(String),
    /// It is more than anyone sends.
    #[error("the body inflates to more than {INFLATED_MAX} B")]
    TooLarge,
    /// A compression that is not known.
    #[error("unknown compression {0:#x}")]
    Unknown(i32),
}

/// The body as it was before its producer compressed it; `sys_flag` says how.
pub(crate) fn inflate(sys_flag: i32, body: Bytes) -> Result<Bytes, InflateError> {
    if sys_flag & COMPRESSED == 0 {
        return Ok(body);
    }
    let mut input: &[u8] = &body;
    match sys_flag & COMPRESSION {
        0 | ZLIB => read(flate2::read::ZlibDecoder::new(input)),
        LZ4 => read(lz4_flex::frame::FrameDecoder::new(input)),
        ZSTD => read(
            ruzstd::decoding::StreamingDecoder::new(&mut input)
                .map_err(|error| InflateError::Damaged(error.to_string()))?,
        ),
        other => Err(InflateError::Unknown(other)),
    }
}

fn read(decoder: impl Read) -> Result<Bytes, InflateError> {
    let mut out = Vec::new();
    let limit = INFLATED_MAX as u64 + 1;
    decoder.take(limit).read_to_end(&mut out).map_err(|error| InflateError::Damaged(error.to_string()))?;
    if out.len() > INFLATED_MAX {
        return Err(InflateError::TooLarge);
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn zlib(data: &[u8]) -> Bytes {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn every_compression_is_undone() {
        let data = b"weft ".repeat(1000);
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&data).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(&data[..], ruzstd::encoding::CompressionLevel::Fastest);
        for (flag, body) in [
            (1, zlib(&data)),
            (1 | ZLIB, zlib(&data)),
            (1 | LZ4, lz4.finish().unwrap().into()),
            (1 | ZSTD, zstd.into()),
            (ZLIB, Bytes::from(data.clone())),
        ] {
            assert_eq!(inflate(flag, body).unwrap(), data, "{flag:#x}");
        }
    }

    #[test]
    fn bad_bodies_are_named() {
        assert!(matches!(inflate(1, Bytes::from_static(b"no")), Err(InflateError::Damaged(_))));
        assert!(matches!(inflate(1 | LZ4, Bytes::from_static(b"no")), Err(InflateError::Damaged(_))));
        assert!(matches!(inflate(1 | ZSTD, Bytes::from_static(b"no")), Err(InflateError::Damaged(_))));
        assert_eq!(inflate(1 | 0x400, Bytes::new()), Err(InflateError::Unknown(0x400)));
        assert_eq!(inflate(1, zlib(&vec![0; INFLATED_MAX + 1])), Err(InflateError::TooLarge));
    }
}
