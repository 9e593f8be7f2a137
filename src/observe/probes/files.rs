//! The files that something was made of: whether they are still the same, and until when they mean the same.

use std::path::{Path, PathBuf};

use crate::observe::credentials::Dates;
use crate::observe::file::{self, Fault, Stamp};

/// What was read, and until when it means the same.
#[derive(Debug, Default)]
pub(super) struct Files {
    read: Vec<(PathBuf, Option<Stamp>)>,
    /// When a certificate among them begins or ceases to be valid, in seconds of the epoch.
    turns: Option<i64>,
}

impl Files {
    /// Reads one. The stamp is from before the reading, so a file that changes meanwhile is read again.
    pub(super) fn read(&mut self, path: &Path, max: u64) -> Result<Vec<u8>, Fault> {
        self.read.push((path.to_owned(), file::stat(path).ok()));
        file::read(path, max).map(|(bytes, _)| bytes)
    }

    /// What these dates say now holds until the next of them.
    pub(super) fn turn_at(&mut self, dates: Dates, now: jiff::Timestamp) {
        let turns = [dates.not_before, dates.not_after, dates.not_after.saturating_add(1)];
        let next = turns.into_iter().filter(|at| *at > now.as_second());
        self.turns = self.turns.into_iter().chain(next).min();
    }

    pub(super) fn are_the_same(&self, now: jiff::Timestamp) -> bool {
        self.turns.is_none_or(|at| now.as_second() < at)
            && self.read.iter().all(|(path, stamp)| file::stat(path).ok() == *stamp)
    }

    pub(super) fn are_settled(&self, now: jiff::Timestamp) -> bool {
        self.read.iter().all(|(_, stamp)| stamp.as_ref().is_none_or(|stamp| stamp.is_settled(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_is_looked_at_again() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        let mut files = Files::default();
        files.turn_at(Dates { not_before: 100, not_after: 300 }, at(200));
        files.turn_at(Dates { not_before: 250, not_after: 400 }, at(200));
        assert!(files.are_the_same(at(249)));
        assert!(!files.are_the_same(at(250)), "the second begins");
        let mut files = Files::default();
        files.turn_at(Dates { not_before: 100, not_after: 300 }, at(200));
        assert!(files.are_the_same(at(299)) && !files.are_the_same(at(300)), "the first ends");
    }
}
