//! MongooseIM's `mongoose_bosh_socket`: answers are kept until the client acknowledges them, early requests wait, a
//! newer request makes it let go of the oldest, closed connections are not noticed.

use super::{Common, Note, Session, Start, body, terminate};
use crate::Time;
use crate::request::Request;

const REQUESTS: u64 = 2;

struct Handler {
    rid: u64,
    conn: usize,
    until: Time,
}

pub(crate) struct MongooseIm {
    c: Common,
    rid: u64,
    /// In rid order, copies of one rid in the order they came.
    handlers: Vec<Handler>,
    /// The newest first.
    sent: Vec<(u64, String)>,
    last_processed: u64,
    deferred: Vec<Request>,
    inactive_at: Option<Time>,
    creation: Option<String>,
    report: Option<u64>,
}

impl MongooseIm {
    pub(crate) fn new(start: Start) -> Self {
        let mut new = Self {
            c: start.common,
            rid: start.rid,
            handlers: Vec::new(),
            sent: Vec::new(),
            last_processed: start.rid,
            deferred: Vec::new(),
            inactive_at: None,
            creation: Some(start.attributes),
            report: None,
        };
        new.add(start.conn, start.rid, start.now);
        new.c.server.owed.push(super::Later::Features);
        new
    }

    fn add(&mut self, conn: usize, rid: u64, now: Time) {
        self.inactive_at = None;
        let until = now + self.c.wait;
        let at = self
            .handlers
            .iter()
            .position(|h| h.rid > rid)
            .unwrap_or(self.handlers.len());
        self.handlers.insert(at, Handler { rid, conn, until });
    }

    /// The oldest request that has had its turn.
    fn pick(&mut self) -> Option<Handler> {
        let eligible = self.handlers.first()?.rid <= self.rid;
        eligible.then(|| self.handlers.remove(0))
    }

    fn write(&mut self, conn: usize, answer: String, now: Time) {
        self.c.answer(conn, answer);
        if self.handlers.is_empty() {
            self.inactive_at = Some(now + self.c.inactivity());
        }
    }

    fn answer(&mut self, handler: &Handler, inner: &str, now: Time) {
        let attributes = match (self.creation.take(), self.report.take()) {
            (Some(creation), _) => creation,
            (None, Some(rid)) => format!("sid='{}' report='{rid}' time='10'", self.c.sid),
            (None, None) => format!("sid='{}'", self.c.sid),
        };
        let answer = body(&attributes, inner);
        // One that was put aside is answered when its `wait` is over, and again when its turn comes.
        if self.sent.iter().any(|(rid, _)| *rid == handler.rid) {
            self.c.notes.push(Note::Masked);
        }
        self.sent.insert(0, (handler.rid, answer.clone()));
        self.last_processed = self.last_processed.max(handler.rid);
        self.write(handler.conn, answer, now);
    }

    /// What there is, or nothing, on the oldest request.
    fn send(&mut self, now: Time) {
        if let Some(handler) = self.pick() {
            let inner = self.c.server.drain();
            self.answer(&handler, &inner, now);
        }
    }

    fn invalid(&mut self) {
        self.c.over = true;
        for handler in std::mem::take(&mut self.handlers) {
            let gone = terminate(Some("item-not-found"), "");
            self.c.answer(handler.conn, gone);
        }
    }

    /// `came`: by itself; otherwise it was put aside and its connection is known already.
    fn event(&mut self, request: &Request, came: bool, now: Time) {
        let rid = request.rid;
        let stored = self.sent.iter().find(|(known, _)| *known == rid);
        let repeated = stored.is_some() || rid == self.rid;
        if repeated && came {
            if let Some((_, answer)) = stored {
                let answer = answer.clone();
                if let Some(handler) = self.pick() {
                    self.write(handler.conn, answer, now);
                }
            }
        } else if rid == self.rid + 1 {
            self.process(request, now);
        } else if rid > self.rid + 1 && rid < self.rid + 1 + REQUESTS {
            self.deferred.push(request.clone());
        } else {
            self.c.notes.push(if came {
                Note::Forgotten
            } else {
                Note::ParkedAgain(rid)
            });
            self.invalid();
        }
    }

    fn process(&mut self, request: &Request, now: Time) {
        self.rid = request.rid;
        let mut report = false;
        if let Some(ack) = request.ack {
            report = ack < self.last_processed;
            self.sent.retain(|(rid, _)| *rid > ack);
            if report {
                self.report.get_or_insert(ack + 1);
            }
        }
        self.c.feed(request);
        if request.terminate {
            self.finish(now);
            return;
        }
        let mut deferred = std::mem::take(&mut self.deferred);
        deferred.sort_by_key(|r| r.rid);
        for early in deferred {
            if !self.c.over {
                self.event(&early, false, now);
            }
        }
        if report && !self.c.over {
            self.send(now);
        }
    }

    fn finish(&mut self, now: Time) {
        if self.c.server.has_pending() {
            self.send(now);
        }
        self.c.over = true;
        let mut rest = std::mem::take(&mut self.handlers).into_iter();
        if let Some(oldest) = rest.next() {
            self.c.answer(oldest.conn, terminate(None, ""));
        }
        for handler in rest {
            self.c.answer(handler.conn, String::new());
        }
    }
}

impl Session for MongooseIm {
    fn common(&mut self) -> &mut Common {
        &mut self.c
    }

    fn look(&self) -> &Common {
        &self.c
    }

    fn request(&mut self, conn: usize, request: &Request, now: Time) {
        self.add(conn, request.rid, now);
        self.event(request, true, now);
        let surplus = self.handlers.len() > 1;
        if !self.c.over && (surplus || self.c.server.has_pending()) {
            self.send(now);
        }
    }

    fn closed(&mut self, _conn: usize, _now: Time) {}

    fn push(&mut self, now: Time) {
        if self.c.server.has_pending() {
            self.send(now);
        }
    }

    fn end(&mut self, now: Time) {
        self.finish(now);
    }

    fn due(&self) -> Option<Time> {
        let wait = self.handlers.iter().map(|h| h.until).min();
        self.inactive_at.into_iter().chain(wait).min()
    }

    fn expire(&mut self, now: Time) {
        if self.inactive_at.is_some_and(|at| at <= now) {
            self.c.notes.push(Note::Inactive);
            self.c.over = true;
            return;
        }
        if let Some(at) = self.handlers.iter().position(|h| h.until <= now) {
            let handler = self.handlers.remove(at);
            // With nothing in it, whatever waits for a request that has had its turn.
            self.answer(&handler, "", now);
        }
    }

    fn held(&self) -> usize {
        self.handlers.len()
    }
}
