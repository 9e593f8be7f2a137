//! How often the node is asked: on the alert, or calmly after all has been well for some minutes.
//!
//! ```text
//!            the agent: well for some minutes
//!   Alert ─────────────────────────────────────▶ Calm
//!     ▲                                            │
//!     └── the first answer that is not good ◀──────┘   wakes the agent, and every task that rests
//! ```
//!
//! Calm, a process that hangs is asked later by some seconds: it is stopped within the same 20 s. From the first bad answer
//! on, everything is asked as often as ever, so what has to be seen twice is seen as soon. What proves that etcd serves the
//! data on record keeps its interval: two of its answers have to fit into the seconds in which an API server starts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::config::settings::Probes;

/// Between two questions whose answer a stall is found by.
const LIVENESS: Duration = Duration::from_secs(5);
/// Between two of all others. An answer counts for longer than that.
const OTHERS: Duration = Duration::from_secs(10);

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Alert,
    Calm,
}

/// The tempo that all who ask this node share.
#[derive(Clone, Debug)]
pub(super) struct Tempo {
    pace: Arc<watch::Sender<Pace>>,
    /// Wakes the agent.
    news: Arc<Notify>,
}

/// What a question is put for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Liveness,
    Other,
}

impl Tempo {
    /// On the alert. `news` is notified of what ends a calm.
    pub(super) fn new(news: Arc<Notify>) -> Self {
        Self { pace: Arc::new(watch::Sender::new(Pace::Alert)), news }
    }

    /// All has been well for a while.
    pub(super) fn calm(&self) {
        self.set(Pace::Calm);
    }

    /// It is not.
    pub(super) fn alert(&self) {
        self.set(Pace::Alert);
    }

    /// Something answers badly: whoever rests asks now, and the agent looks.
    pub(super) fn raise(&self) {
        if self.set(Pace::Alert) {
            self.news.notify_one();
        }
    }

    fn set(&self, pace: Pace) -> bool {
        self.pace.send_if_modified(|now| std::mem::replace(now, pace) != pace)
    }

    /// Rests until it is time for the next question, after one that began at `began`. The end of a calm shortens a rest that
    /// has begun.
    pub(super) async fn rest(&self, began: Instant, asked: Purpose, settings: &Probes) {
        let calmly = calmly(asked, settings);
        self.rest_for(began, settings.interval, calmly).await;
    }

    pub(super) async fn rest_for(&self, began: Instant, alert: Duration, calm: Duration) {
        let mut pace = self.pace.subscribe();
        loop {
            let rest = match *pace.borrow_and_update() {
                Pace::Alert => alert,
                Pace::Calm => calm,
            };
            tokio::select! {
                () = sleep_until(began + rest) => return,
                changed = pace.changed() => if changed.is_err() { return sleep_until(began + rest).await },
            }
        }
    }
}

/// Between two questions while all is well: never so long that the last answer is too old before the next one.
fn calmly(asked: Purpose, settings: &Probes) -> Duration {
    let (factor, longest) = match asked {
        Purpose::Liveness => (2.5, LIVENESS),
        Purpose::Other => (5.0, OTHERS),
    };
    let young = 2 * settings.interval + settings.timeout;
    settings.interval.mul_f64(factor).min(longest).min(young).max(settings.interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Probes = Probes { interval: Duration::from_secs(2), timeout: Duration::from_secs(5) };

    #[tokio::test(start_paused = true)]
    async fn a_calm_is_slower_and_ends_at_once_for_all_who_rest() {
        let news = Arc::new(Notify::new());
        let tempo = Tempo::new(Arc::clone(&news));
        let rest = async |asked| {
            let began = Instant::now();
            tempo.rest(began, asked, &SETTINGS).await;
            began.elapsed()
        };
        assert_eq!(rest(Purpose::Liveness).await, Duration::from_secs(2));
        tempo.calm();
        assert_eq!(rest(Purpose::Liveness).await, Duration::from_secs(5));
        let began = Instant::now();
        let (others, ()) = tokio::join!(rest(Purpose::Other), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            tempo.raise();
        });
        assert_eq!(others, Duration::from_secs(3), "longer than a rest on the alert, so at once");
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        tokio::time::timeout(Duration::from_secs(1), news.notified()).await.expect("the agent is woken");
        tempo.raise();
        let again = tokio::time::timeout(Duration::from_secs(1), news.notified()).await;
        assert!(again.is_err(), "it is on the alert already");
    }

    #[test]
    fn an_answer_is_never_too_old_before_the_next_one() {
        for (interval, timeout) in [(2000, 5000), (500, 2000), (20, 30_000), (10_000, 1000), (60_000, 100)] {
            let settings =
                Probes { interval: Duration::from_millis(interval), timeout: Duration::from_millis(timeout) };
            let oldest = super::super::probes::ROUNDS * (settings.interval + settings.timeout);
            for asked in [Purpose::Liveness, Purpose::Other] {
                let calm = calmly(asked, &settings);
                assert!(calm >= settings.interval && calm + settings.timeout <= oldest, "{settings:?}: {calm:?}");
            }
        }
    }
}
