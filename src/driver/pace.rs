//! How fast new sessions are asked for: clients that reconnect in a loop must become neither the manager's burden nor
//! that of other clients.
//!
//! Each domain has a pace: a burst passes at once, then so many a second, by turns for those who wait. Visitors of a
//! domain that look the same have a lane: too many visits that come to nothing slow those alone who come back.
//! `lanes` keeps the books.

mod lanes;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::lanes::{Ending, Lanes};
use super::client::Peer;
use super::clock;
use crate::stream::header::Accepted;

/// Who is online for less than this and comes back often is slowed.
const BRIEF: Duration = Duration::from_secs(10);
/// A connection asks again inside TLS, or for another address.
const MAX_VISITORS: usize = 4;

/// Who asks, as far as that can be told before anybody logs in: where it connects from, the name in its header, and
/// how it writes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Visitor {
    look: u64,
    /// It says whose account it is about.
    named: bool,
}

impl Visitor {
    /// More visitors than are kept apart.
    const CROWD: Self = Self {
        look: 0,
        named: false,
    };

    pub(super) fn new(peer: &Peer, header: Option<&Accepted>, secure: bool) -> Self {
        /// One for the whole process: equal visitors are equal after a reload.
        static LOOKS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let origin = match peer {
            Peer::Tcp(address) => address.ip().to_string(),
            Peer::Unix { uid, .. } => uid.to_string(),
        };
        let said = header.map(|header| {
            let version = header.version.map(|version| version.to_string());
            (&header.from, &header.lang, version)
        });
        Self {
            look: LOOKS.hash_one((origin, said, secure)),
            named: header.is_some_and(|header| header.from.is_some()),
        }
    }
}

/// More are waiting already than can be let through in time, or the visitor has come too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// The pace of all domains. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    rate: usize,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Somebody new waits.
    news: Notify,
}

#[derive(Debug)]
struct State {
    lanes: Lanes,
    /// A task gives turns.
    granting: bool,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    /// `rate` sessions a second for each domain.
    pub(super) fn new(rate: usize) -> Self {
        let state = State {
            lanes: Lanes::new(rate),
            granting: false,
        };
        Self {
            rate,
            inner: Arc::new(Inner {
                state: Mutex::new(state),
                news: Notify::new(),
            }),
        }
    }

    /// At another rate; what is known of visitors stays if it is the same.
    pub(super) fn at(&self, rate: usize) -> Self {
        if rate == self.rate {
            self.clone()
        } else {
            Self::new(rate)
        }
    }

    /// The visitor's place is taken at once; waits for its turn.
    pub(super) fn ask(
        &self,
        domain: &str,
        visitor: Visitor,
    ) -> impl Future<Output = Result<(), TooMany>> + Send + use<> {
        let mut state = self.inner.lock();
        let asked = state.lanes.ask(domain, visitor, clock::now());
        if matches!(asked, Ok(Some(_))) {
            if std::mem::replace(&mut state.granting, true) {
                self.inner.news.notify_one();
            } else {
                tokio::spawn(grant(Arc::clone(&self.inner)));
            }
        }
        async move {
            match asked? {
                // A sender that is gone refuses, too.
                Some(turn) => turn.await.unwrap_or(Err(TooMany)),
                None => Ok(()),
            }
        }
    }

    /// What becomes of the session of this visitor, for its lane.
    pub(super) fn ticket(&self, domain: &str) -> Ticket {
        Ticket {
            inner: Arc::clone(&self.inner),
            domain: domain.to_owned(),
            visitors: Vec::new(),
            answered: false,
            refused: false,
            bound: None,
        }
    }
}

/// Gives turns while anybody waits.
async fn grant(inner: Arc<Inner>) {
    loop {
        let next = {
            let mut state = inner.lock();
            let next = state.lanes.grant(clock::now());
            state.granting = next.is_some();
            next
        };
        let Some(next) = next else { return };
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            () = inner.news.notified() => {}
        }
    }
}

/// Remembers what came of a connection, and tells its lane once it is over.
#[derive(Debug)]
pub(super) struct Ticket {
    inner: Arc<Inner>,
    domain: String,
    visitors: Vec<Visitor>,
    answered: bool,
    refused: bool,
    bound: Option<Instant>,
}

impl Ticket {
    /// A session is asked for by this visitor.
    pub(super) fn add(&mut self, visitor: Visitor) {
        if self.visitors.len() < MAX_VISITORS && !self.visitors.contains(&visitor) {
            self.visitors.push(visitor);
        }
    }

    /// The manager was reached: without that nobody is to blame.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }

    /// There was to be no session.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }

    /// The client is online.
    pub(super) fn bound(&mut self, now: Instant) {
        self.bound.get_or_insert(now);
    }

    /// The session has served its purpose.
    pub(super) fn spare(mut self) {
        self.visitors.clear();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = clock::now();
        let ending = match self.bound {
            Some(at) if now.saturating_duration_since(at) < BRIEF => Ending::Brief,
            Some(_) => return,
            None if self.refused => Ending::Refused,
            None if self.answered => Ending::Unbound,
            None => return,
        };
        let mut state = self.inner.lock();
        for visitor in &self.visitors {
            state.lanes.ended(&self.domain, *visitor, ending, now);
        }
    }
}
