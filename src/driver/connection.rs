//! One task per client: reads, writes, exchanges and one timer in a single `select!`.

mod alarm;
mod events;
mod exchanges;
mod handover;
mod options;
mod secure;
mod socket;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Aborted};
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
use super::endpoint::{Endpoints, Resolved};
use super::pace::{Pace, Ticket};
use super::resume::{Attachment, Registry, Returned};
use super::told::Told;
use super::watch::{Change, Changes, Watch};
use crate::bosh::{Failure, HttpReply, RequestKey};
use crate::bridge::{Bridge, SmId};
use crate::http::SessionClient;
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
