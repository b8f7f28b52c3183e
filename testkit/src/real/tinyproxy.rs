//! tinyproxy, an HTTP proxy that wants Basic credentials and closes after each plain request.

use std::net::SocketAddr;

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::{PROXY_PASSWORD, PROXY_USER, accepts, free_ports, loopback, with_retries};

/// A running tinyproxy.
#[derive(Debug)]
pub struct Tinyproxy {
    daemon: Daemon,
    port: u16,
}

impl Tinyproxy {
    /// Starts one for [`PROXY_USER`].
    ///
    /// # Errors
    /// What is wrong.
    pub fn start() -> Result<Self, String> {
        with_retries(|| {
            let [port] = free_ports()?;
            let folder = Folder::new("tinyproxy", Some("nobody"))?;
            let config = format!(
                "Port {port}\nListen 127.0.0.1\nBind 127.0.0.1\nAllow 127.0.0.1\nTimeout 600\n\
                 MaxClients 2000\nLogLevel Warning\nBasicAuth {PROXY_USER} {PROXY_PASSWORD}\n"
            );
            let config = folder.file("tinyproxy.conf", &config)?;
            let command = [&path_of("tinyproxy"), "-d", "-c", &config];
            let daemon = folder.run("tinyproxy", false, &[], &command)?;
            daemon.wait_until(|| accepts(port))?;
            Ok(Self { daemon, port })
        })
    }

    /// Kills it and starts it again, at the same port.
    ///
    /// # Errors
    /// What is wrong.
    pub fn restart(&mut self) -> Result<(), String> {
        self.daemon.restart()?;
        let port = self.port;
        self.daemon.wait_until(|| accepts(port))
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        loopback(self.port)
    }
}
