//! What a client owes the protocol, judged from what it sent and what it was given; knows nothing of the session's
//! own state.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};

use crate::manager::Kind;
use crate::plan::Plan;
use crate::request::Request;
use crate::{SECOND, Time};

/// Requests that are remembered, answered or not: more than can be asked for again.
const REMEMBERED: usize = 16;

struct Sent {
    body: Bytes,
    answered: bool,
    attempts: u32,
    /// Attempts of which nothing left the house.
    kept_home: u32,
}

/// The judge of one client.
pub(crate) struct Oracle {
    kind: Kind,
    /// Requests that may be unanswered.
    requests: usize,
    keyed: bool,
    /// What the next key's hash must be.
    expected_key: Option<String>,
    /// When the last whole answer came, and whether nothing was inside.
    last_answer: (Time, bool),
    open: bool,
    bound: bool,
    sent: BTreeMap<u64, Sent>,
    last_send: Time,
    /// When a request went out that was no repeat.
    last_new: Time,
    ending_since: Option<Time>,
    terminated: bool,
    /// The terminate request went out as one more than allowed.
    squeezed: bool,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            kind: plan.kind,
            requests: if plan.polling { 1 } else { 2 },
            keyed: plan.keys,
            expected_key: None,
            last_answer: (0, false),
            open: false,
            bound: false,
            sent: BTreeMap::new(),
            last_send: 0,
            last_new: 0,
            ending_since: None,
            terminated: false,
            squeezed: false,
        }
    }

    /// The session exists: creation attempts before this one are forgotten.
    pub(crate) fn opened(&mut self) {
        self.open = true;
        while self.sent.len() > 1 {
            self.sent.pop_first();
        }
    }

    /// Whether the client has had an answer to this request.
    pub(crate) fn has_answer(&self, rid: u64) -> bool {
        self.sent.get(&rid).is_none_or(|sent| sent.answered)
    }

    /// The client is bound.
    pub(crate) fn bound(&mut self) {
        self.bound = true;
    }

    /// The client wants to end the session.
    pub(crate) fn ending(&mut self, now: Time) {
        self.ending_since.get_or_insert(now);
    }

    /// A whole answer of the manager was handed to the client.
    pub(crate) fn answered(&mut self, rid: u64, empty: bool, now: Time) {
        self.last_answer = (now, empty);
        if let Some(sent) = self.sent.get_mut(&rid) {
            sent.answered = true;
        }
    }

    fn unanswered(&self) -> usize {
        self.sent.values().filter(|s| !s.answered).count()
    }

    /// Whether the terminate request went out beside as many others as are allowed.
    pub(crate) fn squeezed(&self) -> bool {
        self.squeezed
    }

    /// The client was told that nothing of this attempt left the house.
    pub(crate) fn never_sent(&mut self, rid: u64) {
        if let Some(sent) = self.sent.get_mut(&rid) {
            sent.kept_home += 1;
        }
    }

    /// A request goes out.
    pub(crate) fn sends(
        &mut self,
        body: &Bytes,
        request: &Request,
        now: Time,
    ) -> Result<(), String> {
        let result = if self.sent.contains_key(&request.rid) {
            self.repeat(body, request)
        } else {
            self.fresh(body, request, now)
        };
        self.last_send = now;
        result
    }

    fn repeat(&mut self, body: &Bytes, request: &Request) -> Result<(), String> {
        let Some(sent) = self.sent.get_mut(&request.rid) else {
            return Ok(());
        };
        if sent.body != body {
            return Err(format!("the repeat of rid {} differs", request.rid));
        }
        sent.attempts += 1;
        Ok(())
    }

    fn fresh(&mut self, body: &Bytes, request: &Request, now: Time) -> Result<(), String> {
        let rid = request.rid;
        if !request.strange.is_empty() {
            return Err(format!("rid {rid} has {:?}", request.strange));
        }
        self.keys(request)?;
        if let Some((last, _)) = self.sent.last_key_value()
            && rid != last + 1
        {
            return Err(format!("rid {rid} after {last}"));
        }
        if self.open == request.is_creation() {
            return Err(format!("rid {rid}: creation or not?"));
        }
        if self.open {
            self.window(request, now)?;
            self.ack(request)?;
        }
        self.last_new = now;
        self.terminated |= request.terminate;
        self.squeezed |= request.terminate && self.unanswered() >= self.requests;
        let sent = Sent {
            body: body.clone(),
            answered: false,
            attempts: 1,
            kept_home: 0,
        };
        self.sent.insert(rid, sent);
        while self.sent.len() > REMEMBERED
            && self.sent.first_key_value().is_some_and(|(_, s)| s.answered)
        {
            self.sent.pop_first();
        }
        Ok(())
    }

    fn window(&self, request: &Request, now: Time) -> Result<(), String> {
        let rid = request.rid;
        if self.terminated {
            return Err(format!("rid {rid} after the terminate request"));
        }
        let unanswered = self.unanswered();
        let waited = self.ending_since.is_some_and(|at| now >= at + 2 * SECOND);
        let allowed = self.requests + usize::from(request.terminate && waited);
        if unanswered >= allowed {
            return Err(format!("rid {rid} beside {unanswered} unanswered requests"));
        }
        // XEP-0124 section 12: an empty answer is not followed by a poll sooner than `polling`, unless the session
        // would end first.
        let (answered, empty) = self.last_answer;
        let soonest = self.last_send + self.kind.polling() * SECOND;
        let latest = answered + self.kind.inactivity() * SECOND * 9 / 10;
        if self.requests == 1 && request.is_empty() && empty && now < soonest.min(latest) {
            return Err(format!("rid {rid} polls too soon"));
        }
        // Before binding a parked reply may be waiting for the older request's answer (T-17).
        // Tigase is made to answer before the next payload goes out.
        let soonest = match self.bound {
            true if self.kind == Kind::Tigase => 0,
            true => self.last_send + (self.kind.polling() + 1) * SECOND,
            false => self.last_new + 2 * SECOND,
        };
        if request.is_empty() && unanswered > 0 && now < soonest {
            return Err(format!(
                "empty rid {rid} beside an unanswered request, {} ms after the last",
                (now - self.last_send) / crate::MILLI
            ));
        }
        Ok(())
    }

    /// XEP-0124 section 15: each key is what the one before it was made from. A creation request begins anew.
    fn keys(&mut self, request: &Request) -> Result<(), String> {
        let (rid, key, new) = (request.rid, &request.key, &request.new_key);
        let expected = self.expected_key.take().filter(|_| !request.is_creation());
        let hash = |key: &String| -> String {
            let digest = Sha1::digest(key);
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let right = match (self.keyed, &expected) {
            (false, _) => key.is_none() && new.is_none(),
            (true, None) => request.is_creation() && key.is_none() && new.is_some(),
            (true, Some(expected)) => key.as_ref().map(hash).as_ref() == Some(expected),
        };
        self.expected_key = new.as_ref().or(key.as_ref()).cloned();
        match right {
            true => Ok(()),
            false => Err(format!("rid {rid} has a wrong key")),
        }
    }

    /// XEP-0124 section 9.2. An empty answer to a request that went out often may be held in doubt, and then does
    /// not count as received.
    fn ack(&self, request: &Request) -> Result<(), String> {
        let rid = request.rid;
        let open = |sent: &Sent| !sent.answered;
        // Nor may one that came without a reason, which a box's repeat of the request may have caused.
        let doubted = |sent: &Sent| {
            let boxed = matches!(self.kind, Kind::Prosody | Kind::Ejabberd);
            !sent.answered || sent.attempts > 1 || boxed
        };
        let first = |test: &dyn Fn(&Sent) -> bool| {
            let found = self.sent.iter().find(|(_, sent)| test(sent));
            found.map(|(rid, _)| *rid)
        };
        let right = match (first(&open), request.ack) {
            (None, None) => true,
            (Some(open), Some(ack)) => ack + 1 == open || self.doubts(ack, &doubted),
            (None, Some(ack)) => self.doubts(ack, &doubted),
            (Some(_), None) => false,
        };
        match right {
            true => Ok(()),
            false => Err(format!("rid {rid} acknowledges {:?}", request.ack)),
        }
    }

    fn doubts(&self, ack: u64, doubted: &dyn Fn(&Sent) -> bool) -> bool {
        let first_open = self.sent.values().position(|sent| !sent.answered);
        let next = self.sent.get(&(ack + 1));
        let behind = self.sent.keys().position(|rid| *rid == ack + 1);
        next.is_some_and(doubted) && behind <= first_open.or(behind)
    }
}
