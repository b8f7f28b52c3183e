//! microsocks, a SOCKS5 proxy that wants user and password.

use std::net::SocketAddr;

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::{PROXY_PASSWORD, PROXY_USER, accepts, free_ports, loopback, with_retries};

/// A running microsocks.
#[derive(Debug)]
pub struct Microsocks {
    /// Ended by its drop.
    _daemon: Daemon,
    port: u16,
}

impl Microsocks {
    /// Starts one for [`PROXY_USER`] that can reach loopback only.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start() -> Result<Self, String> {
        with_retries(|| {
            let [port] = free_ports()?;
            let text = port.to_string();
            let folder = Folder::new("microsocks", Some("nobody"))?;
            let program = path_of("microsocks");
            let listen = ["-i", "127.0.0.1", "-p", &text, "-b", "127.0.0.1"];
            let login = ["-u", PROXY_USER, "-P", PROXY_PASSWORD];
            let command = [&[program.as_str()][..], &listen, &login].concat();
            let daemon = folder.run("microsocks", false, &[], &command)?;
            daemon.wait_until(|| accepts(port))?;
            Ok(Self {
                _daemon: daemon,
                port,
            })
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }
}
