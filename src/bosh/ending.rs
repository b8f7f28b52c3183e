//! The end of a session, by our own wish or the manager's (XEP-0124 section 13).

use std::time::{Duration, Instant};

use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::params::{Manager, Rid};
use super::session::{Event, Phase, Session};
use super::window::{Entry, RequestKey, State};

/// How long a terminate request waits for a free slot before it exceeds the window by one (B-61).
pub(super) const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// How long replies to other requests are waited for once the manager has said terminate (C-07).
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Our own wish to end the session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closing {
    pub(super) since: Instant,
    /// Longest wait for replies once the terminate request is out (B-62).
    pub(super) limit: Duration,
    pub(super) sent: Option<(Rid, Instant)>,
    /// The terminate request was answered.
    pub(super) answered: bool,
    /// By a manager that knew the session.
    pub(super) confirmed: bool,
    /// What was under way was asked for again, to get a free slot.
    pub(super) asked: bool,
}

impl Closing {
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self {
            since: now,
            limit,
            sent: None,
            answered: false,
            confirmed: false,
            asked: false,
        }
    }
}

/// The manager has ended the session; replies to other requests may still come.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) deadline: Instant,
    /// The best explanation so far.
    pub(super) reason: CloseReason,
}

impl Session {
    /// When waiting for the last replies of an ending session stops. Before the terminate request is out the
    /// time runs anew with every answer, so that a full queue on a slow network still gets through.
    pub(super) fn end_of_patience(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().map(|drain| drain.deadline);
        let closing = self.closing.map(|c| match c.sent {
            Some((_, at)) => at + c.limit,
            None => c.since.max(self.last_reply) + SLOT_PATIENCE + c.limit,
        });
        drain.into_iter().chain(closing).min()
    }

    /// When the terminate request may exceed the window. Prosody takes in what it has put aside as soon as it gets
    /// a request out of turn, and passes over one that is missing: there what is under way is asked for again first.
    pub(super) fn squeeze_due(&self, closing: Closing) -> Instant {
        let patience = match self.is_prosody() {
            true => SLOT_PATIENCE * 2,
            false => SLOT_PATIENCE,
        };
        closing.since + patience
    }

    /// When what is under way is asked for again so that the terminate request need not exceed the window.
    pub(super) fn ask_due(&self) -> Option<Instant> {
        let closing = self.closing.filter(|c| c.sent.is_none() && !c.asked)?;
        let requests = self.granted.as_ref()?.requests.get();
        let full = self.window.unanswered() >= usize::from(requests);
        let due = closing.since + SLOT_PATIENCE;
        (full && self.is_prosody() && self.phase == Phase::Open).then_some(due)
    }

    pub(super) fn ask_before_the_end(&mut self, now: Instant) {
        if self.ask_due().is_none_or(|due| due > now) {
            return;
        }
        if let Some(closing) = &mut self.closing {
            closing.asked = true;
        }
        for entry in self.window.iter_mut() {
            if entry.written().is_some() && !entry.recheck {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
                entry.failed(Cause::NoReply);
                entry.state = State::Waiting { not_before: now };
            }
        }
    }

    fn is_prosody(&self) -> bool {
        self.granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Prosody)
    }

    /// Ends a session whose last replies are in, or overdue.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        let over = self.end_of_patience().is_some_and(|end| end <= now);
        let quiet = !self.window.iter().any(Entry::is_in_flight);
        if self.drain.is_some() {
            if over || quiet {
                self.finish_drain();
            }
        } else if let Some(closing) = self.closing
            && (over || closing.answered && quiet)
        {
            self.process_all();
            self.close(CloseReason::Terminated {
                confirmed: closing.confirmed,
            });
        }
    }

    /// Notes the answer to our terminate request, if the one at `index` is that. `unknown`: the manager does
    /// not know the session, which after a repeat means that the first copy did its work (B-63).
    pub(super) fn note_terminate_answer(&mut self, index: usize, unknown: bool) {
        let Some((rid, copies)) = self.window.get(index).map(|e| (e.rid, e.copies)) else {
            return;
        };
        if let Some(closing) = &mut self.closing
            && closing.sent.is_some_and(|(sent, _)| sent == rid)
        {
            closing.answered = true;
            closing.confirmed |= !unknown || copies > 1;
        }
    }

    /// The session is ending: what is parked goes out although something older never came.
    pub(super) fn process_all(&mut self) {
        while let Some(entry) = self.window.pop_front() {
            if entry.is_in_flight() {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
            }
            if let Some(answered) = entry.into_answered() {
                self.deliver(answered.rid, *answered.response);
            }
        }
    }

    pub(super) fn finish_drain(&mut self) {
        self.process_all();
        if let Some(drain) = self.drain.take() {
            self.close(drain.reason);
        }
    }

    pub(super) fn fail(&mut self, cause: Cause) {
        self.close(CloseReason::Failed(cause));
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.phase == Phase::Open {
            self.process_all();
        }
        self.phase = Phase::Closed;
        for entry in self.window.iter().filter(|e| e.is_in_flight()) {
            self.aborts.push_back(RequestKey {
                rid: entry.rid,
                attempt: entry.attempts,
            });
        }
        self.window.clear();
        self.queue.clear();
        self.events.push_back(Event::Closed(reason));
    }
}

/// How much an explanation tells: an error of the XMPP stream most, `other-request` only that another
/// reply knows more (C-07).
pub(super) fn weight(reason: &CloseReason) -> u8 {
    match reason {
        CloseReason::Condition { stream_error, .. } if !stream_error.is_empty() => 4,
        CloseReason::Condition {
            condition: BindingCondition::OtherRequest,
            ..
        } => 1,
        CloseReason::Condition { .. } => 3,
        CloseReason::Ended | CloseReason::Terminated { .. } | CloseReason::Failed(_) => 0,
    }
}
