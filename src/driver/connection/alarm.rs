//! When a connection's timer is moved, and when it is left as it is.

use std::time::{Duration, Instant};

use super::super::clock;

/// A timer that fires at most so early is left as it is.
const EARLY: Duration = Duration::from_millis(20);

/// Whether a timer that fires at `armed` will do for `at`. One that fires for nothing costs less than moving it to
/// and fro with each exchange: an earlier time wakes the runtime up.
pub(super) fn is_soon_enough(armed: Instant, at: Instant) -> bool {
    armed == at || armed < at && armed.saturating_duration_since(clock::now()) <= EARLY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never late; early by a little only: an idle session is not woken up for nothing.
    #[tokio::test(start_paused = true)]
    async fn early_by_a_little_only() {
        let now = clock::now();
        let at = |millis| now + Duration::from_millis(millis);
        assert!(is_soon_enough(at(10), at(10)));
        assert!(is_soon_enough(at(10), at(60_000)));
        assert!(is_soon_enough(at(60_000), at(60_000)));
        assert!(!is_soon_enough(at(10), at(9)));
        assert!(!is_soon_enough(at(5000), at(60_000)));
    }
}
