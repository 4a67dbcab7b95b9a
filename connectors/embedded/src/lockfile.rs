//! The file that a running log has locked. It holds a second copy of the salt: without it a damaged header of the only
//! segment would make all records unreadable.
//!
//! ```text
//! offset size
//!      0    8  "weft lck"
//!      8    8  salt of the data folder
//!     16    4  CRC-32 (IEEE) of the bytes before
//! ```
//!
//! It may be empty: an older version made it so, or a power cut. Then it is written when the log is opened next.

use std::io;

use crate::disk::{DiskFile, read_around};
use crate::record::Salt;

pub(crate) const NAME: &str = "lock";
const MAGIC: [u8; 8] = *b"weft lck";
const LENGTH: usize = 20;

/// The salt, if the file has it.
pub(crate) fn read(file: &impl DiskFile) -> io::Result<Option<Salt>> {
    let mut bytes = [0; LENGTH];
    read_around(file, &mut bytes, 0, 0)?;
    let salt = bytes.get(8..).and_then(|rest| rest.first_chunk()).map(|salt| Salt(u64::from_le_bytes(*salt)));
    Ok(salt.filter(|salt| encode(*salt) == bytes))
}

/// Writes the salt; durable.
pub(crate) fn keep(file: &impl DiskFile, salt: Salt) -> io::Result<()> {
    file.write_at(&encode(salt), 0)?;
    file.sync_all()
}

pub(crate) fn encode(salt: Salt) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&salt.0.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}
