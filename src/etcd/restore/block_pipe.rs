//! Moves bytes from the thread that produces them to the one that writes them: a few blocks of one size, reused.
//!
//! ```text
//!   Pipe (Write) ──full blocks──▶ Blocks::drain
//!        ◀──────empty ones───────
//! ```

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What is written at once.
const BLOCK: usize = 1 << 20;
/// One that is filled, one that is written, and two between them.
const BLOCKS: usize = 4;

/// Where the bytes go in.
pub(super) struct Pipe {
    block: Vec<u8>,
    full: Sender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// Where they come out.
pub(super) struct Blocks {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
}

pub(super) fn new() -> (Pipe, Blocks) {
    let (to_full, full) = channel();
    let (to_empty, empty) = channel();
    // The pipe holds the first one itself.
    for _ in 1..BLOCKS {
        let _ = to_empty.send(Vec::new());
    }
    (Pipe { block: Vec::new(), full: to_full, empty }, Blocks { full, empty: to_empty })
}

impl Blocks {
    /// Shows each block, and how many bytes there were with it, until the other end is gone.
    ///
    /// # Errors
    /// That of `show`.
    pub(super) fn drain(&mut self, mut show: impl FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
        let mut done = 0;
        for mut block in &self.full {
            done += block.len() as u64;
            show(&block, done)?;
            block.clear();
            // Where nothing comes any more, nobody takes it.
            let _ = self.empty.send(block);
        }
        Ok(())
    }
}

/// That nobody takes the bytes any more.
fn gone<T>(_: T) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.flush()?;
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(BLOCK);
        }
        let taken = bytes.get(..BLOCK - self.block.len()).unwrap_or(bytes);
        self.block.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// Hands over what there is.
    fn flush(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            let empty = self.empty.recv().map_err(gone)?;
            self.full.send(std::mem::replace(&mut self.block, empty)).map_err(gone)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(parts: Vec<Vec<u8>>, mut show: impl FnMut(&[u8], u64) -> io::Result<()>) -> [io::Result<()>; 2] {
        let (mut pipe, mut blocks) = new();
        let filled = std::thread::spawn(move || {
            parts.iter().try_for_each(|part| pipe.write_all(part))?;
            pipe.flush()
        });
        let drained = blocks.drain(&mut show);
        drop(blocks);
        [filled.join().unwrap(), drained]
    }

    #[test]
    fn what_goes_in_comes_out_in_blocks_of_one_size() {
        let parts: Vec<Vec<u8>> =
            (0..900usize).map(|n| vec![n as u8; n * n % 40_000 + usize::from(n == 7) * 5_000_000]).collect();
        let (mut out, mut sizes) = (Vec::new(), Vec::new());
        let ended = through(parts.clone(), |block, done| {
            out.extend_from_slice(block);
            sizes.push(block.len());
            assert_eq!(done, out.len() as u64);
            Ok(())
        });
        assert!(ended.iter().all(Result::is_ok) && out == parts.concat());
        assert!(sizes.pop().is_some() && sizes.len() > BLOCKS && sizes.iter().all(|size| *size == BLOCK), "{sizes:?}");
    }

    #[test]
    fn who_fills_it_is_told_when_nobody_takes_it() {
        let [filled, drained] = through(vec![vec![1; BLOCK]; 20], |_, _| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(filled.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(drained.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
