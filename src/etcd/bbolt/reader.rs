//! Reads a database on demand, page by page.
//!
//! The file is not trusted: a page ID must be within the file and below the high-water mark, an element within its page
//! run, keys must ascend, a child must have no key below the one its parent references it by. A walk whose keys only
//! ascend never meets a page twice, and its depth is limited, so a cycle ends it.
//!
//! A live etcd holds the file and writes it. bbolt reuses a page at the earliest one committed transaction after it was
//! freed; so a read is consistent if the transaction it began with is still the newest when it ends
//! ([`Database::is_current`]).

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{ControlFlow, Deref, Range};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;

use super::page::{Kind, Page};
use super::window::Window;
use super::{BRANCH, Fault, HEADER, LEAF, META, Meta, number16, number32, number64, parse_meta, text};

/// The longest page run that is read: bbolt does not divide four items, and an etcd request is 1.5 MB by default, and 10 MB
/// where it was raised as far as etcd itself advises.
const MAX_RUN: u64 = 48 << 20;
/// A branch holds keys alone, each at most 32 KiB (bbolt's `MaxKeySize`): four of them, or else a page of at most 64 KiB.
const MAX_BRANCH_RUN: u64 = 256 << 10;
/// Two children a branch make 2^20 leaves at this depth; real ones hold dozens.
pub(super) const MAX_DEPTH: usize = 20;
/// etcd makes ten.
const MAX_BUCKETS: usize = 1000;

/// A database, opened for reading as of its newest transaction.
#[derive(Debug)]
pub struct Database {
    file: File,
    path: PathBuf,
    meta: Meta,
    /// Page ids are below this: the high-water mark, or the pages that the file has.
    pages: u64,
}

/// A bucket's root.
#[derive(Clone, Debug)]
pub struct Bucket(Root);

#[derive(Clone, Debug)]
pub(super) enum Root {
    Page(u64),
    /// Its only page, in the value of its parent's element; the id is that of the page it is on.
    Inline(u64, Vec<u8>),
}

/// One key of a bucket and its value.
pub type Item = (Vec<u8>, Vec<u8>);

impl Database {
    /// Opens a database and chooses the newest meta page that is whole.
    ///
    /// # Errors
    /// [`Fault::Io`] where it is no readable regular file, [`Fault::NoMeta`] where neither meta page is whole.
    pub fn open(path: &Path) -> Result<Self, Fault> {
        let broken = |error| Fault::Io { path: path.to_owned(), error };
        // Non-blocking: a fifo may stand there, which nobody writes to.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(broken)?;
        let metadata = file.metadata().map_err(broken)?;
        if !metadata.is_file() {
            return Err(broken(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let meta = newest_meta(&file, path, metadata.len())?;
        let pages = meta.high_water.min(metadata.len() / u64::from(meta.page_size));
        Ok(Self { file, path: path.to_owned(), meta, pages })
    }

    /// The meta page that is read from.
    pub fn meta(&self) -> Meta {
        self.meta
    }

    /// The file, for those who read all of it.
    pub(in crate::etcd) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether the transaction that is read from is still the newest: then everything read since [`Database::open`] is of
    /// this one transaction.
    pub fn is_current(&self) -> bool {
        let length = self.file.metadata().map(|metadata| metadata.len());
        length.is_ok_and(|length| newest_meta(&self.file, &self.path, length).is_ok_and(|meta| meta == self.meta))
    }

    /// A bucket by its name; `None` where there is none.
    ///
    /// # Errors
    /// [`Fault::Page`] or [`Fault::Io`] for a page on the way.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, Fault> {
        let root = Bucket(Root::Page(self.meta.root));
        let Some((page, at)) = self.seek(&root, name)? else { return Ok(None) };
        let leaf = page.leaf(at);
        if !leaf.is_bucket {
            return Err(self.fault(page.id, format!("{:?} is a plain key where a bucket belongs", text(name))));
        }
        self.root_in(&page, leaf.value).map(|root| Some(Bucket(root)))
    }

    /// The names of all buckets, in order.
    ///
    /// # Errors
    /// As [`Database::bucket`].
    pub fn buckets(&self) -> Result<Vec<Vec<u8>>, Fault> {
        let mut names = Vec::new();
        self.walk_in(&Bucket(Root::Page(self.meta.root)), |name, _| -> ControlFlow<()> {
            names.push(name.to_owned());
            if names.len() < MAX_BUCKETS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if names.len() == MAX_BUCKETS {
            return Err(self.fault(self.meta.root, format!("it names {MAX_BUCKETS} buckets and more")));
        }
        Ok(names)
    }

    /// The value of a key; `None` where the bucket or the key is not there.
    ///
    /// # Errors
    /// As [`Database::bucket`].
    pub fn get(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        let Some(bucket) = self.bucket(bucket)? else { return Ok(None) };
        let Some((page, at)) = self.seek(&bucket, key)? else { return Ok(None) };
        Ok(Some(page.bytes[page.leaf(at).value].to_vec()))
    }

    /// The last key of a bucket and its value; `None` where it is empty or not there.
    ///
    /// # Errors
    /// As [`Database::bucket`].
    pub fn last(&self, bucket: &[u8]) -> Result<Option<Item>, Fault> {
        let Some(bucket) = self.bucket(bucket)? else { return Ok(None) };
        let mut page = self.root_of(&bucket)?;
        for _ in 0..MAX_DEPTH {
            let Some(last) = page.count.checked_sub(1) else { return Ok(None) };
            if page.kind == Kind::Leaf {
                let leaf = page.leaf(last);
                return Ok(Some((page.bytes[leaf.key].to_vec(), page.bytes[leaf.value].to_vec())));
            }
            page = self.child(&page, last)?;
        }
        Err(self.too_deep(page.id))
    }

    /// Shows every key of a bucket, in order, until `show` ends early. A bucket that is not there has no keys.
    ///
    /// # Errors
    /// As [`Database::bucket`]. What was shown before the error was there.
    pub fn walk<B>(&self, bucket: &[u8], show: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>) -> Result<Option<B>, Fault> {
        let Some(bucket) = self.bucket(bucket)? else { return Ok(None) };
        self.walk_in(&bucket, show)
    }

    fn walk_in<B>(
        &self,
        bucket: &Bucket,
        mut show: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<Option<B>, Fault> {
        let mut last: Option<Vec<u8>> = None;
        let mut id = match &bucket.0 {
            Root::Page(id) => *id,
            Root::Inline(on, bytes) => return Ok(shown(&self.inline(*on, bytes)?, &mut show)),
        };
        let mut window = Window::new(&self.file, self.pages * u64::from(self.meta.page_size));
        // The branches down to the page at hand, each with the child that is being walked.
        let mut path: Vec<(Page, usize)> = Vec::new();
        loop {
            let page = self.page_in(&mut window, id)?;
            if let Some((parent, at)) = path.last() {
                self.fits(parent, *at, &page)?;
            }
            match page.kind {
                Kind::Branch if path.len() == MAX_DEPTH => return Err(self.too_deep(id)),
                Kind::Branch => {
                    let page = page.owned();
                    id = page.branch(0).1;
                    path.push((page, 0));
                    continue;
                }
                Kind::Leaf => {}
            }
            self.follows(&mut last, &page)?;
            if let Some(broken_off) = shown(&page, &mut show) {
                return Ok(Some(broken_off));
            }
            match next(&mut path) {
                Some(child) => id = child,
                None => return Ok(None),
            }
        }
    }

    /// Within a page keys ascend; this is about the one before it, whose last key is kept.
    pub(super) fn follows<B: Deref<Target = [u8]>>(
        &self,
        last: &mut Option<Vec<u8>>,
        page: &Page<B>,
    ) -> Result<(), Fault> {
        let Some(end) = page.count.checked_sub(1) else { return Ok(()) };
        if last.as_deref().is_some_and(|last| last >= page.key(0)) {
            return Err(self.misplaced(page.id));
        }
        let last = last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(page.key(end));
        Ok(())
    }

    /// The leaf element with this very key.
    fn seek(&self, bucket: &Bucket, key: &[u8]) -> Result<Option<(Page, usize)>, Fault> {
        let mut page = self.root_of(bucket)?;
        for _ in 0..MAX_DEPTH {
            let found = page.search(key);
            if page.kind == Kind::Leaf {
                return Ok(found.ok().map(|at| (page, at)));
            }
            // The child whose first key is not above; the first where all are.
            let at = found.unwrap_or_else(|after| after.saturating_sub(1));
            page = self.child(&page, at)?;
        }
        Err(self.too_deep(page.id))
    }

    /// The bucket whose value this is.
    pub(super) fn root_in<B: Deref<Target = [u8]>>(&self, page: &Page<B>, value: Range<usize>) -> Result<Root, Fault> {
        let value = &page.bytes[value];
        let Some(root) = number64(value, 0).filter(|_| value.len() >= HEADER) else {
            return Err(self.fault(page.id, format!("a bucket of {} bytes, {HEADER} are the least", value.len())));
        };
        Ok(if root == 0 { Root::Inline(page.id, value[HEADER..].to_vec()) } else { Root::Page(root) })
    }

    fn root_of(&self, bucket: &Bucket) -> Result<Page, Fault> {
        match &bucket.0 {
            Root::Page(id) => self.page(*id),
            Root::Inline(on, bytes) => self.inline(*on, bytes).map(|page| page.owned()),
        }
    }

    /// A bucket's only page, which is in another.
    pub(super) fn inline<'b>(&self, on: u64, bytes: &'b [u8]) -> Result<Page<&'b [u8]>, Fault> {
        let page = Page::parse(on, bytes).map_err(|what| self.fault(on, format!("an inline bucket: {what}")))?;
        match page.kind {
            Kind::Leaf => Ok(page),
            Kind::Branch => Err(self.fault(on, "an inline bucket is a branch".to_owned())),
        }
    }

    fn child(&self, parent: &Page, at: usize) -> Result<Page, Fault> {
        let (_, id) = parent.branch(at);
        let page = self.page(id)?;
        self.fits(parent, at, &page)?;
        Ok(page)
    }

    /// A child is not empty, and begins where its parent says, or later.
    pub(super) fn fits<B: Deref<Target = [u8]>>(&self, parent: &Page, at: usize, page: &Page<B>) -> Result<(), Fault> {
        if page.count == 0 {
            return Err(self.fault(page.id, format!("it is empty, and page {} names it", parent.id)));
        }
        if page.key(0) < parent.key(at) {
            let what = format!("its first key is below the one that page {} names it by", parent.id);
            return Err(self.fault(page.id, what));
        }
        Ok(())
    }

    /// Reads a page with all that overflows it.
    fn page(&self, id: u64) -> Result<Page, Fault> {
        self.is_there(id)?;
        let size = u64::from(self.meta.page_size);
        let mut bytes = vec![0; self.meta.page_size as usize];
        self.file.read_exact_at(&mut bytes, id * size).map_err(|error| self.unread(id, error))?;
        let run = self.run(id, &bytes)?;
        if run > 1 {
            bytes.resize(usize::try_from(run * size).unwrap_or(usize::MAX), 0);
            let (_, rest) = bytes.split_at_mut(self.meta.page_size as usize);
            self.file.read_exact_at(rest, (id + 1) * size).map_err(|error| self.unread(id, error))?;
        }
        Page::parse(id, bytes).map_err(|what| self.fault(id, what))
    }

    /// The same through a window, for those who read many.
    pub(super) fn page_in<'w>(&self, window: &'w mut Window<'_>, id: u64) -> Result<Page<&'w [u8]>, Fault> {
        self.is_there(id)?;
        let size = u64::from(self.meta.page_size);
        let head = window.get(id * size, self.meta.page_size as usize).map_err(|error| self.unread(id, error))?;
        let run = usize::try_from(self.run(id, head)? * size).unwrap_or(usize::MAX);
        let bytes = window.get(id * size, run).map_err(|error| self.unread(id, error))?;
        Page::parse(id, bytes).map_err(|what| self.fault(id, what))
    }

    pub(super) fn is_there(&self, id: u64) -> Result<(), Fault> {
        // 0 and 1 are the metas.
        if id < 2 || id >= self.pages {
            return Err(self.fault(id, format!("it is named, and pages 2 to {} exist", self.pages.saturating_sub(1))));
        }
        Ok(())
    }

    /// How many pages belong together, by the header of the first.
    pub(super) fn run(&self, id: u64, head: &[u8]) -> Result<u64, Fault> {
        let (flags, overflow) = (number16(head, 8), number32(head, 12));
        let (Some(says), Some(flags), Some(overflow)) = (number64(head, 0), flags, overflow) else {
            return Err(self.fault(id, "it is too short for a page".to_owned()));
        };
        if says != id {
            return Err(self.fault(id, format!("it claims to be page {says}")));
        }
        let run = u64::from(overflow) + 1;
        if u64::from(overflow) >= self.pages - id {
            return Err(self.fault(id, format!("its {overflow} overflow pages reach beyond page {}", self.pages - 1)));
        }
        let most = match flags {
            BRANCH => MAX_BRANCH_RUN,
            LEAF => MAX_RUN,
            // The list of the free ones is as long as it is; it is not read at once.
            _ => u64::MAX,
        };
        let bytes = run * u64::from(self.meta.page_size);
        if bytes > most {
            return Err(
                self.fault(id, format!("it is {bytes} bytes with what overflows it, more than is read ({most})"))
            );
        }
        Ok(run)
    }

    pub(super) fn unread(&self, page: u64, error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.fault(page, "the file ends within it".to_owned()),
            _ => Fault::Io { path: self.path.clone(), error },
        }
    }

    pub(super) fn fault(&self, page: u64, what: String) -> Fault {
        Fault::Page { path: self.path.clone(), page, what }
    }

    fn misplaced(&self, page: u64) -> Fault {
        self.fault(page, "its keys do not follow those of the page before it".to_owned())
    }

    pub(super) fn too_deep(&self, page: u64) -> Fault {
        self.fault(page, format!("it is more than {MAX_DEPTH} pages deep: the pages refer to each other in a cycle"))
    }
}

/// The next child of the branches down to the page at hand, which was walked: the branches that are done are left.
pub(super) fn next(path: &mut Vec<(Page, usize)>) -> Option<u64> {
    loop {
        let (branch, at) = path.last_mut()?;
        *at += 1;
        if *at < branch.count {
            return Some(branch.branch(*at).1);
        }
        path.pop();
    }
}

/// Shows a leaf's keys, until `show` ends early.
fn shown<B: Deref<Target = [u8]>, T>(
    page: &Page<B>,
    show: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<T>,
) -> Option<T> {
    (0..page.count).find_map(|element| {
        let leaf = page.leaf(element);
        show(&page.bytes[leaf.key], &page.bytes[leaf.value]).break_value()
    })
}

/// The newer of the two metas that is whole. The second is one page in: by the first's page size, or, where that one is
/// torn, by the page size under which it is found.
fn newest_meta(file: &File, path: &Path, length: u64) -> Result<Meta, Fault> {
    let at = |offset: u64| -> Result<Result<Meta, String>, Fault> {
        let mut bytes = [0; HEADER + META];
        match file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(parse_meta(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Err(format!("the file ends before it, at {length} bytes")))
            }
            Err(error) => Err(Fault::Io { path: path.to_owned(), error }),
        }
    };
    let zero = at(0)?;
    let sizes = match &zero {
        Ok(meta) => vec![meta.page_size],
        Err(_) => (9..=16).map(|power| 1 << power).collect(),
    };
    let mut one = Err("it was not found".to_owned());
    for size in sizes {
        one = at(u64::from(size))?.and_then(|meta| match meta.page_size == size {
            true => Ok(meta),
            false => Err(format!("it claims pages of {} bytes, but is at {size}", meta.page_size)),
        });
        if one.is_ok() {
            break;
        }
    }
    match (zero, one) {
        (Ok(zero), Ok(one)) => Ok(if one.txid > zero.txid { one } else { zero }),
        (Ok(meta), Err(_)) | (Err(_), Ok(meta)) => Ok(meta),
        (Err(zero), Err(one)) => Err(Fault::NoMeta { path: path.to_owned(), zero, one }),
    }
}
