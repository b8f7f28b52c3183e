//! What is asked of the connection manager at session creation, and what it grants.

use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

use zeroize::Zeroizing;

/// Time between the end of `wait` and that of `inactivity` in which a missing answer is noticed and asked for again.
const REPEAT_TIME: Duration = Duration::from_secs(5);
/// Shorter ones are not asked for: polls that frequent are a burden, and some managers' `polling` forbids them.
const SHORTEST_WAIT: Duration = Duration::from_secs(7);
/// An answer that is due may be this late.
const LEAST_MARGIN: Duration = Duration::from_secs(1);

/// The largest rid, 2^53 − 1 (XEP-0124 section 14.1).
pub const RID_LIMIT: u64 = 9_007_199_254_740_991;

/// A request id (XEP-0124 section 14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rid(pub u64);

impl Rid {
    /// A first rid from 64 random bits, uniform in `[2^31, 2^52)` (XEP-0124 section 14.1).
    #[must_use]
    pub fn first(random: u64) -> Self {
        const LOW: u64 = 1 << 31;
        const HIGH: u64 = 1 << 52;
        Self(LOW + random % (HIGH - LOW))
    }

    /// The rid one higher, `None` past the limit.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        (self.0 < RID_LIMIT).then(|| Self(self.0 + 1))
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The session id: an opaque secret (XEP-0124 section 7.2), wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Sid(Zeroizing<String>);

impl Sid {
    /// Wraps the value that the connection manager sent.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the wire only.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sid(…)")
    }
}

/// A protocol version: two integers, compared one after the other (`1.10` is above `1.6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The part before the dot.
    pub major: u32,
    /// The part behind the dot.
    pub minor: u32,
}

impl Version {
    /// Reads `major.minor`; `None` if it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once('.')?;
        Some(Self {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }
}

/// What the creation request asks for (XEP-0124 section 7.1, XEP-0206 section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// Domain of the client's stream header.
    pub to: String,
    /// Bare JID; only over https (B-17).
    pub from: Option<String>,
    /// `xml:lang` of the session.
    pub lang: String,
    /// Version asked for, as `major.minor`.
    pub ver: String,
    /// Longest time a request may be held; whole seconds.
    pub wait: Duration,
    /// Requests the connection manager may hold.
    pub hold: u8,
    /// `xmpp:host:port` for a proxying connection manager; not a URI.
    pub route: Option<String>,
    /// Whether the client's header had a version ≥ 1.0.
    pub xmpp_version: bool,
}

/// Which connection manager this seems to be. Only used where one needs a different path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// ejabberd: must not see a repeat of a request that it put aside, echoes held requests.
    Ejabberd,
    /// MongooseIM: must not see a repeat of a request that it put aside either.
    MongooseIm,
    /// Prosody: stores two answers.
    Prosody,
    /// Openfire: ends the session when requests seem too many or too frequent.
    Openfire,
    /// Tigase: short inactivity, no order by rid.
    Tigase,
    /// Everything else.
    Other,
}

/// What the way to the manager is like, as far as earlier sessions and the configuration tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Something on it sends requests twice, or may well do so: plain http through an HTTP proxy (P-10).
    pub repeats: bool,
    /// Requests have vanished on it without a sign.
    pub swallows: bool,
}

/// What the connection manager granted (XEP-0124 section 7.2).
#[derive(Clone, Debug)]
pub struct Granted {
    /// The session's secret.
    pub sid: Sid,
    /// Effective wait: the lower of asked and granted.
    pub wait: Duration,
    /// Requests it holds.
    pub hold: u8,
    /// Most requests unanswered at once; 1 means polling.
    pub requests: NonZeroU8,
    /// Longest silence before the session ends; `None` if it did not say.
    pub inactivity: Option<Duration>,
    /// Shortest time between two empty requests.
    pub polling: Duration,
    /// Longest pause that may be asked for; none is.
    pub maxpause: Option<Duration>,
    /// The lower of both versions; `None` marks a legacy manager (B-27).
    pub ver: Option<Version>,
    /// The manager acknowledges requests (B-30).
    pub acks: bool,
    /// The server's domain.
    pub from: Option<String>,
    /// The server's stream id (XEP-0206 section 3, obsolete `authid`). May equal the sid: a secret (T-34).
    pub authid: Option<Sid>,
    /// What it seems to be.
    pub manager: Manager,
    /// Its name for the stream, which requests leave out (XEP-0124 section 16).
    pub stream: Option<String>,
}

impl Granted {
    /// Inactivity as granted, or 60 s where the manager gave none (B-54).
    #[must_use]
    pub fn inactivity_or_default(&self) -> Duration {
        self.inactivity.unwrap_or(Duration::from_secs(60))
    }

    /// Time allowed for a reply beyond `wait` before the request counts as lost: at best half of what is then
    /// left of `inactivity`, so that the repeat is in time for a manager that never saw it (B-24).
    #[must_use]
    pub fn reply_margin(&self, round_trip: Option<Duration>) -> Duration {
        let most = Duration::from_secs(15).min(self.inactivity_or_default() / 3);
        let least = LEAST_MARGIN + round_trip.unwrap_or_default() * 4;
        let left = self.inactivity_or_default().saturating_sub(self.wait);
        (left / 2).max(least).min(most)
    }

    /// The longest `wait` with which the repeat of a request that vanished still reaches the manager before
    /// `inactivity` is over; `None` if any will do, or none that leaves the manager in peace.
    #[must_use]
    pub fn longest_wait(&self, way: Way) -> Option<Duration> {
        let inactivity = self.inactivity?;
        let share = inactivity * 3 / 5;
        let longest = match way.swallows {
            // The repeat may vanish as well.
            true => share,
            false => share.max(inactivity.saturating_sub(REPEAT_TIME)),
        };
        let longest = Duration::from_secs(longest.as_secs());
        (longest >= SHORTEST_WAIT && !self.is_polling()).then_some(longest)
    }

    /// Whether this is a polling session (XEP-0124 section 12).
    #[must_use]
    pub fn is_polling(&self) -> bool {
        self.requests.get() == 1 || self.hold == 0 || self.wait.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// B-14: versions are two integers, not a decimal fraction.
    #[test]
    fn b14_versions_compare_as_integers() {
        let parse = |text| Version::parse(text).unwrap();
        assert!(parse("1.10") > parse("1.6"));
        assert!(parse("2.0") > parse("1.11"));
        assert_eq!(parse("1.06"), parse("1.6"));
        for bad in ["1", "1.", ".6", "a.b", "1.6.2", "-1.6", ""] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    /// B-32: first rids fill `[2^31, 2^52)` and do not repeat over 10^5 sessions.
    #[test]
    fn b32_first_rids_are_large_and_distinct() {
        let mut seen = HashSet::new();
        let (mut low, mut high) = (0, 0);
        for _ in 0..100_000 {
            let rid = Rid::first(getrandom::u64().unwrap()).0;
            assert!((1 << 31..1 << 52).contains(&rid));
            assert!(seen.insert(rid));
            if rid < 1 << 51 { low += 1 } else { high += 1 }
        }
        assert!((45_000..55_000).contains(&low) && (45_000..55_000).contains(&high));
    }

    /// B-34: the limit is never passed.
    #[test]
    fn b34_rid_ends_at_the_limit() {
        assert_eq!(Rid(RID_LIMIT - 1).next(), Some(Rid(RID_LIMIT)));
        assert_eq!(Rid(RID_LIMIT).next(), None);
    }

    /// B-73: a sid never shows in debug output.
    #[test]
    fn b73_sid_is_not_printed() {
        assert_eq!(format!("{:?}", Sid::new("secret".into())), "Sid(…)");
    }
}
