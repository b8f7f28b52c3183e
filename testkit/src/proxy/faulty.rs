//! An HTTP proxy, for absolute-form requests and for CONNECT, that hits some of them, by chance but from a seed, with one kind of
//! fault. Where [`HttpTrick`](super::HttpTrick) misbehaves always, this one does so now and then, as networks do.
//!
//! It forwards cleanly until [`FaultyProxy::arm`]. Client and origin have connections of their own, a new one to
//! the origin for each request; a client that goes away takes its request's connection to the origin with it.

mod kind;
mod serve;
mod tunnel;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

pub use kind::FaultKind;

use crate::Service;

/// Most lines kept of [`FaultyProxy::log`].
const LOG_LINES: usize = 20_000;

/// What is hit, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FaultPlan {
    /// What happens to a request that is hit.
    pub kind: FaultKind,
    /// The share of requests that are hit, 0.0 to 1.0. [`FaultKind::CutLongPoll`] does not ask for it.
    pub rate: f64,
    /// The same seed draws the same lots; which request meets which lot is a matter of timing.
    pub seed: u64,
    /// No more hits than these.
    pub most: Option<u64>,
}

/// What has happened since [`FaultyProxy::arm`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came while faults were on.
    pub requests: u64,
    /// Faults that took effect.
    pub faults: u64,
}

/// A running proxy with faults.
#[derive(Debug)]
pub struct FaultyProxy {
    service: Service,
    shared: Arc<Shared>,
}

impl FaultyProxy {
    /// Starts on a free loopback port, without faults at first.
    ///
    /// # Panics
    /// If the rate is no share.
    pub async fn start(plan: FaultPlan) -> Self {
        assert!(
            (0.0..=1.0).contains(&plan.rate),
            "the rate {} is no share",
            plan.rate
        );
        let shared = Arc::new(Shared {
            plan,
            armed: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            lots: Mutex::new(Lots {
                state: plan.seed,
                hits: 0,
            }),
            away_until: Mutex::new(None),
            cuts: watch::Sender::new(()),
            marks: Mutex::default(),
            sessions: Mutex::default(),
            log: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let service =
            Service::start(move |client| serve::serve(Arc::clone(&serving), client)).await;
        Self { service, shared }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    /// Faults begin.
    pub fn arm(&self) {
        self.shared.armed.store(true, Ordering::Relaxed);
    }

    /// Faults end; what was hit already stays hit.
    pub fn disarm(&self) {
        self.shared.armed.store(false, Ordering::Relaxed);
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            requests: self.shared.requests.load(Ordering::Relaxed),
            faults: self.shared.faults.load(Ordering::Relaxed),
        }
    }

    /// Resets every connection; new ones are served.
    pub fn cut(&self) {
        self.shared.note("", "every connection is cut");
        // Nobody listens when there is no connection.
        let _ = self.shared.cuts.send(());
    }

    /// Resets every connection, and new ones for so long. Counts as one fault.
    pub fn outage(&self, lasts: Duration) {
        self.shared.faults.fetch_add(1, Ordering::Relaxed);
        *lock(&self.shared.away_until) = Some(Instant::now() + lasts);
        self.shared.note("", &format!("away for {lasts:?}"));
        self.cut();
    }

    /// From now on, sessions whose requests or answers hold this text can be asked for by it.
    pub fn mark(&self, text: &str) {
        lock(&self.shared.marks).push(text.to_owned());
    }

    /// How many requests of the marked sessions were under way when connections were cut.
    #[must_use]
    pub fn cut_requests(&self, mark: &str) -> u64 {
        lock(&self.shared.sessions)
            .values()
            .filter(|session| session.marks.iter().any(|known| known == mark))
            .map(|session| session.cut)
            .sum()
    }

    /// The last thousands of requests and answers, one a line with the time of day (UTC), and what was done to them.
    #[must_use]
    pub fn log(&self) -> String {
        lock(&self.shared.log)
            .iter()
            .fold(format!("{:?}\n", self.shared.plan), |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            })
    }
}

#[derive(Debug)]
struct Shared {
    plan: FaultPlan,
    armed: AtomicBool,
    requests: AtomicU64,
    faults: AtomicU64,
    lots: Mutex<Lots>,
    away_until: Mutex<Option<Instant>>,
    cuts: watch::Sender<()>,
    marks: Mutex<Vec<String>>,
    /// By sid; kept where there are marks.
    sessions: Mutex<BTreeMap<String, Session>>,
    log: Mutex<VecDeque<String>>,
}

/// What is known of a session that passes.
#[derive(Debug, Default)]
struct Session {
    marks: Vec<String>,
    cut: u64,
}

#[derive(Debug)]
struct Lots {
    state: u64,
    hits: u64,
}

impl Lots {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0.0..1.0.
    fn share(&mut self) -> f64 {
        // 53 bits are what a double holds.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Shared {
    /// What happens to the next request.
    fn draw(&self) -> Option<FaultKind> {
        if !self.armed.load(Ordering::Relaxed) {
            return None;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        if matches!(self.plan.kind, FaultKind::CutLongPoll(_)) {
            return Some(self.plan.kind);
        }
        let mut lots = lock(&self.lots);
        let hit = lots.share() < self.plan.rate && self.plan.most.is_none_or(|n| lots.hits < n);
        lots.hits += u64::from(hit);
        hit.then_some(self.plan.kind)
    }

    fn coin(&self) -> bool {
        lock(&self.lots).next() & 1 == 0
    }

    fn share(&self) -> f64 {
        lock(&self.lots).share()
    }

    /// The fault takes effect now.
    fn hit(&self, who: &str, what: &str) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.note(who, &format!("FAULT {what}"));
    }

    fn note(&self, who: &str, what: &str) {
        let day = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (seconds, micros) = (day.as_secs() % 86_400, day.subsec_micros());
        let line = format!(
            "{:02}:{:02}:{:02}.{micros:06} {who} {what}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        );
        let mut log = lock(&self.log);
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(line);
    }

    /// A session's request or answer passes.
    fn look(&self, sid: &str, body: &str) {
        let marks = lock(&self.marks);
        if marks.is_empty() {
            return;
        }
        let mut sessions = lock(&self.sessions);
        let session = sessions.entry(sid.to_owned()).or_default();
        for mark in marks.iter().filter(|mark| body.contains(mark.as_str())) {
            if !session.marks.contains(mark) {
                session.marks.push(mark.clone());
            }
        }
    }

    /// A session's request is cut off.
    fn count_cut(&self, sid: &str) {
        if let Some(session) = lock(&self.sessions).get_mut(sid) {
            session.cut += 1;
        }
    }

    fn is_away(&self) -> bool {
        lock(&self.away_until).is_some_and(|until| Instant::now() < until)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
