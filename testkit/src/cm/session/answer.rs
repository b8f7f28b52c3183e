//! Answers: what the server has for the client, on the oldest request that waits.

use tokio::time::Instant;

use super::{Held, Session, send};
use crate::cm::fault::Kind;
use crate::cm::reply::Answer;
use crate::xmpp::Out;

impl Session {
    pub(super) fn answer_apart(&mut self, rid: u64) {
        if let Some(at) = self.held.iter().position(|held| held.rid == rid)
            && let Some(held) = self.held.remove(at)
        {
            let inner: String = self.pending.drain(..).collect();
            send(held.reply, Answer::ok(self.body(rid, &inner)));
        }
    }

    /// Takes what the server has for the client.
    pub(super) fn collect(&mut self) {
        while let Ok(out) = self.out.try_recv() {
            self.deliver(out);
        }
    }

    /// Something for the client.
    pub(in crate::cm) fn deliver(&mut self, out: Out) {
        match out {
            Out::Element(element) => {
                self.features_owed |=
                    element.starts_with("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'");
                self.pending.push_back(self.dress(element));
            }
            Out::Close => self.end(Some("remote-stream-error"), "", None),
        }
    }

    /// Stanzas of TCP clients have no namespace of their own; some managers leave it out for all.
    pub(super) fn dress(&self, element: String) -> String {
        const CLIENT: &str = " xmlns='jabber:client'";
        let end = element.find('>').unwrap_or(0);
        let name = element.find([' ', '>', '/']).unwrap_or(0);
        let stanza = matches!(&element[..name], "<message" | "<presence" | "<iq");
        match element[..end].find(CLIENT) {
            Some(at) if self.profile.bare_stanzas => {
                format!("{}{}", &element[..at], &element[at + CLIENT.len()..])
            }
            None if stanza && !self.profile.bare_stanzas && !element[..end].contains(" xmlns=") => {
                format!("{}{CLIENT}{}", &element[..name], &element[name..])
            }
            _ => element,
        }
    }

    /// Answers what can be answered: payload on the oldest, and no more held than agreed.
    pub(in crate::cm) fn settle(&mut self) {
        self.collect();
        while !self.pending.is_empty()
            && let Some(held) = self.held.pop_front()
        {
            let count = self.pending.len().min(self.profile.max_payloads);
            let inner: String = self.pending.drain(..count).collect();
            self.answer(held, &inner);
            if self.profile.stalls {
                self.run_early();
            }
        }
        self.release(if self.wait.is_zero() { 0 } else { self.hold });
    }

    pub(super) fn release(&mut self, keep: usize) {
        while self.held.len() > keep
            && let Some(held) = self.held.pop_front()
        {
            self.answer(held, "");
        }
    }

    pub(super) fn answer(&mut self, held: Held, inner: &str) {
        let body = match &held.echo {
            Some(own) => {
                let attributes = format!("sid='{}' rid='{}'", self.sid, held.rid);
                self.profile
                    .wrap(&attributes, if inner.is_empty() { own } else { inner })
            }
            None => self.body(held.rid, inner),
        };
        let answer = Answer::ok(body);
        if !(held.kind == Kind::Restart && self.profile.restart_apart) {
            self.store(held.rid, answer.clone());
        }
        self.last_seen = Instant::now();
        send(held.reply, answer);
    }

    pub(super) fn store(&mut self, rid: u64, answer: Answer) {
        self.stored.insert(rid, answer);
        while self.stored.len() > self.profile.stored {
            self.stored.pop_first();
        }
    }

    pub(super) fn body(&self, rid: u64, inner: &str) -> String {
        let mut attributes = String::new();
        if self.profile.repeat_sid {
            attributes = format!("sid='{}'", self.sid);
        }
        let highest = self.next_rid - 1;
        if self.profile.acks && highest != rid {
            attributes.push_str(&format!(" ack='{highest}'"));
        }
        self.profile.wrap(&attributes, inner)
    }
}
