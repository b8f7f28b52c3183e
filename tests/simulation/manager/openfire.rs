//! Openfire's `HttpSession`: a third request while two wait ends the session, so do empty ones in quick succession;
//! three answers are kept, but not those to creation and restart.

use std::collections::{BTreeMap, VecDeque};

use super::{Common, Note, Session, Start, body, terminate};
use crate::Time;
use crate::request::Request;

const REQUESTS: usize = 2;
const KEPT: usize = 3;

struct Held {
    rid: u64,
    conn: usize,
    until: Time,
    keep: bool,
}

pub(crate) struct Openfire {
    c: Common,
    rid: u64,
    held: VecDeque<Held>,
    early: BTreeMap<u64, (usize, Request)>,
    stored: BTreeMap<u64, String>,
    last_poll: Option<Time>,
    inactive_at: Option<Time>,
}

impl Openfire {
    pub(crate) fn new(start: Start) -> Self {
        let mut new = Self {
            c: start.common,
            rid: start.rid,
            held: VecDeque::new(),
            early: BTreeMap::new(),
            stored: BTreeMap::new(),
            last_poll: None,
            inactive_at: None,
        };
        new.inactive_at = Some(start.now + new.c.inactivity());
        new.c.server.say(Some(super::Later::Features));
        let features = new.c.server.drain();
        new.c.answer(start.conn, body(&start.attributes, &features));
        new
    }

    fn answer(&mut self, held: &Held, now: Time) {
        let inner = self.c.server.drain();
        let ack = match self.rid > held.rid {
            true => format!("ack='{}'", self.rid),
            false => String::new(),
        };
        let answer = body(&ack, &inner);
        if held.keep {
            self.store(held.rid, answer.clone());
        }
        self.c.answer(held.conn, answer);
        if self.held.is_empty() {
            self.inactive_at = Some(now + self.c.inactivity());
        }
    }

    fn store(&mut self, rid: u64, answer: String) {
        self.stored.insert(rid, answer);
        while self.stored.len() > KEPT {
            self.stored.pop_first();
        }
    }

    fn close(&mut self, condition: Option<&str>) {
        self.c.over = true;
        let inner = self.c.server.drain();
        let mut held = std::mem::take(&mut self.held).into_iter();
        if let Some(oldest) = held.next() {
            self.c.answer(oldest.conn, terminate(condition, &inner));
        }
        for rest in held {
            self.c.answer(rest.conn, body("", ""));
        }
        for (_, (conn, _)) in std::mem::take(&mut self.early) {
            self.c.answer(conn, body("", ""));
        }
    }

    fn process(&mut self, conn: usize, request: &Request, now: Time) {
        self.rid = request.rid;
        self.inactive_at = None;
        self.held.push_back(Held {
            rid: request.rid,
            conn,
            until: now + self.c.wait,
            keep: !request.restart,
        });
        self.c.feed(request);
        self.c.server.settle();
        if request.terminate {
            self.close(None);
            return;
        }
        if self.c.server.has_pending() || self.held.len() > 1 {
            self.push_or_release(now);
        }
        if let Some((conn, early)) = self.early.remove(&(self.rid + 1)) {
            self.process(conn, &early, now);
        }
    }

    fn push_or_release(&mut self, now: Time) {
        if let Some(oldest) = self.held.pop_front() {
            self.answer(&oldest, now);
        }
    }

    /// XEP-0124 section 11, with one more for terminate since 2026.
    fn overactive(&mut self, request: &Request, now: Time) -> bool {
        let open = self.held.len() + self.early.len();
        let spare = usize::from(request.terminate);
        let pause = self.c.kind.polling() * crate::SECOND;
        let poll = request.is_empty();
        let soon = poll && open > 0 && self.last_poll.is_some_and(|at| now < at + pause);
        if poll {
            self.last_poll = Some(now);
        }
        open >= REQUESTS + spare || soon
    }
}

impl Session for Openfire {
    fn common(&mut self) -> &mut Common {
        &mut self.c
    }

    fn look(&self) -> &Common {
        &self.c
    }

    fn request(&mut self, conn: usize, request: &Request, now: Time) {
        let rid = request.rid;
        if let Some(stored) = self.stored.get(&rid) {
            let stored = stored.clone();
            self.c.answer(conn, stored);
        } else if let Some(at) = self.held.iter().position(|h| h.rid == rid) {
            let old = std::mem::replace(&mut self.held[at].conn, conn);
            self.held[at].until = now + self.c.wait;
            self.store(rid, body("", ""));
            self.c.answer(old, body("", ""));
        } else if let Some((old, _)) = self.early.get_mut(&rid) {
            let old = std::mem::replace(old, conn);
            self.c.answer(old, body("", ""));
        } else if rid <= self.rid || rid > self.rid + REQUESTS as u64 + u64::from(request.terminate)
        {
            self.c.notes.push(Note::Forgotten);
            self.c.answer(conn, terminate(Some("item-not-found"), ""));
            self.close(Some("item-not-found"));
        } else if self.overactive(request, now) {
            self.c.notes.push(Note::Overactive);
            self.c.answer(conn, terminate(Some("policy-violation"), ""));
            self.close(Some("policy-violation"));
        } else if rid > self.rid + 1 {
            self.early.insert(rid, (conn, request.clone()));
        } else {
            self.process(conn, request, now);
        }
    }

    fn closed(&mut self, _conn: usize, _now: Time) {}

    fn push(&mut self, now: Time) {
        if self.c.server.has_pending() {
            self.push_or_release(now);
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
            self.push_or_release(now);
        }
    }

    fn held(&self) -> usize {
        self.held.len() + self.early.len()
    }
}
