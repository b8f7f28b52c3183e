//! The requests that have been sent and not yet processed, in rid order, with the bytes to send again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::{RequestKind, Response};
use super::close::Cause;
use super::params::Rid;

/// Names one attempt of one request. A late answer to an older attempt is told by it (T-04).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// The request.
    pub rid: Rid,
    /// 1 for the first attempt.
    pub attempt: u32,
}

/// Where a request stands.
#[derive(Debug)]
pub(super) enum State {
    /// To be sent, not before this time.
    Waiting {
        /// Earliest time.
        not_before: Instant,
    },
    /// Handed to the shell.
    InFlight {
        /// When the last byte went to the socket.
        written: Option<Instant>,
        /// When the attempt counts as lost.
        due: Instant,
    },
    /// Answered without payload, though an older copy of it may have been answered with some (cm-quirks 4.2):
    /// asked for once more when the next request is out.
    Unsure {
        /// It was, and is still empty. That is final only if the next request had arrived by then, which its answer
        /// shows.
        asked: bool,
        /// Earliest time to ask.
        not_before: Instant,
    },
    /// Called unknown although a newer one has been sent: the answer to that tells whether the session lives.
    Refused {
        /// Since when.
        at: Instant,
    },
    /// Its reply is here, parked until all earlier ones are processed (B-35).
    Answered {
        /// The reply.
        response: Box<Response>,
        /// When it came.
        at: Instant,
        /// The manager has answered for what the request carried.
        confirms: bool,
    },
}

/// A reply whose turn has come.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) rid: Rid,
    pub(super) kind: RequestKind,
    /// Payloads that the request carried.
    pub(super) payloads: usize,
    pub(super) response: Box<Response>,
    pub(super) confirms: bool,
    /// It was sent more than once.
    pub(super) repeated: bool,
}

/// One request and the exact bytes of every attempt (B-50).
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) rid: Rid,
    pub(super) kind: RequestKind,
    pub(super) body: Bytes,
    /// Payloads inside.
    pub(super) payloads: usize,
    pub(super) attempts: u32,
    /// Copies sent, those of the shell included.
    pub(super) copies: u32,
    /// It was under way on a path that turned out to be dead: nothing is known of it.
    pub(super) distrusted: bool,
    /// Times that the manager asked for it again.
    pub(super) recoveries: u32,
    /// Attempts that failed, for the pause before the next.
    pub(super) failures: u32,
    /// Failures of the last kind in a row, for causes that are repeated only so often.
    pub(super) same_cause: u32,
    pub(super) last_cause: Option<Cause>,
    /// When the last attempt was handed out.
    pub(super) started: Option<Instant>,
    pub(super) first_written: Option<Instant>,
    /// Since when the manager may be holding it, as far as patience goes: written whole, and not before the
    /// manager's last sign of life.
    pub(super) held_since: Option<Instant>,
    /// When the last attempt was written whole.
    pub(super) last_written: Option<Instant>,
    /// An attempt may have reached the manager whole.
    pub(super) maybe_received: bool,
    /// The manager has let go of an older request although it had nothing to say: this one has arrived.
    pub(super) arrived: bool,
    /// Times that the stored answer was asked for in vain.
    pub(super) rechecks: u32,
    /// This attempt only asks for the stored answer once more.
    pub(super) recheck: bool,
    /// Which attempt of the next request was under way then.
    pub(super) behind: u32,
    pub(super) state: State,
}

impl Entry {
    pub(super) fn new(rid: Rid, kind: RequestKind, body: Bytes, now: Instant) -> Self {
        Self {
            rid,
            kind,
            body,
            payloads: 0,
            attempts: 0,
            copies: 0,
            distrusted: false,
            recoveries: 0,
            failures: 0,
            same_cause: 0,
            last_cause: None,
            started: None,
            first_written: None,
            held_since: None,
            last_written: None,
            maybe_received: false,
            arrived: false,
            rechecks: 0,
            recheck: false,
            behind: 0,
            state: State::Waiting { not_before: now },
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered { .. })
    }

    /// When the attempt under way was written whole.
    pub(super) fn written(&self) -> Option<Instant> {
        match self.state {
            State::InFlight { written, .. } => written,
            State::Waiting { .. }
            | State::Answered { .. }
            | State::Unsure { .. }
            | State::Refused { .. } => None,
        }
    }

    /// The manager has still to answer it, as far as anybody knows.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::InFlight { .. })
    }

    /// An older copy may have come behind the one that was answered.
    pub(super) fn may_come_late(&self) -> bool {
        self.copies > 1 && self.maybe_received
    }

    /// Its answer came, and is in doubt.
    pub(super) fn is_unsure(&self) -> bool {
        matches!(self.state, State::Unsure { .. })
    }

    /// How long the answered attempt took from its last byte to its answer.
    pub(super) fn answered_after(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.last_written?))
    }

    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight { .. })
    }

    /// Takes the entry apart if its reply is here.
    pub(super) fn into_answered(self) -> Option<Answered> {
        match self.state {
            State::Answered {
                response, confirms, ..
            } => Some(Answered {
                rid: self.rid,
                kind: self.kind,
                payloads: self.payloads,
                response,
                confirms,
                repeated: self.copies > 1,
            }),
            State::Waiting { .. }
            | State::InFlight { .. }
            | State::Unsure { .. }
            | State::Refused { .. } => None,
        }
    }

    /// Starts the next attempt.
    pub(super) fn start(&mut self, due: Instant) -> RequestKey {
        self.attempts += 1;
        self.copies += 1;
        self.arrived = false;
        self.recheck = self.is_unsure();
        self.last_written = None;
        self.state = State::InFlight { written: None, due };
        RequestKey {
            rid: self.rid,
            attempt: self.attempts,
        }
    }

    /// Notes a failed attempt; returns how often in a row this kind of cause was seen.
    pub(super) fn failed(&mut self, cause: Cause) -> u32 {
        self.failures += 1;
        let same = self
            .last_cause
            .as_ref()
            .is_some_and(|last| std::mem::discriminant(last) == std::mem::discriminant(&cause));
        self.same_cause = if same { self.same_cause + 1 } else { 1 };
        self.maybe_received |= cause.sent();
        self.last_cause = Some(cause);
        self.same_cause
    }
}

/// All entries, oldest first. At most `requests` + 1 unanswered (B-38), so scans are short.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
}

impl Window {
    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    /// Index of this very attempt, if it is still the one under way.
    pub(super) fn attempt(&self, key: RequestKey) -> Option<usize> {
        self.entries
            .iter()
            .position(|e| e.rid == key.rid && e.attempts == key.attempt && e.is_in_flight())
    }

    /// Whether a newer request has gone out whole, so that the manager may have seen it.
    pub(super) fn was_written_behind(&self, index: usize) -> bool {
        let mut newer = self.entries.iter().skip(index + 1);
        newer.any(|entry| entry.first_written.is_some())
    }

    /// Whether the manager has let go of the answer to this request: it keeps two, and one behind its successor was
    /// answered, or came again and so has an answer of its own.
    pub(super) fn is_forgotten(&self, index: usize) -> bool {
        let gone = |entry: &Entry| match entry.state {
            State::Answered { .. } | State::Unsure { .. } | State::Refused { .. } => true,
            State::InFlight { .. } => entry.attempts > 1,
            State::Waiting { .. } => entry.maybe_received,
        };
        self.entries.iter().skip(index + 2).any(gone)
    }

    /// Whether the next request has failed on its way since this one was asked for again: it did not make the manager
    /// let go of this one.
    pub(super) fn lost_behind(&self, index: usize) -> bool {
        let behind = self.entries.get(index).map(|entry| entry.behind);
        self.entries.get(index + 1).is_some_and(|next| {
            let again = behind.is_some_and(|behind| behind != next.attempts);
            matches!(next.state, State::Waiting { .. }) || next.is_in_flight() && again
        })
    }

    /// Whether the next request is there, and not answered yet.
    pub(super) fn waits_behind(&self, index: usize) -> bool {
        self.entries.get(index + 1).is_some_and(Entry::is_open)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// The oldest request was answered without payload: what was written behind it has reached the manager.
    /// Whether it was answered because of that or because its `wait` was over, the newer one had the time.
    pub(super) fn note_release(&mut self) {
        for entry in &mut self.entries {
            if matches!(
                entry.state,
                State::InFlight {
                    written: Some(_),
                    ..
                }
            ) {
                entry.arrived = true;
            }
        }
    }

    /// The request whose stored answer is to be asked for, if one is, and from when on: `None` while no newer one
    /// follows it.
    pub(super) fn unsure(&self) -> Option<(usize, Option<Instant>)> {
        let (index, from) = self.entries.iter().enumerate().find_map(|(index, e)| {
            let State::Unsure { asked, not_before } = e.state else {
                return None;
            };
            (!asked).then_some((index, not_before))
        })?;
        Some((index, (index + 1 < self.entries.len()).then_some(from)))
    }

    /// Whether the manager has called one unknown that waits for the answer to a newer one.
    pub(super) fn has_refused(&self) -> bool {
        let refused = |entry: &Entry| matches!(entry.state, State::Refused { .. });
        self.entries.iter().any(refused)
    }

    /// Requests that the manager may still have to answer, or to answer again: all but the oldest ones that are in
    /// doubt or refused. A parked reply counts too, since managers store two answers only and one more request could
    /// push out the answer that is missing (T-09).
    pub(super) fn unsettled(&self) -> usize {
        let settled = |e: &&Entry| !e.is_open() && !e.is_answered();
        self.entries.iter().skip_while(settled).count()
    }

    /// Requests without a reply. A parked reply does not count: the manager has let go of its request.
    pub(super) fn unanswered(&self) -> usize {
        self.entries.iter().filter(|e| e.is_open()).count()
    }

    /// Whether a restart is under way, or its answer waits for its turn.
    pub(super) fn has_restart(&self) -> bool {
        self.entries.iter().any(|e| e.kind == RequestKind::Restart)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The oldest entry, if its reply is here.
    pub(super) fn pop_answered(&mut self) -> Option<Answered> {
        if !self.entries.front()?.is_answered() {
            return None;
        }
        self.entries.pop_front().and_then(Entry::into_answered)
    }

    /// Takes out the replies that are parked behind this entry, up to the next that is missing, and before them
    /// any that are parked behind older entries.
    pub(super) fn take_parked(&mut self, index: usize) -> Vec<Answered> {
        let behind = self.entries.iter().skip(index + 1);
        let end = index + 1 + behind.take_while(|e| e.is_answered()).count();
        if end == index + 1 {
            return Vec::new();
        }
        let newer = self.entries.split_off(end.min(self.entries.len()));
        let (taken, missing): (Vec<_>, Vec<_>) =
            self.entries.drain(..).partition(Entry::is_answered);
        self.entries.extend(missing);
        self.entries.extend(newer);
        taken.into_iter().filter_map(Entry::into_answered).collect()
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// When the wire is free for what follows the first `count` entries: everything older has been written
    /// whole to its connection, and `gap` has passed since (cm-quirks rule 13, T-37). `Err` while something
    /// older is still being written or waits for its own turn.
    pub(super) fn wire_free(&self, count: usize, gap: Duration) -> Result<Option<Instant>, ()> {
        let mut free = None;
        for entry in self.entries.iter().take(count) {
            match entry.state {
                State::Answered { .. } | State::Unsure { .. } | State::Refused { .. } => {}
                State::InFlight {
                    written: Some(_), ..
                } if entry.arrived => {}
                State::InFlight {
                    written: Some(at), ..
                } => free = free.max(Some(at + gap)),
                State::InFlight { written: None, .. } | State::Waiting { .. } => return Err(()),
            }
        }
        Ok(free)
    }
}
