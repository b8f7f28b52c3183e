//! What a reply does: ordinary responses in rid order, recoverable errors, the end.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::{self, RequestKind, Response, ResponseType};
use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::ending::{DRAIN_LIMIT, Drain, weight};
use super::failure::HttpReply;
use super::params::{Manager, Rid};
use super::session::{Event, Phase, Session};
use super::verdict::{Verdict, judge};
use super::window::{Entry, State};
use crate::xml::{Element, Limits};

/// Shortest time in which a manager that acknowledges requests is believed not to have one (B-48).
const ACK_PATIENCE: Duration = Duration::from_millis(250);

impl Session {
    pub(super) fn on_reply(&mut self, index: usize, reply: &HttpReply, now: Instant) {
        let verdict = judge(reply, self.options.limits);
        if self.window.get(index).is_some_and(|entry| entry.recheck) {
            match verdict {
                Verdict::Response(response)
                    if response.is_empty()
                        && response.kind == ResponseType::Normal
                        && self.window.waits_behind(index) =>
                {
                    self.note_life(now);
                    if self.window.lost_behind(index) {
                        self.ask_again(index, Duration::ZERO, now);
                    } else {
                        self.wait_for_next(index, now);
                    }
                }
                Verdict::Response(response) if response.kind == ResponseType::Normal => {
                    let copies = self.window.get(index).map_or(0, |e| e.copies);
                    // Two copies: the first and this question. Somebody else made the one that was answered.
                    self.way.repeats |= copies == 2 && !response.is_empty();
                    self.answer(index, response, now);
                    self.process(now);
                }
                // Something on the way said it, or spoilt the answer: the manager was not asked.
                Verdict::Repeat { cause, .. } => {
                    self.attempt_failed(index, cause, None, None, now);
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
                match cause {
                    Cause::Status(502..=504) => self.note_cut(index, now),
                    // A body that breaks off is a sign of life all the same.
                    Cause::NoReply => self.note_life(now),
                    _ => {}
                }
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
            self.note_life(now);
            // The copy that was seen last is answered; this one's is not our doing.
            self.way.repeats |= self.window.get(index).is_some_and(|e| e.copies == 1);
            self.on_recoverable(index, now);
            return;
        }
        if self.is_refusal_of_old(index, &response) {
            return self.on_refusal_of_old(index, now);
        }
        if self.is_of_unknown_stream(&response) {
            return self.fail(Cause::UnknownStream);
        }
        let (ack, report) = (response.attributes.ack, response.attributes.report);
        let rid = self.window.get(index).map(|e| e.rid.0);
        let unknown = response.kind == ResponseType::Terminate
            && response.condition == Some(BindingCondition::ItemNotFound);
        self.note_terminate_answer(index, unknown);
        self.answer(index, response, now);
        if let Some(rid) = rid {
            self.heed_acks(rid, ack, report, now);
        }
        self.process(now);
    }

    /// B-69: payload that is not for our stream must not reach the client.
    fn is_of_unknown_stream(&self, response: &Response) -> bool {
        let ours = self.granted.as_ref().and_then(|g| g.stream.as_deref());
        let named = response.attributes.stream.as_deref();
        !response.is_empty() && named.is_some() && ours.is_some() && named != ours
    }

    /// What the manager says about requests and replies (XEP-0124 sections 9.1 and 9.2): a request that it
    /// should have, and has not, or a reply of its own that it thinks lost, is asked for again at once.
    fn heed_acks(&mut self, rid: u64, ack: Option<u64>, report: Option<u64>, now: Instant) {
        let Some(granted) = self.granted.as_ref().filter(|_| self.drain.is_none()) else {
            return;
        };
        // Tigase's acks are the next of a queue and say nothing (cm-quirks section 9).
        let acks = granted.acks && granted.manager != Manager::Tigase;
        // B-46: all older replies are here, or it would not be reported.
        if let Some(at) = report.and_then(|report| self.unanswered_at(|r| r == report)) {
            self.send_again(at, now);
        }
        if !acks {
            return;
        }
        // Left out, it means the request that is being answered.
        let acked = ack.unwrap_or(rid);
        self.acked = self.acked.max(Some(acked));
        let patience = self.round_trip.unwrap_or_default() * 2;
        let patience = patience.max(ACK_PATIENCE);
        let missing = self.unanswered_at(|r| r > acked).filter(|at| {
            let written = self.window.get(*at).and_then(Entry::written);
            written.is_some_and(|at| now.saturating_duration_since(at) > patience)
        });
        if let Some(at) = missing {
            self.send_again(at, now);
        }
    }

    /// The oldest request under way whose rid is such.
    fn unanswered_at(&self, such: impl Fn(u64) -> bool) -> Option<usize> {
        self.window
            .iter()
            .position(|e| such(e.rid.0) && e.is_in_flight())
    }

    /// Parks the reply.
    pub(super) fn answer(&mut self, index: usize, mut response: Box<Response>, now: Instant) {
        let limits = self.options.limits;
        let Some(entry) = self.window.get_mut(index) else {
            return;
        };
        let rid = entry.rid;
        // Only ejabberd marks replies so, and only to a repeat, be it a proxy's (cm-quirks 4.3, P-10).
        if response.attributes.rid == Some(rid.0) {
            self.way.repeats |= entry.copies == 1;
            drop_echo(&mut response.elements, &entry.body, limits);
        }
        if response.kind == ResponseType::Terminate && self.closing.is_none_or(|c| c.sent.is_none())
        {
            self.drain.get_or_insert(Drain {
                deadline: now + DRAIN_LIMIT,
                reason: CloseReason::Ended,
            });
        }
        if let Some(at) = entry.written() {
            self.longest_hold = self.longest_hold.max(now.saturating_duration_since(at));
        }
        let confirms = response.kind == ResponseType::Normal;
        entry.state = State::Answered {
            response,
            at: now,
            confirms,
        };
        self.note_life(now);
        self.doubt(index, now);
        if confirms {
            self.settle_refused(index, now);
        }
        self.settle_asked(index, now);
        self.expect_older(index, now);
    }

    /// Delivers what has become the oldest, in rid order (B-35).
    pub(super) fn process(&mut self, now: Instant) {
        let before = self.processed;
        while let Some(answered) = self.window.pop_answered() {
            let response = answered.response;
            self.last_reply = now;
            self.last_reply_empty = response.is_empty();
            self.last_reply_kind = answered.kind;
            self.last_reply_stored = answered.repeated;
            self.last_try = false;
            if response.is_empty() && response.kind == ResponseType::Normal {
                self.window.note_release();
                // Openfire answered a lost restart before, with what it does not keep (cm-quirks 4.4).
                let restart = answered.kind == RequestKind::Restart && answered.repeated;
                self.restart |= restart && self.is_openfire() && !self.window.has_restart();
            }
            self.confirm(answered.payloads, answered.confirms);
            self.deliver(answered.rid, *response);
        }
        if self.processed != before {
            // What was released early counts once nothing older is missing.
            let before_next = self.window.get(0).and_then(|e| e.rid.0.checked_sub(1));
            let released = self
                .released
                .map(|r| before_next.map_or(r, |b| r.min(Rid(b))));
            self.processed = self.processed.max(released);
            self.restart_clock(now);
        }
        self.advance(now);
    }

    /// The oldest request that is not done with is answered: by that the manager has its payload, or has not. Behind
    /// one that it has not, an answer proves nothing: Openfire answers a request whose elder is missing when its `wait`
    /// is over, without a look at it.
    pub(super) fn confirm(&mut self, payloads: usize, has_it: bool) {
        self.unproved |= !has_it;
        if payloads > 0 && !self.unproved {
            self.events.push_back(Event::Confirmed(payloads));
        }
    }

    pub(super) fn deliver(&mut self, rid: Rid, response: Response) {
        self.processed = Some(rid);
        self.learn(&response);
        let moved = response.condition == Some(BindingCondition::SeeOtherUri);
        if let Some(location) = response.other_uri().filter(|_| moved) {
            self.events.push_back(Event::Moved(location));
        }
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

    /// Keeps the shortest recent exchange as the round trip. A request that was held says nothing by itself; what it
    /// took since the newer one that made the manager let go of it does, though that may be chance: a little.
    pub(super) fn measure(&mut self, index: usize, now: Instant) {
        let Some(written) = self.window.get(index).and_then(Entry::written) else {
            return;
        };
        let since = |at| now.saturating_duration_since(at);
        let own = since(written);
        let newer = self.window.iter().skip(index + 1);
        let release = newer.filter_map(Entry::written).min().map(since);
        let Some(known) = self.round_trip.filter(|known| own > *known) else {
            self.round_trip = Some(own);
            return;
        };
        let step = known / 16;
        let about = match release {
            Some(release) => release.clamp(known - step, known + step),
            // A slower network shows while nothing is held.
            None if !self.bound => own.min(known + step),
            None => known,
        };
        self.round_trip = Some(about);
    }
}

impl Response {
    /// A reply without content.
    pub(super) fn nothing() -> Self {
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
