//! What the requests of one session go out on: connections of its own, or streams of shared ones.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::attempt::{Broken, attempt};
use super::client::ExchangeRequest;
use super::cookies::Jar;
use super::error::Peer;
use super::find::Found;
use super::identity::Identity;
use super::kept::Kept;
use super::live::About;
use super::multiplex::Multiplexed;
use super::reply::PooledBody;
use super::sharing::{Group, Made, Want};
use super::target::Target;
use super::turn::Turns;
use super::wire::WireBody;
use super::{lock, stream};
use crate::bosh::failure::Failure;
use crate::connect::{Connector, Round, Sent, Upstream};

/// Connections and cookies of one session.
pub(super) struct Pool {
    pub(super) target: Target,
    pub(super) authority: String,
    pub(super) connector: Connector,
    /// Most bytes of a reply's body on the wire.
    pub(super) max_response_bytes: usize,
    /// Connections of its own.
    pub(super) kept: Kept,
    /// Connections that it shares; none where only HTTP/1.1 is spoken.
    pub(super) group: Option<Arc<Group>>,
    /// The shared connection that it used last.
    pub(super) usual: Mutex<Weak<Multiplexed>>,
    /// Shared connections on which its last exchange came to no good end, and when that began.
    pub(super) distrusted: Mutex<Vec<(Weak<Multiplexed>, Instant)>>,
    /// Which of several requests that broke off goes out again first.
    turns: Turns,
    /// The attempt to have one more connection ready.
    warming: Mutex<Option<AbortHandle>>,
    jar: Mutex<Jar>,
    pub(super) identity: Identity,
    /// The manager has answered.
    answered: AtomicBool,
}

impl Pool {
    pub(super) fn new(
        target: Target,
        connector: Connector,
        max_response_bytes: usize,
        group: Option<Arc<Group>>,
    ) -> Self {
        Self {
            authority: target.authority(),
            target,
            identity: Identity::new(connector.same_certificate()),
            connector,
            max_response_bytes,
            kept: Kept::default(),
            group,
            usual: Mutex::default(),
            distrusted: Mutex::default(),
            turns: Turns::default(),
            warming: Mutex::default(),
            jar: Mutex::default(),
            answered: AtomicBool::new(false),
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

    /// Sends one request and waits for the head of its reply. Dropping the future closes the connection, or
    /// resets the stream.
    pub(super) async fn send(
        self: Arc<Self>,
        mut outgoing: ExchangeRequest,
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
            outgoing = ExchangeRequest {
                body,
                fresh: false,
                written: Box::new(|| {}),
                repeated: Box::new(|| {}),
            };
        }
    }

    async fn send_once(
        self: &Arc<Self>,
        outgoing: ExchangeRequest,
    ) -> Result<Response<PooledBody>, Failure> {
        let ExchangeRequest {
            body,
            fresh,
            mut written,
            repeated,
        } = outgoing;
        let number = self.turns.number();
        if !fresh {
            // The core sends repeats in order itself.
            self.turns.follow(number).await;
        }
        let mut repeated = Some(repeated);
        let since = fresh.then(|| self.doubt()).flatten();
        let mut found = self.find(fresh, since, None).await?;
        let mut sent = false;
        let mut again = true;
        loop {
            let (broken, since, stream) = match found {
                Found::Kept(live, since) => {
                    match attempt(self, live, body.clone(), written).await {
                        Ok(response) => {
                            self.kept.note_good();
                            return Ok(response);
                        }
                        Err(broken) => (broken, Some(since), None),
                    }
                }
                Found::New(live) => match attempt(self, live, body.clone(), written).await {
                    Ok(response) => return Ok(response),
                    Err(broken) => {
                        again = false;
                        (broken, None, None)
                    }
                },
                Found::Stream(slot) => {
                    let connection = Arc::downgrade(&slot.connection);
                    match stream::attempt(self, slot, body.clone(), written).await {
                        Ok(response) => return Ok(response),
                        Err(broken) => (broken, None, Some(connection)),
                    }
                }
            };
            let Broken { failure, untouched } = broken;
            sent |= failure.sent;
            let failed = Failure { sent, ..failure };
            let Some(back) = untouched.filter(|_| again) else {
                return Err(failed);
            };
            // T-31: a kept connection that dies before the first byte of a reply says nothing about the
            // manager. The same bytes go out once more; the rid makes that safe.
            if let Some(since) = since {
                self.kept.note_close(since);
            }
            if failed.sent
                && let Some(repeated) = repeated.take()
            {
                repeated();
            }
            again = false;
            let turn = self.turns.wait(number).await;
            written = Box::new(move || {
                back();
                drop(turn);
            });
            found = self
                .find(true, None, stream)
                .await
                .map_err(|failure| Failure {
                    sent: failure.sent || sent,
                    ..failure
                })?;
        }
    }

    /// Closes all connections without an exchange.
    pub(super) fn drop_idle(&self) {
        self.drop_own();
        if let Some(group) = &self.group {
            group.drop_idle();
        }
    }

    pub(super) fn drop_own(&self) {
        self.kept.clear();
        self.stop_warming();
    }

    fn stop_warming(&self) {
        if let Some(warming) = lock(&self.warming).take() {
            warming.abort();
        }
    }

    /// Closes the idle connections whose local address is `lost`, and lets the busy ones carry no further
    /// request. Returns whether there was any of either kind.
    pub(super) fn renew(&self, lost: impl Fn(Option<IpAddr>) -> bool) -> bool {
        let own = self.kept.renew(&lost);
        let shared = self.group.as_ref().is_some_and(|group| group.renew(&lost));
        // One being opened goes the same way as the others.
        if own || shared {
            self.stop_warming();
        }
        own || shared
    }

    /// Opens a connection in the background, unless one is idle, being opened, or of no use.
    pub(super) fn warm(self: &Arc<Self>) {
        let mut warming = lock(&self.warming);
        let under_way = warming.as_ref().is_some_and(|task| !task.is_finished());
        if under_way || self.kept.closes_silently() || !self.kept.is_empty() {
            return;
        }
        let want = Want {
            rule: self.connector.rule(),
            usual: None,
            avoid: Vec::new(),
            since: None,
        };
        if self
            .group
            .as_ref()
            .is_some_and(|group| group.has_any(&want))
        {
            return;
        }
        let weak = Arc::downgrade(self);
        let opening = self.opening();
        let task = tokio::spawn(async move {
            // A failure here says nothing yet: the request that needs the connection will meet it again.
            let Ok(made) = opening.await else {
                return;
            };
            let Some(pool) = weak.upgrade() else { return };
            match (made, &pool.group) {
                (Made::One(live), _) => {
                    if let Ok(live) = pool.take(live) {
                        pool.kept.put_back(Some(live));
                    }
                }
                (Made::Many(connection), Some(group)) => group.add(&connection),
                // Nobody offered it.
                (Made::Many(_), None) => {}
            }
        });
        *warming = Some(task.abort_handle());
    }

    /// The head of a request on a stream of its own.
    pub(super) fn stream_request(&self, length: usize) -> Request<()> {
        let mut request = self.target.stream_request(length);
        self.add_cookies(&mut request);
        request
    }

    fn add_cookies<B>(&self, request: &mut Request<B>) {
        if let Some(cookies) = lock(&self.jar).header() {
            request.headers_mut().insert(header::COOKIE, cookies);
        }
    }

    /// The request, and what it says to the proxy about us.
    pub(super) fn request(&self, body: Bytes, about: &About) -> (Request<WireBody>, Sent) {
        let login = about.login.as_ref();
        let authorized = login.map(|login| login.authorize("POST", self.target.absolute(), &body));
        let (authorization, sent) = authorized.unwrap_or((None, Sent::Nothing));
        let length = body.len();
        let body = WireBody::new(body, Arc::clone(&about.progress));
        let mut request = self.target.request(body, length, about.upstream.is_some());
        self.add_cookies(&mut request);
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
        self.drop_own();
    }
}

/// The pool as a tower service, so that layers can stand on it.
#[derive(Clone)]
pub(super) struct PoolService(pub(super) Arc<Pool>);

impl tower::Service<Request<ExchangeRequest>> for PoolService {
    type Response = Response<PooledBody>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ExchangeRequest>) -> Self::Future {
        Box::pin(Arc::clone(&self.0).send(request.into_body()))
    }
}
