//! [`SessionClient`]: the exchanges of one BOSH session.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use tower::ServiceExt as _;
use tower_http::decompression::{Decompression, DecompressionBody};

use super::lock;
use super::pool::{Pool, PoolService};
use super::reply::PooledBody;
use super::sharing::Sharing;
use super::target::Target;
use super::wire::OnWritten;
use crate::bosh::failure::{Failure, HttpReply};
use crate::connect::{self, ConnectError, Connector, Upstream};

/// Bounds of a [`SessionClient`].
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Largest reply in bytes, both as it comes and after decompression.
    pub max_response_bytes: usize,
    /// HTTP/2 is offered over https.
    pub http2: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            max_response_bytes: 16 << 20,
            http2: true,
        }
    }
}

/// One exchange to be made.
pub struct ExchangeRequest {
    /// The whole `<body/>`.
    pub body: Bytes,
    /// A connection that has not been used before must carry it.
    pub fresh: bool,
    /// Called at most once, when the last byte has been handed to the socket.
    pub written: OnWritten,
    /// Called when the bytes go out a second time, because a kept connection turned out to be dead (T-31).
    pub repeated: OnWritten,
}

impl fmt::Debug for ExchangeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ExchangeRequest({} bytes, fresh: {})",
            self.body.len(),
            self.fresh
        )
    }
}

/// Makes the exchanges of one session.
#[derive(Clone)]
pub struct SessionClient {
    pub(super) pool: Arc<Pool>,
    service: Decompression<PoolService>,
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionClient({})", self.pool.authority())
    }
}

impl SessionClient {
    /// A client that shares no connection with others.
    #[must_use]
    pub fn new(target: Target, connector: Connector, options: ClientOptions) -> Self {
        Self::sharing(target, connector, options, &Sharing::default())
    }

    /// One that uses connections of others in `sharing`, where that is allowed (P-11), and HTTP/2 agreed on.
    #[must_use]
    pub fn sharing(
        target: Target,
        connector: Connector,
        options: ClientOptions,
        sharing: &Sharing,
    ) -> Self {
        let https = target.url.scheme() == "https";
        let group = (https && options.http2).then(|| sharing.group(&target.url, &connector));
        let connector = match &group {
            Some(_) => connector.offering_http2(),
            None => connector,
        };
        let pool = Pool::new(target, connector, options.max_response_bytes, group);
        let pool = Arc::new(pool);
        let service = Decompression::new(PoolService(Arc::clone(&pool)));
        Self { pool, service }
    }

    /// Makes one exchange. Dropping the future closes its connection, or resets its stream.
    ///
    /// # Errors
    /// [`Failure`] if no whole HTTP reply came. Whatever its status, a whole one is no error, but for a
    /// proxy's own refusals (P-06).
    pub fn exchange(
        &self,
        request: ExchangeRequest,
    ) -> impl Future<Output = Result<HttpReply, Failure>> + Send + 'static {
        let Self { pool, service } = self.clone();
        async move {
            let response = service.oneshot(Request::new(request)).await?;
            // Boxed, since what an exchange mostly waits for is the reply's head.
            Box::pin(collect(&pool, response)).await
        }
    }

    /// Opens a connection in the background unless one is idle, so that the next exchange beside a held one
    /// finds it open (T-37). Must be called within a tokio runtime. A failure stays unheard.
    pub fn warm(&self) {
        self.pool.warm();
    }

    /// The HTTP version in which the manager has answered: "1.1" or "2".
    #[must_use]
    pub fn http_version(&self) -> Option<&'static str> {
        let shares = lock(&self.pool.usual).strong_count() > 0;
        match (self.pool.answered(), shares) {
            (false, _) => None,
            (true, true) => Some("2"),
            (true, false) => Some("1.1"),
        }
    }

    /// Closes all connections that carry no exchange, after a change of the network for one (T-32).
    pub fn drop_idle(&self) {
        self.pool.drop_idle();
    }

    /// After a sleep (`all`) or a change of the network: closes the idle connections, with `all` every one,
    /// else those whose local address this machine no longer has. Busy ones of that kind go on, but carry no
    /// further request. Returns whether exchanges may wait in vain: `all`, or there was such a connection (T-32).
    pub fn renew(&self, all: bool) -> bool {
        let lost = |local: Option<_>| all || local.is_some_and(connect::address_is_gone);
        if all {
            self.pool.drop_idle();
        }
        self.pool.renew(lost) || all
    }
}

/// The whole reply, inflated and bounded.
async fn collect(
    pool: &Pool,
    response: Response<DecompressionBody<PooledBody>>,
) -> Result<HttpReply, Failure> {
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    let upstream = body.get_ref().upstream.clone();
    if let Some(upstream) = &upstream
        && let Some(refused) = proxy_refusal(pool, upstream, status, &head.headers)
    {
        return Err(Failure {
            sent: true,
            ..refused.into_failure()
        });
    }
    let text = |name: header::HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok());
    let location = text(header::LOCATION).map(str::to_owned);
    let retry_after = text(header::RETRY_AFTER)
        .and_then(|v| v.trim().parse().ok())
        .map(Duration::from_secs);
    let body = Limited::new(body, pool.max_response_bytes)
        .collect()
        .await
        .map_err(|error| {
            let mut failure = pool.peer(upstream.as_deref()).body(&*error);
            if status != 200 {
                // tinyproxy resets the connection behind its error pages.
                failure.text.push_str(&format!(" (status {status})"));
            }
            failure
        })?
        .to_bytes();
    if status == 200 {
        pool.set_answered();
    }
    Ok(HttpReply {
        status,
        body,
        location,
        retry_after,
    })
}

/// What only the proxy can have said to an absolute-form request.
fn proxy_refusal(
    pool: &Pool,
    upstream: &Upstream,
    status: u16,
    headers: &HeaderMap,
) -> Option<ConnectError> {
    let offers = |name: header::HeaderName| {
        let values = headers.get_all(name).into_iter();
        connect::schemes(values.map(http::HeaderValue::as_bytes))
    };
    let squid = headers.get("x-squid-error").and_then(|v| v.to_str().ok());
    let proxy = upstream.authority();
    let target = pool.authority().to_owned();
    match (status, squid) {
        (407, _) => {
            let offers = offers(header::PROXY_AUTHENTICATE);
            Some(connect::auth_refused(upstream, status, &offers))
        }
        // tinyproxy says 401 to wrong credentials (P-06): before the manager ever answered it is the proxy's.
        (401, _) if !pool.answered() && headers.contains_key(header::WWW_AUTHENTICATE) => {
            let offers = offers(header::WWW_AUTHENTICATE);
            Some(connect::auth_refused(upstream, status, &offers))
        }
        (403, Some(squid)) => Some(ConnectError::ProxyRefused {
            proxy,
            target,
            said: format!("{status}: {squid}"),
        }),
        (500..=599, Some(squid)) => Some(ConnectError::ProxyUpstream {
            proxy,
            target,
            said: format!("{status}: {squid}"),
        }),
        _ => None,
    }
}
