//! Damaged snapshots: each is rejected with the damaged page, or is intact in everything that matters.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use super::victim::{PAGE, Victim};
use crate::etcd::snapshot::{Contents, Is, Mistaken, RawCopy, Rejected, Verified, verify};

const SHA256: usize = 32;

impl Victim {
    fn verify(&self, bytes: &[u8], trust: RawCopy) -> Result<Verified, Rejected> {
        fs::write(self.path(), bytes).unwrap();
        verify(&self.path(), trust, &mut |_, _| {})
    }

    fn contents(&self) -> Contents {
        self.verify(&self.whole, RawCopy::Refuse).unwrap().contents
    }

    /// The database alone.
    fn database(&self) -> &[u8] {
        &self.whole[..self.whole.len() - SHA256]
    }

    fn pages(&self) -> u64 {
        (self.database().len() / PAGE) as u64
    }

    /// Flags, count and overflow.
    fn header(&self, page: u64) -> (u16, u16, u32) {
        let at = page as usize * PAGE;
        let word = |at: usize| u16::from_le_bytes(self.whole[at..at + 2].try_into().unwrap());
        (word(at + 8), word(at + 10), u32::from_le_bytes(self.whole[at + 12..at + 16].try_into().unwrap()))
    }

    /// The pages that something names, with what overflows them left out: as the database is read here, from the root.
    fn used(&self) -> Vec<u64> {
        let mut found = vec![self.root()];
        let mut at = 0;
        while let Some(page) = found.get(at).copied() {
            let (flags, count, _) = self.header(page);
            for element in 0..usize::from(count) {
                let header = 16 * (element + 1);
                let place = page as usize * PAGE + header;
                if flags == 1 {
                    found.push(self.long(page, header + 8));
                } else if self.whole[place] == 1 {
                    let numbers = |at: usize| u32::from_le_bytes(self.whole[at..at + 4].try_into().unwrap()) as usize;
                    let value = header + numbers(place + 4) + numbers(place + 8);
                    found.extend(Some(self.long(page, value)).filter(|root| *root != 0));
                }
            }
            at += 1;
        }
        found
    }

    /// Puts the right checksum behind what exists in a meta.
    fn sealed(mut bytes: Vec<u8>, page: u64) -> Vec<u8> {
        let at = page as usize * PAGE + 16;
        let sum = bytes[at..at + 56]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        bytes[at + 56..at + 64].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// As a raw copy, with one number of the newest meta replaced and its checksum right.
    fn with_meta(&self, at: usize, number: &[u8]) -> Vec<u8> {
        let mut bytes = Self::sealed(self.with(self.newest(), at, number), self.newest());
        bytes.truncate(self.database().len());
        bytes
    }
}

fn is_cut_off(rejected: &Rejected) -> bool {
    matches!(rejected, Rejected::Mistaken(Mistaken { is: Is::CutOff { .. } | Is::Empty, .. }))
}

/// Rejected with the page.
fn says(result: Result<Verified, Rejected>, page: u64, words: &str) {
    let said = result.map(|verified| verified.contents).unwrap_err().to_string();
    assert!(said.contains(&format!("page {page}: ")) && said.contains(words), "{said}; not page {page}: {words}");
}

/// Rejected with how much is missing, where a meta tells it; else with the page.
fn says_cut(result: Result<Verified, Rejected>, page: u64, words: &str) {
    if !result.as_ref().is_err_and(is_cut_off) {
        says(result, page, words);
    }
}

#[test]
fn a_snapshot_that_is_cut_off_names_the_first_page_that_is_missing() {
    let victim = Victim::new();
    for pages in 2..victim.pages() {
        let cut = &victim.database()[..pages as usize * PAGE];
        let trailed = [cut, &victim.whole[victim.database().len()..]].concat();
        for trust in [RawCopy::Refuse, RawCopy::Allow] {
            says_cut(victim.verify(cut, trust), pages, "the file ends within or before it");
            says_cut(victim.verify(&cut[..cut.len() - 1], trust), pages - 1, "the file ends within or before it");
            says_cut(victim.verify(&trailed, trust), pages, "the file ends within or before it");
        }
    }
    for length in [0, 31, 32, 79] {
        says_cut(victim.verify(&victim.whole[..length], RawCopy::Allow), 0, "the file ends before it");
    }
    // The first meta alone.
    says_cut(victim.verify(&victim.whole[..PAGE], RawCopy::Allow), 1, "the file ends within or before it");
}

#[test]
fn a_trailer_that_is_damaged_or_missing_is_said() {
    let victim = Victim::new();
    let refused = victim.verify(victim.database(), RawCopy::Refuse).unwrap_err();
    assert!(matches!(refused, Rejected::NoTrailer { .. }), "{refused}");
    assert_eq!(victim.verify(victim.database(), RawCopy::Allow).unwrap().contents, victim.contents());
    for at in victim.database().len()..victim.whole.len() {
        let mut flipped = victim.whole.clone();
        flipped[at] ^= 1;
        for trust in [RawCopy::Refuse, RawCopy::Allow] {
            let rejected = victim.verify(&flipped, trust).unwrap_err();
            assert!(matches!(rejected, Rejected::Trailer { .. }), "{rejected}");
        }
    }
    for length in [1, 31] {
        let cut = &victim.whole[..victim.whole.len() - length];
        let refused = victim.verify(cut, RawCopy::Refuse).unwrap_err();
        assert!(is_cut_off(&refused), "{refused}");
    }
}

#[test]
fn what_is_packed_or_something_else_is_no_database() {
    let victim = Victim::new();
    let mut gzip = Command::new("gzip").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = gzip.stdin.take().unwrap();
    let whole = victim.whole.clone();
    let written = std::thread::spawn(move || stdin.write_all(&whole));
    let packed = gzip.wait_with_output().unwrap().stdout;
    written.join().unwrap().unwrap();
    let verified = |bytes: &[u8]| victim.verify(bytes, RawCopy::Allow).unwrap_err();
    let rejected = verified(&packed);
    assert!(matches!(&rejected, Rejected::Mistaken(Mistaken { is: Is::Other(_), .. })), "{rejected}");
    let rejected = verified(&vec![0; 1 << 20]);
    assert!(matches!(&rejected, Rejected::Mistaken(Mistaken { is: Is::Zeroes, .. })), "{rejected}");
    let rejected = verified(&vec![0xff; (1 << 20) + 32]).to_string();
    assert!(rejected.contains("is no bbolt database: page 0: its magic number is"), "{rejected}");
    // A database of something else.
    let root = victim.root();
    let name = victim.whole[root as usize * PAGE..][..PAGE].windows(3).position(|name| name == b"key").unwrap();
    let rejected = victim.verify(&victim.with(root, name, b"kez")[..victim.database().len()], RawCopy::Allow);
    let said = rejected.unwrap_err().to_string();
    assert!(said.contains("is no database of etcd's: it has no bucket \"key\""), "{said}");
}

/// One bit of every byte of every header and of every element, of every page that is in use. With its trailer it is
/// always rejected. Without, what is not rejected holds the same, but for two places that nothing in the file speaks
/// against: the lengths of a page's last key and value, behind which nothing is, and a branch's child, where an earlier
/// version of it is left over in a free page.
#[test]
fn a_bit_that_flips_in_any_structure_is_found() {
    let victim = Victim::new();
    let whole = victim.contents();
    let (mut flipped, mut found) = (0, 0);
    for (nth, page) in victim.used().into_iter().enumerate() {
        let (flags, count, _) = victim.header(page);
        let mut bytes = victim.whole.clone();
        for at in 0..16 * (usize::from(count) + 1) {
            // Each byte of the first pages, every seventh of the many that are like them.
            if nth > 12 && (at + nth) % 7 != 0 {
                continue;
            }
            let place = page as usize * PAGE + at;
            let bit = 1 << ((at + nth) % 8);
            bytes[place] ^= bit;
            flipped += 1;
            match victim.verify(&bytes[..victim.database().len()], RawCopy::Allow) {
                Err(rejected) => {
                    let said = rejected.to_string();
                    assert!(said.contains("page ") || said.contains("no bucket"), "page {page}, byte {at}: {said}");
                    found += 1;
                }
                Ok(verified) => {
                    let last_length = flags == 2 && at >= 16 * usize::from(count) + 8;
                    let child = flags == 1 && at >= 16 && at % 16 >= 8;
                    let alike = verified.contents == whole;
                    assert!(alike || last_length || child, "page {page}, byte {at}, bit {bit}");
                    assert!(
                        victim.verify(&bytes, RawCopy::Refuse).is_err(),
                        "page {page}, byte {at}: with its trailer"
                    );
                }
            }
            bytes[place] ^= bit;
        }
    }
    assert!(flipped > 1000 && found * 10 > flipped * 8, "{found} of {flipped}");
}

#[test]
fn a_meta_page_that_is_torn_is_made_up_for_and_two_are_named() {
    let victim = Victim::new();
    let newest = victim.newest() as usize;
    for at in (16..16 + 64).step_by(3) {
        let mut bytes = victim.database().to_vec();
        bytes[newest * PAGE + at] ^= 0x40;
        // The other one is of the same pages: both are written into a snapshot.
        assert_eq!(victim.verify(&bytes, RawCopy::Allow).unwrap().contents, victim.contents(), "byte {at}");
        bytes[(1 - newest) * PAGE + at] ^= 0x40;
        says(victim.verify(&bytes, RawCopy::Allow), 0, "page 1: ");
    }
}

#[test]
fn pages_that_are_named_twice_or_in_a_circle_are_named() {
    let victim = Victim::new();
    let (branch, leaf) = victim.branch();
    let raw = |page: u64, at: usize, number: u64| {
        let bytes = victim.with(page, at, &number.to_le_bytes());
        victim.verify(&bytes[..victim.database().len()], RawCopy::Allow)
    };
    says(raw(branch, 24, branch), branch, "is in use already");
    says(raw(branch, 40, leaf), leaf, "is in use already");
    says(raw(branch, 24, victim.root()), victim.root(), "is in use already");
    for child in [0, 1, victim.pages(), 1 << 40, u64::MAX] {
        says(raw(branch, 24, child), child, "it is named, and pages 2 to");
    }
    // The root bucket's own, in the meta.
    for root in [0u64, 1, 1 << 50] {
        says(victim.verify(&victim.with_meta(32, &root.to_le_bytes()), RawCopy::Allow), root, "it is named");
    }
    let wrong = victim.verify(&victim.with_meta(32, &leaf.to_le_bytes()), RawCopy::Allow);
    says(wrong, leaf, "is a plain key where a bucket belongs");
}

#[test]
fn a_high_water_mark_that_lies_reads_nothing_that_is_not_there() {
    let victim = Victim::new();
    let pages = victim.pages();
    for mark in [pages + 1, 1 << 40, u64::MAX] {
        let bytes = victim.with_meta(16 + 40, &mark.to_le_bytes());
        says_cut(victim.verify(&bytes, RawCopy::Allow), pages, "the file ends within or before it");
    }
    for mark in [0, 1, 2, 3, pages / 2] {
        let bytes = victim.with_meta(16 + 40, &mark.to_le_bytes());
        let said = victim.verify(&bytes, RawCopy::Allow).unwrap_err().to_string();
        assert!(said.contains("page "), "{mark}: {said}");
    }
}

/// etcd keeps no list; what bbolt wrote with one is read nevertheless.
#[test]
fn a_list_of_free_pages_is_compared_with_what_is_in_use() {
    let victim = Victim::new();
    let (id, used) = (victim.pages(), victim.used());
    let mut covered = vec![id];
    for page in &used {
        covered.extend(*page..=*page + u64::from(victim.header(*page).2));
    }
    let free: Vec<u64> = (2..id).filter(|page| !covered.contains(page)).collect();
    assert!(!free.is_empty());
    let listed = |free: &[u64], count: u16, first: &[u64]| {
        let mut bytes = victim.with_meta(16 + 32, &id.to_le_bytes());
        let at = victim.newest() as usize * PAGE;
        bytes[at + 16 + 40..at + 16 + 48].copy_from_slice(&(id + 1).to_le_bytes());
        let mut bytes = Victim::sealed(bytes, victim.newest());
        let mut page = id.to_le_bytes().to_vec();
        page.extend([0x10, 0, count as u8, (count >> 8) as u8, 0, 0, 0, 0]);
        page.extend(first.iter().chain(free).flat_map(|page| page.to_le_bytes()));
        page.resize(PAGE, 0);
        bytes.extend(page);
        victim.verify(&bytes, RawCopy::Allow)
    };
    let count = free.len() as u16;
    let verified = listed(&free, count, &[]).unwrap();
    assert_eq!(verified.contents.hash, victim.contents().hash);
    assert_eq!(verified.contents.in_use, victim.contents().in_use + PAGE as u64);
    assert!(listed(&free, 0xffff, &[u64::from(count)]).is_ok(), "counted before the list");
    says(listed(&free[1..], count - 1, &[]), free[0], "nothing names it, and it is not listed as free");
    says(listed(&[&free[..], &[used[1]]].concat(), count + 1, &[]), used[1], "is in use or listed twice");
    says(listed(&[&free[..], &free[..1]].concat(), count + 1, &[]), free[0], "is in use or listed twice");
    says(listed(&[&free[..], &[1]].concat(), count + 1, &[]), id, "it lists page 1 as free");
    says(listed(&free, 600, &[]), id, "600 free pages do not fit");
    says(listed(&free, 0xffff, &[1 << 60]), id, "free pages do not fit");
    let other = victim.with_meta(16 + 32, &used[1].to_le_bytes());
    says(victim.verify(&other, RawCopy::Allow), used[1], "the meta names it as the freelist");
}

/// Peak memory of this process since it was last asked for, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write("/proc/self/clear_refs", "5").unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A page run as large as is read, a file of 300 GB that is nearly all hole, and elements on top of each other.
#[test]
fn hostile_sizes_take_no_more_memory_than_real_ones() {
    let victim = Victim::new();
    let (_, leaf) = victim.branch();
    let file = |bytes: &[u8], length: u64| {
        fs::write(victim.path(), bytes).unwrap();
        let file = fs::OpenOptions::new().write(true).open(victim.path()).unwrap();
        file.set_len(length).unwrap();
        // Otherwise the zeroes at its end are what is named.
        file.write_all_at(&[1], length - 1).unwrap();
        verify(&victim.path(), RawCopy::Allow, &mut |_, _| {})
    };
    peak();
    let before = peak();
    let all = (300u64 << 30) / PAGE as u64;
    says(file(&victim.with_meta(16 + 40, &all.to_le_bytes()), 300 << 30), 1 << 26, "more than is checked");

    let pages = (100u64 << 20) / PAGE as u64;
    let mut bytes = victim.with_meta(16 + 40, &pages.to_le_bytes());
    let at = leaf as usize * PAGE;
    bytes[at + 12..at + 16].copy_from_slice(&(13_000u32).to_le_bytes());
    says(file(&bytes, 100 << 20), leaf, "more than is read");
    bytes[at + 12..at + 16].copy_from_slice(&(12_000u32).to_le_bytes());
    let said = file(&bytes, 100 << 20).unwrap_err().to_string();
    assert!(said.contains("in use already"), "its run goes over the others: {said}");

    // 4000 values of 40 MB each, all in the same place.
    bytes[at + 10..at + 12].copy_from_slice(&4000u16.to_le_bytes());
    for element in 0..4000usize {
        let place = at + 16 * (element + 1);
        let numbers = [0, 70_000 - 16 * element as u32 + 8 * element as u32, 8, 40 << 20];
        bytes[place..place + 16].copy_from_slice(&numbers.map(u32::to_le_bytes).concat());
    }
    says(file(&bytes, 100 << 20), leaf, "overlaps one before it");
    // The largest run of pages that is read takes 49 MB; a size that is believed would take 300 GB.
    let took = peak().saturating_sub(before);
    assert!(took < 80 << 20, "{took}");
}
