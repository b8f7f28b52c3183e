//! One client stream and one BOSH session, joined; no I/O.
//!
//! [`Bridge`] plays the RFC 6120 server towards the client and drives a [`Session`] towards the connection
//! manager. It owns the order of things: header, session, features, SASL, restart, binding, close. What goes
//! up is in `up`, what comes down in `down`.
//!
//! How to drive it: give it one input (`handle_*`, [`Bridge::shutdown`]), then drain [`Bridge::poll_event`],
//! [`Bridge::poll_abort`] and [`Bridge::poll_request`] until each is empty, write [`Bridge::output`] to the
//! client, and wait until [`Bridge::poll_timeout`] or the next input.

mod carried;
mod close;
mod down;
mod explain;
mod identity;
mod managed;
mod outbox;
mod parting;
mod resume;
mod returns;
#[cfg(test)]
mod tests;
mod up;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use zeroize::Zeroizing;

pub use self::managed::SmId;
pub use self::resume::{ClientSide, Kept, Remains};

use self::carried::Pending;
use self::identity::Identity;
use self::managed::Managed;
use self::outbox::Outbox;
use self::parting::Parting;
use crate::bosh::{
    self, Failure, HttpReply, KeySeed, Request, RequestKey, Requested, Rid, Session,
};
use crate::stream::error::{FaultReason, StreamFault};
use crate::stream::features::Filter;
use crate::stream::header::{Accepted, HeaderRules, ServerHeader, Version};
use crate::xml::{Framer, Limits, RootText};

/// How long the server header waits for the creation reply, so that its id and errors are true (S-11).
const HEADER_PATIENCE: Duration = Duration::from_secs(20);
/// Longest wait for features after a restart.
const RESTART_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for the manager's last replies when a stream ends (B-62).
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// The same when xbosh stops (S-47).
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Who answers XEP-0198.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// We do.
    Local {
        /// How long a stream waits for its client; none can be resumed if this is zero.
        resume_window: Duration,
    },
    /// The server does.
    Pass,
    /// Nobody.
    Off,
}

/// What a bridge is made with.
pub struct Options {
    /// Default and allowed domains.
    pub rules: HeaderRules,
    /// Limits on XML from either side.
    pub limits: Limits,
    /// What is taken out of features.
    pub filter: Filter,
    /// Bytes held for the client, and for the manager.
    pub buffer_bytes: usize,
    /// Time for a client to send its header.
    pub header_timeout: Duration,
    /// Time from the client's header to features.
    pub setup_timeout: Duration,
    /// `xml:lang` when the client gave none.
    pub default_lang: String,
    /// Stream management.
    pub mode: Mode,
    /// Fresh random bits; the core has no source of its own.
    pub random: Box<dyn FnMut() -> u64 + Send>,
}

/// What the shell knows about the connection manager of a domain.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The URL is https.
    pub https: bool,
    /// `[bosh]` as it holds for the domain.
    pub bosh: crate::config::Bosh,
    /// `route`, for a proxying manager.
    pub route: Option<String>,
    /// Requests carry a key sequence (XEP-0124 section 15).
    pub key_sequence: bool,
}

/// What the bridge asks of the shell.
#[derive(Debug)]
pub enum Event {
    /// The client asked for this domain; answer by [`Bridge::handle_endpoint`].
    Resolve {
        /// Lower-case A-label domain.
        domain: String,
    },
    /// The manager is elsewhere; answer by [`Bridge::handle_redirect`].
    Redirect {
        /// HTTP status, or `None` for a see-other-uri condition.
        status: Option<u16>,
        /// The target, possibly relative.
        location: String,
    },
    /// The client is bound to a resource.
    Bound,
    /// What was taken out of the manager's features.
    Filtered(Vec<String>),
    /// The stream can be resumed by this name until [`Event::Over`].
    Resumable {
        /// Its name.
        id: SmId,
        /// Whose it is, where that showed at login.
        user: Option<String>,
    },
    /// The client wants to take up an earlier stream; answer by [`Bridge::refuse_resume`], or hand its half
    /// over by [`Bridge::detach`].
    Resume {
        /// The earlier stream's name.
        previd: SmId,
        /// How many of its stanzas the client has.
        h: u32,
        /// Who has logged in, where that showed.
        user: Option<String>,
    },
    /// The stream cannot be resumed any more.
    Over {
        /// Its name.
        id: SmId,
        /// What is left of it; `None` if nobody will ask.
        remains: Option<Remains>,
    },
    /// Something on the way cuts requests that were held for this long (T-11).
    Cut(Duration),
    /// The manager says that it is elsewhere; later sessions may go there (C-11).
    Moved {
        /// The address, possibly relative.
        location: String,
    },
    /// The stream ended with an error; for the log.
    Fault(StreamFault),
}

/// Where the SASL1 exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sasl {
    /// None under way.
    Idle,
    /// The client has sent something, the outcome is open.
    Exchange,
}

/// The client's side of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its header is not here; `restarted` after SASL.
    Header { restarted: bool },
    /// The shell looks for the manager, or the session is being made, or features are awaited: nothing more
    /// is read from the client (S-41).
    Waiting,
    /// Elements flow.
    Open,
    /// The client has asked for an earlier stream; nothing more is read from it until that is decided.
    Resuming,
    /// The client's connection is gone, its stream waits for it (S-50).
    Away,
    /// The client has closed its stream, or is about to be told why we do; what still comes down is delivered
    /// (S-17).
    Leaving,
    /// Nothing more is written to the client.
    Closed,
}

/// What the client's header said, kept for a restart, and what ours says.
#[derive(Clone)]
struct Peer {
    accepted: Accepted,
    /// `from` of our header.
    from: String,
    /// `id` of our header; it may be as secret as the sid (T-34).
    id: Zeroizing<String>,
}

/// One client stream joined to one BOSH session.
pub struct Bridge {
    options: Options,
    framer: Framer,
    stage: Stage,
    sasl: Sasl,
    bound: bool,
    logged_in: bool,
    saw_first_byte: bool,
    header_written: bool,
    features_sent: bool,
    /// Ids of `jabber:iq:auth` sets under way (XEP-0078).
    auth_ids: Vec<String>,
    peer: Option<Peer>,
    session: Option<Session>,
    outbox: Outbox,
    /// What the client sent and the manager has not answered for.
    pending: Pending,
    /// Stream management, once enabled.
    managed: Option<Managed>,
    /// Mode `pass`: the server manages the stream.
    passed_sm: bool,
    /// The client's last word about its state (XEP-0352) was `<inactive/>`.
    csi_inactive: bool,
    /// What `<authenticate/>` asked of stream management.
    asked_inline: crate::stream::inline::Asked,
    identity: Identity,
    /// Bare JID, once bound.
    account: Option<String>,
    /// What an earlier stream left for the client, with the time of each.
    kept: Vec<(Kept, String)>,
    parting: Option<Parting>,
    /// The error that the stream ends with once the manager's last replies are in.
    farewell: Option<StreamFault>,
    /// The longest that the session's requests were held.
    longest_hold: Duration,
    /// What came down while the client owed a header.
    stash: BytesMut,
    events: VecDeque<Event>,
    header_due: Option<Instant>,
    header_patience: Option<Instant>,
    features_due: Option<Instant>,
    stalled_until: Option<Instant>,
    away_until: Option<Instant>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("stage", &self.stage)
            .field("bound", &self.bound)
            .field("session", &self.session)
            .field("outbox", &self.outbox.len())
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// A bridge for a client that has just connected.
    #[must_use]
    pub fn new(options: Options, now: Instant) -> Self {
        Self {
            framer: Framer::new(options.limits, RootText::Refuse),
            stage: Stage::Header { restarted: false },
            sasl: Sasl::Idle,
            bound: false,
            logged_in: false,
            saw_first_byte: false,
            header_written: false,
            features_sent: false,
            auth_ids: Vec::new(),
            peer: None,
            session: None,
            outbox: Outbox::default(),
            pending: Pending::default(),
            managed: None,
            passed_sm: false,
            csi_inactive: false,
            asked_inline: crate::stream::inline::Asked::default(),
            identity: Identity::default(),
            account: None,
            kept: Vec::new(),
            parting: None,
            farewell: None,
            longest_hold: Duration::ZERO,
            stash: BytesMut::new(),
            events: VecDeque::new(),
            header_due: Some(now + options.header_timeout),
            header_patience: None,
            features_due: None,
            stalled_until: None,
            away_until: None,
            options,
        }
    }

    /// Bytes from the client, split anywhere.
    pub fn handle_client_bytes(&mut self, bytes: &[u8], now: Instant) {
        if matches!(self.stage, Stage::Leaving | Stage::Closed) {
            return;
        }
        self.framer.push(bytes);
        self.pump(now);
        self.flow(now);
    }

    /// The client's connection is gone, or it closed its half without `</stream:stream>`.
    pub fn handle_client_gone(&mut self, now: Instant) {
        match self.stage {
            Stage::Closed => self.outbox.clear(),
            Stage::Away => {}
            Stage::Leaving => {
                // It has said goodbye already; replies are still collected upstream.
                self.outbox.clear();
                self.close_client();
            }
            Stage::Open if self.managed.as_ref().is_some_and(|m| m.id.is_some()) => {
                self.wait_for_return(now)
            }
            // T-28: at once, so that messages go to offline storage and no ghost stays online.
            Stage::Open | Stage::Resuming | Stage::Header { .. } | Stage::Waiting => {
                self.part(CLOSE_LIMIT, now);
            }
        }
    }

    /// Where the manager of the domain is, or why that is not known.
    pub fn handle_endpoint(
        &mut self,
        endpoint: Result<Endpoint, (FaultReason, String)>,
        now: Instant,
    ) {
        let Some(peer) = &self.peer else { return };
        if self.stage != Stage::Waiting || self.session.is_some() {
            return;
        }
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err((reason, text)) => {
                return self.fail_with(explain::sentence(reason, &text), CLOSE_LIMIT, now);
            }
        };
        // S-08: the header names the language that the session has.
        self.options.default_lang.clone_from(&endpoint.bosh.lang);
        let requested = Requested {
            to: peer.accepted.domain.clone(),
            // B-17: only over https.
            from: peer.accepted.from.clone().filter(|_| endpoint.https),
            lang: peer
                .accepted
                .lang
                .clone()
                .unwrap_or_else(|| endpoint.bosh.lang.clone()),
            ver: endpoint.bosh.ver,
            wait: endpoint.bosh.wait,
            hold: endpoint.bosh.hold,
            route: endpoint.route,
            xmpp_version: peer.accepted.version.is_some(),
        };
        let options = bosh::Options {
            requested,
            max_body_bytes: endpoint.bosh.max_body_bytes,
            buffer_bytes: self.options.buffer_bytes,
            limits: self.options.limits,
            first_rid: Rid::first((self.options.random)()),
            seed: (self.options.random)(),
            // B-64: over TLS it protects nothing.
            key_seed: (endpoint.key_sequence && !endpoint.https).then(|| self.key_seed()),
        };
        self.session = Some(Session::new(options, now));
    }

    fn key_seed(&mut self) -> KeySeed {
        let mut bits = [0; 32];
        for part in bits.chunks_exact_mut(8) {
            part.copy_from_slice(&(self.options.random)().to_be_bytes());
        }
        KeySeed::new(bits)
    }

    /// Whether the redirect is followed; the shell has then moved to the new URL.
    pub fn handle_redirect(&mut self, follow: bool, location: Option<String>, now: Instant) {
        self.with_session(now, |session| session.redirected(follow, location, now));
    }

    /// See [`Session::handle_written`].
    pub fn handle_written(&mut self, key: RequestKey, now: Instant) {
        self.with_session(now, |session| session.handle_written(key, now));
    }

    /// See [`Session::handle_repeated`].
    pub fn handle_repeated(&mut self, key: RequestKey) {
        if let Some(session) = &mut self.session {
            session.handle_repeated(key);
        }
    }

    /// See [`Session::handle_response`].
    pub fn handle_response(&mut self, key: RequestKey, reply: &HttpReply, now: Instant) {
        self.with_session(now, |session| session.handle_response(key, reply, now));
    }

    /// See [`Session::handle_failure`].
    pub fn handle_failure(&mut self, key: RequestKey, failure: Failure, now: Instant) {
        self.with_session(now, |session| session.handle_failure(key, failure, now));
    }

    /// Time has passed. Harmless at any moment.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.with_session(now, |session| session.handle_timeout(now));
        let over = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if over(self.header_due) {
            self.header_due = None;
            if self.saw_first_byte {
                self.fail(FaultReason::HeaderTimeout, None, now);
            } else {
                // Whoever connects and says nothing is told nothing: it may not be XMPP.
                self.close_client();
            }
        }
        if over(self.header_patience) {
            self.header_patience = None;
            self.write_header();
        }
        if over(self.features_due) {
            self.features_due = None;
            let opened = self.session.as_ref().is_some_and(|s| s.granted().is_some());
            let reason = if opened {
                FaultReason::NoFeatures
            } else {
                FaultReason::NoReply
            };
            self.fail(reason, None, now);
        }
        if over(self.stalled_until) {
            self.stalled_until = None;
            self.drop_slow_reader(now);
        }
        if over(self.away_until) {
            self.away_is_over(now);
        }
        self.check_parting(now);
    }

    /// The machine slept, or its network changed. See [`Session::renew`].
    pub fn handle_renewal(&mut self, slept: Duration, now: Instant) {
        self.with_session(now, |session| session.renew(slept, now));
    }

    /// The network may be better than it was. See [`Session::hurry`].
    pub fn handle_network(&mut self, now: Instant) {
        self.with_session(now, |session| session.hurry(now));
    }

    /// xbosh stops: the client is told, the session ended (S-47).
    pub fn shutdown(&mut self, now: Instant) {
        if self.parting.is_some() {
            return self.finish_parting(Some(SHUTDOWN_LIMIT), now);
        }
        match self.stage {
            Stage::Leaving => self.end_session(SHUTDOWN_LIMIT, now),
            // Nobody is there to be told; what never arrived goes back.
            Stage::Away => self.part(SHUTDOWN_LIMIT, now),
            _ => self.fail_within(FaultReason::Shutdown, None, SHUTDOWN_LIMIT, now),
        }
        self.finish_parting(Some(SHUTDOWN_LIMIT), now);
    }

    /// What is to be written to the client.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        if self.stage == Stage::Away {
            return &[];
        }
        self.outbox.unwritten()
    }

    /// The first `count` bytes of [`Self::output`] are written.
    pub fn consume_output(&mut self, count: usize, now: Instant) {
        self.outbox.wrote(count);
        self.flow(now);
        self.ask_for_ack();
    }

    /// Whether more bytes from the client are welcome (S-25).
    #[must_use]
    pub fn wants_client_bytes(&self) -> bool {
        match self.stage {
            // A client may not fill the buffer while it waits; the first bytes only.
            Stage::Header { .. } | Stage::Waiting => {
                self.framer.buffered() <= self.options.limits.max_header_bytes
            }
            Stage::Open => {
                self.outbox.unwritten().len() < self.options.buffer_bytes
                    && self.session.as_ref().is_some_and(Session::wants_payloads)
                    // One byte more than the limit tells an element that is too large.
                    && self.framer.buffered() <= self.options.limits.max_element_bytes
            }
            Stage::Resuming | Stage::Away | Stage::Leaving | Stage::Closed => false,
        }
    }

    /// Nothing more will be added to [`Self::output`]: once it is written the connection can be closed.
    #[must_use]
    pub fn is_client_closed(&self) -> bool {
        self.stage == Stage::Closed
    }

    /// The client has sent its `</stream:stream>` and waits for ours.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// Everything is over on both sides.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::Closed && self.session.is_none()
    }

    /// The next thing the shell is asked for. May have an answer after any input.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// See [`Session::poll_abort`].
    #[must_use]
    pub fn poll_abort(&mut self) -> Option<RequestKey> {
        self.session.as_mut()?.poll_abort()
    }

    /// See [`Session::poll_request`].
    #[must_use]
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        let request = self.session.as_mut()?.poll_request(now);
        if request.is_none() {
            self.drain_session(now);
            self.reap();
        }
        request
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_request`] are due if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = [
            self.header_due,
            self.header_patience,
            self.features_due,
            self.stalled_until,
            self.away_until,
            self.parting.as_ref().map(|parting| parting.until),
        ];
        own.into_iter()
            .flatten()
            .chain(self.session.as_ref().and_then(Session::poll_timeout))
            .min()
    }

    /// Whether the manager ever made a session for this stream.
    #[must_use]
    pub fn was_opened(&self) -> bool {
        self.bound || self.logged_in || self.session.as_ref().is_some_and(|s| s.granted().is_some())
    }

    /// The longest that one request was held until it was answered.
    #[must_use]
    pub fn longest_hold(&self) -> Duration {
        self.session.as_ref().map_or(self.longest_hold, |s| {
            s.longest_hold().max(self.longest_hold)
        })
    }

    /// The domain of the stream, once known.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| peer.accepted.domain.as_str())
    }

    /// A client of before XMPP 1.0: no version, no features (S-40).
    fn is_versionless(&self) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.accepted.version.is_none())
    }

    /// Lets the session act, then takes in what it tells.
    fn with_session(&mut self, now: Instant, act: impl FnOnce(&mut Session)) {
        if let Some(session) = &mut self.session {
            act(session);
            self.drain_session(now);
            self.check_parting(now);
            self.flow(now);
            self.pump(now);
        }
    }

    fn drain_session(&mut self, now: Instant) {
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            match event {
                bosh::Event::Opened => self.on_opened(now),
                bosh::Event::Payload { element, lang } => {
                    self.on_payload(&element, lang.as_deref(), now)
                }
                bosh::Event::Confirmed(payloads) => self.on_confirmed(payloads),
                bosh::Event::Cut(limit) => self.events.push_back(Event::Cut(limit)),
                bosh::Event::Moved(location) => self.events.push_back(Event::Moved { location }),
                bosh::Event::Redirect { status, location } => {
                    self.events.push_back(Event::Redirect { status, location });
                }
                bosh::Event::Closed(reason) => self.on_session_closed(reason, now),
            }
        }
    }

    /// Writes the server header if it has not been written for this stream (S-04, S-12).
    fn write_header(&mut self) {
        if self.header_written {
            return;
        }
        self.header_written = true;
        self.header_patience = None;
        let fresh = Zeroizing::new(self.fresh_id());
        let peer = self.peer.as_ref();
        let accepted = peer.map(|peer| &peer.accepted);
        ServerHeader {
            from: peer.map_or("", |peer| &peer.from),
            id: peer
                .map(|peer| peer.id.as_str())
                .filter(|id| !id.is_empty())
                .unwrap_or(&fresh),
            to: accepted.and_then(|a| a.from.as_deref()),
            lang: accepted
                .and_then(|a| a.lang.as_deref())
                .unwrap_or(&self.options.default_lang),
            version: accepted.map_or(Some(Version::V1_0), |a| a.version),
        }
        .write(self.outbox.buffer());
    }

    /// 128 random bits as text.
    fn fresh_id(&mut self) -> String {
        let random = &mut self.options.random;
        format!("{:016x}{:016x}", random(), random())
    }

    /// Backpressure from the client's side (S-25): a full buffer delays the next poll, for a while.
    fn flow(&mut self, now: Instant) {
        let full = self.outbox.len() + self.stash.len() >= self.options.buffer_bytes;
        let Some(session) = &mut self.session else {
            return;
        };
        if self.stage == Stage::Closed {
            return;
        }
        match (full, self.stalled_until) {
            (true, None) => {
                session.set_receiving(false);
                let inactivity = session
                    .granted()
                    .map_or(Duration::from_secs(60), |g| g.inactivity_or_default());
                self.stalled_until = Some(now + inactivity / 2);
            }
            (false, Some(_)) if self.outbox.len() < self.options.buffer_bytes / 2 => {
                session.set_receiving(true);
                self.stalled_until = None;
            }
            (true | false, _) => {}
        }
    }
}
