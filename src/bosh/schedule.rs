//! What is sent next, and when: window, order on the wire, polls, repeats, time limits.

use std::time::{Duration, Instant};

use super::body::{self, Head, RequestKind};
use super::params::{Granted, Manager};
use super::session::{CREATION_DUE, OLD_CREATION_DUE, Phase, Request, Session};
use super::window::{Entry, State};

/// Longest pause between two requests on different connections.
const MAX_GAP: Duration = Duration::from_millis(25);
/// How long the next poll waits for the client after an answer to a request of its own.
const POLL_PATIENCE: Duration = Duration::from_millis(10);
/// How long an answer is waited for that Prosody may have left on a paused connection.
const PAUSED_LIMIT: Duration = Duration::from_secs(1);
/// How long a parked reply waits before an empty request flushes the older poll (T-17).
const FLUSH_AFTER: Duration = Duration::from_secs(2);
/// How long at least a stored answer is waited for when it is asked for once more (cm-quirks 4.2).
pub(super) const RECHECK_LIMIT: Duration = Duration::from_secs(2);
/// Room for the wrapper inside `max_body_bytes`.
const WRAPPER_BYTES: usize = 256;
/// Largest body to Prosody over https: it reads 8 KiB at a time, head included, and rests at least 1 ms before each
/// further read (cm-quirks section 15). A head of 512 bytes has its place beside it; most are half as long.
const PROSODY_TLS_BODY: usize = 8 * 1024 - 512;
/// How much longer than `polling` an empty request keeps behind the last one when another is held (B-39).
const NUDGE_MARGIN: Duration = Duration::from_secs(1);
/// How long ejabberd has to answer a repeated request from its store, before a newer one is repeated too.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the older request's answer, with stanzas, may release one that was put aside. After that it is
/// better to lose the session by a repeat than to stall it for certain.
const PARKED_PATIENCE: Duration = Duration::from_secs(10);
/// After so many attempts a request that is not answered has come and is held.
const SURE_ATTEMPTS: u32 = 3;
/// A request written so long before another cannot have been overtaken by it.
const LEAD: Duration = Duration::from_secs(1);
/// How long Openfire has to answer the repeat of a restart as one.
const RESTART_PATIENCE: Duration = Duration::from_secs(2);
/// Requests remembered for the log.
const TRAIL: usize = 6;
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
                State::InFlight { .. }
                | State::Answered { .. }
                | State::Unsure { .. }
                | State::Refused { .. } => None,
            });
        if let Some((index, entry, not_before)) = waiting {
            // After the manager said terminate nothing is repeated.
            if self.drain.is_some() {
                return None;
            }
            let free = self.window.wire_free(index, self.gap()).ok()?;
            let at = self.behind_older(index, entry)?.max(free);
            let at = at.map_or(not_before, |at| at.max(not_before));
            return Some((at, Send::Existing(index)));
        }
        let granted = self.granted.as_ref()?;
        // B-38: an older one may still be under way beside the newer one.
        let place = self.window.unanswered() < usize::from(granted.requests.get());
        if self.drain.is_none()
            && place
            && let Some((index, Some(from))) = self.window.unsure()
        {
            let free = self.window.wire_free(usize::MAX, self.gap()).ok()?;
            return Some((
                free.map_or(from, |free| free.max(from)),
                Send::Existing(index),
            ));
        }
        if self.drain.is_some() || self.closing.is_some_and(|c| c.sent.is_some()) {
            return None;
        }
        let unanswered = self.window.unanswered();
        // Before binding a parked reply leaves its place free (T-17), afterwards it does not (T-09).
        let used = if self.bound {
            self.window.unsettled()
        } else {
            unanswered
        };
        let slot = used < usize::from(granted.requests.get());
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
            let overtakes = match self.queue.is_empty() {
                true => None,
                false => self.would_overtake(),
            };
            if slot && overtakes == Some(true) {
                // Nobody else would make the manager answer it in time.
                return Some((free, Send::Empty));
            }
            let slot = slot && overtakes.is_none();
            return match (slot, last) {
                (true, true) => Some((free, Send::Terminate)),
                (true, false) => Some((free, Send::Payload)),
                (false, true) => Some((free.max(self.squeeze_due(closing)), Send::Terminate)),
                (false, false) => None,
            };
        }
        if !self.queue.is_empty() {
            let what = match self.would_overtake() {
                None => Send::Payload,
                // An empty one makes the manager answer it.
                Some(true) => Send::Empty,
                Some(false) => return None,
            };
            return slot.then_some((free, what));
        }
        if let Some(at) = self.restart_again().filter(|_| slot) {
            return Some((free.max(at), Send::Restart));
        }
        let at = self.empty_due(unanswered, slot)?;
        Some((free.max(at), Send::Empty))
    }

    /// When a restart is asked for again by a request of its own: Openfire keeps no answer to it, and holds a repeat like
    /// a poll (cm-quirks 4.4).
    fn restart_again(&self) -> Option<Instant> {
        let newest = self.window.iter().next_back()?;
        let again = newest.maybe_received || newest.copies > newest.attempts;
        let lost = newest.kind == RequestKind::Restart && again;
        let patience = RESTART_PATIENCE.max(self.round_trip.unwrap_or_default() * 4);
        newest
            .written()
            .filter(|_| lost && self.is_openfire())
            .map(|at| at + patience)
    }

    /// Whether the manager is Openfire.
    pub(super) fn is_openfire(&self) -> bool {
        self.granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Openfire)
    }

    /// Tigase works on requests as they arrive: one with payload must be answered before the next goes out
    /// (cm-quirks 4.1). `None` if nothing stands in the way, else whether that one is the newest and held.
    fn would_overtake(&self) -> Option<bool> {
        let tigase = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Tigase);
        let carries = |e: &&Entry| e.payloads > 0 && !e.is_answered();
        let carrier = self.window.iter().find(carries).filter(|_| tigase)?;
        let newest = self.window.iter().next_back().map(|e| e.rid);
        Some(newest == Some(carrier.rid) && carrier.written().is_some())
    }

    /// When an empty request is due, if one is.
    fn empty_due(&self, unanswered: usize, slot: bool) -> Option<Instant> {
        let granted = self.granted.as_ref()?;
        if !self.receiving {
            return None;
        }
        if unanswered > 0 {
            let beside = slot.then(|| self.beside_another(granted)).flatten();
            let within = unanswered < usize::from(granted.requests.get());
            return beside.or_else(|| self.unordered_flush(granted).filter(|_| within));
        }
        if self.window.unsure().is_some() {
            return Some(self.last_reply);
        }
        if granted.is_polling() && self.last_reply_empty {
            // XEP-0124 section 12: no sooner than `polling`, yet before `inactivity`.
            let latest = self.last_reply + granted.inactivity_or_default() * 9 / 10;
            // A manager that names no interval is not hammered all the same.
            let polling = granted.polling.max(Duration::from_secs(1));
            return Some((self.last_send + polling).min(latest));
        }
        if self.bound && self.last_reply_kind == RequestKind::Payload {
            // The client has just got an answer: what it says next often saves this poll, and cannot
            // overtake it (cm-quirks rule 13).
            return Some(self.last_reply + POLL_PATIENCE);
        }
        // The client may take its time to bind, and the server may think that it has waited for a while already.
        let late = self.last_reply_stored && self.last_reply_kind == RequestKind::Restart;
        if self.bound || self.expecting || late {
            return Some(self.last_reply);
        }
        // T-18: the client's turn, nothing is held; keep the session alive while a password is typed.
        Some(self.last_reply + granted.inactivity_or_default() / 3)
    }

    /// A manager that keeps no order (Punjab, cm-quirks section 10) may have answered the newer request and hold
    /// the repeat of the older one: an empty one makes it let go (T-17).
    fn unordered_flush(&self, granted: &Granted) -> Option<Instant> {
        let parked = self
            .newest_parked()
            .filter(|rid| self.flushed < Some(*rid))?;
        let oldest = self.window.iter().find(|e| !e.is_answered())?;
        let repeated = oldest.attempts > 1 && oldest.rid < parked;
        let due = oldest.written()? + FLUSH_AFTER;
        (self.bound && repeated && granted.manager == Manager::Other).then_some(due)
    }

    /// When an empty request is due although another is unanswered, if it is.
    fn beside_another(&self, granted: &Granted) -> Option<Instant> {
        if !self.bound {
            // T-17: a reply is parked behind a poll that the manager holds on to.
            let (rid, at) = self.window.iter().find_map(|entry| match entry.state {
                State::Answered { at, .. } | State::Refused { at } => Some((entry.rid, at)),
                State::Waiting { .. } | State::InFlight { .. } | State::Unsure { .. } => None,
            })?;
            // Behind a repeat as well.
            let due = (at + FLUSH_AFTER).max(self.last_send + FLUSH_AFTER / 2);
            return (self.flushed < Some(rid)).then_some(due);
        }
        // B-39: never sooner than this, whatever it is good for.
        let soonest = self.last_send + granted.polling + NUDGE_MARGIN;
        let newest = self.window.iter().next_back()?;
        // A lone stanza's request stays held, and unconfirmed, until another one comes (S-43).
        let carries = newest.payloads > 0 && newest.written().is_some();
        let confirm = (self.confirming && carries).then_some(soonest);
        // A repeat that is held tells nothing: is the session still there?
        let repeated = newest.failures > 0 && newest.written().is_some();
        // The same is asked by one that the manager has called unknown.
        let probe = (repeated || self.window.has_refused()).then_some(soonest);
        // T-10: the manager answers the held request before something on the way cuts it.
        let oldest = self.window.iter().find_map(Entry::written);
        let nudge = self
            .cuts
            .limit()
            .zip(oldest)
            .map(|(limit, at)| (at + limit / 2).max(soonest))
            .filter(|due| {
                let cut = oldest.zip(self.cuts.limit()).map(|(at, limit)| at + limit);
                cut.is_some_and(|cut| *due < cut)
            });
        confirm.into_iter().chain(probe).chain(nudge).min()
    }

    /// Whether the repeat of a request may go out beside older ones, and when: `Some(None)` at once, `None`
    /// not before they are answered. ejabberd and MongooseIM end the session when a request that they put aside
    /// is repeated (cm-quirks 4.1): there the repeat of the older one goes first. If the older had come before the
    /// newer, it was answered when that came, and its repeat is answered from the store; if not, the newer never
    /// came. Where the order is not known, a put-aside request gets some more time to be released.
    fn behind_older(&self, index: usize, entry: &Entry) -> Option<Option<Instant>> {
        if !self.is_touchy() || !entry.maybe_received {
            return Some(None);
        }
        let mut from = None;
        for older in self.window.iter().take(index).filter(|e| e.is_open()) {
            let was_first = older.first_written? + LEAD <= entry.first_written?;
            let patience = match (entry.distrusted, was_first) {
                // Silence swallowed both: the older one's repeat may be swallowed as well.
                (true, _) if older.attempts < SURE_ATTEMPTS => return None,
                (true, _) | (false, true) => STORE_PATIENCE,
                (false, false) => PARKED_PATIENCE,
            };
            from = from.max(Some(older.written()? + patience));
        }
        Some(from)
    }

    /// Whether the manager ends the session when a request that it put aside is repeated (cm-quirks 4.1).
    pub(super) fn is_touchy(&self) -> bool {
        self.granted
            .as_ref()
            .is_some_and(|g| matches!(g.manager, Manager::Ejabberd | Manager::MongooseIm))
    }

    /// Pause between two requests on two connections, so that they arrive in order (T-37): a share of the
    /// round trip. Managers that go wrong when it does not work out get more.
    fn gap(&self) -> Duration {
        match self.granted.as_ref().map(|g| g.manager) {
            // A box that takes requests apart gives each a connection of its own, and one that is put aside must not
            // come twice.
            Some(Manager::Ejabberd) if self.way.repeats => MAX_GAP * 2,
            Some(Manager::Ejabberd | Manager::Tigase | Manager::Openfire) => MAX_GAP,
            Some(Manager::Prosody | Manager::MongooseIm | Manager::Other) | None => {
                self.round_trip.map_or(MAX_GAP, |rtt| rtt / 4).min(MAX_GAP)
            }
        }
    }

    /// Turns the decision into a request.
    pub(super) fn begin(&mut self, what: Send, now: Instant) -> Option<Request> {
        let (index, fresh) = match what {
            Send::Existing(index) => {
                let entry = self.window.get(index)?;
                // On a kept connection the shell may repeat it by itself, which a creation request must not be (B-55).
                let again = self.phase == Phase::Creating && entry.rid != self.options.first_rid;
                (index, again || entry.attempts > 0)
            }
            Send::Restart | Send::Payload | Send::Terminate | Send::Empty => {
                let entry = self.encode_next(what, now)?;
                self.window.push(entry);
                (self.window.iter().count() - 1, false)
            }
        };
        let unsure = self.window.unsure().is_some_and(|(at, _)| at == index);
        let limit = if unsure {
            RECHECK_LIMIT.max(self.round_trip.unwrap_or_default() * 4)
        } else {
            self.start_limit(index)
        };
        let due = now + limit;
        self.last_send = now;
        let behind = self.window.get(index + 1).map_or(0, |e| e.attempts);
        let entry = self.window.get_mut(index)?;
        entry.behind = behind;
        entry.started = Some(now);
        if self.trail.len() == TRAIL {
            self.trail.pop_front();
        }
        self.trail.push_back((entry.rid, now));
        let key = entry.start(due);
        Some(Request {
            key,
            body: entry.body.clone(),
            // What is asked once more was answered: nothing is wrong with the connection.
            fresh: fresh && !unsure,
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
        let keys = self
            .keys
            .as_mut()
            .map(super::keys::KeyChain::next)
            .unwrap_or_default();
        let head = Head {
            sid: &granted.sid,
            rid,
            ack,
            keys,
        };
        let payload = std::iter::once(self.queue.oldest(count));
        let (kind, body) = match what {
            Send::Restart => (
                RequestKind::Restart,
                body::encode_restart(&self.options.requested, &head),
            ),
            Send::Terminate => (RequestKind::Terminate, body::encode(&head, true, payload)),
            Send::Payload => (RequestKind::Payload, body::encode(&head, false, payload)),
            Send::Existing(_) | Send::Empty => {
                (RequestKind::Empty, body::encode(&head, false, payload))
            }
        };
        match kind {
            RequestKind::Restart => self.restart = false,
            RequestKind::Payload => self.expecting = true,
            RequestKind::Terminate => {
                if let Some(closing) = &mut self.closing {
                    closing.sent = Some((rid, now));
                }
            }
            RequestKind::Creation | RequestKind::Empty => {}
        }
        self.queue.remove(count);
        let mut entry = Entry::new(rid, kind, body, now);
        entry.payloads = count;
        Some(entry)
    }

    /// How many queued payloads go into the next body (X-01, T-20).
    fn batch_len(&self) -> usize {
        let room = self.body_limit().saturating_sub(WRAPPER_BYTES);
        self.queue.batch(room)
    }

    /// Largest body that payloads are gathered into.
    fn body_limit(&self) -> usize {
        let most = self.options.max_body_bytes;
        let prosody = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Prosody);
        if self.options.https && prosody {
            most.min(PROSODY_TLS_BODY)
        } else {
            most
        }
    }

    fn newest_parked(&self) -> Option<super::Rid> {
        self.window
            .iter()
            .rev()
            .find(|e| e.is_answered() || matches!(e.state, State::Refused { .. }))
            .map(|e| e.rid)
    }

    /// Time for an attempt as a whole, until it is written and [`Self::reply_due`] takes over. The shell has
    /// tighter limits for each stage of connecting; this one only keeps a lost report from hanging us.
    fn start_limit(&self, index: usize) -> Duration {
        match &self.granted {
            None => CREATION_DUE,
            Some(granted) => {
                granted.wait
                    + granted.reply_margin(self.round_trip)
                    + Duration::from_secs(60)
                    + self.upload_time(index)
            }
        }
    }

    /// When the reply to the request at `index`, written now, is overdue (B-24).
    pub(super) fn reply_due(&self, index: usize, now: Instant) -> Instant {
        match &self.granted {
            None if !self.options.requested.xmpp_version => now + OLD_CREATION_DUE,
            None => now + CREATION_DUE,
            Some(granted) => {
                let margin = granted.reply_margin(self.round_trip);
                let due = now + granted.wait + margin;
                let due = self.silence_due(index, now).map_or(due, |by| due.min(by));
                due + self.upload_time(index)
            }
        }
    }

    /// A request that is the first word to the manager for a while may be the one that vanishes: its repeat has to come
    /// before the silence is as long as `inactivity`.
    fn silence_due(&self, index: usize, now: Instant) -> Option<Instant> {
        let granted = self.granted.as_ref()?;
        let margin = granted.reply_margin(self.round_trip);
        let inactivity = granted.inactivity?;
        let mut others = self.window.iter().enumerate();
        let heard = others.any(|(at, e)| at != index && e.written().is_some());
        // A repeat may well be held, for as long as `wait`.
        let repeat = self.window.get(index).is_some_and(|e| e.attempts > 1);
        if heard || repeat || granted.wait + margin > inactivity {
            return None;
        }
        let by = self.last_life.max(self.last_reply) + inactivity.saturating_sub(margin);
        Some(by.max(now + margin))
    }

    fn upload_time(&self, index: usize) -> Duration {
        let bytes = self
            .window
            .get(index)
            .map_or(0, |entry| entry.body.len() as u64);
        Duration::from_secs(bytes / SLOWEST_UPLINK)
    }

    /// How soon a held request must be answered when a newer one is out; `None` with more than two requests
    /// allowed, where the manager may rightly hold several.
    pub(super) fn release_limit(&self) -> Option<Duration> {
        let granted = self.granted.as_ref()?;
        let limit = Duration::from_secs(15).min(granted.inactivity_or_default() / 2);
        (granted.requests.get() <= 2).then_some(limit)
    }

    /// T-08: a newer request makes the manager let go of older ones at once. If it does not within this time
    /// the path is dead, although their `wait` has not run out.
    pub(super) fn expect_release(&mut self, index: usize, now: Instant) {
        let Some(limit) = self.release_limit() else {
            return;
        };
        let due_by = now + limit + self.upload_time(index);
        let paused_by = now + self.paused_limit().unwrap_or(limit) + self.upload_time(index);
        for entry in self.window.iter_mut().take(index) {
            if let State::InFlight { due, .. } = &mut entry.state {
                // A repeat has a connection of its own, which nothing has paused: if it takes long, the path is slow.
                let first = entry.attempts == 1;
                *due = (*due).min(if first { due_by.min(paused_by) } else { due_by });
            }
        }
    }

    /// How soon that is where the answer may be on a paused connection (XEP-0352).
    fn paused_limit(&self) -> Option<Duration> {
        let prosody = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Prosody);
        let usual = self.round_trip.unwrap_or_default() * 4;
        (self.was_inactive && prosody).then_some(usual.max(PAUSED_LIMIT))
    }
}
