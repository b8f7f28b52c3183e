//! The HTTP/1.1 connections of one session that wait for a request, and what they teach about the peer.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::live::{Live, Place};
use super::lock;

/// Idle connections older than this are not used: a NAT or proxy may have forgotten them (T-31). Looked at
/// whenever a connection is wanted or given back, so that nothing wakes up while a poll is held.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(30);
/// Most connections while some are idle: two carry a session, one may be left of a repeat (P-11).
const MAX_KEPT: usize = 3;
/// A connection found closed after so little time was closed because of the answer, not of the idling.
const EARLY: Duration = Duration::from_secs(2);
/// So many closes in a row without one kept connection in between are a habit.
const HABIT: u8 = 2;
/// How long a habit is believed in before it is looked at again.
const HABIT_AGE: Duration = Duration::from_secs(300);

/// Connections of one session, one request in flight on each (B-05).
#[derive(Default)]
pub(super) struct Kept {
    idle: Mutex<Vec<Idle>>,
    /// Connections with an exchange; those of HTTP/2 once for each.
    busy: Mutex<Vec<Arc<Place>>>,
    closes: Mutex<Closes>,
}

/// Connections that were closed behind an answer that did not say so.
#[derive(Default)]
struct Closes {
    in_a_row: u8,
    last: Option<Instant>,
}

struct Idle {
    connection: Live,
    since: Instant,
}

impl Kept {
    /// The newest idle connection that is still good, and since when it was idle.
    pub(super) fn checkout(&self) -> Option<(Live, Instant)> {
        let Idle { connection, since } = self.lock_idle().pop()?;
        Some((connection, since))
    }

    /// A connection was given back, and then found closed.
    pub(super) fn note_close(&self, since: Instant) {
        if since.elapsed() < EARLY {
            let mut closes = lock(&self.closes);
            closes.in_a_row = closes.in_a_row.saturating_add(1);
            closes.last = Some(Instant::now());
        }
    }

    /// A kept connection has carried another exchange.
    pub(super) fn note_good(&self) {
        lock(&self.closes).in_a_row = 0;
    }

    /// The peer closes behind every answer without saying so, as tinyproxy does (P-08): a request written to
    /// such a connection would count as written and then be overtaken by the next one (T-37).
    pub(super) fn closes_silently(&self) -> bool {
        let closes = lock(&self.closes);
        closes.in_a_row >= HABIT && closes.last.is_some_and(|last| last.elapsed() < HABIT_AGE)
    }

    /// Keeps a connection that is new, or whose exchange is over; `None` if it did not outlive it.
    pub(super) fn put_back(&self, connection: Option<Live>) {
        if self.closes_silently() {
            return;
        }
        let Some(connection) = connection else {
            return self.note_close(Instant::now());
        };
        let mut idle = self.lock_idle();
        if idle.len() + lock(&self.busy).len() < MAX_KEPT {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    /// Whether no good connection is idle.
    pub(super) fn is_empty(&self) -> bool {
        self.lock_idle().is_empty()
    }

    /// Closes all connections without an exchange.
    pub(super) fn clear(&self) {
        lock(&self.idle).clear();
    }

    /// Closes the idle connections whose local address is `lost`, and lets the busy ones carry no further
    /// request. Returns whether there was any of either kind.
    pub(super) fn renew(&self, lost: impl Fn(Option<IpAddr>) -> bool) -> bool {
        let mut idle = lock(&self.idle);
        let before = idle.len();
        idle.retain(|kept| !lost(kept.connection.about.place.local));
        let mut found = idle.len() < before;
        drop(idle);
        for place in lock(&self.busy).iter().filter(|place| lost(place.local)) {
            place.lose();
            found = true;
        }
        found
    }

    /// The next exchange begins.
    pub(super) fn begin(&self, place: &Arc<Place>) {
        lock(&self.busy).push(Arc::clone(place));
    }

    /// An exchange is over.
    pub(super) fn end(&self, place: &Arc<Place>) {
        let mut busy = lock(&self.busy);
        if let Some(at) = busy.iter().position(|other| Arc::ptr_eq(other, place)) {
            busy.swap_remove(at);
        }
    }

    /// Idle connections, without those that are too old or closed.
    fn lock_idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        idle.retain_mut(|kept| {
            let age = now.saturating_duration_since(kept.since);
            let closed = !kept.connection.is_good();
            if closed && age < EARLY {
                self.note_close(kept.since);
            }
            age < MAX_IDLE && !closed
        });
        idle
    }
}
