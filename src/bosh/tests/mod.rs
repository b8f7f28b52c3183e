//! The session against a scripted manager, on a clock of its own: every rule a fast deterministic test.

mod acks;
mod closing;
mod creation;
mod doubts;
mod faults;
mod flow;
mod managers;
mod negotiation;
mod nudges;
mod odd;
mod sequences;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::NS_HTTPBIND;
use super::{
    CloseReason, Event, Failure, FailureKind, HttpReply, Options, PayloadClass, Request,
    RequestKey, Requested, Rid, Session, Way,
};
use crate::xml::Limits;

pub(super) const FIRST: u64 = 1_000_000;

/// Prosody's grant.
pub(super) const PROSODY: &str =
    "wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6' authid='s1'";
/// What it says of a request or a session that it does not know.
pub(super) const GONE: &str = "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='item-not-found'/>";

pub(super) fn requested() -> Requested {
    Requested {
        to: "example.org".into(),
        from: None,
        lang: "en".into(),
        ver: "1.6".into(),
        wait: Duration::from_secs(55),
        hold: 1,
        route: None,
        xmpp_version: true,
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        max_element_bytes: 1 << 20,
        max_header_bytes: 16 * 1024,
        max_depth: 128,
        max_attributes: 256,
    }
}

/// A session, its clock, and what it has told so far.
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) now: Instant,
    /// Payloads confirmed so far.
    pub(super) confirmed: usize,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(requested())
    }

    pub(super) fn with(requested: Requested) -> Self {
        Self::on(Way::default(), requested)
    }

    pub(super) fn on(way: Way, requested: Requested) -> Self {
        Self::over(way, false, requested)
    }

    fn over(way: Way, https: bool, requested: Requested) -> Self {
        let now = crate::driver::clock::now();
        let options = Options {
            requested,
            max_body_bytes: 65536,
            https,
            buffer_bytes: 4 << 20,
            limits: limits(),
            first_rid: Rid(FIRST),
            seed: 7,
            way,
            key_seed: None,
        };
        Self {
            session: Session::new(options, now),
            now,
            confirmed: 0,
        }
    }

    /// A session that the usual manager has granted; nothing held, features delivered.
    pub(super) fn open() -> Self {
        Self::open_with("wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'")
    }

    pub(super) fn open_with(attributes: &str) -> Self {
        Self::open_on(Way::default(), attributes)
    }

    /// As [`Self::open_with`], on such a way.
    pub(super) fn open_on(way: Way, attributes: &str) -> Self {
        Self::on(way, requested()).opened(attributes)
    }

    fn opened(self, attributes: &str) -> Self {
        let mut rig = self;
        // A `wait` that is granted all the same is taken.
        rig.session.take_any_wait();
        let creation = rig.sent();
        rig.reply(
            creation.key,
            &format!(
                "<body xmlns='{NS_HTTPBIND}' sid='s1' {attributes} xmlns:stream='http://etherx.jabber.org/streams'>\
                 <stream:features/></body>"
            ),
        );
        assert_eq!(rig.events(), ["opened", "features"]);
        rig
    }

    /// As [`Self::open`], bound, with the first poll held.
    pub(super) fn bound() -> (Self, Request) {
        Self::bound_with("wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'")
    }

    pub(super) fn bound_with(attributes: &str) -> (Self, Request) {
        Self::bound_over(attributes, false)
    }

    /// As [`Self::bound_with`], by requests over https or http.
    pub(super) fn bound_over(attributes: &str, https: bool) -> (Self, Request) {
        let mut rig = Self::over(Way::default(), https, requested()).opened(attributes);
        rig.session.bound();
        let poll = rig.sent();
        (rig, poll)
    }

    /// The next request, if one may go now; not yet written.
    pub(super) fn request(&mut self) -> Option<Request> {
        self.session.poll_request(self.now)
    }

    /// The next request, written at once. Waits out the gap between two requests.
    pub(super) fn sent(&mut self) -> Request {
        let request = match self.request() {
            Some(request) => request,
            None => {
                self.pass(Duration::from_millis(25));
                self.request().expect("a request is due")
            }
        };
        self.session.handle_written(request.key, self.now);
        request
    }

    pub(super) fn nothing_to_send(&mut self) {
        self.pass(Duration::from_millis(25));
        if let Some(request) = self.request() {
            panic!("unexpected {}", String::from_utf8_lossy(&request.body));
        }
    }

    pub(super) fn reply(&mut self, key: RequestKey, body: &str) {
        self.answer(key, 200, body);
    }

    pub(super) fn empty(&mut self, key: RequestKey) {
        self.reply(key, &format!("<body xmlns='{NS_HTTPBIND}'/>"));
    }

    pub(super) fn payload(&mut self, key: RequestKey, inner: &str) {
        self.reply(key, &format!("<body xmlns='{NS_HTTPBIND}'>{inner}</body>"));
    }

    pub(super) fn answer(&mut self, key: RequestKey, status: u16, body: &str) {
        let reply = HttpReply {
            status,
            body: Bytes::copy_from_slice(body.as_bytes()),
            location: None,
            retry_after: None,
        };
        self.session.handle_response(key, &reply, self.now);
    }

    /// The attempt breaks after it was sent.
    pub(super) fn lose(&mut self, key: RequestKey) {
        self.fail(key, FailureKind::NoReply, true);
    }

    pub(super) fn fail(&mut self, key: RequestKey, kind: FailureKind, sent: bool) {
        self.session.handle_failure(
            key,
            Failure {
                kind,
                text: "it broke".into(),
                sent,
            },
            self.now,
        );
    }

    /// Time passes; every timer on the way fires at its time.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            let before = self.now;
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            if self.now == before {
                break;
            }
        }
        self.now = end;
        self.session.handle_timeout(self.now);
    }

    pub(super) fn say(&mut self, payload: &str) {
        self.session.send(
            Bytes::copy_from_slice(payload.as_bytes()),
            PayloadClass::Together,
        );
    }

    /// What was told since the last call: `opened`, payload by local name and id, `closed: …`.
    pub(super) fn events(&mut self) -> Vec<String> {
        let (confirmed, events): (Vec<_>, Vec<_>) =
            std::iter::from_fn(|| self.session.poll_event())
                .partition(|event| matches!(event, Event::Confirmed(_)));
        for event in confirmed {
            if let Event::Confirmed(count) = event {
                self.confirmed += count;
            }
        }
        events
            .into_iter()
            .map(|event| match event {
                Event::Opened => "opened".to_owned(),
                Event::Payload { element, .. } => match element.attr("id") {
                    Some(id) => format!("{} {id}", element.local()),
                    None => element.local().to_owned(),
                },
                Event::Confirmed(count) => format!("confirmed {count}"),
                Event::Moved(location) => format!("moved {location}"),
                Event::Cut(limit) => format!("cut {} s", limit.as_secs()),
                Event::Redirect { status, location } => format!("redirect {status:?} {location}"),
                Event::Closed(reason) => format!("closed: {}", short(&reason)),
            })
            .collect()
    }

    pub(super) fn aborts(&mut self) -> Vec<RequestKey> {
        std::iter::from_fn(|| self.session.poll_abort()).collect()
    }
}

fn short(reason: &CloseReason) -> String {
    match reason {
        CloseReason::Terminated { confirmed } => format!("terminated, confirmed {confirmed}"),
        CloseReason::Ended => "ended".into(),
        CloseReason::Condition {
            condition,
            text,
            stream_error,
        } => {
            let names: Vec<_> = stream_error
                .iter()
                .map(crate::xml::Element::local)
                .collect();
            format!("{condition} {text:?} {names:?}")
        }
        CloseReason::Failed(cause) => format!("{cause:?}"),
    }
}

pub(super) fn text(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

/// An attribute of the request's `<body/>`, read by an independent parser.
pub(super) fn attribute(request: &Request, name: &str) -> Option<String> {
    let text = text(request);
    let document = roxmltree::Document::parse(&text).unwrap();
    let root = document.root_element();
    let (namespace, local) = match name.split_once(':') {
        Some(("xml", local)) => (Some("http://www.w3.org/XML/1998/namespace"), local),
        Some(("xmpp", local)) => (Some("urn:xmpp:xbosh"), local),
        _ => (None, name),
    };
    let found = root
        .attributes()
        .find(|a| a.namespace() == namespace && a.name() == local);
    found.map(|a| a.value().to_owned())
}

/// All attribute names of the request's `<body/>`, sorted.
pub(super) fn attribute_names(request: &Request) -> Vec<String> {
    let text = text(request);
    let document = roxmltree::Document::parse(&text).unwrap();
    let mut names: Vec<_> = document
        .root_element()
        .attributes()
        .map(|a| a.name().to_owned())
        .collect();
    names.sort();
    names
}
