//! A client on one side, a scripted manager on the other, a clock of their own.

mod close;
mod header;
mod login;
mod managed;
mod odd;
mod relay;
mod resume;
mod starttls;
mod tls;
mod vanish;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Bridge, Endpoint, Event, Mode, Options, TlsOptions};
use crate::bosh::{Failure, FailureKind, HttpReply, Request};
use crate::config;
use crate::stream::error::FaultReason;
use crate::stream::features::Filter;
use crate::stream::header::HeaderRules;
use crate::xml::Limits;

pub(super) const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
     xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
pub(super) const GRANT: &str = "sid='s1' wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6' from='example.org'";
pub(super) const SASL_FEATURES: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
     <mechanism>PLAIN</mechanism></mechanisms></stream:features>";
pub(super) const BIND_FEATURES: &str =
    "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
/// The same as the client gets them.
pub(super) const BIND_OFFER: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
pub(super) const AUTH: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";
pub(super) const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

pub(super) struct Rig {
    pub(super) bridge: Bridge,
    pub(super) now: Instant,
    requests: Vec<Request>,
    pub(super) events: Vec<Event>,
    pub(super) endpoint: Result<Endpoint, (FaultReason, String)>,
}

pub(super) fn endpoint() -> Endpoint {
    Endpoint {
        https: true,
        bosh: config::Bosh {
            wait: Duration::from_secs(55),
            hold: 1,
            ver: "1.6".into(),
            max_body_bytes: 65536,
            lang: "en".into(),
            key_sequence: false,
            http_version: config::HttpVersion::Auto,
        },
        route: None,
        key_sequence: false,
        way: crate::bosh::Way::default(),
        others: false,
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(HeaderRules::default())
    }

    pub(super) fn in_mode(mode: Mode) -> Self {
        Self::made(HeaderRules::default(), mode)
    }

    pub(super) fn with(rules: HeaderRules) -> Self {
        let resume_window = Duration::from_secs(60);
        Self::made(rules, Mode::Local { resume_window })
    }

    fn made(rules: HeaderRules, mode: Mode) -> Self {
        Self::made_with(rules, mode, TlsOptions::default())
    }

    pub(super) fn with_tls(rules: HeaderRules, tls: TlsOptions) -> Self {
        let resume_window = Duration::from_secs(60);
        Self::made_with(rules, Mode::Local { resume_window }, tls)
    }

    fn made_with(rules: HeaderRules, mode: Mode, tls: TlsOptions) -> Self {
        let now = crate::driver::clock::now();
        let mut counter = 0;
        let options = Options {
            rules,
            limits: Limits {
                max_element_bytes: 20_000,
                max_header_bytes: 16 * 1024,
                max_depth: 32,
                max_attributes: 16,
            },
            filter: Filter {
                channel_binding: crate::stream::features::ChannelBinding::Filter,
                remove_sm: mode != Mode::Pass,
                hide_plain: false,
                max_stanza_bytes: 20_000,
            },
            buffer_bytes: 100_000,
            header_timeout: Duration::from_secs(30),
            setup_timeout: Duration::from_secs(60),
            default_lang: "en".into(),
            mode,
            tls,
            random: Box::new(move || {
                counter += 1;
                counter
            }),
        };
        let bridge = Bridge::new(options, now);
        Self {
            bridge,
            now,
            requests: Vec::new(),
            events: Vec::new(),
            endpoint: Ok(endpoint()),
        }
    }

    /// The client says this, whole.
    pub(super) fn client(&mut self, text: &str) {
        self.bridge.handle_client_bytes(text.as_bytes(), self.now);
        self.settle();
    }

    /// Does what a shell does: resolves, collects requests, reports them as written.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            let mut quiet = true;
            while let Some(event) = self.bridge.poll_event() {
                quiet = false;
                if let Event::Resolve { .. } = event {
                    self.bridge.handle_endpoint(self.endpoint.clone(), self.now);
                }
                self.events.push(event);
            }
            while self.bridge.poll_abort().is_some() {}
            while let Some(request) = self.bridge.poll_request(self.now) {
                quiet = false;
                self.bridge.handle_written(request.key, self.now);
                self.requests.push(request);
            }
            if quiet {
                return;
            }
        }
        panic!("the bridge does not come to rest");
    }

    /// What the client has received since the last call.
    pub(super) fn output(&mut self) -> String {
        let text = String::from_utf8(self.bridge.output().to_vec()).unwrap();
        self.bridge.consume_output(text.len(), self.now);
        self.settle();
        text
    }

    /// The oldest request not yet taken. Waits out the gap between two requests.
    pub(super) fn request(&mut self) -> Request {
        if self.requests.is_empty() {
            self.pass(Duration::from_millis(25));
        }
        assert!(!self.requests.is_empty(), "no request is due");
        self.requests.remove(0)
    }

    pub(super) fn no_request(&mut self) {
        self.pass(Duration::from_millis(25));
        let texts: Vec<_> = self.requests.iter().map(text).collect();
        assert!(texts.is_empty(), "unexpected {texts:?}");
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.bridge.poll_timeout().filter(|at| *at <= end) {
            let before = self.now;
            self.now = self.now.max(at);
            self.bridge.handle_timeout(self.now);
            self.settle();
            if self.now == before {
                break;
            }
        }
        self.now = end;
        self.bridge.handle_timeout(self.now);
        self.settle();
    }

    pub(super) fn reply(&mut self, request: &Request, attributes: &str, inner: &str) {
        let body = format!(
            "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams' {attributes}>{inner}</body>"
        );
        let reply = HttpReply {
            status: 200,
            body: Bytes::from(body),
            location: None,
            retry_after: None,
        };
        self.bridge.handle_response(request.key, &reply, self.now);
        self.settle();
    }

    pub(super) fn payload(&mut self, request: &Request, inner: &str) {
        self.reply(request, "", inner);
    }

    pub(super) fn fail(&mut self, request: &Request, kind: FailureKind) {
        let failure = Failure {
            kind,
            text: "the hop said no: do this".into(),
            sent: false,
        };
        self.bridge.handle_failure(request.key, failure, self.now);
        self.settle();
    }

    /// Header sent, session granted, these features delivered.
    pub(super) fn negotiating(features: &str) -> Self {
        Self::new().granted(GRANT, features)
    }

    fn granted(mut self, grant: &str, features: &str) -> Self {
        self.client(HEADER);
        let creation = self.request();
        self.reply(&creation, grant, features);
        self
    }

    /// Logged in with PLAIN and bound; the output so far is discarded. Returns the held poll.
    pub(super) fn online() -> (Self, Request) {
        Self::new().log_in(GRANT, AUTH)
    }

    /// Logged in, not bound; the output so far is discarded.
    pub(super) fn authenticated(self, grant: &str, auth: &str) -> Self {
        let mut rig = self.granted(grant, SASL_FEATURES);
        rig.client(auth);
        let auth = rig.request();
        rig.payload(&auth, SUCCESS);
        rig.client(HEADER);
        let restart = rig.request();
        rig.payload(&restart, BIND_FEATURES);
        rig.output();
        rig
    }

    pub(super) fn log_in(self, grant: &str, auth: &str) -> (Self, Request) {
        let mut rig = self.authenticated(grant, auth);
        rig.client("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        let bind = rig.request();
        rig.payload(
            &bind,
            "<iq xmlns='jabber:client' type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>a@example.org/x</jid></bind></iq>",
        );
        let poll = rig.request();
        rig.output();
        (rig, poll)
    }

    pub(super) fn fault(&self) -> Option<FaultReason> {
        self.events.iter().find_map(|event| match event {
            Event::Fault(fault) => Some(fault.reason),
            _ => None,
        })
    }
}

pub(super) fn text(request: &Request) -> String {
    String::from_utf8(request.body.to_vec()).unwrap()
}

/// A stream error as the client reads it: condition, text, app element.
pub(super) fn stream_error(output: &str) -> (String, String, Option<String>) {
    let start = output.find("<stream:error>").expect("a stream error");
    let error = output[start..]
        .strip_suffix("</stream:stream>")
        .expect("the stream's end, and nothing after it");
    let wrapped = format!("<w xmlns:stream='http://etherx.jabber.org/streams'>{error}</w>");
    let document = roxmltree::Document::parse(&wrapped).unwrap();
    let error = document.root_element().first_element_child().unwrap();
    let ns = "urn:ietf:params:xml:ns:xmpp-streams";
    let children: Vec<_> = error.children().collect();
    assert_eq!(
        children[0].tag_name().namespace(),
        Some(ns),
        "S-19: the condition comes first"
    );
    let text = children
        .iter()
        .find(|c| c.tag_name().name() == "text")
        .and_then(|t| t.text());
    let app = children
        .iter()
        .find(|c| c.tag_name().namespace() != Some(ns))
        .map(|c| c.tag_name().name().to_owned());
    (
        children[0].tag_name().name().to_owned(),
        text.unwrap_or_default().to_owned(),
        app,
    )
}
