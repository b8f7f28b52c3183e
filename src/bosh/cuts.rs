//! What cuts long polls on the way, learnt from the age at which they break (T-10, T-11).

use std::time::Duration;

/// Younger requests break for other reasons.
const YOUNGEST: Duration = Duration::from_secs(5);
/// Ages within this of each other, or within a fifth, are alike.
const ALIKE: Duration = Duration::from_secs(2);

/// The ages at which requests were cut.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    last: Option<Duration>,
    limit: Option<Duration>,
}

impl Cuts {
    /// A held request was cut at this age. Returns the limit when this shows one, or a lower one.
    pub(super) fn note(&mut self, age: Duration) -> Option<Duration> {
        if age < YOUNGEST {
            return None;
        }
        let last = self.last.replace(age)?;
        let (low, high) = (last.min(age), last.max(age));
        let alike = high - low <= ALIKE.max(high / 5);
        let news = alike && self.limit.is_none_or(|limit| low < limit);
        if news {
            self.limit = Some(low);
        }
        news.then_some(low)
    }

    /// How long requests may be held as far as is known.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// T-11: two cuts at a like age are a limit; one, or two that differ, may be anything.
    #[test]
    fn t11_repeated_cuts_show_a_limit() {
        let mut cuts = Cuts::default();
        assert_eq!(cuts.note(seconds(30)), None);
        assert_eq!(cuts.note(seconds(50)), None);
        assert_eq!(cuts.limit(), None);
        assert_eq!(cuts.note(seconds(49)), Some(seconds(49)));
        assert_eq!(cuts.note(seconds(50)), None, "known already");
        assert_eq!(cuts.note(seconds(20)), None);
        assert_eq!(cuts.note(seconds(21)), Some(seconds(20)), "a lower one");
        assert_eq!(cuts.limit(), Some(seconds(20)));
    }

    /// T-11: what breaks early is a broken connection.
    #[test]
    fn t11_young_requests_prove_nothing() {
        let mut cuts = Cuts::default();
        for _ in 0..9 {
            assert_eq!(cuts.note(seconds(4)), None);
        }
        assert_eq!(cuts.limit(), None);
    }
}
