//! The unit file, as systemd itself judges it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking and says what it leaves out"
)]

use std::fs;
use std::process::Command;

fn unit() -> String {
    fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/systemd/xbosh.service"
    ))
    .unwrap()
}

/// `systemd-analyze verify` for a user manager: unknown directives and values, programs that are not there.
#[test]
fn the_unit_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("xbosh.service");
    // Not installed here.
    let installed = "ExecStart=%h/.cargo/bin/xbosh run";
    let ours = format!("ExecStart={} run", env!("CARGO_BIN_EXE_xbosh"));
    let unit = unit();
    assert!(unit.contains(installed));
    fs::write(&path, unit.replace(installed, &ours)).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["--user", "verify", "--man=no"])
        .arg(&path)
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("SYSTEMD_LOG_COLOR", "0")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("left out: systemd-analyze verify ({error})");
            return;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("Failed to initialize manager") || said.contains("Failed to lookup") {
        eprintln!("left out: systemd-analyze verify (no user manager here: {said})");
        return;
    }
    // Other units of this machine are not ours to judge.
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("xbosh")).collect();
    assert!(about_us.is_empty() && output.status.success(), "{said}");
}

/// What an unprivileged user manager cannot do ends a service with 218/CAPABILITIES; the rest must be there.
#[test]
fn the_unit_fits_a_user_manager() {
    let unit = unit();
    let directives: Vec<(&str, &str)> = unit
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
    ] {
        assert!(directives.contains(&needed), "{needed:?}");
    }
}
