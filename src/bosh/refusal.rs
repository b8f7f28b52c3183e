//! Replies that ask for a repeat, or that end a session which may live: recoverable errors, HTTP errors,
//! forgotten requests (XEP-0124 sections 17.1 and 17.3).

use std::time::{Duration, Instant};

use super::body::{Response, ResponseType};
use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::params::Manager;
use super::session::{Phase, Session};
use super::window::{Entry, RequestKey, State};

/// How often one request is repeated because the manager asked (`type='error'`).
const MAX_RECOVERIES: u32 = 10;
/// How often a request is repeated that the manager calls unknown while a newer one is under way.
const MAX_REFUSALS: u32 = 2;
/// Least pause before that, in which the newer one may be answered.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
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
            && self
                .window
                .get(index)
                .is_some_and(|e| e.copies > 1 && e.refusals < MAX_REFUSALS)
            && self.window.was_written_behind(index)
    }

    /// The newer request decides. If that is answered, this one was worked on before it, and its answer was
    /// empty; if not, both are asked for again.
    pub(super) fn on_refusal_of_old(&mut self, index: usize, now: Instant) {
        let newer_answered = self.window.iter().skip(index + 1).any(Entry::is_answered);
        if newer_answered {
            return self.settle_recheck(index, now);
        }
        let pause = self.repeat_pause(index, None).max(REFUSAL_PAUSE);
        if let Some(entry) = self.window.get_mut(index) {
            entry.refusals += 1;
            entry.failures += 1;
            entry.state = State::Waiting {
                not_before: now + pause,
            };
        }
        self.advance(now);
    }

    /// A newer request was answered, so the session lives: older ones that the manager calls unknown were worked
    /// on, and their answers were empty.
    pub(super) fn settle_refused(&mut self, index: usize, now: Instant) {
        for entry in self.window.iter_mut().take(index) {
            if entry.refusals == 0 || entry.is_answered() {
                continue;
            }
            if entry.is_in_flight() {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
            }
            entry.state = State::Answered {
                response: Box::new(Response::nothing()),
                at: now,
                confirms: true,
            };
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
