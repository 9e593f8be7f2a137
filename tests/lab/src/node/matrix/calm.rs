//! Whether the machine was quiet enough to measure: how late this process itself was woken, and for how much of the time
//! something waited for a processor.

use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Between two wakings.
const EVERY: Duration = Duration::from_millis(50);

/// Woken later than this once, or that on the average, the run is not trusted: most of what is measured is waiting for
/// tens of seconds.
pub(super) const LATE: Duration = Duration::from_secs(2);
pub(super) const LATE_MEAN: Duration = Duration::from_millis(25);

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Calm {
    /// The latest waking, in seconds.
    pub worst_late: f64,
    /// How late on the average, in seconds.
    pub mean_late: f64,
    /// Share of the time in which some process waited for a processor, whatever its priority (PSI, `cpu some`).
    pub waiting: f64,
}

impl Calm {
    /// Whether figures of that time cannot be trusted.
    pub(super) fn disturbed(&self) -> bool {
        self.worst_late > LATE.as_secs_f64() || self.mean_late > LATE_MEAN.as_secs_f64()
    }
}

impl fmt::Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worst_late, mean_late, waiting } = self;
        let (worst, mean, waiting) = (worst_late * 1e3, mean_late * 1e3, waiting * 100.0);
        write!(f, "woken {mean:.1} ms late, at worst {worst:.0} ms; something waited for a processor {waiting:.0} %")
    }
}

/// A watch that goes on until it is asked.
#[derive(Debug)]
pub(super) struct Watch {
    began: Instant,
    waited: u64,
    lateness: JoinHandle<()>,
    seen: Arc<Mutex<Lateness>>,
}

/// How late: at worst, in sum, and in how many wakings.
#[derive(Clone, Copy, Debug, Default)]
struct Lateness {
    worst: Duration,
    sum: Duration,
    wakings: u32,
}

impl Watch {
    /// Begins.
    pub(super) fn begin() -> Self {
        let seen = Arc::new(Mutex::new(Lateness::default()));
        let shared = Arc::clone(&seen);
        let lateness = tokio::spawn(async move {
            loop {
                let before = Instant::now();
                sleep(EVERY).await;
                let late = before.elapsed().saturating_sub(EVERY);
                let mut seen = shared.lock().unwrap_or_else(PoisonError::into_inner);
                *seen = Lateness { worst: seen.worst.max(late), sum: seen.sum + late, wakings: seen.wakings + 1 };
            }
        });
        Self { began: Instant::now(), waited: waited(), lateness, seen }
    }

    /// What was seen since.
    pub(super) fn end(self) -> Calm {
        let Lateness { worst, sum, wakings } = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = u32::try_from(waited().saturating_sub(self.waited)).unwrap_or(u32::MAX);
        let share = f64::from(micros) / 1e6 / self.began.elapsed().as_secs_f64().max(1e-3);
        let mean = sum.checked_div(wakings).unwrap_or_default();
        Calm { worst_late: worst.as_secs_f64(), mean_late: mean.as_secs_f64(), waiting: share }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.lateness.abort();
    }
}

/// Microseconds for which something has waited for a processor; 0 where the kernel does not tell.
fn waited() -> u64 {
    total(&fs::read_to_string("/proc/pressure/cpu").unwrap_or_default())
}

fn total(pressure: &str) -> u64 {
    let some = pressure.lines().find(|line| line.starts_with("some ")).unwrap_or_default();
    some.rsplit_once("total=").and_then(|(_, number)| number.trim().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_total_is_read() {
        let text = "some avg10=3.71 avg60=1.24 avg300=7.15 total=6323180267\nfull avg10=0.00 total=7\n";
        assert_eq!(total(text), 6_323_180_267);
        assert_eq!(total(""), 0);
    }

    #[test]
    fn who_is_woken_late_cannot_measure() {
        assert!(!Calm { worst_late: 0.4, mean_late: 0.002, waiting: 0.9 }.disturbed());
        assert!(Calm { worst_late: 2.4, mean_late: 0.002, waiting: 0.0 }.disturbed());
        assert!(Calm { worst_late: 0.4, mean_late: 0.05, waiting: 0.0 }.disturbed());
    }
}
