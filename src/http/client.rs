//! [`SessionClient`]: the exchanges of one BOSH session.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tower::ServiceExt as _;
use tower_http::decompression::Decompression;
use url::Url;

use super::pool::{Outgoing, Pool, PoolService, PooledBody, parse_uri};
use super::wire::OnWritten;
use crate::bosh::failure::{Failure, FailureKind, HttpReply};
use crate::connect::{self, ConnectError, Connector, Upstream};

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) url: Url,
    pub(super) origin: Uri,
    pub(super) absolute: Uri,
    pub(super) host: HeaderValue,
}

impl Target {
    /// The connection manager's URL; its query is kept, its fragment is not sent.
    #[must_use]
    pub fn new(mut url: Url) -> Self {
        url.set_fragment(None);
        let origin = parse_uri(&url[url::Position::BeforePath..url::Position::AfterQuery]);
        let absolute = parse_uri(url.as_str());
        let host = HeaderValue::from_str(&url[url::Position::BeforeHost..url::Position::AfterPort]);
        let host = host.unwrap_or_else(|_| HeaderValue::from_static(""));
        Self {
            url,
            origin,
            absolute,
            host,
        }
    }

    /// host:port.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self
            .url
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        connect::authority(host, self.url.port_or_known_default().unwrap_or(443))
    }
}

/// Bounds of a [`SessionClient`].
#[derive(Clone, Copy, Debug)]
pub struct ClientOptions {
    /// Largest reply after decompression, in bytes.
    pub max_response_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            max_response_bytes: 16 << 20,
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
    pool: Arc<Pool>,
    service: Decompression<PoolService>,
    options: ClientOptions,
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionClient({})", self.pool.target().authority())
    }
}

impl SessionClient {
    /// A client without connections.
    #[must_use]
    pub fn new(target: Target, connector: Connector, options: ClientOptions) -> Self {
        let pool = Arc::new(Pool::new(target, connector));
        let service = Decompression::new(PoolService(Arc::clone(&pool)));
        Self {
            pool,
            service,
            options,
        }
    }

    /// Makes one exchange. Dropping the future closes its connection.
    ///
    /// # Errors
    /// [`Failure`] if no whole HTTP reply came. Whatever its status, a whole one is no error, but for a
    /// proxy's own refusals (P-06).
    pub fn exchange(
        &self,
        request: ExchangeRequest,
    ) -> impl Future<Output = Result<HttpReply, Failure>> + Send + 'static {
        let this = self.clone();
        async move {
            let ExchangeRequest {
                body,
                fresh,
                written,
                repeated,
            } = request;
            let outgoing = Request::new(Outgoing {
                body,
                fresh,
                written,
                repeated,
            });
            let response = this
                .service
                .clone()
                .oneshot(outgoing)
                .await
                .map_err(|error| this.service_failure(error))?;
            this.collect(response).await
        }
    }

    fn service_failure(&self, error: impl Into<Failure>) -> Failure {
        error.into()
    }

    async fn collect(
        &self,
        response: Response<tower_http::decompression::DecompressionBody<PooledBody>>,
    ) -> Result<HttpReply, Failure> {
        let (head, body) = response.into_parts();
        let upstream = body.get_ref().upstream.clone();
        if let Some(upstream) = &upstream
            && let Some(refused) = self.proxy_refusal(upstream, head.status.as_u16(), &head.headers)
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
        if body.get_ref().size_hint().lower() > self.options.max_response_bytes as u64 {
            return Err(self.too_large(upstream.as_deref()));
        }
        let collected = Limited::new(body, self.options.max_response_bytes)
            .collect()
            .await;
        let body = collected
            .map_err(|error| {
                let mut failure = self.body_failure(upstream.as_deref(), &*error);
                if head.status != http::StatusCode::OK {
                    // tinyproxy resets the connection behind its error pages.
                    failure
                        .text
                        .push_str(&format!(" (status {})", head.status.as_u16()));
                }
                failure
            })?
            .to_bytes();
        Ok(HttpReply {
            status: head.status.as_u16(),
            body,
            location,
            retry_after,
        })
    }

    /// What only the proxy can have said to an absolute-form request.
    fn proxy_refusal(
        &self,
        upstream: &Upstream,
        status: u16,
        headers: &HeaderMap,
    ) -> Option<ConnectError> {
        let values = |name: header::HeaderName| {
            let all = headers
                .get_all(name)
                .into_iter()
                .filter_map(|v| v.to_str().ok());
            all.filter_map(|v| v.split_whitespace().next())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let squid = headers.get("x-squid-error").and_then(|v| v.to_str().ok());
        let proxy = upstream.authority();
        let target = self.pool.target().authority();
        match (status, squid) {
            (407, _) => Some(connect::auth_refused(
                upstream,
                status,
                &values(header::PROXY_AUTHENTICATE),
            )),
            // tinyproxy says 401 to wrong credentials (P-06); a manager has no use for WWW-Authenticate.
            (401, _) if headers.contains_key(header::WWW_AUTHENTICATE) => Some(
                connect::auth_refused(upstream, status, &values(header::WWW_AUTHENTICATE)),
            ),
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

    fn too_large(&self, upstream: Option<&Upstream>) -> Failure {
        let text = format!(
            "{} answered with more than limits.max_response_bytes",
            self.pool.whom(upstream)
        );
        Failure {
            kind: FailureKind::ReplyTooLarge,
            text,
            sent: true,
        }
    }

    fn body_failure(
        &self,
        upstream: Option<&Upstream>,
        error: &(dyn std::error::Error + 'static),
    ) -> Failure {
        if error.is::<LengthLimitError>() {
            return self.too_large(upstream);
        }
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                return self.pool.failure(upstream, error, true);
            }
            source = error.source();
        }
        let text = format!(
            "{} gave a reply that cannot be decompressed",
            self.pool.whom(upstream)
        );
        Failure {
            kind: FailureKind::NoReply,
            text,
            sent: true,
        }
    }
}
