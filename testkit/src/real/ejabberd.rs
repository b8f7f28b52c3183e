//! ejabberd, with its `mod_bosh` as connection manager.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::available::path_of;
use super::daemon::{Daemon, Folder};
use super::http::post;
use super::{Ca, Server, accepts, free_ports, loopback, with_retries};
use crate::client::Account;

const DOMAIN: &str = "ej.test";

/// A running ejabberd.
#[derive(Debug)]
pub struct Ejabberd {
    daemon: Daemon,
    ca_file: PathBuf,
    ports: [u16; 4],
}

impl Ejabberd {
    /// Starts one; it takes two to five seconds. Only root can.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start() -> Result<Self, String> {
        Self::start_with("")
    }

    /// Starts one with more of `modules:`, as in `, mod_mam: {}`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_with(modules: &str) -> Result<Self, String> {
        with_retries(|| Self::try_start(60, modules))
    }

    /// Starts one that ends a session after so many seconds of silence.
    ///
    /// # Errors
    /// What is wrong.
    pub fn start_impatient(inactivity: u64) -> Result<Self, String> {
        with_retries(|| Self::try_start(inactivity, ""))
    }

    fn try_start(inactivity: u64, modules: &str) -> Result<Self, String> {
        let ports @ [c2s, http, https, erlang] = free_ports()?;
        let folder = Folder::new("ejabberd", Some("ejabberd"))?;
        for name in ["etc", "log", "spool", "home"] {
            folder.folder(name)?;
        }
        let ca = Ca::new()?;
        let ca_file = folder.file("ca.pem", ca.pem())?.into();
        let (certificate, key) = ca.leaf(&[DOMAIN, "localhost", "127.0.0.1"])?;
        let certificate = folder.file("ej.pem", &format!("{key}{certificate}"))?;
        // One fixed port and no epmd, which would be shared with other instances.
        let control = folder.file(
            "etc/ejabberdctl.cfg",
            &format!("ERL_DIST_PORT={erlang}\nINET_DIST_INTERFACE=127.0.0.1\n"),
        )?;
        let inetrc = std::fs::read_to_string("/etc/ejabberd/inetrc")
            .map_err(|error| format!("/etc/ejabberd/inetrc: {error}"))?;
        folder.file("etc/inetrc", &inetrc)?;
        let config = format!(
            r#"
hosts: [{DOMAIN}]
loglevel: info
certfiles: ["{certificate}"]
listen:
  - {{port: {c2s}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, starttls_required: false, shaper: none, access: c2s, max_stanza_size: 1048576}}
  - port: {http}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {{/bosh: mod_bosh, /api: mod_http_api}}
  - port: {https}
    ip: "127.0.0.1"
    module: ejabberd_http
    tls: true
    request_handlers: {{/bosh: mod_bosh}}
auth_password_format: plain
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
s2s_access: none
registration_timeout: infinity
acme: {{auto: false}}
acl: {{loopback: {{ip: [127.0.0.0/8]}}}}
access_rules: {{c2s: {{allow: all}}, register: {{allow: all}}}}
api_permissions:
  tests: {{from: [mod_http_api], who: {{access: {{allow: [{{acl: loopback}}]}}}}, what: "*"}}
modules: {{mod_bosh: {{max_inactivity: {inactivity}}}, mod_http_api: {{}}, mod_register: {{ip_access: all, access: register}}, mod_admin_extra: {{}}, mod_roster: {{}}, mod_disco: {{}}, mod_ping: {{}}, mod_stream_mgmt: {{}}{modules}}}
"#
        );
        let config = folder.file("ejabberd.yml", &config)?;
        let (etc, log) = (folder.join("etc"), folder.join("log"));
        let (spool, home) = (folder.join("spool"), folder.join("home"));
        let node = format!("xbosh{erlang}@localhost");
        let command = [
            &path_of("ejabberdctl"),
            "--config-dir",
            &etc,
            "--config",
            &config,
            "--ctl-config",
            &control,
            "--logs",
            &log,
            "--spool",
            &spool,
            "--node",
            &node,
            "foreground",
        ];
        let daemon = folder.run("ejabberd", false, &[("HOME", &home)], &command)?;
        let server = Self {
            daemon,
            ca_file,
            ports,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let [c2s, http, https, _] = self.ports;
        self.daemon.wait_until(|| {
            post(http, "/api/status", "application/json", "{}")
                .is_ok_and(|(status, _)| status == 200)
                && accepts(c2s)
                && accepts(https)
        })
    }

    /// Kills it and starts it again, at the same ports, with the same accounts.
    ///
    /// # Errors
    /// What is wrong.
    pub fn restart(&mut self) -> Result<(), String> {
        self.daemon.restart()?;
        self.wait_until_ready()
    }
}

impl Ejabberd {
    /// Stops it, and lets it go on after a while: meanwhile it answers nobody and loses nothing.
    ///
    /// # Errors
    /// Its process is not found.
    pub fn stop_for(&self, time: std::time::Duration) -> Result<(), String> {
        let node = format!("xbosh{}@localhost", self.ports[3]);
        let find = format!(
            "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline) in *{node}*) read -r name <$p/comm; [ \"$name\" = beam.smp ] && echo ${{p#/proc/}};; esac; done 2>/dev/null; true"
        );
        let pid = super::daemon::helper("sh", &["-c", &find], "")?;
        let pid = pid.trim().to_owned();
        if pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("the machine of {node} is not found: {pid:?}"));
        }
        super::daemon::helper("sh", &["-c", &format!("kill -STOP {pid}")], "")?;
        std::thread::spawn(move || {
            std::thread::sleep(time);
            // It may have been ended meanwhile.
            let _ = super::daemon::helper("sh", &["-c", &format!("kill -CONT {pid}")], "");
        });
        Ok(())
    }
}

impl Server for Ejabberd {
    fn name(&self) -> &'static str {
        "ejabberd"
    }

    fn domain(&self) -> &'static str {
        DOMAIN
    }

    fn c2s(&self) -> SocketAddr {
        loopback(self.ports[0])
    }

    fn bosh_url(&self, tls: bool, host: &str) -> String {
        if tls {
            format!("https://{host}:{}/bosh", self.ports[2])
        } else {
            format!("http://{host}:{}/bosh", self.ports[1])
        }
    }

    fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    fn add_account(&self, user: &str) -> Result<Account, String> {
        let account = Account::new(user, DOMAIN, &format!("secret-of-{user}"));
        let order = format!(
            r#"{{"user":"{user}","host":"{DOMAIN}","password":"{}"}}"#,
            account.password
        );
        match post(self.ports[1], "/api/register", "application/json", &order)? {
            (200, _) => Ok(account),
            (status, body) => Err(format!(
                "ejabberd does not register {user}: {status} {body}"
            )),
        }
    }
}
