//! Writes a bbolt database from its first page to its last: every leaf full, no page free.
//!
//! ```text
//!   0, 1   the metas: written last, so that a truncated file is no database
//!   2 ..   bucket by bucket: its leaves, and a branch as soon as it is full, up to its root
//!   last   the root leaf: the buckets by name
//! ```
//!
//! It holds one page of each level in memory, however large the database. The output is many small writes. bbolt panics
//! when it removes a key below a branch with one child ("parent must have at least 2 children"), so a branch is written
//! only when two more children are there for the next one. The freelist is left out, as etcd does (`NoFreelistSync`): a
//! program that opens the database builds it from the pages that nothing references.

use std::io::{self, Write};

use super::{BRANCH, HEADER, IS_BUCKET, LEAF, MAGIC, META, VERSION, fnv1a};

/// Of a page.
const META_FLAG: u16 = 0x04;
/// In a meta: there is no freelist page.
const NO_FREELIST: u64 = u64::MAX;
/// What a page ends with.
const ZEROS: [u8; 4096] = [0; 4096];
/// bbolt's `MaxKeySize`; its `MaxValueSize` is a 31-bit number.
const MAX_KEY: usize = 32_768;
const MAX_VALUE: usize = (1 << 31) - 2;
/// The least children of a branch.
const LEAST: usize = 2;

/// A database that is being written. Nothing can be read of it before the metas are where they belong.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    page_size: usize,
    /// The next page.
    next: u64,
    /// The buckets so far, and their roots.
    roots: Vec<(Vec<u8>, u64)>,
}

/// A bucket that is being written.
#[derive(Debug)]
pub struct BucketWriter<'a, W> {
    to: &'a mut Writer<W>,
    name: Vec<u8>,
    leaf: Leaf,
    /// The branches above, the lowest first.
    levels: Vec<Vec<Child>>,
    last: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Child {
    key: Vec<u8>,
    id: u64,
}

/// The leaf that is being filled.
#[derive(Debug, Default)]
struct Leaf {
    /// flags, length of the key, length of the value.
    elements: Vec<(u32, usize, usize)>,
    data: Vec<u8>,
}

impl Leaf {
    fn size_with(&self, key: usize, value: usize) -> usize {
        HEADER * (self.elements.len() + 2) + self.data.len() + key + value
    }

    fn push(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        self.elements.push((flags, key.len(), value.len()));
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn first_key(&self) -> Vec<u8> {
        let length = self.elements.first().map_or(0, |(_, key, _)| *key);
        self.data.get(..length).unwrap_or_default().to_vec()
    }
}

impl<W: Write> Writer<W> {
    /// Begins a database in what is empty. The page size is that of the system that will open it: the one of the database
    /// it is made from.
    ///
    /// # Errors
    /// The system's word.
    pub fn new(mut out: W, page_size: u32) -> io::Result<Self> {
        let page_size = page_size as usize;
        out.write_all(&vec![0; 2 * page_size])?;
        Ok(Self { out, page_size, next: 2, roots: Vec::new() })
    }

    /// Begins a bucket. They may come in any order, each once.
    pub fn bucket(&mut self, name: &[u8]) -> BucketWriter<'_, W> {
        BucketWriter { to: self, name: name.to_owned(), leaf: Leaf::default(), levels: Vec::new(), last: None }
    }

    /// Ends the database but for the metas: what it was written to, and what its first two pages are to be.
    ///
    /// # Errors
    /// The system's word; a bucket that came twice.
    pub fn finish(mut self) -> io::Result<(W, Vec<u8>)> {
        self.roots.sort();
        let mut leaf = Leaf::default();
        let mut before: Option<&[u8]> = None;
        for (name, root) in &self.roots {
            if before == Some(name) {
                return Err(invalid(format!("the bucket {:?} comes twice", String::from_utf8_lossy(name))));
            }
            before = Some(name);
            // The root, and a sequence that etcd never draws from.
            leaf.push(IS_BUCKET, name, &[root.to_le_bytes(), [0; 8]].concat());
        }
        let root = self.write_leaf(&leaf)?;
        self.out.flush()?;
        let mut metas = vec![0; 2 * self.page_size];
        for (page, txid) in metas.chunks_exact_mut(self.page_size).zip(0..) {
            let meta = meta(self.page_size, root, self.next, txid);
            page.iter_mut().zip(meta).for_each(|(to, from)| *to = from);
        }
        Ok((self.out, metas))
    }

    fn write_leaf(&mut self, leaf: &Leaf) -> io::Result<u64> {
        let mut page = Vec::with_capacity(HEADER * (leaf.elements.len() + 1));
        let mut data = HEADER * leaf.elements.len();
        for (flags, key, value) in &leaf.elements {
            // Counted from this very element.
            let pos = data - page.len();
            for word in [*flags, length(pos)?, length(*key)?, length(*value)?] {
                page.extend_from_slice(&word.to_le_bytes());
            }
            data += key + value;
        }
        self.write_page(LEAF, leaf.elements.len(), &page, &leaf.data)
    }

    fn write_branch(&mut self, children: &[Child]) -> io::Result<u64> {
        let mut page = Vec::with_capacity(HEADER * children.len());
        let mut keys = Vec::new();
        for child in children {
            let pos = HEADER * children.len() + keys.len() - page.len();
            page.extend_from_slice(&length(pos)?.to_le_bytes());
            page.extend_from_slice(&length(child.key.len())?.to_le_bytes());
            page.extend_from_slice(&child.id.to_le_bytes());
            keys.extend_from_slice(&child.key);
        }
        self.write_page(BRANCH, children.len(), &page, &keys)
    }

    /// Writes a page with all that overflows it.
    fn write_page(&mut self, flags: u16, count: usize, elements: &[u8], data: &[u8]) -> io::Result<u64> {
        let id = self.next;
        let size = HEADER + elements.len() + data.len();
        let pages = size.div_ceil(self.page_size);
        let count = u16::try_from(count).map_err(|_| invalid(format!("{count} elements on a page")))?;
        self.out.write_all(&id.to_le_bytes())?;
        self.out.write_all(&flags.to_le_bytes())?;
        self.out.write_all(&count.to_le_bytes())?;
        self.out.write_all(&length(pages - 1)?.to_le_bytes())?;
        self.out.write_all(elements)?;
        self.out.write_all(data)?;
        let mut rest = pages * self.page_size - size;
        while rest > 0 {
            let zeros = ZEROS.get(..rest).unwrap_or(&ZEROS);
            self.out.write_all(zeros)?;
            rest -= zeros.len();
        }
        self.next += pages as u64;
        Ok(id)
    }
}

impl<W: Write> BucketWriter<'_, W> {
    /// Adds a key, above all before it.
    ///
    /// # Errors
    /// The system's word; a key that does not ascend, or that bbolt does not take.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let ascends = self.last.as_deref().is_none_or(|last| last < key);
        if !ascends || key.is_empty() || key.len() > MAX_KEY || value.len() > MAX_VALUE {
            let (key, value, name) = (key.len(), value.len(), String::from_utf8_lossy(&self.name));
            let why = if ascends { "bbolt does not take it" } else { "it does not follow the one before it" };
            return Err(invalid(format!("a key of {key} bytes with a value of {value} in the bucket {name:?}: {why}")));
        }
        // As bbolt does, two items at least share a page; but nothing is put behind what overflows by itself.
        let full = self.leaf.size_with(key.len(), value.len()) > self.to.page_size;
        let alone = self.leaf.elements.len() == 1 && HEADER * 2 + self.leaf.data.len() <= self.to.page_size;
        if full && !self.leaf.elements.is_empty() && !alone {
            self.flush()?;
        }
        self.leaf.push(0, key, value);
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    /// Ends the bucket.
    ///
    /// # Errors
    /// The system's word.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.leaf.elements.is_empty() || self.levels.is_empty() {
            self.flush()?;
        }
        let mut at = 0;
        while let Some(mut children) = self.levels.get_mut(at).map(std::mem::take) {
            let top = at + 1 == self.levels.len();
            if let [root] = children.as_slice()
                && top
            {
                self.to.roots.push((self.name, root.id));
                return Ok(());
            }
            while !children.is_empty() {
                let head = self.head(&children).unwrap_or(children.len());
                let rest = children.split_off(head);
                self.write(at, children)?;
                children = rest;
            }
            at += 1;
        }
        Err(invalid("a bucket without a root".to_owned()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let key = self.leaf.first_key();
        let id = self.to.write_leaf(&self.leaf)?;
        self.leaf.elements.clear();
        self.leaf.data.clear();
        self.add(0, Child { key, id })
    }

    /// Adds a child to a level, and writes the branch that is full by that.
    fn add(&mut self, level: usize, child: Child) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let Some(children) = self.levels.get_mut(level) else { return Ok(()) };
        children.push(child);
        let children = std::mem::take(children);
        let Some(head) = self.head(&children) else {
            self.levels.splice(level..=level, [children]);
            return Ok(());
        };
        let mut children = children;
        let rest = children.split_off(head);
        self.levels.splice(level..=level, [rest]);
        self.write(level, children)
    }

    fn write(&mut self, level: usize, children: Vec<Child>) -> io::Result<()> {
        let id = self.to.write_branch(&children)?;
        let key = children.into_iter().next().map(|child| child.key).unwrap_or_default();
        self.add(level + 1, Child { key, id })
    }

    /// How many of these children make a full branch and leave enough for another one; nothing where they do not.
    fn head(&self, children: &[Child]) -> Option<usize> {
        let most = children.len().checked_sub(LEAST)?;
        let mut size = HEADER;
        for (at, child) in children.iter().enumerate() {
            size += HEADER + child.key.len();
            if size > self.to.page_size {
                return Some(at.max(LEAST)).filter(|head| *head <= most);
            }
        }
        None
    }
}

fn meta(page_size: usize, root: u64, high_water: u64, txid: u64) -> Vec<u8> {
    let mut page = Vec::with_capacity(HEADER + META);
    page.extend_from_slice(&txid.to_le_bytes());
    page.extend_from_slice(&META_FLAG.to_le_bytes());
    page.resize(HEADER, 0);
    for word in [MAGIC, VERSION, page_size as u32, 0] {
        page.extend_from_slice(&word.to_le_bytes());
    }
    for long in [root, 0, NO_FREELIST, high_water, txid] {
        page.extend_from_slice(&long.to_le_bytes());
    }
    let checksum = fnv1a(page.get(HEADER..).unwrap_or_default());
    page.extend_from_slice(&checksum.to_le_bytes());
    page
}

fn length(value: usize) -> io::Result<u32> {
    u32::try_from(value).map_err(|_| invalid(format!("{value} bytes in one page run")))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
