//! Asking a domain's web server for its host-meta (RFC 6415, XEP-0156 section 4).

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use url::Url;

use super::freshness::freshness;
use super::host_meta::{Link, Unreadable, read_jrd, read_xrd};
use crate::bosh::failure::FailureKind;
use crate::connect::{self, CertificateName, ConnectError, Connector};
use crate::stream::error::FaultReason;

/// Largest document in bytes (D-14).
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Time for one document, redirects included (D-14).
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Redirects followed (D-12).
const MAX_HOPS: usize = 5;

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `/.well-known/host-meta`.
    Xrd,
    /// `/.well-known/host-meta.json`.
    Jrd,
    /// A DNS TXT record.
    Dns,
}

impl Source {
    /// Whose certificate is to be shown at an address from here (D-08 to D-10).
    #[must_use]
    pub fn names(self, domain: &str) -> CertificateName {
        match self {
            Self::Xrd | Self::Jrd => CertificateName::HostOrDomain(domain.to_owned()),
            Self::Dns => CertificateName::Domain(domain.to_owned()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Xrd => "host-meta",
            Self::Jrd => "host-meta.json",
            Self::Dns => "DNS",
        })
    }
}

/// What a domain said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Every XMPP link.
    pub links: Vec<Link>,
    /// Where they stood.
    pub source: Source,
    /// How long they may be used.
    pub fresh: Duration,
}

/// Why there is no answer. `Display` is one sentence: what failed, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoverError {
    /// The way there fails at the proxy, which would stop everything else as well.
    #[error(transparent)]
    Proxy(ConnectError),
    /// E-20: the domain's web server cannot be reached.
    #[error("could not ask {domain} for its BOSH address: {}, or set {}{}", why(.source), setting(.domain), beside(.dns))]
    Unreachable {
        /// The domain.
        domain: String,
        /// What failed.
        source: ConnectError,
        /// What came of asking the DNS, if it was asked.
        dns: Option<String>,
    },
    /// E-20: it answers, but not with a document.
    #[error("could not ask {domain} for its BOSH address: {said}; try again later, or set {}", setting(.domain))]
    Failed {
        /// The domain.
        domain: String,
        /// What was seen.
        said: String,
    },
    /// E-21: there is a document, or certainly none, and no address in it.
    #[error("{domain} names no BOSH address ({said}): if you know it, set {}", setting(.domain))]
    NoAddress {
        /// The domain.
        domain: String,
        /// What was found instead.
        said: String,
    },
}

fn setting(domain: &str) -> String {
    format!("url under [domains.\"{domain}\"] in xbosh's config.toml")
}

fn beside(dns: &Option<String>) -> String {
    dns.as_ref()
        .map_or_else(String::new, |said| format!(" ({said})"))
}

/// The web server is no BOSH server, and has no setting.
fn why(error: &ConnectError) -> String {
    match error {
        ConnectError::CmUnreachable { target, source } => {
            let words = connect::error::plain(source);
            format!("cannot connect to {target}: {words}; check the network")
        }
        ConnectError::ProxyUpstream {
            proxy,
            target,
            said,
        } => format!("the proxy {proxy} could not reach {target} ({said}); try again later"),
        other => other.to_string(),
    }
}

impl DiscoverError {
    /// The row of the failure table.
    #[must_use]
    pub fn reason(&self) -> FaultReason {
        match self {
            Self::Proxy(error) => FaultReason::from(error.kind()),
            Self::Unreachable { .. } | Self::Failed { .. } => FaultReason::DiscoveryFailed,
            Self::NoAddress { .. } => FaultReason::NoBoshEndpoint,
        }
    }

    /// E-20: nothing came from the domain's web server.
    pub(crate) fn silent(domain: &str) -> Self {
        Self::Failed {
            domain: domain.to_owned(),
            said: "its web server did not answer in time".into(),
        }
    }

    /// The DNS was asked too, and this came of it.
    #[cfg(feature = "dns")]
    pub(super) fn and(&mut self, what: String) {
        match self {
            Self::Proxy(_) => {}
            Self::Unreachable { dns, .. } => *dns = Some(what),
            Self::Failed { said, .. } | Self::NoAddress { said, .. } => {
                said.push_str("; ");
                said.push_str(&what);
            }
        }
    }

    /// What failed on the way there, if it was the way.
    #[must_use]
    pub fn kind(&self) -> Option<FailureKind> {
        match self {
            Self::Proxy(error) | Self::Unreachable { source: error, .. } => Some(error.kind()),
            Self::Failed { .. } | Self::NoAddress { .. } => None,
        }
    }

    /// Whether asking once more may help (E-20).
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => {
                !matches!(source.kind(), FailureKind::TlsCertificate)
            }
            Self::Failed { .. } => true,
            Self::Proxy(_) | Self::NoAddress { .. } => false,
        }
    }
}

/// Reads the links of a domain: the XRD, or the JRD where there is no usable XRD (D-03).
///
/// # Errors
/// [`DiscoverError`].
pub(super) async fn host_meta(
    connector: &Connector,
    domain: &str,
    port: u16,
) -> Result<Answer, DiscoverError> {
    let xrd = document(connector, domain, port, "host-meta", "application/xrd+xml").await?;
    let mut page = false;
    let said = match xrd {
        Ok((body, fresh)) => match read_xrd(&body) {
            Ok(links) if usable(&links) => {
                return Ok(Answer {
                    links,
                    source: Source::Xrd,
                    fresh,
                });
            }
            Ok(links) => nothing_usable(&links),
            Err(error) => {
                page = is_web_page(&body);
                format!("its host-meta: {error}")
            }
        },
        Err(status) => status,
    };
    let accept = "application/jrd+json, application/json";
    let jrd = document(connector, domain, port, "host-meta.json", accept).await;
    let found = match jrd {
        Ok(Ok((body, fresh))) => read_jrd(&body).map(|links| (links, fresh)),
        Ok(Err(_)) | Err(_) => Err(Unreadable::NotJrd),
    };
    match found {
        Ok((links, fresh)) if usable(&links) => Ok(Answer {
            links,
            source: Source::Jrd,
            fresh,
        }),
        // It says nothing of the domain, and may be another one in a moment.
        _ if page => Err(DiscoverError::Failed {
            domain: domain.to_owned(),
            said: "a web page came in place of its host-meta, perhaps the login page of this network, which a browser shows"
                .into(),
        }),
        _ => Err(DiscoverError::NoAddress {
            domain: domain.to_owned(),
            said,
        }),
    }
}

/// For people, not for programs.
fn is_web_page(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    ["<!doctype html", "<html"].iter().any(|start| {
        text.get(..start.len())
            .is_some_and(|text| text.eq_ignore_ascii_case(start.as_bytes()))
    })
}

pub(super) fn usable(links: &[Link]) -> bool {
    links.iter().any(|link| link.usable().is_some())
}

fn nothing_usable(links: &[Link]) -> String {
    use super::host_meta::Transport;
    if links.iter().any(|link| link.transport == Transport::Bosh) {
        "its host-meta names BOSH addresses that are not https only".into()
    } else if links.is_empty() {
        "its host-meta has no link for XMPP".into()
    } else {
        "its host-meta names WebSocket addresses only".into()
    }
}

type Document = (Bytes, Duration);

/// One document, or the words for a status that says there is none.
async fn document(
    connector: &Connector,
    domain: &str,
    port: u16,
    name: &str,
    accept: &'static str,
) -> Result<Result<Document, String>, DiscoverError> {
    let failed = |said: String| DiscoverError::Failed {
        domain: domain.to_owned(),
        said,
    };
    let url = format!("https://{domain}:{port}/.well-known/{name}");
    let url = Url::parse(&url).map_err(|_| failed("its name makes no web address".into()))?;
    match tokio::time::timeout(LIMIT, follow(connector, domain, url, accept)).await {
        Ok(answer) => answer,
        Err(_) => Err(DiscoverError::silent(domain)),
    }
}

/// Follows redirects: each https, to a host of its own verified name, never twice the same (D-11, D-12).
async fn follow(
    connector: &Connector,
    domain: &str,
    mut url: Url,
    accept: &'static str,
) -> Result<Result<Document, String>, DiscoverError> {
    let failed = |said: String| DiscoverError::Failed {
        domain: domain.to_owned(),
        said,
    };
    let mut seen = Vec::new();
    loop {
        let (status, headers, body) = get(connector, domain, &url, accept).await?;
        match status.as_u16() {
            200 => {
                let body = body.ok_or_else(|| failed("its host-meta is too large".into()))?;
                return Ok(Ok((body, freshness(&headers, SystemTime::now()))));
            }
            301 | 302 | 303 | 307 | 308 => {
                let to = headers
                    .get(header::LOCATION)
                    .and_then(|to| url.join(to.to_str().ok()?).ok());
                seen.push(url);
                url = to
                    .filter(|to| is_safe(to) && !seen.contains(to) && seen.len() <= MAX_HOPS)
                    .ok_or_else(|| {
                        failed(
                            "its web server redirects where xbosh must not go, perhaps to the login page of this network"
                                .into(),
                        )
                    })?;
            }
            500..=599 => return Err(failed(format!("its web server says {status}"))),
            _ => return Ok(Err(format!("its web server says {status} to host-meta"))),
        }
    }
}

fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" && url.username().is_empty() && url.password().is_none()
}

/// One GET. The body is `None` if it is too large.
async fn get(
    connector: &Connector,
    domain: &str,
    url: &Url,
    accept: &'static str,
) -> Result<(StatusCode, HeaderMap, Option<Bytes>), DiscoverError> {
    let broken = |said: String| DiscoverError::Failed {
        domain: domain.to_owned(),
        said,
    };
    let connection = connector
        .connect(url)
        .await
        .map_err(|source| match source.kind() {
            FailureKind::ProxyUnreachable
            | FailureKind::ProxyAuth
            | FailureKind::ProxyRefused
            | FailureKind::ProxyProtocol
            | FailureKind::Internal => DiscoverError::Proxy(source),
            _ => DiscoverError::Unreachable {
                domain: domain.to_owned(),
                source,
                dns: None,
            },
        })?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let authority = match url.port() {
        Some(port) => connect::authority(host, port),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(header::HOST, authority)
        .header(header::ACCEPT, accept)
        .header(
            header::USER_AGENT,
            concat!("xbosh/", env!("CARGO_PKG_VERSION")),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|_| broken("its name makes no web address".into()))?;
    let http = |_| broken("its web server does not speak HTTP as it should".to_owned());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connection.stream))
            .await
            .map_err(http)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(http)?;
        let (head, body) = response.into_parts();
        match Limited::new(body, MAX_BYTES).collect().await {
            Ok(body) => Ok((head.status, head.headers, Some(body.to_bytes()))),
            Err(error) if error.is::<LengthLimitError>() => Ok((head.status, head.headers, None)),
            Err(_) => Err(broken(
                "its web server stopped in the middle of an answer".to_owned(),
            )),
        }
    };
    // The connection is driven only as long as its one exchange.
    tokio::pin!(connection);
    tokio::pin!(exchange);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}
