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

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::sync::Semaphore;

pub use authority::Description;
pub use error::LocalTlsError;

use self::authority::Authority;
use self::folder::{Folder, Stamp};
use crate::config::{Config, LocalTlsMode};
use crate::stream::header::normalise_domain;

/// Domains whose settings are kept ready.
const MAX_READY: usize = 64;
/// Authorities beyond which none is made because a client names a domain: a program that asks for one name after the
/// other must not fill the disk. Domains of the configuration, and those that the user asks for, have room always.
const MAX_AUTHORITIES: usize = 256;
/// So many are made for names that only clients know within [`NEW_WITHIN`]: they cost time.
const MAX_NEW: usize = 10;
const NEW_WITHIN: Duration = Duration::from_secs(60);

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
    /// When authorities were made for names that only clients know; the last few.
    made: VecDeque<SystemTime>,
}

/// What outlives a change of the configuration.
struct Kept {
    state: Mutex<State>,
    /// Held while files are read and written: never together with `state` for long.
    making: Mutex<()>,
    /// One thread at a time does so for clients.
    turn: Arc<Semaphore>,
}

/// Serves TLS to clients on this machine.
pub struct LocalTls {
    mode: LocalTlsMode,
    default_domain: Option<String>,
    allowed: Option<Vec<String>>,
    /// The one domain that the configuration knows, if it is one.
    only: Option<String>,
    /// Domains that the configuration names.
    known: HashSet<String>,
    folder: Folder,
    kept: Arc<Kept>,
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
            known: config
                .domains
                .keys()
                .chain(&config.default_domain)
                .chain(allowed.iter().flatten())
                .cloned()
                .collect(),
            allowed,
            folder: Folder::new(folder),
            kept: Arc::new(Kept {
                state: Mutex::default(),
                making: Mutex::default(),
                turn: Arc::new(Semaphore::new(1)),
            }),
        }
    }

    /// The same with what another one of the same folder has in memory: which domain was used last, and the TLS sessions
    /// that clients may resume.
    #[must_use]
    pub fn knowing(mut self, other: &Self) -> Self {
        if self.folder.path() == other.folder.path() {
            self.kept = Arc::clone(&other.kept);
        }
        self
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
    /// domain, the only configured one, the one last used, the only one with an authority.
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
            .or_else(|| self.folder.sole())
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

    /// What handshakes for this domain are served with, if that is at hand; [`Self::prepare`] otherwise. Sessions are
    /// resumed within a domain only, since each has its own memory of them.
    ///
    /// # Errors
    /// [`LocalTlsError::NotAllowed`].
    pub fn ready(&self, domain: &str) -> Result<Option<Arc<ServerConfig>>, LocalTlsError> {
        self.check_allowed(domain)?;
        Ok(self.ready_at(domain, SystemTime::now()))
    }

    fn ready_at(&self, domain: &str, now: SystemTime) -> Option<Arc<ServerConfig>> {
        let stamp = self.folder.stamp(domain)?;
        let mut state = self.lock();
        state.uses += 1;
        let uses = state.uses;
        let ready = state.ready.get_mut(domain)?;
        if now >= ready.renew_at || ready.stamp != Some(stamp) {
            return None;
        }
        ready.used = uses;
        Some(Arc::clone(&ready.settings))
    }

    /// [`Self::server_config`] on a thread where that may take its time.
    ///
    /// # Errors
    /// As there.
    pub async fn prepare(
        self: Arc<Self>,
        domain: &str,
    ) -> Result<Arc<ServerConfig>, LocalTlsError> {
        let turn = Arc::clone(&self.kept.turn).acquire_owned().await;
        let name = domain.to_owned();
        let work = tokio::task::spawn_blocking(move || {
            // Until the work is done, whoever waits for it; the semaphore is never closed.
            let _turn = turn;
            self.server_config(&name)
        });
        work.await.unwrap_or_else(|error| {
            Err(LocalTlsError::Make {
                domain: domain.to_owned(),
                said: error.to_string(),
            })
        })
    }

    /// What handshakes for this domain are served with; authority and leaf are made at first use, which takes time.
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
        if let Some(ready) = self.ready_at(domain, now) {
            return Ok(ready);
        }
        let making = self.kept.making.lock();
        let _alone = making.unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been at it.
        if let Some(ready) = self.ready_at(domain, now) {
            return Ok(ready);
        }
        let authority = match self.folder.load(domain, now)? {
            Some(authority) => authority,
            None => {
                self.check_room(domain, now)?;
                self.folder.make(domain, now)?
            }
        };
        let leaf = self.folder.leaf(domain, &authority, now)?;
        let settings = leaf.serve()?;
        let stamp = self.folder.stamp(domain);
        let mut state = self.lock();
        if state.ready.len() >= MAX_READY && !state.ready.contains_key(domain) {
            let oldest = state.ready.iter().min_by_key(|(_, ready)| ready.used);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                state.ready.remove(&oldest);
            }
        }
        let ready = Ready {
            settings: Arc::clone(&settings),
            renew_at: authority.renew_at(&leaf),
            stamp,
            used: state.uses,
        };
        state.ready.insert(domain.to_owned(), ready);
        Ok(settings)
    }

    /// Whether an authority may be made because a client names this domain.
    fn check_room(&self, domain: &str, now: SystemTime) -> Result<(), LocalTlsError> {
        if self.known.contains(domain) {
            return Ok(());
        }
        let domain = domain.to_owned();
        if self.folder.count() >= MAX_AUTHORITIES {
            let folder = self.folder.path().to_owned();
            return Err(LocalTlsError::TooMany { folder, domain });
        }
        let mut state = self.lock();
        // A clock that was put back is no reason to wait.
        let recent = |at: &SystemTime| now.duration_since(*at).is_ok_and(|age| age < NEW_WITHIN);
        state.made.retain(recent);
        if state.made.len() >= MAX_NEW {
            return Err(LocalTlsError::TooFast { domain });
        }
        state.made.push_back(now);
        Ok(())
    }

    /// As the user asks for it.
    fn authority(&self, domain: &str, now: SystemTime) -> Result<Authority, LocalTlsError> {
        match self.folder.load(domain, now)? {
            Some(authority) => Ok(authority),
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
        let state = self.kept.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_address(name: &str) -> bool {
    name.trim_matches(['[', ']'])
        .parse::<std::net::IpAddr>()
        .is_ok()
}
