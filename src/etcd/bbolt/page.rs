//! One page run whose elements are within it and in order.

use std::cmp::Ordering;
use std::ops::{Deref, Range};

use super::{BRANCH, HEADER, IS_BUCKET, LEAF, number16, number32, number64};

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

/// A page run with all of its elements within it. It owns the bytes, or borrows them from the reader.
#[derive(Debug)]
pub(super) struct Page<B = Vec<u8>> {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) bytes: B,
}

/// Where a leaf element's parts lie.
pub(super) struct Leaf {
    pub(super) is_bucket: bool,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

impl<B: Deref<Target = [u8]>> Page<B> {
    pub(super) fn parse(id: u64, bytes: B) -> Result<Self, String> {
        let (Some(flags), Some(count)) = (number16(&bytes, 8), number16(&bytes, 10)) else {
            return Err(format!("{} bytes, {HEADER} are the least", bytes.len()));
        };
        let kind = match flags {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            other => return Err(format!("its flags are {other:#x}, neither a branch nor a leaf")),
        };
        let page = Self { id, kind, count: usize::from(count), bytes };
        let data = HEADER * (page.count + 1);
        if data > page.bytes.len() {
            return Err(format!("{count} elements do not fit into {} bytes", page.bytes.len()));
        }
        if kind == Kind::Branch && count == 0 {
            return Err("a branch without children".to_owned());
        }
        let mut told = 0;
        for at in 0..page.count {
            let end = page.end(at);
            let start = page.start(at);
            if start < data as u64 || end > page.bytes.len() as u64 {
                return Err(format!("element {at} is at bytes {start} to {end}, outside of its {data}.."));
            }
            // Otherwise a page might tell more than any file holds.
            told += end - start;
            if told > page.bytes.len() as u64 {
                return Err(format!("element {at} overlaps one before it"));
            }
            if at > 0 && page.key(at - 1) >= page.key(at) {
                return Err(format!("element {at} does not follow the one before it: keys ascend"));
            }
        }
        Ok(page)
    }

    /// Whether the elements' data lie one behind the other from the first byte that may hold data, as every bbolt writes
    /// them: else the first that does not.
    pub(super) fn gap(&self) -> Option<usize> {
        let mut end = (HEADER * (self.count + 1)) as u64;
        (0..self.count).find(|at| {
            let follows = self.start(*at) == end;
            end = self.end(*at);
            !follows
        })
    }

    /// The same, with bytes of its own.
    pub(super) fn owned(&self) -> Page {
        Page { id: self.id, kind: self.kind, count: self.count, bytes: self.bytes.to_vec() }
    }

    /// One of the four numbers of an element. They are there: the count was checked.
    fn word(&self, at: usize, word: usize) -> u64 {
        number32(&self.bytes, HEADER * (at + 1) + 4 * word).map_or(0, u64::from)
    }

    /// pos, as the file has it.
    fn start(&self, at: usize) -> u64 {
        (HEADER * (at + 1)) as u64 + self.word(at, if self.kind == Kind::Leaf { 1 } else { 0 })
    }

    fn key_length(&self, at: usize) -> u64 {
        self.word(at, if self.kind == Kind::Leaf { 2 } else { 1 })
    }

    fn end(&self, at: usize) -> u64 {
        let value = if self.kind == Kind::Leaf { self.word(at, 3) } else { 0 };
        self.start(at) + self.key_length(at) + value
    }

    /// Within the page: that was checked.
    fn key_range(&self, at: usize) -> Range<usize> {
        let start = self.start(at) as usize;
        start..start + self.key_length(at) as usize
    }

    pub(super) fn key(&self, at: usize) -> &[u8] {
        self.bytes.get(self.key_range(at)).unwrap_or_default()
    }

    pub(super) fn leaf(&self, at: usize) -> Leaf {
        let key = self.key_range(at);
        let value = key.end..self.end(at) as usize;
        Leaf { is_bucket: self.word(at, 0) & u64::from(IS_BUCKET) != 0, key, value }
    }

    pub(super) fn branch(&self, at: usize) -> (Range<usize>, u64) {
        (self.key_range(at), number64(&self.bytes, HEADER * (at + 1) + 8).unwrap_or_default())
    }

    /// As [`slice::binary_search`].
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }
}
