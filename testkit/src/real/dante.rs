//! Dante, a SOCKS5 proxy, here open to everyone on this machine.

use std::net::SocketAddr;

use super::available::path_of;
use super::daemon::{Daemon, Folder, is_root};
use super::{accepts, free_ports, loopback, with_retries};

/// A running Dante.
#[derive(Debug)]
pub struct Dante {
    /// Ended by its drop.
    _daemon: Daemon,
    port: u16,
}

impl Dante {
    /// Starts one that asks for no credentials and reaches loopback only.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start() -> Result<Self, String> {
        with_retries(|| {
            let [port] = free_ports()?;
            let folder = Folder::new("dante", None)?;
            let users = if is_root() {
                "user.privileged: root\nuser.unprivileged: nobody\n"
            } else {
                ""
            };
            // Inside the rules, one statement a line.
            let config = format!(
                "logoutput: stderr\n\
                 internal: 127.0.0.1 port = {port}\n\
                 external: 127.0.0.1\n\
                 clientmethod: none\n\
                 socksmethod: none\n\
                 {users}\
                 client pass {{\n  from: 127.0.0.0/8 to: 0.0.0.0/0\n}}\n\
                 socks pass {{\n  from: 127.0.0.0/8 to: 0.0.0.0/0\n  command: connect\n}}\n"
            );
            let config = folder.file("danted.conf", &config)?;
            let pid = folder.join("danted.pid");
            let command = [&path_of("danted"), "-f", &config, "-p", &pid, "-N", "1"];
            let daemon = folder.run("dante", true, &[], &command)?;
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
