//! The sidecar as a whole: start, accept, limit, stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::activation::Activated;
use super::ask::Asked;
use super::client::{Client, Peer};
use super::clock;
use super::connection::{Shared, serve};
use super::endpoint::{Endpoints, way_out};
use super::pace::Pace;
use super::resume::Registry;
use super::sockets::{Listener, listeners};
use super::told::Told;
use super::watch::Watch;
use crate::config::{Config, ListenAddress, LocalTlsMode};
use crate::connect::{self, ConnectError};
use crate::local_tls::{LocalTls, LocalTlsError};
use crate::status::Board;
use crate::stream::STREAM_CLOSE;
use crate::stream::error::{FaultReason, fault};
use crate::stream::header::{ServerHeader, Version};

/// Pause after a failed accept, so that running out of files never spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Everything is gone this long after the first signal (S-47).
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Why the sidecar does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {hint}")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// What to do about it.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `status.metrics` cannot be listened on.
    #[error("cannot listen on status.metrics = {address}: {}", crate::connect::error::plain(.source))]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// systemd passes something that clients cannot come through.
    #[error(
        "systemd passes {what} as file descriptor {descriptor}, through which no client can come; let xbosh.socket hold \
         only ListenStream= lines with an address or a path, and no Accept=yes"
    )]
    Activation {
        /// Its number.
        descriptor: usize,
        /// What it is.
        what: &'static str,
    },
    /// S-01: systemd passes a socket that other machines can reach, and there is no leave for it.
    #[error(
        "systemd passes the socket {address}, which other machines can reach; change ListenStream= in xbosh.socket, \
         or set allow_remote_clients = true if that is what you want: clients there are then served over TLS only"
    )]
    Remote {
        /// The address.
        address: ListenAddress,
    },
    /// TLS is to be served, and there is nowhere to keep what that needs.
    #[error("{0}")]
    NoFolder(#[source] LocalTlsError),
    /// A certificate, key or proxy setting cannot be used.
    #[error("{0}")]
    Setup(#[source] ConnectError),
    /// Signals cannot be received.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
}

impl RunError {
    /// Whether the configuration is to blame: exit code 78 instead of 1.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Setup(_) | Self::Activation { .. } | Self::Remote { .. } | Self::NoFolder(_) => {
                true
            }
            Self::Listen { .. } | Self::Metrics { .. } | Self::Signals(_) => false,
        }
    }
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    addresses: Vec<ListenAddress>,
    stop: watch::Sender<bool>,
    acceptors: JoinSet<()>,
    /// What the next client is served by.
    pub(super) shared: watch::Sender<Arc<Shared>>,
    authorities: Option<PathBuf>,
    /// Answers questions about the state.
    _asked: Asked,
}

impl Sidecar {
    /// Binds every address and starts to accept.
    ///
    /// # Errors
    /// [`RunError::Listen`] for the first address that cannot be bound, [`RunError::Setup`] for files that
    /// cannot be read.
    pub async fn start(config: Config) -> Result<Self, RunError> {
        Self::start_with(config, Activated::default(), None).await
    }

    /// As [`Self::start`]; systemd's sockets, if there are any, replace [`Config::listen`], and `authorities` is the
    /// folder of certificate authorities ([`LocalTls::usual_folder`]), without which clients get no TLS.
    ///
    /// # Errors
    /// As [`Self::start`], and [`RunError::Remote`], [`RunError::NoFolder`].
    pub async fn start_with(
        config: Config,
        activated: Activated,
        authorities: Option<PathBuf>,
    ) -> Result<Self, RunError> {
        let local_tls = local_tls(&config, authorities.clone(), None)?;
        let endpoints = Endpoints::new(&config).map_err(RunError::Setup)?;
        let listeners = listeners(&config, activated).await?;
        let addresses: Vec<_> = listeners.iter().map(|l| l.address.clone()).collect();
        let names = addresses.iter().map(ToString::to_string).collect();
        let board = Arc::new(Board::new(names, clock::now()));
        board.goes(way_out(&config));
        let status = Asked::start(&config, &board).await?;
        let slots = Arc::new(tokio::sync::Semaphore::new(config.limits.max_streams));
        let shared = Arc::new(Shared {
            registry: Arc::new(Registry::new(config.limits.buffer_bytes)),
            watch: Arc::new(Watch::start()),
            told: Told::default(),
            pace: Pace::new(config.limits.session_rate),
            local_tls,
            board,
            config: Arc::new(config),
            endpoints,
        });
        let shared = watch::Sender::new(shared);
        let (stop, stopped) = watch::channel(false);
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            acceptors.spawn(accept(
                listener,
                shared.subscribe(),
                Arc::clone(&slots),
                stopped.clone(),
            ));
        }
        Ok(Self {
            addresses,
            stop,
            acceptors,
            shared,
            authorities,
            _asked: status,
        })
    }

    /// Serves clients that come from now on by another configuration; streams that are open keep theirs. Where it
    /// listens and [`crate::config::Limits::max_streams`] stay as they are: the keys that would change them are returned.
    ///
    /// # Errors
    /// As [`Self::start_with`]; then everything stays as it was.
    pub fn reload(&self, config: Config) -> Result<Vec<&'static str>, RunError> {
        let old = Arc::clone(&self.shared.borrow());
        let local_tls = local_tls(&config, self.authorities.clone(), old.local_tls.as_deref())?;
        let endpoints = Endpoints::new(&config)
            .map_err(RunError::Setup)?
            .knowing(&old.endpoints);
        let mut fixed = Vec::new();
        for (key, same) in [
            ("listen", config.listen == old.config.listen),
            (
                "allow_remote_clients",
                config.allow_remote_clients == old.config.allow_remote_clients,
            ),
            ("status", config.status == old.config.status),
            (
                "limits.max_streams",
                config.limits.max_streams == old.config.limits.max_streams,
            ),
        ] {
            if !same {
                fixed.push(key);
            }
        }
        old.board.goes(way_out(&config));
        self.shared.send_replace(Arc::new(Shared {
            registry: Arc::clone(&old.registry),
            watch: Arc::clone(&old.watch),
            local_tls,
            told: Told::default(),
            pace: old.pace.at(config.limits.session_rate),
            board: Arc::clone(&old.board),
            config: Arc::new(config),
            endpoints,
        }));
        Ok(fixed)
    }

    /// Where it listens, with the ports that the system chose.
    #[must_use]
    pub fn listening(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// TLS towards clients; `None` where there is none.
    #[must_use]
    pub fn local_tls(&self) -> Option<Arc<LocalTls>> {
        self.shared.borrow().local_tls.clone()
    }

    /// The TCP addresses among [`Self::listening`].
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        let tcp = |address: &ListenAddress| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) => None,
        };
        self.addresses.iter().filter_map(tcp).collect()
    }

    /// Stops accepting, ends every stream with `system-shutdown` and every session, within 5 s.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.acceptors.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!("some sessions did not end in time");
        }
        self.shared.borrow().registry.close();
    }
}

/// What serves TLS to clients, if anything does. `old`: what did so until now.
fn local_tls(
    config: &Config,
    authorities: Option<PathBuf>,
    old: Option<&LocalTls>,
) -> Result<Option<Arc<LocalTls>>, RunError> {
    match (config.local_tls, authorities) {
        (LocalTlsMode::Off, _) => Ok(None),
        (_, Some(folder)) => {
            let new = LocalTls::new(config, folder);
            Ok(Some(Arc::new(match old {
                Some(old) => new.knowing(old),
                None => new,
            })))
        }
        // It may never be asked for.
        (LocalTlsMode::Auto, None) => {
            tracing::info!("clients get no TLS: {}", LocalTlsError::NoFolder);
            Ok(None)
        }
        (LocalTlsMode::Optional | LocalTlsMode::Required, None) => {
            Err(RunError::NoFolder(LocalTlsError::NoFolder))
        }
    }
}

/// Accepts until told to stop, then waits for the clients it accepted.
async fn accept(
    listener: Listener,
    shared: watch::Receiver<Arc<Shared>>,
    slots: Arc<tokio::sync::Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(Some((mut client, peer))) => match Arc::clone(&slots).try_acquire_owned() {
                    Ok(slot) => {
                        let shared = Arc::clone(&shared.borrow());
                        let serving = serve(client, peer, shared, stop.clone());
                        clients.spawn(async move {
                            serving.await;
                            drop(slot);
                        });
                    }
                    Err(_) => refuse(&mut client, &peer),
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("cannot accept a client: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = clients.join_next(), if !clients.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    tracing::error!("a client's task failed, which is a bug in xbosh; others go on");
                }
            }
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
}

/// E-14: told at once, with what fits the socket's buffer; a client that does not read gets no memory.
fn refuse(client: &mut Client, peer: &Peer) {
    tracing::warn!(client = %peer, "refused: limits.max_streams is reached");
    // Best effort: the client is told, or it sees the connection closed.
    let _ = client.try_write(&refusal());
}

/// A whole stream that says no (S-12).
fn refusal() -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let id = format!("{:016x}", super::connection::random());
    ServerHeader {
        from: "",
        id: &id,
        to: None,
        lang: "en",
        version: Some(Version::V1_0),
    }
    .write(&mut out);
    fault(FaultReason::TooManyStreams, None).write(&mut out);
    out.extend_from_slice(STREAM_CLOSE);
    out
}

/// Reads the configuration again, as at the start; an error is the sentence that says why it cannot be used.
pub type Reread = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// Runs until SIGTERM or SIGINT, on systemd's sockets if there are any: prints the ready lines, tells systemd, stops in order.
/// SIGHUP has the configuration read again.
///
/// # Errors
/// [`RunError`] if it cannot start.
pub async fn run(
    config: Config,
    activated: Activated,
    authorities: Option<PathBuf>,
    reread: Reread,
) -> Result<(), RunError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    raise_open_files(config.limits.max_streams);
    let sidecar = Sidecar::start_with(config, activated, authorities).await?;
    print_ready(sidecar.listening());
    crate::systemd::ready();
    // Else the first client would wait for it. Where no thread can be had, it does.
    let _ = std::thread::Builder::new()
        .name("prepare".into())
        .spawn(connect::prepare);
    let mut watchdog = crate::systemd::watchdog_interval().map(tokio::time::interval);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(()) = hangup.recv() => reload(&sidecar, &reread).await,
            () = beat(&mut watchdog) => crate::systemd::watchdog(),
        }
    }
    tracing::info!("stopping");
    crate::systemd::stopping();
    tokio::select! {
        () = sidecar.stop() => {}
        // A second signal: at once.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A configuration that cannot be used changes nothing.
async fn reload(sidecar: &Sidecar, reread: &Reread) {
    crate::systemd::reloading();
    let reread = Arc::clone(reread);
    // It may run password_command.
    let read = tokio::task::spawn_blocking(move || reread()).await;
    let done = match read {
        Ok(Ok(config)) => sidecar.reload(config).map_err(|error| error.to_string()),
        Ok(Err(sentence)) => Err(sentence),
        Err(_) => Err("reading it failed, which is a bug in xbosh".to_owned()),
    };
    match done {
        Ok(fixed) if fixed.is_empty() => {
            tracing::info!("configuration read again; open streams keep what they have");
        }
        Ok(fixed) => tracing::warn!(
            "configuration read again; {} need a restart of xbosh",
            fixed.join(", ")
        ),
        Err(sentence) => {
            tracing::error!("the new configuration is not used, the old one stays: {sentence}")
        }
    }
    crate::systemd::ready();
}

async fn beat(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// `listening on ADDR`, a line each, flushed: what scripts and tests wait for.
fn print_ready(addresses: &[ListenAddress]) {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    for address in addresses {
        // Nobody reads it: no reason to stop.
        let _ = writeln!(out, "listening on {address}");
    }
    let _ = out.flush();
}

/// Each stream needs its own socket and two or three to the manager.
fn raise_open_files(max_streams: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    if now.current != now.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit of open files stays as it is");
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let needed = max_streams as u64 * 4 + 32;
    if files < needed {
        tracing::warn!(
            "limits.max_streams = {max_streams} may need {needed} open files, the system allows {files}: \
             lower it, or raise the limit (LimitNOFILE= in the systemd unit)"
        );
    }
}
