//! What was learnt about the way to a manager, for the next session on it (T-11).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A lower `wait` is not asked for.
const LOWEST: Duration = Duration::from_secs(10);
/// Most ways remembered.
const MAX_WAYS: usize = 1024;

/// The `wait` that suits each way, where that is less than configured.
#[derive(Debug, Default)]
pub(super) struct Habits(Mutex<HashMap<String, Duration>>);

impl Habits {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `wait` to ask for on this way.
    pub(super) fn wait(&self, way: &str, configured: Duration) -> Duration {
        let learnt = self.lock().get(way).copied();
        learnt.map_or(configured, |learnt| learnt.min(configured))
    }

    /// Requests on this way are cut at that age: the next session stays well below.
    pub(super) fn cut(&self, way: &str, limit: Duration) {
        let mut ways = self.lock();
        if ways.len() < MAX_WAYS || ways.contains_key(way) {
            let safe = Duration::from_secs(limit.as_secs() * 4 / 5).max(LOWEST);
            ways.insert(way.to_owned(), safe);
        }
    }

    /// A session is over in which one request was held for that long and came back: if that was as long as
    /// was asked for, the next may ask for a little more.
    pub(super) fn held(&self, way: &str, longest: Duration, configured: Duration) {
        let mut ways = self.lock();
        let Some(learnt) = ways.get_mut(way) else {
            return;
        };
        if longest + Duration::from_secs(1) >= *learnt {
            *learnt = (*learnt * 5 / 4).max(*learnt + Duration::from_secs(1));
            *learnt = Duration::from_secs(learnt.as_secs());
            if *learnt >= configured {
                ways.remove(way);
            }
        }
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
}
