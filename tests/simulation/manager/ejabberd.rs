//! ejabberd's `ejabberd_bosh`: an early request is looked at again only when the missing one is answered with
//! stanzas (cm-quirks 4.1), a repeat is answered with the request's own stanzas unless something comes for the
//! client (4.3), and a request that is put aside must not come twice.

use std::collections::BTreeMap;

use super::{Common, Note, Session, Start, body, terminate};
use crate::Time;
use crate::request::Request;

const REQUESTS: u64 = 2;

/// What is answered when nothing else is to be said.
#[derive(Clone)]
struct Reply {
    attributes: String,
    /// The client's own stanzas.
    own: String,
}

/// A connection, what it will be answered, and the request if it still has to be looked at.
struct Receiver {
    conn: usize,
    reply: Reply,
    early: Option<Request>,
}

pub(crate) struct Ejabberd {
    c: Common,
    prev_rid: u64,
    receivers: BTreeMap<u64, Receiver>,
    responses: BTreeMap<u64, String>,
    inactive_at: Option<Time>,
    wait_at: Option<Time>,
}

impl Ejabberd {
    pub(crate) fn new(start: Start) -> Self {
        let now = start.now;
        let mut new = Self {
            c: start.common,
            prev_rid: start.rid,
            receivers: BTreeMap::new(),
            responses: BTreeMap::new(),
            inactive_at: None,
            wait_at: Some(now),
        };
        new.wait_at = Some(now + new.c.wait);
        let receiver = Receiver {
            conn: start.conn,
            reply: Reply {
                attributes: start.attributes,
                own: String::new(),
            },
            early: None,
        };
        new.receivers.insert(start.rid, receiver);
        // The stream behind answers by itself, a moment later.
        new.c.server.owed.push(super::Later::Features);
        new
    }

    fn do_reply(&mut self, rid: u64, conn: usize, answer: String) {
        self.c.answer(conn, answer.clone());
        self.responses.remove(&rid);
        while self.responses.len() >= REQUESTS as usize {
            self.responses.pop_first();
        }
        self.responses.insert(rid, answer);
    }

    fn reply_with(&mut self, rid: u64, receiver: Receiver, inner: &str, now: Time) {
        self.inactive_at = Some(now + self.c.inactivity());
        let reply = receiver.reply;
        let inner = if inner.is_empty() { &reply.own } else { inner };
        let answer = body(&reply.attributes, inner);
        self.do_reply(rid, receiver.conn, answer);
    }

    /// Lets go of what is held. What is put aside behind it stays there.
    fn drop_holding(&mut self, now: Time) {
        let rid = self.prev_rid;
        if let Some(receiver) = self.receivers.remove(&rid) {
            self.reply_with(rid, receiver, "", now);
        }
    }

    /// Answers with stanzas; then the next one is looked at if it was put aside.
    fn release(&mut self, rid: u64, now: Time) {
        let next = self.receivers.first_key_value().map(|(rid, _)| *rid);
        if next == Some(rid + 1)
            && let Some(receiver) = self.receivers.remove(&(rid + 1))
            && let Some(early) = receiver.early
        {
            self.take(receiver.conn, &early, now);
        }
    }

    /// Adds to what waits; the same rid twice is a crash.
    fn insert(&mut self, rid: u64, receiver: Receiver) {
        if self.receivers.contains_key(&rid) {
            self.c.notes.push(Note::ParkedAgain(rid));
            let crash = terminate(Some("internal-server-error"), "");
            self.c.answer(receiver.conn, crash);
            self.bounce();
            return;
        }
        self.receivers.insert(rid, receiver);
    }

    /// The session is over for all that wait.
    fn bounce(&mut self) {
        self.c.over = true;
        for (_, receiver) in std::mem::take(&mut self.receivers) {
            let other = terminate(Some("other-request"), "");
            self.c.answer(receiver.conn, other);
        }
    }

    fn plain() -> Reply {
        Reply {
            attributes: String::new(),
            own: String::new(),
        }
    }

    fn take(&mut self, conn: usize, request: &Request, now: Time) {
        let rid = request.rid;
        if rid > self.prev_rid + REQUESTS {
            self.c.notes.push(Note::Forgotten);
            self.c.answer(conn, terminate(Some("item-not-found"), ""));
            self.bounce();
        } else if rid > self.prev_rid + 1 {
            self.inactive_at = Some(now + self.c.inactivity());
            let early = Receiver {
                conn,
                reply: Self::plain(),
                early: Some(request.clone()),
            };
            self.insert(rid, early);
        } else if rid <= self.prev_rid {
            if let Some(stored) = self.responses.get(&rid) {
                let stored = stored.clone();
                self.do_reply(rid, conn, stored);
                return;
            }
            if rid < self.prev_rid {
                self.c.notes.push(Note::Forgotten);
            }
            self.drop_holding(now);
            self.inactive_at = None;
            self.wait_at = Some(now + self.c.wait);
            let echo = Receiver {
                conn,
                reply: Reply {
                    attributes: format!("sid='{}' rid='{rid}'", self.c.sid),
                    own: request.inner.clone(),
                },
                early: None,
            };
            self.insert(rid, echo);
        } else {
            self.next(conn, request, now);
        }
    }

    fn next(&mut self, conn: usize, request: &Request, now: Time) {
        let rid = request.rid;
        self.inactive_at = None;
        self.wait_at = None;
        self.c.feed(request);
        let inner = self.c.server.drain();
        if request.terminate {
            self.c.answer(conn, terminate(None, &inner));
            self.receivers.remove(&rid);
            self.bounce();
            return;
        }
        self.drop_holding(now);
        self.prev_rid = rid;
        if inner.is_empty() {
            self.inactive_at = None;
            self.wait_at = Some(now + self.c.wait);
            let held = Receiver {
                conn,
                reply: Self::plain(),
                early: None,
            };
            self.insert(rid, held);
            if self.receivers.contains_key(&(rid + 1)) {
                // Looked at only if this one is answered with stanzas.
                self.c.notes.push(Note::Stalled);
            }
        } else {
            self.receivers.remove(&rid);
            let held = Receiver {
                conn,
                reply: Self::plain(),
                early: None,
            };
            self.reply_with(rid, held, &inner, now);
            self.release(rid, now);
        }
    }
}

impl Session for Ejabberd {
    fn common(&mut self) -> &mut Common {
        &mut self.c
    }

    fn look(&self) -> &Common {
        &self.c
    }

    fn request(&mut self, conn: usize, request: &Request, now: Time) {
        self.take(conn, request, now);
    }

    fn closed(&mut self, _conn: usize, _now: Time) {}

    fn push(&mut self, now: Time) {
        let rid = self.prev_rid;
        if !self.receivers.contains_key(&rid) {
            return;
        }
        let inner = self.c.server.drain();
        if !inner.is_empty()
            && let Some(receiver) = self.receivers.remove(&rid)
        {
            self.reply_with(rid, receiver, &inner, now);
            self.release(rid, now);
        }
    }

    fn end(&mut self, _now: Time) {
        let rid = self.prev_rid;
        let inner = self.c.server.drain();
        if let Some(receiver) = self.receivers.remove(&rid) {
            self.c.answer(
                receiver.conn,
                terminate(Some("remote-stream-error"), &inner),
            );
        }
        self.bounce();
    }

    fn due(&self) -> Option<Time> {
        self.inactive_at.into_iter().chain(self.wait_at).min()
    }

    fn expire(&mut self, now: Time) {
        if self.inactive_at.is_some_and(|at| at <= now) {
            self.c.notes.push(Note::Inactive);
            self.bounce();
        } else {
            self.wait_at = None;
            self.drop_holding(now);
        }
    }

    fn held(&self) -> usize {
        self.receivers.len()
    }
}
