//! The validated, typed configuration: all that the rest of the program sees.

mod draft;
mod environment;
pub mod error;
mod finish;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod level;
mod listen;
pub mod load;
mod proxy;
mod secret;
mod take;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

pub use environment::environment;
pub use error::{ConfigError, Place};
pub use listen::{ListenAddress, ListenAddressError};
pub use load::{Flags, Loaded, load, load_public, user_folder};
pub use proxy::has_password;

/// Everything `xbosh run` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to listen on. Loopback and Unix sockets only unless [`Config::allow_remote_clients`].
    pub listen: Vec<ListenAddress>,
    /// Permits listening on other than loopback addresses.
    pub allow_remote_clients: bool,
    /// Used when a client's stream header has no `to`. A lower-case A-label domain.
    pub default_domain: Option<String>,
    /// Domains clients may ask for; `None` is any. Lower-case A-labels.
    pub allowed_domains: Option<Vec<String>>,
    /// The upstream proxy.
    pub proxy: Proxy,
    /// TLS towards the connection manager.
    pub tls: Tls,
    /// What is asked of the connection manager.
    pub bosh: Bosh,
    /// What is taken out of stream features.
    pub features: Features,
    /// How TLS is offered to clients.
    pub local_tls: LocalTlsMode,
    /// How connection managers are found.
    pub discovery: DiscoverySettings,
    /// `[stream_management]`.
    pub stream_management: StreamManagement,
    /// Bounds on everything the outside can make large.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
    /// Who can ask how things are.
    pub status: Status,
    /// Per-domain settings, by lower-case A-label domain.
    pub domains: BTreeMap<String, Domain>,
}

/// The settings of one XMPP domain, with everything inherited already filled in.
#[derive(Clone, Debug)]
pub struct Domain {
    /// The connection manager's URL; `None`: to be discovered.
    pub url: Option<Url>,
    /// `route` attribute for a proxying connection manager, as `xmpp:host:port` (XEP-0124 section 7.1).
    pub route: Option<String>,
    /// TLS settings for this domain.
    pub tls: Tls,
    /// BOSH settings for this domain.
    pub bosh: Bosh,
    /// The way out for this domain.
    pub proxy: Proxy,
}

/// How to reach anything outside.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Where the proxy's address comes from.
    pub source: ProxySource,
    /// Credentials from the configuration keys; they beat userinfo in the URL.
    pub credentials: Option<Credentials>,
    /// Hosts, suffixes and CIDR blocks reached directly, besides those of `NO_PROXY` with `env`.
    pub no_proxy: Vec<String>,
    /// Extra PEM roots for an `https://` proxy.
    pub ca_file: Option<PathBuf>,
    /// Each client connection is somebody else to a SOCKS5 proxy: Tor then gives each its own circuits.
    pub isolate: bool,
    /// HTTP proxies get user and password before they ask.
    pub preemptive: bool,
}

/// `proxy.url`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// `"env"`: the values taken from the environment when the configuration was loaded.
    Env(ProxyEnv),
    /// `"none"`: always direct.
    None,
    /// A proxy named in the configuration; userinfo has been moved to the credentials.
    Url(Url),
    /// Several, tried in this order.
    List(ProxyList),
}

/// Proxies in the order in which they are tried. URLs may hold userinfo.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyList {
    /// At least one.
    pub urls: Vec<Url>,
    /// When none of them answers there is the direct way.
    pub then_direct: bool,
}

impl std::fmt::Debug for ProxyList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts = self
            .urls
            .iter()
            .map(|url| (url.scheme(), url.host_str(), url.port()));
        f.debug_struct("ProxyList")
            .field("urls", &hosts.collect::<Vec<_>>())
            .field("then_direct", &self.then_direct)
            .finish()
    }
}

/// A variable of the environment that names a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyVariable {
    /// As it was written: `HTTPS_PROXY` or `https_proxy`.
    pub name: &'static str,
    /// May hold userinfo.
    pub value: String,
}

impl std::fmt::Debug for ProxyVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProxyVariable").field(&self.name).finish()
    }
}

/// The proxy variables of the environment, read once at load time. Values may hold userinfo.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    /// `HTTPS_PROXY` or `https_proxy`.
    pub https: Option<ProxyVariable>,
    /// `HTTP_PROXY` or `http_proxy`.
    pub http: Option<ProxyVariable>,
    /// `ALL_PROXY` or `all_proxy`.
    pub all: Option<ProxyVariable>,
    /// `NO_PROXY` or `no_proxy`.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for ProxyEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URLs may carry passwords.
        f.debug_struct("ProxyEnv")
            .field("https", &self.https.is_some())
            .field("http", &self.http.is_some())
            .field("all", &self.all.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// A user name and its password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password; never printed.
    pub password: SecretString,
}

/// `[tls]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Extra PEM roots beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain shown to the connection manager.
    pub client_cert: Option<PathBuf>,
    /// PEM key of `client_cert`.
    pub client_key: Option<PathBuf>,
    /// Whether all connections of a session must see one certificate (XEP-0124 section 19.1).
    pub same_certificate: bool,
}

/// `[bosh]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bosh {
    /// Longest time the connection manager may hold a request. Whole seconds.
    pub wait: Duration,
    /// Requests the connection manager may hold.
    pub hold: u8,
    /// Protocol version asked for: two integers joined by a dot.
    pub ver: String,
    /// Largest `<body/>` that several stanzas are gathered into, in bytes.
    pub max_body_bytes: usize,
    /// `xml:lang` of the session when the client gave none.
    pub lang: String,
    /// Whether sessions over plain http are protected by key sequences (XEP-0124 section 15).
    pub key_sequence: bool,
    /// Versions of HTTP that managers are offered over https.
    pub http_version: HttpVersion,
}

/// `bosh.http_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/2 where the manager knows it (RFC 9113 section 3.2), else HTTP/1.1.
    Auto,
    /// HTTP/1.1 only.
    Http11,
}

/// `[stream_management]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamManagement {
    /// Who answers XEP-0198.
    pub mode: StreamManagementMode,
    /// How long a stream waits for a client that lost its connection; zero: never.
    pub resume_window: Duration,
}

/// `stream_management.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamManagementMode {
    /// xbosh does, whatever the server offers.
    Local,
    /// The server does, if it can.
    Pass,
    /// Nobody.
    Off,
}

/// `local_tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalTlsMode {
    /// Served to every client that begins it, offered to those of domains whose authority is trusted.
    Auto,
    /// Offered always.
    Optional,
    /// Nothing is done without it.
    Required,
    /// Refused.
    Off,
}

/// `[discovery]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Whether the domain's web server is asked (XEP-0156).
    pub host_meta: bool,
    /// Whether the DNS is asked where that names nothing.
    pub dns_txt: bool,
    /// Whether answers are remembered as long as HTTP lets them be.
    pub cache: bool,
}

/// `[features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Whether channel-binding mechanisms and their lists pass to the client unfiltered.
    pub channel_binding: ChannelBinding,
    /// Whether PLAIN is offered to clients that speak without TLS (RFC 6120 section 13.8.3).
    pub plain_without_tls: PlainWithoutTls,
}

/// `features.plain_without_tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainWithoutTls {
    /// As the server offers it.
    Offer,
    /// Take it out until the client speaks TLS.
    Hide,
}

/// `features.channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Take -PLUS mechanisms and channel-binding lists out: binding data differs on each side of xbosh.
    Filter,
    /// Leave them.
    Pass,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client streams at once.
    pub max_streams: usize,
    /// New sessions of a domain a second, once a few have come at once. At least 1.
    pub session_rate: usize,
    /// Largest first-level element in bytes, either way. At least 10 000 (RFC 6120 section 13.12).
    pub max_stanza_bytes: usize,
    /// Deepest nesting inside an element.
    pub max_depth: usize,
    /// Most attributes on one tag.
    pub max_attributes: usize,
    /// Largest HTTP reply, after decompression, in bytes.
    pub max_response_bytes: usize,
    /// Payload held per stream and direction, in bytes.
    pub buffer_bytes: usize,
    /// Time for a client to send its stream header.
    pub header_timeout: Duration,
    /// Time from the client's header to stream features.
    pub setup_timeout: Duration,
}

/// `[status]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The socket that `xbosh status` asks; none if it is switched off, or there is no runtime folder for it.
    pub socket: Option<PathBuf>,
    /// Where Prometheus asks besides; a loopback address.
    pub metrics: Option<std::net::SocketAddr>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// error, warn, info, debug, trace, or a list with names of parts in front of some, like `info,hyper=trace`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, journal-friendly otherwise.
    Auto,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The settings of an XMPP domain (a lower-case A-label name), configured or not.
    #[must_use]
    pub fn domain(&self, name: &str) -> Domain {
        let known = self.domains.get(name).cloned();
        known.unwrap_or_else(|| self.other_domain())
    }

    /// The settings of every domain that is not configured.
    #[must_use]
    pub fn other_domain(&self) -> Domain {
        Domain {
            url: None,
            route: None,
            tls: self.tls.clone(),
            bosh: self.bosh.clone(),
            proxy: self.proxy.clone(),
        }
    }

    /// S-01: what is to be known of an address that other machines can reach.
    pub(crate) fn remote_warning(&self, address: &ListenAddress) -> String {
        let how = match self.local_tls {
            LocalTlsMode::Off => "they are refused, since local_tls.mode is \"off\"",
            LocalTlsMode::Auto | LocalTlsMode::Optional | LocalTlsMode::Required => {
                "they are served over TLS only"
            }
        };
        format!("clients on other machines can reach {address}: {how}")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![([127, 0, 0, 1], 5222).into()],
            allow_remote_clients: false,
            default_domain: None,
            allowed_domains: None,
            proxy: Proxy::default(),
            tls: Tls::default(),
            bosh: Bosh::default(),
            features: Features {
                channel_binding: ChannelBinding::Filter,
                plain_without_tls: PlainWithoutTls::Offer,
            },
            local_tls: LocalTlsMode::Auto,
            discovery: DiscoverySettings {
                host_meta: true,
                dns_txt: false,
                cache: true,
            },
            stream_management: StreamManagement {
                mode: StreamManagementMode::Local,
                resume_window: Duration::from_secs(60),
            },
            limits: Limits::default(),
            log: Log {
                level: "info".into(),
                format: LogFormat::Auto,
            },
            status: Status {
                socket: None,
                metrics: None,
            },
            domains: BTreeMap::new(),
        }
    }
}

impl Default for Proxy {
    /// What the environment says, which here is nothing.
    fn default() -> Self {
        Self {
            source: ProxySource::Env(ProxyEnv::default()),
            credentials: None,
            no_proxy: Vec::new(),
            ca_file: None,
            isolate: false,
            preemptive: true,
        }
    }
}

impl Default for Bosh {
    fn default() -> Self {
        Self {
            // Many proxies and balancers cut connections that are silent for 60 s.
            wait: Duration::from_secs(55),
            hold: 1,
            ver: "1.6".into(),
            max_body_bytes: 64 * 1024,
            lang: "en".into(),
            key_sequence: false,
            http_version: HttpVersion::Auto,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            session_rate: 50,
            max_stanza_bytes: 1 << 20,
            max_depth: 128,
            max_attributes: 256,
            max_response_bytes: 16 << 20,
            buffer_bytes: 4 << 20,
            header_timeout: Duration::from_secs(30),
            setup_timeout: Duration::from_secs(60),
        }
    }
}
