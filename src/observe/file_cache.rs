//! A cache of file contents, valid while the stat data stay the same.

use super::file::Stamp;
use crate::sys::clock;

/// It, with the stamps of the files that it was read from.
#[derive(Debug)]
pub(super) struct Kept<T>(Option<(Vec<Stamp>, T)>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Clone> Kept<T> {
    /// Reads only where a stamp is another one than before. The stamps are from before the reading, so a file that changes
    /// meanwhile is read again.
    pub(super) fn get(&mut self, stamps: Vec<Stamp>, read: impl FnOnce() -> T) -> T {
        if let Some((of, value)) = &self.0
            && *of == stamps
        {
            return value.clone();
        }
        let now = clock::now().wall;
        let value = read();
        self.0 = stamps.iter().all(|stamp| stamp.is_settled(now)).then(|| (stamps, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::observe::file;

    #[test]
    fn what_did_not_change_is_not_read_again_and_what_may_change_yet_is() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        write(&one, "1");
        write(&two, "2");
        let stamps = || vec![file::stat(&one).unwrap(), file::stat(&two).unwrap()];
        let mut kept = Kept::default();
        let written = |at| std::fs::File::options().write(true).open(&one).unwrap().set_modified(at).unwrap();
        written(SystemTime::now() + Duration::from_secs(3600));
        assert_eq!(kept.get(stamps(), || 1), 1);
        assert_eq!(kept.get(stamps(), || 2), 2, "it has not settled");
        written(SystemTime::now());
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(kept.get(stamps(), || 3), 3);
        assert_eq!(kept.get(stamps(), || 4), 3);
        write(&two, "22");
        assert_eq!(kept.get(stamps(), || 5), 5);
        assert_eq!(kept.get(stamps()[..1].to_vec(), || 6), 6, "of other files");
    }
}
