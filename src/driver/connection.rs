//! One task per client: reads, writes, exchanges and one timer in a single `select!`.

mod alarm;
mod handover;
mod options;
mod secure;
mod socket;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable, Aborted, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};

use self::alarm::is_soon_enough;
use self::handover::{next, returned};
use self::options::bridge_options;
pub(crate) use self::options::{element_limits, features_filter};
use self::secure::{Choosing, Turning, chosen};
use self::socket::{readable, writable};
use super::client::{Client, Peer};
use super::clock;
use super::endpoint::{Endpoints, Resolved, redirect_target};
use super::pace::{Pace, Ticket, TooMany, Visitor};
use super::resume::{Attachment, Registry, Returned};
use super::told::Told;
use super::watch::{Change, Changes, Watch};
use crate::bosh::{Failure, HttpReply, Request, RequestKey};
use crate::bridge::{self, Bridge, SmId};
use crate::http::{ExchangeRequest, SessionClient};
use crate::local_tls::LocalTls;
use crate::status::{Board, Seat};
use crate::stream::error::FaultReason;

/// How long a client may take to close its side once we have closed ours (S-18).
const LINGER: Duration = Duration::from_secs(5);
/// The same when the sidecar stops: one client that is slow must not take up all the time there is (S-47).
const LINGER_STOPPING: Duration = Duration::from_secs(1);
type Resolving =
    std::pin::Pin<Box<dyn Future<Output = Result<Resolved, (FaultReason, String)>> + Send>>;
type Finished = (RequestKey, Result<Result<HttpReply, Failure>, Aborted>);
type Running = std::pin::Pin<Box<dyn Future<Output = Finished> + Send>>;

/// What an exchange tells before its end.
enum Sent {
    /// The last byte is written.
    Whole(RequestKey),
    /// The bytes go out on another connection.
    Again(RequestKey),
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Arc<crate::config::Config>,
    pub(super) endpoints: Endpoints,
    pub(super) registry: Arc<Registry>,
    pub(super) watch: Arc<Watch>,
    pub(super) told: Told,
    pub(super) pace: Pace,
    pub(super) board: Arc<Board>,
    /// None where clients get no TLS.
    pub(super) local_tls: Option<Arc<LocalTls>>,
}

/// Serves one client until both its stream and its session are over. The future is small: an idle session lives in it.
pub(super) fn serve(
    client: Client,
    peer: Peer,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send {
    let bridge = Bridge::new(bridge_options(&shared, &peer), clock::now());
    let (written_tx, written_rx) = mpsc::unbounded_channel();
    let changes = shared.watch.changes();
    let seat = shared.board.seat(peer.to_string(), clock::now());
    let connection = Box::new(Connection {
        bridge,
        client: Some(client),
        peer,
        shared,
        manager: None,
        resolving: None,
        running: FuturesUnordered::new(),
        aborts: Vec::new(),
        written_tx,
        written_rx,
        output_closed: false,
        input_closed: false,
        door: None,
        given: None,
        was_cut: false,
        asked: None,
        waiting: Vec::new(),
        stuck_until: None,
        claimed: None,
        turning: Turning::default(),
        choosing: None,
        seat,
        told: ("", (0, 0)),
        flying: Vec::new(),
        ticket: None,
    });
    connection.run(changes, stop)
}

/// 64 bits from the operating system. Without them nothing is safe to start, so the task ends.
#[expect(
    clippy::expect_used,
    reason = "an operating system without randomness cannot run TLS either"
)]
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}

struct Manager {
    client: SessionClient,
    resolved: Resolved,
    /// Names the way in what is learnt about it.
    way: String,
}

struct Connection {
    bridge: Bridge,
    /// None while the stream waits for its client, or the client for an answer elsewhere.
    client: Option<Client>,
    peer: Peer,
    shared: Arc<Shared>,
    manager: Option<Manager>,
    /// The address of the domain's manager is being looked for.
    resolving: Option<Resolving>,
    running: FuturesUnordered<Running>,
    aborts: Vec<(RequestKey, AbortHandle)>,
    written_tx: mpsc::UnboundedSender<Sent>,
    written_rx: mpsc::UnboundedReceiver<Sent>,
    output_closed: bool,
    input_closed: bool,
    /// Where clients come in that resume this stream.
    door: Option<mpsc::UnboundedReceiver<Attachment>>,
    /// The client was handed to the stream that it resumes, unless it comes back here.
    given: Option<oneshot::Receiver<Returned>>,
    /// Long polls were cut on the way.
    was_cut: bool,
    /// What the client asked to resume when it was handed over.
    asked: Option<(SmId, u32, Option<String>)>,
    /// Clients that came while the stream was ending.
    waiting: Vec<Attachment>,
    /// When a client that does not take its last words is given up.
    stuck_until: Option<Instant>,
    /// The lost stream whose messages the client is to get here.
    claimed: Option<SmId>,
    /// The client's TLS.
    turning: Turning,
    /// The certificate that its handshake waits for.
    choosing: Option<Choosing>,
    /// Where what happens is noted for `xbosh status`.
    seat: Seat,
    /// State and stanzas as they were noted last.
    told: (&'static str, (u64, u64)),
    /// Requests that are written, and when.
    flying: Vec<(RequestKey, Instant)>,
    /// What comes of the sessions that are asked for, until the client is gone.
    ticket: Option<Ticket>,
}

impl Connection {
    async fn run(mut self: Box<Self>, changes: Changes, stop: watch::Receiver<bool>) {
        let mut linger_until = None;
        // Kept, since a future made for each round would join and leave a list that all connections share.
        let mut told_to_stop = pin!(told_to_stop(stop));
        let mut change = pin!(next_change(changes));
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut armed: Option<Instant> = None;
        let mut stopping = false;
        loop {
            self.write_at_once();
            self.settle();
            self.begin_due_handshake();
            let closed = self.has_said_all();
            if closed && !self.output_closed {
                self.close_output().await;
                let linger = if stopping { LINGER_STOPPING } else { LINGER };
                linger_until = Some(clock::now() + linger);
            }
            self.watch_last_words(closed);
            if self.bridge.is_client_closed() {
                self.ticket = None;
            }
            if self.bridge.is_finished() && self.output_closed && self.input_closed {
                return self.end();
            }
            let timeout = self
                .bridge
                .poll_timeout()
                .into_iter()
                .chain(linger_until)
                .chain(self.stuck_until)
                .min();
            if let Some(at) = timeout
                && !armed.is_some_and(|armed| is_soon_enough(armed, at))
            {
                timer.as_mut().reset(at.into());
                armed = Some(at);
            }
            let reading = !self.input_closed && (self.output_closed || self.wants_bytes());
            let writing = !self.output_closed && self.has_output();
            tokio::select! {
                biased;
                () = told_to_stop.as_mut(), if !stopping => {
                    stopping = true;
                    let now = clock::now();
                    linger_until = linger_until.map(|until| until.min(now + LINGER_STOPPING));
                    self.bridge.shutdown(now);
                }
                Some((key, result)) = self.running.next(), if !self.running.is_empty() => {
                    self.on_finished(key, result);
                }
                // Behind what says it, so that it is heard at once.
                Some(sent) = self.written_rx.recv() => self.on_sent(sent),
                resolved = found(&mut self.resolving), if self.resolving.is_some() => {
                    self.resolving = None;
                    self.on_resolved(resolved);
                }
                (domain, config) = chosen(&mut self.choosing), if self.choosing.is_some() => {
                    self.choosing = None;
                    self.on_chosen(domain, config);
                }
                ready = writable(self.client.as_ref()), if writing => self.write(ready),
                ready = readable(self.client.as_ref()), if reading => self.read(ready),
                (happened, changes) = change.as_mut() => {
                    change.set(next_change(changes));
                    self.on_change(happened);
                }
                Some(attachment) = next(&mut self.door) => self.on_attachment(attachment),
                back = returned(&mut self.given), if self.given.is_some() => self.on_returned(back),
                () = timer.as_mut(), if timeout.is_some() => {
                    armed = None;
                    let now = clock::now();
                    if self.stuck_until.is_some_and(|until| until <= now) {
                        self.output_closed = true;
                        self.input_closed = true;
                        self.stuck_until = None;
                        self.client = None;
                    }
                    if linger_until.is_some_and(|until| until <= now) {
                        linger_until = None;
                        self.input_closed = true;
                    }
                    self.bridge.handle_timeout(now);
                    if self.bridge.is_client_closed() {
                        self.drop_handshake();
                    }
                }
            }
        }
    }

    /// Drains everything the bridge wants done now.
    fn settle(&mut self) {
        loop {
            while let Some(event) = self.bridge.poll_event() {
                self.on_event(event);
            }
            self.start_and_abort();
            // The end of a session may have left something to do.
            match self.bridge.poll_event() {
                Some(event) => self.on_event(event),
                None => return self.note(),
            }
        }
    }

    /// For `xbosh status`, if anything is new.
    fn note(&mut self) {
        let now = (self.bridge.state(), self.bridge.stanzas());
        if now == self.told {
            return;
        }
        self.told = now;
        let (state, (up, down)) = now;
        let mut facts = self.seat.facts();
        let stream = &mut facts.stream;
        if stream.state != state {
            state.clone_into(&mut stream.state);
        }
        if stream.domain.is_none() {
            stream.domain = self.bridge.domain().map(str::to_owned);
        }
        stream.tls = self.bridge.is_secure();
        stream.direct_tls = self.bridge.is_secure_from_the_start();
        (stream.stanzas_up, stream.stanzas_down) = (up, down);
    }

    /// An answer came, brought about by the oldest request that is newer; without one, by the request itself,
    /// unless it was held: then it took much longer than the way does.
    fn note_round_trip(&mut self, key: RequestKey, now: Instant) {
        let newer = self.flying.iter().filter(|(other, _)| other.rid > key.rid);
        let newer = newer.min_by_key(|(other, _)| other.rid);
        let own = self.flying.iter().find(|(other, _)| *other == key);
        let held = self.bridge.round_trip().unwrap_or_default() * 4;
        let time = match (newer, own) {
            (Some((_, at)), _) => now.saturating_duration_since(*at),
            (None, Some((_, at))) => now.saturating_duration_since(*at),
            (None, None) => return,
        };
        if newer.is_some() || time <= held {
            self.seat.facts().note_round_trip(time);
        }
    }

    /// In which HTTP version the manager answers.
    fn note_http(&mut self) {
        let version = self.manager.as_ref().and_then(|m| m.client.http_version());
        let mut facts = self.seat.facts();
        if facts.stream.http.as_deref() != version {
            facts.stream.http = version.map(str::to_owned);
        }
    }

    fn start_and_abort(&mut self) {
        while let Some(key) = self.bridge.poll_abort() {
            if let Some(at) = self.aborts.iter().position(|(known, _)| *known == key) {
                self.aborts.swap_remove(at).1.abort();
            }
        }
        while let Some(request) = self.bridge.poll_request(clock::now()) {
            self.start(request);
        }
    }

    fn on_event(&mut self, event: bridge::Event) {
        match event {
            bridge::Event::Resolve { domain } => self.on_resolve(&domain),
            bridge::Event::Elsewhere(fault) => self.on_elsewhere(&fault.to_string()),
            bridge::Event::Redirect { status, location } => self.on_redirect(status, &location),
            bridge::Event::Tls { received } => self.turn(received),
            bridge::Event::Bound => {
                if let (Some(domain), Some(tls)) = (self.bridge.domain(), &self.shared.local_tls) {
                    tls.used(domain);
                }
                if let Some(ticket) = &mut self.ticket {
                    ticket.bound(clock::now());
                }
                tracing::info!(client = %self.peer, domain = self.bridge.domain(), "client is online");
                // The one of the beginning may be too old: a password takes time to type.
                self.warm();
            }
            bridge::Event::Filtered(removed) => {
                let what = crate::stream::features::why(&removed);
                if let Some(domain) = self.bridge.domain()
                    && self.shared.told.is_news(domain, &what)
                {
                    tracing::info!(domain, "not offered to clients: {what}");
                }
            }
            bridge::Event::Resumable { id, user } => {
                let (door, visitors) = mpsc::unbounded_channel();
                self.door = Some(visitors);
                self.shared.registry.add(id, self.owner(user), door);
            }
            bridge::Event::Resume { previd, h, user } => self.on_resume(previd, h, user),
            bridge::Event::Over { id, remains } => {
                self.shared.registry.remove(id, remains, clock::now());
                self.close_door();
            }
            bridge::Event::Cut(limit) => {
                tracing::info!(
                    domain = self.bridge.domain(),
                    seconds = limit.as_secs(),
                    "something on the way cuts long polls: they are kept shorter from now on"
                );
                self.was_cut = true;
                if let Some(manager) = &self.manager {
                    self.shared.endpoints.habits().cut(&manager.way, limit);
                }
            }
            bridge::Event::Moved { location } => {
                if let Some(manager) = &self.manager
                    && let Some(url) = redirect_target(&manager.resolved.url, None, &location)
                    && let Some(domain) = self.bridge.domain()
                {
                    tracing::info!(domain, to = %plain(&url), "later sessions go elsewhere");
                    self.shared.endpoints.moved(domain, url);
                }
            }
            bridge::Event::Fault(fault) => {
                let domain = self.bridge.domain();
                if !self.bridge.was_opened()
                    && let Some(domain) = domain
                {
                    self.shared.endpoints.not_moved(domain);
                    if let Some(manager) = &self.manager
                        && manager.resolved.discovered
                    {
                        self.shared.endpoints.avoid(&manager.resolved.url);
                        self.shared.endpoints.forget(domain);
                    }
                }
                self.seat.facts().note_error(&fault.to_string());
                if fault.reason != FaultReason::Shutdown {
                    self.seat.failed();
                }
                match fault.reason {
                    FaultReason::Shutdown => {
                        tracing::debug!(client = %self.peer, domain, "stream ended: {fault}")
                    }
                    _ => tracing::warn!(client = %self.peer, domain, "stream ended: {fault}"),
                }
            }
        }
    }

    fn on_resolve(&mut self, domain: &str) {
        let (shared, domain) = (Arc::clone(&self.shared), domain.to_owned());
        let visitor = Visitor::new(&self.peer, self.bridge.header(), self.bridge.is_secure());
        let turn = shared.pace.ask(&domain, visitor);
        self.ticket
            .get_or_insert_with(|| shared.pace.ticket(&domain))
            .add(visitor);
        self.resolving = Some(Box::pin(async move {
            if let Err(TooMany) = turn.await {
                return Err((FaultReason::TooManySessions, String::new()));
            }
            shared.endpoints.resolve(&domain).await
        }));
    }

    fn on_resolved(&mut self, resolved: Result<Resolved, (FaultReason, String)>) {
        if let (Some(ticket), Err((FaultReason::TooManySessions, _))) =
            (&mut self.ticket, &resolved)
        {
            ticket.refused();
        }
        let answer = resolved.map(|resolved| {
            let domain = self.bridge.domain().unwrap_or_default();
            let endpoints = &self.shared.endpoints;
            let way = format!("{domain} {}", resolved.url.authority());
            let mut endpoint = resolved.endpoint.clone();
            endpoint.bosh.wait = endpoints.habits().wait(&way, endpoint.bosh.wait);
            endpoint.way = endpoints.habits().way(&way, endpoint.way);
            if resolved.discovered {
                tracing::debug!(domain, url = %plain(&resolved.url), "connection manager found");
            }
            let client = endpoints.client(&resolved.url, &resolved);
            let mut facts = self.seat.facts();
            facts.stream.url = Some(plain(&resolved.url));
            facts.stream.way = Some(resolved.way());
            drop(facts);
            self.manager = Some(Manager {
                client,
                resolved,
                way,
            });
            endpoint
        });
        self.bridge.handle_endpoint(answer, clock::now());
    }

    /// No session at this address: the domain has named another (D-06).
    fn on_elsewhere(&mut self, why: &str) {
        let Some(domain) = self.bridge.domain().map(str::to_owned) else {
            return;
        };
        if let Some(manager) = self.manager.take() {
            tracing::info!(client = %self.peer, domain, url = %plain(&manager.resolved.url), "trying another address: {why}");
            self.shared.endpoints.avoid(&manager.resolved.url);
        }
        self.flying.clear();
        for (_, running) in self.aborts.drain(..) {
            running.abort();
        }
        self.on_resolve(&domain);
    }

    fn on_redirect(&mut self, status: Option<u16>, location: &str) {
        let now = clock::now();
        let Some(manager) = &mut self.manager else {
            return;
        };
        match redirect_target(&manager.resolved.url, status, location) {
            Some(url) => {
                let (from, to) = (plain(&manager.resolved.url), plain(&url));
                tracing::info!(client = %self.peer, %from, %to, "connection manager moved");
                manager.client = self.shared.endpoints.client(&url, &manager.resolved);
                manager.resolved.url = url;
                self.bridge.handle_redirect(true, None, now);
            }
            None => self
                .bridge
                .handle_redirect(false, Some(location.to_owned()), now),
        }
    }

    fn start(&mut self, request: Request) {
        let Some(manager) = &self.manager else { return };
        let key = request.key;
        let mut facts = self.seat.facts();
        facts.stream.exchanges += 1;
        facts.stream.repeats += u64::from(key.attempt > 1);
        drop(facts);
        let (written, repeated) = (self.written_tx.clone(), self.written_tx.clone());
        let exchange = manager.client.exchange(ExchangeRequest {
            body: request.body,
            fresh: request.fresh,
            written: Box::new(move || {
                // The receiver lives as long as this task.
                let _ = written.send(Sent::Whole(key));
            }),
            repeated: Box::new(move || {
                let _ = repeated.send(Sent::Again(key));
            }),
        });
        let (handle, registration) = AbortHandle::new_pair();
        self.aborts.push((key, handle));
        let exchange = Abortable::new(exchange, registration);
        self.running
            .push(Box::pin(exchange.map(move |result| (key, result))));
    }

    /// Has a second connection opened ahead of need (T-37): what the client says next then leaves at once, in order,
    /// and after the TLS tickets of its connection are acknowledged. A failure is met again by who needs it.
    fn warm(&self) {
        if let Some(manager) = &self.manager {
            manager.client.warm();
        }
    }

    fn on_sent(&mut self, sent: Sent) {
        match sent {
            Sent::Whole(key) => {
                let now = clock::now();
                self.flying.push((key, now));
                self.bridge.handle_written(key, now);
                // The way has just proved good: at the beginning, or after a connection was lost.
                if !self.bridge.was_opened() || key.attempt > 1 {
                    self.warm();
                }
            }
            Sent::Again(key) => {
                self.bridge.handle_repeated(key);
                // It takes a connection that is opened now; the one beside it may be dead as well.
                self.warm();
            }
        }
    }

    fn on_finished(
        &mut self,
        key: RequestKey,
        result: Result<Result<HttpReply, Failure>, Aborted>,
    ) {
        self.aborts.retain(|(known, _)| *known != key);
        // A reply implies that the request was written, whichever is seen first.
        while let Ok(sent) = self.written_rx.try_recv() {
            self.on_sent(sent);
        }
        let now = clock::now();
        match result {
            Ok(Ok(reply)) => {
                if let Some(ticket) = &mut self.ticket
                    && reply.status < 500
                {
                    ticket.answered();
                }
                self.bridge.handle_response(key, &reply, now);
                self.note_round_trip(key, now);
                self.note_http();
            }
            Ok(Err(failure)) => {
                self.seat.facts().note_error(&failure.text);
                tracing::debug!(client = %self.peer, domain = self.bridge.domain(), "exchange failed: {}", failure.text);
                if !failure.sent && self.bridge.may_go_elsewhere() {
                    self.bridge.go_elsewhere();
                    return self.on_elsewhere(&failure.text);
                }
                self.bridge.handle_failure(key, failure, now);
            }
            Err(Aborted) => {}
        }
        self.flying.retain(|(known, _)| *known != key);
    }

    /// T-32: the machine slept, or its network changed: what is under way may be dead without knowing it.
    fn on_change(&mut self, change: Change) {
        let Some(manager) = &self.manager else { return };
        let now = clock::now();
        match change {
            Change::Slept(slept) => {
                tracing::info!(
                    domain = self.bridge.domain(),
                    seconds = slept.as_secs(),
                    "the machine slept: renewing connections"
                );
                manager.client.renew(true);
                self.bridge.handle_renewal(slept, now);
            }
            Change::Network if manager.client.renew(false) => {
                tracing::info!(
                    domain = self.bridge.domain(),
                    "the machine's address changed: renewing connections"
                );
                self.bridge.handle_renewal(Duration::ZERO, now);
            }
            Change::Network => self.bridge.handle_network(now),
        }
    }

    /// The last thing a connection does.
    fn end(mut self: Box<Self>) {
        self.close_door();
        if let Some(manager) = &self.manager {
            let (way, longest) = self.bridge.learnt();
            let habits = self.shared.endpoints.habits();
            habits.learnt(&manager.way, way, longest);
        }
        if let Some(manager) = self.manager.as_ref().filter(|_| !self.was_cut) {
            let longest = self.bridge.longest_hold();
            let configured = manager.resolved.endpoint.bosh.wait;
            self.shared
                .endpoints
                .habits()
                .held(&manager.way, longest, configured);
        }
        let kept = self.bridge.take_kept();
        if let Some(id) = &self.claimed
            && !kept.is_empty()
        {
            self.shared.registry.put_back(id, kept);
        }
    }
}

/// The address without what may be a secret in it (B-73).
pub(crate) fn plain(url: &url::Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only where there is nothing to take out.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.to_string()
}

async fn told_to_stop(mut stop: watch::Receiver<bool>) {
    // A dropped sender means that the sidecar is gone: stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The next change, and what the others are waited for with.
async fn next_change(mut changes: Changes) -> (Change, Changes) {
    let change = changes.next().await;
    (change, changes)
}

async fn found(resolving: &mut Option<Resolving>) -> Result<Resolved, (FaultReason, String)> {
    match resolving {
        Some(resolving) => resolving.await,
        None => std::future::pending().await,
    }
}
