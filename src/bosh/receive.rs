//! What a reply does: creation, ordinary responses in rid order, recoverable errors, the end.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::{self, Response, ResponseType};
use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::failure::HttpReply;
use super::params::{Granted, Manager, Rid, Version};
use super::session::{Event, Phase, Session};
use super::verdict::{Verdict, judge};
use super::window::{RequestKey, State};
use crate::xml::{Element, Limits};

/// How long replies to other requests are waited for once the manager has said terminate (C-07).
const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// From so many copies on, an empty answer proves nothing (cm-quirks 4.2).
const COPIES_IN_DOUBT: u32 = 3;
/// How often one request is repeated because the manager asked (`type='error'`).
const MAX_RECOVERIES: u32 = 10;
/// How often an HTTP error that an intermediary may have made up is repeated (B-58).
const LEGACY_REPEATS: u32 = 2;

/// The manager has ended the session; replies to other requests may still come.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) deadline: Instant,
    /// The best explanation so far.
    reason: CloseReason,
}

impl Session {
    pub(super) fn on_reply(&mut self, index: usize, reply: &HttpReply, now: Instant) {
        let verdict = judge(reply, self.options.limits);
        if self.window.get(index).is_some_and(|entry| entry.recheck) {
            match verdict {
                Verdict::Response(response) if response.kind == ResponseType::Normal => {
                    self.answer(index, response, now);
                    self.process(now);
                }
                // Whatever else there is to say, the newer request will be told.
                _ => self.settle_recheck(index, now),
            }
            return;
        }
        match verdict {
            Verdict::Response(response) => self.on_response(index, response, now),
            Verdict::ZeroBytes => self.on_zero_bytes(index, now),
            Verdict::Repeat {
                cause,
                tries,
                retry_after,
            } => {
                self.attempt_failed(index, cause, tries, retry_after, now);
            }
            Verdict::LegacyError(status) => self.on_legacy_error(index, status, now),
            Verdict::Redirect { status, location } => match location {
                Some(location) if self.phase == Phase::Creating => {
                    self.phase = Phase::Redirecting;
                    self.window.clear();
                    self.events.push_back(Event::Redirect {
                        status: Some(status),
                        location,
                    });
                }
                location => self.attempt_failed(index, Cause::Redirect(location), None, None, now),
            },
            Verdict::Fatal(cause) => self.attempt_failed(index, cause, None, None, now),
        }
    }

    fn on_response(&mut self, index: usize, response: Box<Response>, now: Instant) {
        if self.phase == Phase::Creating {
            self.on_creation(index, &response, now);
            return;
        }
        self.measure(index, now);
        if response.kind == ResponseType::Error {
            self.on_recoverable(index, now);
            return;
        }
        let is_own_terminate = self.answer(index, response, now);
        if is_own_terminate && let Some(closing) = &mut self.closing {
            closing.confirmed = true;
        }
        self.process(now);
    }

    /// Parks the reply. True if it answers our terminate request.
    fn answer(&mut self, index: usize, mut response: Box<Response>, now: Instant) -> bool {
        let limits = self.options.limits;
        let Some(entry) = self.window.get_mut(index) else {
            return false;
        };
        let rid = entry.rid;
        // Only ejabberd marks replies so, and only to a repeat (cm-quirks 4.3).
        if entry.copies > 1 && response.attributes.rid == Some(rid.0) {
            drop_echo(&mut response.elements, &entry.body, limits);
        }
        if response.kind == ResponseType::Terminate && self.closing.is_none_or(|c| c.sent.is_none())
        {
            self.drain.get_or_insert(Drain {
                deadline: now + DRAIN_LIMIT,
                reason: CloseReason::Ended,
            });
        }
        entry.state = State::Answered { response, at: now };
        self.doubt(index, now);
        self.closing
            .and_then(|c| c.sent)
            .is_some_and(|(sent, _)| sent == rid)
    }

    /// B-51, cm-quirks 4.2: Prosody and ejabberd store the empty answer that they gave to the first of three
    /// copies, and write what comes next to the second, which may be dead. Such an empty answer is not final.
    fn doubt(&mut self, index: usize, now: Instant) {
        let stores = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager != Manager::Tigase && g.requests.get() > 1);
        let ending = self.drain.is_some() || self.closing.is_some();
        if let Some(entry) = self.window.get_mut(index)
            && let State::Answered { response, .. } = &entry.state
            && response.is_empty()
            && response.kind == ResponseType::Normal
            && entry.copies >= COPIES_IN_DOUBT
            && !entry.recheck
            && stores
            && !ending
        {
            entry.state = State::Unsure;
            self.last_reply = now;
        }
    }

    /// The stored answer did not come, or was no answer: the empty one stands.
    pub(super) fn settle_recheck(&mut self, index: usize, now: Instant) {
        if let Some(entry) = self.window.get_mut(index) {
            entry.state = State::Answered {
                response: Box::new(Response::nothing()),
                at: now,
            };
        }
        self.process(now);
    }

    /// Delivers what has become the oldest, in rid order (B-35).
    fn process(&mut self, now: Instant) {
        while let Some((rid, kind, response)) = self.window.pop_answered() {
            self.last_reply = now;
            self.last_reply_empty = response.is_empty();
            self.last_reply_kind = kind;
            if response.is_empty() && response.kind == ResponseType::Normal {
                self.window.note_release();
            }
            self.deliver(rid, *response);
        }
        self.advance(now);
    }

    /// The session is ending: what is parked goes out although something older never came.
    pub(super) fn process_all(&mut self) {
        while let Some(entry) = self.window.pop_front() {
            if entry.is_in_flight() {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
            }
            if let Some((rid, _, response)) = entry.into_answered() {
                self.deliver(rid, *response);
            }
        }
    }

    pub(super) fn finish_drain(&mut self) {
        self.process_all();
        if let Some(drain) = self.drain.take() {
            self.close(drain.reason);
        }
    }

    fn deliver(&mut self, rid: Rid, response: Response) {
        self.processed = Some(rid);
        self.learn(&response);
        let Response {
            kind,
            condition,
            elements,
            text,
            lang,
            ..
        } = response;
        let mut stream_error = Vec::new();
        let remote = condition == Some(BindingCondition::RemoteStreamError);
        for element in elements {
            let wraps_error = kind == ResponseType::Terminate && !element.is_stanza();
            if wraps_error && (remote || element.local() == "error") {
                stream_error.push(element);
            } else if wraps_error && condition == Some(BindingCondition::SeeOtherUri) {
                // Its <uri/> is the manager's word to us, not payload.
            } else {
                self.expecting = false;
                self.events.push_back(Event::Payload {
                    element,
                    lang: lang.clone(),
                });
            }
        }
        if kind != ResponseType::Terminate {
            return;
        }
        let text = (!text.is_empty()).then_some(text);
        let reason = match condition {
            None if stream_error.is_empty() => CloseReason::Ended,
            None => CloseReason::Condition {
                condition: BindingCondition::RemoteStreamError,
                text,
                stream_error,
            },
            Some(condition) => CloseReason::Condition {
                condition,
                text,
                stream_error,
            },
        };
        if let Some(drain) = &mut self.drain
            && weight(&reason) > weight(&drain.reason)
        {
            drain.reason = reason;
        }
    }

    /// B-29, X-12: `from` and `authid` may come in any reply; everything else of the creation is fixed.
    fn learn(&mut self, response: &Response) {
        if let Some(granted) = &mut self.granted {
            if granted.from.is_none() {
                granted.from.clone_from(&response.attributes.from);
            }
            if granted.authid.is_none() {
                granted.authid.clone_from(&response.attributes.authid);
            }
        }
    }

    /// B-52: the manager asks for this request again, and for all earlier unanswered ones.
    fn on_recoverable(&mut self, index: usize, now: Instant) {
        if self
            .window
            .get(index)
            .is_some_and(|e| e.failures >= MAX_RECOVERIES)
        {
            self.fail(Cause::Unrecoverable);
            return;
        }
        // The answer says that this copy is not being worked on: repeating it is safe.
        if let Some(entry) = self.window.get_mut(index) {
            entry.maybe_received = false;
            entry.state = State::Waiting { not_before: now };
        }
        for earlier in 0..=index {
            if self.window.get(earlier).is_some_and(|e| !e.is_answered()) {
                self.send_again(earlier, now);
            }
        }
        self.check_budget(now);
        self.advance(now);
    }

    fn on_zero_bytes(&mut self, index: usize, now: Instant) {
        let ending = self.drain.is_some() || self.closing.is_some_and(|c| c.sent.is_some());
        if ending {
            let rid = self.window.get(index).map(|e| e.rid);
            if let Some(closing) = &mut self.closing
                && closing.sent.map(|(sent, _)| sent) == rid
            {
                closing.confirmed = true;
            }
            if let Some(entry) = self.window.get_mut(index) {
                // Nothing to deliver; a waiting entry is never repeated while the session ends.
                entry.state = State::Answered {
                    response: Box::new(Response::nothing()),
                    at: now,
                };
            }
            self.process(now);
        } else {
            self.attempt_failed(index, Cause::NotBosh, Some(LEGACY_REPEATS), None, now);
        }
    }

    fn on_legacy_error(&mut self, index: usize, status: u16, now: Instant) {
        let Some(entry) = self.window.get(index) else {
            return;
        };
        if self
            .closing
            .is_some_and(|c| c.sent.is_some_and(|(rid, _)| rid == entry.rid))
        {
            // B-63: the session is gone, which is what we wanted.
            self.on_zero_bytes(index, now);
            return;
        }
        let legacy = self.granted.as_ref().is_some_and(|g| g.ver.is_none());
        let repeated =
            entry.last_cause == Some(Cause::Status(status)) && entry.same_cause >= LEGACY_REPEATS;
        if self.phase == Phase::Open && (legacy || repeated) {
            let condition = match status {
                400 => BindingCondition::BadRequest,
                403 => BindingCondition::PolicyViolation,
                _ => BindingCondition::ItemNotFound,
            };
            self.close(CloseReason::Condition {
                condition,
                text: None,
                stream_error: Vec::new(),
            });
        } else {
            self.attempt_failed(index, Cause::Status(status), None, None, now);
        }
    }

    fn on_creation(&mut self, index: usize, response: &Response, now: Instant) {
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
            inactivity: attributes.inactivity.filter(|d| !d.is_zero()),
            polling: attributes.polling.unwrap_or_default(),
            ver: theirs.map(|theirs| ours.map_or(theirs, |ours| ours.min(theirs))),
            acks: attributes.ack.is_some() && attributes.ack == rid,
            from: attributes.from.clone(),
            authid: attributes.authid.clone(),
            manager: fingerprint(response),
        })
    }

    /// Keeps the shortest recent exchange as the round trip; it creeps up so that a slower network shows.
    fn measure(&mut self, index: usize, now: Instant) {
        let Some(State::InFlight {
            written: Some(at), ..
        }) = self.window.get(index).map(|e| &e.state)
        else {
            return;
        };
        let sample = now.saturating_duration_since(*at);
        self.round_trip = Some(
            self.round_trip
                .map_or(sample, |rtt| sample.min(rtt + rtt / 16)),
        );
    }
}

impl Response {
    /// A reply without content.
    fn nothing() -> Self {
        Self {
            kind: ResponseType::Normal,
            condition: None,
            attributes: body::Attributes::default(),
            elements: Vec::new(),
            text: String::new(),
            lang: None,
        }
    }
}

/// Takes out of a reply what the client itself sent under that request: same name, `id`, `to` and `type`, and
/// no `from`, which everything that a server delivers has.
fn drop_echo(elements: &mut Vec<Element>, sent: &Bytes, limits: Limits) {
    let Ok(sent) = body::decode(sent, limits) else {
        return;
    };
    let key = |element: &Element| {
        ["id", "to", "type"].map(|name| element.attr(name).map(std::borrow::Cow::into_owned))
    };
    elements.retain(|element| {
        let echoed = element.attr("from").is_none()
            && sent
                .elements
                .iter()
                .any(|own| own.local() == element.local() && key(own) == key(element));
        !echoed
    });
}

/// How much an explanation tells: an error of the XMPP stream most, `other-request` only that another
/// reply knows more (C-07).
fn weight(reason: &CloseReason) -> u8 {
    match reason {
        CloseReason::Condition { stream_error, .. } if !stream_error.is_empty() => 4,
        CloseReason::Condition {
            condition: BindingCondition::OtherRequest,
            ..
        } => 1,
        CloseReason::Condition { .. } => 3,
        CloseReason::Ended | CloseReason::Terminated { .. } | CloseReason::Failed(_) => 0,
    }
}

/// Guesses the manager from its creation reply (cm-quirks section 3).
fn fingerprint(response: &Response) -> Manager {
    let attributes = &response.attributes;
    if attributes.restartlogic && attributes.polling == Some(Duration::from_secs(2)) {
        Manager::Ejabberd
    } else if attributes.host && attributes.maxpause == Some(Duration::from_secs(10)) {
        Manager::Tigase
    } else {
        Manager::Other
    }
}
