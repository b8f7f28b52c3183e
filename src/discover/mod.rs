//! From an XMPP domain to the addresses of its connection manager (XEP-0156).
//!
//! `host_meta` reads the documents, `freshness` how long they hold; neither does I/O. `fetch` asks the domain's
//! web server, through the same way out as everything else; `dns` the DNS, if it may. [`Discovery`] remembers the answers.

#[cfg(feature = "dns")]
mod dns;
mod fetch;
mod freshness;
mod host_meta;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

pub use fetch::{Answer, DiscoverError, Source};
pub use host_meta::{Link, Transport, Unreadable, in_order, read_jrd, read_xrd};

use crate::config::DiscoverySettings;
use crate::connect::Connector;

/// Domains remembered at once.
const MAX_DOMAINS: usize = 256;
/// How long a domain without address is not asked again.
const NOTHING_FOR: Duration = Duration::from_secs(30);

/// The addresses of one domain's manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where BOSH is spoken, the best first; at least one.
    pub urls: Vec<Url>,
    /// Where that was written.
    pub source: Source,
}

/// What is remembered of one domain.
#[derive(Debug)]
enum Entry {
    Found(Found, Instant),
    Nothing(String, Instant),
}

impl Entry {
    fn until(&self) -> Instant {
        match self {
            Self::Found(_, until) | Self::Nothing(_, until) => *until,
        }
    }
}

/// One at a time asks for a domain; the others wait for its answer.
type Slot = Arc<tokio::sync::Mutex<Option<Entry>>>;

/// Finds addresses, and remembers them as long as they may be (D-15).
pub struct Discovery {
    slots: Mutex<HashMap<String, Slot>>,
    port: u16,
    cache: bool,
    host_meta: bool,
    #[cfg(feature = "dns")]
    dns: Option<dns::Dns>,
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "Discovery({} domains)", known.len())
    }
}

impl Discovery {
    /// Knows nothing yet; without `cache` it never will.
    #[must_use]
    pub fn new(cache: bool) -> Self {
        Self::with_port(cache, 443)
    }

    /// As [`Self::new`], for web servers on another port: for tests.
    #[must_use]
    pub fn with_port(cache: bool, port: u16) -> Self {
        Self {
            slots: Mutex::default(),
            port,
            cache,
            host_meta: true,
            #[cfg(feature = "dns")]
            dns: None,
        }
    }

    /// Asks those that the settings allow; what they say of remembering does not count here.
    #[must_use]
    pub fn asking(mut self, settings: DiscoverySettings) -> Self {
        self.host_meta = settings.host_meta;
        #[cfg(feature = "dns")]
        {
            self.dns = settings.dns_txt.then(dns::Dns::default);
        }
        self
    }

    /// The addresses of a domain (a lower-case A-label name, D-16): remembered ones, or what its host-meta says
    /// now. A passing failure is tried once more (E-20).
    ///
    /// # Errors
    /// [`DiscoverError`].
    pub async fn find(
        &self,
        connector: &Connector,
        domain: &str,
        now: Instant,
    ) -> Result<Found, DiscoverError> {
        if domain.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return Err(DiscoverError::NoAddress {
                domain: domain.to_owned(),
                said: "an address has no host-meta".into(),
            });
        }
        let slot = self.slot(domain, now);
        let mut slot = slot.lock().await;
        match slot.as_ref().filter(|entry| entry.until() > now) {
            Some(Entry::Found(found, _)) => return Ok(found.clone()),
            Some(Entry::Nothing(said, _)) => {
                return Err(DiscoverError::NoAddress {
                    domain: domain.to_owned(),
                    said: said.clone(),
                });
            }
            None => {}
        }
        *slot = None;
        match self.look_up(connector, domain).await {
            Ok(Answer {
                links,
                source,
                fresh,
            }) => {
                let urls = in_order(&links, domain);
                let found = Found { urls, source };
                if self.cache {
                    *slot = Some(Entry::Found(found.clone(), now + fresh));
                }
                Ok(found)
            }
            Err(error) => {
                if let DiscoverError::NoAddress { said, .. } = &error
                    && self.cache
                {
                    *slot = Some(Entry::Nothing(said.clone(), now + NOTHING_FOR));
                }
                Err(error)
            }
        }
    }

    /// host-meta, then the DNS if it may be asked (D-01, D-10). A passing failure is tried once more.
    async fn look_up(&self, connector: &Connector, domain: &str) -> Result<Answer, DiscoverError> {
        let mut answer = match self.host_meta {
            true => fetch::host_meta(connector, domain, self.port).await,
            false => Err(DiscoverError::NoAddress {
                domain: domain.to_owned(),
                said: "discovery.host_meta is off".into(),
            }),
        };
        if answer.as_ref().is_err_and(DiscoverError::is_passing) {
            answer = fetch::host_meta(connector, domain, self.port).await;
        }
        #[cfg(feature = "dns")]
        if let (Some(dns), Err(error)) = (&self.dns, &mut answer)
            && !matches!(error, DiscoverError::Proxy(_))
        {
            let said = match goes_by_proxy(connector, domain) {
                // P-17: names are the proxy's to resolve, and it does not look up such records.
                true => Err("behind a proxy there is no DNS for discovery.dns_txt".to_owned()),
                false => dns.ask(domain).await,
            };
            match said {
                Ok(found) => return Ok(found),
                Err(said) => error.and(said),
            }
        }
        answer
    }

    /// Everything that a domain says now, whatever is remembered.
    ///
    /// # Errors
    /// [`DiscoverError`].
    pub async fn ask(&self, connector: &Connector, domain: &str) -> Result<Answer, DiscoverError> {
        self.look_up(connector, domain).await
    }

    /// What is remembered of a domain turned out to be wrong (D-15).
    pub fn forget(&self, domain: &str) {
        self.lock().remove(domain);
    }

    /// Forgets everything: the network is another one.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, domain: &str, now: Instant) -> Slot {
        let mut slots = self.lock();
        if slots.len() >= MAX_DOMAINS && !slots.contains_key(domain) {
            // One that nobody is asking for: stale ones first, then any.
            let idle = |slot: &Slot, stale: bool| {
                slot.try_lock().is_ok_and(|entry| {
                    !stale || entry.as_ref().is_none_or(|entry| entry.until() <= now)
                })
            };
            let victim = [true, false].into_iter().find_map(|stale| {
                let found = slots.iter().find(|(_, slot)| idle(slot, stale));
                found.map(|(name, _)| name.clone())
            });
            if let Some(victim) = victim {
                slots.remove(&victim);
            }
        }
        Arc::clone(slots.entry(domain.to_owned()).or_default())
    }
}

#[cfg(feature = "dns")]
fn goes_by_proxy(connector: &Connector, domain: &str) -> bool {
    use crate::connect::Route;
    let url = Url::parse(&format!("https://{domain}/"));
    let routes = url.ok().and_then(|url| connector.routes(&url).ok());
    let first = routes.as_ref().and_then(|routes| routes.first());
    !matches!(first, Some(Route::Direct))
}
