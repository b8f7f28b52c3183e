//! Sockets that systemd has opened for us (`systemd/xbosh.socket`): they replace `listen`.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::listener::RunError;
use crate::config::ListenAddress;

/// Most sockets taken from systemd.
const MAX_SOCKETS: usize = 64;
/// The first descriptor that systemd passes.
const FIRST: usize = 3;

/// Listening sockets that came from systemd; empty without it.
#[derive(Debug, Default)]
pub struct Activated(pub(super) Vec<(ListenAddress, Socket)>);

/// One of them.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Activated {
    /// Takes them, once. To be called before any thread starts: it removes `LISTEN_FDS` from the environment, so
    /// that no child takes them for its own. Those meant for another process (`LISTEN_PID`) are left alone.
    ///
    /// # Errors
    /// [`RunError::Activation`] for what is not a listening stream socket.
    pub fn take() -> Result<Self, RunError> {
        let count = std::env::var("LISTEN_FDS").ok();
        if let Some(count) = count.and_then(|count| count.parse::<usize>().ok())
            && count > MAX_SOCKETS
        {
            return Err(RunError::Activation {
                descriptor: FIRST + MAX_SOCKETS,
                what: "more than 64 sockets",
            });
        }
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).map(|index| take(&mut passed, index));
        sockets.collect::<Result<_, _>>().map(Self)
    }
}

fn take(passed: &mut ListenFd, index: usize) -> Result<(ListenAddress, Socket), RunError> {
    let wrong = |what| RunError::Activation {
        descriptor: FIRST + index,
        what,
    };
    let unusable = |_: io::Error| wrong("a socket that cannot be used");
    let socket = match (
        passed.take_tcp_listener(index),
        passed.take_unix_listener(index),
    ) {
        (Ok(Some(tcp)), _) => Socket::Tcp(tcp),
        (_, Ok(Some(unix))) => Socket::Unix(unix),
        _ => {
            let datagrams = matches!(passed.take_udp_socket(index), Ok(Some(_)))
                || matches!(passed.take_unix_datagram(index), Ok(Some(_)));
            return Err(wrong(if datagrams {
                "a datagram socket"
            } else {
                "something that is no TCP or Unix stream socket"
            }));
        }
    };
    let (listens, address) = match &socket {
        Socket::Tcp(tcp) => {
            tcp.set_nonblocking(true).map_err(unusable)?;
            let address = tcp.local_addr().map_err(unusable)?;
            (socket_acceptconn(tcp), ListenAddress::Tcp(address))
        }
        Socket::Unix(unix) => {
            unix.set_nonblocking(true).map_err(unusable)?;
            (
                socket_acceptconn(unix),
                ListenAddress::Unix(name(unix).map_err(unusable)?),
            )
        }
    };
    if listens != Ok(true) {
        return Err(wrong("a connection"));
    }
    Ok((address, socket))
}

/// Its path; for one without, its abstract name as `ss` writes it.
fn name(socket: &UnixListener) -> io::Result<PathBuf> {
    let address = rustix::net::getsockname(socket)?;
    let address = rustix::net::SocketAddrUnix::try_from(address)?;
    if let Some(path) = address.path_bytes() {
        use std::os::unix::ffi::OsStrExt as _;
        return Ok(std::ffi::OsStr::from_bytes(path).into());
    }
    #[cfg(target_os = "linux")]
    if let Some(name) = address.abstract_name() {
        return Ok(format!("@{}", name.escape_ascii()).into());
    }
    Ok("@".into())
}
