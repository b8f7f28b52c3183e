//! Prosody's `mod_bosh`: one early request is put aside, the last two answers are kept, a repeat of what is held
//! makes it answer the older copy empty (and keep that as the rid's answer). Only a wrong rid itself is refused.

use std::collections::VecDeque;

use super::{Common, Note, Session, Start, body, terminate};
use crate::Time;
use crate::request::Request;

const HOLD: usize = 1;
const KEPT: usize = 2;

pub(crate) struct Prosody {
    c: Common,
    rid: u64,
    requests: VecDeque<(usize, u64)>,
    /// The one written last at the end.
    responses: VecDeque<(u64, String)>,
    /// Requests that were taken back by their connection before they were answered: never stored.
    taken_back: Vec<u64>,
    deferred: Option<(usize, Request)>,
    ending: bool,
    inactive_at: Option<Time>,
    wait_at: Option<Time>,
}

impl Prosody {
    pub(crate) fn new(start: Start) -> Self {
        let mut new = Self {
            c: start.common,
            rid: start.rid,
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            taken_back: Vec::new(),
            deferred: None,
            ending: false,
            inactive_at: None,
            wait_at: None,
        };
        new.c.server.say(Some(super::Later::Features));
        let features = new.c.server.drain();
        let answer = body(&start.attributes, &features);
        new.store(start.rid, answer.clone());
        new.c.answer(start.conn, answer);
        new.destroyed(start.now);
        new
    }

    fn store(&mut self, rid: u64, answer: String) {
        self.responses.retain(|(known, _)| *known != rid);
        self.responses.push_back((rid, answer));
        while self.responses.len() > KEPT {
            self.responses.pop_front();
        }
    }

    /// A request is gone, answered or not.
    fn destroyed(&mut self, now: Time) {
        if self.requests.is_empty() {
            self.inactive_at = Some(now + self.c.inactivity());
        }
        self.wait_at = None;
    }

    /// Everything for the client, or nothing, on the oldest request.
    fn send(&mut self, now: Time) {
        let Some((conn, rid)) = self.requests.pop_front() else {
            return;
        };
        let kind = if self.ending { " type='terminate'" } else { "" };
        let inner = self.c.server.drain();
        let answer = body(&format!("sid='{}'{kind}", self.c.sid), &inner);
        self.store(rid, answer.clone());
        self.c.answer(conn, answer);
        self.destroyed(now);
    }

    /// The end of every request's own part: what was put aside is taken in, whichever request this was.
    fn stream_closed(&mut self, now: Time) {
        if let Some((conn, early)) = self.deferred.take() {
            if early.rid != self.rid + 1 {
                self.c.notes.push(Note::Skipped);
            }
            self.rid = early.rid;
            self.requests.push_back((conn, early.rid));
            self.c.feed(&early);
            self.c.server.settle();
            self.ending |= early.terminate;
        }
        if self.c.server.has_pending() {
            self.send(now);
        }
    }

    fn close(&mut self, condition: Option<&str>) {
        for (conn, _) in std::mem::take(&mut self.requests) {
            self.c.answer(conn, terminate(condition, ""));
        }
        self.c.over = true;
    }
}

impl Session for Prosody {
    fn common(&mut self) -> &mut Common {
        &mut self.c
    }

    fn look(&self) -> &Common {
        &self.c
    }

    fn request(&mut self, conn: usize, request: &Request, now: Time) {
        let rid = request.rid;
        let stored = self.responses.iter().find(|(known, _)| *known == rid);
        if rid == self.rid + 2 {
            self.deferred = Some((conn, request.clone()));
        } else {
            if rid == self.rid + 1 {
                self.rid = rid;
                self.ending |= request.terminate;
                self.requests.push_back((conn, rid));
                self.c.feed(request);
                self.c.server.settle();
            } else if let Some((_, answer)) = stored {
                let answer = answer.clone();
                self.c.answer(conn, answer);
                self.destroyed(now);
            } else if rid == self.rid {
                self.requests.push_back((conn, rid));
            } else {
                self.c.notes.push(match self.taken_back.contains(&rid) {
                    true => Note::Unkept,
                    false => Note::Forgotten,
                });
                self.c.answer(conn, terminate(Some("item-not-found"), ""));
            }
            self.stream_closed(now);
        }
        if !self.requests.is_empty() {
            self.inactive_at = None;
        }
        self.wait_at = None;
        if self.requests.len() > HOLD || self.c.server.has_pending() {
            self.send(now);
        }
        if self.ending {
            self.close(None);
        } else if !self.requests.is_empty() {
            self.wait_at = Some(now + self.c.wait);
        }
    }

    fn closed(&mut self, conn: usize, now: Time) {
        if let Some(at) = self.requests.iter().position(|(open, _)| *open == conn)
            && let Some((_, rid)) = self.requests.remove(at)
        {
            self.taken_back.push(rid);
            self.destroyed(now);
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
        self.inactive_at.into_iter().chain(self.wait_at).min()
    }

    fn expire(&mut self, now: Time) {
        if self.inactive_at.is_some_and(|at| at <= now) {
            self.c.notes.push(Note::Inactive);
            self.c.over = true;
        } else {
            self.wait_at = None;
            self.send(now);
        }
    }

    fn held(&self) -> usize {
        self.requests.len()
    }
}
