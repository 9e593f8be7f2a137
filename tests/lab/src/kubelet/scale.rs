//! The clock's gear: every wait that is the kubelet's own is multiplied by one factor, so that a suite need not sit
//! through the ten to fifteen seconds of parking that a true-to-life run shows.

use std::time::Duration;

/// Factor on the stand-in's own waits: 1.0 is true to life, 0.1 ten times as fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale(f64);

/// No own wait gets shorter than this: below it a busy machine's scheduling would decide the order of things.
const FLOOR: Duration = Duration::from_millis(20);

impl Scale {
    /// True to life.
    pub const TRUE_TO_LIFE: Self = Self(1.0);

    /// The factor, if it is a positive number not above 10.
    ///
    /// # Errors
    /// A sentence naming the value, for a factor that would stop the clock or turn it back.
    pub fn new(factor: f64) -> Result<Self, String> {
        if factor.is_finite() && factor > 0.0 && factor <= 10.0 {
            Ok(Self(factor))
        } else {
            Err(format!("the lab's scale {factor} is not a number above 0 and at most 10; give for example 0.1"))
        }
    }

    /// The wait as this run keeps it; a wait of nothing stays nothing.
    #[must_use]
    pub fn of(self, true_to_life: Duration) -> Duration {
        self.with_floor(true_to_life, FLOOR)
    }

    /// The scaled wait, but not below `floor` (nor above what it is true to life): for time-outs on other processes,
    /// which do not get faster because our waits do.
    #[must_use]
    pub fn with_floor(self, true_to_life: Duration, floor: Duration) -> Duration {
        let scaled = true_to_life.mul_f64(self.0);
        if self.0 < 1.0 { scaled.max(floor.min(true_to_life)) } else { scaled }
    }

    /// Seconds, `[1.0, 1.0 + spread)` times as long, then scaled: what the kubelet calls jitter.
    #[must_use]
    pub fn jittered(self, true_to_life: Duration, spread: f64) -> Duration {
        self.of(true_to_life.mul_f64(1.0 + spread * unit_random()))
    }

    /// The factor itself, as handed to the containers.
    #[must_use]
    pub fn factor(self) -> f64 {
        self.0
    }
}

impl std::str::FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let factor: f64 = text
            .trim()
            .parse()
            .map_err(|_| format!("the lab's scale {text:?} is not a number; give for example 0.1"))?;
        Self::new(factor)
    }
}

/// A number in `[0, 1)`. The standard library's hasher keys are the only randomness at hand without another crate.
pub(crate) fn unit_random() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let bits = u32::try_from(RandomState::new().hash_one(0u8) >> 32).unwrap_or(0);
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_shrinks_with_the_scale_but_never_below_the_floor() {
        let tenth = Scale::new(0.1).expect("a valid scale");
        assert_eq!(tenth.of(Duration::from_secs(10)), Duration::from_secs(1));
        assert_eq!(tenth.of(Duration::from_millis(50)), FLOOR);
        assert_eq!(tenth.of(Duration::ZERO), Duration::ZERO);
        assert_eq!(Scale::TRUE_TO_LIFE.of(Duration::from_millis(5)), Duration::from_millis(5));
        assert_eq!(tenth.with_floor(Duration::from_secs(2), Duration::from_secs(1)), Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_between_once_and_once_and_a_half() {
        for _ in 0..200 {
            let wait = Scale::TRUE_TO_LIFE.jittered(Duration::from_secs(10), 0.5);
            assert!((10.0..15.0).contains(&wait.as_secs_f64()), "{wait:?}");
        }
    }

    #[test]
    fn a_scale_that_stops_the_clock_is_refused() {
        for bad in ["0", "-1", "NaN", "inf", "11", "fast"] {
            assert!(bad.parse::<Scale>().is_err(), "{bad}");
        }
    }
}
