//! Reads the two clocks together.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::model::Moment;

/// What both clocks say now.
pub fn now() -> Moment {
    Moment { wall: Timestamp::now(), boot: since_boot() }
}

/// `CLOCK_BOOTTIME`: since the machine started, suspend included.
pub fn since_boot() -> Duration {
    // Linux has this clock since 2.6.39; a kernel that refuses it leaves us at zero, where no time is ever credited.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// A time stamp as stat(2) gives it.
pub fn of_stat(seconds: i64, nanoseconds: i64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A time stamp as the container runtime gives it: nanoseconds since the epoch, zero for never.
pub fn of_nanoseconds(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_agrees_with_proc() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((now().boot.as_secs_f64() - uptime).abs() < 1.0);
    }

    #[test]
    fn nonsense_from_outside_is_the_epoch() {
        assert_eq!(of_stat(i64::MAX, 0), Timestamp::UNIX_EPOCH);
        assert_eq!(of_stat(1, i64::MAX), Timestamp::new(1, 0).unwrap());
        assert_eq!(of_nanoseconds(0), Timestamp::UNIX_EPOCH);
    }
}
