//! The real `xbosh` binary with a configuration of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio::time::Instant;

use super::available::find;
use super::daemon::helper;

/// Name of its Unix socket.
const SOCKET: &str = "socket";

/// A running xbosh. Killed on drop, or by the kernel when the thread that started it dies.
#[derive(Debug)]
pub struct Sidecar {
    process: Child,
    binary: PathBuf,
    addr: SocketAddr,
    folder: tempfile::TempDir,
}

impl Sidecar {
    /// Starts `xbosh run --config … --listen 127.0.0.1:0` and waits for its `listening on` line. The
    /// environment's proxies are kept from it.
    ///
    /// # Errors
    /// What is wrong, with its log.
    pub fn start(binary: &Path, config: &str) -> Result<Self, String> {
        Self::start_at(binary, Some(config), false, &[])
    }

    /// Starts `xbosh run --listen 127.0.0.1:0` in an empty home, without any file, and with this in its environment.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_without_file(binary: &Path, environment: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_at(binary, None, false, environment)
    }

    /// As [`Self::start`], on a Unix socket beside the port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_unix(binary: &Path, config: &str) -> Result<Self, String> {
        Self::start_at(binary, Some(config), true, &[])
    }

    fn start_at(
        binary: &Path,
        config: Option<&str>,
        unix: bool,
        environment: &[(&str, &str)],
    ) -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("xbosh-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let path = folder.path().join("config.toml");
        if let Some(config) = config {
            fs::write(&path, config)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
                .map_err(|error| error.to_string())?;
        }
        let log = fs::File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        let mut command = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        clean(&mut command, folder.path());
        command.args(["run", "--listen", "127.0.0.1:0"]);
        if unix {
            let socket = folder.path().join(SOCKET);
            command.args(["--listen", &format!("unix:{}", socket.display())]);
        }
        if config.is_some() {
            command.arg("--config").arg(path);
        }
        let mut process = command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let (send, receive) = mpsc::channel();
        if let Some(stdout) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let line = receive.recv_timeout(Duration::from_secs(10));
        let mut sidecar = Self {
            process,
            binary: binary.to_owned(),
            addr: ([127, 0, 0, 1], 0).into(),
            folder,
        };
        let addr = line
            .as_deref()
            .ok()
            .and_then(|line| line.strip_prefix("listening on "))
            .and_then(|addr| addr.trim().parse().ok());
        match addr {
            Some(addr) => {
                sidecar.addr = addr;
                Ok(sidecar)
            }
            None => Err(format!(
                "xbosh does not say where it listens, but {line:?}; its log:\n{}",
                sidecar.log()
            )),
        }
    }

    /// Where clients connect.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its Unix socket, if it was started with one.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// Where it keeps its authorities and sockets.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs another command of the program with the same configuration and folders, and gives what it prints.
    ///
    /// # Errors
    /// Its exit code and what it says.
    pub fn command(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.binary);
        clean(&mut command, self.folder.path());
        let done = command
            .args(args)
            .arg("--config")
            .arg(self.folder.path().join("config.toml"))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        let errors = String::from_utf8_lossy(&done.stderr);
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
            false => Err(format!("{args:?}: {}: {errors}", done.status)),
        }
    }

    /// Does what a user does once: has clients of a domain be offered TLS. Returns the authority's file.
    ///
    /// # Errors
    /// What `xbosh ca` said.
    pub fn trust(&self, domain: &str) -> Result<PathBuf, String> {
        self.command(&["ca", "trust", domain])?;
        let path = self.command(&["ca", "path", domain])?;
        Ok(PathBuf::from(path.trim()))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// The process is not there.
    pub fn terminate(&self) -> Result<(), String> {
        // The shell's own kill: the program is not on every Debian.
        let order = format!("kill -TERM {}", self.process.id());
        helper("sh", &["-c", &order], "").map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is still there after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(None) => return Err(format!("xbosh still runs after {limit:?}")),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// What this process has in its environment for itself is kept from it; its folders are private.
fn clean(command: &mut Command, folder: &Path) {
    for name in ["https_proxy", "http_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    // Settings of the tests are none of its own.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("XBOSH_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", folder)
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_STATE_HOME", folder)
        .env("XDG_RUNTIME_DIR", folder);
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _ended = self.process.wait();
    }
}
