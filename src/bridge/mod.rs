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
mod drive;
mod explain;
mod identity;
mod managed;
mod outbox;
mod parting;
mod resume;
mod returns;
mod secure;
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
pub use self::secure::TlsOptions;
pub(crate) use explain::{explain, explain_cause, on_stream};

use self::carried::Pending;
use self::identity::Identity;
use self::managed::Managed;
use self::outbox::Outbox;
use self::parting::Parting;
use crate::bosh::{self, Session, Way};
use crate::stream::error::StreamFault;
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
    /// TLS towards the client.
    pub tls: TlsOptions,
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
    /// What the way to the manager is like.
    pub way: Way,
    /// There is another address to try if no session comes about here (D-06).
    pub others: bool,
}

/// What the bridge asks of the shell.
#[derive(Debug)]
pub enum Event {
    /// The client asked for this domain; answer by [`Bridge::handle_endpoint`].
    Resolve {
        /// Lower-case A-label domain.
        domain: String,
    },
    /// No session came about, for this reason, and [`Endpoint::others`] said that there is another address;
    /// answer by [`Bridge::handle_endpoint`].
    Elsewhere(StreamFault),
    /// The manager is elsewhere; answer by [`Bridge::handle_redirect`].
    Redirect {
        /// HTTP status, or `None` for a see-other-uri condition.
        status: Option<u16>,
        /// The target, possibly relative.
        location: String,
    },
    /// Once [`Bridge::output`] is written, the client's connection turns into TLS; answer by
    /// [`Bridge::handle_secured`], or [`Bridge::handle_client_gone`] if it does not come to that.
    Tls {
        /// Its first bytes, where they came already.
        received: BytesMut,
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
    /// Only `<starttls/>` is served (S-37).
    TlsFirst,
    /// The connection turns into TLS; nothing is written or read here meanwhile.
    Handshake,
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
    /// The endpoint is one of several.
    others: bool,
    bound: bool,
    logged_in: bool,
    /// The client has asked for a login: too late for STARTTLS.
    login_begun: bool,
    saw_first_byte: bool,
    /// The client's connection is TLS.
    secure: bool,
    /// It was from its first byte.
    direct: bool,
    /// The domain that the client named when TLS began.
    sni: Option<String>,
    /// The features as they came, to be given again inside TLS.
    offer: BytesMut,
    /// The session ends, and another one begins for the header inside TLS.
    reopening: bool,
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
    /// What the last session has taught about the way.
    learnt: (Way, Option<Duration>),
    /// Stanzas from and for the client.
    stanzas: (u64, u64),
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
            others: false,
            bound: false,
            logged_in: false,
            login_begun: false,
            saw_first_byte: false,
            secure: false,
            direct: false,
            sni: None,
            offer: BytesMut::new(),
            reopening: false,
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
            learnt: (Way::default(), None),
            stanzas: (0, 0),
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

    /// Whether the manager ever made a session for this stream.
    #[must_use]
    pub fn was_opened(&self) -> bool {
        self.bound || self.logged_in || self.session.as_ref().is_some_and(|s| s.granted().is_some())
    }

    /// What was learnt about the way, and the longest `wait` that suits the manager's `inactivity`.
    #[must_use]
    pub fn learnt(&self) -> (Way, Option<Duration>) {
        self.session.as_ref().map_or(self.learnt, |session| {
            let way = session.way();
            (way, session.granted().and_then(|g| g.longest_wait(way)))
        })
    }

    /// The longest that one request was held until it was answered.
    #[must_use]
    pub fn longest_hold(&self) -> Duration {
        self.session.as_ref().map_or(self.longest_hold, |s| {
            s.longest_hold().max(self.longest_hold)
        })
    }

    /// Stanzas that came from the client, and that were given to it.
    #[must_use]
    pub const fn stanzas(&self) -> (u64, u64) {
        self.stanzas
    }

    /// See [`Session::round_trip`].
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.session.as_ref().and_then(Session::round_trip)
    }

    /// Where the stream stands, in a word.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.stage {
            Stage::Leaving | Stage::Closed => "closing",
            Stage::Away => "away",
            _ if self.bound => "online",
            Stage::Header { restarted: false } | Stage::Waiting if !self.logged_in => "connecting",
            _ => "login",
        }
    }

    /// The domain of the stream, once known.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.peer.as_ref().map(|peer| peer.accepted.domain.as_str())
    }

    /// What the client's last header said.
    #[must_use]
    pub fn header(&self) -> Option<&Accepted> {
        self.peer.as_ref().map(|peer| &peer.accepted)
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
