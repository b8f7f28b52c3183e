//! What the client sends: header, elements, close.

use std::time::Instant;

use bytes::BytesMut;

use zeroize::Zeroizing;

use super::{Bridge, CLOSE_LIMIT, Event, HEADER_PATIENCE, Peer, RESTART_LIMIT, Sasl, Stage};
use crate::bosh::PayloadClass;
use crate::stream::STREAM_CLOSE;
use crate::stream::classify::{self, Batch, Kind, Sasl1, Sasl2};
use crate::stream::error::FaultReason;
use crate::stream::header::{Accepted, ClientHeader, Rejected};
use crate::stream::inline;
use crate::xml::{Element, Frame, Header, XmlError};

/// Most `jabber:iq:auth` requests remembered.
const MAX_AUTH_IDS: usize = 8;
/// The first byte of a TLS connection (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

impl Bridge {
    /// Takes frames out of the client's bytes as far as the stage allows.
    pub(super) fn pump(&mut self, now: Instant) {
        if !self.saw_first_byte && !self.check_first_byte() {
            return;
        }
        while self.may_take_frame() {
            let frame = match self.framer.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(error) => return self.on_xml_error(&error, now),
            };
            match frame {
                Frame::Header(header) => self.on_header(&header, now),
                Frame::Element(element) => self.on_element(&element, now),
                Frame::NewDocument if self.sasl == Sasl::Exchange => return, // S-41: the outcome decides.
                Frame::NewDocument => self.fail(FaultReason::UnsupportedElement, None, now),
                Frame::End => self.on_end(now),
            }
        }
    }

    /// S-02: what is not XML by its first byte (a browser's HTTP request, TLS) gets silence.
    fn check_first_byte(&mut self) -> bool {
        match self.framer.first_byte() {
            None => false,
            Some(b'<') => {
                self.saw_first_byte = true;
                true
            }
            Some(TLS_HANDSHAKE) if self.options.tls.served && !self.secure => {
                self.on_client_hello();
                false
            }
            Some(_) => {
                self.close_client();
                false
            }
        }
    }

    fn may_take_frame(&self) -> bool {
        match self.stage {
            Stage::Header { .. } | Stage::TlsFirst => true,
            Stage::Open => self
                .session
                .as_ref()
                .is_some_and(crate::bosh::Session::wants_payloads),
            Stage::Waiting
            | Stage::Handshake
            | Stage::Resuming
            | Stage::Away
            | Stage::Leaving
            | Stage::Closed => false,
        }
    }

    fn on_xml_error(&mut self, error: &XmlError, now: Instant) {
        let reason = match error {
            XmlError::NotWellFormed(_) => FaultReason::NotWellFormed,
            XmlError::Restricted(_) => FaultReason::RestrictedXml,
            XmlError::UnsupportedEncoding => FaultReason::BadEncoding,
            XmlError::TextBetweenElements => FaultReason::TextBetweenElements,
            XmlError::TooLarge | XmlError::TooDeep | XmlError::TooManyAttributes => {
                FaultReason::ElementTooLarge
            }
        };
        self.fail(reason, Some(&error.to_string()), now);
    }

    fn on_header(&mut self, header: &Header, now: Instant) {
        let restarted = matches!(self.stage, Stage::Header { restarted: true });
        self.header_due = None;
        let client = client_header(header);
        match self.judge(&client) {
            Ok(accepted) if restarted => self.on_restart_header(accepted),
            Ok(accepted) if self.options.tls.required && !self.secure => {
                self.on_header_before_tls(accepted, now);
            }
            Ok(accepted) if self.session.is_some() => self.on_secured_header(accepted, now),
            Ok(accepted) => {
                self.events.push_back(Event::Resolve {
                    domain: accepted.domain.clone(),
                });
                self.await_session(accepted, now);
            }
            Err(rejected) => {
                let Rejected {
                    fault,
                    domain,
                    from,
                    lang,
                    version,
                } = *rejected;
                let domain = domain.unwrap_or_default();
                let accepted = Accepted {
                    domain: domain.clone(),
                    from,
                    lang,
                    version,
                };
                self.peer = Some(Peer {
                    accepted,
                    from: domain,
                    id: Zeroizing::default(),
                });
                self.fail_with(fault, CLOSE_LIMIT, now);
            }
        }
        if restarted && self.stage == Stage::Waiting {
            self.features_due = Some(now + RESTART_LIMIT);
        }
    }

    /// Judges a header by what is known already: the one before it, or the name in TLS.
    fn judge(&self, client: &ClientHeader) -> Result<Accepted, Box<Rejected>> {
        let rules = &self.options.rules;
        let accepted = match (&self.peer, &self.sni) {
            (Some(peer), _) => client.accept_restart(rules, &peer.accepted)?,
            (None, Some(sni)) => return client.accept_named(rules, sni),
            (None, None) => client.accept(rules)?,
        };
        match &self.sni {
            Some(sni) => client.accept_named(rules, sni),
            None => Ok(accepted),
        }
    }

    /// Nothing more is read until there are features.
    pub(super) fn await_session(&mut self, accepted: Accepted, now: Instant) {
        let from = accepted.domain.clone();
        self.peer = Some(Peer {
            accepted,
            from,
            id: Zeroizing::default(),
        });
        self.stage = Stage::Waiting;
        self.header_patience = Some(now + HEADER_PATIENCE);
        self.features_due = Some(now + self.options.setup_timeout);
    }

    /// S-16: a new header on the same session, after SASL.
    fn on_restart_header(&mut self, accepted: Accepted) {
        if let Some(peer) = &mut self.peer {
            peer.accepted = accepted;
            // B-29: it may have come late.
            let from = self
                .session
                .as_ref()
                .and_then(|s| s.granted()?.from.as_ref());
            if let Some(from) = from {
                peer.from.clone_from(from);
            }
            // S-06: a new id for the new stream.
            peer.id = Zeroizing::default();
        }
        self.stage = Stage::Waiting;
        self.write_header();
        self.release_stash();
    }

    fn on_element(&mut self, element: &Element, now: Instant) {
        let kind = Kind::of(element.namespace(), element.local());
        if self.stage == Stage::TlsFirst && !matches!(kind, Kind::StartTls | Kind::StreamError) {
            return self.fail(FaultReason::TlsRequired, None, now);
        }
        if element.is_prefixed_stanza() {
            return self.fail(FaultReason::PrefixedStanza, None, now);
        }
        match kind {
            Kind::Sasl1(Sasl1::Auth | Sasl1::Response) => {
                self.sasl = Sasl::Exchange;
                self.begin_login();
                self.identity.note(element);
            }
            Kind::Sasl2(Sasl2::Authenticate | Sasl2::Response) => {
                self.begin_login();
                self.identity.note(element);
                if element.local() == "authenticate" {
                    return self.send_authenticate(element, now);
                }
            }
            Kind::StartTls => return self.on_starttls(now),
            Kind::TlsOther => return self.refuse_tls(now),
            Kind::Compress => {
                self.outbox.push(classify::COMPRESS_FAILURE);
                return;
            }
            Kind::StreamManagement => return self.on_sm_element(element, now),
            Kind::StreamError => {
                tracing::info!("the client ended its stream with an error");
                return self.on_end(now);
            }
            Kind::StreamFeatures | Kind::StreamOther | Kind::StreamErrorPart | Kind::Dialback => {
                return self.fail(FaultReason::UnsupportedElement, None, now);
            }
            // An element in no namespace would fall into the wrapper's.
            Kind::Other if element.namespace().is_empty() => {
                return self.fail(FaultReason::WrongNamespace, None, now);
            }
            Kind::Stanza if !self.bound => self.watch_iq_auth(element),
            Kind::Csi => {
                self.csi_inactive = element.local() == "inactive";
                if self.csi_inactive
                    && let Some(session) = &mut self.session
                {
                    session.client_is_inactive();
                }
            }
            Kind::Sasl1(_) | Kind::Sasl2(_) | Kind::Stanza | Kind::Other => {}
        }
        let class = match kind.batch() {
            Batch::Stanzas => PayloadClass::Together,
            Batch::Alone => PayloadClass::Alone,
        };
        self.stanzas.0 += u64::from(kind == Kind::Stanza);
        let mut counted = false;
        if kind == Kind::Stanza
            && let Some(managed) = &mut self.managed
        {
            managed.received += 1;
            counted = true;
        }
        self.send_up(element, class, counted);
    }

    /// Hands an element to the session. `counted`: it counts in stream management.
    pub(super) fn send_up(&mut self, element: &Element, class: PayloadClass, counted: bool) {
        let lang = self
            .peer
            .as_ref()
            .and_then(|peer| peer.accepted.lang.as_deref());
        if let Some(session) = &mut self.session {
            self.pending.push(element, counted);
            session.send_with(class, |out| {
                out.reserve(element.len() + 64);
                element.write_for_body(lang, out);
            });
        }
    }

    /// S-42: what SASL2 asks of stream management is ours to answer.
    fn send_authenticate(&mut self, element: &Element, now: Instant) {
        let passes = self.options.mode == super::Mode::Pass;
        if passes && self.server_resumes() {
            return self.send_up(element, PayloadClass::Alone, false);
        }
        let mut payload = BytesMut::with_capacity(element.len() + 64);
        element.write_for_body(None, &mut payload);
        let read = if passes {
            inline::pass_up(&payload).map(|(bytes, resume)| {
                let enable = None;
                (bytes, inline::Asked { resume, enable })
            })
        } else {
            inline::cut(&payload)
        };
        let Ok((bytes, asked)) = read else {
            return self.fail(FaultReason::ElementTooLarge, None, now);
        };
        self.asked_inline = asked;
        if let Some(session) = &mut self.session {
            self.pending.push_own();
            session.send(bytes, PayloadClass::Alone);
        }
    }

    /// S-37: not now, and the stream is over (RFC 6120 section 5.4.2.2).
    pub(super) fn refuse_tls(&mut self, now: Instant) {
        self.write_header();
        self.outbox.push(classify::TLS_FAILURE);
        self.outbox.push(STREAM_CLOSE);
        self.close_client();
        self.end_session(CLOSE_LIMIT, now);
    }

    /// Remembers a login by XEP-0078: its result binds (T-17).
    fn watch_iq_auth(&mut self, element: &Element) {
        if element.local() == "iq"
            && element.attr("type").as_deref() == Some("set")
            && element
                .child_names()
                .iter()
                .any(|(ns, _)| ns == "jabber:iq:auth")
            && let Some(id) = element.attr("id")
            && self.auth_ids.len() < MAX_AUTH_IDS
        {
            self.auth_ids.push(id.into_owned());
            self.begin_login();
        }
    }

    /// S-17: flush upstream, deliver what still comes, then close.
    fn on_end(&mut self, now: Instant) {
        self.header_due = None;
        self.features_due = None;
        if self.session.is_none() {
            self.write_header();
            return self.finish_stream();
        }
        if self.stage == (Stage::Header { restarted: true }) {
            // It closes where it owed a new header: the old stream is the one to close.
            self.header_written = true;
        }
        // The header may still be owed if the client leaves while the session is being made.
        self.write_header();
        self.stage = Stage::Leaving;
        self.end_session(CLOSE_LIMIT, now);
        self.drain_session(now);
    }
}

fn client_header(header: &Header) -> ClientHeader {
    ClientHeader {
        local: header.local.clone(),
        namespace: header.namespace.clone(),
        content_namespace: Some(header.scope.default_namespace())
            .filter(|namespace| !namespace.is_empty())
            .map(str::to_owned),
        to: header.attr("to").map(str::to_owned),
        from: header.attr("from").map(str::to_owned),
        version: header.attr("version").map(str::to_owned),
        lang: header.lang().map(str::to_owned),
    }
}
