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

use tokio::time::Instant;
use url::Url;

pub use report::{Hop, HopName, Outcome, Report};

use crate::bosh::FailureKind;
use crate::config::{Config, ProxySource};
use crate::connect::{CertificateName, ConnectError, Connector, Route};
use crate::discover::{Discovery, Found};
use crate::driver::plain;

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
}

/// Walks to the server of a domain. Ends the session that it opens. Nothing is logged; each hop is given to `tell`
/// as soon as it is known.
pub async fn check(walk: Walk, mut tell: impl FnMut(&Hop)) -> Report {
    let mut report = Report::new(&walk.domain);
    let mut said = 0;
    // Each step adds hops, and says whether the next one makes sense.
    let mut steps = Steps {
        walk: &walk,
        connector: None,
        found: None,
        url: None,
        told_way: None,
    };
    for step in [Step::Config, Step::Address, Step::Connect, Step::Session] {
        let goes_on = match step {
            Step::Config => steps.config(&mut report),
            Step::Address => steps.address(&mut report).await,
            Step::Connect => steps.connect(&mut report).await,
            Step::Session => steps.session(&mut report).await,
        };
        for hop in &report.hops[said..] {
            tell(hop);
        }
        said = report.hops.len();
        if !goes_on {
            break;
        }
    }
    report
}

#[derive(Clone, Copy)]
enum Step {
    Config,
    Address,
    Connect,
    Session,
}

struct Steps<'a> {
    walk: &'a Walk,
    connector: Option<Connector>,
    /// What host-meta named.
    found: Option<Found>,
    url: Option<Url>,
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
            report.fail(
                HopName::Config,
                "E-05",
                format!("{from}: {domain} is not among allowed_domains"),
            );
            report.advise(format!("add \"{domain}\" to allowed_domains"));
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
                self.told_way = Some(words);
                true
            }
            Err(error) => {
                report.fail(HopName::Config, "E-18", error.to_string());
                false
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
            self.url = Some(url);
            return true;
        }
        if !config.discovery.host_meta {
            let text =
                format!("no BOSH address is known for {domain}, and discovery.host_meta is off");
            report.fail(HopName::Discovery, "E-21", text);
            report.advise(advice::url_line(domain, "https://…"));
            return false;
        }
        let began = Instant::now();
        let discovery = Discovery::with_port(false, self.walk.web_port);
        let now = crate::driver::clock::now();
        match within(discovery.find(&connector, domain, now)).await {
            Some(Ok(found)) => {
                let all: Vec<String> = found.urls.iter().map(plain).collect();
                let text = format!("{} ({})", all.join(", "), found.source);
                report.ok(HopName::Discovery, Some(began.elapsed()), text);
                self.url = found.urls.first().cloned();
                self.found = Some(found);
                true
            }
            Some(Err(error)) => {
                let hop = match &error {
                    crate::discover::DiscoverError::Proxy(error) => hop_of(error.kind()),
                    _ => HopName::Discovery,
                };
                report.fail(hop, error.reason().row(), error.to_string());
                advice::after_failure(report, self.walk, None);
                false
            }
            None => {
                let text = format!("the web server of {domain} did not answer in time");
                report.fail(HopName::Discovery, "E-20", text);
                advice::after_failure(report, self.walk, None);
                false
            }
        }
    }

    /// The network, the proxy, TLS. A proxy that refuses one address may allow another (D-06).
    async fn connect(&mut self, report: &mut Report) -> bool {
        let (Some(connector), Some(url)) = (self.connector.clone(), self.url.clone()) else {
            return false;
        };
        let connector = connector.named(CertificateName::HostOrDomain(self.walk.domain.clone()));
        self.connector = Some(connector.clone());
        let routes = match connector.routes(&url) {
            Ok(routes) => routes,
            Err(error) => {
                report.fail(HopName::Config, "E-18", error.to_string());
                return false;
            }
        };
        let words = self.words(&routes);
        if self.told_way.as_ref() != Some(&words) {
            // NO_PROXY tells the web server's host from the manager's.
            report.ok(
                HopName::Way,
                None,
                format!("to {}: {words}", authority(&url)),
            );
        }
        match within(connector.connect(&url)).await {
            Some(Ok(connection)) => {
                if let Route::Via(upstream) = &connection.way {
                    let proxy = upstream.authority();
                    let text = match connection.took.proxy {
                        Some(_) => {
                            format!("{proxy} is reached and connects to {}", authority(&url))
                        }
                        None => format!("{proxy} is reached"),
                    };
                    let took = connection.took.dial + connection.took.proxy.unwrap_or_default();
                    report.ok(HopName::Proxy, Some(took), text);
                } else {
                    let text = format!("{} is reached", authority(&url));
                    report.ok(HopName::Network, Some(connection.took.dial), text);
                }
                if let Some((took, version)) = connection.took.tls {
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
                    if let Some(product) = about.as_ref().and_then(certificate::About::inspector) {
                        let text = format!(
                            "this certificate looks like one of an inspecting proxy ({product}): it can read what you send, your password too unless the login is SCRAM"
                        );
                        report.note(HopName::Tls, text);
                    }
                }
                true
            }
            Some(Err(error)) => {
                let hop = hop_of(error.kind());
                let row = crate::stream::error::FaultReason::from(error.kind()).row();
                report.fail(hop, row, error.to_string());
                self.elsewhere(report, &connector, &url, &error).await;
                advice::after_failure(report, self.walk, Some(error.kind()));
                false
            }
            None => {
                report.fail(
                    HopName::Network,
                    "E-50",
                    format!("{} cannot be reached in time", authority(&url)),
                );
                false
            }
        }
    }

    /// The proxy refuses this port: which of the domain's addresses would it allow?
    async fn elsewhere(
        &self,
        report: &mut Report,
        connector: &Connector,
        refused: &Url,
        error: &ConnectError,
    ) {
        if error.kind() != FailureKind::ProxyRefused {
            return;
        }
        let Walk { config, domain, .. } = self.walk;
        let found = match &self.found {
            Some(found) => Some(found.clone()),
            None if config.discovery.host_meta => {
                let discovery = Discovery::with_port(false, self.walk.web_port);
                let now = crate::driver::clock::now();
                within(discovery.find(connector, domain, now))
                    .await
                    .and_then(Result::ok)
            }
            None => None,
        };
        let urls = found.map(|found| found.urls).unwrap_or_default();
        for url in urls.iter().filter(|url| *url != refused) {
            if let Some(Ok(_)) = within(connector.connect(url)).await {
                report.note(
                    HopName::Proxy,
                    format!("the proxy allows {}", authority(url)),
                );
                report.advise(advice::url_line(domain, url.as_str()));
                return;
            }
        }
    }

    /// A session with the manager, up to its features, and its end.
    async fn session(&mut self, report: &mut Report) -> bool {
        let (Some(connector), Some(url)) = (&self.connector, &self.url) else {
            return false;
        };
        let settings = self.walk.config.domain(&self.walk.domain);
        let mut probe = session::Probe::new(self.walk, &settings, connector, url.clone());
        if !probe.open(report).await {
            return false;
        }
        if self.walk.long {
            probe.long_poll(report).await;
        }
        probe.end(report).await;
        if self.walk.long {
            probe.large_body(report).await;
        }
        if let Some(found) = &self.found
            && let Some(url) = found.urls.first()
        {
            report.advise(format!(
                "nothing has to be set; to do without asking the web server each time:\n{}",
                advice::url_line(&self.walk.domain, url.as_str())
            ));
        }
        true
    }

    /// The way out in words; no credentials.
    fn words(&self, routes: &[Route]) -> String {
        let source = match &self.walk.config.domain(&self.walk.domain).proxy.source {
            ProxySource::Env(_) => "from the environment",
            ProxySource::None | ProxySource::Url(_) | ProxySource::List(_) => "proxy.url",
        };
        let words = routes.iter().map(|route| match route {
            Route::Direct => "direct, no proxy".to_owned(),
            Route::Via(upstream) => {
                let login = match &upstream.credentials {
                    Some(_) if upstream.isolated => "with a login of its own for each client",
                    Some(_) => "with user name and password",
                    None => "without password",
                };
                format!("{} {}, {login}", upstream.kind, upstream.authority())
            }
        });
        let words: Vec<String> = words.collect();
        format!("{} ({source})", words.join("; else "))
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
