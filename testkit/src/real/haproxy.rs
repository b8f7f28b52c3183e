//! HAProxy in front of xbosh, for many people at one address.

use std::net::SocketAddr;

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::{accepts, free_ports, loopback, with_retries};

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    /// Ended by its drop.
    _daemon: Daemon,
    port: u16,
}

impl Haproxy {
    /// Starts one with the configuration that `config` makes for its address.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start(config: impl Fn(SocketAddr) -> String) -> Result<Self, String> {
        with_retries(|| {
            let [port] = free_ports()?;
            let folder = Folder::new("haproxy", Some("haproxy"))?;
            let config = folder.file("haproxy.cfg", &config(loopback(port)))?;
            // In the foreground, as one process.
            let command = [&path_of("haproxy"), "-db", "-f", &config];
            let daemon = folder.run("haproxy", false, &[], &command)?;
            daemon.wait_until(|| accepts(port))?;
            Ok(Self {
                _daemon: daemon,
                port,
            })
        })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }
}
