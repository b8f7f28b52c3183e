//! `xbosh check` on the whole way: a real proxy with a password, TLS, a real connection manager.

use std::process::Command;

use crate::support::{Scheme, Site, Way, config_to};

/// Every hop is fine, and the manager is known by its ways.
fn check(site: Site) {
    if !Way::Squid.available(site) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, config_to(site, Scheme::Https, Way::Squid)).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xbosh"))
        .args(["check", site.server().domain(), "--json", "--config"])
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{said}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let hops = report["hops"].as_array().unwrap();
    let told = |name: &str| {
        let hop = hops.iter().find(|hop| hop["hop"] == name);
        hop.and_then(|hop| hop["text"].as_str()).unwrap_or_default()
    };
    let server = match site {
        Site::Prosody => "seems to be Prosody",
        Site::Ejabberd => "seems to be ejabberd",
    };
    assert!(told("session").contains(server), "{text}");
    assert!(
        told("proxy").contains("is reached and connects to"),
        "{text}"
    );
    assert!(told("tls").starts_with("TLS 1."), "{text}");
    assert!(told("features").contains("SCRAM-SHA-1"), "{text}");
    assert!(told("round-trip").contains("exchange"), "{text}");
    assert!(hops.iter().all(|hop| hop["outcome"] != "failed"), "{text}");
}

#[test]
fn prosody_https_squid() {
    check(Site::Prosody);
}

#[test]
fn ejabberd_https_squid() {
    check(Site::Ejabberd);
}
