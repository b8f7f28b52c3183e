//! How many instructions the core spends, so that a regression shows whatever the machine does.
//!
//! `cargo bench --bench instructions` needs valgrind and gungraun-runner, in the version of the gungraun that
//! Cargo.lock names. It compares with its last run; `-- --save-baseline=NAME` and `-- --baseline=NAME` with any.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the macros' code, and benches may fail"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use gungraun::prelude::*;
use xbosh::bosh::body::{Head, decode, encode};
use xbosh::bosh::keys::RequestKeys;
use xbosh::bosh::{
    HttpReply, Options, PayloadClass, RequestKey, Requested, Rid, Session, Sid, Way,
};
use xbosh::xml::{Frame, Framer, Limits, RootText};

mod stanzas;

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 18,
    max_header_bytes: 1 << 14,
    max_depth: 128,
    max_attributes: 256,
};
/// Times that the five stanzas go through.
const COPIES: usize = 20;
/// Exchanges of a session.
const EXCHANGES: usize = 100;

const STREAM: &str = "<?xml version='1.0'?><stream:stream from='juliet@example.com' to='example.com' version='1.0' \
    xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

fn stream() -> Vec<u8> {
    let mut text = STREAM.to_owned();
    for _ in 0..COPIES {
        text.extend(stanzas::ALL);
    }
    text.into_bytes()
}

// A client's stream in reads of so many bytes.
#[library_benchmark(setup = setup_stream)]
#[bench::small_reads(64)]
#[bench::packets(1460)]
#[bench::large_reads(16384)]
fn framer((text, read): (Vec<u8>, usize)) -> usize {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    let mut elements = 0;
    for chunk in text.chunks(read) {
        framer.push(chunk);
        while let Ok(Some(frame)) = framer.next_frame() {
            if let Frame::Element(element) = black_box(frame) {
                elements += usize::from(element.len() > 0);
            }
        }
    }
    assert_eq!(elements, COPIES * stanzas::ALL.len());
    elements
}

fn setup_stream(read: usize) -> (Vec<u8>, usize) {
    (stream(), read)
}

// Elements of a stream made fit for a body.
#[library_benchmark(setup = setup_stream)]
#[bench::packets(1460)]
fn framer_to_body((text, read): (Vec<u8>, usize)) -> usize {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    let mut out = BytesMut::with_capacity(4096);
    let mut bytes = 0;
    for chunk in text.chunks(read) {
        framer.push(chunk);
        while let Ok(Some(frame)) = framer.next_frame() {
            if let Frame::Element(element) = frame {
                out.clear();
                element.write_for_body(Some("en"), &mut out);
                bytes += black_box(&out).len();
            }
        }
    }
    bytes
}

fn sid() -> Sid {
    Sid::new("a3f0c1e25b7d4e6f8091a2b3c4d5e6f7".to_owned())
}

fn body(sid: &Sid, copies: usize) -> Bytes {
    let payload = (0..copies).flat_map(|_| stanzas::ALL).map(str::as_bytes);
    let head = Head {
        sid,
        rid: Rid(4_503_599_627),
        ack: Some(Rid(4_503_599_626)),
        keys: RequestKeys::default(),
    };
    encode(&head, false, payload)
}

#[library_benchmark(setup = setup_encode)]
#[bench::empty(0)]
#[bench::five_stanzas(1)]
#[bench::five_hundred_stanzas(100)]
fn body_encode((sid, copies): (Sid, usize)) -> Bytes {
    black_box(body(&sid, copies))
}

fn setup_encode(copies: usize) -> (Sid, usize) {
    (sid(), copies)
}

#[library_benchmark(setup = setup_decode)]
#[bench::empty(0)]
#[bench::five_stanzas(1)]
#[bench::five_hundred_stanzas(100)]
fn body_decode(bytes: Bytes) -> xbosh::bosh::body::Response {
    black_box(decode(&bytes, LIMITS).unwrap())
}

fn setup_decode(copies: usize) -> Bytes {
    body(&sid(), copies)
}

/// An open session with one request held, and its clock.
struct Bench {
    session: Session,
    now: Instant,
    held: Vec<RequestKey>,
}

impl Bench {
    fn new() -> Self {
        let requested = Requested {
            to: "example.org".into(),
            from: None,
            lang: "en".into(),
            ver: "1.6".into(),
            wait: Duration::from_secs(55),
            hold: 1,
            route: None,
            xmpp_version: true,
        };
        let options = Options {
            https: false,
            way: Way::default(),
            requested,
            max_body_bytes: 1 << 16,
            buffer_bytes: 1 << 22,
            limits: LIMITS,
            first_rid: Rid::first(1),
            seed: 1,
            key_seed: None,
        };
        let now = xbosh::driver::clock::now();
        let mut bench = Self {
            session: Session::new(options, now),
            now,
            held: Vec::new(),
        };
        bench.requests();
        bench.answer(
            "sid='s1' wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6' from='example.org'",
            "<stream:features/>",
        );
        bench.session.bound();
        bench.requests();
        assert_eq!(bench.held.len(), 1, "one request is held");
        bench
    }

    /// Sends what the session wants sent, waiting where it wants to wait.
    fn requests(&mut self) {
        if let Some(at) = self.session.poll_timeout()
            && at < self.now + Duration::from_secs(1)
        {
            self.now = self.now.max(at);
        }
        while let Some(request) = self.session.poll_request(self.now) {
            black_box(&request.body);
            self.session.handle_written(request.key, self.now);
            self.held.push(request.key);
        }
    }

    /// Answers the oldest request.
    fn answer(&mut self, attributes: &str, payload: &str) -> usize {
        let body = format!(
            "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams' {attributes}>{payload}</body>"
        );
        self.reply(&HttpReply {
            status: 200,
            body: Bytes::from(body),
            location: None,
            retry_after: None,
        })
    }

    fn reply(&mut self, reply: &HttpReply) -> usize {
        self.now += Duration::from_micros(300);
        let key = self.held.remove(0);
        self.session.handle_response(key, reply, self.now);
        let mut events = 0;
        while let Some(event) = self.session.poll_event() {
            black_box(event);
            events += 1;
        }
        while let Some(key) = self.session.poll_abort() {
            black_box(key);
        }
        events
    }
}

fn setup_session(stanzas: usize) -> (Bench, usize, Bytes, HttpReply) {
    let pong = "<iq xmlns='jabber:client' type='result' id='p1' from='example.org'/>";
    let reply = HttpReply {
        status: 200,
        body: Bytes::from(format!(
            "<body xmlns='http://jabber.org/protocol/httpbind'>{}</body>",
            pong.repeat(stanzas)
        )),
        location: None,
        retry_after: None,
    };
    let ping = "<iq xmlns='jabber:client' type='get' id='p1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>";
    (Bench::new(), stanzas, Bytes::from(ping), reply)
}

// Exchanges of so many stanzas each way.
#[library_benchmark(setup = setup_session)]
#[bench::ping(1)]
#[bench::bulk(100)]
fn session_step((mut bench, stanzas, ping, reply): (Bench, usize, Bytes, HttpReply)) -> usize {
    let mut events = 0;
    for _ in 0..EXCHANGES {
        for _ in 0..stanzas {
            bench.session.send(ping.clone(), PayloadClass::Together);
        }
        bench.requests();
        events += bench.reply(&reply);
    }
    assert!(events >= EXCHANGES * stanzas);
    events
}

library_benchmark_group!(name = framing, benchmarks = [framer, framer_to_body]);
library_benchmark_group!(name = bodies, benchmarks = [body_encode, body_decode]);
library_benchmark_group!(name = session, benchmarks = session_step);
main!(library_benchmark_groups = [framing, bodies, session]);
