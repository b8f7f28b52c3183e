//! Openfire's `HttpSession`: a third request while two wait ends the session; answers are kept for a repeat, but not
//! those to creation and restart, and not the empty ones that make room for a newer request. What was kept first for
//! a rid is what a repeat gets.

use std::collections::VecDeque;

use super::{Common, Note, Session, Start, body, terminate};
use crate::Time;
use crate::request::Request;

const REQUESTS: usize = 2;
const KEPT: usize = 3;

struct Queued {
    rid: u64,
    conn: usize,
    until: Time,
    request: Request,
}

pub(crate) struct Openfire {
    c: Common,
    /// The last of the rids that have come without a gap.
    sequential: u64,
    answered: u64,
    /// In rid order, those before their turn included.
    queue: Vec<Queued>,
    /// The oldest first.
    kept: VecDeque<(u64, String)>,
    /// Rids whose answer was not kept.
    unkept: Vec<u64>,
    inactive_at: Option<Time>,
}

impl Openfire {
    pub(crate) fn new(start: Start) -> Self {
        let mut new = Self {
            c: start.common,
            sequential: start.rid,
            answered: start.rid,
            queue: Vec::new(),
            kept: VecDeque::new(),
            unkept: vec![start.rid],
            inactive_at: None,
        };
        new.inactive_at = Some(start.now + new.c.inactivity());
        new.c.server.say(Some(super::Later::Features));
        let features = new.c.server.drain();
        new.c.answer(start.conn, body(&start.attributes, &features));
        new
    }

    /// An answer that is kept.
    fn deliver(&mut self, queued: &Queued, inner: &str) {
        let ack = match self.sequential > queued.rid {
            true => format!("ack='{}'", self.sequential),
            false => String::new(),
        };
        let answer = body(&ack, inner);
        self.answered = queued.rid;
        while self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((queued.rid, answer.clone()));
        self.c.answer(queued.conn, answer);
    }

    /// The oldest request that has had its turn.
    fn ready(&mut self) -> Option<Queued> {
        let ready = self.queue.first()?.rid <= self.sequential;
        ready.then(|| self.queue.remove(0))
    }

    fn send_pending(&mut self) {
        if self.c.server.has_pending()
            && let Some(queued) = self.ready()
        {
            let inner = self.c.server.drain();
            self.deliver(&queued, &inner);
        }
    }

    fn rest(&mut self, now: Time) {
        self.inactive_at = self.queue.is_empty().then(|| now + self.c.inactivity());
    }

    fn close(&mut self, condition: Option<&str>) {
        self.c.over = true;
        let mut inner = self.c.server.drain();
        for (at, queued) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            let last = match at {
                0 => terminate(condition, &std::mem::take(&mut inner)),
                _ => body("", ""),
            };
            self.c.answer(queued.conn, last);
        }
    }

    /// A rid that was answered already.
    fn redeliver(&mut self, conn: usize, rid: u64) {
        let mut found = self.kept.iter().filter(|(known, _)| *known == rid);
        let first = found.next().map(|(_, answer)| answer.clone());
        let more = found.next().is_some() || self.queue.iter().any(|q| q.rid == rid);
        match first {
            Some(answer) => {
                if more {
                    self.c.notes.push(Note::Masked);
                }
                self.c.answer(conn, answer);
            }
            None => {
                self.c.notes.push(match self.unkept.contains(&rid) {
                    true => Note::Unkept,
                    false => Note::Forgotten,
                });
                self.refuse(conn, "item-not-found");
            }
        }
    }

    fn refuse(&mut self, conn: usize, condition: &str) {
        self.c.answer(conn, terminate(Some(condition), ""));
        self.close(Some(condition));
    }

    /// What has its turn runs.
    fn run(&mut self) {
        let mut at = 0;
        while at < self.queue.len() && self.queue[at].rid <= self.sequential + 1 {
            let rid = self.queue[at].rid;
            if rid <= self.sequential {
                at += 1;
                continue;
            }
            self.sequential = rid;
            let request = self.queue[at].request.clone();
            self.c.feed(&request);
            self.c.server.settle();
            if request.terminate {
                let ender = self.queue.remove(at);
                // The session's last word goes to the request that asked for it.
                self.queue.insert(0, ender);
                self.close(None);
                return;
            }
            if request.restart {
                let restart = self.queue.remove(at);
                let inner = self.c.server.drain();
                self.unkept.push(rid);
                self.c.answer(restart.conn, body("", &inner));
            } else {
                at += 1;
            }
        }
        self.send_pending();
        while self.queue.len() > 1
            && let Some(queued) = self.ready()
        {
            // Makes room, and is not kept.
            self.unkept.push(queued.rid);
            self.c.answer(queued.conn, body("", ""));
        }
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
        // Since March 2026 a terminate request may be one more.
        let spare = usize::from(request.terminate);
        if rid > self.sequential + REQUESTS as u64 {
            self.c.notes.push(Note::Forgotten);
            return self.refuse(conn, "item-not-found");
        }
        if rid <= self.answered {
            return self.redeliver(conn, rid);
        }
        if let Some(at) = self.queue.iter().position(|q| q.rid == rid) {
            let old = self.queue.remove(at);
            self.deliver(&old, "");
        }
        if self.queue.len() >= REQUESTS + spare {
            self.c.notes.push(Note::Overactive);
            return self.refuse(conn, "policy-violation");
        }
        let at = self.queue.iter().position(|q| q.rid > rid);
        let queued = Queued {
            rid,
            conn,
            until: now + self.c.wait,
            request: request.clone(),
        };
        self.queue.insert(at.unwrap_or(self.queue.len()), queued);
        self.run();
        self.rest(now);
    }

    fn closed(&mut self, _conn: usize, _now: Time) {}

    fn push(&mut self, now: Time) {
        self.send_pending();
        self.rest(now);
    }

    fn end(&mut self, _now: Time) {
        self.close(Some("remote-stream-error"));
    }

    fn due(&self) -> Option<Time> {
        let wait = self.queue.iter().map(|q| q.until).min();
        self.inactive_at.into_iter().chain(wait).min()
    }

    fn expire(&mut self, now: Time) {
        if self.inactive_at.is_some_and(|at| at <= now) {
            self.c.notes.push(Note::Inactive);
            self.c.over = true;
        } else if let Some(at) = self.queue.iter().position(|q| q.until <= now) {
            let queued = self.queue.remove(at);
            self.deliver(&queued, "");
            self.rest(now);
        }
    }

    fn held(&self) -> usize {
        self.queue.len()
    }
}
