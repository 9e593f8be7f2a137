//! A window of the file in memory: consecutive pages are read at once, and the window grows as long as the access is
//! sequential. Bytes that are in it already are not read again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What is read for a page that is elsewhere: it and some of its neighbours.
const LEAST: usize = 16 << 10;
/// What is read at most beyond what was asked for.
const MOST: usize = 512 << 10;

pub(super) struct Window<'a> {
    file: &'a File,
    /// Where the file ends; beyond that nothing is read ahead.
    length: u64,
    start: u64,
    /// Of these, what is held; what is behind it is room that was used before, so that it need not be cleared again.
    bytes: Vec<u8>,
    held: usize,
    ahead: usize,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a File, length: u64) -> Self {
        Self { file, length, start: 0, bytes: Vec::new(), held: 0, ahead: LEAST }
    }

    /// Some bytes of the file; an error of the kind `UnexpectedEof` where it ends within them.
    pub(super) fn get(&mut self, start: u64, length: usize) -> io::Result<&[u8]> {
        if !self.holds(start, length) {
            self.fill(start, length)?;
        }
        let at = (start - self.start) as usize;
        self.bytes
            .get(..self.held)
            .and_then(|held| held.get(at..at + length))
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn holds(&self, start: u64, length: usize) -> bool {
        start >= self.start && start + length as u64 <= self.start + self.held as u64
    }

    fn fill(&mut self, start: u64, length: usize) -> io::Result<()> {
        let end = self.start + self.held as u64;
        let follows = start >= self.start && start <= end;
        self.ahead = if follows { (self.ahead * 2).min(MOST) } else { LEAST };
        let most = usize::try_from(self.length.saturating_sub(start)).unwrap_or(usize::MAX);
        let wanted = length.max(self.ahead.min(most));
        let from = (start.saturating_sub(self.start) as usize).min(self.held);
        let kept = if follows { from..self.held } else { 0..0 };
        let count = kept.len();
        // A large run is rare: its memory is not kept for the pages after it.
        if self.bytes.capacity() > wanted.max(MOST) {
            self.bytes = self.bytes.get(kept).unwrap_or_default().to_vec();
        } else {
            self.bytes.copy_within(kept, 0);
        }
        if self.bytes.len() < wanted {
            self.bytes.reserve_exact(wanted - self.bytes.len());
            self.bytes.resize(wanted, 0);
        }
        (self.start, self.held) = (start, 0);
        let rest = self.bytes.get_mut(count..wanted).unwrap_or_default();
        self.file.read_exact_at(rest, start + count as u64)?;
        self.held = wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_for_is_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..3_000_000u32).map(|at| ((at * 7) >> 5) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        let mut window = Window::new(&file, bytes.len() as u64);
        let mut at = 1usize;
        for step in [1, 4096, 4096, 4096, 70_000, 900_000, 5, 2_000_000, 1, 512 << 10, 1 << 20] {
            for length in [1, 16, 4096, 100_000, 1_200_000] {
                let asked = window.get(at as u64, length);
                match bytes.get(at..at + length) {
                    Some(holds) => assert!(asked.unwrap() == holds, "{at} {length}"),
                    None => assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
                }
            }
            at = (at + step) % bytes.len();
        }
    }
}
