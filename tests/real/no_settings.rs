//! No settings at all: the environment names the proxy, the domain's host-meta names the connection manager.

use std::path::Path;
use tokio::process::Command;
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{PROXY_PASSWORD, PROXY_USER, Sidecar, Squid};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, xrd};

use crate::libraries;
use crate::support::Site;

/// Would be read where there is no user's file.
const SYSTEM_FILE: &str = "/etc/xbosh/config.toml";

/// A web server at port 443 of some loopback address: of the test's own, so that another's server is not in the way.
async fn web_host(authority: &Authority, domain: &str) -> Result<WebHost, String> {
    let [.., low, high] = std::process::id().to_be_bytes();
    let address = ([127, 53, low, high.clamp(1, 254)], 443).into();
    let acceptor = authority.acceptor(&[domain]);
    WebHost::start_at(address, Some(acceptor))
        .await
        .map_err(|error| format!("no web server at {address}: {error}"))
}

/// A squid that demands a password and alone knows the domain's name, a web server at the domain's port 443, and
/// Prosody's https port: `HTTPS_PROXY` is all that xbosh is given, and slixmpp chats through it.
#[tokio::test]
async fn slixmpp_with_nothing_but_https_proxy() {
    let site = Site::Prosody;
    if !available::all(&[Program::Prosody, Program::Squid]) {
        return;
    }
    if Path::new(SYSTEM_FILE).exists() {
        return available::skipped(&format!("{SYSTEM_FILE} is there"));
    }
    let server = site.server();
    let domain = server.domain();
    let authority = Authority::new();
    let web = match web_host(&authority, domain).await {
        Ok(web) => web,
        Err(why) => return available::skipped(&why),
    };
    let manager = server.bosh_url(true, "localhost");
    web.page("/.well-known/host-meta", &xrd(&[(BOSH, &manager)]));
    let squid = Squid::start_with_hosts(&format!("{} {domain}\n", web.addr().ip())).unwrap();

    // The machine's own roots, as far as xbosh can tell.
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    let pem = authority.pem() + &std::fs::read_to_string(server.ca_file()).unwrap();
    std::fs::write(&roots, pem).unwrap();
    let proxy = format!("http://{PROXY_USER}:{PROXY_PASSWORD}@{}", squid.addr());
    let environment = [
        ("HTTPS_PROXY", proxy.as_str()),
        ("SSL_CERT_FILE", roots.to_str().unwrap()),
    ];

    let check = Command::new(env!("CARGO_BIN_EXE_xbosh"))
        .args(["check", domain])
        .env_clear()
        .env("HOME", folder.path())
        .envs(environment)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert_eq!(check.status.code(), Some(0), "{said}");
    assert!(said.contains("no file, defaults and environment"), "{said}");
    assert!(said.contains("nothing has to be set"), "{said}");

    let binary = Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let xbosh = Sidecar::start_without_file(binary, &environment).unwrap();
    libraries::slixmpp(site, &xbosh, "no-settings").await;
    drop(xbosh);

    // Squid logs a tunnel when it ends: host-meta of check and of run, and the ways to the manager.
    squid
        .wait_logged(&format!("CONNECT {domain}:443"), 2)
        .unwrap();
    let port = manager.trim_start_matches("https://localhost:");
    let port = port.split('/').next().unwrap();
    squid
        .wait_logged(&format!("CONNECT localhost:{port}"), 2)
        .unwrap();
}
