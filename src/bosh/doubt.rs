//! Answers that are not final, and ones that are missing (B-51, B-56, cm-quirks 4.2).

use std::time::{Duration, Instant};

use super::body::{Response, ResponseType};
use super::params::Manager;
use super::session::{Event, Session};
use super::window::{Entry, State};

/// From so many copies on, an empty answer proves nothing (cm-quirks 4.2).
const COPIES_IN_DOUBT: u32 = 3;

impl Session {
    /// How soon an answer must be here that the manager has given, or can give from its store (B-56).
    pub(super) fn answer_limit(&self) -> Option<Duration> {
        let wait = self.granted.as_ref()?.wait;
        Some(Duration::from_secs(3).max(wait / 10))
    }

    /// The request just written is a repeat behind which a newer one was answered or is held: its answer is in
    /// the manager's store, or comes at once (B-56, T-08).
    pub(super) fn expect_stored(&mut self, index: usize, now: Instant) {
        let newer = |test: fn(&Entry) -> bool| self.window.iter().skip(index + 1).any(test);
        let answered = newer(Entry::is_answered);
        let held = newer(|e| e.written().is_some() || e.distrusted);
        let limit = match (answered, held) {
            (true, _) => self.answer_limit(),
            (false, true) => self.release_limit(),
            (false, false) => None,
        };
        if let Some(limit) = limit
            && let Some(entry) = self.window.get_mut(index)
            && let State::InFlight { due, .. } = &mut entry.state
        {
            *due = (*due).min(now + limit);
        }
    }

    /// B-56: answers come in rid order, so an older one that is not here soon is lost.
    pub(super) fn expect_older(&mut self, index: usize, now: Instant) {
        let Some(limit) = self.answer_limit() else {
            return;
        };
        for entry in self.window.iter_mut().take(index) {
            if let State::InFlight {
                written: Some(_),
                due,
            } = &mut entry.state
            {
                *due = (*due).min(now + limit);
            }
        }
    }

    /// B-51, cm-quirks 4.2: Prosody and ejabberd store the empty answer that they gave to the first of three
    /// copies, and write what comes next to the second, which may be dead. Such an empty answer is not final.
    /// Nor is one that comes without a reason, long before `wait` is over and with no newer request out: a
    /// proxy may have sent the request twice (P-10), and what comes next goes to the copy that nobody reads. On a
    /// way where that was seen, or may well happen, every empty answer is in doubt: the manager keeps two, so the
    /// one in doubt is there to be asked for as long as nothing newer than its successor goes out.
    pub(super) fn doubt(&mut self, index: usize, now: Instant) {
        let stores = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager != Manager::Tigase && g.requests.get() > 1);
        let ending = self.drain.is_some() || self.closing.is_some();
        let newest = !self.window.was_written_behind(index);
        // Before binding managers answer for reasons of their own, but an older copy may be there all the same.
        let repeated = self.window.get(index).is_some_and(|e| e.attempts > 1);
        let patience = self
            .granted
            .as_ref()
            .filter(|g| matches!(g.manager, Manager::Prosody | Manager::Ejabberd))
            .filter(|g| (self.bound || self.way.repeats || repeated) && !g.is_polling())
            .map(|g| g.wait * 3 / 4);
        // Much sooner than an answer comes: the newer request cannot have been the reason. Nobody repeats what is
        // inside TLS.
        let since = self
            .window
            .get(index + 1)
            .and_then(Entry::written)
            .map(|at| now.saturating_duration_since(at));
        let plain = !self.options.https;
        let too_soon = plain
            && since
                .zip(self.round_trip)
                .is_some_and(|(s, rtt)| s < rtt / 4);
        let written = self.window.get(index).and_then(|e| e.answered_after(now));
        let reasonless = patience.zip(written).is_some_and(|(p, held)| held < p)
            && (newest || self.way.repeats || too_soon);
        let forgotten = self.window.is_forgotten(index);
        let prosody = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Prosody);
        if let Some(entry) = self.window.get_mut(index)
            && let State::Answered { response, .. } = &entry.state
            && response.is_empty()
            && response.kind == ResponseType::Normal
            && (entry.copies >= COPIES_IN_DOUBT || reasonless || prosody && entry.may_come_late())
            && !entry.recheck
            && stores
            && !forgotten
            && !ending
        {
            entry.state = State::Unsure {
                asked: false,
                not_before: now,
            };
            self.last_reply = now;
        }
    }

    /// The stored answer is still empty, and the next request was under way all the time: its answer will tell whether
    /// it came first.
    pub(super) fn wait_for_next(&mut self, index: usize, now: Instant) {
        if let Some(entry) = self.window.get_mut(index) {
            entry.recheck = false;
            entry.state = State::Unsure {
                asked: true,
                not_before: now,
            };
        }
    }

    /// The stored answer did not come, or was read before the next request had come: it is asked for again, if it is
    /// still there.
    pub(super) fn ask_again(&mut self, index: usize, pause: Duration, now: Instant) {
        if self.window.is_forgotten(index) {
            return self.settle_recheck(index, now);
        }
        if let Some(entry) = self.window.get_mut(index) {
            entry.recheck = false;
            entry.state = State::Unsure {
                asked: false,
                not_before: now + pause,
            };
        }
    }

    /// The request at `index` was answered: what was stored for the one before it, behind this very attempt, is
    /// final.
    pub(super) fn settle_asked(&mut self, index: usize, now: Instant) {
        let attempts = self.window.get(index).map(|e| e.attempts);
        if let Some(before) = index.checked_sub(1)
            && let Some(entry) = self.window.get_mut(before)
            && matches!(entry.state, State::Unsure { asked: true, .. })
        {
            if attempts == Some(entry.behind) {
                entry.state = State::Answered {
                    response: Box::new(Response::nothing()),
                    at: now,
                    confirms: true,
                };
            } else {
                self.ask_again(before, Duration::ZERO, now);
            }
        }
    }

    /// The stored answer did not come, or was no answer: the empty one stands.
    pub(super) fn settle_recheck(&mut self, index: usize, now: Instant) {
        if let Some(entry) = self.window.get_mut(index) {
            entry.state = State::Answered {
                response: Box::new(Response::nothing()),
                at: now,
                confirms: true,
            };
        }
        self.process(now);
    }

    /// An older request is done with: only now does the manager begin to hold the next one.
    pub(super) fn restart_clock(&mut self, now: Instant) {
        let due = self.reply_due(0, now);
        let newer = self.window.iter().skip(1).any(|e| e.written().is_some());
        let limit = self.release_limit().filter(|_| newer);
        if let Some(entry) = self.window.get_mut(0)
            && !entry.recheck
            && let State::InFlight {
                written: Some(_),
                due: reply_due,
            } = &mut entry.state
        {
            *reply_due = limit.map_or(due, |limit| due.min(now + limit));
        }
    }

    /// Tigase keeps no answers: what the repeat of this request will bring is newer than what is parked behind
    /// it (cm-quirks section 9).
    pub(super) fn release_parked(&mut self, index: usize, now: Instant) {
        let tigase = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Tigase);
        if !tigase {
            return;
        }
        for answered in self.window.take_parked(index) {
            self.last_reply = now;
            if answered.confirms && answered.payloads > 0 {
                self.events.push_back(Event::Confirmed(answered.payloads));
            }
            let processed = self.processed;
            self.released = self.released.max(Some(answered.rid));
            self.deliver(answered.rid, *answered.response);
            self.processed = processed;
        }
    }
}
