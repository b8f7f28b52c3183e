//! Tigase's `BoshSession`: requests run as they come, no answer is kept, a repeat is told by its payload and is a
//! poll like any other, features come late, at most 15 stanzas go into one answer.

use std::collections::{BTreeMap, VecDeque};

use super::{Common, Note, Session, Start, body, terminate};
use crate::Time;
use crate::request::Request;

const STANZAS: usize = 15;
const REMEMBERED: usize = 256;

struct Held {
    conn: usize,
    until: Time,
}

pub(crate) struct Tigase {
    c: Common,
    held: VecDeque<Held>,
    recent: BTreeMap<u64, String>,
    inactive_at: Option<Time>,
}

impl Tigase {
    pub(crate) fn new(start: Start) -> Self {
        let mut new = Self {
            c: start.common,
            held: VecDeque::new(),
            recent: BTreeMap::from([(start.rid, String::new())]),
            inactive_at: None,
        };
        new.inactive_at = Some(start.now + new.c.inactivity());
        new.c.answer(start.conn, body(&start.attributes, ""));
        new.c.server.owed.push(super::Later::Features);
        new
    }

    /// What there is, or nothing, on the oldest connection.
    fn send(&mut self, now: Time) {
        let Some(held) = self.held.pop_front() else {
            return;
        };
        let count = self.c.server.pending.len().min(STANZAS);
        let inner: String = self.c.server.pending.drain(..count).collect();
        self.c.answer(held.conn, body("", &inner));
        if self.held.is_empty() {
            self.inactive_at = Some(now + self.c.inactivity());
        }
    }

    fn close(&mut self, condition: Option<&str>) {
        self.c.over = true;
        let mut inner = self.c.server.drain();
        for held in std::mem::take(&mut self.held) {
            let last = terminate(condition, &std::mem::take(&mut inner));
            self.c.answer(held.conn, last);
        }
    }
}

impl Session for Tigase {
    fn common(&mut self) -> &mut Common {
        &mut self.c
    }

    fn look(&self) -> &Common {
        &self.c
    }

    fn request(&mut self, conn: usize, request: &Request, now: Time) {
        let known = self.recent.get(&request.rid);
        if known.is_some_and(|known| *known != request.inner) {
            self.c.notes.push(Note::Forgotten);
            self.c.answer(conn, terminate(Some("item-not-found"), ""));
            return;
        }
        let last = self.recent.last_key_value().map_or(0, |(last, _)| *last);
        if known.is_some() && last > request.rid {
            self.c.notes.push(Note::Reordered);
        } else if known.is_none() && last + 1 != request.rid {
            self.c.notes.push(Note::Overtaken);
        }
        self.inactive_at = None;
        let repeated = known.is_some();
        let until = now + self.c.wait;
        self.held.push_back(Held { conn, until });
        if !repeated {
            self.recent.insert(request.rid, request.inner.clone());
            while self.recent.len() > REMEMBERED {
                self.recent.pop_first();
            }
            self.c.feed(request);
        }
        if request.terminate {
            self.close(None);
        } else if self.c.server.has_pending() || self.held.len() > 1 {
            self.send(now);
        }
    }

    fn closed(&mut self, conn: usize, now: Time) {
        let before = self.held.len();
        self.held.retain(|held| held.conn != conn);
        if before > 0 && self.held.is_empty() {
            self.inactive_at = Some(now + self.c.inactivity());
        }
    }

    fn push(&mut self, now: Time) {
        if self.c.server.has_pending() {
            self.send(now);
        }
    }

    fn end(&mut self, _now: Time) {
        self.close(Some("remote-stream-error"));
    }

    fn due(&self) -> Option<Time> {
        let wait = self.held.iter().map(|h| h.until).min();
        self.inactive_at.into_iter().chain(wait).min()
    }

    fn expire(&mut self, now: Time) {
        if self.inactive_at.is_some_and(|at| at <= now) {
            self.c.notes.push(Note::Inactive);
            self.c.over = true;
        } else {
            self.send(now);
        }
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}
