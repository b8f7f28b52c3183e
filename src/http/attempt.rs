//! One request on one connection, and the body of its reply.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::error::BodyError;
use super::pool::{Live, Pool};
use super::wire::OnWritten;
use crate::bosh::failure::{Failure, FailureKind};
use crate::connect::{Login, Sent, Upstream};

/// Time for a request to be written, besides the time its size takes.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Slowest uplink allowed for, in bytes per second.
const SLOWEST_UPLINK: u64 = 8 * 1024;
/// Largest page of a proxy's challenge that is read.
const MAX_PAGE: usize = 64 * 1024;
/// How long it is waited for.
const PAGE_PATIENCE: Duration = Duration::from_millis(500);

/// A failed attempt; `untouched` gives the callback back if not one byte of a reply came.
pub(super) struct Broken {
    pub(super) failure: Failure,
    pub(super) untouched: Option<OnWritten>,
}

/// Sends `body` on `connection` and waits for the head of the reply.
pub(super) async fn attempt(
    pool: &Arc<Pool>,
    connection: Live,
    body: Bytes,
    written: OnWritten,
) -> Result<Response<PooledBody>, Broken> {
    let mut guard = Guard::new(connection, Arc::clone(pool));
    let Some(live) = guard.connection.as_mut() else {
        return Err(Broken::internal());
    };
    let limit = WRITE_LIMIT + Duration::from_secs(body.len() as u64 / SLOWEST_UPLINK);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    let upstream = live.upstream.clone();
    let login = live.login.clone();
    let progress = Arc::clone(&live.progress);
    let before = progress.counts();
    progress.arm(Box::new(move || {
        written();
        // The waiting side may be gone.
        let _ = tell.send(());
    }));
    let (request, said) = pool.request(body, live);
    let result = {
        let mut reply = std::pin::pin!(live.sender.send_request(request));
        tokio::select! {
            biased;
            result = &mut reply => Some(result),
            Ok(()) = &mut told => Some(reply.await),
            () = tokio::time::sleep(limit) => None,
        }
    };
    let after = progress.counts();
    let sent = after.0 > before.0;
    match result {
        Some(Ok(response)) => {
            // A reply may come before the request was written whole: then there is no second use.
            guard.reusable = progress.disarm().is_none();
            pool.learn(response.headers());
            let (mut head, incoming) = response.into_parts();
            name_gzip(&mut head.headers);
            let body = PooledBody {
                incoming,
                left: pool.max_response_bytes as u64,
                guard,
                upstream,
                login: login.map(|login| (login, said)),
            };
            Ok(Response::from_parts(head, body))
        }
        Some(Err(error)) => {
            let answered = after.1 > before.1;
            let back = progress.disarm();
            Err(Broken {
                failure: pool.peer(upstream.as_deref()).broken(&error, sent),
                untouched: (!answered).then(|| back.unwrap_or_else(|| Box::new(|| {}))),
            })
        }
        None => Err(Broken {
            failure: pool.peer(upstream.as_deref()).stuck(sent),
            untouched: None,
        }),
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
        *coding = HeaderValue::from_static("gzip");
    }
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
    reusable: bool,
    pool: Arc<Pool>,
}

impl Guard {
    fn new(connection: Live, pool: Arc<Pool>) -> Self {
        pool.begin(&connection.place);
        Self {
            connection: Some(connection),
            reusable: false,
            pool,
        }
    }

    fn keep(&mut self) {
        if self.reusable
            && let Some(connection) = self.connection.take()
        {
            self.pool.end(&connection.place);
            self.pool.put_back(connection);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
            self.pool.end(&connection.place);
        }
    }
}

/// A reply's body; its connection goes back to the pool when it has been read to its end.
pub(super) struct PooledBody {
    incoming: Incoming,
    /// Bytes that may still come.
    left: u64,
    guard: Guard,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// Who we are to the proxy, and what the request said of it.
    pub(super) login: Option<(Arc<Login>, Sent)>,
}

impl PooledBody {
    /// Reads a refusal's page, so that its connection can be used again, as far as it comes quickly.
    pub(super) async fn drain(self) {
        let page = Limited::new(self, MAX_PAGE).collect();
        // Whatever is wrong with it, only the connection is lost.
        drop(tokio::time::timeout(PAGE_PATIENCE, page).await);
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // An announced length is believed before anything is read.
        if self.incoming.size_hint().lower() > self.left {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                // Compressed bytes count too: they need not inflate to anything (B-04).
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        if matches!(polled, Poll::Ready(None)) || self.incoming.is_end_stream() {
            self.guard.keep();
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
