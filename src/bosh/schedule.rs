//! What is sent next, and when: window, order on the wire, polls, repeats, time limits.

use std::time::{Duration, Instant};

use super::body::{self, RequestKind};
use super::close::{Cause, CloseReason};
use super::params::Manager;
use super::session::{CREATION_DUE, PayloadClass, Phase, Request, Session};
use super::window::{Entry, RequestKey, State};

/// Longest pause between two requests on different connections.
const MAX_GAP: Duration = Duration::from_millis(25);
/// How long the next poll waits for the client after an answer to a request of its own.
const POLL_PATIENCE: Duration = Duration::from_millis(10);
/// How long a terminate request waits for a free slot before it exceeds the window by one (B-61).
const SLOT_PATIENCE: Duration = Duration::from_secs(2);
/// How long a parked reply waits before an empty request flushes the older poll (T-17).
const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// How long a stored answer is waited for when it is asked for once more (cm-quirks 4.2).
pub(super) const RECHECK_LIMIT: Duration = Duration::from_secs(2);
/// Room for the wrapper inside `max_body_bytes`.
const WRAPPER_BYTES: usize = 256;
/// Slowest uplink that the reply limit allows for, in bytes per second.
const SLOWEST_UPLINK: u64 = 8 * 1024;

/// What could go out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Send {
    /// An entry that waits for its first attempt or a repeat.
    Existing(usize),
    Restart,
    Payload,
    Terminate,
    Empty,
}

impl Session {
    /// The next request and the earliest time for it; `None` while something else must happen first.
    pub(super) fn next_send(&self) -> Option<(Instant, Send)> {
        match self.phase {
            Phase::Creating | Phase::Open => {}
            Phase::Redirecting | Phase::Closed => return None,
        }
        let waiting = self
            .window
            .iter()
            .enumerate()
            .find_map(|(index, entry)| match entry.state {
                State::Waiting { not_before } => Some((index, entry, not_before)),
                State::InFlight { .. } | State::Answered { .. } | State::Unsure => None,
            });
        if let Some((index, entry, not_before)) = waiting {
            // After the manager said terminate nothing is repeated.
            if self.drain.is_some() || self.blocked_by_older(index, entry) {
                return None;
            }
            let free = self.window.wire_free(index, self.gap()).ok()?;
            return Some((
                free.map_or(not_before, |free| free.max(not_before)),
                Send::Existing(index),
            ));
        }
        let granted = self.granted.as_ref()?;
        if self.drain.is_none()
            && let Some((index, true)) = self.window.unsure()
        {
            let free = self.window.wire_free(usize::MAX, self.gap()).ok()?;
            return Some((free.unwrap_or(self.last_reply), Send::Existing(index)));
        }
        if self.drain.is_some() || self.closing.is_some_and(|c| c.sent.is_some()) {
            return None;
        }
        let unanswered = self.window.unanswered();
        let slot = unanswered < usize::from(granted.requests.get());
        // An entry in the window means the wire has been used: keep behind it.
        let free = self
            .window
            .wire_free(usize::MAX, self.gap())
            .ok()?
            .unwrap_or(self.last_reply);
        if self.restart {
            return slot.then_some((free, Send::Restart));
        }
        if let Some(closing) = self.closing {
            let last = self.batch_len() == self.queue.len();
            return match (slot, last) {
                (true, true) => Some((free, Send::Terminate)),
                (true, false) => Some((free, Send::Payload)),
                (false, true) => Some((free.max(closing.since + SLOT_PATIENCE), Send::Terminate)),
                (false, false) => None,
            };
        }
        if !self.queue.is_empty() {
            return slot.then_some((free, Send::Payload));
        }
        let at = self.empty_due(unanswered, slot)?;
        Some((free.max(at), Send::Empty))
    }

    /// When an empty request is due, if one is.
    fn empty_due(&self, unanswered: usize, slot: bool) -> Option<Instant> {
        let granted = self.granted.as_ref()?;
        if !self.receiving {
            return None;
        }
        if unanswered > 0 {
            // T-17: a reply is parked behind a poll that the manager holds on to.
            let (rid, at) = self.window.iter().find_map(|entry| match entry.state {
                State::Answered { at, .. } => Some((entry.rid, at)),
                State::Waiting { .. } | State::InFlight { .. } | State::Unsure => None,
            })?;
            let flush = slot && !self.bound && self.flushed < Some(rid);
            return flush.then(|| at + FLUSH_AFTER);
        }
        if self.window.unsure().is_some() {
            return Some(self.last_reply);
        }
        if granted.is_polling() && self.last_reply_empty {
            // XEP-0124 section 12: no sooner than `polling`, yet before `inactivity`.
            let pause = granted.polling.min(granted.inactivity_or_default() / 2);
            return Some(self.last_send + pause);
        }
        if self.bound && self.last_reply_kind == RequestKind::Payload {
            // The client has just got an answer: what it says next often saves this poll, and cannot
            // overtake it (cm-quirks rule 13).
            return Some(self.last_reply + POLL_PATIENCE);
        }
        if self.bound || self.expecting {
            return Some(self.last_reply);
        }
        // T-18: the client's turn, nothing is held; keep the session alive while a password is typed.
        Some(self.last_reply + granted.inactivity_or_default() / 3)
    }

    /// Whether a repeat must wait for older requests to be answered. ejabberd ends the session when a
    /// request that it put aside is repeated (cm-quirks 4.1).
    fn blocked_by_older(&self, index: usize, entry: &Entry) -> bool {
        let ejabberd = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Ejabberd);
        ejabberd && entry.maybe_received && self.window.iter().take(index).any(|e| !e.is_answered())
    }

    /// Pause between two requests on two connections, so that they arrive in order (T-37): a share of the
    /// round trip. Managers that go wrong when it does not work out get more.
    fn gap(&self) -> Duration {
        match self.granted.as_ref().map(|g| g.manager) {
            Some(Manager::Ejabberd | Manager::Tigase) => MAX_GAP,
            Some(Manager::Other) | None => {
                self.round_trip.map_or(MAX_GAP, |rtt| rtt / 4).min(MAX_GAP)
            }
        }
    }

    /// Turns the decision into a request.
    pub(super) fn begin(&mut self, what: Send, now: Instant) -> Option<Request> {
        let (index, fresh) = match what {
            Send::Existing(index) => (index, self.window.get(index)?.attempts > 0),
            Send::Restart | Send::Payload | Send::Terminate | Send::Empty => {
                let entry = self.encode_next(what, now)?;
                self.window.push(entry);
                (self.window.iter().count() - 1, false)
            }
        };
        let unsure = self.window.unsure().is_some_and(|(at, _)| at == index);
        let limit = if unsure {
            RECHECK_LIMIT
        } else {
            self.start_limit(index)
        };
        let due = now + limit;
        self.last_send = now;
        let entry = self.window.get_mut(index)?;
        let key = entry.start(due);
        Some(Request {
            key,
            body: entry.body.clone(),
            fresh,
        })
    }

    fn encode_next(&mut self, what: Send, now: Instant) -> Option<Entry> {
        let rid = self.take_rid()?;
        let count = match what {
            Send::Payload | Send::Terminate => self.batch_len(),
            Send::Existing(_) | Send::Restart | Send::Empty => 0,
        };
        if what == Send::Empty {
            self.flushed = self.newest_parked().or(self.flushed);
        }
        let granted = self.granted.as_ref()?;
        // XEP-0124 section 9.2: left out exactly when every earlier request is answered.
        let ack = if self.window.is_empty() {
            None
        } else {
            self.processed
        };
        let payload = self.queue.iter().take(count).map(|p| &p.bytes[..]);
        let (kind, body) = match what {
            Send::Restart => {
                self.restart = false;
                (
                    RequestKind::Restart,
                    body::encode_restart(&self.options.requested, &granted.sid, rid, ack),
                )
            }
            Send::Terminate => {
                let body = body::encode(&granted.sid, rid, ack, true, payload);
                if let Some(closing) = &mut self.closing {
                    closing.sent = Some((rid, now));
                }
                (RequestKind::Terminate, body)
            }
            Send::Payload => {
                self.expecting = true;
                (
                    RequestKind::Payload,
                    body::encode(&granted.sid, rid, ack, false, payload),
                )
            }
            Send::Existing(_) | Send::Empty => (
                RequestKind::Empty,
                body::encode(&granted.sid, rid, ack, false, payload),
            ),
        };
        for payload in self.queue.drain(..count) {
            self.queued_bytes -= payload.bytes.len();
        }
        Some(Entry::new(rid, kind, body, now))
    }

    /// How many queued payloads go into the next body (X-01, T-20).
    fn batch_len(&self) -> usize {
        let Some(first) = self.queue.front() else {
            return 0;
        };
        if first.class == PayloadClass::Alone {
            return 1;
        }
        let room = self.options.max_body_bytes.saturating_sub(WRAPPER_BYTES);
        let mut total = first.bytes.len();
        let more = self.queue.iter().skip(1).take_while(|payload| {
            total += payload.bytes.len();
            payload.class == PayloadClass::Together && total <= room
        });
        1 + more.count()
    }

    fn newest_parked(&self) -> Option<super::Rid> {
        self.window
            .iter()
            .rev()
            .find(|e| e.is_answered())
            .map(|e| e.rid)
    }

    /// Time for an attempt as a whole, until it is written and [`Self::reply_due`] takes over. The shell has
    /// tighter limits for each stage of connecting; this one only keeps a lost report from hanging us.
    fn start_limit(&self, index: usize) -> Duration {
        match &self.granted {
            None => CREATION_DUE,
            Some(granted) => {
                granted.wait
                    + granted.reply_margin()
                    + Duration::from_secs(60)
                    + self.upload_time(index)
            }
        }
    }

    /// When the reply to the request at `index`, written now, is overdue (B-24).
    pub(super) fn reply_due(&self, index: usize, now: Instant) -> Instant {
        match &self.granted {
            None => now + CREATION_DUE,
            Some(granted) => now + granted.wait + granted.reply_margin() + self.upload_time(index),
        }
    }

    fn upload_time(&self, index: usize) -> Duration {
        let bytes = self
            .window
            .get(index)
            .map_or(0, |entry| entry.body.len() as u64);
        Duration::from_secs(bytes / SLOWEST_UPLINK)
    }

    /// T-08: a newer request makes the manager let go of older ones at once. If it does not within this time
    /// the path is dead, although their `wait` has not run out.
    pub(super) fn expect_release(&mut self, index: usize, now: Instant) {
        let Some(granted) = &self.granted else { return };
        let limit = Duration::from_secs(15).min(granted.inactivity_or_default() / 2);
        let due_by = now + limit + self.upload_time(index);
        let requests = usize::from(granted.requests.get());
        // With more than two requests allowed the manager may rightly hold several.
        if requests > 2 {
            return;
        }
        for entry in self.window.iter_mut().take(index) {
            if let State::InFlight { due, .. } = &mut entry.state {
                *due = (*due).min(due_by);
            }
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
    /// sign of life (B-54). `None` while nothing has failed.
    pub(super) fn budget_end(&self) -> Option<Instant> {
        let granted = self.granted.as_ref()?;
        let oldest = self.window.iter().find(|e| !e.is_answered())?;
        (oldest.failures > 0).then_some(())?;
        let held_until = oldest.first_written.map(|at| at + granted.wait);
        Some(
            held_until.map_or(self.last_reply, |at| at.max(self.last_reply))
                + granted.inactivity_or_default(),
        )
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

    /// When waiting for the last replies of an ending session stops.
    pub(super) fn end_of_patience(&self) -> Option<Instant> {
        let drain = self.drain.as_ref().map(|drain| drain.deadline);
        let closing = self
            .closing
            .and_then(|c| c.sent.map(|(_, at)| at + c.limit));
        drain.into_iter().chain(closing).min()
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
            && (over || closing.confirmed && quiet)
        {
            self.process_all();
            self.close(CloseReason::Terminated {
                confirmed: closing.confirmed,
            });
        }
    }

    /// Marks an attempt for another try because the manager asked for it.
    pub(super) fn send_again(&mut self, index: usize, now: Instant) {
        let pause = self.repeat_pause(index, None);
        if let Some(entry) = self.window.get_mut(index) {
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
}
