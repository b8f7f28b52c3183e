//! Local TLS as the stream sees it (S-02, S-37): when it may begin, what is forgotten then, and what serves on.

use std::fmt;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::{Bridge, Event, Peer, SHUTDOWN_LIMIT, Sasl, Stage};
use crate::stream::classify;
use crate::stream::error::FaultReason;
use crate::stream::features::Filter;
use crate::stream::header::Accepted;
use crate::xml::{Framer, RootText};

/// Local TLS, as far as the stream has to know.
pub struct TlsOptions {
    /// A client may begin TLS, by `<starttls/>` or from the first byte.
    pub served: bool,
    /// Nothing else is served without it: that is configured, or the client is on another machine (S-01).
    pub required: bool,
    /// Whether STARTTLS is among the features of this domain.
    pub advertised: Box<dyn Fn(&str) -> bool + Send>,
    /// PLAIN is offered over TLS only (S-45).
    pub hide_plain: bool,
}

impl Default for TlsOptions {
    /// No TLS.
    fn default() -> Self {
        Self {
            served: false,
            required: false,
            advertised: Box::new(|_| false),
            hide_plain: false,
        }
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("served", &self.served)
            .field("required", &self.required)
            .field("hide_plain", &self.hide_plain)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// Whether the client's connection is TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether it has been TLS from its first byte (XEP-0368), and not by STARTTLS.
    #[must_use]
    pub fn is_secure_from_the_start(&self) -> bool {
        self.secure && self.direct
    }

    /// The handshake is done. `sni`: the XMPP domain that the client named in it, as
    /// [`crate::stream::header::normalise_domain`] returns it.
    pub fn handle_secured(&mut self, sni: Option<String>, now: Instant) {
        if self.stage != Stage::Handshake {
            return;
        }
        self.secure = true;
        self.sni = sni;
        // RFC 6120 section 5.4.3.3: nothing that was said in the clear counts any more.
        self.framer = Framer::new(self.options.limits, RootText::Refuse);
        self.stash.clear();
        self.header_written = false;
        self.features_sent = false;
        self.stage = Stage::Header { restarted: false };
        self.pump(now);
    }

    /// S-02: the first byte is that of TLS (XEP-0368).
    pub(super) fn on_client_hello(&mut self) {
        let mut received = self.framer.take_rest();
        let blanks = received
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        received.advance(blanks);
        self.stage = Stage::Handshake;
        self.direct = true;
        self.events.push_back(Event::Tls { received });
    }

    /// `<starttls/>`: served before login, and where nothing follows it in the clear.
    pub(super) fn on_starttls(&mut self, now: Instant) {
        if !self.may_begin_tls() {
            return self.refuse_tls(now);
        }
        if !self.framer.is_idle() {
            // Somebody between the client and us may have put it there (CVE-2011-0411).
            tracing::warn!(
                domain = self.domain(),
                "refused STARTTLS: more bytes followed it in the clear, which no client should send"
            );
            return self.refuse_tls(now);
        }
        self.outbox.push(classify::TLS_PROCEED);
        self.framer = Framer::new(self.options.limits, RootText::Refuse);
        self.stage = Stage::Handshake;
        self.header_due = Some(now + self.options.header_timeout);
        self.events.push_back(Event::Tls {
            received: BytesMut::new(),
        });
    }

    /// Whether `<starttls/>` has a place now.
    pub(super) fn may_begin_tls(&self) -> bool {
        self.options.tls.served && !self.secure && !self.login_begun && !self.logged_in
    }

    /// Whether features say so.
    pub(super) fn offers_tls(&self) -> bool {
        self.may_begin_tls() && (self.options.tls.advertised)(self.domain().unwrap_or_default())
    }

    /// Between the clear and the header inside TLS.
    pub(super) fn is_turning(&self) -> bool {
        matches!(
            self.stage,
            Stage::Handshake | Stage::Header { restarted: false }
        )
    }

    /// The client asks for a login: TLS comes before it or not at all (RFC 6120 section 5.3.4).
    pub(super) fn begin_login(&mut self) {
        self.login_begun = true;
        self.offer = BytesMut::new();
    }

    /// What is taken out of features.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            hide_plain: self.options.tls.hide_plain && !self.secure,
            ..self.options.filter
        }
    }

    /// S-37: where TLS must come first, the plain header is answered here, and nothing goes upstream.
    pub(super) fn on_header_before_tls(&mut self, accepted: Accepted, now: Instant) {
        let versionless = accepted.version.is_none();
        self.peer = Some(Peer {
            from: accepted.domain.clone(),
            accepted,
            id: zeroize::Zeroizing::default(),
        });
        if !self.options.tls.served {
            return self.fail(FaultReason::RemoteWithoutTls, None, now);
        }
        self.write_header();
        if !versionless {
            self.outbox.push(classify::STARTTLS_ALONE);
        }
        self.stage = Stage::TlsFirst;
        self.header_due = Some(now + self.options.header_timeout);
    }

    /// S-37: the session of the plain header serves on if the header inside TLS says the same; otherwise there
    /// is another one.
    pub(super) fn on_secured_header(&mut self, accepted: Accepted, now: Instant) {
        let same = self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.accepted == accepted);
        let alive = self.session.as_ref().is_some_and(|s| s.is_alive());
        if !same || !alive {
            self.await_session(accepted, now);
            self.reopening = true;
            self.sasl = Sasl::Idle;
            self.auth_ids.clear();
            self.offer.clear();
            self.end_session(SHUTDOWN_LIMIT, now);
            return self.drain_session(now);
        }
        self.stage = Stage::Waiting;
        self.write_header();
        if self.is_versionless() {
            return self.open();
        }
        let offer = std::mem::take(&mut self.offer);
        self.give_features(&offer, now);
    }

    /// The session of the plain header is gone: the one for the header inside TLS begins.
    pub(super) fn reopen(&mut self) {
        if std::mem::take(&mut self.reopening)
            && self.stage == Stage::Waiting
            && let Some(domain) = self.domain().map(str::to_owned)
        {
            self.events.push_back(Event::Resolve { domain });
        }
    }
}
