//! Squid, an HTTP proxy that wants Basic, Digest or NTLM credentials.

use std::net::SocketAddr;

use super::available::path_of;
use super::daemon::{Daemon, Folder, helper};
use super::{PROXY_PASSWORD, PROXY_USER, accepts, free_ports, loopback, with_retries};

/// A running Squid.
#[derive(Debug)]
pub struct Squid {
    daemon: Daemon,
    port: u16,
    refused_port: u16,
}

impl Squid {
    /// Starts one that reaches nothing but loopback, for [`PROXY_USER`] alone.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start() -> Result<Self, String> {
        with_retries(|| Self::try_start(basic, ""))
    }

    /// As [`Self::start`]; `hosts` are more lines for its `hosts_file`, each ended by a newline.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_with_hosts(hosts: &str) -> Result<Self, String> {
        with_retries(|| Self::try_start(basic, hosts))
    }

    /// As [`Self::start`], with Digest (RFC 7616, MD5) in place of Basic; a nonce may be used so often.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_digest(nonce_uses: u32) -> Result<Self, String> {
        with_retries(|| Self::try_start(|folder| digest(folder, nonce_uses), ""))
    }

    /// As [`Self::start`], with NTLM alone; its helper goes through the handshake and takes everybody.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_ntlm() -> Result<Self, String> {
        with_retries(|| Self::try_start(ntlm, ""))
    }

    fn try_start(
        login: impl FnOnce(&Folder) -> Result<String, String>,
        hosts: &str,
    ) -> Result<Self, String> {
        let [port, refused_port] = free_ports()?;
        let folder = Folder::new("squid", Some("proxy"))?;
        let login = login(&folder)?;
        let hosts = folder.file("hosts", &format!("127.0.0.1 localhost\n{hosts}"))?;
        let config = format!(
            "http_port 127.0.0.1:{port}\n\
             {login}\
             acl authed proxy_auth REQUIRED\n\
             acl to_lo dst 127.0.0.0/8\n\
             acl refused port {refused_port}\n\
             http_access deny !to_lo\n\
             http_access deny refused\n\
             http_access allow authed\n\
             http_access deny all\n\
             cache deny all\n\
             cache_mem 8 MB\n\
             access_log stdio:{access}\n\
             cache_log {cache}\n\
             pid_filename {pid}\n\
             coredump_dir {dir}\n\
             netdb_filename none\n\
             hosts_file {hosts}\n\
             dns_nameservers 127.0.0.1\n\
             dns_timeout 3 seconds\n\
             udp_outgoing_address 127.0.0.1\n\
             pinger_enable off\n\
             max_filedescriptors 65536\n\
             shutdown_lifetime 1 second\n",
            access = folder.join("access.log"),
            cache = folder.join("cache.log"),
            pid = folder.join("squid.pid"),
            dir = folder.join(""),
        );
        let config = folder.file("squid.conf", &config)?;
        // Its shared memory segments are told apart by the service name, letters and digits only.
        let service = format!("xbosh{port}");
        let command = [&path_of("squid"), "-N", "-f", &config, "-n", &service];
        let daemon = folder.run("squid", true, &[], &command)?;
        daemon.wait_until(|| accepts(port))?;
        Ok(Self {
            daemon,
            port,
            refused_port,
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

    /// A port that it refuses to connect to, by rule.
    pub const fn refused_port(&self) -> u16 {
        self.refused_port
    }

    /// How many lines of its access log hold this text.
    pub fn logged(&self, text: &str) -> usize {
        let path = self.daemon.folder().path().join("access.log");
        let log = std::fs::read_to_string(path).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until so many lines hold this text: Squid writes them late, of tunnels after their end.
    ///
    /// # Errors
    /// It ended, or did not write them in time.
    pub fn wait_logged(&self, text: &str, lines: usize) -> Result<(), String> {
        self.daemon
            .wait_until(|| self.logged(text) >= lines)
            .map_err(|error| format!("not {lines} times {text:?} in the log: {error}"))
    }
}

/// `auth_param` for Basic.
fn basic(folder: &Folder) -> Result<String, String> {
    let hash = helper("openssl", &["passwd", "-apr1", "-stdin"], PROXY_PASSWORD)?;
    let users = folder.file("passwd", &format!("{PROXY_USER}:{hash}"))?;
    Ok(format!(
        "auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}\n"
    ))
}

/// `auth_param` for Digest.
fn digest(folder: &Folder, nonce_uses: u32) -> Result<String, String> {
    let users = folder.file("passwd", &format!("{PROXY_USER}:{PROXY_PASSWORD}\n"))?;
    Ok(format!(
        "auth_param digest program /usr/lib/squid/digest_file_auth {users}\n\
         auth_param digest children 2\n\
         auth_param digest realm proxy\n\
         auth_param digest nonce_max_count {nonce_uses}\n"
    ))
}

/// `auth_param` for NTLM.
fn ntlm(_: &Folder) -> Result<String, String> {
    Ok("auth_param ntlm program /usr/lib/squid/ntlm_fake_auth\n\
         auth_param ntlm children 2\n\
         auth_param ntlm keep_alive on\n"
        .to_owned())
}
