//! Attempts that bring no usable reply: when to repeat them, when to give up (XEP-0124 section 14.3).

use std::time::{Duration, Instant};

use super::close::Cause;
use super::failure::FailureKind;
use super::session::{CREATION_ATTEMPTS, Event, Phase, Session};
use super::window::{Entry, RequestKey, State};

/// Failures at asking for a stored answer once more (cm-quirks 4.2). What is parked behind it waits meanwhile.
const MAX_RECHECKS: u32 = 20;
/// For how many of them silence counts, which takes its time.
const SILENT_RECHECK: u32 = 3;

impl Session {
    /// An attempt brought no usable reply. `tries`: how often this cause is repeated.
    pub(super) fn attempt_failed(
        &mut self,
        index: usize,
        cause: Cause,
        tries: Option<u32>,
        retry_after: Option<Duration>,
        now: Instant,
    ) {
        if self.phase == Phase::Creating {
            if cause == Cause::NoReply && !self.options.requested.xmpp_version {
                self.options.requested.xmpp_version = true;
                return self.create(now);
            }
            self.creation_failures += 1;
            let again = self.creation_failures
                < CREATION_ATTEMPTS.min(1 + super::creation::repeats(&cause));
            if again {
                self.create(now)
            } else {
                self.fail(cause)
            }
            return;
        }
        let waits = self.window.waits_behind(index);
        if let Some(entry) = self.window.get_mut(index)
            && entry.recheck
        {
            let silence = cause == Cause::NoReply;
            let first = entry.rechecks == 0;
            // Nothing is kept waiting while the next request is unanswered too.
            entry.rechecks += match (waits, silence) {
                (true, _) => u32::from(first),
                (false, true) => SILENT_RECHECK,
                (false, false) => 1,
            };
            if entry.rechecks < MAX_RECHECKS {
                // Nothing was learnt: the stored answer is asked for again.
                let pause = Duration::from_secs(u64::from(!first && !silence));
                self.ask_again(index, pause, now);
                self.advance(now);
            } else {
                self.settle_recheck(index, now);
            }
            return;
        }
        let pause = self.repeat_pause(index, retry_after);
        let Some(entry) = self.window.get_mut(index) else {
            return;
        };
        // Silence was the pause: another may take the repeat past `inactivity`.
        let from = entry.last_written.filter(|_| cause == Cause::NoReply);
        let not_before = from.map_or(now, |at| at.min(now)) + pause;
        let seen = entry.failed(cause.clone());
        entry.state = State::Waiting {
            not_before: not_before.max(now),
        };
        if let Some(before) = index.checked_sub(1)
            && self.window.get(before).is_some_and(Entry::is_unsure)
        {
            // Its stored answer was read before this request had come.
            self.ask_again(before, Duration::ZERO, now);
        }
        self.last_try = false;
        self.release_parked(index, now);
        if tries.is_some_and(|tries| seen > tries) || is_final(&cause) {
            self.fail(cause);
        } else {
            self.check_budget(now);
            self.advance(now);
        }
    }

    /// T-08: a request met silence although a newer one was out, so the path is dead. Where a request must not
    /// overtake another, what else is under way is repeated too, once the older is answered and before anything
    /// new goes out; elsewhere it may well have arrived.
    pub(super) fn distrust_newer(&mut self, index: usize, now: Instant) {
        let rechecks = self.window.get(index).is_none_or(|e| e.recheck);
        if rechecks || !self.is_touchy() || self.phase != Phase::Open || self.closing.is_some() {
            return;
        }
        for entry in self.window.iter_mut().skip(index + 1) {
            if entry.written().is_some() && !entry.recheck {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
                entry.maybe_received = true;
                entry.distrusted = true;
                entry.failures += 1;
                entry.last_cause.get_or_insert(Cause::NoReply);
                entry.state = State::Waiting { not_before: now };
            }
        }
    }

    /// Marks an attempt for another try because the manager asked for it, or was seen not to have it.
    pub(super) fn send_again(&mut self, index: usize, now: Instant) {
        let pause = self.repeat_pause(index, None);
        if let Some(entry) = self.window.get_mut(index) {
            if entry.recheck || !entry.is_open() {
                // It is being asked for already.
                return;
            }
            if entry.is_in_flight() {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
            }
            entry.failures += 1;
            entry.state = State::Waiting {
                not_before: now + pause,
            };
        }
    }

    /// T-32: what is under way is not trusted any more.
    pub(super) fn renew_requests(&mut self, slept: Duration, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        // The manager's clocks went on: moments of before the sleep are further away than ours says.
        let back = |at: Instant| at.checked_sub(slept).unwrap_or(at);
        self.last_reply = back(self.last_reply);
        self.last_life = back(self.last_life);
        self.last_send = back(self.last_send);
        let creating = self.phase == Phase::Creating;
        for entry in self.window.iter_mut() {
            entry.first_written = entry.first_written.map(back);
            entry.held_since = entry.held_since.map(back);
            entry.started = entry.started.map(back);
            match &mut entry.state {
                State::InFlight { .. } => {
                    self.aborts.push_back(RequestKey {
                        rid: entry.rid,
                        attempt: entry.attempts,
                    });
                    entry.maybe_received = true;
                    entry.failures += 1;
                    entry.last_cause.get_or_insert(Cause::NoReply);
                    entry.state = if std::mem::take(&mut entry.recheck) {
                        State::Unsure {
                            asked: false,
                            not_before: now,
                        }
                    } else {
                        State::Waiting { not_before: now }
                    };
                }
                State::Waiting { not_before } => *not_before = now,
                State::Unsure { asked, .. } => {
                    // What is behind it is sent anew.
                    *asked = false;
                }
                State::Answered { .. } | State::Refused { .. } => {}
            }
        }
        if creating {
            // B-55: a manager cannot match a repeat of it; a new one has a rid of its own.
            self.create(now);
        }
        self.last_try = true;
    }

    /// The manager is there. What it holds it may go on holding for `wait`, and what it does not is new to it.
    pub(super) fn note_life(&mut self, now: Instant) {
        self.last_life = now;
        for entry in self.window.iter_mut() {
            entry.held_since = entry.written().map(|_| now);
        }
    }

    /// A held request was cut by what is between us and the manager: perhaps at an age of its own (T-10).
    pub(super) fn note_cut(&mut self, index: usize, now: Instant) {
        let Some(entry) = self.window.get(index) else {
            return;
        };
        // One that a newer request has released should have been answered.
        let newest = self.window.iter().nth(index + 1).is_none();
        if let (Some(at), true, Phase::Open) = (entry.written(), newest, self.phase)
            && let Some(limit) = self.cuts.note(now.saturating_duration_since(at))
        {
            self.events.push_back(Event::Cut(limit));
        }
    }

    /// Pause before the request at `index` is sent again: 0, 1, 2, 2 … s, spread, never above a fifth of
    /// `inactivity`; a server's Retry-After counts within that (B-53).
    pub(super) fn repeat_pause(&mut self, index: usize, retry_after: Option<Duration>) -> Duration {
        let failures = self.window.get(index).map_or(0, |e| e.failures);
        let seconds = u64::from(failures.min(2));
        let pause = self
            .spread(Duration::from_secs(seconds))
            .max(retry_after.unwrap_or_default());
        let most = self
            .granted
            .as_ref()
            .map_or(Duration::from_secs(4), |g| g.inactivity_or_default() / 5);
        pause.min(most)
    }

    /// When patience with unanswered requests ends: what is left of `wait` plus `inactivity` after the last
    /// sign of life (B-54). `None` while nothing has failed, or one more attempt is owed.
    pub(super) fn budget_end(&self) -> Option<Instant> {
        let granted = self.granted.as_ref()?;
        let oldest = self.window.iter().find(|e| e.is_open() && !e.recheck)?;
        (oldest.failures > 0 && !self.last_try).then_some(())?;
        let held_until = oldest.held_since.map(|at| at + granted.wait);
        let alive = self.last_reply.max(self.last_life);
        Some(held_until.map_or(alive, |at| at.max(alive)) + granted.inactivity_or_default())
    }

    pub(super) fn check_budget(&mut self, now: Instant) {
        if self.phase == Phase::Open && self.budget_end().is_some_and(|end| end <= now) {
            // What somebody said tells more than silence.
            let causes = || self.window.iter().filter_map(|e| e.last_cause.clone());
            let cause = causes()
                .find(|cause| *cause != Cause::NoReply)
                .or_else(|| causes().next());
            self.fail(cause.unwrap_or(Cause::NoReply));
        }
    }
}

/// Causes that end even a live session at once. All others may be an intermediary's and pass.
fn is_final(cause: &Cause) -> bool {
    match cause {
        Cause::Hop(failure) => {
            matches!(
                failure.kind,
                FailureKind::ReplyTooLarge | FailureKind::Internal
            )
        }
        Cause::Status(413) | Cause::RidLimit | Cause::Unrecoverable | Cause::UnknownStream => true,
        Cause::Status(_)
        | Cause::NotBosh
        | Cause::BadXml(_)
        | Cause::NoReply
        | Cause::Redirect(_)
        | Cause::CreationReply(_) => false,
    }
}
