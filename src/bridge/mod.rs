//! One client stream and one BOSH session, joined; no I/O.
//!
//! [`Bridge`] plays the RFC 6120 server towards the client and drives a [`Session`] towards the connection
//! manager. It owns the order of things: header, session, features, SASL, restart, binding, close. What goes
//! up is in `up`, what comes down in `down`.
//!
//! How to drive it: give it one input (`handle_*`, [`Bridge::shutdown`]), then drain [`Bridge::poll_event`],
//! [`Bridge::poll_abort`] and [`Bridge::poll_request`] until each is empty, write [`Bridge::output`] to the
//! client, and wait until [`Bridge::poll_timeout`] or the next input.

mod close;
mod down;
mod explain;
#[cfg(test)]
mod tests;
mod up;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use zeroize::Zeroizing;

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
    /// The client has closed its stream; what still comes down is delivered (S-17).
    Leaving,
    /// Nothing more is written to the client.
    Closed,
}

/// What the client's header said, kept for a restart, and what ours says.
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
    out: BytesMut,
    /// What came down while the client owed a header.
    stash: BytesMut,
    events: VecDeque<Event>,
    header_due: Option<Instant>,
    header_patience: Option<Instant>,
    features_due: Option<Instant>,
    stalled_until: Option<Instant>,
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge")
            .field("stage", &self.stage)
            .field("bound", &self.bound)
            .field("session", &self.session)
            .field("out", &self.out.len())
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
            out: BytesMut::new(),
            stash: BytesMut::new(),
            events: VecDeque::new(),
            header_due: Some(now + options.header_timeout),
            header_patience: None,
            features_due: None,
            stalled_until: None,
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
    }

    /// The client's connection is gone, or it closed its half without `</stream:stream>`.
    pub fn handle_client_gone(&mut self, now: Instant) {
        if self.stage == Stage::Closed {
            return;
        }
        if self.stage == Stage::Leaving {
            // It has said goodbye already; replies are still collected upstream.
            self.out.clear();
        }
        self.stage = Stage::Closed;
        self.out.clear();
        self.stash.clear();
        // T-28: at once, so that messages go to offline storage and no ghost stays online.
        self.end_session(CLOSE_LIMIT, now);
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
            self.out.clear();
            self.fail(FaultReason::SlowReader, None, now);
        }
    }

    /// xbosh stops: the client is told, the session ended (S-47).
    pub fn shutdown(&mut self, now: Instant) {
        if self.stage == Stage::Leaving {
            self.end_session(SHUTDOWN_LIMIT, now);
        } else {
            self.fail_within(FaultReason::Shutdown, None, SHUTDOWN_LIMIT, now);
        }
    }

    /// What is to be written to the client.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// The first `count` bytes of [`Self::output`] are written.
    pub fn consume_output(&mut self, count: usize, now: Instant) {
        self.out.advance(count.min(self.out.len()));
        if self.out.is_empty() && self.out.capacity() > 64 * 1024 {
            // A burst must not stay in memory for the life of an idle stream.
            self.out = BytesMut::new();
        }
        self.flow(now);
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
                self.out.len() < self.options.buffer_bytes
                    && self.session.as_ref().is_some_and(Session::wants_payloads)
                    // One byte more than the limit tells an element that is too large.
                    && self.framer.buffered() <= self.options.limits.max_element_bytes
            }
            Stage::Leaving | Stage::Closed => false,
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
        ];
        own.into_iter()
            .flatten()
            .chain(self.session.as_ref().and_then(Session::poll_timeout))
            .min()
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
                bosh::Event::Confirmed(_) | bosh::Event::Cut(_) => {}
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
        let random = &mut self.options.random;
        let fresh = Zeroizing::new(format!("{:016x}{:016x}", random(), random()));
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
        .write(&mut self.out);
    }

    /// Backpressure from the client's side (S-25): a full buffer delays the next poll, for a while.
    fn flow(&mut self, now: Instant) {
        let full = self.out.len() + self.stash.len() >= self.options.buffer_bytes;
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
            (false, Some(_)) if self.out.len() < self.options.buffer_bytes / 2 => {
                session.set_receiving(true);
                self.stalled_until = None;
            }
            (true | false, _) => {}
        }
    }
}
