//! Replies that ask for a repeat, or that end a session which may live: recoverable errors, HTTP errors,
//! forgotten requests (XEP-0124 sections 17.1 and 17.3).

use std::time::{Duration, Instant};

use super::body::{Response, ResponseType};
use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::params::Manager;
use super::session::{Phase, Session};
use super::window::{Entry, State};

/// How often one request is repeated because the manager asked (`type='error'`).
const MAX_RECOVERIES: u32 = 10;
/// Age at which a newer request is sent again that should decide about one that the manager calls unknown.
const STALE: Duration = Duration::from_secs(1);
/// How often an HTTP error that an intermediary may have made up is repeated (B-58).
const LEGACY_REPEATS: u32 = 2;

impl Session {
    /// Prosody forgets a request whose connection broke while it was held, and calls its repeat unknown when a
    /// newer one has come meanwhile; the session lives (cm-quirks section 5).
    pub(super) fn is_refusal_of_old(&self, index: usize, response: &Response) -> bool {
        let prosody = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Prosody);
        prosody
            && response.kind == ResponseType::Terminate
            && response.condition == Some(BindingCondition::ItemNotFound)
            && self.drain.is_none()
            && self.closing.is_none_or(|c| c.sent.is_none())
            && self.window.get(index).is_some_and(|e| e.copies > 1)
            && self.window.was_written_behind(index)
    }

    /// The newer request decides. If that is answered, this one was worked on before it, and its answer was
    /// empty; if that is unknown too, the session is gone. Asking for this one again would tell nothing new.
    pub(super) fn on_refusal_of_old(&mut self, index: usize, now: Instant) {
        let answered = |e: &Entry| e.is_answered() || e.is_unsure();
        if self.window.iter().skip(index + 1).any(answered) {
            return self.settle_recheck(index, now);
        }
        if let Some(entry) = self.window.get_mut(index) {
            entry.state = State::Refused { at: now };
        }
        self.note_life(now);
        // One that has been out for a while may never have come, or its answer not.
        let stale = |e: &Entry| e.is_in_flight() && e.started.is_some_and(|at| at + STALE <= now);
        let next = self.window.iter().enumerate().skip(index + 1);
        let stale = next.filter(|(_, e)| stale(e)).map(|(at, _)| at).next();
        if let Some(stale) = stale {
            self.send_again(stale, now);
        }
        self.advance(now);
    }

    /// A newer request was answered, so the session lives: older ones that the manager calls unknown were worked
    /// on, and their answers were empty.
    pub(super) fn settle_refused(&mut self, index: usize, now: Instant) {
        for entry in self.window.iter_mut().take(index) {
            if matches!(entry.state, State::Refused { .. }) {
                entry.state = State::Answered {
                    response: Box::new(Response::nothing()),
                    at: now,
                    confirms: true,
                };
            }
        }
    }

    /// B-52: the manager asks for this request again, and for all earlier unanswered ones.
    pub(super) fn on_recoverable(&mut self, index: usize, now: Instant) {
        if self
            .window
            .get(index)
            .is_some_and(|e| e.recoveries >= MAX_RECOVERIES)
        {
            self.fail(Cause::Unrecoverable);
            return;
        }
        // The answer says that this copy is not being worked on: repeating it is safe.
        if let Some(entry) = self.window.get_mut(index) {
            entry.maybe_received = false;
            entry.recoveries += 1;
            entry.state = State::Waiting { not_before: now };
        }
        for earlier in 0..=index {
            if self.window.get(earlier).is_some_and(|e| !e.is_answered()) {
                self.send_again(earlier, now);
            }
        }
        self.check_budget(now);
        self.advance(now);
    }

    pub(super) fn on_zero_bytes(&mut self, index: usize, now: Instant) {
        let ending = self.drain.is_some() || self.closing.is_some_and(|c| c.sent.is_some());
        if ending {
            self.note_terminate_answer(index, false);
            self.answer_nothing(index, now);
            self.process(now);
        } else {
            self.attempt_failed(index, Cause::NotBosh, Some(LEGACY_REPEATS), None, now);
        }
    }

    /// There is nothing to deliver, and it says nothing of what the request carried. A waiting entry is never
    /// repeated while the session ends.
    fn answer_nothing(&mut self, index: usize, now: Instant) {
        if let Some(entry) = self.window.get_mut(index) {
            entry.state = State::Answered {
                response: Box::new(Response::nothing()),
                at: now,
                confirms: false,
            };
        }
    }

    pub(super) fn on_legacy_error(&mut self, index: usize, status: u16, now: Instant) {
        let Some(entry) = self.window.get(index) else {
            return;
        };
        if self
            .closing
            .is_some_and(|c| c.sent.is_some_and(|(rid, _)| rid == entry.rid))
        {
            // B-63: the session is gone, which is what we wanted. What went with the request may be gone as well.
            self.note_terminate_answer(index, true);
            self.answer_nothing(index, now);
            self.process(now);
            return;
        }
        if self.drain.is_some() || self.closing.is_some_and(|c| c.sent.is_some()) {
            return self.on_zero_bytes(index, now);
        }
        let legacy = self.granted.as_ref().is_some_and(|g| g.ver.is_none());
        let repeated =
            entry.last_cause == Some(Cause::Status(status)) && entry.same_cause >= LEGACY_REPEATS;
        if self.phase == Phase::Open && (legacy || repeated) {
            let condition = match status {
                400 => BindingCondition::BadRequest,
                403 => BindingCondition::PolicyViolation,
                _ => BindingCondition::ItemNotFound,
            };
            self.close(CloseReason::Condition {
                condition,
                text: None,
                stream_error: Vec::new(),
            });
        } else {
            self.attempt_failed(index, Cause::Status(status), None, None, now);
        }
    }
}
