//! What a reply does: ordinary responses in rid order, recoverable errors, the end.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::{self, Response, ResponseType};
use super::close::{Cause, CloseReason};
use super::condition::BindingCondition;
use super::ending::{DRAIN_LIMIT, Drain, weight};
use super::failure::HttpReply;
use super::params::{Manager, Rid};
use super::session::{Event, Phase, Session};
use super::verdict::{Verdict, judge};
use super::window::{Entry, RequestKey, State};
use crate::xml::{Element, Limits};

/// From so many copies on, an empty answer proves nothing (cm-quirks 4.2).
const COPIES_IN_DOUBT: u32 = 3;
/// How often one request is repeated because the manager asked (`type='error'`).
const MAX_RECOVERIES: u32 = 10;
/// How often a request is repeated that the manager calls unknown while a newer one is under way.
const MAX_REFUSALS: u32 = 2;
/// Least pause before that, in which the newer one may be answered.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// How often an HTTP error that an intermediary may have made up is repeated (B-58).
const LEGACY_REPEATS: u32 = 2;
/// Shortest time in which a manager that acknowledges requests is believed not to have one (B-48).
const ACK_PATIENCE: Duration = Duration::from_millis(250);

impl Session {
    pub(super) fn on_reply(&mut self, index: usize, reply: &HttpReply, now: Instant) {
        let verdict = judge(reply, self.options.limits);
        if self.window.get(index).is_some_and(|entry| entry.recheck) {
            match verdict {
                Verdict::Response(response) if response.kind == ResponseType::Normal => {
                    let copies = self.window.get(index).map_or(0, |e| e.copies);
                    // Two copies: the first and this question. Somebody else made the one that was answered.
                    self.boxed |= copies == 2 && !response.is_empty();
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

    /// Prosody forgets a request whose connection broke while it was held, and calls its repeat unknown when a
    /// newer one has come meanwhile; the session lives (cm-quirks section 5).
    fn is_refusal_of_old(&self, index: usize, response: &Response) -> bool {
        let prosody = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Prosody);
        prosody
            && response.kind == ResponseType::Terminate
            && response.condition == Some(BindingCondition::ItemNotFound)
            && self.drain.is_none()
            && self.closing.is_none_or(|c| c.sent.is_none())
            && self
                .window
                .get(index)
                .is_some_and(|e| e.copies > 1 && e.refusals < MAX_REFUSALS)
            && self.window.get(index + 1).is_some()
    }

    /// The newer request decides. If that is answered, this one was worked on before it, and its answer was
    /// empty; if not, both are asked for again.
    fn on_refusal_of_old(&mut self, index: usize, now: Instant) {
        let newer_answered = self.window.iter().skip(index + 1).any(Entry::is_answered);
        if newer_answered {
            return self.settle_recheck(index, now);
        }
        let pause = self.repeat_pause(index, None).max(REFUSAL_PAUSE);
        if let Some(entry) = self.window.get_mut(index) {
            entry.refusals += 1;
            entry.failures += 1;
            entry.state = State::Waiting {
                not_before: now + pause,
            };
        }
        self.advance(now);
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
        self.expect_older(index, now);
    }

    /// A newer request was answered, so the session lives: older ones that the manager calls unknown were worked
    /// on, and their answers were empty.
    fn settle_refused(&mut self, index: usize, now: Instant) {
        for entry in self.window.iter_mut().take(index) {
            if entry.refusals == 0 || entry.is_answered() {
                continue;
            }
            if entry.is_in_flight() {
                self.aborts.push_back(RequestKey {
                    rid: entry.rid,
                    attempt: entry.attempts,
                });
            }
            entry.state = State::Answered {
                response: Box::new(Response::nothing()),
                at: now,
                confirms: true,
            };
        }
    }

    /// How soon an answer must be here that the manager has given, or can give from its store (B-56).
    fn answer_limit(&self) -> Option<Duration> {
        let wait = self.granted.as_ref()?.wait;
        Some(Duration::from_secs(3).max(wait / 10))
    }

    /// The request just written is a repeat behind which a newer one was answered or is held: its answer is in
    /// the manager's store, or comes at once (B-56, T-08).
    pub(super) fn expect_stored(&mut self, index: usize, now: Instant) {
        let newer = |test: fn(&Entry) -> bool| self.window.iter().skip(index + 1).any(test);
        let answered = newer(Entry::is_answered);
        let held = newer(|e| e.written().is_some() || e.distrusted);
        let limit = match (answered, held) {
            (true, _) => self.answer_limit(),
            (false, true) => self.release_limit(),
            (false, false) => None,
        };
        if let Some(limit) = limit
            && let Some(entry) = self.window.get_mut(index)
            && let State::InFlight { due, .. } = &mut entry.state
        {
            *due = (*due).min(now + limit);
        }
    }

    /// B-56: answers come in rid order, so an older one that is not here soon is lost.
    fn expect_older(&mut self, index: usize, now: Instant) {
        let Some(limit) = self.answer_limit() else {
            return;
        };
        for entry in self.window.iter_mut().take(index) {
            if let State::InFlight {
                written: Some(_),
                due,
            } = &mut entry.state
            {
                *due = (*due).min(now + limit);
            }
        }
    }

    /// B-51, cm-quirks 4.2: Prosody and ejabberd store the empty answer that they gave to the first of three
    /// copies, and write what comes next to the second, which may be dead. Such an empty answer is not final.
    /// Nor is one that comes without a reason, long before `wait` is over and with no newer request out: a
    /// proxy may have sent the request twice (P-10), and what comes next goes to the copy that nobody reads. A
    /// proxy that was caught at it leaves every empty answer in doubt.
    fn doubt(&mut self, index: usize, now: Instant) {
        let stores = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager != Manager::Tigase && g.requests.get() > 1);
        let ending = self.drain.is_some() || self.closing.is_some();
        let newest = self.window.get(index + 1).is_none();
        let patience = self
            .granted
            .as_ref()
            .filter(|g| matches!(g.manager, Manager::Prosody | Manager::Ejabberd))
            .filter(|g| self.bound && !g.is_polling())
            .map(|g| g.wait * 3 / 4);
        // Sooner than any answer ever came: the newer request cannot have been the reason.
        let since = self
            .window
            .get(index + 1)
            .and_then(Entry::written)
            .map(|at| now.saturating_duration_since(at));
        let too_soon = since.zip(self.round_trip).is_some_and(|(s, rtt)| s < rtt);
        let written = self.window.get(index).and_then(|e| e.answered_after(now));
        let reasonless = patience.zip(written).is_some_and(|(p, held)| held < p)
            && (newest || self.boxed || too_soon);
        if let Some(entry) = self.window.get_mut(index)
            && let State::Answered { response, .. } = &entry.state
            && response.is_empty()
            && response.kind == ResponseType::Normal
            && (entry.copies >= COPIES_IN_DOUBT || reasonless)
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
                confirms: true,
            };
        }
        self.process(now);
    }

    /// Delivers what has become the oldest, in rid order (B-35).
    pub(super) fn process(&mut self, now: Instant) {
        let before = self.processed;
        while let Some(answered) = self.window.pop_answered() {
            let response = answered.response;
            self.last_reply = now;
            self.last_reply_empty = response.is_empty();
            self.last_reply_kind = answered.kind;
            self.last_try = false;
            if response.is_empty() && response.kind == ResponseType::Normal {
                self.window.note_release();
            }
            if answered.confirms && answered.payloads > 0 {
                self.events.push_back(Event::Confirmed(answered.payloads));
            }
            self.deliver(answered.rid, *response);
        }
        if self.processed != before {
            self.processed = self.processed.max(self.released);
            self.restart_clock(now);
        }
        self.advance(now);
    }

    /// An older request is done with: only now does the manager begin to hold the next one.
    fn restart_clock(&mut self, now: Instant) {
        let due = self.reply_due(0, now);
        let newer = self.window.iter().skip(1).any(|e| e.written().is_some());
        let limit = self.release_limit().filter(|_| newer);
        if let Some(entry) = self.window.get_mut(0)
            && !entry.recheck
            && let State::InFlight {
                written: Some(_),
                due: reply_due,
            } = &mut entry.state
        {
            *reply_due = limit.map_or(due, |limit| due.min(now + limit));
        }
    }

    /// Tigase keeps no answers: what the repeat of this request will bring is newer than what is parked behind
    /// it (cm-quirks section 9).
    pub(super) fn release_parked(&mut self, index: usize, now: Instant) {
        let tigase = self
            .granted
            .as_ref()
            .is_some_and(|g| g.manager == Manager::Tigase);
        if !tigase {
            return;
        }
        for answered in self.window.take_answered_behind(index) {
            self.last_reply = now;
            if answered.confirms && answered.payloads > 0 {
                self.events.push_back(Event::Confirmed(answered.payloads));
            }
            let processed = self.processed;
            self.released = self.released.max(Some(answered.rid));
            self.deliver(answered.rid, *answered.response);
            self.processed = processed;
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

    /// B-52: the manager asks for this request again, and for all earlier unanswered ones.
    fn on_recoverable(&mut self, index: usize, now: Instant) {
        if self
            .window
            .get(index)
            .is_some_and(|e| e.recoveries >= MAX_RECOVERIES)
        {
            self.fail(Cause::Unrecoverable);
            return;
        }
        // The answer says that this copy is not being worked on: repeating it is safe.
        if let Some(entry) = self.window.get_mut(index) {
            entry.maybe_received = false;
            entry.recoveries += 1;
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
            self.note_terminate_answer(index, false);
            if let Some(entry) = self.window.get_mut(index) {
                // Nothing to deliver; a waiting entry is never repeated while the session ends.
                entry.state = State::Answered {
                    response: Box::new(Response::nothing()),
                    at: now,
                    confirms: false,
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
            self.note_terminate_answer(index, true);
            self.answer(index, Box::new(Response::nothing()), now);
            self.process(now);
            return;
        }
        if self.drain.is_some() || self.closing.is_some_and(|c| c.sent.is_some()) {
            return self.on_zero_bytes(index, now);
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

    /// Keeps the shortest recent exchange as the round trip; it creeps up so that a slower network shows.
    pub(super) fn measure(&mut self, index: usize, now: Instant) {
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
