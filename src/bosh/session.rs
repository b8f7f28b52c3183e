//! [`Session`]: one BOSH session. Public face and phases; `schedule` decides what to send next, `receive`
//! what a reply does.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::body::RequestKind;
use super::close::{Cause, CloseReason};
use super::cuts::Cuts;
use super::ending::{Closing, Drain};
use super::failure::{Failure, HttpReply};
use super::keys::{KeyChain, KeySeed};
use super::params::{Granted, Requested, Rid, Way};
use super::queue::Queue;
use super::window::{Entry, RequestKey, State, Window};
use crate::xml::{Element, Limits};

/// Attempts at creating a session (B-55).
pub(super) const CREATION_ATTEMPTS: u32 = 3;
/// Time for one creation request to be answered.
pub(super) const CREATION_DUE: Duration = Duration::from_secs(35);
/// The same where no version is asked for: ejabberd then mostly holds the request, having no features to send
/// (cm-quirks section 2, rule 6), and is asked again with a version.
pub(super) const OLD_CREATION_DUE: Duration = Duration::from_secs(3);
/// Redirects followed at creation (B-59).
const MAX_REDIRECTS: u32 = 5;

/// What a session is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What to ask for.
    pub requested: Requested,
    /// Largest body that several payloads are gathered into, in bytes.
    pub max_body_bytes: usize,
    /// Requests go over https.
    pub https: bool,
    /// Payload that may wait to be sent, in bytes; past it [`Session::wants_payloads`] is false.
    pub buffer_bytes: usize,
    /// Limits on what comes down.
    pub limits: Limits,
    /// The first request id, see [`Rid::first`].
    pub first_rid: Rid,
    /// Random bits that spread out repeats.
    pub seed: u64,
    /// What the way to the manager is like.
    pub way: Way,
    /// Where the keys of a key sequence come from; `None` for none (XEP-0124 section 15).
    pub key_seed: Option<KeySeed>,
}

/// Whether a payload may share a body with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadClass {
    /// Stanzas and what may ride with them.
    Together,
    /// SASL and anything else that goes by itself.
    Alone,
}

/// A request to be sent now, as these very bytes.
#[derive(Clone)]
pub struct Request {
    /// Names the attempt in what the shell reports back.
    pub key: RequestKey,
    /// The whole `<body/>`.
    pub body: Bytes,
    /// A repeat: to be sent on a connection that has not been used before (B-49).
    pub fresh: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Request({:?}, {} bytes, fresh: {})",
            self.key,
            self.body.len(),
            self.fresh
        )
    }
}

/// What a session tells its owner.
#[derive(Debug)]
pub enum Event {
    /// The session exists; its parameters are in [`Session::granted`].
    Opened,
    /// One child of a reply's `<body/>`, in order.
    Payload {
        /// The element, still in the scope of its `<body/>`.
        element: Element,
        /// `xml:lang` of that `<body/>`.
        lang: Option<String>,
    },
    /// The manager has answered for so many more payloads, the oldest first: it has them.
    Confirmed(usize),
    /// Something on the way cuts requests that it has held for this long (T-11).
    Cut(Duration),
    /// The manager ends this session because it is elsewhere (C-11).
    Moved(String),
    /// The manager is elsewhere; answer by [`Session::redirected`]. Only before [`Event::Opened`].
    Redirect {
        /// HTTP status, or `None` for a see-other-uri condition.
        status: Option<u16>,
        /// The target, possibly relative.
        location: String,
    },
    /// The session is over. Nothing follows.
    Closed(CloseReason),
}

/// Where the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The creation request is unanswered.
    Creating,
    /// A redirect waits for [`Session::redirected`].
    Redirecting,
    /// The session exists.
    Open,
    /// It is over.
    Closed,
}

/// One BOSH session. See the [module](super) for how to drive it.
pub struct Session {
    pub(super) options: Options,
    pub(super) phase: Phase,
    pub(super) next_rid: Option<Rid>,
    pub(super) window: Window,
    pub(super) queue: Queue,
    pub(super) events: VecDeque<Event>,
    pub(super) aborts: VecDeque<RequestKey>,
    pub(super) granted: Option<Granted>,
    /// Highest rid whose reply, and all lower ones, were processed.
    pub(super) processed: Option<Rid>,
    /// Highest rid whose reply was delivered before its turn, on a manager that keeps no order.
    pub(super) released: Option<Rid>,
    pub(super) bound: bool,
    /// Before binding: the server owes something, so an answered poll is followed by another at once.
    pub(super) expecting: bool,
    pub(super) restart: bool,
    pub(super) receiving: bool,
    /// The client waits to hear that what it sent has arrived.
    pub(super) confirming: bool,
    /// A request was answered without proof that the manager has what it carried: newer ones prove nothing either.
    pub(super) unproved: bool,
    pub(super) keys: Option<KeyChain>,
    /// What cuts long polls on the way.
    pub(super) cuts: Cuts,
    /// Highest rid that the manager said it received (B-47).
    pub(super) acked: Option<u64>,
    /// The longest that one request was held until it was answered.
    pub(super) longest_hold: Duration,
    /// What the way is like, and was seen to be (P-10, T-08).
    pub(super) way: Way,
    /// The session was asked for once more, with a `wait` that suits the manager's `inactivity`.
    pub(super) reasked: bool,
    /// The network is back: patience waits for one more attempt (B-54).
    pub(super) last_try: bool,
    pub(super) closing: Option<Closing>,
    pub(super) drain: Option<Drain>,
    pub(super) creation_failures: u32,
    pub(super) redirects: u32,
    pub(super) last_reply: Instant,
    /// When the manager last showed that it is there.
    pub(super) last_life: Instant,
    pub(super) last_reply_empty: bool,
    /// What the request was that the last reply answered.
    pub(super) last_reply_kind: RequestKind,
    /// That request was a repeat: its answer may be an old one, for which ejabberd's clock does not start again.
    pub(super) last_reply_stored: bool,
    pub(super) last_send: Instant,
    /// The last few requests sent, for the log (C-08).
    pub(super) trail: VecDeque<(Rid, Instant)>,
    /// Shortest exchange seen lately; its share is the gap between two requests.
    pub(super) round_trip: Option<Duration>,
    /// The client has said that it is inactive, once at least.
    pub(super) was_inactive: bool,
    /// The newest parked rid for which an older poll was flushed already (T-17).
    pub(super) flushed: Option<Rid>,
    pub(super) jitter: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("phase", &self.phase)
            .field("unanswered", &self.window.unanswered())
            .field("queued_bytes", &self.queue.bytes())
            .field("acked", &self.acked)
            .field("cut", &self.cuts.limit())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session whose creation request is due at once.
    #[must_use]
    pub fn new(options: Options, now: Instant) -> Self {
        let mut session = Self {
            phase: Phase::Creating,
            next_rid: Some(options.first_rid),
            window: Window::default(),
            queue: Queue::default(),
            events: VecDeque::new(),
            aborts: VecDeque::new(),
            granted: None,
            processed: None,
            released: None,
            bound: false,
            expecting: options.requested.xmpp_version,
            restart: false,
            receiving: true,
            confirming: false,
            unproved: false,
            keys: options.key_seed.clone().map(KeyChain::new),
            cuts: Cuts::default(),
            acked: None,
            longest_hold: Duration::ZERO,
            last_try: false,
            way: options.way,
            reasked: false,
            closing: None,
            drain: None,
            creation_failures: 0,
            redirects: 0,
            last_reply: now,
            last_life: now,
            last_reply_empty: false,
            last_reply_kind: RequestKind::Creation,
            last_reply_stored: false,
            last_send: now,
            trail: VecDeque::new(),
            round_trip: None,
            was_inactive: false,
            flushed: None,
            jitter: options.seed | 1,
            options,
        };
        session.create(now);
        session
    }

    /// Takes what `wait` the first answer grants, even if the manager's `inactivity` calls for a shorter one.
    pub fn take_any_wait(&mut self) {
        self.reasked = true;
    }

    /// Queues one standalone element for the manager. Only while [`Self::wants_payloads`] should more follow.
    /// [`Event::Confirmed`] counts it once the manager has answered for it.
    pub fn send(&mut self, payload: impl AsRef<[u8]>, class: PayloadClass) {
        self.send_with(class, |out| out.extend_from_slice(payload.as_ref()));
    }

    /// The same for what writes itself.
    pub fn send_with(&mut self, class: PayloadClass, write: impl FnOnce(&mut BytesMut)) {
        if self.phase != Phase::Closed && self.closing.is_none() {
            self.queue.push(class, write);
        }
    }

    /// Asks for a stream restart (XEP-0206 section 5): the very next request, before anything queued.
    pub fn restart(&mut self) {
        self.restart = true;
        self.expecting = true;
    }

    /// Tells the session that the server owes something although nothing was sent (SASL2 success: features
    /// follow by themselves).
    pub fn expect(&mut self) {
        self.expecting = true;
    }

    /// Tells the session that the client is bound: from now on one request is always held (B-41).
    pub fn bound(&mut self) {
        self.bound = true;
    }

    /// Whether replies are welcome. While not, no empty request is sent (S-25).
    pub fn set_receiving(&mut self, receiving: bool) {
        self.receiving = receiving;
    }

    /// Whether the client waits to hear that what it sent has arrived: a request that carries payload is then
    /// not left held for long, an empty one releases it (B-39).
    pub fn set_confirming(&mut self, confirming: bool) {
        self.confirming = confirming;
    }

    /// The connections are renewed because the machine slept for this long or its network changed (T-32):
    /// every request under way is repeated at once. The time asleep counts, and one more attempt is made
    /// even if it was too long (B-54).
    pub fn renew(&mut self, slept: Duration, now: Instant) {
        self.renew_requests(slept, now);
    }

    /// The network may be better than it was: what waits for its next attempt goes out now, and patience lasts
    /// until that has come to something (B-54).
    pub fn hurry(&mut self, now: Instant) {
        for entry in self.window.iter_mut() {
            if let State::Waiting { not_before } = &mut entry.state {
                *not_before = (*not_before).min(now);
                self.last_try = true;
            }
        }
    }

    /// The longest that one request was held until its answer came.
    #[must_use]
    pub fn longest_hold(&self) -> Duration {
        self.longest_hold
    }

    /// What was learnt about the way, what was known before included.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way
    }

    /// How long ago the last requests were sent, newest last (C-08), each named by its distance from the first:
    /// a rid itself is a secret (B-73).
    #[must_use]
    pub fn last_sends(&self, now: Instant) -> Vec<(u64, Duration)> {
        let age = |at: Instant| now.saturating_duration_since(at);
        let first = self.options.first_rid.0;
        self.trail
            .iter()
            .map(|(rid, at)| (rid.0.saturating_sub(first), age(*at)))
            .collect()
    }

    /// Whether there is room for more payload.
    #[must_use]
    pub fn wants_payloads(&self) -> bool {
        self.queue.bytes() < self.options.buffer_bytes && self.phase != Phase::Closed
    }

    /// Ends the session: everything queued goes first, the last of it inside the terminate request
    /// (XEP-0124 section 13). `limit`: longest wait for replies after that, and for any progress before.
    pub fn terminate(&mut self, limit: Duration, now: Instant) {
        match self.phase {
            // T-05: a session that may or may not come to be dies by inactivity.
            Phase::Creating | Phase::Redirecting => {
                self.close(CloseReason::Terminated { confirmed: false })
            }
            Phase::Open => match &mut self.closing {
                Some(closing) => closing.limit = closing.limit.min(limit),
                None => self.closing = Some(Closing::new(limit, now)),
            },
            Phase::Closed => {}
        }
    }

    /// Whether the session exists and nobody has begun to end it.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.phase == Phase::Open && self.closing.is_none() && self.drain.is_none()
    }

    /// Lets go of the session without telling the manager, which will end it by inactivity.
    pub fn abandon(&mut self) {
        self.close(CloseReason::Terminated { confirmed: false });
    }

    /// What the manager granted, once there is a session.
    #[must_use]
    pub fn granted(&self) -> Option<&Granted> {
        self.granted.as_ref()
    }

    /// The time from a request to the answer that it brings about, as far as known: never much more than the
    /// shortest of late.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// The client says that it is inactive (XEP-0352). Prosody's mod_csi_simple then pauses the HTTP connection
    /// that it saw last, and the answer to a request on that stays there: from now on it is asked for again after
    /// a second instead of fifteen.
    pub fn client_is_inactive(&mut self) {
        self.was_inactive = true;
    }

    /// Where the session stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Requests sent whose reply has not come.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.window.unanswered()
    }

    /// The redirect was judged: go on (the shell now uses the new URL), or give up.
    pub fn redirected(&mut self, follow: bool, location: Option<String>, now: Instant) {
        if self.phase != Phase::Redirecting {
            return;
        }
        self.redirects += 1;
        if follow && self.redirects <= MAX_REDIRECTS {
            self.phase = Phase::Creating;
            self.create(now);
        } else {
            self.fail(Cause::Redirect(location));
        }
    }

    /// The last byte of this attempt has been handed to the socket.
    pub fn handle_written(&mut self, key: RequestKey, now: Instant) {
        let Some(index) = self.window.attempt(key) else {
            return;
        };
        let due = self.reply_due(index, now);
        let Some(entry) = self.window.get_mut(index) else {
            return;
        };
        if entry.recheck {
            // Its short limit stands: the manager has the answer, or it has not.
            return;
        }
        entry.first_written.get_or_insert(now);
        entry.held_since.get_or_insert(now);
        entry.last_written = Some(now);
        entry.state = State::InFlight {
            written: Some(now),
            due,
        };
        // Empty ones only ever go out beside another to make the manager let go of it.
        if index > 0 {
            self.expect_release(index, now);
        }
        self.expect_stored(index, now);
    }

    /// The shell sent this attempt's bytes a second time, on another connection: one more copy that the
    /// manager may have seen (cm-quirks 4.2).
    pub fn handle_repeated(&mut self, key: RequestKey) {
        if let Some(index) = self.window.attempt(key)
            && let Some(entry) = self.window.get_mut(index)
        {
            entry.copies += 1;
        }
    }

    /// A whole HTTP reply to this attempt. Late replies to older attempts change nothing (B-51).
    pub fn handle_response(&mut self, key: RequestKey, reply: &HttpReply, now: Instant) {
        if let Some(index) = self.window.attempt(key) {
            self.on_reply(index, reply, now);
        }
    }

    /// This attempt failed without a whole reply.
    pub fn handle_failure(&mut self, key: RequestKey, failure: Failure, now: Instant) {
        if let Some(index) = self.window.attempt(key) {
            self.note_cut(index, now);
            self.attempt_failed(index, Cause::Hop(failure), None, None, now);
        }
    }

    /// Time has passed. Harmless at any moment.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        while let Some((index, key)) = self.overdue(now) {
            self.aborts.push_back(key);
            let written = self.window.get(index).and_then(Entry::written);
            self.way.swallows |= self.phase == Phase::Open && written.is_some();
            self.distrust_newer(index, now);
            self.attempt_failed(index, Cause::NoReply, None, None, now);
        }
        self.ask_before_the_end(now);
        self.check_budget(now);
        self.advance(now);
    }

    /// The next request to send. May have an answer after any input; until `None`.
    #[must_use]
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        match self.next_send() {
            Some((at, what)) if at <= now => self.begin(what, now),
            _ => None,
        }
    }

    /// The next event. May have an answer after any input; until `None`.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// An attempt whose connection must be closed. May have an answer after any input; to be drained before
    /// [`Self::poll_request`], so that a repeat never meets its older copy (B-51).
    #[must_use]
    pub fn poll_abort(&mut self) -> Option<RequestKey> {
        self.aborts.pop_front()
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_request`] are to be called next if nothing else
    /// happens. May change after any input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Closed {
            return None;
        }
        let due = self.window.iter().filter_map(|entry| match entry.state {
            State::InFlight { due, .. } => Some(due),
            State::Waiting { .. }
            | State::Answered { .. }
            | State::Unsure { .. }
            | State::Refused { .. } => None,
        });
        let send = self.next_send().map(|(at, _)| at);
        due.chain(send)
            .chain(self.budget_end())
            .chain(self.end_of_patience())
            .chain(self.ask_due())
            .min()
    }

    /// The oldest attempt whose reply is overdue.
    fn overdue(&self, now: Instant) -> Option<(usize, RequestKey)> {
        self.window
            .iter()
            .enumerate()
            .find_map(|(index, entry)| match entry.state {
                State::InFlight { due, .. } if due <= now => Some((
                    index,
                    RequestKey {
                        rid: entry.rid,
                        attempt: entry.attempts,
                    },
                )),
                State::InFlight { .. }
                | State::Waiting { .. }
                | State::Answered { .. }
                | State::Unsure { .. }
                | State::Refused { .. } => None,
            })
    }

    /// The next rid; past the limit the session ends (B-34, E-64).
    pub(super) fn take_rid(&mut self) -> Option<Rid> {
        let rid = self.next_rid;
        match rid {
            Some(rid) => self.next_rid = rid.next(),
            None => self.fail(Cause::RidLimit),
        }
        rid
    }

    /// `pause` changed by up to a quarter either way.
    pub(super) fn spread(&mut self, pause: Duration) -> Duration {
        // xorshift64: spreads repeats of many sessions, nothing more.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let quarter = (self.jitter % 512) as u32;
        pause.mul_f64(0.75 + f64::from(quarter) / 1024.0)
    }
}
