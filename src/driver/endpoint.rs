//! From a domain to its connection manager: URL, way out, and where a redirect may lead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use super::clock;
use super::habits::Habits;
use crate::bosh::Way;
use crate::bridge;
use crate::config::{Config, Domain, HttpVersion};
use crate::connect::{self, CertificateName, ConnectError, Connector, ProxyKind, Route};
use crate::discover::{Discovery, Source};
use crate::http::{ClientOptions, SessionClient, Sharing, Target};
use crate::stream::error::FaultReason;

/// How long an address that failed comes after the others of its domain.
const AVOID_FOR: Duration = Duration::from_secs(600);
/// Addresses that are avoided at once.
const MAX_AVOIDED: usize = 256;

/// Everything known about the managers of all domains.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    domains: Arc<HashMap<String, Known>>,
    /// For domains that the configuration does not name.
    others: Arc<Known>,
    /// Somebody may be asked.
    discovers: bool,
    discovery: Arc<Discovery>,
    max_response_bytes: usize,
    /// Connections that sessions have in common (P-11).
    sharing: Sharing,
    habits: Arc<Habits>,
    /// Where managers said they are now.
    moved: Arc<Mutex<HashMap<String, Url>>>,
    /// Discovered addresses that failed, and until when others come first (D-06).
    avoided: Arc<Mutex<HashMap<Url, Instant>>>,
}

#[derive(Clone, Debug)]
struct Known {
    settings: Domain,
    connector: Connector,
}

/// One domain's manager: what the bridge must know, and the client that reaches it.
pub(super) struct Resolved {
    pub(super) endpoint: bridge::Endpoint,
    pub(super) url: Url,
    ways: Ways,
    /// The address was found, not configured.
    pub(super) discovered: bool,
    http_version: HttpVersion,
}

impl Resolved {
    /// The way out, for people.
    pub(super) fn way(&self) -> String {
        match self.ways.connector.routes(&self.url) {
            Ok(routes) => in_words(&routes),
            Err(error) => error.to_string(),
        }
    }
}

/// The way out for people: to an https address of a domain without a proxy of its own.
pub(crate) fn way_out(config: &Config) -> String {
    // No host's name, so that no exception but `*` is for it.
    let anywhere = Url::parse("https://xbosh.invalid/").map_err(|error| error.to_string());
    let routes = anywhere.and_then(|url| {
        let routes = connect::route::routes(&config.proxy, &url);
        routes.map_err(|error| error.to_string())
    });
    match routes {
        Ok(routes) => {
            let words: Vec<String> = routes.iter().map(in_detail).collect();
            words.join("; else ")
        }
        Err(error) => error,
    }
}

/// One way for people, with whether there is a login, and no more of it.
pub(crate) fn in_detail(route: &Route) -> String {
    match route {
        Route::Direct => "direct, no proxy".to_owned(),
        Route::Via(upstream) => {
            let login = match &upstream.credentials {
                Some(_) if upstream.isolated => "with a login of its own for each client",
                Some(_) => "with user name and password",
                None => "without password",
            };
            format!("{} {}, {login}", upstream.kind, upstream.authority())
        }
    }
}

/// Ways for people, in the order in which they are tried; no credentials.
fn in_words(routes: &[Route]) -> String {
    let words = routes.iter().map(|route| match route {
        Route::Direct => "direct".to_owned(),
        Route::Via(upstream) => format!("{} {}", upstream.kind, upstream.authority()),
    });
    words.collect::<Vec<_>>().join(", else ")
}

/// The ways to the managers of one domain.
pub(crate) struct Ways {
    connector: Connector,
    /// For hosts that the domain or the configuration vouches for.
    name: CertificateName,
    vouched: Vec<Url>,
}

impl Ways {
    /// `vouched`: addresses that the domain itself or the configuration names, and where; the configuration is as good
    /// as host-meta.
    pub(crate) fn new(
        connector: &Connector,
        domain: &str,
        vouched: Vec<Url>,
        from: Source,
    ) -> Self {
        Self {
            connector: connector.clone(),
            name: from.names(domain),
            vouched,
        }
    }

    /// The way to an address, for one session: only a host that is vouched for may show the XMPP domain's certificate
    /// (D-08, D-13).
    pub(crate) fn to(&self, url: &Url) -> Connector {
        let known = |vouched: &Url| vouched.host() == url.host();
        if url.scheme() == "http" {
            // Certificates and tickets take room.
            self.connector.clone()
        } else if self.vouched.iter().any(known) {
            self.connector.named(self.name.clone())
        } else {
            self.connector.named(CertificateName::Host)
        }
    }
}

impl Endpoints {
    /// Loads certificates and keys of every configured domain once, so that a bad file shows at start.
    pub(super) fn new(config: &Config) -> Result<Self, ConnectError> {
        let settings = config.other_domain();
        let connector = Connector::new(&settings.proxy, &settings.tls)?;
        let others = Known {
            settings,
            connector,
        };
        let mut domains = HashMap::<String, Known>::new();
        for (name, settings) in &config.domains {
            // Files that were read already need not be read again, and sessions may share connections then.
            let connector = std::iter::once(&others)
                .chain(domains.values())
                .find_map(|known| known.connector.like(&settings.proxy, &settings.tls));
            let connector = match connector {
                Some(connector) => connector,
                None => Connector::new(&settings.proxy, &settings.tls)?,
            };
            let known = Known {
                settings: settings.clone(),
                connector,
            };
            domains.insert(name.clone(), known);
        }
        Ok(Self {
            domains: Arc::new(domains),
            others: Arc::new(others),
            discovers: config.discovery.host_meta || config.discovery.dns_txt,
            discovery: Arc::new(Discovery::new(config.discovery.cache).asking(config.discovery)),
            max_response_bytes: config.limits.max_response_bytes,
            sharing: Sharing::default(),
            habits: Arc::default(),
            moved: Arc::default(),
            avoided: Arc::default(),
        })
    }

    /// The same with what others have learnt about ways and addresses.
    pub(super) fn knowing(mut self, others: &Self) -> Self {
        self.habits = Arc::clone(&others.habits);
        self.avoided = Arc::clone(&others.avoided);
        self
    }

    /// The manager of a domain, or the row and sentence that say why there is none (D-01).
    pub(super) async fn resolve(&self, domain: &str) -> Result<Resolved, (FaultReason, String)> {
        let known = self.domains.get(domain).unwrap_or(&self.others);
        // One client connection's own, which its discovery and all its requests share (P-20).
        let connector = known.connector.isolated();
        let (urls, from, discovered) = match &known.settings.url {
            Some(url) => (vec![url.clone()], Source::Xrd, false),
            None if !self.discovers => {
                return Err((FaultReason::NoBoshEndpoint, no_address(domain)));
            }
            None => {
                let now = clock::now();
                let found = self.discovery.find(&connector, domain, now).await;
                let found = found.map_err(|error| (error.reason(), error.to_string()))?;
                (self.in_order(found.urls, now), found.source, true)
            }
        };
        let Some(first) = urls.first() else {
            let text = format!("{domain} names no BOSH address");
            return Err((FaultReason::NoBoshEndpoint, text));
        };
        let url = self.address(domain).unwrap_or_else(|| first.clone());
        let others = discovered && url == *first && self.another(&urls);
        // A proxy that reads requests may send them again by itself; inside a tunnel it cannot.
        let http_proxy =
            |route: &Route| matches!(route, Route::Via(via) if via.kind != ProxyKind::Socks5);
        let routes = connector.routes(&url).unwrap_or_default();
        let way = Way {
            repeats: url.scheme() == "http" && routes.iter().any(http_proxy),
            swallows: false,
        };
        Ok(Resolved {
            endpoint: bridge::Endpoint {
                https: url.scheme() == "https",
                bosh: known.settings.bosh.clone(),
                route: known.settings.route.clone(),
                key_sequence: known.settings.bosh.key_sequence,
                way,
                others,
            },
            url,
            ways: Ways::new(&connector, domain, urls, from),
            discovered,
            http_version: known.settings.bosh.http_version,
        })
    }

    /// Addresses that failed lately come last.
    fn in_order(&self, mut urls: Vec<Url>, now: Instant) -> Vec<Url> {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided.retain(|_, until| *until > now);
        urls.sort_by_key(|url| avoided.get(url).copied());
        urls
    }

    /// Whether there is a second address that has not failed lately.
    fn another(&self, urls: &[Url]) -> bool {
        let avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        urls.iter().skip(1).any(|url| !avoided.contains_key(url))
    }

    /// No session came about at this address: others of the domain come first for a while.
    pub(super) fn avoid(&self, url: &Url) {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        if avoided.len() < MAX_AVOIDED {
            avoided.insert(url.clone(), clock::now() + AVOID_FOR);
        }
    }

    /// What is remembered of a domain's addresses may be out of date (D-15).
    pub(super) fn forget(&self, domain: &str) {
        self.discovery.forget(domain);
    }

    /// The manager of this domain says that it is there now (C-11).
    pub(super) fn moved(&self, domain: &str, url: Url) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.len() < MAX_AVOIDED || moved.contains_key(domain) {
            moved.insert(domain.to_owned(), url);
        }
    }

    /// The new address did not work out.
    pub(super) fn not_moved(&self, domain: &str) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.remove(domain);
    }

    fn address(&self, domain: &str) -> Option<Url> {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        moved.get(domain).cloned()
    }

    /// What was learnt about the ways to managers.
    pub(super) fn habits(&self) -> &Habits {
        &self.habits
    }

    /// A client for one session.
    pub(super) fn client(&self, url: &Url, resolved: &Resolved) -> SessionClient {
        let connector = resolved.ways.to(url);
        let options = ClientOptions {
            max_response_bytes: self.max_response_bytes,
            http2: resolved.http_version == HttpVersion::Auto,
        };
        SessionClient::sharing(Target::new(url.clone()), connector, options, &self.sharing)
    }
}

/// E-21 where nobody is asked for the address.
pub(crate) fn no_address(domain: &str) -> String {
    format!(
        "no BOSH address is known for {domain}: set url under [domains.\"{domain}\"] in xbosh's config.toml, or discovery.host_meta = true"
    )
}

/// Where a redirect leads, if it may be followed (B-59, D-13, E-53): never from https to http, never with
/// user names inside; 301 and 302 only where they add a slash on the same origin, since others turn POST
/// into GET.
pub(crate) fn redirect_target(from: &Url, status: Option<u16>, location: &str) -> Option<Url> {
    let mut to = from.join(location).ok()?;
    let safe_scheme = to.scheme() == "https" || from.scheme() == "http" && to.scheme() == "http";
    if !safe_scheme || !to.username().is_empty() || to.password().is_some() || to.host().is_none() {
        return None;
    }
    let follow = match status {
        None | Some(307 | 308) => true,
        Some(301 | 302) => to.origin() == from.origin() && to.path() == format!("{}/", from.path()),
        Some(_) => false,
    };
    if matches!(status, Some(301 | 302)) && to.query().is_none() {
        // The configured query may be what lets us in.
        to.set_query(from.query());
    }
    follow.then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B-59, D-13, E-53: which redirects of the BOSH URL are followed.
    #[test]
    fn b59_redirects_never_lower_security() {
        let follow = |from: &str, status, to: &str| {
            redirect_target(&Url::parse(from).unwrap(), status, to).map(|url| url.to_string())
        };
        let https = "https://cm.example/bosh";
        assert_eq!(
            follow(https, None, "https://other.example/b"),
            Some("https://other.example/b".into())
        );
        assert_eq!(
            follow(
                "http://cm.example/bosh",
                Some(307),
                "https://cm.example/bosh"
            ),
            Some(https.into())
        );
        assert_eq!(
            follow(https, Some(308), "/elsewhere"),
            Some("https://cm.example/elsewhere".into())
        );
        assert_eq!(
            follow(https, Some(301), "/bosh/"),
            Some("https://cm.example/bosh/".into())
        );
        assert_eq!(
            follow("https://cm.example/bosh?token=1", Some(302), "/bosh/"),
            Some("https://cm.example/bosh/?token=1".into())
        );
        for (status, to) in [
            (None, "http://cm.example/bosh"),
            (Some(307), "http://cm.example/bosh"),
            (Some(307), "ftp://cm.example/bosh"),
            (Some(307), "https://user:pw@cm.example/bosh"),
            (Some(301), "https://other.example/bosh/"),
            (Some(302), "/login"),
            (Some(303), "/bosh/"),
        ] {
            assert_eq!(follow(https, status, to), None, "{status:?} {to}");
        }
    }

    /// D-10: a record may have been forged: the host that it names is believed only with the XMPP domain's certificate,
    /// and not with one of its own, which is what a forger has.
    #[cfg(feature = "dns")]
    #[tokio::test]
    async fn d10_the_domains_certificate_alone_counts() {
        use crate::discover::tests::dns::{DNS_ALONE, FakeDns, discovery};
        use xbosh_testkit::tls::Authority;
        use xbosh_testkit::web::WebHost;

        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let good = WebHost::start(Some(authority.acceptor(&["good.test"]))).await;
        let forged = WebHost::start(Some(authority.acceptor(&["127.0.0.1"]))).await;
        let record = |web: &WebHost| vec![format!("_xmpp-client-xbosh=https://{}/", web.addr())];
        let server = FakeDns::start(
            [
                ("_xmppconnect.good.test", record(&good)),
                ("_xmppconnect.forged.test", record(&forged)),
            ]
            .into(),
        );
        let mut config = Config {
            discovery: DNS_ALONE,
            ..Config::default()
        };
        config.tls.ca_file = Some(ca_file);
        let mut endpoints = Endpoints::new(&config).unwrap();
        endpoints.discovery = Arc::new(discovery(&server, DNS_ALONE));
        for (domain, believed) in [("good.test", true), ("forged.test", false)] {
            let Ok(resolved) = endpoints.resolve(domain).await else {
                panic!("{domain} is not found");
            };
            let url = &resolved.url;
            let connected = resolved.ways.to(url).connect(url).await;
            assert_eq!(connected.is_ok(), believed, "{domain}: {connected:?}");
            if let Err(error) = connected {
                assert!(matches!(error, ConnectError::Certificate { .. }), "{error}");
            }
        }
    }
}
