//! Fake upstream proxies: HTTP with Basic or Digest authentication, HTTP that hits requests by chance, SOCKS5, and a blackhole.
//! Names are looked up in a map of their own, so that a test can prove that nobody else resolved them.

mod blackhole;
mod digest;
mod faulty;
mod http_proxy;
mod origin;
mod socks5;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use blackhole::Blackhole;
pub use digest::DigestRules;
pub use faulty::{Counts, FaultKind, FaultPlan, FaultyProxy};
pub use http_proxy::{HttpProxy, HttpTrick};
pub use socks5::{Socks5Proxy, SocksStage, SocksTrick};

/// What a proxy lets in and where names lead.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// User and password it demands.
    pub credentials: Option<(String, String)>,
    /// Host names and the addresses they stand for; the port asked for is kept.
    pub names: HashMap<String, std::net::IpAddr>,
    /// Where `host:port` as asked for is in truth; beats [`Self::names`].
    pub places: HashMap<String, SocketAddr>,
}

impl ProxyOptions {
    /// Demands these.
    #[must_use]
    pub fn with_credentials(user: &str, password: &str) -> Self {
        Self {
            credentials: Some((user.to_owned(), password.to_owned())),
            ..Self::default()
        }
    }

    /// Where `host:port` is.
    fn address(&self, host: &str, port: u16) -> Option<SocketAddr> {
        let host = host.trim_matches(['[', ']']);
        if let Some(place) = self.places.get(&format!("{host}:{port}")) {
            return Some(*place);
        }
        let ip = host
            .parse()
            .ok()
            .or_else(|| self.names.get(host).copied())?;
        Some(SocketAddr::new(ip, port))
    }
}

/// What a proxy has seen.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: impl Into<String>) {
        self.lines().push(line.into());
    }
}
