//! Stream management served by xbosh itself (XEP-0198): counting, acknowledging, enabling. Resuming is in
//! `resume`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Instant;

use zeroize::Zeroizing;

use super::{Bridge, Event, Mode, Stage};
use crate::bosh::Manager;
use crate::stream::error::FaultReason;
use crate::stream::ns;
use crate::xml::{Element, escape};

/// Names a stream that can be resumed: a secret (XEP-0198 section 5).
#[derive(Clone, PartialEq, Eq)]
pub struct SmId(Zeroizing<String>);

impl SmId {
    /// Wraps the value that a client sent.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Hash for SmId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

impl fmt::Debug for SmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SmId(…)")
    }
}

/// The counters of one managed stream; the wire has them modulo 2^32.
#[derive(Debug, Default)]
pub(super) struct Managed {
    /// Set while the stream can be resumed.
    pub(super) id: Option<SmId>,
    /// Stanzas that the client sent.
    pub(super) received: u64,
    /// Of these, what the manager has.
    pub(super) confirmed: u64,
    /// The highest `h` that the client was told, by `<resumed/>` perhaps more than is confirmed.
    pub(super) told: u64,
    /// Stanzas for the client.
    pub(super) sent: u64,
    /// Of these, what the client has.
    pub(super) acked: u64,
    /// Our `<r/>` is not answered.
    asked: bool,
}

/// What a client's `h` means.
#[derive(Debug, PartialEq, Eq)]
enum Ack {
    /// So many more stanzas have arrived.
    Fine(usize),
    /// It cannot be: taken for as many.
    Wrong(usize),
}

impl Managed {
    /// What `h` tells the client: never less than before.
    pub(super) fn h(&self) -> u32 {
        wrapped(self.confirmed.max(self.told))
    }

    fn judge(&self, h: u32) -> Ack {
        let more = h.wrapping_sub(wrapped(self.acked));
        let open = self.sent - self.acked;
        let open = usize::try_from(open).unwrap_or(usize::MAX);
        match usize::try_from(more).unwrap_or(usize::MAX) {
            more if more <= open => Ack::Fine(more),
            // Far ahead is behind.
            _ if more > u32::MAX / 2 => Ack::Wrong(0),
            _ => Ack::Wrong(open),
        }
    }

    /// Stanzas that the client was told to be safe and the manager has not confirmed.
    pub(super) fn promised(&self) -> usize {
        usize::try_from(self.told.saturating_sub(self.confirmed)).unwrap_or(usize::MAX)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "modulo 2^32 is what the wire has"
)]
pub(super) fn wrapped(count: u64) -> u32 {
    count as u32
}

impl Bridge {
    /// A stream management element of the client's (S-43, S-48).
    pub(super) fn on_sm_element(&mut self, element: &Element, now: Instant) {
        match self.options.mode {
            Mode::Local { .. } if element.namespace() == ns::SM => self.serve_sm(element, now),
            Mode::Pass => self.pass_sm_up(element),
            Mode::Local { .. } | Mode::Off => self.refuse_sm(element, "feature-not-implemented"),
        }
    }

    fn serve_sm(&mut self, element: &Element, now: Instant) {
        match element.local() {
            "enable" if !self.bound => self.refuse_sm(element, "unexpected-request"),
            "enable" if self.managed.is_some() => self.fail(FaultReason::SmTwice, None, now),
            "enable" => {
                let wants = element.attr("resume");
                let enabled = self.enable_sm(matches!(wants.as_deref(), Some("true" | "1")));
                self.outbox.push(enabled.as_bytes());
            }
            "resume" if self.bound || !self.logged_in => {
                self.refuse_sm(element, "unexpected-request");
            }
            "resume" => match (element.attr("previd"), h_of(element)) {
                (Some(previd), Some(h)) => {
                    self.stage = Stage::Resuming;
                    self.events.push_back(Event::Resume {
                        previd: SmId::new(previd.into_owned()),
                        h,
                        user: self.identity.user().map(str::to_owned),
                    });
                }
                _ => self.refuse_sm(element, "bad-request"),
            },
            "r" if self.managed.is_some() => self.tell_h(true),
            "a" => {
                if let Some(h) = h_of(element) {
                    self.on_ack(h);
                }
            }
            _ => {}
        }
    }

    /// Counting begins: inbound now, outbound behind the `<enabled/>` that is returned (S-48).
    pub(super) fn enable_sm(&mut self, resumable: bool) -> String {
        let window = match self.options.mode {
            Mode::Local { resume_window } if resumable => resume_window,
            Mode::Local { .. } | Mode::Pass | Mode::Off => std::time::Duration::ZERO,
        };
        let id = (!window.is_zero()).then(|| SmId::new(self.fresh_id()));
        if let Some(session) = &mut self.session {
            session.set_confirming(true);
        }
        self.outbox.manage();
        let enabled = match &id {
            Some(id) => format!(
                "<enabled xmlns='urn:xmpp:sm:3' id='{}' resume='true' max='{}'/>",
                id.as_str(),
                window.as_secs()
            ),
            None => "<enabled xmlns='urn:xmpp:sm:3'/>".to_owned(),
        };
        if let Some(id) = &id {
            self.events.push_back(Event::Resumable {
                id: id.clone(),
                user: self.identity.user().map(str::to_owned),
            });
        }
        self.managed = Some(Managed {
            id,
            ..Managed::default()
        });
        enabled
    }

    /// `<failed/>` in the client's version of the namespace, where an answer is due.
    pub(super) fn refuse_sm(&mut self, element: &Element, condition: &str) {
        if matches!(element.local(), "enable" | "resume") {
            let namespace = escape::attribute(element.namespace()).to_string();
            let failed = format!(
                "<failed xmlns='{namespace}'><{condition} xmlns='{}'/></failed>",
                ns::STANZA_ERROR
            );
            self.outbox.push(failed.as_bytes());
        }
    }

    /// `<a/>`, if asked for or if there is news.
    pub(super) fn tell_h(&mut self, asked: bool) {
        if let Some(managed) = &mut self.managed
            && (asked || managed.confirmed > managed.told)
        {
            managed.told = managed.told.max(managed.confirmed);
            let ack = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", managed.h());
            self.outbox.push(ack.as_bytes());
        }
    }

    /// The manager has so many more payloads.
    pub(super) fn on_confirmed(&mut self, payloads: usize) {
        let counted = self.pending.confirmed(payloads);
        if let Some(managed) = &mut self.managed {
            managed.confirmed += u64::from(counted);
            if self.stage == Stage::Open {
                self.tell_h(false);
            }
        }
    }

    /// The client has stanzas up to `h`.
    pub(super) fn on_ack(&mut self, h: u32) {
        let Some(managed) = &mut self.managed else {
            return;
        };
        managed.asked = false;
        let count = match managed.judge(h) {
            Ack::Fine(count) => count,
            Ack::Wrong(count) => {
                // Some clients miscount: the stream lives, but nothing can be built on their numbers.
                if let Some(id) = managed.id.take() {
                    tracing::warn!(
                        h,
                        sent = managed.sent,
                        "the client acknowledged what it cannot have: its stream cannot be resumed"
                    );
                    self.events.push_back(Event::Over { id, remains: None });
                }
                count
            }
        };
        managed.acked += count as u64;
        self.outbox.acknowledged(count);
        if count > 0 {
            // What was written meanwhile; without progress never, or two fools would talk for ever.
            self.ask_for_ack();
        }
    }

    /// Asks for an acknowledgement when everything is written and something is not acknowledged.
    pub(super) fn ask_for_ack(&mut self) {
        if self.stage == Stage::Open
            && self.outbox.unwritten().is_empty()
            && let Some(managed) = &mut self.managed
            && !managed.asked
            && managed.sent > managed.acked
        {
            managed.asked = true;
            self.outbox.push(b"<r xmlns='urn:xmpp:sm:3'/>");
        }
    }

    /// A new connection: what was asked on the old one is not answered any more.
    pub(super) fn forget_question(&mut self) {
        if let Some(managed) = &mut self.managed {
            managed.asked = false;
        }
    }

    /// Mode `pass`: resumption over BOSH works on ejabberd alone; elsewhere it is not asked for.
    pub(super) fn server_resumes(&self) -> bool {
        let granted = self.session.as_ref().and_then(|s| s.granted());
        granted.is_some_and(|granted| granted.manager == Manager::Ejabberd)
    }

    fn pass_sm_up(&mut self, element: &Element) {
        let resumes = self.server_resumes();
        match element.local() {
            "resume" if !resumes => self.refuse_sm(element, "feature-not-implemented"),
            "enable" if !resumes => {
                self.passed_sm = true;
                let mut plain =
                    format!("<enable xmlns='{}'", escape::attribute(element.namespace()));
                if let Some(max) = element.attr("max") {
                    plain.push_str(&format!(" max='{}'", escape::attribute(&max)));
                }
                plain.push_str("/>");
                match Element::parse(&plain) {
                    Ok(plain) => self.send_up(&plain, crate::bosh::PayloadClass::Together, false),
                    Err(_) => self.refuse_sm(element, "bad-request"),
                }
            }
            _ => {
                self.passed_sm = true;
                self.send_up(element, crate::bosh::PayloadClass::Together, false);
            }
        }
    }

    /// Mode `pass`: `location` would lead the client past us (S-44).
    pub(super) fn pass_sm_down(&mut self, element: &Element) {
        if element.local() != "enabled" || element.attr("location").is_none() {
            return self.deliver(element, None);
        }
        let mut plain = format!(
            "<enabled xmlns='{}'",
            escape::attribute(element.namespace())
        );
        for name in ["id", "resume", "max"] {
            if let Some(value) = element.attr(name) {
                plain.push_str(&format!(" {name}='{}'", escape::attribute(&value)));
            }
        }
        plain.push_str("/>");
        self.outbox.push(plain.as_bytes());
    }
}

fn h_of(element: &Element) -> Option<u32> {
    element.attr("h")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-48: counters wrap at 2^32; what is too high or falls is clamped.
    #[test]
    fn s48_numbers() {
        let at = |sent: u64, acked: u64| Managed {
            sent,
            acked,
            ..Managed::default()
        };
        assert_eq!(at(5, 2).judge(2), Ack::Fine(0));
        assert_eq!(at(5, 2).judge(5), Ack::Fine(3));
        assert_eq!(at(5, 2).judge(6), Ack::Wrong(3));
        assert_eq!(at(5, 2).judge(1), Ack::Wrong(0));
        let high = u64::from(u32::MAX);
        assert_eq!(at(high + 4, high - 1).judge(3), Ack::Fine(5));
        assert_eq!(at(high + 4, high + 2).judge(u32::MAX), Ack::Wrong(0));
        assert_eq!(wrapped(high + 1), 0);
    }

    /// S-43: `h` never falls below what was told.
    #[test]
    fn s43_h_never_decreases() {
        let managed = Managed {
            confirmed: 3,
            told: 7,
            ..Managed::default()
        };
        assert_eq!((managed.h(), managed.promised()), (7, 4));
    }

    /// S-49: ids do not show.
    #[test]
    fn b73_ids_are_not_printed() {
        assert_eq!(format!("{:?}", SmId::new("secret".into())), "SmId(…)");
    }
}
