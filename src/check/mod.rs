//! `xbosh check`: the whole way to a domain's server, walked once, hop by hop.
//!
//! What is said about a failure is what a client's stream error would say: both come from
//! [`crate::stream::error`] and [`crate::connect::ConnectError`].

mod advice;
mod certificate;
mod report;
mod session;

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::time::Instant;
use url::Url;

pub use report::{Hop, HopName, Outcome, Report};

use crate::bosh::FailureKind;
use crate::config::{Config, ProxySource};
use crate::connect::{self, ConnectError, Connection, Connector, Route};
use crate::discover::{DiscoverError, Discovery, Found, Source};
use crate::driver::{Ways, in_detail, no_address, plain, way_out};
use crate::stream::error::{FaultReason, fault};

/// Longest time for one hop, retries of what is below included.
const HOP_LIMIT: Duration = Duration::from_secs(45);

/// What to walk.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The configuration that `xbosh run` would have.
    pub config: Config,
    /// The file it came from.
    pub file: Option<PathBuf>,
    /// What its loading warned of.
    pub warnings: Vec<String>,
    /// The XMPP domain, a lower-case A-label name.
    pub domain: String,
    /// Whether long polls and large bodies are tried too, which takes as long as `bosh.wait`.
    pub long: bool,
    /// Port of the domain's web server, 443 everywhere but in tests.
    pub web_port: u16,
    /// The way out of a sidecar that runs, as [`crate::status::Report::way`] tells it.
    pub running: Option<String>,
}

/// Walks to the server of a domain. Ends the session that it opens. Nothing is logged; each hop is given to `tell`
/// as soon as it is known.
pub async fn check(walk: Walk, mut tell: impl FnMut(&Hop)) -> Report {
    let mut report = Report::new(&walk.domain);
    let mut said = 0;
    let mut tell = |report: &Report| {
        report.hops[said..].iter().for_each(&mut tell);
        said = report.hops.len();
    };
    // Each step adds hops, and says whether the next one makes sense.
    let mut steps = Steps {
        walk: &walk,
        connector: None,
        found: None,
        urls: Vec::new(),
        told_way: None,
    };
    let set = steps.config(&mut report);
    tell(&report);
    if !set {
        return report;
    }
    let known = steps.address(&mut report).await;
    tell(&report);
    let (true, Some(connector)) = (known, steps.connector.clone()) else {
        return report;
    };
    let urls = std::mem::take(&mut steps.urls);
    let from = steps
        .found
        .as_ref()
        .map_or(Source::Xrd, |found| found.source);
    let ways = Ways::new(&connector, &walk.domain, urls.clone(), from);
    for (tried, url) in urls.iter().enumerate() {
        // D-06: as long as there is no session, the next address may be a better one.
        let last = tried + 1 == urls.len();
        for step in [Step::Connect, Step::Session] {
            let mark = report.mark();
            let reached = match step {
                Step::Connect => steps.connect(&mut report, &ways, url).await,
                Step::Session => steps.session(&mut report, &ways, url).await,
            };
            if reached == Reached::No && !last {
                report.forgive(mark);
            }
            tell(&report);
            match reached {
                Reached::Yes => {}
                Reached::No => break,
                Reached::Session => return report,
            }
        }
    }
    report
}

#[derive(Clone, Copy)]
enum Step {
    Connect,
    Session,
}

/// How far a step came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// There is no session at this address.
    No,
    /// The next step makes sense.
    Yes,
    /// There was a session: no other address is tried, whatever became of it.
    Session,
}

struct Steps<'a> {
    walk: &'a Walk,
    connector: Option<Connector>,
    /// What host-meta named.
    found: Option<Found>,
    /// In the order in which they are tried.
    urls: Vec<Url>,
    told_way: Option<String>,
}

impl Steps<'_> {
    /// What is set, and whether files can be used.
    fn config(&mut self, report: &mut Report) -> bool {
        let Walk {
            config,
            file,
            warnings,
            domain,
            ..
        } = self.walk;
        let from = match file {
            Some(path) => path.display().to_string(),
            None => "no file, defaults and environment".to_owned(),
        };
        if let Some(allowed) = &config.allowed_domains
            && !allowed.contains(domain)
        {
            let asked = crate::stream::header::asked_for(domain);
            let fault = fault(FaultReason::DomainNotAllowed, Some(&asked));
            report.fault(HopName::Config, fault);
            report.advise(advice::allowed_line(allowed, domain));
            return false;
        }
        let settings = config.domain(domain);
        match Connector::new(&settings.proxy, &settings.tls) {
            Ok(connector) => {
                report.ok(HopName::Config, None, from);
                for warning in warnings {
                    report.note(HopName::Config, warning.clone());
                }
                self.connector = Some(connector);
                true
            }
            Err(error) => {
                report.fail(HopName::Config, "E-18", error.to_string());
                false
            }
        }
    }

    /// The way out.
    fn way(&mut self, report: &mut Report, connector: &Connector, to: &Url) -> bool {
        match connector.routes(to) {
            Ok(routes) => {
                let words = self.words(&routes);
                report.ok(HopName::Way, None, words.clone());
                self.running(report);
                self.told_way = Some(words);
                true
            }
            Err(error) => {
                report.fail(HopName::Config, "E-18", error.to_string());
                false
            }
        }
    }

    /// A service does not see what the shell sees.
    fn running(&self, report: &mut Report) {
        let config = &self.walk.config;
        let own = config.domain(&self.walk.domain).proxy.source != config.proxy.source;
        if let Some(running) = &self.walk.running
            && !own
            && *running != way_out(config)
        {
            let text = format!(
                "the xbosh that runs here goes out another way ({running}): what follows is not what its clients find; set proxy.url in the configuration that it reads, and reload it"
            );
            report.note(HopName::Way, text);
        }
    }

    /// What the proxy said of logins on the way.
    fn logins(&self, report: &mut Report, ways: &Ways, url: &Url) {
        let connector = ways.to(url);
        let routes = connector.routes(url).unwrap_or_default();
        for route in &routes {
            if let Route::Via(upstream) = route
                && let Some((offers, used)) = connector.learnt(upstream)
            {
                let (proxy, offers) = (upstream.authority(), offers.join(", "));
                let text = format!("{proxy} offers the logins {offers}; {used} is used");
                if !report.hops.iter().any(|hop| hop.text == text) {
                    report.note(HopName::Proxy, text);
                }
            }
        }
    }

    /// Where the manager is: configured, or named by the domain.
    async fn address(&mut self, report: &mut Report) -> bool {
        let Some(connector) = self.connector.clone() else {
            return false;
        };
        let Walk { config, domain, .. } = self.walk;
        let configured = config.domain(domain).url;
        let first = match &configured {
            Some(url) => Some(url.clone()),
            None => Url::parse(&format!("https://{domain}/")).ok(),
        };
        if let Some(first) = first
            && !self.way(report, &connector, &first)
        {
            return false;
        }
        if let Some(url) = configured {
            report.ok(
                HopName::Discovery,
                None,
                format!("{} (configured)", plain(&url)),
            );
            self.urls = vec![url];
            return true;
        }
        if !config.discovery.host_meta && !config.discovery.dns_txt {
            let reason = FaultReason::NoBoshEndpoint;
            report.fail(HopName::Discovery, reason.row(), no_address(domain));
            advice::after_failure(report, self.walk, reason);
            return false;
        }
        let began = Instant::now();
        let discovery = Discovery::with_port(false, self.walk.web_port).asking(config.discovery);
        let now = crate::driver::clock::now();
        let found = within(discovery.find(&connector, domain, now)).await;
        let found = match found {
            Some(found) => found,
            None => Err(DiscoverError::silent(domain)),
        };
        match found {
            Ok(found) => {
                let all: Vec<String> = found.urls.iter().map(plain).collect();
                let text = format!("{} ({})", all.join(", "), found.source);
                report.ok(HopName::Discovery, Some(began.elapsed()), text);
                self.urls = found.urls.clone();
                self.found = Some(found);
                true
            }
            Err(error) => {
                let hop = match &error {
                    DiscoverError::Proxy(error) => hop_of(error.kind()),
                    _ => HopName::Discovery,
                };
                report.fail(hop, error.reason().row(), error.to_string());
                if let Some(kind) = error.kind() {
                    advice::after_failure(report, self.walk, kind.into());
                }
                if !matches!(error, DiscoverError::Proxy(_)) {
                    advice::after_failure(report, self.walk, error.reason());
                }
                false
            }
        }
    }

    /// The network, the proxy, TLS. A proxy that refuses one address may allow another (D-06).
    async fn connect(&mut self, report: &mut Report, ways: &Ways, url: &Url) -> Reached {
        let connector = ways.to(url);
        let routes = match connector.routes(url) {
            Ok(routes) => routes,
            Err(error) => {
                report.fail(HopName::Config, "E-18", error.to_string());
                return Reached::No;
            }
        };
        let words = self.words(&routes);
        if self.told_way.as_ref() != Some(&words) {
            // NO_PROXY tells the web server's host from the manager's.
            report.ok(
                HopName::Way,
                None,
                format!("to {}: {words}", authority(url)),
            );
        }
        let connected = within(connector.connect(url)).await;
        match connected.unwrap_or_else(|| Err(ConnectError::out_of_time(authority(url)))) {
            Ok(connection) => {
                tell_connection(report, url, &connection);
                self.logins(report, ways, url);
                Reached::Yes
            }
            Err(error) => {
                let reason = FaultReason::from(error.kind());
                report.fail(hop_of(error.kind()), reason.row(), error.to_string());
                advice::after_failure(report, self.walk, reason);
                self.elsewhere(report, &connector, url, &error).await;
                Reached::No
            }
        }
    }

    /// The proxy refuses the configured address: which of those that the domain names would it allow?
    async fn elsewhere(
        &self,
        report: &mut Report,
        connector: &Connector,
        refused: &Url,
        error: &ConnectError,
    ) {
        let Walk { config, domain, .. } = self.walk;
        let asked = self.found.is_none() && config.discovery.host_meta;
        if error.kind() != FailureKind::ProxyRefused || !asked {
            return;
        }
        let discovery = Discovery::with_port(false, self.walk.web_port);
        let now = crate::driver::clock::now();
        let found = within(discovery.find(connector, domain, now)).await;
        let urls = found.and_then(Result::ok).map(|found| found.urls);
        for url in urls.iter().flatten().filter(|url| *url != refused) {
            if let Some(Ok(_)) = within(connector.connect(url)).await {
                let text = format!("the proxy allows {}", authority(url));
                report.note(HopName::Proxy, text);
                report.advice.clear();
                report.advise(advice::url_line(domain, url.as_str()));
                return;
            }
        }
    }

    /// A session with the manager, up to its features, and its end.
    async fn session(&mut self, report: &mut Report, ways: &Ways, url: &Url) -> Reached {
        let settings = self.walk.config.domain(&self.walk.domain);
        let mut probe = session::Probe::new(self.walk, &settings, ways, url.clone());
        match probe.open(report).await {
            Reached::No => return Reached::No,
            Reached::Session => {
                probe.leave().await;
                return Reached::Session;
            }
            Reached::Yes => {}
        }
        if self.walk.long {
            probe.long_poll(report).await;
        }
        probe.end(report).await;
        self.logins(report, ways, url);
        if self.walk.long {
            probe.large_body(report).await;
        }
        // A found address that is configured would be trusted more than one of the DNS.
        let by_itself = |found: &Found| found.source != Source::Dns;
        if self.found.as_ref().is_some_and(by_itself) {
            report.advise(format!(
                "nothing has to be set; to do without asking the web server each time:\n{}",
                advice::url_line(&self.walk.domain, url.as_str())
            ));
        }
        Reached::Session
    }

    /// The way out in words; no credentials.
    fn words(&self, routes: &[Route]) -> String {
        let source = match &self.walk.config.domain(&self.walk.domain).proxy.source {
            ProxySource::Env(_) => routes.iter().find_map(|route| match route {
                Route::Via(upstream) => Some(upstream.set_by.url()),
                Route::Direct => None,
            }),
            ProxySource::None | ProxySource::Url(_) | ProxySource::List(_) => Some("proxy.url"),
        };
        let source = source.unwrap_or("from the environment");
        let words: Vec<String> = routes.iter().map(in_detail).collect();
        format!("{} ({source})", words.join("; else "))
    }
}

/// What there is to say of a connection.
fn tell_connection(report: &mut Report, url: &Url, connection: &Connection) {
    let took = &connection.took;
    if let Route::Via(upstream) = &connection.way {
        let proxy = upstream.authority();
        let text = match took.proxy {
            Some(_) => format!("{proxy} is reached and connects to {}", authority(url)),
            None => format!("{proxy} is reached"),
        };
        let took = took.dial + took.proxy.unwrap_or_default();
        report.ok(HopName::Proxy, Some(took), text);
    } else {
        let text = format!("{} is reached", authority(url));
        report.ok(HopName::Network, Some(took.dial), text);
    }
    let Some((took, version)) = took.tls else {
        return;
    };
    let about = connection
        .certificate
        .as_deref()
        .and_then(certificate::About::read);
    let version = certificate::version(version);
    let text = match &about {
        Some(about) => format!("{version}, {about}"),
        None => version.to_owned(),
    };
    report.ok(HopName::Tls, Some(took), text);
    let (Some(about), Some(certificate)) = (&about, &connection.certificate) else {
        return;
    };
    let reads = "it can read what you send, your password too unless the login is SCRAM";
    if let Some(product) = about.inspector() {
        let text =
            format!("this certificate looks like one of an inspecting proxy ({product}): {reads}");
        report.note(HopName::Tls, text);
    } else if !connect::is_public(certificate, &connection.intermediates, UnixTime::now()) {
        let issuer = about.issuer();
        let text = format!(
            "{issuer} is no public authority that xbosh knows, but this machine or tls.ca_file trusts it: as it should be if it is the server's own; if it is that of your network, a proxy there inspects TLS, and {reads}"
        );
        report.note(HopName::Tls, text);
    }
}

fn authority(url: &Url) -> String {
    crate::http::Target::new(url.clone()).authority()
}

/// Which line of the report a failure belongs to.
fn hop_of(kind: FailureKind) -> HopName {
    match kind {
        FailureKind::ProxyUnreachable
        | FailureKind::ProxyAuth
        | FailureKind::ProxyRefused
        | FailureKind::ProxyUpstream
        | FailureKind::ProxyProtocol => HopName::Proxy,
        FailureKind::TlsCertificate | FailureKind::TlsCertificateChanged | FailureKind::Tls => {
            HopName::Tls
        }
        FailureKind::CmUnreachable => HopName::Network,
        FailureKind::NoReply | FailureKind::ReplyTooLarge => HopName::Session,
        FailureKind::Internal => HopName::Config,
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(HOP_LIMIT, work).await.ok()
}
