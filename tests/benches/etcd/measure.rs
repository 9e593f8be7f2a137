//! One command: how long it took, how much of a processor, and how much memory.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Between two looks at its memory, and what its time may be too long by.
const LOOK: Duration = Duration::from_millis(2);

/// What a command took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) wall: Duration,
    /// Of processors, its own and the system's for it.
    pub(crate) cpu: Duration,
    /// The peak of what was resident, in bytes, mapped files included.
    pub(crate) resident: u64,
    /// The most that was seen of memory of its own, in bytes.
    pub(crate) own: u64,
}

impl Figure {
    pub(crate) fn time(&self) -> String {
        format!("{:.2} s", self.wall.as_secs_f64())
    }

    pub(crate) fn work(&self) -> String {
        format!("{:.1} s", self.cpu.as_secs_f64())
    }

    pub(crate) fn memory(&self) -> String {
        format!("{} MiB ({})", self.resident >> 20, self.own >> 20)
    }
}

/// Runs a command to its end; what it printed, too.
pub(crate) fn measure(mut command: Command) -> Result<(Figure, Vec<u8>)> {
    let before = ended()?;
    let began = Instant::now();
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.with_context(|| format!("{command:?}"))?;
    let status = format!("/proc/{}/status", child.id());
    let mut figure = Figure { wall: Duration::ZERO, cpu: Duration::ZERO, resident: 0, own: 0 };
    // What these commands print fits into a pipe.
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0 kB");
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() << 10
        };
        figure.resident = figure.resident.max(bytes("VmHWM:"));
        figure.own = figure.own.max(bytes("RssAnon:"));
        sleep(LOOK);
    }
    figure.wall = began.elapsed();
    let out = child.wait_with_output()?;
    figure.cpu = ended()?.saturating_sub(before);
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok((figure, out.stdout))
}

/// The processor time of all children that have ended: one at a time, so a difference is the last one's. In hundredths of
/// a second: `cutime` and `cstime` of proc(5).
fn ended() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(") ").context("/proc/self/stat")?;
    let ticks: u64 = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
