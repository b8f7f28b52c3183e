//! Prosody, with its own `mod_bosh` as connection manager.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::{Ca, Server, accepts, free_ports, loopback, with_retries};
use crate::client::Account;
use crate::client::scram::Keys;

const DOMAIN: &str = "xmpp.test";
/// A field that the sessions of 0.12's mod_bosh lack and mod_sasl2 reads; to be loaded with it.
const BOSH_BASE_TYPE: &str = "module:set_global()
module:hook('bosh-session', function(event) event.session.base_type = 'c2s' end)
";
/// Over BOSH mod_csi_simple takes every stanza for an important one and holds nothing back: only the log can show whether
/// a client's state arrived. To be loaded with mod_csi.
const CSI_WITNESS: &str = "for _, state in ipairs { 'inactive', 'active' } do
    module:hook('csi-client-'..state, function(event)
        module:log('info', 'client state %s: %s', state, event.origin.full_jid)
    end, 1)
end
";
const SALT: &str = "c2FsdHNhbHQtc2FsdHNhbHQ";
const ROUNDS: u32 = 4096;

/// A running Prosody.
#[derive(Debug)]
pub struct Prosody {
    daemon: Daemon,
    ca_file: PathBuf,
    ports: [u16; 3],
}

impl Prosody {
    /// Starts one; it is ready in well under a second.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start() -> Result<Self, String> {
        Self::start_with("")
    }

    /// Starts one with more lines in the global part of its configuration.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_with(settings: &str) -> Result<Self, String> {
        with_retries(|| Self::try_start(settings))
    }

    fn try_start(settings: &str) -> Result<Self, String> {
        let ports @ [c2s, http, https] = free_ports()?;
        let folder = Folder::new("prosody", Some("prosody"))?;
        folder.folder("data")?;
        folder.folder("certs")?;
        folder.folder("plugins")?;
        folder.file("plugins/mod_bosh_base_type.lua", BOSH_BASE_TYPE)?;
        folder.file("plugins/mod_csi_witness.lua", CSI_WITNESS)?;
        let dots = DOMAIN.replace('.', "%2e");
        for name in [
            "data",
            &format!("data/{dots}"),
            &format!("data/{dots}/accounts"),
        ] {
            folder.folder(name)?;
        }
        let ca = Ca::new()?;
        let ca_file = folder.file("ca.pem", ca.pem())?.into();
        let (certificate, key) = ca.leaf(&[DOMAIN, "localhost", "127.0.0.1"])?;
        let certificate = folder.file(&format!("certs/{DOMAIN}.crt"), &certificate)?;
        let key = folder.file(&format!("certs/{DOMAIN}.key"), &key)?;
        // Without consider_bosh_secure a plain-http session is offered no login; without the Host fallback
        // requests for 127.0.0.1 get 404; s2s would open a fixed port; https refuses names (SNI) that are no host.
        let config = format!(
            r#"
            plugin_paths = {{ "{plugins}" }}
            data_path = "{data}"; pidfile = "{pid}"; certificates = "{certs}"
            interfaces = {{ "127.0.0.1" }}
            c2s_ports = {{ {c2s} }}; c2s_direct_tls_ports = {{ }}
            http_ports = {{ {http} }}; http_interfaces = {{ "127.0.0.1" }}
            https_ports = {{ {https} }}; https_interfaces = {{ "127.0.0.1" }}
            https_ssl = {{ key = "{key}"; certificate = "{certificate}" }}
            http_default_host = "{DOMAIN}"
            modules_enabled = {{ "roster"; "saslauth"; "tls"; "disco"; "ping"; "carbons"; "mam"; "smacks"; "register_ibr"; "bosh" }}
            modules_disabled = {{ "s2s" }}
            c2s_require_encryption = false; allow_unencrypted_plain_auth = true; consider_bosh_secure = true
            allow_registration = true
            authentication = "internal_hashed"; storage = "internal"
            log = {{ info = "{log}" }}
            {settings}
            VirtualHost "{DOMAIN}"
            VirtualHost "localhost"
            "#,
            plugins = folder.join("plugins"),
            data = folder.join("data"),
            pid = folder.join("prosody.pid"),
            certs = folder.join("certs"),
            log = folder.join("prosody.log"),
        );
        let config = folder.file("prosody.cfg.lua", &config)?;
        let command = [&path_of("prosody"), "--config", &config, "-F"];
        let daemon = folder.run("prosody", false, &[], &command)?;
        daemon.wait_until(|| ports.iter().all(|&port| accepts(port)))?;
        Ok(Self {
            daemon,
            ca_file,
            ports,
        })
    }

    /// Kills it and starts it again, at the same ports, with the same accounts.
    ///
    /// # Errors
    /// What is wrong.
    pub fn restart(&mut self) -> Result<(), String> {
        self.daemon.restart()?;
        let ports = self.ports;
        self.daemon
            .wait_until(|| ports.iter().all(|&port| accepts(port)))
    }

    /// Stops it, and lets it go on after a while: meanwhile it answers nobody and loses nothing.
    ///
    /// # Errors
    /// Its process is not known.
    pub fn stop_for(&self, time: std::time::Duration) -> Result<(), String> {
        let pid = std::fs::read_to_string(self.daemon.folder().join("prosody.pid"));
        let pid = pid.map_err(|error| error.to_string())?.trim().to_owned();
        super::daemon::helper("sh", &["-c", &format!("kill -STOP {pid}")], "")?;
        std::thread::spawn(move || {
            std::thread::sleep(time);
            // It may have been ended meanwhile.
            let _ = super::daemon::helper("sh", &["-c", &format!("kill -CONT {pid}")], "");
        });
        Ok(())
    }

    /// An account whose password costs nothing to check, for benchmarks.
    ///
    /// # Errors
    /// File errors.
    pub fn add_cheap_account(&self, user: &str) -> Result<Account, String> {
        self.add_account_with(user, 1)
    }

    /// Writes the account's file, which a running Prosody sees at once.
    fn add_account_with(&self, user: &str, rounds: u32) -> Result<Account, String> {
        let account = Account::new(user, DOMAIN, &format!("secret-of-{user}"));
        let keys = Keys::derive(&account.password, SALT.as_bytes(), rounds);
        let (stored, server) = (hex(&keys.stored), hex(&keys.server));
        let name = format!("{}/{}.dat", accounts(), file_name(user));
        let content = format!(
            r#"return {{ ["iteration_count"]={rounds}; ["salt"]="{SALT}"; ["stored_key"]="{stored}"; ["server_key"]="{server}"; }};"#
        );
        self.daemon.folder().file(&name, &content)?;
        Ok(account)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.daemon.output()
    }
}

impl Server for Prosody {
    fn name(&self) -> &'static str {
        "prosody"
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn c2s(&self) -> SocketAddr {
        loopback(self.ports[0])
    }

    fn bosh_url(&self, tls: bool, host: &str) -> String {
        if tls {
            format!("https://{host}:{}/http-bind", self.ports[2])
        } else {
            format!("http://{host}:{}/http-bind", self.ports[1])
        }
    }

    fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    fn add_account(&self, user: &str) -> Result<Account, String> {
        self.add_account_with(user, ROUNDS)
    }
}

/// The folder of the accounts' files.
fn accounts() -> String {
    format!("data/{}/accounts", file_name(DOMAIN))
}

/// Prosody writes all but letters and digits as `%xx`.
fn file_name(text: &str) -> String {
    text.bytes().fold(String::new(), |mut name, byte| {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            let _infallible = write!(name, "%{byte:02x}");
        }
        name
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
