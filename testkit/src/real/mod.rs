//! Private instances of real XMPP servers and proxies, as Debian packages them.
//!
//! Each has its own temporary folder, free loopback ports and a guard process ([`daemon::Daemon`]) that ends it
//! and removes the folder when the value is dropped or the process that started it is gone, however it went.
//! All launchers block; they return a sentence saying what is wrong, with the end of the server's own log.
//!
//! [`Prosody`] and [`Ejabberd`] serve c2s, BOSH over http and over https; [`Squid`], [`Tinyproxy`], [`Microsocks`]
//! and [`Dante`] are ways out; [`Nginx`] is a reverse proxy in front of a connection manager, [`Haproxy`] stands before xbosh.

pub mod available;
mod ca;
mod cntlm;
pub mod daemon;
mod dante;
mod ejabberd;
mod haproxy;
pub mod http;
mod microsocks;
mod nginx;
mod prosody;
mod sidecar;
mod squid;
mod tinyproxy;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

pub use ca::Ca;
pub use cntlm::Cntlm;
pub use dante::Dante;
pub use ejabberd::Ejabberd;
pub use haproxy::Haproxy;
pub use microsocks::Microsocks;
pub use nginx::{Logged, Nginx};
pub use prosody::Prosody;
pub use sidecar::Sidecar;
pub use squid::Squid;
pub use tinyproxy::Tinyproxy;

use crate::client::Account;

/// The user name at every proxy that wants one.
pub const PROXY_USER: &str = "proxyuser";
/// The password to [`PROXY_USER`].
pub const PROXY_PASSWORD: &str = "pr0xy-s3cret";

/// A running XMPP server with a BOSH connection manager.
pub trait Server: Send + Sync {
    /// What a person calls it.
    fn name(&self) -> &'static str;
    /// The XMPP domain.
    fn domain(&self) -> &'static str;
    /// Client connections on plain TCP.
    fn c2s(&self) -> SocketAddr;
    /// The connection manager's URL with this host, `localhost` or `127.0.0.1`.
    fn bosh_url(&self, tls: bool, host: &str) -> String;
    /// PEM of the authority that signed the server's certificate.
    fn ca_file(&self) -> &Path;
    /// Makes an account.
    ///
    /// # Errors
    /// What the server said.
    fn add_account(&self, user: &str) -> Result<Account, String>;
}

/// `N` different ports that were free a moment ago.
///
/// # Errors
/// No port to be had.
pub fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(|error| format!("no free port: {error}"))?;
        *port = listener
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn accepts(port: u16) -> bool {
    TcpStream::connect_timeout(&loopback(port), Duration::from_secs(1)).is_ok()
}

/// Another program may take a free port before the server does: start anew with other ports.
fn with_retries<T>(start: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let mut result = start();
    for _ in 0..2 {
        if result.is_ok() {
            break;
        }
        result = start();
    }
    result
}
