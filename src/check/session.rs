//! A session with the manager as far as it goes without an account.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use url::Url;

use super::report::{HopName, Report};
use super::{HOP_LIMIT, Reached, Walk, advice, hop_of, within};
use crate::bosh::body::{self, Head};
use crate::bosh::keys::RequestKeys;
use crate::bosh::verdict::{Verdict, judge};
use crate::bosh::{
    Cause, CloseReason, Event, Failure, HttpReply, Manager, Options, Request, Requested, Rid,
    Session, Way,
};
use crate::bridge::{explain, explain_cause, on_stream};
use crate::config::{Domain, HttpVersion, PlainWithoutTls};
use crate::connect::Connector;
use crate::driver::{self, Ways, clock, plain, redirect_target};
use crate::http::{ClientOptions, ExchangeRequest, SessionClient, Target};
use crate::stream::error::{self, FaultReason, StreamFault};
use crate::stream::features::{FeatureFacts, UNREADABLE, filter_features};
use crate::stream::ns;

/// Redirects followed.
const MAX_MOVES: usize = 3;
/// Requests sent while waiting for features.
const MAX_ASKED: usize = 4;
/// Bodies tried, in bytes.
const SIZES: [usize; 4] = [1 << 20, 256 << 10, 64 << 10, 16 << 10];
/// A held request that ends so much before its time was cut.
const EARLY: Duration = Duration::from_secs(3);

/// What one exchange came to.
enum Answer {
    /// A BOSH response, given to the session.
    Heard,
    /// No session here; what a client would be told.
    Fault(StreamFault),
    /// A hop failed.
    Failed(Failure),
    /// Nothing came in time.
    Silence,
    /// The manager is elsewhere.
    Moved(Option<u16>, String),
}

/// The session under test.
pub(super) struct Probe<'a> {
    walk: &'a Walk,
    settings: &'a Domain,
    ways: &'a Ways,
    url: Url,
    client: SessionClient,
    session: Session,
    features: Option<Vec<u8>>,
    closed: Option<CloseReason>,
    moved: Option<(Option<u16>, String)>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(walk: &'a Walk, settings: &'a Domain, ways: &'a Ways, url: Url) -> Self {
        let client = client(walk, settings, &ways.to(&url), &url);
        Self {
            session: fresh(walk, settings),
            walk,
            settings,
            ways,
            url,
            client,
            features: None,
            closed: None,
            moved: None,
        }
    }

    /// Session and features; [`Reached::Session`] if there is a session of no use.
    pub(super) async fn open(&mut self, report: &mut Report) -> Reached {
        let began = Instant::now();
        let mut moves = 0;
        loop {
            match self.turn(HOP_LIMIT).await {
                Answer::Heard if self.session.granted().is_some() => break,
                Answer::Heard => {
                    let fault = self.closed.as_ref().and_then(|end| explain(end, false));
                    return self.fail(report, fault);
                }
                Answer::Moved(status, location) => {
                    let to = redirect_target(&self.url, status, &location);
                    match to.filter(|_| moves < MAX_MOVES) {
                        Some(to) => {
                            moves += 1;
                            let text = format!("{} sends us to {}", plain(&self.url), plain(&to));
                            report.note(HopName::Session, text);
                            self.client = client(self.walk, self.settings, &self.ways.to(&to), &to);
                            self.session = fresh(self.walk, self.settings);
                            self.url = to;
                        }
                        None => {
                            let cause = Cause::Redirect(Some(location));
                            return self.fail(report, Some(explain_cause(&cause, false)));
                        }
                    }
                }
                Answer::Fault(fault) => return self.fail(report, Some(fault)),
                Answer::Failed(failure) => {
                    let reason = FaultReason::from(failure.kind);
                    report.fail(hop_of(failure.kind), reason.row(), failure.text);
                    advice::after_failure(report, self.walk, reason);
                    return Reached::No;
                }
                Answer::Silence => {
                    return self.fail(report, Some(explain_cause(&Cause::NoReply, false)));
                }
            }
        }
        let took = began.elapsed();
        report.ok(HopName::Session, Some(took), self.granted());
        for _ in 0..MAX_ASKED {
            if self.features.is_some() {
                break;
            }
            self.session.expect();
            if !matches!(self.turn(HOP_LIMIT).await, Answer::Heard) || self.closed.is_some() {
                break;
            }
        }
        match self.tell_features(report) {
            true => Reached::Yes,
            false => Reached::Session,
        }
    }

    /// There is no session, for this reason.
    fn fail(&self, report: &mut Report, fault: Option<StreamFault>) -> Reached {
        match fault {
            Some(fault) => {
                let reason = fault.reason;
                report.fault(HopName::Session, fault);
                advice::after_failure(report, self.walk, reason);
            }
            None => report.fail(
                HopName::Session,
                "C-14",
                "the server ended the session at once, and did not say why".into(),
            ),
        }
        Reached::No
    }

    /// One request, if the session wants one.
    async fn turn(&mut self, limit: Duration) -> Answer {
        let Some(request) = self.session.poll_request(clock::now()) else {
            return Answer::Silence;
        };
        let exchange = exchange(&self.client, &request.body, request.fresh);
        let reply = match tokio::time::timeout(limit, exchange).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(failure)) => {
                let now = clock::now();
                self.session
                    .handle_failure(request.key, failure.clone(), now);
                return Answer::Failed(failure);
            }
            Err(_) => return Answer::Silence,
        };
        self.heard(&request, &reply)
    }

    fn heard(&mut self, request: &Request, reply: &HttpReply) -> Answer {
        let opened = self.session.granted().is_some();
        let limits = driver::element_limits(&self.walk.config);
        let verdict = judge(reply, limits);
        let usable = matches!(verdict, Verdict::Response(_));
        if usable || opened {
            self.tell_session(request, reply);
        }
        match verdict {
            Verdict::Response(_) => match self.moved.take() {
                Some((status, location)) => Answer::Moved(status, location),
                None => Answer::Heard,
            },
            Verdict::ZeroBytes => Answer::Fault(explain_cause(&Cause::NotBosh, opened)),
            Verdict::Repeat { cause, .. } | Verdict::Fatal(cause) => {
                Answer::Fault(explain_cause(&cause, opened))
            }
            Verdict::LegacyError(status) => {
                Answer::Fault(explain_cause(&Cause::Status(status), opened))
            }
            Verdict::Redirect {
                status,
                location: Some(location),
            } => Answer::Moved(Some(status), location),
            Verdict::Redirect { .. } => {
                Answer::Fault(explain_cause(&Cause::Redirect(None), opened))
            }
        }
    }

    fn tell_session(&mut self, request: &Request, reply: &HttpReply) {
        let now = clock::now();
        self.session.handle_written(request.key, now);
        self.session.handle_response(request.key, reply, now);
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Payload { element, .. } if element.is(ns::STREAM, "features") => {
                    self.features = Some(on_stream(&element).to_vec());
                }
                Event::Redirect { status, location } => self.moved = Some((status, location)),
                Event::Closed(reason) => self.closed = Some(reason),
                Event::Opened
                | Event::Payload { .. }
                | Event::Confirmed(_)
                | Event::Cut(_)
                | Event::Moved(_) => {}
            }
        }
    }

    /// What the manager grants, in words.
    fn granted(&self) -> String {
        let Some(granted) = self.session.granted() else {
            return String::new();
        };
        let who = match granted.manager {
            Manager::Ejabberd => "seems to be ejabberd",
            Manager::MongooseIm => "seems to be MongooseIM",
            Manager::Prosody => "seems to be Prosody",
            Manager::Openfire => "seems to be Openfire",
            Manager::Tigase => "seems to be Tigase",
            Manager::Other => "of an unknown kind",
        };
        let inactivity = match granted.inactivity {
            Some(time) => format!("{} s", time.as_secs()),
            None => "not said".to_owned(),
        };
        let http = self.client.http_version().unwrap_or("1.1");
        format!(
            "connection manager {who}, HTTP/{http}; wait {} s, hold {}, requests {}, inactivity {inactivity}",
            granted.wait.as_secs(),
            granted.hold,
            granted.requests
        )
    }

    fn tell_features(&self, report: &mut Report) -> bool {
        let Some(features) = &self.features else {
            let fault = self.closed.as_ref().and_then(|end| explain(end, true));
            let none = || error::fault(FaultReason::NoFeatures, None);
            report.fault(HopName::Features, fault.unwrap_or_else(none));
            return false;
        };
        let config = &self.walk.config;
        let filter = driver::features_filter(config);
        let Ok(filtered) = filter_features(features, &filter) else {
            let fault = error::fault(FaultReason::BadReply, Some(UNREADABLE));
            report.fault(HopName::Features, fault);
            return false;
        };
        if filtered.facts.filtered_out() {
            let fault = error::fault(FaultReason::NoUsableMechanism, None);
            report.fault(HopName::Features, fault);
            return false;
        }
        report.ok(
            HopName::Features,
            None,
            logins(&filtered.facts, &filtered.removed),
        );
        if filtered.facts.no_login_offered() {
            report.note(HopName::Features, "the server offers no login over this address: its operator may have switched logins off where there is no TLS, or not know that a proxy speaks it".into());
        }
        if config.features.plain_without_tls == PlainWithoutTls::Hide
            && filtered.facts.sasl1_mechanisms == ["PLAIN"]
        {
            report.note(HopName::Features, "PLAIN is all there is, and features.plain_without_tls hides it from clients without TLS".into());
        }
        true
    }

    /// Whether a request is held as long as it should be.
    pub(super) async fn long_poll(&mut self, report: &mut Report) {
        let wait = self.session.granted().map_or(Duration::ZERO, |g| g.wait);
        // The session then holds a request all the time.
        self.session.bound();
        let began = Instant::now();
        let answer = self.turn(wait + Duration::from_secs(20)).await;
        let held = began.elapsed();
        let seconds = held.as_secs();
        let cut = match answer {
            Answer::Heard if self.closed.is_some() => {
                report.note(
                    HopName::LongPoll,
                    format!("the server ended the session after {seconds} s"),
                );
                return;
            }
            Answer::Heard if held + EARLY < wait => {
                let text = format!(
                    "answered after {seconds} s, before the wait of {} s was over",
                    wait.as_secs()
                );
                return report.ok(HopName::LongPoll, Some(held), text);
            }
            Answer::Heard => {
                let text = format!("held for {seconds} s and answered, as agreed");
                return report.ok(HopName::LongPoll, Some(held), text);
            }
            Answer::Failed(failure) => failure.text,
            Answer::Fault(fault) => fault.text.unwrap_or_default(),
            Answer::Silence => "no answer came in time".to_owned(),
            Answer::Moved(..) => "it was redirected".to_owned(),
        };
        report.note(HopName::LongPoll, format!("something on the way ends held requests after {seconds} s ({cut}): xbosh learns to stay below"));
        let below = (seconds * 4 / 5).max(5);
        report.advise(format!(
            "[bosh]\nwait = {below}    # known from the start, instead of learnt"
        ));
    }

    /// Ends the session; its last exchange is the round trip.
    pub(super) async fn end(&mut self, report: &mut Report) {
        if let Some(took) = self.leave().await {
            report.ok(
                HopName::RoundTrip,
                Some(took),
                "one exchange over an open connection".into(),
            );
        }
    }

    /// Ends the session, if there is one. What its last exchange took.
    pub(super) async fn leave(&mut self) -> Option<Duration> {
        self.session.terminate(Duration::from_secs(5), clock::now());
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut last = None;
        // A held request is let go by the next one: both must be under way.
        let mut running = FuturesUnordered::new();
        let (written, mut writings) = tokio::sync::mpsc::unbounded_channel();
        while self.closed.is_none() {
            while let Some(request) = self.session.poll_request(clock::now()) {
                let (client, written) = (self.client.clone(), written.clone());
                running.push(async move {
                    let began = Instant::now();
                    let key = request.key;
                    let tell = move || {
                        let _ = written.send(key);
                    };
                    let exchange = exchange_telling(&client, &request.body, request.fresh, tell);
                    let reply = exchange.await;
                    (request, reply, began.elapsed())
                });
            }
            let timeout = self.session.poll_timeout().map_or(deadline, Instant::from);
            tokio::select! {
                Some((request, reply, took)) = running.next() => match reply {
                    Ok(reply) => {
                        self.heard(&request, &reply);
                        last = Some(took);
                    }
                    Err(failure) => {
                        self.session.handle_failure(request.key, failure, clock::now());
                    }
                },
                Some(key) = writings.recv() => self.session.handle_written(key, clock::now()),
                () = tokio::time::sleep_until(timeout.min(deadline)) => {
                    if Instant::now() >= deadline {
                        break;
                    }
                    self.session.handle_timeout(clock::now());
                }
            }
        }
        last
    }

    /// The largest request that comes through. Each is tried with a session of its own, which it ends.
    pub(super) async fn large_body(&mut self, report: &mut Report) {
        let most = self.settings.bosh.max_body_bytes;
        for size in SIZES {
            self.session = fresh(self.walk, self.settings);
            self.closed = None;
            let first = self.session.poll_request(clock::now());
            let Some(request) = first else { return };
            let reply = within(exchange(&self.client, &request.body, false)).await;
            let Some(Ok(reply)) = reply else { return };
            self.heard(&request, &reply);
            let Some(granted) = self.session.granted() else {
                return;
            };
            let Some(rid) = request.key.rid.next() else {
                self.leave().await;
                return;
            };
            let body = padded(&granted.sid, rid, size);
            let reply = within(exchange(&self.client, &body, false)).await;
            // Refused on the way, perhaps: the manager then still waits for its end.
            let said = match reply {
                Some(Ok(reply)) if (200..300).contains(&reply.status) => {
                    let text = format!("{} KiB come through", size >> 10);
                    return report.ok(HopName::LargeBody, None, text);
                }
                Some(Ok(reply)) => format!("HTTP status {}", reply.status),
                Some(Err(failure)) => failure.text,
                None => "no answer in time".to_owned(),
            };
            self.leave().await;
            report.note(
                HopName::LargeBody,
                format!("{} KiB are refused ({said})", size >> 10),
            );
            if size <= most {
                let line = format!("[bosh]\nmax_body_bytes = {}", size / 4);
                report
                    .advice
                    .retain(|known| !known.contains("max_body_bytes"));
                report.advise(line);
            }
        }
    }
}

/// A terminate request of about so many bytes: blanks in its tag mean nothing to anybody.
fn padded(sid: &crate::bosh::Sid, rid: Rid, size: usize) -> Bytes {
    let head = Head {
        sid,
        rid,
        ack: None,
        keys: RequestKeys::default(),
    };
    let whole = body::encode(&head, true, std::iter::empty());
    let front = whole.strip_suffix(b"/>").unwrap_or(&whole);
    let mut out = BytesMut::with_capacity(size);
    out.extend_from_slice(front);
    out.resize(size.saturating_sub(2).max(front.len()), b' ');
    out.extend_from_slice(b"/>");
    out.freeze()
}

async fn exchange(client: &SessionClient, body: &Bytes, fresh: bool) -> Result<HttpReply, Failure> {
    exchange_telling(client, body, fresh, || {}).await
}

/// As [`exchange`]; tells when the request is written.
async fn exchange_telling(
    client: &SessionClient,
    body: &Bytes,
    fresh: bool,
    written: impl FnOnce() + Send + 'static,
) -> Result<HttpReply, Failure> {
    let request = ExchangeRequest {
        body: body.clone(),
        fresh,
        written: Box::new(written),
        repeated: Box::new(|| {}),
    };
    client.exchange(request).await
}

fn client(walk: &Walk, settings: &Domain, connector: &Connector, url: &Url) -> SessionClient {
    let options = ClientOptions {
        max_response_bytes: walk.config.limits.max_response_bytes,
        http2: settings.bosh.http_version == HttpVersion::Auto,
    };
    SessionClient::new(Target::new(url.clone()), connector.clone(), options)
}

fn fresh(walk: &Walk, settings: &Domain) -> Session {
    let bosh = &settings.bosh;
    let random = driver::random;
    let options = Options {
        requested: Requested {
            to: walk.domain.clone(),
            from: None,
            lang: bosh.lang.clone(),
            ver: bosh.ver.clone(),
            wait: bosh.wait,
            hold: bosh.hold,
            route: settings.route.clone(),
            xmpp_version: true,
        },
        max_body_bytes: bosh.max_body_bytes,
        // Only sizes batches, and a probe sends none.
        https: false,
        buffer_bytes: walk.config.limits.buffer_bytes,
        limits: driver::element_limits(&walk.config),
        first_rid: Rid::first(random()),
        seed: random(),
        way: Way::default(),
        key_seed: None,
    };
    let mut session = Session::new(options, clock::now());
    // One that is asked for and left would outlive the check.
    session.take_any_wait();
    session
}

fn logins(facts: &FeatureFacts, removed: &[String]) -> String {
    let mut ways = facts.sasl1_mechanisms.clone();
    if facts.sasl2 {
        ways.push("SASL2".into());
    }
    if facts.iq_auth {
        ways.push("jabber:iq:auth".into());
    }
    let mut text = match ways.is_empty() {
        true => "no login".to_owned(),
        false => format!("logins: {}", ways.join(", ")),
    };
    if facts.register {
        text.push_str("; registration");
    }
    if !removed.is_empty() {
        text.push_str(&format!("; taken out: {}", removed.join(", ")));
    }
    text
}
