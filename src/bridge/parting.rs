//! A client has vanished without a word: its contacts and correspondents are told (S-50, XEP-0206 section 6).

use std::time::{Duration, Instant};

use super::outbox::Outbox;
use super::resume::COLLECT_LIMIT;
use super::{Bridge, Stage, returns};
use crate::bosh::PayloadClass;
use crate::xml::Element;

/// Unavailable presence has gone out; what still comes down is collected.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) until: Instant,
    /// What never reached the client.
    undelivered: Outbox,
    /// Longest wait for the last replies.
    limit: Duration,
}

impl Parting {
    /// The session is gone: nobody can be told any more.
    pub(super) fn lost(self) {
        let count = self.undelivered.undelivered_count();
        if count > 0 {
            tracing::warn!(
                stanzas = count,
                "lost: the client vanished, and then its session"
            );
        }
    }
}

impl Bridge {
    /// Ends the session of a client that has vanished: at once if nothing can be owed, otherwise once it is
    /// known what else came for it.
    pub(super) fn part(&mut self, limit: Duration, now: Instant) {
        let undelivered = std::mem::take(&mut self.outbox);
        self.close_client();
        let alive = self.session.as_ref().is_some_and(|s| s.is_alive());
        if !self.bound || !alive || self.passed_sm {
            if self.passed_sm && alive {
                // S-43: a stream that the server manages is left to the server.
                self.abandon_session(now);
                return;
            }
            return self.end_session(limit, now);
        }
        if let Some(session) = &mut self.session {
            session.set_receiving(true);
            session.set_confirming(false);
        }
        self.send_own("<presence xmlns='jabber:client' type='unavailable'/>");
        self.parting = Some(Parting {
            until: now + COLLECT_LIMIT,
            undelivered,
            limit,
        });
    }

    /// Collects a stanza for a client that has vanished.
    pub(super) fn collect(&mut self, element: &Element, now: Instant) {
        let most = self.options.buffer_bytes;
        if let Some(parting) = &mut self.parting
            && element.is_stanza()
            && parting.undelivered.len() < most
        {
            parting
                .undelivered
                .push_stanza(now, |out| element.write_for_stream(None, out));
        }
    }

    /// Sends back what never arrived once the unavailable presence is answered, or overdue.
    pub(super) fn check_parting(&mut self, now: Instant) {
        let answered = self.pending.len() == 0;
        if self
            .parting
            .as_ref()
            .is_some_and(|parting| answered || parting.until <= now)
        {
            self.finish_parting(None, now);
        }
    }

    /// Sends back what never arrived, and ends the session.
    pub(super) fn finish_parting(&mut self, limit: Option<Duration>, now: Instant) {
        let Some(parting) = self.parting.take() else {
            return;
        };
        // Without knowing who we are, no sender can be told from ourselves.
        let account = self.account.clone();
        let answers: Vec<String> = parting
            .undelivered
            .undelivered()
            .take(returns::MAX_RETURNS)
            .filter_map(|(_, stanza)| returns::answer(stanza, account.as_deref()?))
            .collect();
        let count = parting.undelivered.undelivered_count();
        if count > 0 {
            tracing::info!(
                undelivered = count,
                returned = answers.len(),
                "the client vanished: what it did not get goes back to the senders who wait for an answer"
            );
        }
        for answer in answers {
            self.send_own(&answer);
        }
        self.end_session(limit.unwrap_or(parting.limit), now);
    }

    /// Sends a stanza of our own making to the manager.
    pub(super) fn send_own(&mut self, stanza: &str) {
        if let Some(session) = &mut self.session {
            self.pending.push_own();
            session.send(stanza, PayloadClass::Together);
        }
    }

    /// Lets the session go without a word: its server keeps it for a while.
    fn abandon_session(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.abandon();
        }
        self.drain_session(now);
        debug_assert_eq!(self.stage, Stage::Closed);
    }
}
