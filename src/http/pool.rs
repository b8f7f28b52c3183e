//! The connections of one session: one request in flight on each (B-05), kept while they are good.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::attempt::{Broken, PooledBody, attempt};
use super::cookies::Jar;
use super::error::Peer;
use super::identity::Identity;
use super::target::Target;
use super::wire::{Observed, OnWritten, Progress, WireBody};
use crate::bosh::failure::Failure;
use crate::connect::{self, Connection, Connector, Login, Round, Sent, Upstream};

/// Idle connections older than this are not used: a NAT or proxy may have forgotten them (T-31). Looked at
/// whenever a connection is wanted or given back, so that nothing wakes up while a poll is held.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Most connections while some are idle: two carry a session, one may be left of a repeat (P-11).
const MAX_KEPT: usize = 3;
/// A connection found closed after so little time was closed because of the answer, not of the idling.
const EARLY: Duration = Duration::from_secs(2);
/// So many closes in a row without one kept connection in between are a habit.
const HABIT: u8 = 2;
/// How long a habit is believed in before it is looked at again.
const HABIT_AGE: Duration = Duration::from_secs(300);
/// Read buffer of a connection; also bounds the head of a reply.
const BUFFER: usize = 64 * 1024;

/// One request as the pool takes it.
pub(super) struct Outgoing {
    pub(super) body: Bytes,
    pub(super) fresh: bool,
    pub(super) written: OnWritten,
    pub(super) repeated: OnWritten,
}

/// Connections and cookies of one session.
pub(super) struct Pool {
    target: Target,
    authority: String,
    connector: Connector,
    /// Most bytes of a reply's body on the wire.
    pub(super) max_response_bytes: usize,
    idle: Mutex<Vec<Idle>>,
    /// Connections with an exchange.
    busy: Mutex<Vec<Arc<Place>>>,
    /// The attempt to have one more connection ready.
    warming: Mutex<Option<AbortHandle>>,
    jar: Mutex<Jar>,
    identity: Identity,
    /// The manager has answered.
    answered: AtomicBool,
    closes: Mutex<Closes>,
}

/// Connections that were closed behind an answer that did not say so.
#[derive(Default)]
struct Closes {
    in_a_row: u8,
    last: Option<Instant>,
}

struct Idle {
    connection: Live,
    since: Instant,
}

/// Where a connection stands in the network.
pub(super) struct Place {
    /// This machine's address on it.
    local: Option<IpAddr>,
    /// The way through the network may be gone: no further request.
    lost: AtomicBool,
}

/// A connection without a request in flight, or with just one.
pub(super) struct Live {
    pub(super) sender: SendRequest<WireBody>,
    pub(super) progress: Arc<Progress>,
    task: AbortHandle,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// Who we are to the proxy, in each request (P-05).
    pub(super) login: Option<Arc<Login>>,
    pub(super) place: Arc<Place>,
}

impl Live {
    fn new(made: Connection) -> impl Future<Output = hyper::Result<Self>> {
        let progress = Arc::new(Progress::default());
        let io = TokioIo::new(Observed::new(made.stream, Arc::clone(&progress)));
        let (upstream, login) = made.absolute_form.unzip();
        let place = Arc::new(Place {
            local: made.local,
            lost: AtomicBool::new(false),
        });
        async move {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(BUFFER)
                .handshake(io)
                .await?;
            // Errors of the connection reach the request on it; an idle one has nobody to tell.
            let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
            Ok(Self {
                sender,
                progress,
                task,
                login,
                upstream: upstream.map(Arc::new),
                place,
            })
        }
    }

    /// Closes it now, whatever is under way.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

impl Pool {
    pub(super) fn new(target: Target, connector: Connector, max_response_bytes: usize) -> Self {
        Self {
            authority: target.authority(),
            target,
            identity: Identity::new(connector.same_certificate()),
            connector,
            max_response_bytes,
            idle: Mutex::default(),
            busy: Mutex::default(),
            warming: Mutex::default(),
            jar: Mutex::default(),
            answered: AtomicBool::new(false),
            closes: Mutex::default(),
        }
    }

    /// host:port of the manager.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether the manager has answered.
    pub(super) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn peer<'a>(&'a self, upstream: Option<&'a Upstream>) -> Peer<'a> {
        Peer {
            upstream,
            target: &self.authority,
            answered: self.answered(),
        }
    }

    /// Sends one request and waits for the head of its reply. Dropping the future closes the connection.
    pub(super) async fn send(
        self: Arc<Self>,
        mut outgoing: Outgoing,
    ) -> Result<Response<PooledBody>, Failure> {
        let mut round = Round::default();
        loop {
            let body = outgoing.body.clone();
            let response = self.send_once(outgoing).await?;
            if response.status() != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
                return Ok(response);
            }
            let Some((login, sent)) = &response.body().login else {
                return Ok(response);
            };
            round.sent = sent.clone();
            let challenges = response.headers().get_all(header::PROXY_AUTHENTICATE);
            let challenges = challenges.iter().map(http::HeaderValue::as_bytes);
            if !login.challenged(&mut round, challenges) {
                return Ok(response);
            }
            // The same rid and bytes once more: the manager never saw them (P-06), so this is no second copy.
            response.into_body().drain().await;
            outgoing = Outgoing {
                body,
                fresh: false,
                written: Box::new(|| {}),
                repeated: Box::new(|| {}),
            };
        }
    }

    async fn send_once(
        self: &Arc<Self>,
        outgoing: Outgoing,
    ) -> Result<Response<PooledBody>, Failure> {
        let Outgoing {
            body,
            fresh,
            mut written,
            repeated,
        } = outgoing;
        let mut sent = false;
        if fresh {
            // What failed may be the path: the others on it are not trusted either (T-08).
            self.drop_idle();
        } else if let Some((connection, since)) = self.checkout().await {
            match attempt(self, connection, body.clone(), written).await {
                Ok(response) => {
                    lock(&self.closes).in_a_row = 0;
                    return Ok(response);
                }
                // T-31: a kept connection that dies before the first byte of a reply says nothing about the
                // manager. The same bytes go out once more; the rid makes that safe.
                Err(Broken {
                    failure,
                    untouched: Some(back),
                }) => {
                    self.note_close(since);
                    repeated();
                    written = back;
                    sent = failure.sent;
                }
                Err(Broken {
                    failure,
                    untouched: None,
                }) => return Err(failure),
            }
        }
        let result = match self.open().await {
            Ok(connection) => attempt(self, connection, body, written)
                .await
                .map_err(|broken| broken.failure),
            Err(failure) => Err(failure),
        };
        result.map_err(|failure| Failure {
            sent: failure.sent || sent,
            ..failure
        })
    }

    /// The newest idle connection that is still good, and since when it was idle.
    async fn checkout(&self) -> Option<(Live, Instant)> {
        loop {
            let Idle {
                mut connection,
                since,
            } = self.lock_idle().pop()?;
            // Just behind a reply the connection's task may not be done with it yet.
            let good = connection.sender.is_ready() || connection.sender.ready().await.is_ok();
            if good {
                return Some((connection, since));
            }
            self.note_close(since);
        }
    }

    /// A connection was given back, and then found closed.
    fn note_close(&self, since: Instant) {
        if since.elapsed() < EARLY {
            let mut closes = lock(&self.closes);
            closes.in_a_row = closes.in_a_row.saturating_add(1);
            closes.last = Some(Instant::now());
        }
    }

    /// The peer closes behind every answer without saying so, as tinyproxy does (P-08): a request written to
    /// such a connection would count as written and then be overtaken by the next one (T-37).
    fn closes_silently(&self) -> bool {
        let closes = lock(&self.closes);
        closes.in_a_row >= HABIT && closes.last.is_some_and(|last| last.elapsed() < HABIT_AGE)
    }

    /// Keeps a connection whose exchange is over.
    pub(super) fn put_back(&self, connection: Live) {
        let lost = connection.place.lost.load(Ordering::Relaxed);
        if lost || connection.sender.is_closed() || self.closes_silently() {
            return;
        }
        let mut idle = self.lock_idle();
        if idle.len() + lock(&self.busy).len() < MAX_KEPT {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    /// Idle connections, without those that are too old or closed.
    fn lock_idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        let mut idle = lock(&self.idle);
        let now = Instant::now();
        idle.retain(|kept| {
            let age = now.saturating_duration_since(kept.since);
            let closed = kept.connection.sender.is_closed();
            if closed && age < EARLY {
                self.note_close(kept.since);
            }
            age < MAX_IDLE && !closed
        });
        idle
    }

    /// Closes all connections without an exchange.
    pub(super) fn drop_idle(&self) {
        lock(&self.idle).clear();
        if let Some(warming) = lock(&self.warming).take() {
            warming.abort();
        }
    }

    /// Closes the idle connections whose local address is `lost`, and lets the busy ones carry no further
    /// request. Returns whether there was any of either kind.
    pub(super) fn renew(&self, lost: impl Fn(Option<IpAddr>) -> bool) -> bool {
        let mut idle = lock(&self.idle);
        let before = idle.len();
        idle.retain(|kept| !lost(kept.connection.place.local));
        let mut found = idle.len() < before;
        drop(idle);
        for place in lock(&self.busy).iter().filter(|place| lost(place.local)) {
            place.lost.store(true, Ordering::Relaxed);
            found = true;
        }
        // One being opened goes the same way as the others.
        if found && let Some(warming) = lock(&self.warming).take() {
            warming.abort();
        }
        found
    }

    /// Opens a connection in the background, unless one is idle, being opened, or of no use.
    pub(super) fn warm(self: &Arc<Self>) {
        let mut warming = lock(&self.warming);
        let under_way = warming.as_ref().is_some_and(|task| !task.is_finished());
        if under_way || self.closes_silently() || !self.lock_idle().is_empty() {
            return;
        }
        let weak = Arc::downgrade(self);
        let connector = self.connector.clone();
        let url = self.target.url.clone();
        let task = tokio::spawn(async move {
            // A failure here says nothing yet: the request that needs the connection will meet it again.
            let Ok(mut made) = connector.connect(&url).await else {
                return;
            };
            let certificate = made.certificate.take();
            if let Ok(live) = Live::new(made).await
                && let Some(pool) = weak.upgrade()
                && pool.identity.check(certificate, &pool.authority).is_ok()
            {
                pool.put_back(live);
            }
        });
        *warming = Some(task.abort_handle());
    }

    async fn open(&self) -> Result<Live, Failure> {
        let mut made = self
            .connector
            .connect(&self.target.url)
            .await
            .map_err(connect::ConnectError::into_failure)?;
        self.identity
            .check(made.certificate.take(), &self.authority)
            .map_err(connect::ConnectError::into_failure)?;
        Live::new(made)
            .await
            .map_err(|error| self.peer(None).broken(&error, false))
    }

    /// The next exchange begins.
    pub(super) fn begin(&self, place: &Arc<Place>) {
        lock(&self.busy).push(Arc::clone(place));
    }

    /// An exchange is over.
    pub(super) fn end(&self, place: &Arc<Place>) {
        lock(&self.busy).retain(|other| !Arc::ptr_eq(other, place));
    }

    /// The request, and what it says to the proxy about us.
    pub(super) fn request(&self, body: Bytes, live: &Live) -> (Request<WireBody>, Sent) {
        let login = live.login.as_ref();
        let authorized = login.map(|login| login.authorize("POST", self.target.absolute(), &body));
        let (authorization, sent) = authorized.unwrap_or((None, Sent::Nothing));
        let length = body.len();
        let body = WireBody::new(body, Arc::clone(&live.progress));
        let mut request = self.target.request(body, length, live.upstream.is_some());
        if let Some(cookies) = lock(&self.jar).header() {
            request.headers_mut().insert(header::COOKIE, cookies);
        }
        if let Some(authorization) = authorization {
            request
                .headers_mut()
                .insert(header::PROXY_AUTHORIZATION, authorization);
        }
        (request, sent)
    }

    /// Takes note of a reply's head.
    pub(super) fn learn(&self, headers: &http::HeaderMap) {
        if headers.contains_key(header::SET_COOKIE) {
            lock(&self.jar).learn(headers);
        }
    }

    /// The manager has answered, and not a proxy in its place.
    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.drop_idle();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pool as a tower service, so that layers can stand on it.
#[derive(Clone)]
pub(super) struct PoolService(pub(super) Arc<Pool>);

impl tower::Service<Request<Outgoing>> for PoolService {
    type Response = Response<PooledBody>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Outgoing>) -> Self::Future {
        Box::pin(Arc::clone(&self.0).send(request.into_body()))
    }
}
