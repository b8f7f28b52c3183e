//! Requests that came before, or that cannot be placed.

use super::{Early, Held, Reply, Session, send};
use crate::cm::fault::Kind;
use crate::cm::profile::{Errors, Superseded, WrongRid};
use crate::cm::reply::Answer;
use crate::cm::request::Request;
use tokio::time::Instant;

impl Session {
    /// XEP-0124 section 14.3: the older copy gets an answer, the new one waits.
    pub(super) fn supersede(&mut self, id: usize, request: &Request, reply: Reply) {
        let empty = Answer::ok(self.body(request.rid, ""));
        let policy = self.profile.superseded;
        if policy != Superseded::Error {
            self.store(request.rid, empty.clone());
        }
        let error = Answer::ok(self.profile.wrap("type='error'", ""));
        if let Some(held) = self.held.iter_mut().find(|held| held.rid == request.rid) {
            let old = std::mem::replace(&mut held.reply, reply);
            held.id = id;
            held.since = Instant::now();
            if policy == Superseded::Echo {
                held.echo = Some(request.children.concat());
            }
            send(
                old,
                if policy == Superseded::Error {
                    error
                } else {
                    empty
                },
            );
        }
    }

    pub(super) fn parked_again(&mut self, early: Early, id: usize, request: Request, reply: Reply) {
        if self.profile.stalls {
            let broken = self.profile.terminate(Some("internal-server-error"), "");
            self.parting.push((reply, Answer::ok(broken)));
            self.held.push_back(Held {
                id: early.id,
                rid: early.request.rid,
                reply: early.reply,
                since: Instant::now(),
                kind: Kind::Payload,
                echo: None,
            });
            self.end(Some("other-request"), "", None);
            return;
        }
        send(
            early.reply,
            Answer::ok(self.profile.wrap("type='error'", "")),
        );
        self.early.insert(request.rid, Early { id, request, reply });
    }

    /// Tigase: stanzas of a known request are skipped, and it is a poll like any other.
    pub(super) fn repeated_without_store(&mut self, id: usize, request: &Request, reply: Reply) {
        let same = self
            .recent
            .get(&request.rid)
            .is_some_and(|known| *known == request.children);
        if same {
            self.hold(id, request, reply);
        } else {
            send(
                reply,
                Answer::ok(self.profile.terminate(Some("item-not-found"), "")),
            );
        }
    }

    pub(super) fn wrong_rid(&mut self, id: usize, request: &Request, reply: Reply) {
        if self.profile.wrong_rid == WrongRid::Lives {
            return send(reply, self.refusal("item-not-found"));
        }
        self.hold(id, request, reply);
        self.end(Some("item-not-found"), "", Some(request.rid));
    }

    pub(super) fn refusal(&self, condition: &str) -> Answer {
        match self.profile.errors {
            Errors::Bare => Answer::status("404 Not Found", String::new()),
            _ => Answer::ok(self.profile.terminate(Some(condition), "")),
        }
    }
}
