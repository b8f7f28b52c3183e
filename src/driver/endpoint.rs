//! From a domain to its connection manager: URL, way out, and where a redirect may lead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use url::Url;

use super::habits::Habits;
use crate::bridge;
use crate::config::{Config, Domain};
use crate::connect::{ConnectError, Connector};
use crate::http::{ClientOptions, SessionClient, Target};
use crate::stream::error::FaultReason;

/// Everything known about the managers of all configured domains.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    domains: Arc<HashMap<String, Known>>,
    client: ClientOptions,
    habits: Arc<Habits>,
    /// Where managers said they are now.
    moved: Arc<Mutex<HashMap<String, Url>>>,
}

#[derive(Clone, Debug)]
struct Known {
    url: Url,
    settings: Domain,
    connector: Connector,
}

/// One domain's manager: what the bridge must know, and the client that reaches it.
pub(super) struct Resolved {
    pub(super) endpoint: bridge::Endpoint,
    pub(super) url: Url,
    pub(super) connector: Connector,
}

impl Endpoints {
    /// Loads certificates and keys of every configured domain once, so that a bad file shows at start.
    pub(super) fn new(config: &Config) -> Result<Self, ConnectError> {
        let mut domains = HashMap::new();
        for (name, settings) in &config.domains {
            if let Some(url) = &settings.url {
                let connector = Connector::new(&settings.proxy, &settings.tls)?;
                let known = Known {
                    url: url.clone(),
                    settings: settings.clone(),
                    connector,
                };
                domains.insert(name.clone(), known);
            }
        }
        let client = ClientOptions {
            max_response_bytes: config.limits.max_response_bytes,
        };
        Ok(Self {
            domains: Arc::new(domains),
            client,
            habits: Arc::default(),
            moved: Arc::default(),
        })
    }

    /// The manager of a domain, or the row and sentence that say why there is none.
    pub(super) fn resolve(&self, domain: &str) -> Result<Resolved, (FaultReason, String)> {
        let Some(known) = self.domains.get(domain) else {
            return Err((
                FaultReason::NoBoshEndpoint,
                format!(
                    "no BOSH address is known for {domain}: set url under [domains.\"{domain}\"] in xbosh's config.toml"
                ),
            ));
        };
        let url = self.address(domain).unwrap_or_else(|| known.url.clone());
        Ok(Resolved {
            endpoint: bridge::Endpoint {
                https: url.scheme() == "https",
                bosh: known.settings.bosh.clone(),
                route: known.settings.route.clone(),
                key_sequence: known.settings.bosh.key_sequence,
            },
            url,
            connector: known.connector.clone(),
        })
    }

    /// The manager of this domain says that it is there now (C-11).
    pub(super) fn moved(&self, domain: &str, url: Url) {
        if self.domains.contains_key(domain) {
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn client(&self, url: &Url, connector: &Connector) -> SessionClient {
        SessionClient::new(Target::new(url.clone()), connector.clone(), self.client)
    }
}

/// Where a redirect leads, if it may be followed (B-59, D-13, E-53): never from https to http, never with
/// user names inside; 301 and 302 only where they add a slash on the same origin, since others turn POST
/// into GET.
pub(super) fn redirect_target(from: &Url, status: Option<u16>, location: &str) -> Option<Url> {
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
}
