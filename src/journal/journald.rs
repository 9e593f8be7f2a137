//! journald's native protocol: datagrams of structured fields on its socket.
//!
//! No logging crate is used here: they send on a blocking socket, so a journald that is stalled (a full or frozen disk)
//! would stop the agent when it is needed most. This socket never blocks.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The longest value of a field that is sent; a datagram may not grow beyond the socket's buffer (208 KiB by default).
const MAX_VALUE: usize = 16 << 10;

/// syslog's priorities, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
    Debug = 7,
}

/// A connection to journald.
#[derive(Debug)]
pub(super) struct Journald {
    socket: UnixDatagram,
    path: &'static str,
    lost: AtomicU64,
}

impl Journald {
    /// Opens the socket; nothing is sent yet.
    pub(super) fn connect() -> io::Result<Self> {
        Self::at(SOCKET)
    }

    fn at(path: &'static str) -> io::Result<Self> {
        std::fs::metadata(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path, lost: AtomicU64::new(0) })
    }

    /// Sends a line. What journald does not take at once is lost, counted, and the count told with the next line.
    pub(super) fn send(&self, priority: Priority, message: &str, fields: &[(&str, String)]) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let lost = (lost > 0).then(|| ("LOST_LINES", lost.to_string()));
        let datagram = encode(priority, message, fields.iter().cloned().chain(lost.clone()));
        // The path is looked up each time: journald may have been restarted.
        if self.socket.send_to(&datagram, self.path).is_err() {
            let again = lost.and_then(|(_, count)| count.parse::<u64>().ok()).unwrap_or(0);
            self.lost.fetch_add(again + 1, Ordering::Relaxed);
        }
    }
}

/// One entry in the native protocol. Every field goes with its length, so that no value can begin another field.
fn encode<'f>(priority: Priority, message: &str, fields: impl Iterator<Item = (&'f str, String)>) -> Vec<u8> {
    let mut out = format!("PRIORITY={}\nSYSLOG_IDENTIFIER=lastgood\n", priority as u8).into_bytes();
    put(&mut out, "MESSAGE", message);
    for (name, value) in fields {
        put(&mut out, name, &value);
    }
    out
}

fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(&(end as u64).to_le_bytes());
    out.extend_from_slice(&value.as_bytes()[..end]);
    out.push(b'\n');
}

/// Whether stderr is the stream systemd gave this process: JOURNAL_STREAM names its device and inode. The variable alone is
/// inherited by whatever is started from a unit's shell, so it is compared.
pub(super) fn is_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = nix::sys::stat::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_field() {
        let bytes = encode(Priority::Notice, "a\nPRIORITY=0", [("REASON", "b\nX=1".to_owned())].into_iter());
        let mut want = b"PRIORITY=5\nSYSLOG_IDENTIFIER=lastgood\nMESSAGE\n".to_vec();
        want.extend_from_slice(&12u64.to_le_bytes());
        want.extend_from_slice(b"a\nPRIORITY=0\nREASON\n");
        want.extend_from_slice(&5u64.to_le_bytes());
        want.extend_from_slice(b"b\nX=1\n");
        assert_eq!(bytes, want);
    }

    #[test]
    fn a_long_value_is_cut_at_a_character() {
        let mut out = Vec::new();
        put(&mut out, "M", &"ä".repeat(MAX_VALUE));
        assert_eq!(out.len(), 2 + 8 + MAX_VALUE + 1);
        let mut out = Vec::new();
        put(&mut out, "M", &format!("x{}", "ä".repeat(MAX_VALUE)));
        assert_eq!(out.len(), 2 + 8 + MAX_VALUE - 1 + 1);
    }

    #[test]
    fn a_journal_that_takes_nothing_loses_lines_and_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path: &'static str = Box::leak(dir.path().join("socket").display().to_string().into_boxed_str());
        let server = UnixDatagram::bind(path).unwrap();
        let journald = Journald::at(path).unwrap();
        for _ in 0..10_000 {
            journald.send(Priority::Info, "line", &[]);
        }
        assert!(journald.lost.load(Ordering::Relaxed) > 0, "the socket's queue never filled");
        server.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        while server.recv(&mut buffer).is_ok() {}
        journald.send(Priority::Info, "line", &[]);
        let got = server.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..got]).contains("LOST_LINES"));
        assert_eq!(journald.lost.load(Ordering::Relaxed), 0);
    }
}
