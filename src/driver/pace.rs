//! How fast new sessions are asked for: clients that reconnect in a loop must not become the manager's burden.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Domains kept apart; what comes on top shares one pace.
const MAX_DOMAINS: usize = 256;
/// Who would have to wait longer is refused.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The pace of each domain: a burst passes at once, then one session each interval, in the order of asking.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// How far ahead of the steady pace a burst may be.
    ahead: Duration,
    /// When, at the steady pace, all that was let through would be.
    due: Mutex<HashMap<String, Instant>>,
}

/// More are waiting already than can be let through in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany;

impl Pace {
    /// `rate` sessions a second, after `burst` at once.
    pub(super) fn new(rate: usize, burst: usize) -> Self {
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        let interval = Duration::from_secs(1) / rate.max(1);
        let burst = u32::try_from(burst).unwrap_or(u32::MAX);
        Self {
            interval,
            ahead: interval.saturating_mul(burst),
            due: Mutex::default(),
        }
    }

    /// How long a new session of this domain has to wait from `now` on.
    pub(super) fn ask(&self, domain: &str, now: Instant) -> Result<Duration, TooMany> {
        let mut domains = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.len() >= MAX_DOMAINS {
            // Those who have caught up with the pace need not be known.
            domains.retain(|_, due| *due > now);
        }
        let full = domains.len() >= MAX_DOMAINS && !domains.contains_key(domain);
        let name = if full { "" } else { domain };
        let due = domains.get(name).copied().unwrap_or(now).max(now);
        let wait = due.duration_since(now).saturating_sub(self.ahead);
        if wait > MAX_WAIT {
            return Err(TooMany);
        }
        domains.insert(name.to_owned(), due + self.interval);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A burst at once, then the pace, in turn; then no more; and all of it again after a rest. Other domains do
    /// not notice.
    #[test]
    fn burst_pace_refusal() {
        let pace = Pace::new(10, 5);
        let start = crate::driver::clock::now();
        for _ in 0..6 {
            assert_eq!(pace.ask("a.example", start), Ok(Duration::ZERO));
        }
        for n in 1..=10 {
            let wait = pace.ask("a.example", start);
            assert_eq!(wait, Ok(Duration::from_millis(100 * n)));
        }
        assert_eq!(pace.ask("a.example", start), Err(TooMany));
        assert_eq!(pace.ask("b.example", start), Ok(Duration::ZERO));
        let later = start + Duration::from_millis(500);
        assert_eq!(pace.ask("a.example", later), Ok(Duration::from_millis(600)));
        let rested = start + Duration::from_secs(10);
        for _ in 0..6 {
            assert_eq!(pace.ask("a.example", rested), Ok(Duration::ZERO));
        }
    }

    /// Names come from clients: memory is bounded, and who comes on top is paced all the same.
    #[test]
    fn bounded() {
        let pace = Pace::new(1, 0);
        let now = crate::driver::clock::now();
        let refused = (0..10_000).filter(|n| pace.ask(&n.to_string(), now).is_err());
        assert!(refused.count() > 9_000);
        assert!(pace.due.lock().unwrap().len() <= MAX_DOMAINS + 1);
    }
}
