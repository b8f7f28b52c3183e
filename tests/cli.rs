//! The real binary: exit codes, ready lines, signals, messages to systemd.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

#[path = "cli/ca.rs"]
mod ca;
#[path = "cli/questions.rs"]
mod questions;
#[path = "cli/reload.rs"]
mod reload;
#[path = "cli/service.rs"]
mod service;
#[path = "cli/sockets.rs"]
mod sockets;
#[path = "cli/status.rs"]
mod status;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use xbosh_testkit::real::available::skipped;

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// What "quickly" means on a busy machine. The limit of a stop is 5 s.
const SOON: Duration = Duration::from_secs(3);

/// An empty home.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// The binary with nothing in its environment but this home.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbosh"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path())
            // Nothing outside this machine is asked.
            .env("XBOSH_DISCOVERY__HOST_META", "false")
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end: exit code, stdout, stderr.
    fn ends(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = assert_cmd::Command::from_std(self.command(arguments))
            .timeout(PATIENCE)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Exit code and sentence of a run that must print nothing else.
    fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let (code, stdout, stderr) = self.ends(arguments);
        let stderr = without_the_hint(&stderr);
        assert_eq!(stdout, "");
        let folder = format!("{}/", self.path().display());
        (code, stderr.replace(&folder, ""))
    }
}

/// What was said, without the line about the runtime folder, which these homes do not have.
fn without_the_hint(stderr: &str) -> String {
    let lines = stderr.split_inclusive('\n');
    lines
        .filter(|line| !line.starts_with("INFO no status socket"))
        .collect()
}

/// A running binary; killed when dropped.
struct Running {
    pid: Pid,
    lines: Receiver<String>,
    ended: Receiver<(ExitStatus, String)>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        let (stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (line, lines) = channel();
        let (end, ended) = channel();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
        });
        thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            let _ = end.send((child.wait().unwrap(), log));
        });
        Self { pid, lines, ended }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The address of the next ready line.
    fn address(&self) -> SocketAddr {
        let line = self.line();
        let address = line.strip_prefix("listening on ").unwrap();
        address.parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    fn end(&self, limit: Duration) -> (Option<i32>, String) {
        let (status, log) = self.ended.recv_timeout(limit).unwrap();
        (status.code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Still there only when its test has failed.
        if self.ended.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            let _ = kill_process(self.pid, Signal::KILL);
        }
    }
}

#[test]
fn help_and_version() {
    let home = Home::new();
    let (code, help, stderr) = home.ends(&["--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for flag in [
        "--config", "--listen", "--domain", "--url", "--proxy", "--log", "run",
    ] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
    let version = format!("xbosh {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(home.ends(&["--version"]), (0, version, String::new()));
}

#[test]
fn one_line_for_each_address_and_an_orderly_end() {
    for arguments in [
        &["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"][..],
        &["run", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        &[
            "--listen",
            "[::1]:0",
            "run",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
        ],
    ] {
        let home = Home::new();
        let running = Running::start(home.command(arguments));
        let addresses = [running.address(), running.address()];
        for address in addresses {
            assert!(address.ip().to_string() == "127.0.0.1" && address.port() != 0);
            drop(TcpStream::connect(address).unwrap());
        }
        running.signal(Signal::TERM);
        assert_eq!(running.end(SOON).0, Some(0));
        assert!(
            running.lines.recv_timeout(PATIENCE).is_err(),
            "more on stdout"
        );
    }
}

/// A client whose domain has no connection manager, so that it is told to go at once.
fn answered(address: SocketAddr) {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let header = "<stream:stream to='unknown.example' version='1.0' xmlns='jabber:client' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    client.write_all(header.as_bytes()).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains("no BOSH address is known"), "{text}");
}

/// S-47, with a client that only waits.
#[test]
fn s47_signals_end_it_quickly() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let running = Running::start(home.command(&["--listen", "127.0.0.1:0"]));
        let address = running.address();
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        // Once a later one is answered, the first has been accepted.
        answered(address);
        running.signal(signal);
        let (code, log) = running.end(SOON);
        assert_eq!(code, Some(0), "{log}");
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("<system-shutdown"), "{rest}");
        assert!(rest.ends_with("</stream:stream>"), "{rest}");
    }
}

#[test]
fn an_address_in_use() {
    let home = Home::new();
    let first = Running::start(home.command(&["--listen", "127.0.0.1:0"]));
    let address = first.address().to_string();
    let (code, sentence) = home.fails(&["--listen", &address]);
    assert_eq!(code, 1);
    assert_eq!(
        sentence,
        format!(
            "xbosh: cannot listen on {address}: another program uses this address, perhaps a second xbosh; \
             stop it or set another `listen`\n"
        )
    );
    first.signal(Signal::TERM);
    assert_eq!(first.end(SOON).0, Some(0));
    // The port is free at once.
    let second = Running::start(home.command(&["--listen", &address]));
    assert_eq!(second.address().to_string(), address);
}

#[test]
fn no_half_start_when_one_address_is_in_use() {
    let home = Home::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _) = home.fails(&["--listen", "127.0.0.1:0", "--listen", &address]);
    assert_eq!(code, 1);
}

#[test]
fn wrong_usage() {
    let home = Home::new();
    for arguments in [
        &["--domain", "example.org"][..],
        &["--url", "https://example.org/"],
        &["run", "--domain", "example.org"],
        &["--listen", "nonsense"],
        &["--nonsense"],
        &["nonsense"],
    ] {
        let (code, text) = home.fails(arguments);
        assert_eq!(code, 2, "{arguments:?}: {text}");
    }
    let (_, text) = home.fails(&["--domain", "example.org"]);
    assert!(text.contains("--url <URL>"), "{text}");
}

#[test]
fn a_password_in_an_argument() {
    let home = Home::new();
    for proxy in [
        "http://juliet:zebra@p.example",
        "juliet:zebra@p.example:3128",
        "http://juliet:12/zebra@p.example",
    ] {
        for arguments in [&["--proxy", proxy][..], &["run", "--proxy", proxy]] {
            let (code, sentence) = home.fails(arguments);
            assert_eq!(code, 2);
            insta::allow_duplicates! {
                insta::assert_snapshot!(sentence, @"xbosh: --proxy holds a password, which every user of this machine can read; put it into the configuration file (proxy.password), a file (proxy.password_file) or the environment (XBOSH_PROXY__PASSWORD)");
            }
        }
    }
}

#[test]
fn a_configuration_that_cannot_be_used() {
    let home = Home::new();
    home.write("typo.toml", "[bosh]\nwiat = 5\n");
    home.write(
        "secret.toml",
        "[proxy]\nusername = 'juliet'\npassword = 'zebra'\n",
    );
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(home.path().join("secret.toml"), open).unwrap();
    home.write(
        "roots.toml",
        "[domains.'example.org']\nurl = 'https://example.org/'\nca_file = 'missing.pem'\n",
    );
    fs::create_dir(home.path().join("folder")).unwrap();
    let mut text = String::new();
    for arguments in [
        &["--config", "missing.toml"][..],
        &["--config", "folder"],
        &["--config", "typo.toml"],
        &["run", "--config", "typo.toml"],
        &["--config", "secret.toml"],
        &["--config", "roots.toml", "--listen", "127.0.0.1:0"],
        &["--listen", "0.0.0.0:0"],
        &["--log", "loud"],
        &["--proxy", "ftp://p.example"],
        &["--domain", "a@b", "--url", "https://example.org/"],
        &["--domain", "example.org", "--url", "http://example.org/"],
    ] {
        let (code, sentence) = home.fails(arguments);
        assert_eq!(code, 78, "{arguments:?}: {sentence}");
        text.push_str(&sentence);
    }
    insta::assert_snapshot!(text, @r#"
    xbosh: cannot read the configuration file missing.toml: no such file or directory
    xbosh: cannot read the configuration file folder: is a directory
    xbosh: typo.toml:2:1: unknown key bosh.wiat; did you mean bosh.wait?
    xbosh: typo.toml:2:1: unknown key bosh.wiat; did you mean bosh.wait?
    xbosh: secret.toml holds a password and others can read it: chmod 600 secret.toml
    xbosh: tls.ca_file = missing.pem: no such file or directory
    xbosh: --listen: listen has 0.0.0.0:0, which other machines can reach; set allow_remote_clients = true if that is what you want: clients there are then served over TLS only
    xbosh: --log: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug"
    xbosh: --proxy: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://
    xbosh: --domain: domains."a@b" is no domain name
    xbosh: --url: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it
    "#);
}

#[test]
fn the_users_file_is_read_and_may_be_wrong() {
    let home = Home::new();
    fs::create_dir_all(home.path().join(".config/xbosh")).unwrap();
    home.write(
        ".config/xbosh/config.toml",
        "listen = ['127.0.0.1:0', '127.0.0.1:0']\n",
    );
    let running = Running::start(home.command(&[]));
    assert_ne!(running.address(), running.address());
    home.write(".config/xbosh/config.toml", "lisen = []\n");
    let (code, sentence) = home.fails(&[]);
    assert_eq!(code, 78);
    insta::assert_snapshot!(sentence, @"xbosh: .config/xbosh/config.toml:1:1: unknown key lisen; did you mean listen?");
}

#[test]
fn variables_are_read() {
    let home = Home::new();
    let mut command = home.command(&[]);
    command
        .env("XBOSH_LISTEN", "127.0.0.1:0")
        .env("XBOSH_LISTN", "1");
    let running = Running::start(command);
    assert_ne!(running.address().port(), 5222);
    running.signal(Signal::TERM);
    let (code, log) = running.end(SOON);
    assert_eq!(code, Some(0));
    assert!(
        log.contains("ignored: environment variable XBOSH_LISTN"),
        "{log}"
    );
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = home.command(&["--listen", "127.0.0.1:0"]);
    command.env("https_proxy", OsStr::from_bytes(b"http://p\xff.example"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "xbosh: environment variable https_proxy: must be UTF-8\n"
    );
}

#[test]
fn it_runs_without_a_home() {
    let home = Home::new();
    let mut command = home.command(&["--listen", "127.0.0.1:0"]);
    command.env_remove("HOME");
    let running = Running::start(command);
    assert_ne!(running.address().port(), 0);
}

/// S-01: only with the key, and never without a warning.
#[test]
fn s01_listening_for_other_machines_warns() {
    let home = Home::new();
    let file = home.write("config.toml", "allow_remote_clients = true\n");
    let file = file.display().to_string();
    let running = Running::start(home.command(&["--config", &file, "--listen", "0.0.0.0:0"]));
    assert!(running.address().ip().is_unspecified());
    running.signal(Signal::TERM);
    let (code, log) = running.end(SOON);
    assert_eq!(code, Some(0));
    assert!(
        log.contains("WARN") && log.contains("clients on other machines can reach 0.0.0.0:0"),
        "{log}"
    );
}

/// B-73: not even at trace level.
#[test]
fn b73_a_log_shows_no_password() {
    let home = Home::new();
    let file = home.write(
        "config.toml",
        "[proxy]\nurl = 'http://juliet:zebra@p.example'\n\
         [domains.'a.example']\nurl = 'https://a.example/'\n\
         [domains.'a.example'.proxy]\nurl = 'env'\nusername = 'juliet'\npassword = 'zebra'\n",
    );
    let file = file.display().to_string();
    let arguments = [
        "--config",
        &file,
        "--listen",
        "127.0.0.1:0",
        "--log",
        "trace",
    ];
    let mut command = home.command(&arguments);
    command.env("HTTPS_PROXY", "http://juliet:zebra@p.example");
    let running = Running::start(command);
    running.address();
    running.signal(Signal::TERM);
    let (code, log) = running.end(SOON);
    assert_eq!(code, Some(0));
    assert!(
        log.contains("configuration read") && !log.contains("zebra"),
        "{log}"
    );
}

#[test]
fn logs_as_json() {
    let home = Home::new();
    let mut command = home.command(&["--listen", "127.0.0.1:0", "--log", "debug"]);
    command.env("XBOSH_LOG__FORMAT", "json");
    let running = Running::start(command);
    running.address();
    running.signal(Signal::TERM);
    let (_, log) = running.end(SOON);
    assert!(log.lines().count() > 1);
    assert!(
        log.lines()
            .all(|line| line.starts_with('{') && line.ends_with('}')),
        "{log}"
    );
}

/// What systemd's end of the notify socket receives.
fn message(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
}

#[test]
fn systemd_is_told_of_start_and_stop() {
    let home = Home::new();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = home.command(&["--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &path);
    let running = Running::start(command);
    assert_eq!(message(&socket), "READY=1");
    drop(TcpStream::connect(running.address()).unwrap());
    running.signal(Signal::TERM);
    assert_eq!(message(&socket), "STOPPING=1");
    assert_eq!(running.end(SOON).0, Some(0));
}

#[test]
fn the_watchdog_is_fed() {
    let home = Home::new();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = home.command(&["--listen", "127.0.0.1:0"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let running = Running::start(command);
    assert_eq!(message(&socket), "READY=1");
    for _ in 0..3 {
        assert_eq!(message(&socket), "WATCHDOG=1");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.end(SOON).0, Some(0));
}

#[test]
fn no_ready_message_when_it_cannot_start() {
    let home = Home::new();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = home.command(&["--listen", &address]);
    command.env("NOTIFY_SOCKET", &path);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    assert!(socket.recv(&mut [0; 8]).is_err());
}
