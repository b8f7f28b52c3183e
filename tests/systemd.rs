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

#[test]
fn the_unit_is_a_sandbox() {
    let arguments = ["security", "--offline=yes", "--no-pager"];
    let Some(output) = analyze(&arguments, &["xbosh.service"]) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find(|line| line.contains("exposure level")) {
        Some(line) => say(line.trim_start_matches(['→', ' '])),
        None => skipped("this systemd-analyze has no security --offline"),
    }
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
