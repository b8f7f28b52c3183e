//! Runs the program into a failure, and writes down all that it says of it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use xbosh_testkit::Service;
use xbosh_testkit::client::{Client, ClientError, Place};

/// The domain that everything is about.
pub(crate) const DOMAIN: &str = "example.org";
/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// One failure to be.
pub(crate) struct Case {
    folder: tempfile::TempDir,
    /// What differs from run to run, and what stands for it.
    names: Vec<(String, String)>,
    /// In front of the program: another user, another network.
    prefix: Vec<String>,
    environment: Vec<(String, String)>,
    listen: String,
    file: PathBuf,
    levels: &'static [&'static str],
}

impl Case {
    /// With this configuration file.
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("config.toml");
        let case = Self {
            names: vec![(format!("{}/", folder.path().display()), String::new())],
            prefix: Vec::new(),
            environment: Vec::new(),
            listen: "127.0.0.1:0".into(),
            levels: &["WARN", "ERROR"],
            file,
            folder,
        };
        case.write("config.toml", config, 0o600);
        case
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// This address is called so.
    pub(crate) fn named(mut self, address: SocketAddr, name: &str) -> Self {
        self.names.push((address.to_string(), name.to_owned()));
        self
    }

    /// The program is started by another one.
    pub(crate) fn by(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub(crate) fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.into(), value.into()));
        self
    }

    pub(crate) fn listening(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }

    /// Milder lines of the log count, too.
    pub(crate) const fn with_notes(mut self) -> Self {
        self.levels = &["INFO", "WARN", "ERROR"];
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_xbosh");
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(arguments)
            .arg("--config")
            .arg(&self.file)
            .env_clear()
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in &self.environment {
            if value.is_empty() {
                command.env_remove(name);
            }
        }
        command
    }

    /// Without what differs from run to run.
    fn plain(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (what, name) in &self.names {
            text = text.replace(what, name);
        }
        let text = digits_behind(&text, "127.0.0.1:", "PORT");
        let text = digits_behind(&text, "it expired ", "N");
        let text = date_behind(&text, "this machine's clock says ");
        text.trim_end().to_owned()
    }

    /// `xbosh check`: its exit code, the hops that are not fine, and its advice.
    pub(crate) async fn check(&self) -> String {
        let output = self.command(&["check", DOMAIN]).output();
        let output = tokio::time::timeout(PATIENCE, output)
            .await
            .unwrap()
            .unwrap();
        let mut shown = String::new();
        let out = String::from_utf8(output.stdout).unwrap();
        for line in out.lines() {
            // The second column of a hop.
            let is_fine = line
                .get(12..19)
                .is_some_and(|outcome| outcome.trim() == "ok");
            let is_end = line.starts_with("A client ") || line.starts_with("In ~/.config");
            if !(line.is_empty() || is_fine || is_end) {
                writeln!(shown, "    {}", line.trim_start()).unwrap();
            }
        }
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            writeln!(shown, "    {line}").unwrap();
        }
        let code = output.status.code().unwrap();
        format!("check, exit code {code}\n{}\n", self.plain(&shown))
    }

    /// `xbosh run`: its log and what a client is told; or its last words, if it does not start.
    pub(crate) async fn run(&self) -> String {
        let mut process = self
            .command(&["run", "--listen", &self.listen])
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        let client = match ready.unwrap().unwrap() {
            Some(line) => {
                let told = told(line.strip_prefix("listening on ").unwrap()).await;
                let pid = Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap()).unwrap();
                kill_process(pid, Signal::TERM).unwrap();
                Some(told)
            }
            None => None,
        };
        let mut log = String::new();
        let mut stderr = process.stderr.take().unwrap();
        stderr.read_to_string(&mut log).await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, process.wait()).await;
        let code = ended.unwrap().unwrap().code();
        let Some(client) = client else {
            let log: String = log.lines().map(|line| format!("    {line}\n")).collect();
            return format!("run, exit code {}\n{}\n", code.unwrap(), self.plain(&log));
        };
        // How often something is tried again is not the matter here.
        let mut seen = HashSet::new();
        let log: String = log
            .lines()
            .filter(|line| self.levels.iter().any(|level| line.starts_with(level)))
            .filter(|line| seen.insert(line.to_owned()))
            .map(|line| format!("    {line}\n"))
            .collect();
        format!(
            "log\n{}\nclient\n    {}\n",
            self.plain(&log),
            self.plain(&client)
        )
    }

    /// All that is said.
    pub(crate) async fn told(&self, name: &str) -> String {
        format!("== {name}\n{}{}\n", self.check().await, self.run().await)
    }

    /// What is said by a program that does not start for a reason that `check` does not meet.
    pub(crate) async fn told_by_run(&self, name: &str) -> String {
        format!("== {name}\n{}\n", self.run().await)
    }
}

/// What a client of the domain hears.
async fn told(address: &str) -> String {
    let place = match address.strip_prefix("unix:") {
        Some(path) => Place::Unix(path.into()),
        None => Place::Tcp(address.parse().unwrap()),
    };
    let mut client = Client::connect(place, DOMAIN).await.unwrap();
    client.set_deadline(PATIENCE);
    match client.open().await {
        Err(ClientError::Stream(error)) => {
            let detail = error.app.map(|(_, name)| format!(", {name}"));
            format!(
                "{}{}: {}",
                error.condition,
                detail.unwrap_or_default(),
                error.text.unwrap_or_default()
            )
        }
        Ok(_) => "can log in".into(),
        Err(other) => panic!("{other}"),
    }
}

/// Replaces the number that follows.
fn digits_behind(text: &str, before: &str, name: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        out.push_str(before);
        out.push_str(if rest.len() < part.len() { name } else { "" });
        out.push_str(rest);
    }
    out
}

/// Replaces the date that follows.
fn date_behind(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        out.push_str(before);
        out.push_str("DATE");
        out.push_str(rest);
    }
    out
}

/// A web server that is told something that is not HTTP.
pub(crate) async fn no_tls() -> Service {
    Service::start(|mut stream| async move {
        if matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {
            // The client may have gone.
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                .await;
        }
    })
    .await
}

/// Past the test runner's capture.
pub(crate) fn left_out(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "left out: {what}");
}

/// In front of a program that is to run as somebody who owns nothing; `None` if this is not root, or cannot.
pub(crate) fn as_nobody() -> Option<[&'static str; 5]> {
    let words = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--",
    ];
    if !xbosh_testkit::real::daemon::is_root() {
        return None;
    }
    let works = std::process::Command::new(words[0])
        .args(&words[1..])
        .arg("true")
        .status()
        .is_ok_and(|status| status.success());
    works.then_some(words)
}
