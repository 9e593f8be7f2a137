//! Gives the keys in the configuration files their new names: first a plan, which `--dry-run` prints, then the write.
//!
//! ```text
//!   files ──read──▶ rewrite ──▶ the same values? no old name left? ──▶ Migration ──the same bytes still?──▶ one rename
//! ```

use std::io;
use std::path::{Path, PathBuf};

use super::keys::Keys;
use super::load::{DEFAULT_FILE, MAX_BYTES, Trouble, candidates, merge, read};
use super::rewrite::{Rewritten, rewrite};
use super::{Loaded, Mistake, Mistakes};
use crate::sys::files::{self, Attributes};

pub use super::rewrite::{Change, Kind};

/// What becomes of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The file.
    pub file: PathBuf,
    /// Its text.
    pub before: String,
    /// Its text with the new names.
    pub after: String,
    /// The names that differ, in the order of the file; none where nothing has to be done.
    pub changes: Vec<Change>,
}

/// The files that a configuration consists of; `config` is the first of them where the operator named it.
///
/// # Errors
/// When they cannot be listed.
pub fn files(config: Option<&Path>) -> Result<Vec<PathBuf>, Mistakes> {
    let first = config.unwrap_or(Path::new(DEFAULT_FILE));
    let mut mistakes = Vec::new();
    let mut files = candidates(first, &mut mistakes);
    // Nobody needs one, but what the operator names has to be there.
    files.retain(|file| config.is_some() || file != first || !matches!(file.try_exists(), Ok(false)));
    if mistakes.is_empty() { Ok(files) } else { Err(Mistakes(mistakes)) }
}

/// Plans each of these files; nothing is written.
///
/// # Errors
/// What keeps a file from being rewritten: it cannot be read, is no TOML, or gives a key under both of its names. Other
/// mistakes keep nothing from it, and stay.
pub fn plan(files: &[PathBuf], keys: Keys) -> Result<Vec<Migration>, Mistakes> {
    let mut mistakes = Vec::new();
    let mut plans = Vec::new();
    for file in files {
        let planned = match read(file) {
            Ok(text) => migration(file, text, keys),
            Err(Trouble::Io(error)) => Err(vec![Mistake::unreadable(file.clone(), &error, "")]),
            Err(Trouble::NotOurs(what)) => Err(vec![Mistake::of_file(file.clone(), what)]),
        };
        match planned {
            Ok(plan) => plans.push(plan),
            Err(found) => mistakes.extend(found),
        }
    }
    if mistakes.is_empty() { Ok(plans) } else { Err(Mistakes(mistakes)) }
}

fn migration(file: &Path, before: String, keys: Keys) -> Result<Migration, Vec<Mistake>> {
    let (was, mistakes) = alone(file, &before, keys);
    // A mistake without a key is one of TOML.
    let in_the_way = |mistake: &Mistake| mistake.key.is_none() || mistake.also.is_some();
    let blocked: Vec<Mistake> = mistakes.iter().filter(|mistake| in_the_way(mistake)).cloned().collect();
    if !blocked.is_empty() {
        return Err(blocked);
    }
    let Rewritten { text: after, changes } = rewrite(&before);
    let (is, left) = alone(file, &after, keys);
    if is.settings != was.settings || !is.old_names.is_empty() || left.len() != mistakes.len() {
        let first = was.old_names.first();
        let what = match first {
            Some(old) => {
                format!("is written so that {} cannot be renamed to {} in place: do it by hand", old.old, old.new)
            }
            None => "is written so that its tables cannot be renamed in place: do it by hand".to_owned(),
        };
        return Err(vec![Mistake { line: first.map(|old| old.line), ..Mistake::of_file(file.to_owned(), what) }]);
    }
    Ok(Migration { file: file.to_owned(), before, after, changes })
}

/// What one file says, without any other.
fn alone(file: &Path, text: &str, keys: Keys) -> (Loaded, Vec<Mistake>) {
    let (mut loaded, mut mistakes) = (Loaded::new(keys), Vec::new());
    merge(file, text, &mut loaded, &mut mistakes);
    (loaded, mistakes)
}

impl Migration {
    /// Writes the file: whole or not at all, with its owner, mode and labels. A link stays one, and its target is written.
    ///
    /// # Errors
    /// When that fails, or somebody else has changed the file since it was read; the old file is there then.
    pub fn apply(&self) -> io::Result<()> {
        self.write().map_err(files::named("rewrite", &self.file))
    }

    fn write(&self) -> io::Result<()> {
        let target = self.file.canonicalize()?;
        let same = files::read_bounded(&target, MAX_BYTES)? == self.before.as_bytes();
        let changed = || io::Error::other("it has changed since it was read, and is left as it is; try again");
        let attributes = Attributes::of_standing(&target)?.filter(|_| same).ok_or_else(changed)?;
        files::replace(files::dir_of(&target), &target, self.after.as_bytes(), &attributes)
    }
}
