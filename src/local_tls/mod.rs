//! TLS towards clients: one certificate authority for each XMPP domain, made on this machine, good for nothing else.
//!
//! [`LocalTls`] answers which domain a handshake is about and with what it is served. `folder` keeps what is on disk,
//! `authority` makes and checks certificates, `limits` says for what they are good, [`system`] is the system's
//! certificate store, [`trust`] tells a person what to do with clients.

mod authority;
mod error;
mod folder;
mod limits;
pub mod system;
#[cfg(test)]
mod tests;
pub mod trust;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;

pub use authority::Description;
pub use error::LocalTlsError;

use self::authority::Authority;
use self::folder::{Folder, Stamp};
use crate::config::{Config, LocalTlsMode};
use crate::stream::header::normalise_domain;

/// Domains whose settings are kept ready.
const MAX_READY: usize = 64;
/// Domains that may have an authority: a program that asks for one name after the other must not fill the disk.
const MAX_AUTHORITIES: usize = 256;

/// What a ready domain is served with.
struct Ready {
    settings: Arc<ServerConfig>,
    renew_at: SystemTime,
    /// Of the authority's file: another one may have been made, or put there, since.
    stamp: Option<Stamp>,
    used: u64,
}

#[derive(Default)]
struct State {
    ready: HashMap<String, Ready>,
    /// Counts uses; the smallest is the longest ago.
    uses: u64,
    last: Option<String>,
}

/// Serves TLS to clients on this machine.
pub struct LocalTls {
    mode: LocalTlsMode,
    default_domain: Option<String>,
    allowed: Option<Vec<String>>,
    /// The one domain that the configuration knows, if it is one.
    only: Option<String>,
    folder: Folder,
    state: Mutex<State>,
}

impl fmt::Debug for LocalTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalTls")
            .field("mode", &self.mode)
            .field("folder", &self.folder.path())
            .finish_non_exhaustive()
    }
}

impl LocalTls {
    /// Makes nothing yet. The authorities are, or will be, in `folder`.
    #[must_use]
    pub fn new(config: &Config, folder: PathBuf) -> Self {
        let mut domains = config.domains.keys();
        let only = domains.next().filter(|_| domains.next().is_none());
        let allowed = config.allowed_domains.clone();
        let single = allowed.as_deref().and_then(|allowed| match allowed {
            [one] => Some(one.clone()),
            _ => None,
        });
        Self {
            mode: config.local_tls,
            default_domain: config.default_domain.clone(),
            only: single.or_else(|| only.cloned()),
            allowed,
            folder: Folder::new(folder),
            state: Mutex::default(),
        }
    }

    /// Where authorities are kept on this machine: below systemd's state directory, else `$XDG_STATE_HOME`, else the
    /// home. `None` without any of them.
    #[must_use]
    pub fn usual_folder(environment: &[(String, String)]) -> Option<PathBuf> {
        let variable = |wanted: &str| {
            let mut all = environment.iter();
            let found = all.find(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        // systemd joins several by colons.
        let systemd = variable("STATE_DIRECTORY").and_then(|all| all.split(':').next());
        let state = variable("XDG_STATE_HOME").filter(|path| Path::new(path).is_absolute());
        let home = variable("HOME").map(|home| Path::new(home).join(".local/state"));
        systemd
            .map(|path| Path::new(path).join("ca"))
            .or_else(|| state.map(|path| Path::new(path).join("xbosh/ca")))
            .or_else(|| home.map(|path| path.join("xbosh/ca")))
    }

    /// How TLS is offered.
    #[must_use]
    pub fn mode(&self) -> LocalTlsMode {
        self.mode
    }

    /// Whether stream features for this domain offer STARTTLS.
    #[must_use]
    pub fn is_advertised(&self, domain: &str) -> bool {
        match self.mode {
            LocalTlsMode::Off => false,
            LocalTlsMode::Optional | LocalTlsMode::Required => true,
            LocalTlsMode::Auto => self.folder.is_trusted(domain),
        }
    }

    /// The domain that a handshake is about: what the client names, unless that is this machine; else the default
    /// domain, the only configured one, the one last used.
    ///
    /// # Errors
    /// [`LocalTlsError::NotAllowed`], [`LocalTlsError::NoName`].
    pub fn domain_for(&self, name: Option<&str>) -> Result<String, LocalTlsError> {
        let named = name
            .and_then(normalise_domain)
            .filter(|name| name != "localhost" && !is_address(name));
        let domain = named
            .or_else(|| self.default_domain.clone())
            .or_else(|| self.only.clone())
            .or_else(|| self.lock().last.clone())
            .ok_or(LocalTlsError::NoName)?;
        self.check_allowed(&domain)?;
        Ok(domain)
    }

    fn check_allowed(&self, domain: &str) -> Result<(), LocalTlsError> {
        let allowed = self.allowed.as_deref();
        if allowed.is_some_and(|allowed| !allowed.iter().any(|one| one == domain)) {
            return Err(LocalTlsError::NotAllowed {
                domain: domain.to_owned(),
            });
        }
        Ok(())
    }

    /// A client of this domain is online.
    pub fn used(&self, domain: &str) {
        self.lock().last = Some(domain.to_owned());
    }

    /// What handshakes for this domain are served with; authority and leaf are made at first use. Sessions are resumed
    /// within a domain only, since each has its own memory of them.
    ///
    /// # Errors
    /// [`LocalTlsError`]; a damaged authority is never replaced silently.
    pub fn server_config(&self, domain: &str) -> Result<Arc<ServerConfig>, LocalTlsError> {
        self.server_config_at(domain, SystemTime::now())
    }

    /// As [`Self::server_config`], at another time: for tests.
    ///
    /// # Errors
    /// As there.
    pub fn server_config_at(
        &self,
        domain: &str,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, LocalTlsError> {
        self.check_allowed(domain)?;
        let stamp = self.folder.stamp(domain);
        let mut state = self.lock();
        state.uses += 1;
        let uses = state.uses;
        if let Some(ready) = state.ready.get_mut(domain)
            && now < ready.renew_at
            && stamp.is_some()
            && stamp == ready.stamp
        {
            ready.used = uses;
            return Ok(Arc::clone(&ready.settings));
        }
        let authority = self.authority(domain, now)?;
        let leaf = self.folder.leaf(domain, &authority, now)?;
        let settings = leaf.serve()?;
        if state.ready.len() >= MAX_READY && !state.ready.contains_key(domain) {
            let oldest = state.ready.iter().min_by_key(|(_, ready)| ready.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                state.ready.remove(&oldest);
            }
        }
        let ready = Ready {
            settings: Arc::clone(&settings),
            renew_at: authority.renew_at(&leaf),
            stamp: self.folder.stamp(domain),
            used: uses,
        };
        state.ready.insert(domain.to_owned(), ready);
        Ok(settings)
    }

    fn authority(&self, domain: &str, now: SystemTime) -> Result<Authority, LocalTlsError> {
        match self.folder.load(domain, now)? {
            Some(authority) => Ok(authority),
            None if self.folder.count() >= MAX_AUTHORITIES => Err(LocalTlsError::TooMany {
                folder: self.folder.path().to_owned(),
            }),
            None => self.folder.make(domain, now),
        }
    }

    /// The file with a domain's authority, which is made if there is none yet.
    ///
    /// # Errors
    /// [`LocalTlsError`].
    pub fn certificate_file(&self, domain: &str) -> Result<PathBuf, LocalTlsError> {
        self.check_allowed(domain)?;
        self.authority(domain, SystemTime::now())?;
        Ok(self.folder.certificate_file(domain))
    }

    /// Where a domain's authority is, or would be.
    #[must_use]
    pub fn expected_file(&self, domain: &str) -> PathBuf {
        self.folder.certificate_file(domain)
    }

    /// Whether a domain has an authority, good or bad.
    #[must_use]
    pub fn has_authority(&self, domain: &str) -> bool {
        self.folder.has(domain)
    }

    /// What there is to say about a domain's authority, which is made if there is none yet.
    ///
    /// # Errors
    /// [`LocalTlsError`].
    pub fn describe(&self, domain: &str) -> Result<Description, LocalTlsError> {
        self.check_allowed(domain)?;
        let authority = self.authority(domain, SystemTime::now())?;
        authority.describe(self.folder.is_trusted(domain))
    }

    /// Remembers whether the user has told clients to trust a domain's authority. Without one there is nothing to
    /// trust: make it first, by [`Self::certificate_file`].
    ///
    /// # Errors
    /// [`LocalTlsError`].
    pub fn set_trusted(&self, domain: &str, trusted: bool) -> Result<(), LocalTlsError> {
        self.folder.set_trusted(domain, trusted)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_address(name: &str) -> bool {
    name.trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_ok()
}
