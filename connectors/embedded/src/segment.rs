//! One file of the log: its name, its header, how it comes to be.
//!
//! The name is the base, 20 digits, and `.log`. The base is the position of the first byte of the file, so a record's
//! position is the base plus its offset in the file. The next segment's base is where the last record of this one ends.
//!
//! ```text
//! offset size
//!      0    8  "weft log"
//!      8    4  version of the format: 1
//!     12    4  0
//!     16    8  base
//!     24    8  salt of the data folder
//!     32    8  when it was made, milliseconds since 1970
//!     40   20  0
//!     60    4  CRC-32 (IEEE) of the bytes before
//!     64    …  records
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile, read_around};
use crate::error::OpenError;
use crate::record::Salt;

/// Bytes before the first record.
pub(crate) const HEADER: u64 = 64;
/// The format that this version writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"weft log";

/// What the header of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) base: u64,
    pub(crate) salt: Salt,
    pub(crate) created_ms: u64,
}

impl Header {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&u64::from(self.version).to_le_bytes());
        bytes.extend_from_slice(&self.base.to_le_bytes());
        bytes.extend_from_slice(&self.salt.0.to_le_bytes());
        bytes.extend_from_slice(&self.created_ms.to_le_bytes());
        bytes.resize(HEADER as usize - 4, 0);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Reads the header; `None` if there is none or it is damaged.
    pub(crate) fn read(file: &impl DiskFile) -> io::Result<Option<Self>> {
        let mut bytes = [0; HEADER as usize];
        read_around(file, &mut bytes, 0, 0)?;
        Ok(Self::decode(&bytes))
    }

    fn decode(bytes: &[u8; HEADER as usize]) -> Option<Self> {
        let (content, sum) = bytes.split_last_chunk()?;
        let number = |at: usize| Some(u64::from_le_bytes(*content.get(at..)?.first_chunk()?));
        let whole = content.starts_with(&MAGIC) && crc32fast::hash(content) == u32::from_le_bytes(*sum);
        let version = u32::try_from(number(8)?).ok()?;
        let header = Self { version, base: number(16)?, salt: Salt(number(24)?), created_ms: number(32)? };
        whole.then_some(header)
    }
}

/// Refuses a format that this version does not know.
pub(crate) fn check_version(header: Option<Header>, path: &Path) -> Result<(), OpenError> {
    match header.filter(|header| header.version != VERSION) {
        Some(Header { version: found, .. }) => {
            Err(OpenError::Version { path: path.to_owned(), found, known: VERSION })
        }
        None => Ok(()),
    }
}

/// Where the segment with this base is.
pub(crate) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// The number in the name of a segment or checkpoint, if it is such a name.
pub(crate) fn number_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// Makes an empty segment, header and name durable.
pub(crate) fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    base: u64,
    salt: Salt,
    now_ms: u64,
) -> io::Result<D::File> {
    let file = disk.create(&path(dir, base))?;
    let header = Header { version: VERSION, base, salt, created_ms: now_ms };
    file.write_at(&header.encode(), 0)?;
    file.sync_all()?;
    disk.sync_dir(dir)?;
    Ok(file)
}
