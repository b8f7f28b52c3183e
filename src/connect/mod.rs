//! Ways out: direct, HTTP proxy or SOCKS5, with TLS.
//!
//! [`Connector`] turns a URL into a connected, encrypted stream. What went wrong is a [`ConnectError`] that
//! names the hop. Nothing of a BOSH request is sent here.

pub mod error;
pub mod route;

mod certificate;
mod dial;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http_proxy;
mod isolation;
mod local;
mod login;
mod order;
mod patient;
mod prefixed;
mod prompt;
mod sharing;
mod socks5;
mod tls;
mod verify;
mod words;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

pub use error::ConnectError;
pub(crate) use http_proxy::{auth_refused, not_http};
pub(crate) use local::address_is_gone;
pub use login::Login;
pub(crate) use login::{Round, Sent};
pub use route::{ProxyKind, Route, SetBy, Upstream, authority, check_credentials, from_userinfo};
pub use sharing::{Protocol, Proven};
pub use verify::CertificateName;
pub(crate) use verify::is_public;
pub(crate) use words::schemes;

use self::order::Silent;
use self::patient::Patient;
use self::prompt::Prompt;
use self::tls::Hop;
use crate::bosh::failure::FailureKind;
use crate::config;

/// Does ahead what every process must do once before its first TLS handshake. Takes some 30 ms of one core.
pub fn prepare() {
    tls::prepare();
}

/// A connected stream of any kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Time limits of the stages of connecting (P-14).
#[derive(Clone, Copy, Debug)]
pub struct TimeLimits {
    /// TCP connect, name resolution included.
    pub connect: Duration,
    /// The proxy's answer.
    pub proxy: Duration,
    /// TLS handshake.
    pub tls: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            proxy: Duration::from_secs(15),
            tls: Duration::from_secs(15),
        }
    }
}

/// A connection ready for HTTP.
pub struct Connection {
    /// The stream, encrypted if the URL says so.
    pub stream: Box<dyn Io>,
    /// The other end is an HTTP proxy that takes absolute-form requests.
    pub absolute_form: Option<(Upstream, Arc<Login>)>,
    /// This machine's address on the way to the first hop, if the system knows it.
    pub local: Option<IpAddr>,
    /// The manager's own certificate as DER, over TLS.
    pub certificate: Option<Vec<u8>>,
    /// What it showed beside that.
    pub intermediates: Vec<Vec<u8>>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The way that was taken.
    pub way: Route,
    /// How long it took.
    pub took: Took,
}

/// What the stages of connecting took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// To be connected to the first hop: name, TCP, and TLS if that is an `https://` proxy.
    pub dial: Duration,
    /// The proxy's answer; `None` if none was asked.
    pub proxy: Option<Duration>,
    /// The handshake with the manager, and the version agreed on.
    pub tls: Option<(Duration, rustls::ProtocolVersion)>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("absolute_form", &self.absolute_form.is_some())
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

/// Makes connections by the settings of one domain. Certificates and keys are read once; a clone shares them
/// and the TLS session tickets, which never cross domains (P-11).
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Shared>,
}

/// TLS session tickets for two hosts, as rustls reckons.
const FEW_TICKETS: usize = 16;

type Logins = Mutex<Vec<(String, Arc<Login>)>>;

#[derive(Clone, Debug)]
struct Shared {
    proxy: config::Proxy,
    /// The same in all that share one reading of the files of roots and keys.
    read: Arc<()>,
    /// Whose name the manager's certificate must bear.
    rule: CertificateName,
    /// Judges the manager's certificate by its host's name.
    judge: Option<Judge>,
    /// For the manager; `Err` holds why there is none, which matters only once TLS is needed.
    tls: Result<Arc<ClientConfig>, String>,
    /// For an `https://` proxy.
    proxy_tls: Result<Arc<ClientConfig>, String>,
    limits: TimeLimits,
    identity: config::Tls,
    /// By the proxy's host:port; what a proxy wants is learnt once.
    logins: Arc<Logins>,
    /// Proxies that did not answer lately.
    silent: Arc<Silent>,
    /// Who the session is to a SOCKS5 proxy, if sessions are kept apart there.
    isolation: Option<config::Credentials>,
}

impl Connector {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// [`ConnectError::File`] for one that cannot be used.
    pub fn new(proxy: &config::Proxy, tls: &config::Tls) -> Result<Self, ConnectError> {
        Self::with_limits(proxy, tls, TimeLimits::default())
    }

    /// As [`Self::new`], with other time limits.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_limits(
        proxy: &config::Proxy,
        tls: &config::Tls,
        limits: TimeLimits,
    ) -> Result<Self, ConnectError> {
        let manager = later(tls::verifier(tls.ca_file.as_deref(), Hop::Manager))?;
        let unneeded = proxy.ca_file.is_none() && !may_speak_tls(&proxy.source);
        let upstream = if proxy.ca_file == tls.ca_file || unneeded {
            manager.clone()
        } else {
            later(tls::verifier(proxy.ca_file.as_deref(), Hop::Proxy))?
        };
        // Each has its own ticket store (P-11), and the proxy is never shown the manager's client certificate.
        let judge = manager.as_ref().ok().map(Arc::clone);
        let manager = configured(manager, tls)?;
        let proxy_tls = configured(upstream, &config::Tls::default())?;
        Ok(Self {
            shared: Arc::new(Shared {
                proxy: proxy.clone(),
                read: Arc::default(),
                rule: CertificateName::Host,
                judge,
                tls: manager,
                proxy_tls,
                limits,
                identity: tls.clone(),
                logins: Arc::default(),
                silent: Arc::default(),
                isolation: isolation::credentials(proxy),
            }),
        })
    }

    /// One for other settings that shares this one's roots; `None` if they want other roots.
    pub(crate) fn like(&self, proxy: &config::Proxy, tls: &config::Tls) -> Option<Self> {
        let ours = &self.shared;
        let same = ours.identity == *tls
            && ours.proxy.ca_file == proxy.ca_file
            && may_speak_tls(&ours.proxy.source) == may_speak_tls(&proxy.source);
        same.then(|| {
            let mut shared = (**ours).clone();
            shared.proxy = proxy.clone();
            shared.isolation = isolation::credentials(proxy);
            for tls in [&mut shared.tls, &mut shared.proxy_tls]
                .into_iter()
                .flatten()
            {
                let mut own = (**tls).clone();
                own.resumption = rustls::client::Resumption::default();
                *tls = Arc::new(own);
            }
            Self {
                shared: Arc::new(shared),
            }
        })
    }

    /// The same way out for managers whose certificate must have this name, with TLS session tickets of its
    /// own: a resumed handshake verifies nothing (P-11).
    #[must_use]
    pub fn named(&self, name: CertificateName) -> Self {
        let mut shared = (*self.shared).clone();
        if let (Some(judge), Ok(tls)) = (&shared.judge, &shared.tls) {
            let mut tls = (**tls).clone();
            // The manager, and where it may send us: each session has a store, which takes its room at once.
            tls.resumption = rustls::client::Resumption::in_memory_sessions(FEW_TICKETS);
            let judge = Arc::new(verify::Named::new(Arc::clone(judge), name.clone()));
            tls.dangerous().set_certificate_verifier(judge);
            shared.tls = Ok(Arc::new(tls));
        }
        shared.rule = name;
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Whether all connections of a session must see one certificate (B-72).
    #[must_use]
    pub fn same_certificate(&self) -> bool {
        self.shared.identity.same_certificate
    }

    /// The same way out for one more session, apart from others where `proxy.isolate` asks for it (P-20).
    #[must_use]
    pub fn isolated(&self) -> Self {
        if self.shared.isolation.is_none() {
            return self.clone();
        }
        let mut shared = (*self.shared).clone();
        shared.isolation = isolation::credentials(&shared.proxy);
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The ways to a URL, in the order in which they are tried now; at least one.
    ///
    /// # Errors
    /// [`ConnectError::Setting`] if a proxy's address cannot be used.
    pub fn routes(&self, target: &Url) -> Result<Vec<Route>, ConnectError> {
        let mut routes = route::routes(&self.shared.proxy, target)?;
        for route in &mut routes {
            if let Route::Via(upstream) = route
                && upstream.kind == ProxyKind::Socks5
                && upstream.credentials.is_none()
                && self.shared.proxy.isolate
            {
                let Some(isolation) = &self.shared.isolation else {
                    let text = "proxy.isolate needs random numbers, and the system gives none";
                    return Err(ConnectError::Setting(text.into()));
                };
                upstream.isolated = true;
                upstream.credentials = Some(isolation.clone());
            }
        }
        self.shared.silent.put_last(&mut routes);
        Ok(routes)
    }

    /// Connects for requests to `target`: http or https. Of several proxies the next one is tried where one
    /// does not answer; what one says itself is final.
    ///
    /// # Errors
    /// [`ConnectError`] naming the hop.
    pub async fn connect(&self, target: &Url) -> Result<Connection, ConnectError> {
        let routes = self.routes(target)?;
        let several = routes.len() > 1;
        let mut failed = Vec::new();
        for route in routes {
            let proxy = match &route {
                Route::Via(upstream) if several => Some(upstream.authority()),
                Route::Via(_) | Route::Direct => None,
            };
            match self.connect_by(target, route).await {
                Err(error) if error.kind() == FailureKind::ProxyUnreachable => {
                    if let Some(proxy) = &proxy {
                        tracing::warn!("{error}; trying the next in proxy.url");
                        self.shared.silent.note(proxy);
                    }
                    failed.push(error);
                }
                Ok(connection) => {
                    if let Some(proxy) = &proxy {
                        self.shared.silent.forget(proxy);
                    }
                    return Ok(connection);
                }
                Err(error) => return Err(error),
            }
        }
        Err(order::none_answers(failed))
    }

    async fn connect_by(&self, target: &Url, route: Route) -> Result<Connection, ConnectError> {
        let host = target
            .host_str()
            .unwrap_or_default()
            .trim_matches(['[', ']']);
        let port = target.port_or_known_default().unwrap_or(443);
        let secure = target.scheme() == "https";
        let limits = isolation::limits(self.shared.limits, &route, host);
        let began = tokio::time::Instant::now();
        let mut took = Took::default();
        let way = route.clone();
        let (tunnel, local): (Box<dyn Io>, _) = match route {
            Route::Direct => {
                let stream = self.dial_target(host, port).await?;
                took.dial = began.elapsed();
                let local = local::of(&stream);
                if secure {
                    (Box::new(Prompt::new(stream)), local)
                } else {
                    (Box::new(stream), local)
                }
            }
            Route::Via(upstream) => match upstream.kind {
                ProxyKind::Socks5 => {
                    let (stream, local) = self.dial_proxy(&upstream).await?;
                    took.dial = began.elapsed();
                    let limit = limits.proxy;
                    let tunnel = socks5::connect(stream, &upstream, host, port, limit).await?;
                    took.proxy = Some(began.elapsed() - took.dial);
                    (Box::new(tunnel), local)
                }
                ProxyKind::Http | ProxyKind::Https => {
                    let (stream, local) = self.dial_proxy(&upstream).await?;
                    took.dial = began.elapsed();
                    if !secure {
                        let login = self.login(&upstream);
                        return Ok(Connection {
                            stream,
                            absolute_form: Some((upstream, login)),
                            local,
                            certificate: None,
                            intermediates: Vec::new(),
                            protocol: Protocol::Http1,
                            way,
                            took,
                        });
                    }
                    let destination = authority(host, port);
                    let way = self.tunnel(stream, local, &upstream, &destination).await?;
                    took.proxy = Some(began.elapsed() - took.dial);
                    way
                }
            },
        };
        if !secure {
            return Ok(Connection {
                stream: tunnel,
                absolute_form: None,
                local,
                certificate: None,
                intermediates: Vec::new(),
                protocol: Protocol::Http1,
                way,
                took,
            });
        }
        let config = ready(&self.shared.tls)?;
        let peer = authority(host, port);
        let stream = tls::handshake(config, tunnel, host, &peer, Hop::Manager, limits.tls).await?;
        let spent = began.elapsed() - took.dial - took.proxy.unwrap_or_default();
        let session = stream.get_ref().1;
        took.tls = session.protocol_version().map(|version| (spent, version));
        let shown = session.peer_certificates().unwrap_or_default();
        let protocol = match session.alpn_protocol() {
            Some(b"h2") => Protocol::Http2(self.proven(host, shown)),
            // One that knows no ALPN speaks HTTP/1.1.
            Some(_) | None => Protocol::Http1,
        };
        let mut shown = shown.iter().map(|der| der.to_vec());
        let certificate = shown.next();
        let intermediates = shown.collect();
        let stream: Box<dyn Io> = match &way {
            Route::Direct => Box::new(stream),
            Route::Via(_) => {
                let mut patient = Patient::new(stream, spent);
                let taken = patient.take_ticket().await;
                taken.map_err(|error| tls::explain(&error, &peer, Hop::Manager))?;
                Box::new(patient)
            }
        };
        Ok(Connection {
            stream,
            absolute_form: None,
            local,
            certificate,
            intermediates,
            protocol,
            way,
            took,
        })
    }

    /// CONNECT, once more for each challenge that can be answered (P-06).
    async fn tunnel(
        &self,
        mut stream: Box<dyn Io>,
        mut local: Option<IpAddr>,
        upstream: &Upstream,
        destination: &str,
    ) -> Result<(Box<dyn Io>, Option<IpAddr>), ConnectError> {
        let login = self.login(upstream);
        let mut round = Round::default();
        let limit = self.shared.limits.proxy;
        loop {
            let who = (&*login, &mut round);
            let asked = http_proxy::connect(stream, upstream, who, destination, limit);
            if let Some(tunnel) = asked.await? {
                return Ok((Box::new(tunnel), local));
            }
            // Whether its refusal leaves the connection open is not worth finding out.
            (stream, local) = self.dial_proxy(upstream).await?;
        }
    }

    /// What a proxy was seen to offer, and how we log in there.
    pub(crate) fn learnt(&self, upstream: &Upstream) -> Option<(Vec<String>, &'static str)> {
        self.login(upstream).learnt()
    }

    /// What is known of logging in to this proxy.
    fn login(&self, upstream: &Upstream) -> Arc<Login> {
        let proxy = upstream.authority();
        let credentials = upstream.credentials.as_ref();
        let mut logins = self
            .shared
            .logins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = logins
            .iter()
            .find(|(name, login)| *name == proxy && login.is_for(credentials));
        if let Some((_, login)) = known {
            return Arc::clone(login);
        }
        let login = Login::new(upstream.credentials.clone());
        let login = Arc::new(match self.shared.proxy.preemptive {
            true => login,
            false => login.waiting(),
        });
        logins.push((proxy, Arc::clone(&login)));
        login
    }

    async fn dial_target(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio::net::TcpStream, ConnectError> {
        dial::dial(host, port, self.shared.limits.connect)
            .await
            .map_err(|source| ConnectError::CmUnreachable {
                target: authority(host, port),
                source,
            })
    }

    async fn dial_proxy(
        &self,
        upstream: &Upstream,
    ) -> Result<(Box<dyn Io>, Option<IpAddr>), ConnectError> {
        let proxy = upstream.authority();
        let stream = dial::dial(&upstream.host, upstream.port, self.shared.limits.connect)
            .await
            .map_err(|source| ConnectError::ProxyUnreachable {
                proxy: proxy.clone(),
                set_by: upstream.set_by,
                source,
            })?;
        let local = local::of(&stream);
        if upstream.kind != ProxyKind::Https {
            return Ok((Box::new(stream), local));
        }
        let config = ready(&self.shared.proxy_tls)?;
        let stream = tls::handshake(
            config,
            Prompt::new(stream),
            &upstream.host,
            &proxy,
            Hop::Proxy,
            self.shared.limits.tls,
        )
        .await?;
        Ok((Box::new(stream), local))
    }
}

/// Whether a proxy may have to be reached over TLS.
fn may_speak_tls(source: &config::ProxySource) -> bool {
    match source {
        config::ProxySource::None => false,
        config::ProxySource::Url(url) => url.scheme() == "https",
        config::ProxySource::List(list) => list.urls.iter().any(|url| url.scheme() == "https"),
        config::ProxySource::Env(env) => [&env.https, &env.http, &env.all]
            .into_iter()
            .flatten()
            .any(|set| set.value.to_ascii_lowercase().contains("https:")),
    }
}

type Judge = Arc<dyn rustls::client::danger::ServerCertVerifier>;

/// A bad file is an error now; a system without roots only when TLS is used.
fn later(judge: Result<Judge, ConnectError>) -> Result<Result<Judge, String>, ConnectError> {
    match judge {
        Ok(judge) => Ok(Ok(judge)),
        Err(ConnectError::Setting(text)) => Ok(Err(text)),
        Err(error) => Err(error),
    }
}

fn configured(
    judge: Result<Judge, String>,
    identity: &config::Tls,
) -> Result<Result<Arc<ClientConfig>, String>, ConnectError> {
    match judge {
        Ok(judge) => tls::client_config(judge, identity).map(Ok),
        Err(text) => Ok(Err(text)),
    }
}

fn ready(config: &Result<Arc<ClientConfig>, String>) -> Result<Arc<ClientConfig>, ConnectError> {
    config.clone().map_err(ConnectError::Setting)
}
