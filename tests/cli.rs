//! The command line as a user meets it: exit codes, what goes to stdout, what to stderr.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command as Plain, Stdio};

use assert_cmd::Command;
use insta::assert_snapshot;

const BINARY: &str = env!("CARGO_BIN_EXE_xbosh");

/// xbosh in an empty environment, with a configuration that ends it before it listens, unless `text` is fine.
struct Xbosh {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Xbosh {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder, file }
    }

    /// Exit code, stdout, stderr.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let output = Command::new(BINARY)
            .env_clear()
            .env("HOME", self.folder.path())
            .envs(variables.iter().copied())
            .args(arguments)
            .output()
            .unwrap();
        let shown = |bytes: Vec<u8>| {
            let folder = format!("{}/", self.folder.path().display());
            String::from_utf8(bytes).unwrap().replace(&folder, "")
        };
        let code = output.status.code().unwrap();
        (code, shown(output.stdout), shown(output.stderr))
    }

    fn with_file(&self, arguments: &[&str]) -> String {
        let file = self.file.to_str().unwrap();
        let (code, out, err) = self.run(&[&["--config", file], arguments].concat(), &[]);
        assert_eq!(out, "");
        format!("{code} {err}")
    }
}

fn with_arguments(arguments: &[&str]) -> String {
    let (code, out, err) = Xbosh::new("").run(arguments, &[]);
    assert_eq!(out, "");
    format!("{code} {err}")
}

#[test]
fn version_and_help_go_to_stdout() {
    let xbosh = Xbosh::new("");
    let version = format!("xbosh {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(xbosh.run(&["--version"], &[]), (0, version, String::new()));
    let (code, out, err) = xbosh.run(&["run", "--help"], &[("COLUMNS", "100")]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_snapshot!(out, @r"
    Run the sidecar (the default)

    Usage: xbosh run [OPTIONS]

    Options:
          --config <FILE>    Configuration file; else ~/.config/xbosh/config.toml, else
                             /etc/xbosh/config.toml
          --listen <ADDR>    Address to listen on, like 127.0.0.1:5222; may be repeated, replaces the
                             configured list
          --domain <DOMAIN>  XMPP domain whose connection manager --url names
          --url <URL>        BOSH address of --domain, like https://example.org/http-bind
          --proxy <URL>      Upstream proxy: env, none, or a URL without a password
          --log <LEVEL>      Log level: error, warn, info, debug, trace, or a filter
      -h, --help             Print help
    ");
    for flag in [
        "--config", "--listen", "--domain", "--url", "--proxy", "--log",
    ] {
        assert!(out.contains(flag), "{flag} is not in the help");
    }
}

#[test]
fn usage_mistakes_end_with_2() {
    assert_snapshot!(with_arguments(&["--listen", "localhost"]), @r"
    2 error: invalid value 'localhost' for '--listen <ADDR>': invalid socket address syntax

    For more information, try '--help'.
    ");
    assert_snapshot!(with_arguments(&["--domain", "example.org"]), @r"
    2 error: the following required arguments were not provided:
      --url <URL>

    Usage: xbosh --domain <DOMAIN> --url <URL>

    For more information, try '--help'.
    ");
    assert_snapshot!(with_arguments(&["--log", "loud"]), @r#"2 xbosh: --log: log.level must be error, warn, info, debug or trace, or a filter like "info,xbosh=debug""#);
    assert_snapshot!(with_arguments(&["--proxy", "ftp://proxy.example"]), @r#"2 xbosh: --proxy: proxy.url must be "env", "none", or a URL with http://, https://, socks5:// or socks5h://"#);
    for arguments in [
        &["--url", "https://x.example/"][..],
        &["fly"],
        &["--fly"],
        &["run", "--domain", "a@b", "--url", "https://x.example/"],
    ] {
        let said = with_arguments(arguments);
        assert!(said.starts_with("2 "), "{arguments:?}: {said}");
    }
}

/// P-13: a password in an argument is in every user's process list.
#[test]
fn p13_a_password_in_an_argument_is_refused() {
    for proxy in [
        "http://me:hunter2@proxy.example:3128",
        "me:hunter2@proxy.example:3128",
        "socks5://me:hun%20ter2@[::1]:9050",
    ] {
        let said = with_arguments(&["run", "--proxy", proxy]);
        assert!(
            said.starts_with("2 xbosh: --proxy holds a password"),
            "{said}"
        );
        assert!(!said.contains("hun"), "{said}");
    }
    assert_snapshot!(with_arguments(&["--proxy", "http://me:hunter2@proxy.example:3128"]), @"2 xbosh: --proxy holds a password, which every user of this machine can read; put it into the configuration file (proxy.password), a file (proxy.password_file) or the environment (XBOSH_PROXY__PASSWORD)");
    let said = with_arguments(&[
        "--domain",
        "a.example",
        "--url",
        "https://me:hunter2@x.example/",
    ]);
    assert!(
        said.starts_with("2 ") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn configuration_mistakes_end_with_78() {
    assert_snapshot!(Xbosh::new("[bosh]\nwaits = 5\n").with_file(&[]), @"78 xbosh: config.toml:2:1: unknown key bosh.waits; did you mean bosh.wait?");
    assert_snapshot!(Xbosh::new("listen = ['0.0.0.0:0']\n").with_file(&["run"]), @"78 xbosh: config.toml:1:1: listen has 0.0.0.0:0, which other machines can reach, and the way from a client to xbosh is not encrypted; set allow_remote_clients = true if that is what you want");
    assert_snapshot!(with_arguments(&["--config", "/nonexistent/config.toml"]), @"78 xbosh: cannot read the configuration file /nonexistent/config.toml: no such file or directory");
    let (code, _, err) = Xbosh::new("").run(&[], &[("XBOSH_BOSH__WAIT", "0")]);
    assert_snapshot!(format!("{code} {err}"), @"78 xbosh: environment variable XBOSH_BOSH__WAIT: bosh.wait must be from 1 to 3600 s");
    let (code, _, err) = Xbosh::new("").run(&[], &[("https_proxy", "http://me:hunter2@[")]);
    assert_snapshot!(format!("{code} {err}"), @"78 xbosh: environment variable https_proxy is no proxy URL; correct it, or set proxy.url");
}

/// B-70: plain http from the command line, too.
#[test]
fn b70_plain_http_ends_with_78() {
    assert_snapshot!(with_arguments(&["--domain", "example.org", "--url", "http://cm.example/bosh"]), @r#"78 xbosh: --url: domains."example.org".url is http, so everybody on the way could read the password; use https, or set allow_plain_http = true beside it"#);
}

#[test]
fn the_file_is_found_and_flags_may_stand_before_run() {
    let xbosh = Xbosh::new("");
    let user = xbosh.folder.path().join(".config/xbosh");
    fs::create_dir_all(&user).unwrap();
    fs::write(user.join("config.toml"), "[bosh]\nwait = 0\n").unwrap();
    let (code, _, err) = xbosh.run(&["run"], &[]);
    assert_snapshot!(format!("{code} {err}"), @"78 xbosh: .config/xbosh/config.toml:2:1: bosh.wait must be from 1 to 3600 s");
    let file = xbosh.file.to_str().unwrap();
    let (code, _, err) = xbosh.run(&["--config", file, "run", "--log", "loud"], &[]);
    assert!(code == 2 && err.starts_with("xbosh: --log"), "{code} {err}");
}

/// An address that is taken: a failure at run time, after the log has begun.
fn blocked(log: &str, variables: &[(&str, &str)]) -> (i32, String, String) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let xbosh = Xbosh::new(&format!("listen = ['{address}']\n[log]\n{log}\n"));
    let file = xbosh.file.to_str().unwrap();
    let variables = [variables, &[("XBOSH_TYPO", "x")]].concat();
    let (code, out, err) = xbosh.run(&["--config", file], &variables);
    (code, out, err.replace(&address.to_string(), "ADDRESS"))
}

#[test]
fn a_taken_address_ends_with_1() {
    let (code, out, err) = blocked("level = 'error'", &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with("xbosh: cannot listen on ADDRESS: "),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn the_log_goes_to_stderr_without_time_or_colour() {
    let (_, out, err) = blocked("", &[]);
    assert_eq!(out, "");
    assert_snapshot!(err.lines().next().unwrap(), @"WARN environment variable XBOSH_TYPO: unknown key typo; it is ignored");
}

#[test]
fn json_logs_are_one_object_a_line() {
    let (_, _, err) = blocked("format = 'json'", &[]);
    let line = err.lines().next().unwrap();
    assert!(
        line.starts_with(r#"{"timestamp":""#) && line.ends_with('}'),
        "{line}"
    );
    assert!(
        line.contains(r#""level":"WARN""#) && line.contains("XBOSH_TYPO"),
        "{line}"
    );
}

/// sd-daemon(3): a priority in front of each line, but only where stderr really is the journal.
#[test]
fn lines_for_the_journal_carry_their_priority() {
    let xbosh = Xbosh::new("");
    let first_line = |own: bool| {
        let path = xbosh.folder.path().join("log");
        let log = fs::File::create(&path).unwrap();
        let meta = log.metadata().unwrap();
        let inode = if own { meta.ino() } else { meta.ino() + 1 };
        let missing = ["--domain", "a.example", "--url", "https://a.example/"];
        Plain::new(BINARY)
            .env_clear()
            .env("HOME", xbosh.folder.path())
            .env("XBOSH_TYPO", "x")
            // It ends before it listens.
            .env("XBOSH_TLS__CA_FILE", "/nonexistent/roots.pem")
            .env("JOURNAL_STREAM", format!("{}:{inode}", meta.dev()))
            .args(missing)
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .unwrap();
        let text = fs::read_to_string(path).unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_snapshot!(first_line(true), @"<4>environment variable XBOSH_TYPO: unknown key typo; it is ignored");
    assert_snapshot!(first_line(false), @"WARN environment variable XBOSH_TYPO: unknown key typo; it is ignored");
}
