//! The unit files, as systemd itself judges it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what is wrong by failing"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use xbosh_testkit::real::available::skipped;

const UNIT: &str = include_str!("../systemd/xbosh.service");
const SOCKET: &str = include_str!("../systemd/xbosh.socket");

/// Past the test runner's capture.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `systemd-analyze` on these of our units, where the service starts the binary just built. `None` if there is no
/// such program.
fn analyze(arguments: &[&str], units: &[&str]) -> Option<Output> {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("xbosh.service");
    let binary = env!("CARGO_BIN_EXE_xbosh");
    assert!(Path::new(binary).is_file());
    let text = UNIT.replace("%h/.cargo/bin/xbosh", binary);
    assert!(text.contains(&format!("ExecStart={binary} run\n")));
    fs::write(&unit, text).unwrap();
    fs::write(folder.path().join("xbosh.socket"), SOCKET).unwrap();
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(units.iter().map(|unit| folder.path().join(unit)))
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("HOME", folder.path())
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skipped("systemd-analyze is not installed");
            None
        }
        Err(error) => panic!("systemd-analyze: {error}"),
    }
}

#[test]
fn the_units_are_valid() {
    let units = ["xbosh.service", "xbosh.socket"];
    let Some(output) = analyze(&["verify", "--user", "--man=no"], &units) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stderr);
    // Other units of the machine may be worth a line, too.
    let about_us: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("xbosh."))
        .collect();
    assert!(output.status.success() && about_us.is_empty(), "{text}");
}

/// systemd's own measure of what a service may still do, from 0 to 10, where a unit that forbids nothing has 9.6. What a
/// user manager cannot take away without privileges, and the network, are most of the rest.
const MOST_EXPOSURE: f32 = 6.0;

#[test]
fn the_unit_is_a_sandbox() {
    let arguments = ["security", "--offline=yes", "--no-pager"];
    let Some(output) = analyze(&arguments, &["xbosh.service"]) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find(|line| line.contains("exposure level")) {
        Some(line) => {
            say(line.trim_start_matches(['→', ' ']));
            let figure = line.split(": ").nth(1).unwrap();
            let figure: f32 = figure.split(' ').next().unwrap().parse().unwrap();
            assert!(figure <= MOST_EXPOSURE, "{line}");
        }
        None => skipped("this systemd-analyze has no security --offline"),
    }
}

/// A service of the user manager, stopped when dropped.
struct Transient(String);

impl Transient {
    /// The unit's settings with these in place of its folders, around this program.
    fn start(folder: &Path, runtime: &str) -> Self {
        let name = format!("xbosh-test-{}", std::process::id());
        let program = env!("CARGO_BIN_EXE_xbosh");
        let mut command = Command::new("systemd-run");
        command.args(["--user", "--quiet", "--collect", "--unit", &name]);
        let service = UNIT.split("[Service]").nth(1).unwrap();
        let service = service.split("[Install]").next().unwrap();
        for line in service.lines().filter(|line| line.contains('=')) {
            // Commands and a folder of the same name are the installed one's.
            let others = ["#", "Exec", "RuntimeDirectory="];
            // A program that was built in there could not be found.
            let hides_it = line == "PrivateTmp=yes" && program.starts_with("/tmp/");
            if !hides_it && others.iter().all(|other| !line.starts_with(other)) {
                let line = line.replace("%h", &folder.display().to_string());
                command.args(["-p", &line.replace("%t", runtime)]);
            }
        }
        command.args(["-p", &format!("RuntimeDirectory={name}")]);
        for stream in ["output", "error"] {
            let file = folder.join(stream);
            command.args([
                "-p",
                &format!("Standard{}=file:{}", capital(stream), file.display()),
            ]);
        }
        command
            .arg(format!("--setenv=HOME={}", folder.display()))
            .arg(format!("--setenv=XDG_RUNTIME_DIR={runtime}/{name}"))
            .args(["--setenv=XBOSH_DISCOVERY__HOST_META=false", "--"])
            .args([program, "run", "--listen", "127.0.0.1:0"]);
        // Done once it has said that it is ready.
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let log = fs::read_to_string(folder.join("error")).unwrap_or_default();
        assert!(output.status.success(), "{said}{log}");
        Self(name)
    }
}

impl Drop for Transient {
    fn drop(&mut self) {
        let stop = ["--user", "--quiet", "stop", &self.0];
        // It may have ended by itself, which the test has seen then.
        let _ = Command::new("systemctl").args(stop).status();
    }
}

fn capital(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

/// Everything that the unit forbids, around a running xbosh: it becomes ready, serves a client, is asked for its status.
#[test]
fn xbosh_runs_under_the_units_settings() {
    use std::io::Read as _;
    let manager = Command::new("systemctl")
        .args(["--user", "show-environment"])
        .output();
    let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap_or_default();
    if !manager.is_ok_and(|manager| manager.status.success()) || runtime.is_empty() {
        return say("left out: the unit's settings around xbosh (no systemd user manager here)");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".local/state/xbosh")).unwrap();
    let service = Transient::start(folder.path(), &runtime);
    let ready = fs::read_to_string(folder.path().join("output")).unwrap();
    let address = ready.trim().strip_prefix("listening on ").unwrap();
    let mut client = std::net::TcpStream::connect(address).unwrap();
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let header = "<stream:stream to='unknown.example' version='1.0' xmlns='jabber:client' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    client.write_all(header.as_bytes()).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.contains("no BOSH address is known"), "{text}");
    let socket = Path::new(&runtime).join(&service.0).join("xbosh.sock");
    let status = Command::new(env!("CARGO_BIN_EXE_xbosh"))
        .arg("status")
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap();
    assert!(status.status.success(), "{status:?}");
    let log = fs::read_to_string(folder.path().join("error")).unwrap();
    assert!(!log.contains("no status socket"), "{log}");
}

#[test]
fn the_unit_restarts_what_can_get_better() {
    for line in [
        "Type=notify",
        "WatchdogSec=30",
        "Restart=on-failure",
        "RestartPreventExitStatus=78 2",
    ] {
        assert!(UNIT.lines().any(|other| other == line), "{line}");
    }
}

/// What an unprivileged user manager cannot do ends a service with 218/CAPABILITIES; the rest must be there.
#[test]
fn the_unit_fits_a_user_manager() {
    let directives: Vec<(&str, &str)> = UNIT
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    for dropping in [
        "AmbientCapabilities",
        "CapabilityBoundingSet",
        "PrivateDevices",
        "ProtectClock",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "SupplementaryGroups",
        "User",
    ] {
        assert!(
            directives.iter().all(|(name, _)| *name != dropping),
            "{dropping}"
        );
    }
    for needed in [
        ("Type", "notify"),
        ("WatchdogSec", "30"),
        ("Restart", "on-failure"),
        ("RestartPreventExitStatus", "78 2"),
        ("NoNewPrivileges", "yes"),
        ("SystemCallFilter", "@system-service"),
        // The last one tells of changes of the network.
        (
            "RestrictAddressFamilies",
            "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        ),
        // The authorities, in a home that is read-only otherwise; the folder is made outside the sandbox.
        ("ReadWritePaths", "-%h/.local/state/xbosh"),
        (
            "ExecStartPre",
            "+-/usr/bin/mkdir -p -m 0700 %h/.local/state/xbosh",
        ),
    ] {
        assert!(directives.contains(&needed), "{needed:?}");
    }
}

/// systemd's own default would let everybody in; only stream sockets on this machine are of use.
#[test]
fn the_socket_unit_is_for_this_user() {
    let directives: Vec<(&str, &str)> = SOCKET
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .collect();
    assert!(directives.contains(&("SocketMode", "0600")));
    let listens: Vec<&str> = directives
        .iter()
        .filter(|(name, _)| name.starts_with("Listen"))
        .map(|(name, value)| {
            assert_eq!(*name, "ListenStream");
            *value
        })
        .collect();
    assert_eq!(listens, ["127.0.0.1:5222", "%t/xbosh.socket"]);
    assert!(UNIT.lines().any(|line| line == "Also=xbosh.socket"));
}
