//! One BOSH session on the manager's side: requests in rid order, answers oldest first, copies for repeats.

mod answer;
mod end;
mod repeat;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sha1::{Digest as _, Sha1};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fault::Kind;
use super::profile::{Pause, Profile, WrongRid};
use super::reply::Answer;
use super::request::Request;
use crate::xmpp::{Out, Stream};

type Reply = oneshot::Sender<Answer>;

/// A request whose answer is still owed.
struct Held {
    /// Which exchange carries it.
    id: usize,
    rid: u64,
    reply: Reply,
    since: Instant,
    kind: Kind,
    /// The client's own payload, to be sent back with an empty answer (cm-quirks 4.3).
    echo: Option<String>,
}

/// A request that came before its turn.
struct Early {
    id: usize,
    request: Request,
    reply: Reply,
}

/// What a session takes in.
pub(super) enum Command {
    /// A request of its client.
    Request {
        /// Which exchange carries it.
        id: usize,
        request: Box<Request>,
        /// The client is overactive.
        overactive: bool,
        reply: Reply,
    },
    /// The client has closed the connection of this exchange.
    Abandon(usize),
    /// The session's end was told elsewhere; what is held is answered empty.
    Forget,
    /// The manager ends the session.
    End { condition: String, inner: String },
}

pub(super) struct Session {
    pub(super) sid: String,
    profile: Profile,
    wait: Duration,
    hold: usize,
    next_rid: u64,
    held: VecDeque<Held>,
    early: BTreeMap<u64, Early>,
    /// Processed, unanswered, and nobody waits for the answer.
    abandoned: BTreeMap<u64, Kind>,
    /// Bodies sent, by rid.
    stored: BTreeMap<u64, Answer>,
    /// Payload of the last requests, where nothing is put in order.
    recent: BTreeMap<u64, Vec<String>>,
    pending: VecDeque<String>,
    stream: Stream,
    pub(super) out: UnboundedReceiver<Out>,
    features_owed: bool,
    key: Option<String>,
    silent: Vec<Reply>,
    last_seen: Instant,
    inactivity: Duration,
    /// What the next request is told, when the session has ended while none was held.
    last_word: Option<Answer>,
    /// Answers that go out when nobody can find the session any more.
    pub(super) parting: Vec<(Reply, Answer)>,
    pub(super) over: bool,
}

impl Session {
    /// A session that begins with this creation request.
    pub(super) fn new(
        sid: String,
        request: &Request,
        terms: (u64, u64),
        profile: Profile,
        link: (Stream, UnboundedReceiver<Out>),
    ) -> Self {
        let inactivity = Duration::from_secs(profile.inactivity);
        let (stream, out) = link;
        Self {
            sid,
            wait: Duration::from_secs(terms.0),
            hold: usize::try_from(terms.1).unwrap_or(1),
            next_rid: request.rid + 1,
            held: VecDeque::new(),
            early: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            stored: BTreeMap::new(),
            recent: BTreeMap::new(),
            pending: VecDeque::new(),
            stream,
            out,
            features_owed: true,
            key: request.new_key.clone().filter(|_| profile.keys),
            silent: Vec::new(),
            last_seen: Instant::now(),
            inactivity,
            last_word: None,
            parting: Vec::new(),
            over: false,
            profile,
        }
    }

    pub(super) fn features(&mut self) -> String {
        self.features_owed = false;
        self.stream.features()
    }

    /// The creation request was answered.
    pub(super) fn opened(&mut self, rid: u64, answer: &Answer) {
        if !self.profile.restart_apart {
            self.store(rid, answer.clone());
        }
        self.last_seen = Instant::now();
    }

    /// Requests that are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.held.len() + self.early.len()
    }

    pub(super) fn handle(&mut self, command: Command) {
        match command {
            Command::Request {
                id,
                request,
                overactive,
                reply,
            } => self.request(id, *request, overactive, reply),
            Command::Abandon(id) => {
                if let Some(at) = self.held.iter().position(|held| held.id == id)
                    && let Some(held) = self.held.remove(at)
                {
                    self.abandoned.insert(held.rid, held.kind);
                    self.last_seen = Instant::now();
                }
            }
            Command::Forget => {
                self.pending.clear();
                self.release(0);
                self.stream.go_offline();
                self.over = true;
            }
            Command::End { condition, inner } => self.end(Some(&condition), &inner, None),
        }
        self.settle();
    }

    fn request(&mut self, id: usize, request: Request, overactive: bool, reply: Reply) {
        self.last_seen = Instant::now();
        let rid = request.rid;
        if let Some(last) = self.last_word.take() {
            self.parting.push((reply, last));
            self.over = true;
        } else if overactive && self.profile.strict_window {
            self.hold(id, &request, reply);
            self.end(Some("policy-violation"), "", Some(rid));
        } else if let Some(stored) = self.stored.get(&rid) {
            send(reply, stored.clone());
        } else if self.held.iter().any(|held| held.rid == rid) && self.profile.stored > 0 {
            self.supersede(id, &request, reply);
        } else if self.abandoned.remove(&rid).is_some() {
            self.hold(id, &request, reply);
        } else if let Some(early) = self.early.remove(&rid) {
            self.parked_again(early, id, request, reply);
        } else if self.recent.contains_key(&rid) {
            self.repeated_without_store(id, &request, reply);
        } else if rid < self.next_rid && self.profile.in_order {
            match self.profile.wrong_rid {
                WrongRid::EndsOrSilent => self.silent.push(reply),
                _ => self.wrong_rid(id, &request, reply),
            }
        } else if rid >= self.next_rid + self.profile.requests as u64 + u64::from(request.terminate)
        {
            self.wrong_rid(id, &request, reply);
        } else if rid > self.next_rid && self.profile.in_order {
            self.early.insert(rid, Early { id, request, reply });
        } else {
            self.run(id, &request, reply);
            if !self.profile.stalls {
                self.run_early();
            }
        }
    }

    fn hold(&mut self, id: usize, request: &Request, reply: Reply) {
        let held = Held {
            id,
            rid: request.rid,
            reply,
            since: Instant::now(),
            kind: request.kind(),
            echo: None,
        };
        let at = self
            .held
            .iter()
            .position(|other| other.rid > held.rid)
            .unwrap_or(self.held.len());
        self.held.insert(at, held);
    }

    /// XEP-0124 section 15.4.
    fn key_fits(&mut self, request: &Request) -> bool {
        let Some(expected) = &self.key else {
            return true;
        };
        let Some(key) = &request.key else {
            return false;
        };
        let digest: String = Sha1::digest(key.as_bytes())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        let fits = digest.eq_ignore_ascii_case(expected);
        self.key = request.new_key.clone().or_else(|| request.key.clone());
        fits
    }

    fn run(&mut self, id: usize, request: &Request, reply: Reply) {
        let rid = request.rid;
        self.next_rid = self.next_rid.max(rid + 1);
        if !self.profile.in_order {
            self.recent.insert(rid, request.children.clone());
            while self.recent.len() > 16 {
                self.recent.pop_first();
            }
        }
        if let Some(pause) = request.pause {
            match self.profile.pause {
                Pause::Silent => return self.silent.push(reply),
                Pause::Works => {
                    self.hold(id, request, reply);
                    self.inactivity = Duration::from_secs(pause);
                    return self.release(0);
                }
                Pause::Poll => {}
            }
        } else {
            self.inactivity = Duration::from_secs(self.profile.inactivity);
        }
        self.hold(id, request, reply);
        if !self.key_fits(request) {
            return self.end(Some("item-not-found"), "", Some(rid));
        }
        let restarts = if self.profile.literal_restart {
            request.literal_restart
        } else {
            request.restart
        };
        let triggers = restarts || self.profile.any_request_restarts && !request.terminate;
        if triggers
            && self.stream.is_authenticated()
            && self.stream.jid().is_none()
            && (self.features_owed || restarts && self.profile.restarts_again)
        {
            let features = self.features();
            self.pending.push_back(features);
            if self.profile.restart_apart {
                return self.answer_apart(rid);
            }
        }
        if !(restarts && self.profile.literal_restart) {
            for child in &request.children {
                self.stream.feed(child);
            }
        }
        self.collect();
        if !self.profile.features_at_once
            && self.features_owed
            && !self.stream.is_authenticated()
            && request.children.is_empty()
        {
            let features = self.features();
            self.pending.push_back(features);
        }
        if request.terminate {
            self.end(None, "", Some(rid));
        }
    }

    fn run_early(&mut self) {
        while let Some(early) = self.early.remove(&self.next_rid) {
            self.run(early.id, &early.request, early.reply);
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        match self.held.front() {
            Some(held) => held.since + self.wait,
            None => self.last_seen + self.inactivity,
        }
    }

    /// Answers what has been held for `wait`; ends the session after `inactivity`.
    pub(super) fn expire(&mut self) {
        if self.deadline() > Instant::now() {
            return;
        }
        match self.held.pop_front() {
            Some(held) => self.answer(held, ""),
            None => {
                self.stream.go_offline();
                self.over = true;
            }
        }
    }
}

fn send(reply: Reply, answer: Answer) {
    // The client may have gone; it will ask again.
    let _ = reply.send(answer);
}
