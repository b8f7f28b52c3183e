//! What comes from the connection manager: session parameters, features, payload.

use std::time::Instant;

use zeroize::Zeroizing;

use super::explain::{log_other_host, on_stream};
use super::{Bridge, CLOSE_LIMIT, Event, Sasl, Stage};
use crate::stream::classify::{Kind, Sasl1, Sasl2};
use crate::stream::error::FaultReason;
use crate::stream::error::remote::sanitise_remote_error;
use crate::stream::features::filter_features;
use crate::stream::ns;
use crate::xml::Element;

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

    fn open(&mut self) {
        self.stage = Stage::Open;
        self.features_sent = true;
        self.features_due = None;
    }

    /// One child of a `<body/>`.
    pub(super) fn on_payload(&mut self, element: &Element, lang: Option<&str>, now: Instant) {
        if self.stage == Stage::Closed {
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
                if let Some(session) = &mut self.session {
                    session.expect();
                }
                if element
                    .child_names()
                    .iter()
                    .any(|(ns, local)| ns == ns::BIND_2 && local == "bound")
                {
                    self.on_bound();
                }
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
            Kind::StreamManagement if element.local() != "resumed" => return,
            Kind::Stanza if !self.bound => self.watch_binding(element),
            Kind::Sasl1(_)
            | Kind::Sasl2(_)
            | Kind::Stanza
            | Kind::Csi
            | Kind::StreamManagement
            | Kind::Other => {}
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

    fn deliver(&mut self, element: &Element, lang: Option<&str>) {
        let held = !self.header_written || matches!(self.stage, Stage::Header { .. });
        let out = if held { &mut self.stash } else { &mut self.out };
        element.write_for_stream(lang, out);
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
        if self.is_versionless() {
            return;
        }
        let Ok(filtered) = filter_features(&on_stream(element), &self.options.filter) else {
            return self.fail(
                FaultReason::BadReply,
                Some("its stream features are not readable"),
                now,
            );
        };
        if filtered.facts.filtered_out() {
            return self.fail(FaultReason::NoUsableMechanism, None, now);
        }
        if !self.logged_in && filtered.facts.no_login_offered() {
            // E-68: passed on all the same, the client may know what to do.
            tracing::warn!("the connection manager offers no login over this URL");
        }
        if !filtered.removed.is_empty() {
            self.events.push_back(Event::Filtered(filtered.removed));
        }
        let held = !self.header_written || matches!(self.stage, Stage::Header { .. });
        let out = if held { &mut self.stash } else { &mut self.out };
        out.extend_from_slice(&filtered.bytes);
        self.features_sent = true;
        if self.stage == Stage::Waiting && !held {
            self.open();
        }
    }

    /// The client's header is here: what came early goes out.
    pub(super) fn release_stash(&mut self) {
        let stash = self.stash.split();
        self.out.extend_from_slice(&stash);
        if self.features_sent && self.stage == Stage::Waiting {
            self.open();
        }
    }

    /// T-17: from here on one request is always held.
    fn watch_binding(&mut self, element: &Element) {
        if element.local() != "iq" || element.attr("type").as_deref() != Some("result") {
            return;
        }
        let by_auth = element
            .attr("id")
            .is_some_and(|id| self.auth_ids.iter().any(|known| *known == id));
        if by_auth
            || element
                .child_names()
                .iter()
                .any(|(ns, local)| ns == ns::BIND && local == "bind")
        {
            self.on_bound();
        }
    }

    fn on_bound(&mut self) {
        self.bound = true;
        self.auth_ids = Vec::new();
        if let Some(session) = &mut self.session {
            session.bound();
        }
        self.events.push_back(Event::Bound);
    }
}
