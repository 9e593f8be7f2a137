//! `/proc`: processes, their sockets, and who listens. A process may end between two reads; what can no longer be read
//! is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use super::clock;
use crate::model::observation::{ProcessState, Work};

/// The clock of `/proc/PID/stat`, in ticks a second, where the system does not tell: it has been 100 on every Linux.
const TICKS: u64 = 100;

/// No more file descriptors than this are looked through to find whose a socket is: a crowded node has some thousands.
const MAX_DESCRIPTORS: usize = 200_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub uid: u32,
    /// Its command line.
    pub args: Vec<String>,
}

impl Process {
    /// The last part of its program's name.
    pub fn program(&self) -> &str {
        self.args.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program))
    }

    /// The value of a flag, as `--name=value` or `--name value`; the last one counts.
    pub fn flag(&self, name: &str) -> Option<String> {
        flag(&self.args, name)
    }
}

/// The value of a flag among words, as `--name=value` or `--name value`; the last one counts.
pub fn flag(words: &[String], name: &str) -> Option<String> {
    let mut found = None;
    for (at, word) in words.iter().enumerate() {
        let Some(rest) = word.strip_prefix("--").and_then(|word| word.strip_prefix(name)) else { continue };
        if let Some(value) = rest.strip_prefix('=') {
            found = Some(value.to_owned());
        } else if rest.is_empty() {
            found = words.get(at + 1).cloned();
        }
    }
    found
}

/// Every process that has a command line: no kernel threads, no zombies.
pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(process).collect()
}

/// One process, if it lives and has a command line.
pub fn process(pid: i32) -> Option<Process> {
    let args = command_line(pid)?;
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    Some(Process { pid, uid, args })
}

/// A process' command line.
pub fn command_line(pid: i32) -> Option<Vec<String>> {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let raw = raw.strip_suffix(b"\0").unwrap_or(&raw);
    if raw.is_empty() {
        return None;
    }
    Some(raw.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// When a process started, on the boot clock: field 22 of its stat.
pub fn started(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(of_ticks(stat_field(&stat, 22)?.parse().ok()?))
}

/// A field of a stat by its number in proc(5), from 3 on: counted behind the closing parenthesis, since the program's name
/// before it may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)
}

fn of_ticks(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|hz| u64::try_from(hz).ok());
    let per_second = per_second.filter(|hz| *hz > 0).unwrap_or(TICKS);
    Duration::from_secs(ticks / per_second) + Duration::from_secs(1) * (ticks % per_second) as u32 / per_second as u32
}

/// What a process is at now.
pub fn work(pid: i32) -> Option<Work> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = |number| stat_field(&stat, number).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let cpu = of_ticks(ticks(14) + ticks(15));
    // Another owner's may not be read without its consent; the processor time then has to do.
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let bytes =
        |line: &str| line.strip_prefix("read_bytes: ").or(line.strip_prefix("write_bytes: "))?.parse::<u64>().ok();
    let io = io.lines().filter_map(bytes).sum();
    Some(Work { state: state(pid, &stat)?, cpu, io, at: clock::since_boot() })
}

/// The state of a process' threads.
pub fn process_state(pid: i32) -> Option<ProcessState> {
    state(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn state(pid: i32, stat: &str) -> Option<ProcessState> {
    if let "T" | "t" = stat_field(stat, 3)? {
        return Some(ProcessState::Stopped);
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let stats: Vec<String> = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok()).collect();
    let any = |state| stats.iter().any(|stat| stat_field(stat, 3) == Some(state));
    Some(match (any("D"), any("R")) {
        (true, _) => ProcessState::WaitsForDisk,
        (false, true) => ProcessState::AtWork,
        (false, false) => ProcessState::Runs,
    })
}

/// Whether a process lives in our own PID namespace: one of a nested container is another node's business.
pub fn in_our_namespace(pid: i32) -> bool {
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/pid")).ok();
    match (namespace("self"), namespace(&pid.to_string())) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => true,
    }
}

/// The binary a process runs, and whether the file of that name is still the one it runs.
pub fn binary(pid: i32) -> Option<(PathBuf, BinaryOnDisk)> {
    let link = format!("/proc/{pid}/exe");
    let path = fs::read_link(&link).ok()?;
    let named = path.to_str()?.trim_end_matches(" (deleted)");
    let running = fs::metadata(&link).ok()?;
    let same = fs::metadata(named).is_ok_and(|disk| (disk.dev(), disk.ino()) == (running.dev(), running.ino()));
    Some((named.into(), if same { BinaryOnDisk::Same } else { BinaryOnDisk::Another }))
}

/// Whether a process' binary was replaced under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOnDisk {
    /// The file of that name is the one that runs.
    Same,
    /// It is gone, or another file.
    Another,
}

/// The container a process runs in: the last 64 hex digits of any of its control groups, which is how every runtime
/// names them.
pub fn container_of(pid: i32) -> Option<String> {
    container_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn container_in(cgroup: &str) -> Option<String> {
    cgroup.lines().find_map(|line| {
        let name = line.rsplit('/').next()?.trim_end_matches(".scope");
        let id = name.get(name.len().checked_sub(64)?..)?;
        id.bytes().all(|b| b.is_ascii_hexdigit()).then(|| id.to_owned())
    })
}

/// This boot's ID.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The sockets that listen on one of these TCP ports, of either family: (port, inode).
pub fn listening(ports: &BTreeSet<u16>) -> BTreeSet<(u16, u64)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(listener_line)
        .filter(|(p, _)| ports.contains(p))
        .collect()
}

/// `sl local_address rem_address st … inode`: state 0A is LISTEN.
fn listener_line(line: &str) -> Option<(u16, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    Some((port, fields.get(9)?.parse().ok()?))
}

/// Which process holds each of these sockets, as far as it can be found.
pub fn holders(inodes: &BTreeSet<u64>) -> BTreeMap<u64, i32> {
    let mut found = BTreeMap::new();
    let mut looked = 0;
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for descriptor in descriptors.flatten() {
            looked += 1;
            if let Some(inode) = socket_inode(&descriptor.path()).filter(|inode| inodes.contains(inode)) {
                found.entry(inode).or_insert(pid);
            }
        }
        if found.len() == inodes.len() || looked > MAX_DESCRIPTORS {
            break;
        }
    }
    found
}

/// The processes that have this very file open (device and inode), but for ourselves, as far as it can be found.
pub fn having_open(file: (u64, u64)) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let opens = |pid: &i32| {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.any(|entry| fs::metadata(entry.path()).is_ok_and(|meta| (meta.dev(), meta.ino()) == file))
    };
    let own = i32::try_from(std::process::id()).ok();
    pids.filter(|pid| Some(*pid) != own).filter(opens).collect()
}

fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_stopped_or_works_is_seen_to_be() {
        let child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        let mut child = child.unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let until = |what: &str, holds: &dyn Fn(Work) -> bool| {
            let began = std::time::Instant::now();
            while !work(pid).is_some_and(holds) {
                assert!(began.elapsed() < Duration::from_secs(20), "{what}: {:?}", work(pid));
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        until("it works", &|work| work.state == ProcessState::AtWork && work.cpu > Duration::from_millis(50));
        let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        signal(nix::sys::signal::Signal::SIGSTOP);
        until("it is stopped", &|work| work.state == ProcessState::Stopped);
        let (one, other) = (work(pid).unwrap(), work(pid).unwrap());
        assert_eq!((one.cpu, one.io), (other.cpu, other.io), "it stands still");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(work(pid), None, "it is gone");
    }

    #[test]
    fn this_very_process_is_found_with_its_socket() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let listening = listening(&[port].into());
        let inodes: BTreeSet<u64> = listening.iter().map(|(_, inode)| *inode).collect();
        assert_eq!(listening.iter().map(|(p, _)| *p).collect::<Vec<_>>(), [port]);
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holders(&inodes).into_values().collect::<Vec<_>>(), [me]);
        assert!(processes().iter().any(|process| process.pid == me));
        assert_eq!(binary(me).unwrap().1, BinaryOnDisk::Same);
        assert!(in_our_namespace(me));
    }

    #[test]
    fn a_start_time_lies_between_the_boot_and_now() {
        let child = std::process::Command::new("sleep").arg("5").spawn();
        let mut child = child.unwrap();
        let age = crate::sys::clock::since_boot().checked_sub(started(child.id() as i32).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(age.unwrap_or_default() < Duration::from_secs(2), "{age:?}");
    }

    #[test]
    fn a_container_is_known_by_its_control_group() {
        let id = "4e241be81573ce4ea3f559070d94901ca72fb1048e0278098d1dc8bee9e57577";
        for line in [
            format!("5:memory:/kubepods/burstable/pod95/{id}\n"),
            format!("0::/kubepods.slice/kubepods-pod95.slice/cri-containerd-{id}.scope"),
            format!("0::/kubepods.slice/crio-{id}.scope"),
        ] {
            assert_eq!(container_in(&line).as_deref(), Some(id), "{line}");
        }
        assert_eq!(container_in("0::/system.slice/etcd.service"), None);
        assert_eq!(container_in("0::/system.slice/ä"), None);
    }

    #[test]
    fn flags_come_in_two_forms_and_the_last_counts() {
        let words: Vec<String> =
            ["kubelet", "--config=/a", "--v", "2", "--config", "/b", "--config-dir=/c"].map(String::from).into();
        assert_eq!(flag(&words, "config").as_deref(), Some("/b"));
        assert_eq!(flag(&words, "config-dir").as_deref(), Some("/c"));
        assert_eq!(flag(&words, "conf"), None);
    }
}
