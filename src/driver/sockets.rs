//! The sockets that clients come through: bound here or passed by systemd, TCP or Unix.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use super::activation::{Activated, Socket};
use super::client::{Client, Peer};
use super::listener::RunError;
use super::unix::{self, SocketFile};
use crate::config::{Config, ListenAddress};

/// What to do when an address is taken.
pub(super) const IN_USE: &str =
    "another program uses this address, perhaps a second xbosh; stop it or set another `listen`";

/// A socket that clients come through. Fields drop in order: the file goes while the socket is still open.
pub(super) struct Listener {
    pub(super) address: ListenAddress,
    /// None for TCP, and for what systemd made and removes.
    _file: Option<SocketFile>,
    socket: Accepting,
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener, Arc<Path>),
}

impl Listener {
    /// The next client, or `None` for one that is not served.
    pub(super) async fn accept(&self) -> io::Result<Option<(Client, Peer)>> {
        match &self.socket {
            Accepting::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Some((stream.into(), Peer::Tcp(peer))))
            }
            Accepting::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                let uid = match stream.peer_cred() {
                    Ok(peer) => peer.uid(),
                    Err(error) => {
                        tracing::warn!(listen = %self.address, "closed a client that the system does not name: {error}");
                        return Ok(None);
                    }
                };
                let path = Arc::clone(path);
                let peer = Peer::Unix { path, uid };
                let own = rustix::process::geteuid().as_raw();
                if !may_talk(own, uid) {
                    tracing::warn!(client = %peer, "closed: it runs as another user than xbosh (uid {own})");
                    return Ok(None);
                }
                Ok(Some((stream.into(), peer)))
            }
        }
    }
}

/// A Unix socket is for the user who runs the sidecar, and for root, whom nothing keeps out anyway.
fn may_talk(own: u32, uid: u32) -> bool {
    uid == own || uid == 0
}

/// systemd's sockets, or else all of `listen`, bound.
pub(super) async fn listeners(
    config: &Config,
    activated: Activated,
) -> Result<Vec<Listener>, RunError> {
    let mut listeners = Vec::new();
    if activated.0.is_empty() {
        for address in &config.listen {
            listeners.push(bind(address).await?);
        }
        return Ok(listeners);
    }
    if config.listen != Config::default().listen {
        tracing::warn!("`listen` is not used: systemd passes the sockets (xbosh.socket)");
    }
    for (address, socket) in activated.0 {
        if address.is_remote() {
            if !config.allow_remote_clients {
                return Err(RunError::Remote { address });
            }
            tracing::warn!("{}", config.remote_warning(&address));
        }
        let socket = match socket {
            Socket::Tcp(listener) => TcpListener::from_std(listener).map(Accepting::Tcp),
            Socket::Unix(listener) => UnixListener::from_std(listener).map(|listener| {
                let path = address.path().unwrap_or(Path::new("@")).into();
                Accepting::Unix(listener, path)
            }),
        };
        listeners.push(Listener {
            socket: socket.map_err(|e| listen_error(address.clone(), e))?,
            _file: None,
            address,
        });
    }
    Ok(listeners)
}

async fn bind(address: &ListenAddress) -> Result<Listener, RunError> {
    match address {
        ListenAddress::Tcp(wanted) => {
            let bound = TcpListener::bind(wanted)
                .await
                .and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (bound, listener) = bound.map_err(|e| listen_error(address.clone(), e))?;
            Ok(Listener {
                address: bound.into(),
                _file: None,
                socket: Accepting::Tcp(listener),
            })
        }
        ListenAddress::Unix(path) => match unix::bind(path).await {
            Ok((file, listener)) => Ok(Listener {
                address: address.clone(),
                _file: Some(file),
                socket: Accepting::Unix(listener, path.as_path().into()),
            }),
            Err(unix::Refused { hint, source }) => Err(RunError::Listen {
                address: address.clone(),
                hint,
                source,
            }),
        },
    }
}

fn listen_error(address: ListenAddress, source: io::Error) -> RunError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => IN_USE,
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need special rights; set another `listen`"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; check `listen`",
        _ => "check `listen`",
    };
    RunError::Listen {
        address,
        hint,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_talk_through_a_unix_socket() {
        for (own, peer, may) in [
            (1000, 1000, true),
            (1000, 0, true),
            (1000, 1001, false),
            (0, 0, true),
            (0, 1000, false),
            // Somebody of another user namespace.
            (1000, 65534, false),
        ] {
            assert_eq!(may_talk(own, peer), may, "{own} {peer}");
        }
    }
}
