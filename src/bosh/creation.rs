//! The session creation request: made, refused, sent elsewhere, granted (XEP-0124 section 7).

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use super::body::{self, RequestKind, Response, ResponseType};
use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::failure::FailureKind;
use super::keys::KeyChain;
use super::params::{Granted, Manager, Version};
use super::session::{Event, Phase, Session};
use super::window::Entry;

/// Longer times than a day are as good as a day, and can be calculated with (T-15).
const MOST: Duration = Duration::from_secs(86_400);

impl Session {
    /// A new creation request; each attempt has a rid of its own (B-55).
    pub(super) fn create(&mut self, now: Instant) {
        self.window.clear();
        let pause = match self.creation_failures {
            0 => Duration::ZERO,
            n => Duration::from_secs(1 << (n - 1).min(2)),
        };
        let Some(rid) = self.take_rid() else { return };
        self.keys = self.options.key_seed.clone().map(KeyChain::new);
        let keys = self.keys.as_mut().map(KeyChain::next).unwrap_or_default();
        let body = body::encode_creation(&self.options.requested, rid, &keys);
        let pause = self.spread(pause);
        self.window
            .push(Entry::new(rid, RequestKind::Creation, body, now + pause));
    }

    pub(super) fn on_creation(&mut self, index: usize, response: &Response, now: Instant) {
        match response.kind {
            ResponseType::Terminate => {
                if response.condition == Some(BindingCondition::SeeOtherUri)
                    && let Some(location) = response.other_uri()
                {
                    self.phase = Phase::Redirecting;
                    self.window.clear();
                    self.events.push_back(Event::Redirect {
                        status: None,
                        location,
                    });
                    return;
                }
                let text = (!response.text.is_empty()).then(|| response.text.clone());
                let condition = response.condition.unwrap_or(BindingCondition::Undefined);
                let stream_error = response.elements.clone();
                self.close(CloseReason::Condition {
                    condition,
                    text,
                    stream_error,
                });
                return;
            }
            ResponseType::Error => {
                self.attempt_failed(index, Cause::NoReply, None, None, now);
                return;
            }
            ResponseType::Normal => {}
        }
        match self.grant(response) {
            Ok(granted) if self.would_sleep_in(&granted, now) => return,
            Ok(granted) => self.granted = Some(granted),
            Err(what) => {
                self.fail(Cause::CreationReply(what));
                return;
            }
        }
        self.measure(index, now);
        self.phase = Phase::Open;
        self.events.push_back(Event::Opened);
        self.answer(index, Box::new(response.clone()), now);
        self.process(now);
    }

    /// A manager with a short `inactivity` would end the session before a vanished long poll is missed. `wait`
    /// cannot be changed any more, so another session is asked for, with one that suits; the first, in which
    /// nothing has been said, ends by itself as a lost one does (B-55).
    fn would_sleep_in(&mut self, granted: &Granted, now: Instant) -> bool {
        let longest = granted.longest_wait(self.options.way);
        let Some(longest) = longest.filter(|longest| *longest < granted.wait) else {
            return false;
        };
        if std::mem::replace(&mut self.reasked, true) {
            return false;
        }
        self.options.requested.wait = longest;
        // The manager is there.
        self.creation_failures = 0;
        self.create(now);
        self.advance(now);
        true
    }

    /// Reads what was granted (B-23 to B-28).
    fn grant(&self, response: &Response) -> Result<Granted, &'static str> {
        let attributes = &response.attributes;
        let asked = &self.options.requested;
        if let Some(name) = attributes.bad_number {
            return Err(name);
        }
        let Some(sid) = attributes.sid.clone() else {
            return Err("it has no sid");
        };
        let hold = attributes
            .hold
            .map_or(asked.hold, |hold| u8::try_from(hold).unwrap_or(u8::MAX));
        let requests = match attributes.requests {
            Some(0) => return Err("requests is 0"),
            Some(requests) => u8::try_from(requests).unwrap_or(u8::MAX),
            // B-25: unlimited, we still use no more than hold + 1.
            None => hold.saturating_add(1),
        };
        let ours = Version::parse(&asked.ver);
        let theirs = attributes.ver.as_deref().and_then(Version::parse);
        let rid = self.window.get(0).map(|e| e.rid.0);
        Ok(Granted {
            sid,
            wait: attributes
                .wait
                .map_or(asked.wait, |wait| wait.min(asked.wait)),
            hold,
            requests: NonZeroU8::new(requests).unwrap_or(NonZeroU8::MIN),
            inactivity: attributes
                .inactivity
                .filter(|d| !d.is_zero())
                .map(|d| d.min(MOST)),
            polling: attributes.polling.unwrap_or_default().min(MOST),
            // B-27: one that cannot be read still shows a manager that knows versions.
            ver: attributes
                .ver
                .as_ref()
                .and_then(|_| theirs.into_iter().chain(ours).min()),
            maxpause: attributes.maxpause,
            acks: attributes.ack.is_some() && attributes.ack == rid,
            from: attributes.from.clone(),
            authid: attributes.authid.clone(),
            manager: fingerprint(response),
            stream: attributes.stream.clone(),
        })
    }
}

/// Guesses the manager from its creation reply (cm-quirks section 3).
fn fingerprint(response: &Response) -> Manager {
    let attributes = &response.attributes;
    if attributes.restartlogic && attributes.polling == Some(Duration::from_secs(2)) {
        Manager::Ejabberd
    } else if attributes.host && attributes.maxpause == Some(Duration::from_secs(10)) {
        Manager::Tigase
    } else if attributes.authid.is_some()
        && attributes.authid == attributes.sid
        && attributes.maxpause.is_none()
        && attributes.polling == Some(Duration::from_secs(5))
    {
        Manager::Prosody
    } else if attributes.ver.is_none()
        && attributes.polling.is_none()
        && attributes.authid.is_none()
        && attributes.accept
    {
        Manager::MongooseIm
    } else if attributes.authid.is_some()
        && attributes.authid == attributes.sid
        && attributes.maxpause == Some(Duration::from_secs(300))
    {
        Manager::Openfire
    } else {
        Manager::Other
    }
}

/// How often a failure before the creation reply is worth another attempt (the failure table).
pub(super) fn repeats(cause: &Cause) -> u32 {
    match cause {
        Cause::Hop(failure) => match failure.kind {
            FailureKind::ProxyUnreachable
            | FailureKind::ProxyUpstream
            | FailureKind::CmUnreachable
            | FailureKind::NoReply => 2,
            FailureKind::Tls | FailureKind::TlsCertificateChanged => 1,
            FailureKind::ProxyAuth
            | FailureKind::ProxyRefused
            | FailureKind::ProxyProtocol
            | FailureKind::TlsCertificate
            | FailureKind::ReplyTooLarge
            | FailureKind::Internal => 0,
        },
        // B-58: an intermediary may have said it.
        Cause::Status(400 | 403 | 404 | 408 | 410 | 425 | 429 | 500 | 502 | 503 | 504) => 2,
        Cause::NotBosh | Cause::BadXml(_) | Cause::NoReply => 2,
        Cause::Status(_)
        | Cause::Redirect(_)
        | Cause::CreationReply(_)
        | Cause::RidLimit
        | Cause::UnknownStream
        | Cause::Unrecoverable => 0,
    }
}
