//! Checks the whole file: every referenced page exactly once and in order, and no free page among them.
//!
//! ```text
//!   metas ─▶ root bucket ─▶ buckets ─▶ branches ─▶ leaves ─▶ every key, in order, to the visitor
//!                │             └── seen: one bit per page; a second reference to a page is an error, so a cycle ends
//!                └── freelist, if one is kept: it lists exactly the pages that nothing references
//! ```
//!
//! The checks of [`Database::walk`] apply to every page here. In addition, the keys of a page must be below the next
//! key of every branch above it, since etcd would not find them otherwise; and its data must be packed, as bbolt leaves
//! them: damage that no checksum covers is found because it does not fit. Memory is one bit per page, a window of the
//! file, and the branches from the root to the current page.

use std::io;
use std::ops::Range;

use super::page::{Kind, Page};
use super::reader::{Database, MAX_DEPTH, Root, next};
use super::window::Window;
use super::{Fault, HEADER, number16, number64, text};

/// The pages that are kept account of: 8 MiB of bits, and 256 GiB of pages of 4 KiB. etcd's own advice ends at 8 GB.
const MAX_PAGES: u64 = 1 << 26;
/// etcd has ten.
const MAX_BUCKETS: usize = 1000;
const FREELIST: u16 = 0x10;
/// A count that is too large for the header exists before the list.
const COUNT_FOLLOWS: u16 = 0xffff;

/// Hears of everything a database holds. What it returns as an error is said of the page at hand.
pub trait Visitor {
    /// A bucket begins: its name.
    ///
    /// # Errors
    /// What is wrong with it.
    fn bucket(&mut self, name: &[u8]) -> Result<(), String>;

    /// A key of that bucket and its value, in order.
    ///
    /// # Errors
    /// What is wrong with them.
    fn item(&mut self, key: &[u8], value: &[u8]) -> Result<(), String>;
}

/// How the pages of a database are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Those below the high-water mark.
    pub all: u64,
    /// Those that something names: the metas, the freelist, and the buckets' own.
    pub used: u64,
}

impl Database {
    /// Whether the file reaches as far as its meta says that pages are in use. etcd lets it grow before it says so.
    ///
    /// # Errors
    /// [`Fault::Page`] names the first page that is missing.
    pub fn reaches(&self) -> Result<(), Fault> {
        let all = self.meta().high_water;
        if all > self.pages() {
            let what =
                format!("the file ends within or before it, and pages up to {} are in use", all.saturating_sub(1));
            return Err(self.fault(self.pages(), what));
        }
        Ok(())
    }

    /// Reads every page that is in use, and shows every key. `progress` receives how many bytes of pages have been
    /// seen.
    ///
    /// # Errors
    /// [`Fault::Page`] names the first page that is not as it must be; [`Fault::Io`].
    pub fn check(&self, visitor: &mut impl Visitor, progress: &mut dyn FnMut(u64)) -> Result<Pages, Fault> {
        let size = u64::from(self.meta().page_size);
        let all = self.meta().high_water;
        self.reaches()?;
        if all > MAX_PAGES {
            return Err(self.fault(MAX_PAGES, format!("{all} pages are in use, more than is checked ({MAX_PAGES})")));
        }
        let mut walk =
            Walk { db: self, window: Window::new(self.file(), all * size), seen: Seen::new(all), used: 2, progress };
        walk.seen.mark(0..2);
        for bucket in walk.buckets()? {
            visitor.bucket(&bucket.name).map_err(|what| self.fault(bucket.on, what))?;
            let name = text(&bucket.name);
            let mut show = |page: &Page<&[u8]>| show(self, &name, page, visitor);
            match bucket.root {
                Root::Page(id) => walk.tree(id, &mut show)?,
                Root::Inline(on, bytes) => {
                    let page = self.inline(on, &bytes)?;
                    packed(self, &page)?;
                    show(&page)?;
                }
            }
        }
        walk.freelist()?;
        Ok(Pages { all, used: walk.used })
    }
}

/// A leaf's keys, to the visitor.
fn show(db: &Database, bucket: &str, page: &Page<&[u8]>, visitor: &mut impl Visitor) -> Result<(), Fault> {
    for at in 0..page.count {
        let leaf = page.leaf(at);
        let wrong = |what: String| db.fault(page.id, format!("element {at}, in bucket {bucket}: {what}"));
        if leaf.is_bucket {
            return Err(wrong("a bucket within a bucket, which etcd has none of".to_owned()));
        }
        visitor.item(&page.bytes[leaf.key], &page.bytes[leaf.value]).map_err(wrong)?;
    }
    Ok(())
}

struct Named {
    name: Vec<u8>,
    root: Root,
    /// The page that names it.
    on: u64,
}

struct Walk<'a> {
    db: &'a Database,
    window: Window<'a>,
    seen: Seen,
    used: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Walk<'_> {
    fn buckets(&mut self) -> Result<Vec<Named>, Fault> {
        let db = self.db;
        let mut found = Vec::new();
        self.tree(db.meta().root, &mut |page| {
            for at in 0..page.count {
                let leaf = page.leaf(at);
                let name = page.bytes[leaf.key].to_vec();
                if !leaf.is_bucket {
                    let what = format!("element {at}: {:?} is a plain key where a bucket belongs", text(&name));
                    return Err(db.fault(page.id, what));
                }
                if found.len() == MAX_BUCKETS {
                    return Err(db.fault(page.id, format!("more than {MAX_BUCKETS} buckets, and etcd has ten")));
                }
                found.push(Named { name, root: db.root_in(page, leaf.value)?, on: page.id });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A tree of pages from its root: what is asked of its pages, and of each among the others. Its leaves are shown.
    fn tree(&mut self, root: u64, show: &mut impl FnMut(&Page<&[u8]>) -> Result<(), Fault>) -> Result<(), Fault> {
        let db = self.db;
        let size = u64::from(db.meta().page_size);
        // The branches down to the page at hand, each with the child that is being walked.
        let mut path: Vec<(Page, usize)> = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        let mut id = root;
        loop {
            let page = db.page_in(&mut self.window, id)?;
            let run = id..id + page.bytes.len() as u64 / size;
            self.used += run.end - run.start;
            if let Some(again) = self.seen.mark(run) {
                let by = path.last().map_or("a bucket".to_owned(), |(parent, _)| format!("page {}", parent.id));
                return Err(
                    db.fault(again, format!("{by} names it or what it overflows from, and it is in use already"))
                );
            }
            (self.progress)(self.used * size);
            packed(db, &page)?;
            if let Some((parent, at)) = path.last() {
                db.fits(parent, *at, &page)?;
            }
            match page.kind {
                Kind::Branch if path.len() == MAX_DEPTH => return Err(db.too_deep(id)),
                Kind::Branch => {
                    let page = page.owned();
                    id = page.branch(0).1;
                    path.push((page, 0));
                    continue;
                }
                Kind::Leaf => {
                    below_the_next(db, &path, &page)?;
                    db.follows(&mut last, &page)?;
                    show(&page)?;
                }
            }
            match next(&mut path) {
                Some(child) => id = child,
                None => return Ok(()),
            }
        }
    }

    /// What is listed as free is named by nothing, and the other way round. Without a list, what nothing names is free.
    fn freelist(&mut self) -> Result<(), Fault> {
        let (db, id) = (self.db, self.db.meta().freelist);
        if id == u64::MAX {
            return Ok(());
        }
        let size = u64::from(db.meta().page_size);
        let broken = |error: io::Error, page| db.unread(page, error);
        db.is_there(id)?;
        let head = self.window.get(id * size, HEADER + 8).map_err(|error| broken(error, id))?;
        let (run, flags, count) = (db.run(id, head)?, number16(head, 8), number16(head, 10));
        if flags != Some(FREELIST) {
            return Err(
                db.fault(id, format!("its flags are {:#x}, and the meta names it as the freelist", flags.unwrap_or(0)))
            );
        }
        let first = number64(head, HEADER).unwrap_or_default();
        let (count, start) = match count {
            Some(COUNT_FOLLOWS) => (first, HEADER as u64 + 8),
            count => (u64::from(count.unwrap_or(0)), HEADER as u64),
        };
        if count > (run * size - start) / 8 {
            return Err(db.fault(id, format!("{count} free pages do not fit into {} bytes", run * size)));
        }
        if let Some(again) = self.seen.mark(id..id + run) {
            return Err(db.fault(again, "it is part of the freelist, but also in use".to_owned()));
        }
        self.used += run;
        for at in 0..count {
            let listed = self.window.get(id * size + start + at * 8, 8).map_err(|error| broken(error, id))?;
            let free = number64(listed, 0).unwrap_or_default();
            if free < 2 || free >= db.meta().high_water {
                return Err(db.fault(id, format!("it lists page {free} as free, which does not exist")));
            }
            if self.seen.mark(free..free + 1).is_some() {
                return Err(db.fault(free, "it is listed as free, but is in use or listed twice".to_owned()));
            }
        }
        match self.seen.first_unseen() {
            Some(lost) => Err(db.fault(lost, "nothing names it, and it is not listed as free".to_owned())),
            None => Ok(()),
        }
    }
}

/// A length or a place that was changed leaves a hole or an overlap.
fn packed(db: &Database, page: &Page<&[u8]>) -> Result<(), Fault> {
    match page.gap() {
        Some(at) => Err(db.fault(page.id, format!("element {at} does not follow the one before it in the page"))),
        None => Ok(()),
    }
}

/// A leaf's keys are below the next key of the nearest branch above that has one.
fn below_the_next(db: &Database, path: &[(Page, usize)], page: &Page<&[u8]>) -> Result<(), Fault> {
    let next = path.iter().rev().find(|(branch, at)| at + 1 < branch.count);
    if let Some((branch, at)) = next
        && page.count > 0
        && page.key(page.count - 1) >= branch.key(at + 1)
    {
        let what = format!("its last key is not below the next one that page {} names a child by", branch.id);
        return Err(db.fault(page.id, what));
    }
    Ok(())
}

/// One bit a page.
struct Seen {
    bits: Vec<u64>,
    pages: u64,
}

impl Seen {
    fn new(pages: u64) -> Self {
        Self { bits: vec![0; usize::try_from(pages.div_ceil(64)).unwrap_or(0)], pages }
    }

    /// Marks pages; the first of them that was marked before.
    fn mark(&mut self, pages: Range<u64>) -> Option<u64> {
        let mut again = None;
        for page in pages {
            let bit = 1 << (page % 64);
            if let Some(word) = self.bits.get_mut((page / 64) as usize) {
                again = again.or((*word & bit != 0).then_some(page));
                *word |= bit;
            }
        }
        again
    }

    fn first_unseen(&self) -> Option<u64> {
        let word = self.bits.iter().position(|word| *word != u64::MAX)?;
        let page = word as u64 * 64 + u64::from(self.bits.get(word)?.trailing_ones());
        (page < self.pages).then_some(page)
    }
}
