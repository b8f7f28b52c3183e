//! What comes from the connection manager: session parameters, features, payload.

use std::time::Instant;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::explain::{log_other_host, on_stream};
use super::{Bridge, CLOSE_LIMIT, Event, Mode, Sasl, Stage};
use crate::stream::classify::{Kind, Sasl1, Sasl2};
use crate::stream::error::FaultReason;
use crate::stream::error::remote::sanitise_remote_error;
use crate::stream::features::{UNREADABLE, add_feature, filter_features};
use crate::stream::{classify, inline, look, ns};
use crate::xml::Element;

/// The stream that was to be resumed inside SASL2 is looked for only after login.
const RESUME_FAILED: &str = "<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";
/// Stream management is not served here.
const ENABLE_FAILED: &str = "<failed xmlns='urn:xmpp:sm:3'><feature-not-implemented xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>";

/// Our own stream management (S-43).
const SM: &[u8] = b"<sm xmlns='urn:xmpp:sm:3'/>";

impl Bridge {
    /// The session exists: the header can tell the truth now (S-11).
    pub(super) fn on_opened(&mut self, _now: Instant) {
        let granted = self.session.as_ref().and_then(|s| s.granted());
        if let (Some(granted), Some(peer)) = (granted, &mut self.peer) {
            if let Some(from) = &granted.from {
                peer.from.clone_from(from);
            }
            if let Some(authid) = &granted.authid {
                // digest login hashes it.
                peer.id = Zeroizing::new(authid.as_str().to_owned());
            }
        }
        self.write_header();
        if self.is_versionless() && self.stage == Stage::Waiting {
            // S-40: no features for old clients; they go on at once.
            self.open();
        }
    }

    pub(super) fn open(&mut self) {
        self.stage = Stage::Open;
        self.features_sent = true;
        self.features_due = None;
    }

    /// One child of a `<body/>`.
    pub(super) fn on_payload(&mut self, element: &Element, lang: Option<&str>, now: Instant) {
        if self.stage == Stage::Closed {
            return self.collect(element, now);
        }
        if self.reopening || self.is_turning() {
            // It answers what was said before TLS, and that is forgotten (RFC 6120 section 5.4.3.3).
            return;
        }
        let lang = self.foreign_lang(lang);
        match Kind::of(element.namespace(), element.local()) {
            Kind::StreamFeatures => return self.on_features(element, now),
            Kind::StreamError => {
                let remote = sanitise_remote_error(&on_stream(element));
                log_other_host(&remote);
                return self.fail_with(remote.fault, CLOSE_LIMIT, now);
            }
            Kind::Sasl1(Sasl1::Success) => {
                self.deliver(element, lang);
                return self.on_success(now);
            }
            Kind::Sasl1(Sasl1::Failure) => self.sasl = Sasl::Idle,
            Kind::Sasl2(Sasl2::Success) => {
                self.logged_in = true;
                self.features_sent = false;
                if let Some(session) = &mut self.session {
                    session.expect();
                }
                return self.on_sasl2_success(element, lang, now);
            }
            // Never offered, so nothing of it is ours to pass on.
            Kind::StartTls
            | Kind::TlsOther
            | Kind::Compress
            | Kind::Dialback
            | Kind::StreamOther
            | Kind::StreamErrorPart => {
                return;
            }
            Kind::StreamManagement => {
                if self.options.mode == Mode::Pass {
                    if element.local() == "resumed" {
                        self.on_bound(element);
                    }
                    self.pass_sm_down(element);
                }
                return;
            }
            Kind::Stanza if !self.bound && self.is_binding(element) => {
                self.deliver_at(element, lang, now);
                self.on_bound(element);
                return self.deliver_kept(now);
            }
            Kind::Stanza => return self.deliver_at(element, lang, now),
            Kind::Sasl1(_) | Kind::Sasl2(_) | Kind::Csi | Kind::Other => {}
        }
        self.deliver(element, lang);
    }

    /// The body's language, where the stream's is another (S-33).
    fn foreign_lang<'a>(&self, lang: Option<&'a str>) -> Option<&'a str> {
        let ours = self
            .peer
            .as_ref()
            .and_then(|peer| peer.accepted.lang.as_deref());
        lang.filter(|lang| *lang != ours.unwrap_or(&self.options.default_lang))
    }

    fn is_held(&self) -> bool {
        !self.header_written || matches!(self.stage, Stage::Header { .. })
    }

    pub(super) fn deliver(&mut self, element: &Element, lang: Option<&str>) {
        let held = self.is_held();
        let out = if held {
            &mut self.stash
        } else {
            self.outbox.buffer()
        };
        element.write_for_stream(lang, out);
    }

    /// A stanza: it is known until it has arrived.
    fn deliver_at(&mut self, element: &Element, lang: Option<&str>, now: Instant) {
        self.stanzas.1 += 1;
        if self.is_held() {
            return self.deliver(element, lang);
        }
        self.push_stanza(now, |out| element.write_for_stream(lang, out));
    }

    pub(super) fn push_stanza(&mut self, now: Instant, write: impl FnOnce(&mut BytesMut)) {
        self.outbox.push_stanza(now, write);
        if let Some(managed) = &mut self.managed {
            managed.sent += 1;
        }
    }

    /// S-42: no restart follows; what was asked inline of stream management is answered inside.
    fn on_sasl2_success(&mut self, element: &Element, lang: Option<&str>, now: Instant) {
        let bound = element
            .child_names()
            .iter()
            .any(|(ns, local)| ns == ns::BIND_2 && local == "bound");
        if bound {
            self.on_bound(element);
        }
        let asked = std::mem::take(&mut self.asked_inline);
        let failed = if asked.resume { RESUME_FAILED } else { "" };
        let enabled = match asked.enable {
            Some(_) if !bound => String::new(),
            Some(resumable) => match self.options.mode {
                Mode::Local { .. } => self.enable_sm(resumable),
                Mode::Pass | Mode::Off => ENABLE_FAILED.to_owned(),
            },
            None => String::new(),
        };
        let passes = self.options.mode == Mode::Pass;
        if !passes && failed.is_empty() && enabled.is_empty() {
            self.deliver(element, lang);
        } else {
            let success = on_stream(element);
            let read = if passes {
                inline::pass_down(&success)
            } else {
                Ok((success.to_vec(), inline::Told::default()))
            };
            let answered = read.and_then(|(success, told)| {
                Ok((inline::answer(&success, failed, &enabled)?, told))
            });
            let Ok((success, told)) = answered else {
                return self.fail(
                    FaultReason::BadReply,
                    Some("its answer to the login is not readable"),
                    now,
                );
            };
            if told.resumed && !bound {
                self.on_bound(element);
            }
            // S-43: such a stream is the server's to keep.
            self.passed_sm |= told.enabled || told.resumed;
            self.outbox.push(&success);
        }
        if bound {
            self.deliver_kept(now);
        }
    }

    /// the restart goes out at once and alone; the client's new header is awaited.
    fn on_success(&mut self, now: Instant) {
        self.sasl = Sasl::Idle;
        self.logged_in = true;
        if !matches!(self.stage, Stage::Open | Stage::Waiting) {
            return;
        }
        if let Some(session) = &mut self.session {
            session.restart();
        }
        self.framer.restart();
        self.header_written = false;
        self.features_sent = false;
        self.stage = Stage::Header { restarted: true };
        self.header_due = Some(now + self.options.header_timeout);
    }

    /// S-35: features pass through the filter; X-16: once, after the client's header.
    fn on_features(&mut self, element: &Element, now: Instant) {
        // once for each stream.
        if self.is_versionless() || self.features_sent {
            return;
        }
        let features = on_stream(element);
        self.give_features(&features, now);
        if self.may_begin_tls() {
            self.offer = features;
        }
    }

    /// The features as they came, less what cannot work, and ours.
    pub(super) fn give_features(&mut self, features: &[u8], now: Instant) {
        let filter = self.filter();
        let Ok(filtered) = filter_features(features, &filter) else {
            return self.fail(FaultReason::BadReply, Some(UNREADABLE), now);
        };
        let offers_tls = self.offers_tls();
        if filtered.facts.filtered_out() && !(filtered.facts.plain_hidden && offers_tls) {
            if filtered.facts.plain_hidden {
                return self.fail(FaultReason::PlainHidden, None, now);
            }
            return self.fail(FaultReason::NoUsableMechanism, None, now);
        }
        if !self.logged_in && filtered.facts.no_login_offered() {
            // E-68: passed on all the same, the client may know what to do.
            tracing::warn!("the connection manager offers no login over this URL");
        }
        if !filtered.removed.is_empty() {
            self.events.push_back(Event::Filtered(filtered.removed));
        }
        let mut bytes = filtered.bytes;
        if matches!(self.options.mode, Mode::Local { .. })
            && self.logged_in
            && (filtered.facts.bind || self.bound)
        {
            add_feature(&mut bytes, SM);
        }
        if offers_tls {
            add_feature(&mut bytes, classify::STARTTLS);
        }
        let held = self.is_held();
        let out = if held {
            &mut self.stash
        } else {
            self.outbox.buffer()
        };
        out.extend_from_slice(&bytes);
        self.features_sent = true;
        if self.stage == Stage::Waiting && !held {
            self.open();
        }
    }

    /// The client's header is here: what came early goes out.
    pub(super) fn release_stash(&mut self) {
        let stash = self.stash.split();
        self.outbox.push(&stash);
        if self.features_sent && self.stage == Stage::Waiting {
            self.open();
        }
    }

    /// T-17: from here on one request is always held.
    fn is_binding(&self, element: &Element) -> bool {
        if element.local() != "iq" || element.attr("type").as_deref() != Some("result") {
            return false;
        }
        let by_auth = element
            .attr("id")
            .is_some_and(|id| self.auth_ids.iter().any(|known| *known == id));
        by_auth
            || element
                .child_names()
                .iter()
                .any(|(ns, local)| ns == ns::BIND && local == "bind")
    }

    fn on_bound(&mut self, element: &Element) {
        self.bound = true;
        let jid = look::look(&on_stream(element))
            .ok()
            .and_then(|l| l.bound_jid);
        self.account = jid.map(|jid| jid.split('/').next().unwrap_or_default().to_owned());
        self.auth_ids = Vec::new();
        if let Some(session) = &mut self.session {
            session.bound();
        }
        self.events.push_back(Event::Bound);
    }
}
