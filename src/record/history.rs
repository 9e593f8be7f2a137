//! history.jsonl: the events, one per line, for `history` and `explain`.
//!
//! A line is `{"sum":"8 hex digits","event":{…}}`; the sum covers the bytes of the event. A line that a crash tore is
//! found by its missing end or its sum, reported to readers, and cut off before the next line is written. A line of a
//! later version begins with `{"version":N,`; while there is one, this program appends nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Finding, Guard, Store};
use crate::model::{ComponentId, Digest, Event, Format, NewerFile, lift};
use crate::sys::files;

/// When the history is this long a new file is begun, in bytes: a year of a node where something happens every hour.
/// One earlier file is kept.
const ROTATE_AT: u64 = 8 << 20;

/// The format of a line. The first version does not name itself.
pub(super) const FORMAT: Format = Format { key: "event", versions: &["the event and its sum"], lift: lift::nothing };

/// What was read of the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The newest events that were asked for, the oldest of them first.
    pub events: Vec<Event>,
    /// What could not be read.
    pub damage: Vec<Finding>,
}

impl Store {
    fn history_path(&self) -> PathBuf {
        self.path().join("history.jsonl")
    }

    fn old_history_path(&self) -> PathBuf {
        self.path().join("history.jsonl.old")
    }

    /// The newest `limit` events, of one component or of all.
    pub fn history(&self, of: Option<&ComponentId>, limit: usize) -> History {
        let mut history = History::default();
        for path in [self.old_history_path(), self.history_path()] {
            // Twice the size at which it is rotated: a file that could not be rotated is still read.
            let bytes = match files::read_bounded(&path, 2 * ROTATE_AT) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    history.damage.push(Finding { path, sentence: error.to_string() });
                    continue;
                }
                Ok(bytes) => bytes,
            };
            let (mut unreadable, mut newer) = (0, 0);
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                match decode(line) {
                    Some(event) if of.is_none_or(|id| event.component.as_ref() == Some(id)) => {
                        history.events.push(event);
                    }
                    Some(_) => {}
                    None if version_of(line).is_some() => newer += 1,
                    None => unreadable += 1,
                }
            }
            if newer > 0 {
                let sentence = format!("has {newer} lines of a newer lastgood that this one does not understand");
                history.damage.push(Finding::new(&path, sentence));
            }
            if unreadable > 0 {
                history.damage.push(Finding::new(&path, format!("has {unreadable} damaged lines; they are skipped")));
            }
        }
        let surplus = history.events.len().saturating_sub(limit);
        history.events.drain(..surplus);
        history
    }
}

impl Guard {
    /// Appends events and syncs them.
    ///
    /// # Errors
    /// When they cannot be written: none of them is in the file then, as far as that can still be brought about. Never a
    /// reason to stop.
    pub fn append<'a>(&self, events: impl IntoIterator<Item = &'a Event>) -> io::Result<()> {
        // The journal has them all the same.
        if self.newer_files().iter().any(|newer| [self.history_path(), self.old_history_path()].contains(&newer.path)) {
            return Ok(());
        }
        let mut lines = Vec::new();
        for event in events {
            encode(event, &mut lines)?;
        }
        self.append_lines(&lines, ROTATE_AT)
    }

    fn append_lines(&self, lines: &[u8], rotate_at: u64) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.history_path();
        let full = files::standing(&path)?.is_some_and(|m| m.len() > 0 && m.len() + lines.len() as u64 > rotate_at);
        if full {
            files::rename(&path, &self.old_history_path())?;
        }
        let mut options = OpenOptions::new();
        let open = options.read(true).append(true).create(true).mode(0o600).open(&path);
        let mut file = open.map_err(files::named("open", &path))?;
        let end = cut_torn_line(&mut file).map_err(files::named("repair", &path))?;
        let written = file.write_all(lines).and_then(|()| file.sync_data());
        if written.is_err() {
            // Half a line would be cut by the next append anyway; this spares the reader.
            let _ = file.set_len(end);
        }
        written.map_err(files::named("write to", &path))?;
        if end == 0 { files::fsync_dir(self.path()) } else { Ok(()) }
    }
}

/// Cuts off what follows the last line's end, and tells how long the file is then.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = vec![0; 64 << 10];
    while end > 0 {
        let size = end.min(block.len() as u64);
        file.seek(SeekFrom::Start(end - size))?;
        let part = &mut block[..usize::try_from(size).unwrap_or(0)];
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            end = end - size + at as u64 + 1;
            break;
        }
        end -= size;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(end)
}

fn encode(event: &Event, lines: &mut Vec<u8>) -> io::Result<()> {
    let event = serde_json::to_string(event).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    writeln!(lines, "{{\"sum\":\"{}\",\"event\":{event}}}", sum(event.as_bytes()))
}

/// The event of a line, of a later version as well where this program understands it.
fn decode(line: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(line).ok()?;
    let line = version_of(line).and_then(|version| text.strip_prefix(&format!("{{\"version\":{version},")));
    let rest = line.or_else(|| text.strip_prefix('{'))?.strip_prefix("\"sum\":\"")?;
    let (expected, rest) = rest.split_at_checked(8)?;
    let event = rest.strip_prefix("\",\"event\":")?.strip_suffix('}')?;
    if sum(event.as_bytes()) != expected {
        return None;
    }
    serde_json::from_str(event).ok()
}

/// The version of a line that a newer lastgood wrote.
fn version_of(line: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("{\"version\":")?;
    rest.split(',').next()?.parse().ok().filter(|version| FORMAT.is_newer(*version))
}

/// The files of the history that a newer lastgood wrote to.
pub(super) fn newer(store: &Store) -> Vec<NewerFile> {
    let version = |path: &Path| {
        let bytes = files::read_bounded(path, 2 * ROTATE_AT).ok()?;
        bytes.split(|byte| *byte == b'\n').filter_map(version_of).max()
    };
    let paths = [store.history_path(), store.old_history_path()].into_iter();
    paths.filter_map(|path| Some(NewerFile { version: version(&path)?, path, known: FORMAT.version() })).collect()
}

/// The first eight digits of the SHA-256: for finding damage, not for keeping anybody out.
fn sum(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::event::EventKind;

    fn event(n: u32, component: &str) -> Event {
        Event {
            at: "2026-11-22T18:30:00Z".parse().unwrap(),
            kind: EventKind::State,
            component: Some(ComponentId::system(component)),
            generation: Some(n),
            from: Some("Steady(generation 1)".into()),
            to: format!("Probation(generation {n})"),
            because: "its manifest changed\nand a line break".into(),
        }
    }

    fn guard() -> (tempfile::TempDir, Guard) {
        let dir = tempfile::tempdir().unwrap();
        let guard = Store::at(dir.path()).unwrap().lock().unwrap();
        (dir, guard)
    }

    #[test]
    fn what_was_told_is_read_back_filtered_and_limited() {
        let (_dir, guard) = guard();
        for n in 1..=3 {
            guard.append([&event(n, "etcd"), &event(n, "kube-apiserver")]).unwrap();
        }
        let all = guard.history(None, 100);
        assert_eq!((all.events.len(), all.damage), (6, vec![]));
        let etcd = guard.history(Some(&ComponentId::system("etcd")), 2);
        assert_eq!(etcd.events, [event(2, "etcd"), event(3, "etcd")]);
    }

    #[test]
    fn a_torn_last_line_is_told_to_the_reader_and_cut_by_the_next_append() {
        let (dir, guard) = guard();
        guard.append([&event(1, "etcd"), &event(2, "etcd")]).unwrap();
        let path = dir.path().join("history.jsonl");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 7]).unwrap();
        let torn = guard.history(None, 10);
        assert_eq!((torn.events, torn.damage.len()), (vec![event(1, "etcd")], 1));
        guard.append([&event(3, "etcd")]).unwrap();
        let mended = guard.history(None, 10);
        assert_eq!((mended.events, mended.damage), (vec![event(1, "etcd"), event(3, "etcd")], vec![]));
    }

    #[test]
    fn a_history_without_any_line_end_is_cut_whole() {
        let (dir, guard) = guard();
        fs::write(dir.path().join("history.jsonl"), vec![b'x'; 200_000]).unwrap();
        guard.append([&event(1, "etcd")]).unwrap();
        assert_eq!(guard.history(None, 10).events, [event(1, "etcd")]);
    }

    #[test]
    fn a_damaged_line_in_the_middle_costs_itself_only() {
        let (dir, guard) = guard();
        guard.append([&event(1, "etcd"), &event(2, "etcd"), &event(3, "etcd")]).unwrap();
        let path = dir.path().join("history.jsonl");
        let text = fs::read_to_string(&path).unwrap().replacen("Probation(generation 2)", "Probation(generation 9)", 1);
        fs::write(&path, text).unwrap();
        let history = guard.history(None, 10);
        assert_eq!(history.events, [event(1, "etcd"), event(3, "etcd")]);
        assert!(history.damage[0].sentence.contains("1 damaged line"));
    }

    #[test]
    fn a_long_history_is_rotated_and_the_one_before_is_still_read() {
        let (dir, guard) = guard();
        for n in 1..=9 {
            let mut line = Vec::new();
            encode(&event(n, "etcd"), &mut line).unwrap();
            guard.append_lines(&line, 3 * line.len() as u64).unwrap();
        }
        assert!(dir.path().join("history.jsonl.old").exists());
        let numbers: Vec<_> = guard.history(None, 100).events.iter().filter_map(|e| e.generation).collect();
        assert_eq!(numbers, [4, 5, 6, 7, 8, 9]);
    }
}
