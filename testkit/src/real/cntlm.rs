//! cntlm, a proxy of one's own that logs in to a proxy which wants NTLM.

use std::net::SocketAddr;

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::{PROXY_PASSWORD, PROXY_USER, accepts, free_ports, loopback, with_retries};

/// A running cntlm.
#[derive(Debug)]
pub struct Cntlm {
    _daemon: Daemon,
    port: u16,
}

impl Cntlm {
    /// Starts one that passes everything to `proxy` for [`PROXY_USER`].
    ///
    /// # Errors
    /// What is wrong.
    pub fn start(proxy: SocketAddr) -> Result<Self, String> {
        with_retries(|| {
            let [port] = free_ports()?;
            let folder = Folder::new("cntlm", Some("nobody"))?;
            // Squid's test helper sends none of what NTLMv2 is computed from.
            let config = format!(
                "Username {PROXY_USER}\nDomain CORP\nPassword {PROXY_PASSWORD}\nAuth NTLM\n\
                 Proxy {proxy}\nListen 127.0.0.1:{port}\n"
            );
            let config = folder.file("cntlm.conf", &config)?;
            let command = [&path_of("cntlm"), "-f", "-c", &config];
            let daemon = folder.run("cntlm", false, &[], &command)?;
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
