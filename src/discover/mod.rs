//! From an XMPP domain to the addresses of its connection manager (XEP-0156).
//!
//! `host_meta` reads the documents, `freshness` how long they hold; neither does I/O. `fetch` asks the domain's
//! web server, through the same way out as everything else. [`Discovery`] remembers the answers.

mod fetch;
mod freshness;
mod host_meta;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

pub use fetch::{Answer, DiscoverError, Source};
pub use host_meta::{Link, Transport, Unreadable, in_order, read_jrd, read_xrd};

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
        }
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
        let mut answer = fetch::host_meta(connector, domain, self.port).await;
        if answer.as_ref().is_err_and(DiscoverError::is_passing) {
            answer = fetch::host_meta(connector, domain, self.port).await;
        }
        match answer {
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

    /// Everything that a domain's host-meta says now, whatever is remembered.
    ///
    /// # Errors
    /// [`DiscoverError`].
    pub async fn ask(&self, connector: &Connector, domain: &str) -> Result<Answer, DiscoverError> {
        fetch::host_meta(connector, domain, self.port).await
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
