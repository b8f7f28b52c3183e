//! What the shell calls: inputs in, what is to be done out.

use std::time::{Duration, Instant};

use super::{Bridge, CLOSE_LIMIT, Endpoint, Event, SHUTDOWN_LIMIT, Stage, explain};
use crate::bosh::{
    self, Failure, HttpReply, KeySeed, Request, RequestKey, Requested, Rid, Session,
};
use crate::stream::error::FaultReason;

impl Bridge {
    /// Bytes from the client, split anywhere.
    pub fn handle_client_bytes(&mut self, bytes: &[u8], now: Instant) {
        if matches!(
            self.stage,
            Stage::Handshake | Stage::Leaving | Stage::Closed
        ) {
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
            Stage::Open
            | Stage::Resuming
            | Stage::Header { .. }
            | Stage::TlsFirst
            | Stage::Handshake
            | Stage::Waiting => {
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
        // A session that came to nothing may not be taken away yet.
        let running = |session: &Session| session.phase() != bosh::session::Phase::Closed;
        if self.stage != Stage::Waiting || self.session.as_ref().is_some_and(running) {
            return;
        }
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err((reason, text)) => {
                return self.fail_with(explain::sentence(reason, &text), CLOSE_LIMIT, now);
            }
        };
        self.others = endpoint.others;
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
            https: endpoint.https,
            buffer_bytes: self.options.buffer_bytes,
            limits: self.options.limits,
            first_rid: Rid::first((self.options.random)()),
            seed: (self.options.random)(),
            way: endpoint.way,
            // B-64: over TLS it protects nothing.
            key_seed: (endpoint.key_sequence && !endpoint.https).then(|| self.key_seed()),
        };
        self.session = Some(Session::new(options, now));
    }

    /// Whether an exchange that failed on the way is better tried at another address: only before a session
    /// exists (D-06).
    #[must_use]
    pub fn may_go_elsewhere(&self) -> bool {
        self.others && self.stage == Stage::Waiting && !self.was_opened()
    }

    /// Gives the address up: answer by [`Self::handle_endpoint`]. The shell drops what is under way.
    pub fn go_elsewhere(&mut self) {
        if self.may_go_elsewhere() {
            self.session = None;
            self.others = false;
        }
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
            if self.stage == Stage::Handshake {
                self.close_client();
                self.end_session(CLOSE_LIMIT, now);
            } else if self.saw_first_byte {
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
            Stage::Header { .. } | Stage::Waiting | Stage::TlsFirst => {
                self.framer.buffered() <= self.options.limits.max_header_bytes
            }
            Stage::Open => {
                self.outbox.unwritten().len() < self.options.buffer_bytes
                    && self.session.as_ref().is_some_and(Session::wants_payloads)
                    // One byte more than the limit tells an element that is too large.
                    && self.framer.buffered() <= self.options.limits.max_element_bytes
            }
            Stage::Handshake | Stage::Resuming | Stage::Away | Stage::Leaving | Stage::Closed => {
                false
            }
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
}
