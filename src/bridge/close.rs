//! The end of a stream: errors, `</stream:stream>`, and the session's end that follows or precedes it.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::carried::Pending;
use super::{Bridge, CLOSE_LIMIT, Event, Stage, explain};
use crate::bosh::condition::BindingCondition;
use crate::bosh::{self, CloseReason};
use crate::stream::STREAM_CLOSE;
use crate::stream::error::{FaultReason, StreamFault, fault};

impl Bridge {
    pub(super) fn on_session_closed(&mut self, reason: CloseReason, now: Instant) {
        if self.reopening && self.stage == Stage::Waiting {
            // Another one begins once this one is done with: `reap`.
            self.pending = Pending::default();
            return;
        }
        if self.may_go_elsewhere()
            && let Some(fault) = explain(&reason, false)
        {
            self.others = false;
            return self.events.push_back(Event::Elsewhere(fault));
        }
        let confirmed = matches!(reason, CloseReason::Terminated { confirmed: true });
        let by_us = matches!(reason, CloseReason::Terminated { .. });
        if confirmed {
            // The manager has answered the last request: it has all of them (S-43).
            self.on_confirmed(self.pending.len());
        }
        if let CloseReason::Condition {
            condition: BindingCondition::PolicyViolation,
            ..
        } = &reason
            && let Some(session) = &self.session
        {
            tracing::warn!(
                requests = session.granted().map(|g| g.requests),
                sends = ?session.last_sends(now),
                "the connection manager calls our requests too many or too frequent"
            );
        }
        let errors = self.refunds();
        let stage = self.stage;
        let clean = stage == Stage::Leaving && self.farewell.is_none();
        let alone = matches!(stage, Stage::Away | Stage::Closed);
        let keep = stage == Stage::Away || stage == Stage::Open && !by_us;
        if let Some(parting) = self.parting.take() {
            parting.lost();
        }
        let left = if alone { errors.clone() } else { Vec::new() };
        self.leave_remains(clean, keep, left, now);
        match stage {
            // Inside TLS there will be another session.
            Stage::Closed | Stage::Handshake => {}
            Stage::Away => {
                // Nobody is there to be told, but the log is.
                let fault = explain(&reason, true);
                self.events.extend(fault.map(Event::Fault));
                self.outbox.clear();
                self.close_client();
            }
            Stage::Leaving => {
                self.put_errors(errors, now);
                match self.farewell.take() {
                    Some(fault) => self.say_farewell(fault),
                    None => self.finish_stream(),
                }
            }
            Stage::Header { .. }
            | Stage::Waiting
            | Stage::TlsFirst
            | Stage::Open
            | Stage::Resuming => {
                self.put_errors(errors, now);
                let opened = self.session.as_ref().is_some_and(|s| s.granted().is_some());
                match explain(&reason, opened) {
                    None => {
                        self.write_header();
                        self.finish_stream();
                    }
                    Some(fault) => self.fail_with(fault, CLOSE_LIMIT, now),
                }
            }
        }
    }

    /// The errors for what the client sent and the manager never confirmed: without stream management all of
    /// it, with it only what the client was told to be safe (S-49). Nothing before binding.
    fn refunds(&mut self) -> Vec<String> {
        if !self.bound || self.passed_sm {
            return Vec::new();
        }
        let only = self.managed.as_ref().map(super::managed::Managed::promised);
        self.pending.refunds(only)
    }

    fn put_errors(&mut self, errors: Vec<String>, now: Instant) {
        if !errors.is_empty() {
            tracing::info!(
                stanzas = errors.len(),
                "returned to the client as not confirmed"
            );
        }
        for error in errors {
            self.push_stanza(now, |out| out.extend_from_slice(error.as_bytes()));
        }
    }

    /// A client that does not read is told so, should it read after all; what it did not get is sent back.
    pub(super) fn drop_slow_reader(&mut self, now: Instant) {
        if self.stage == Stage::Away {
            return self.away_is_over(now);
        }
        let fault = fault(FaultReason::SlowReader, None);
        let mut last = BytesMut::from(self.outbox.rest_of_partial());
        fault.write(&mut last);
        last.extend_from_slice(STREAM_CLOSE);
        self.events.push_back(Event::Fault(fault));
        self.part(CLOSE_LIMIT, now);
        self.outbox.push(&last);
    }

    /// Drops a session that is over, once the shell knows of its aborts.
    pub(super) fn reap(&mut self) {
        if self
            .session
            .as_ref()
            .is_some_and(|s| s.phase() == bosh::session::Phase::Closed)
        {
            self.longest_hold = self.longest_hold();
            self.learnt = self.learnt();
            self.session = None;
            self.reopen();
        }
    }

    /// Ends the stream with the error of that row (S-19): at most one, then close.
    pub(super) fn fail(&mut self, reason: FaultReason, detail: Option<&str>, now: Instant) {
        self.fail_within(reason, detail, CLOSE_LIMIT, now);
    }

    pub(super) fn fail_within(
        &mut self,
        reason: FaultReason,
        detail: Option<&str>,
        limit: Duration,
        now: Instant,
    ) {
        self.fail_with(fault(reason, detail), limit, now);
    }

    pub(super) fn fail_with(&mut self, fault: StreamFault, limit: Duration, now: Instant) {
        if self.stage == Stage::Away {
            return self.end_session(limit, now);
        }
        if self.stage == Stage::Handshake {
            // Neither in the clear nor inside TLS can anything be said.
            self.outbox.clear();
            self.close_client();
            self.events.push_back(Event::Fault(fault));
            return self.end_session(limit, now);
        }
        let owes = self.stage == Stage::Open
            && self.bound
            && self.managed.is_none()
            && self.pending.owes_anything()
            && self.session.as_ref().is_some_and(|s| s.is_alive());
        if owes {
            // What the client sent last is either confirmed by the end of the session or returned before the
            // error.
            self.stage = Stage::Leaving;
            self.stalled_until = None;
            self.farewell = Some(fault);
        } else if self.stage != Stage::Closed {
            self.say_farewell(fault);
        }
        self.end_session(limit, now);
    }

    fn say_farewell(&mut self, fault: StreamFault) {
        // S-12: also a setup error comes inside a stream.
        self.write_header();
        self.final_ack();
        fault.write(self.outbox.buffer());
        self.outbox.push(STREAM_CLOSE);
        self.close_client();
        self.events.push_back(Event::Fault(fault));
    }

    /// XEP-0198 section 4: what is confirmed is told before the stream ends.
    fn final_ack(&mut self) {
        self.tell_h(self.managed.is_some());
    }

    /// `</stream:stream>`, and nothing after it (T-29).
    pub(super) fn finish_stream(&mut self) {
        if self.header_written {
            self.final_ack();
            self.outbox.push(STREAM_CLOSE);
        }
        self.close_client();
    }

    pub(super) fn close_client(&mut self) {
        self.stage = Stage::Closed;
        self.stash.clear();
        self.header_due = None;
        self.header_patience = None;
        self.features_due = None;
        self.stalled_until = None;
        self.away_until = None;
        self.farewell = None;
    }

    pub(super) fn end_session(&mut self, limit: Duration, now: Instant) {
        if let Some(session) = &mut self.session {
            session.set_receiving(true);
            session.terminate(limit, now);
        }
    }
}
