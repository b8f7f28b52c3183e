//! The connections of one session: one request in flight on each (B-05), kept while they are good.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::client::Target;
use super::cookies::Jar;
use super::wire::{Observed, OnWritten, Progress, WireBody};
use crate::bosh::failure::{Failure, FailureKind};
use crate::connect::{self, Connector, Upstream};

/// Idle connections older than this are not used: a NAT or proxy may have forgotten them (T-31).
const MAX_IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept: two carry a session, one may be left of a repeat (P-11).
const MAX_KEPT: usize = 3;
/// How long a kept connection may take until it can carry the next request.
const READY_PATIENCE: Duration = Duration::from_millis(250);
/// Time for a request to be written, besides the time its size takes.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Slowest uplink allowed for, in bytes per second.
const SLOWEST_UPLINK: u64 = 8 * 1024;
/// Read buffer of a connection; also bounds the head of a reply.
const BUFFER: usize = 64 * 1024;

/// One request as the pool takes it.
pub(super) struct Outgoing {
    pub(super) body: Bytes,
    pub(super) fresh: bool,
    pub(super) written: OnWritten,
}

/// Connections and cookies of one session.
pub(super) struct Pool {
    target: Target,
    connector: Connector,
    idle: Mutex<Vec<Idle>>,
    jar: Mutex<Jar>,
    /// Prebuilt headers of every request.
    headers: HeaderMap,
}

struct Idle {
    connection: Live,
    since: Instant,
}

/// A connection without a request in flight, or with just one.
struct Live {
    sender: SendRequest<WireBody>,
    progress: Arc<Progress>,
    task: AbortHandle,
    upstream: Option<Arc<Upstream>>,
}

impl Pool {
    pub(super) fn new(target: Target, connector: Connector) -> Self {
        let headers = target.headers();
        Self {
            target,
            connector,
            idle: Mutex::default(),
            jar: Mutex::default(),
            headers,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends one request and waits for the head of its reply. Dropping the future closes the connection.
    pub(super) async fn send(
        self: Arc<Self>,
        outgoing: Outgoing,
    ) -> Result<Response<PooledBody>, Failure> {
        let Outgoing {
            body,
            fresh,
            mut written,
        } = outgoing;
        if !fresh && let Some(connection) = self.checkout().await {
            match self.attempt(connection, body.clone(), written).await {
                Ok(response) => return Ok(response),
                // T-31: a kept connection that dies before the first byte of a reply says nothing about the
                // manager. The same bytes go out once more; the rid makes that safe.
                Err(Broken {
                    untouched: Some(back),
                    ..
                }) => written = back,
                Err(Broken {
                    failure,
                    untouched: None,
                }) => return Err(failure),
            }
        }
        let connection = self.open().await?;
        self.attempt(connection, body, written)
            .await
            .map_err(|broken| broken.failure)
    }

    async fn checkout(&self) -> Option<Live> {
        loop {
            let Idle {
                mut connection,
                since,
            } = self
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop()?;
            if since.elapsed() >= MAX_IDLE {
                continue;
            }
            // A connection whose reply was just read to its end is ready as soon as its task has run.
            let ready = tokio::time::timeout(READY_PATIENCE, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                return Some(connection);
            }
        }
    }

    fn put_back(&self, connection: Live) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| kept.since.elapsed() < MAX_IDLE && !kept.connection.sender.is_closed());
        if idle.len() < MAX_KEPT {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    async fn open(&self) -> Result<Live, Failure> {
        let made = self
            .connector
            .connect(&self.target.url)
            .await
            .map_err(connect::ConnectError::into_failure)?;
        let progress = Arc::new(Progress::default());
        let io = TokioIo::new(Observed::new(made.stream, Arc::clone(&progress)));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(io)
            .await
            .map_err(|error| self.failure(None, &error, false))?;
        // Errors of the connection reach the request on it; an idle one has nobody to tell.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Live {
            sender,
            progress,
            task,
            upstream: made.absolute_form.map(Arc::new),
        })
    }

    async fn attempt(
        self: &Arc<Self>,
        connection: Live,
        body: Bytes,
        written: OnWritten,
    ) -> Result<Response<PooledBody>, Broken> {
        let mut guard = Guard {
            connection: Some(connection),
            reusable: false,
            pool: Arc::clone(self),
        };
        let Some(live) = guard.connection.as_mut() else {
            return Err(Broken::internal());
        };
        let limit = WRITE_LIMIT + Duration::from_secs(body.len() as u64 / SLOWEST_UPLINK);
        let (tell, mut told) = tokio::sync::oneshot::channel();
        let upstream = live.upstream.clone();
        let progress = Arc::clone(&live.progress);
        let before = progress.counts();
        progress.arm(Box::new(move || {
            written();
            // The waiting side may be gone.
            let _ = tell.send(());
        }));
        let request = self.request(body, &live.progress, upstream.as_deref());
        let mut reply = std::pin::pin!(live.sender.send_request(request));
        let result = tokio::select! {
            biased;
            result = &mut reply => Ok(result),
            Ok(()) = &mut told => Ok(reply.await),
            () = tokio::time::sleep(limit) => Err(()),
        };
        let after = progress.counts();
        match result {
            Ok(Ok(response)) => {
                // A reply that came before the request was written whole still ends the writing; what is left
                // of the request is in the way of the next one.
                guard.reusable = progress.disarm().is_none();
                self.jar
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .learn(response.headers());
                let (mut head, incoming) = response.into_parts();
                name_gzip(&mut head.headers);
                Ok(Response::from_parts(
                    head,
                    PooledBody {
                        incoming,
                        guard,
                        upstream,
                    },
                ))
            }
            Ok(Err(error)) => {
                let answered = after.1 > before.1;
                let mut failure = self.failure(upstream.as_deref(), &error, after.0 > before.0);
                if let Some(upstream) = &upstream
                    && before.1 == 0
                    && error.is_parse()
                    && !error.is_parse_too_large()
                {
                    // E-34: the first bytes ever from this proxy are no HTTP.
                    failure = Failure {
                        sent: failure.sent,
                        ..connect::not_http(upstream).into_failure()
                    };
                }
                let back = progress.disarm();
                Err(Broken {
                    failure,
                    untouched: back
                        .filter(|_| !answered)
                        .or_else(|| (!answered).then(noop)),
                })
            }
            Err(()) => {
                let text = format!(
                    "the request could not be sent to {} in time",
                    self.whom(upstream.as_deref())
                );
                Err(Broken {
                    failure: Failure {
                        kind: FailureKind::NoReply,
                        text,
                        sent: after.0 > before.0,
                    },
                    untouched: None,
                })
            }
        }
    }

    fn request(
        &self,
        body: Bytes,
        progress: &Arc<Progress>,
        upstream: Option<&Upstream>,
    ) -> Request<WireBody> {
        let length = body.len();
        let mut request = Request::new(WireBody::new(body, Arc::clone(progress)));
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_11;
        // P-01: absolute-form to a proxy, origin-form to the manager.
        *request.uri_mut() = match upstream {
            Some(_) => self.target.absolute.clone(),
            None => self.target.origin.clone(),
        };
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_LENGTH, length.into());
        if let Some(cookies) = self
            .jar
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .header()
        {
            headers.insert(header::COOKIE, cookies);
        }
        if let Some(basic) = upstream.and_then(connect::proxy_authorization) {
            headers.insert(header::PROXY_AUTHORIZATION, basic);
        }
        *request.headers_mut() = headers;
        request
    }

    /// E-50, E-51, E-67 with the hop's name.
    pub(super) fn failure(
        &self,
        upstream: Option<&Upstream>,
        error: &hyper::Error,
        sent: bool,
    ) -> Failure {
        let whom = self.whom(upstream);
        let (kind, what) = if error.is_parse_too_large() {
            (
                FailureKind::ReplyTooLarge,
                "answered with too many or too large headers".to_owned(),
            )
        } else if error.is_parse() {
            (
                FailureKind::NoReply,
                "answered with something that is not HTTP".to_owned(),
            )
        } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            (
                FailureKind::NoReply,
                "closed the connection without a whole reply".to_owned(),
            )
        } else {
            let io =
                std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
            let said = io.map_or_else(|| "the connection broke".to_owned(), connect::error::plain);
            (FailureKind::NoReply, format!("gave no whole reply: {said}"))
        };
        let kind = if kind == FailureKind::NoReply && !sent {
            FailureKind::CmUnreachable
        } else {
            kind
        };
        Failure {
            kind,
            text: format!("{whom} {what}"),
            sent,
        }
    }

    /// Whoever is at the other end, for a sentence.
    pub(super) fn whom(&self, upstream: Option<&Upstream>) -> String {
        match upstream {
            Some(upstream) => format!("the proxy {}", upstream.authority()),
            None => format!("the BOSH server {}", self.target.authority()),
        }
    }
}

impl Target {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(header::HOST, self.host.clone());
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("text/xml; charset=utf-8"),
        );
        headers.insert(
            header::CACHE_CONTROL,
            http::HeaderValue::from_static("no-store"),
        );
        headers.insert(header::PRAGMA, http::HeaderValue::from_static("no-cache"));
        headers.insert(
            header::ACCEPT_ENCODING,
            http::HeaderValue::from_static("gzip"),
        );
        headers.insert(
            header::USER_AGENT,
            http::HeaderValue::from_static(concat!("xbosh/", env!("CARGO_PKG_VERSION"))),
        );
        headers
    }
}

/// Names of codings are case-insensitive and `x-gzip` is gzip (RFC 9110 section 8.4.1); the inflating layer
/// knows one spelling.
fn name_gzip(headers: &mut HeaderMap) {
    if let Some(coding) = headers.get_mut(header::CONTENT_ENCODING)
        && [&b"gzip"[..], b"x-gzip"]
            .iter()
            .any(|name| coding.as_bytes().eq_ignore_ascii_case(name))
    {
        *coding = http::HeaderValue::from_static("gzip");
    }
}

fn noop() -> OnWritten {
    Box::new(|| {})
}

/// A failed attempt; `untouched` gives the callback back if not one byte of a reply came.
struct Broken {
    failure: Failure,
    untouched: Option<OnWritten>,
}

impl Broken {
    fn internal() -> Self {
        let text = "a connection was used twice, which is a bug in xbosh".to_owned();
        Self {
            failure: Failure {
                kind: FailureKind::Internal,
                text,
                sent: false,
            },
            untouched: None,
        }
    }
}

/// Closes the connection unless its exchange came to a good end (B-51: an abort must be seen by the peer).
struct Guard {
    connection: Option<Live>,
    /// The request was written whole.
    reusable: bool,
    pool: Arc<Pool>,
}

impl Guard {
    fn keep(&mut self) {
        if self.reusable
            && let Some(connection) = self.connection.take()
        {
            self.pool.put_back(connection);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.task.abort();
        }
    }
}

/// A reply's body; its connection goes back to the pool when it has been read to its end.
pub(super) struct PooledBody {
    incoming: Incoming,
    guard: Guard,
    pub(super) upstream: Option<Arc<Upstream>>,
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if matches!(polled, Poll::Ready(None)) || self.incoming.is_end_stream() {
            self.guard.keep();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
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

/// For [`Target`].
pub(super) fn parse_uri(text: &str) -> Uri {
    // A parsed URL is ASCII and has a path: it is a URI as well.
    text.parse().unwrap_or_else(|_| Uri::from_static("/"))
}
