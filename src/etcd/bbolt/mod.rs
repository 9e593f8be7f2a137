//! A bbolt database: the file in which etcd keeps its keys. The format is that of `internal/common` in
//! go.etcd.io/bbolt, version 2:
//!
//! ```text
//!   page 0, 1   meta: magic, version, page size, root bucket, freelist, high-water mark, txid, FNV-1a over all of that
//!   page        16 bytes: id u64, flags u16, count u16, overflow u32; then count elements of 16 bytes; then the data
//!   branch      pos u32, ksize u32, child u64        pos counts from the element itself
//!   leaf        flags u32 (1: a bucket), pos u32, ksize u32, vsize u32
//!   bucket      root u64, sequence u64; root 0: its only page follows in the value
//! ```
//!
//! ```text
//!   page.rs     one page run, its elements checked
//!   reader.rs   pages, buckets, keys: on demand, page by page
//!   check.rs    the whole file, once, through window.rs
//!   writer.rs   a new database, from its first page to its last
//! ```

mod check;
mod page;
mod reader;
mod window;
pub mod writer;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

pub use check::{Pages, Visitor};
pub use reader::{Bucket, Database, Item};

/// Of a page, an element, and a bucket's own value: all three are 16 bytes.
const HEADER: usize = 16;
/// From magic to txid, and the checksum after it.
const META: usize = 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// bbolt takes the system's page size: 4, 16 or 64 KiB; the least that holds a meta and something after it is allowed, too.
const PAGE_SIZES: Range<u32> = 512..(64 << 10) + 1;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
/// Of a leaf element: its value is a bucket.
const IS_BUCKET: u32 = 1;

/// Why a database cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The system's word.
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    /// Neither meta page is whole: this is no bbolt database, or not any more.
    #[error("{} is no bbolt database: page 0: {zero}; page 1: {one}", path.display())]
    NoMeta {
        path: PathBuf,
        /// What is wrong with the first.
        zero: String,
        /// What is wrong with the second.
        one: String,
    },
    /// A page is not as it must be.
    #[error("{}: page {page}: {what}", path.display())]
    Page {
        path: PathBuf,
        page: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file went on being written: what was read may be of two transactions.
    #[error("{} is being written", path.display())]
    Moving { path: PathBuf },
}

/// One of the two meta pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub page_size: u32,
    /// The page of the root bucket, which holds the names of all others.
    pub root: u64,
    /// The page that lists the free ones; `u64::MAX` where none does, as in what etcd writes (its `NoFreelistSync`): free
    /// is then what nothing names.
    pub freelist: u64,
    /// The first page that was never used.
    pub high_water: u64,
    /// The transaction that wrote it.
    pub txid: u64,
}

fn parse_meta(page: &[u8]) -> Result<Meta, String> {
    let meta = page.get(HEADER..HEADER + META).ok_or("it is too short")?;
    let word = |at| number32(meta, at).unwrap_or_default();
    let long = |at| number64(meta, at).unwrap_or_default();
    if word(0) != MAGIC {
        return Err(format!("its magic number is {:#010x}, not {MAGIC:#010x}", word(0)));
    }
    if word(4) != VERSION {
        return Err(format!("it is of version {}, not {VERSION}", word(4)));
    }
    let checksum = fnv1a(&meta[..META - 8]);
    if long(META - 8) != checksum {
        return Err(format!("its checksum is {:#018x}, and its bytes make {checksum:#018x}", long(META - 8)));
    }
    let page_size = word(8);
    if !PAGE_SIZES.contains(&page_size) || !page_size.is_power_of_two() {
        return Err(format!("it says that pages have {page_size} bytes"));
    }
    Ok(Meta { page_size, root: long(16), freelist: long(32), high_water: long(40), txid: long(48) })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
