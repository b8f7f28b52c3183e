//! What was learnt about the way to a manager, for the next session on it (T-11).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::bosh::Way;

/// No lower `wait` is asked for because requests are cut.
const LOWEST: Duration = Duration::from_secs(10);
/// Most ways remembered.
const MAX_WAYS: usize = 1024;

/// What each way is like, where that is worth knowing.
#[derive(Debug, Default)]
pub(super) struct Habits(Mutex<HashMap<String, Habit>>);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Habit {
    /// The `wait` that is safe from what cuts requests.
    safe: Option<Duration>,
    /// The longest `wait` that suits the manager's `inactivity`.
    longest: Option<Duration>,
    /// What happens to requests.
    way: Way,
}

impl Habits {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Habit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `wait` to ask for on this way.
    pub(super) fn wait(&self, way: &str, configured: Duration) -> Duration {
        let learnt = self.lock().get(way).copied().unwrap_or_default();
        let known = learnt.safe.into_iter().chain(learnt.longest);
        known.fold(configured, Duration::min)
    }

    /// What is known of the way, and what was seen on it.
    pub(super) fn way(&self, way: &str, known: Way) -> Way {
        let learnt = self.lock().get(way).copied().unwrap_or_default().way;
        Way {
            repeats: known.repeats || learnt.repeats,
            swallows: known.swallows || learnt.swallows,
        }
    }

    fn change(&self, way: &str, change: impl FnOnce(&mut Habit)) {
        let mut ways = self.lock();
        let mut habit = ways.get(way).copied().unwrap_or_default();
        change(&mut habit);
        if habit == Habit::default() {
            ways.remove(way);
        } else if ways.len() < MAX_WAYS || ways.contains_key(way) {
            ways.insert(way.to_owned(), habit);
        }
    }

    /// Requests on this way are cut at that age: the next session stays well below.
    pub(super) fn cut(&self, way: &str, limit: Duration) {
        let safe = Duration::from_secs(limit.as_secs() * 4 / 5).max(LOWEST);
        self.change(way, |habit| habit.safe = Some(safe));
    }

    /// A session is over that has seen this of the way, and whose manager calls for a `wait` not longer than that.
    pub(super) fn learnt(&self, way: &str, seen: Way, longest: Option<Duration>) {
        self.change(way, |habit| {
            habit.way.repeats |= seen.repeats;
            habit.way.swallows |= seen.swallows;
            habit.longest = longest.or(habit.longest);
        });
    }

    /// A session is over in which one request was held for that long and came back: if that was as long as
    /// was asked for, the next may ask for a little more.
    pub(super) fn held(&self, way: &str, longest: Duration, configured: Duration) {
        self.change(way, |habit| {
            let Some(safe) = habit.safe else { return };
            if longest + Duration::from_secs(1) >= safe {
                let more = (safe * 5 / 4).max(safe + Duration::from_secs(1));
                let more = Duration::from_secs(more.as_secs());
                habit.safe = (more < configured).then_some(more);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// B-15, T-11: the next session asks for less, not below 10 s, and each one that goes well for a quarter
    /// more, up to what is configured; other ways are not touched.
    #[test]
    fn t11_wait_is_lowered_and_raised_again() {
        let habits = Habits::default();
        assert_eq!(habits.wait("a", seconds(55)), seconds(55));
        habits.cut("a", seconds(30));
        assert_eq!(habits.wait("a", seconds(55)), seconds(24));
        assert_eq!(habits.wait("b", seconds(55)), seconds(55));
        habits.held("a", seconds(12), seconds(55));
        assert_eq!(
            habits.wait("a", seconds(55)),
            seconds(24),
            "it never held so long"
        );
        for expected in [30, 37, 46, 55, 55] {
            let now = habits.wait("a", seconds(55));
            habits.held("a", now, seconds(55));
            assert_eq!(habits.wait("a", seconds(55)), seconds(expected));
        }
        habits.cut("a", seconds(6));
        assert_eq!(habits.wait("a", seconds(55)), seconds(10));
        assert_eq!(
            habits.wait("a", seconds(5)),
            seconds(5),
            "never above the configured"
        );
    }

    /// P-10, T-08: what a session has seen of a way holds for all that follow on it, and no others; a shorter `wait`
    /// for the manager's sake is not raised by sessions that go well.
    #[test]
    fn p10_what_was_seen_is_remembered() {
        let habits = Habits::default();
        let seen = Way {
            repeats: true,
            swallows: false,
        };
        habits.learnt("a", seen, Some(seconds(25)));
        assert_eq!(habits.way("a", Way::default()), seen);
        assert_eq!(habits.way("b", Way::default()), Way::default());
        let swallows = Way {
            repeats: false,
            swallows: true,
        };
        habits.learnt("a", swallows, Some(seconds(18)));
        let both = Way {
            repeats: true,
            swallows: true,
        };
        assert_eq!(habits.way("a", Way::default()), both);
        assert_eq!(habits.wait("a", seconds(55)), seconds(18));
        habits.held("a", seconds(18), seconds(55));
        assert_eq!(habits.wait("a", seconds(55)), seconds(18));
        habits.learnt("a", Way::default(), None);
        assert_eq!(habits.way("a", Way::default()), both);
        assert_eq!(habits.wait("b", seconds(55)), seconds(55));
    }
}
