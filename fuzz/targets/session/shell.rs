//! What drives the session, and what must hold all the time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use roxmltree::Document;
use sha1::{Digest as _, Sha1};
use xbosh::bosh::params::{Manager, RID_LIMIT};
use xbosh::bosh::session::Phase;
use xbosh::bosh::{
    Event, HttpReply, KeySeed, Options, PayloadClass, Request, RequestKey, Requested, Rid, Session,
    Way,
};
use xbosh::xml::Limits;

use super::Tape;
use super::manager::{self, SID};

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 16,
    max_header_bytes: 16 << 10,
    max_depth: 16,
    max_attributes: 64,
};
/// More turns than this without time passing are a loop.
const TURNS: usize = 300;
const MAX_BODY: usize = 1024;

pub(super) struct Shell {
    pub(super) session: Session,
    pub(super) now: Instant,
    /// Attempts whose end the session has not been told.
    flying: Vec<RequestKey>,
    /// Attempts that are over.
    gone: Vec<RequestKey>,
    /// Each request's bytes and attempts.
    requests: BTreeMap<Rid, (Bytes, u32)>,
    /// Class of each payload; its number is its place.
    payloads: Vec<PayloadClass>,
    /// Payloads that have been in a body.
    carried: usize,
    /// The request that carried each of them.
    carriers: Vec<Rid>,
    /// Payloads that the session says have arrived, the oldest first.
    confirmed: usize,
    /// Newest request that the manager has answered for.
    accepted: Option<Rid>,
    /// Whether requests have keys, and what the next one's hash must be (XEP-0124 section 15).
    keyed: bool,
    expected_key: Option<String>,
    /// The last payload delivered: request and number.
    delivered: Option<(u64, u64)>,
    /// An attempt came to nothing.
    lost: bool,
    receiving: bool,
    restart: bool,
    closing: bool,
    terminate_sent: bool,
    opened: bool,
    closed: bool,
}

impl Shell {
    pub(super) fn new(tape: &mut Tape<'_>) -> Self {
        let first_rid = match tape.byte() {
            // The limit is near.
            n @ 0..8 => RID_LIMIT - u64::from(n) * 2,
            n => Rid::first(u64::from(n)).0,
        };
        let wait = Duration::from_secs(tape.pick(&[55, 1, 60, 3600]));
        let hold = tape.pick(&[1, 2, 10]);
        let choice = tape.byte();
        let keyed = choice >= 128;
        let requested = Requested {
            to: "example.org".into(),
            from: None,
            lang: "en".into(),
            ver: "1.6".into(),
            wait,
            hold,
            route: None,
            xmpp_version: !choice.is_multiple_of(4),
        };
        let options = Options {
            way: Way {
                repeats: tape.byte().is_multiple_of(2),
                swallows: false,
            },
            key_seed: keyed.then(|| KeySeed::new([choice; 32])),
            requested,
            max_body_bytes: MAX_BODY,
            https: false,
            buffer_bytes: 4096,
            limits: LIMITS,
            first_rid: Rid(first_rid),
            seed: u64::from(tape.byte()),
        };
        let now = xbosh::driver::clock::now();
        Self {
            session: Session::new(options, now),
            now,
            flying: Vec::new(),
            gone: Vec::new(),
            requests: BTreeMap::new(),
            payloads: Vec::new(),
            carried: 0,
            carriers: Vec::new(),
            confirmed: 0,
            accepted: None,
            keyed,
            expected_key: None,
            delivered: None,
            lost: false,
            receiving: true,
            restart: false,
            closing: false,
            terminate_sent: false,
            opened: false,
            closed: false,
        }
    }

    /// As `bosh/mod.rs` says: events, aborts, requests, until there is nothing.
    pub(super) fn drain(&mut self) {
        for _ in 0..TURNS {
            let mut idle = true;
            while let Some(event) = self.session.poll_event() {
                idle = false;
                self.on_event(event);
            }
            while let Some(key) = self.session.poll_abort() {
                idle = false;
                self.lost = true;
                self.land(key);
            }
            while let Some(request) = self.session.poll_request(self.now) {
                idle = false;
                self.on_request(&request);
            }
            // Past the last rid, asking for a request ends the session.
            let ended = !self.closed && self.session.phase() == Phase::Closed;
            if idle && !ended {
                return;
            }
        }
        panic!("polling never ends");
    }

    fn drain_aborts(&mut self) {
        while let Some(key) = self.session.poll_abort() {
            self.lost = true;
            self.land(key);
        }
    }

    /// The attempt is over.
    fn land(&mut self, key: RequestKey) {
        match self.flying.iter().position(|k| *k == key) {
            Some(index) => self.gone.push(self.flying.remove(index)),
            // An abort of what has ended by itself does no harm.
            None => assert!(self.gone.contains(&key), "{key:?} was never sent"),
        }
    }

    fn on_event(&mut self, event: Event) {
        assert!(!self.closed, "{event:?} behind the end");
        match event {
            Event::Opened => {
                assert!(!std::mem::replace(&mut self.opened, true), "opened twice");
            }
            Event::Redirect { .. } => {
                assert!(!self.opened, "redirected while open");
                assert_eq!(self.session.phase(), Phase::Redirecting);
            }
            Event::Payload { element, .. } => {
                assert!(self.opened, "payload before the session");
                if element.local() == "d"
                    && let Some(id) = element.attr("id")
                    && let Some((rid, number)) = id.split_once('.')
                    && let (Ok(rid), Ok(number)) = (rid.parse(), number.parse())
                {
                    let place = Some((rid, number));
                    // Tigase keeps no answers: once something is repeated, what comes for it is newer than what
                    // waited behind it, and that is let through.
                    let tigase = self
                        .session
                        .granted()
                        .is_some_and(|granted| granted.manager == Manager::Tigase);
                    let newer = tigase && self.lost;
                    assert!(
                        newer || self.delivered < place,
                        "B-35: {id} behind {:?}, from {:?}",
                        self.delivered,
                        self.session.granted()
                    );
                    self.delivered = place;
                }
            }
            Event::Confirmed(count) => {
                assert!(count > 0, "nothing was confirmed");
                self.confirmed += count;
                let carriers = self.carriers.get(..self.confirmed);
                let last = carriers.and_then(|carriers| carriers.iter().max().copied());
                assert!(
                    last.is_some_and(|rid| self.accepted >= Some(rid)),
                    "S-43: {} of {} payloads confirmed, the manager answered for {:?}",
                    self.confirmed,
                    self.carried,
                    self.accepted,
                );
            }
            Event::Cut(_) | Event::Moved(_) => {
                assert!(self.opened, "told of a session that is not there");
            }
            Event::Closed(_) => {
                self.closed = true;
                assert_eq!(self.session.phase(), Phase::Closed);
            }
        }
    }

    fn on_request(&mut self, request: &Request) {
        let RequestKey { rid, attempt } = request.key;
        assert!(!self.closed, "a request behind the end");
        assert!(
            self.flying.iter().all(|key| key.rid != rid),
            "B-51: two copies of {rid} under way"
        );
        self.flying.push(request.key);
        let newest = self.requests.last_key_value().map(|(rid, _)| *rid);
        if let Some((body, attempts)) = self.requests.get_mut(&rid) {
            assert_eq!(*body, request.body, "B-50: a repeat with other bytes");
            *attempts += 1;
            assert_eq!(*attempts, attempt);
            return;
        }
        assert_eq!(attempt, 1);
        if let Some(newest) = newest {
            // An attempt at creation may be given up before it is sent.
            let right = rid.0 == newest.0 + 1 || !self.opened && rid > newest;
            assert!(right, "B-33: {rid} behind {newest}");
        }
        assert!(rid.0 <= RID_LIMIT, "B-34");
        self.requests.insert(rid, (request.body.clone(), 1));
        self.on_new_body(rid, &request.body);
    }

    fn on_new_body(&mut self, rid: Rid, body: &Bytes) {
        let text = std::str::from_utf8(body).expect("UTF-8");
        let document = Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let root = document.root_element();
        assert!(root.has_tag_name((xbosh::bosh::body::NS_HTTPBIND, "body")));
        assert_eq!(root.attribute("rid"), Some(rid.to_string().as_str()));
        let creation = !self.opened;
        assert_eq!(root.attribute("sid"), (!creation).then_some(SID), "{text}");
        if !creation && let Some(ack) = root.attribute("ack") {
            let ack: u64 = ack.parse().expect("a number");
            assert!(
                ack < rid.0 && self.requests.contains_key(&Rid(ack)),
                "{text}"
            );
        }
        self.check_keys(&root, text);
        let restarts = root.attribute((xbosh::bosh::body::NS_XBOSH, "restart")) == Some("true");
        if !creation {
            assert_eq!(
                restarts, self.restart,
                "the restart comes next, alone: {text}"
            );
            self.restart = false;
        }
        assert!(
            !self.terminate_sent,
            "a new request behind terminate: {text}"
        );
        self.terminate_sent = root.attribute("type") == Some("terminate");
        assert!(!self.terminate_sent || self.closing, "{text}");
        let children: Vec<_> = root.children().collect();
        assert!(
            children.len() <= 1 || body.len() <= MAX_BODY,
            "gathered {} bytes",
            body.len()
        );
        for child in &children {
            assert_eq!(
                child.attribute("id"),
                Some(self.carried.to_string().as_str()),
                "payload out of order: {text}"
            );
            assert!(
                children.len() == 1 || self.payloads[self.carried] == PayloadClass::Together,
                "X-01: {text}"
            );
            self.carried += 1;
            self.carriers.push(rid);
        }
        if self.terminate_sent {
            assert_eq!(self.carried, self.payloads.len(), "payload left behind");
        }
    }

    /// Each key is what the one before it was made from; a chain ends by announcing the next (B-65 to B-67). An attempt
    /// at creation begins anew.
    fn check_keys(&mut self, root: &roxmltree::Node<'_, '_>, text: &str) {
        let (key, new) = (root.attribute("key"), root.attribute("newkey"));
        if !self.keyed {
            assert_eq!((key, new), (None, None), "{text}");
            return;
        }
        match self.expected_key.take().filter(|_| self.opened) {
            None => assert!(key.is_none() && new.is_some(), "{text}"),
            Some(expected) => {
                let digest = Sha1::digest(key.unwrap_or_default());
                let hash: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                assert_eq!(hash, expected, "{text}");
            }
        }
        self.expected_key = new.or(key).map(str::to_owned);
    }

    pub(super) fn check(&self) {
        let unanswered = self.session.unanswered();
        let most = match self.session.granted() {
            Some(granted) => usize::from(granted.requests.get()) + usize::from(self.terminate_sent),
            None => 1,
        };
        assert!(unanswered <= most, "B-38: {unanswered} of {most} requests");
        assert!(self.flying.len() <= unanswered, "an attempt too many");
        assert_eq!(self.closed, self.session.phase() == Phase::Closed);
        if self.closed {
            assert!(self.flying.is_empty(), "attempts left behind the end");
            assert_eq!(self.session.poll_timeout(), None);
            assert!(!self.session.wants_payloads());
        }
        if matches!(self.session.phase(), Phase::Creating | Phase::Open) && self.receiving {
            assert!(
                self.session.poll_timeout().is_some(),
                "it waits for nothing"
            );
        }
    }

    fn pick(&self, keys: &[RequestKey], tape: &mut Tape<'_>) -> Option<RequestKey> {
        let choice = usize::from(tape.byte());
        (!keys.is_empty()).then(|| keys[choice % keys.len()])
    }

    pub(super) fn answer(&mut self, tape: &mut Tape<'_>) {
        let Some(key) = self.pick(&self.flying, tape) else {
            return;
        };
        let sent = self.requests[&key.rid].0.clone();
        let said = manager::any(key, &sent, tape);
        self.land(key);
        if said.accepts {
            self.accepted = self.accepted.max(Some(key.rid));
        } else {
            self.lost = true;
        }
        self.session.handle_response(key, &said.reply, self.now);
    }

    /// The creation request is answered.
    pub(super) fn open(&mut self, reply: &HttpReply) {
        if self.session.phase() == Phase::Creating
            && let Some(key) = self.flying.first().copied()
        {
            self.land(key);
            self.session.handle_written(key, self.now);
            self.session.handle_response(key, reply, self.now);
        }
    }

    pub(super) fn written(&mut self, tape: &mut Tape<'_>) {
        if tape.byte().is_multiple_of(2) {
            for key in self.flying.clone() {
                self.session.handle_written(key, self.now);
            }
        } else if let Some(key) = self.pick(&self.flying, tape) {
            self.session.handle_written(key, self.now);
        }
    }

    pub(super) fn repeated(&mut self, tape: &mut Tape<'_>) {
        if let Some(key) = self.pick(&self.flying, tape) {
            self.session.handle_repeated(key);
        }
    }

    pub(super) fn fail(&mut self, tape: &mut Tape<'_>) {
        if let Some(key) = self.pick(&self.flying, tape) {
            self.land(key);
            let failure = manager::failure(tape);
            self.lost = true;
            self.session.handle_failure(key, failure, self.now);
        }
    }

    /// Something is said of an attempt that is over: nothing changes (B-51).
    pub(super) fn late(&mut self, tape: &mut Tape<'_>) {
        let Some(key) = self.pick(&self.gone, tape) else {
            return;
        };
        let before = (self.session.poll_timeout(), format!("{:?}", self.session));
        match tape.byte() % 4 {
            0 => self.session.handle_written(key, self.now),
            1 => self.session.handle_repeated(key),
            2 => {
                let failure = manager::failure(tape);
                self.session.handle_failure(key, failure, self.now);
            }
            _ => {
                let sent = self.requests[&key.rid].0.clone();
                let said = manager::any(key, &sent, tape);
                self.session.handle_response(key, &said.reply, self.now);
            }
        }
        let after = (self.session.poll_timeout(), format!("{:?}", self.session));
        assert_eq!(before, after, "a late word about {key:?}");
    }

    pub(super) fn send(&mut self, tape: &mut Tape<'_>) {
        if !self.session.wants_payloads() {
            return;
        }
        let class = tape.pick(&[
            PayloadClass::Together,
            PayloadClass::Together,
            PayloadClass::Alone,
        ]);
        let filler = "x".repeat(usize::from(tape.pick(&[0_u16, 10, 100, 300, 900, 2000])));
        let number = self.payloads.len();
        let payload = format!("<p xmlns='jabber:client' id='{number}'>{filler}</p>");
        if !self.closing {
            self.payloads.push(class);
        }
        self.session.send(Bytes::from(payload), class);
    }

    pub(super) fn restart(&mut self) {
        self.restart = true;
        self.session.restart();
    }

    pub(super) fn set_receiving(&mut self, receiving: bool) {
        self.receiving = receiving;
        self.session.set_receiving(receiving);
    }

    pub(super) fn terminate(&mut self, tape: &mut Tape<'_>) {
        self.closing = true;
        let limit = Duration::from_secs(tape.pick(&[2, 0, 1, 30]));
        self.session.terminate(limit, self.now);
    }

    /// The machine slept, or its network changed.
    pub(super) fn renew(&mut self, tape: &mut Tape<'_>) {
        let slept = Duration::from_secs(tape.pick(&[0, 1, 20, 100, 4000]));
        self.session.renew(slept, self.now);
        if self.session.phase() != Phase::Closed {
            // Nothing that was under way is waited for.
            self.drain_aborts();
            assert!(self.flying.is_empty(), "T-32: {:?} goes on", self.flying);
        }
    }

    pub(super) fn redirected(&mut self, tape: &mut Tape<'_>) {
        let follow = !tape.byte().is_multiple_of(4);
        self.session.redirected(follow, None, self.now);
    }

    /// Time passes; every timer on the way fires at its time, and none fires for ever.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut still = 0;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            still = if at > self.now { 0 } else { still + 1 };
            assert!(still < TURNS, "a timer that does not stop");
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
            self.check();
        }
        self.now = end;
    }

    pub(super) fn pass_to_timeout(&mut self) {
        let next = self.session.poll_timeout();
        let wait = next.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.now));
        self.pass(wait.min(Duration::from_secs(4000)));
    }

    /// The manager is never heard of again: the session ends, and behind its end is nothing.
    pub(super) fn finish(&mut self) {
        self.session.redirected(false, None, self.now);
        self.closing = true;
        self.session.terminate(Duration::from_secs(2), self.now);
        self.drain();
        let patient = self
            .session
            .granted()
            .is_some_and(|granted| granted.inactivity_or_default() > Duration::from_secs(3600));
        for _ in 0..400 {
            if self.closed || patient {
                break;
            }
            self.check();
            self.pass_to_timeout();
        }
        assert!(self.closed || patient, "it never ends: {:?}", self.session);
        if self.closed {
            self.after_the_end();
        }
    }

    fn after_the_end(&mut self) {
        self.session
            .send(Bytes::from_static(b"<a/>"), PayloadClass::Together);
        self.session.restart();
        self.session.expect();
        self.session.bound();
        self.session.renew(Duration::from_secs(1), self.now);
        self.session.hurry(self.now);
        self.session.set_confirming(true);
        self.session.client_is_inactive();
        self.session.redirected(true, None, self.now);
        self.session.terminate(Duration::ZERO, self.now);
        for key in self.gone.clone() {
            self.session
                .handle_response(key, &manager::usual_creation(), self.now);
        }
        self.now += Duration::from_secs(100_000);
        self.session.handle_timeout(self.now);
        self.drain();
        self.check();
        assert_eq!(self.session.unanswered(), 0);
    }
}
