//! Clients that speak TLS to xbosh as they do by default, in front of real servers (S-02, S-37).
//!
//! `xbosh ca trust` has run, so STARTTLS is offered; each client is told of the authority and checks the certificate.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::client::tls::ClientTls;
use xbosh_testkit::client::{Mechanism, Place};
use xbosh_testkit::real::Sidecar;
use xbosh_testkit::real::available::{self, Program};

use crate::support::{Scheme, Site, Way, config_to, xbosh};
use crate::{libraries, walk};

/// xbosh in auto mode, trusted, and the file of the authority.
fn trusted(site: Site) -> Option<(Sidecar, PathBuf)> {
    if !Way::Direct.available(site) {
        return None;
    }
    let log = "[log]\nlevel = \"debug\"\n";
    let config = config_to(site, Scheme::Https, Way::Direct) + log;
    let xbosh = xbosh(&config);
    let domain = site.server().domain();
    let path = xbosh.command(&["ca", "path", domain]).unwrap();
    xbosh.command(&["ca", "trust", domain]).unwrap();
    Some((xbosh, Path::new(path.trim_end()).to_owned()))
}

fn assert_tls(xbosh: &Sidecar) {
    assert!(
        xbosh.log().contains("TLS is established"),
        "{}",
        xbosh.log()
    );
}

/// A whole session each way; then a connection that dies, and its stream resumed.
async fn session(site: Site, name: &str) {
    let Some((xbosh, authority)) = trusted(site) else {
        return;
    };
    let pem = std::fs::read_to_string(authority).unwrap();
    let server = site.server();
    for (index, tls) in [
        ClientTls::starttls(&pem, server.domain()),
        ClientTls::direct(&pem, server.domain()),
        ClientTls::direct(&pem, "localhost"),
        ClientTls::starttls(&pem, server.domain()).in_1_2(&pem),
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::Tls(xbosh.addr(), tls);
        let user = format!("{name}-{index}");
        walk::session(place.clone(), server, Mechanism::Scram, &user).await;
        let (account, mut peer) = walk::pair(server, &format!("{user}-again")).await;
        let mut client = Managed::login(place, &account, Mechanism::Plain)
            .await
            .unwrap();
        client.send("<presence/>").await;
        let jid = client.jid().to_owned();
        peer.message(&jid, "before").await.unwrap();
        assert_eq!(client.reconnect().await.unwrap(), Resumed::Yes);
        peer.message(&jid, "after").await.unwrap();
        for body in ["before", "after"] {
            let stanza = loop {
                let stanza = client.next_stanza().await.unwrap();
                if stanza.name() == "message" {
                    break stanza;
                }
            };
            assert_eq!(stanza.child_text("body").as_deref(), Some(body));
        }
        client.logout().await.unwrap();
    }
    assert_tls(&xbosh);
}

#[tokio::test]
async fn tls_session_prosody() {
    session(Site::Prosody, "tls-p").await;
}

#[tokio::test]
async fn tls_session_ejabberd() {
    session(Site::Ejabberd, "tls-e").await;
}

async fn library(slixmpp: bool, tls: &str, site: Site, name: &str) {
    let Some((xbosh, authority)) = trusted(site) else {
        return;
    };
    libraries::over_tls(slixmpp, tls, &authority, (site, &xbosh), name).await;
    assert_tls(&xbosh);
}

#[tokio::test]
async fn slixmpp_starttls_prosody() {
    library(true, "starttls", Site::Prosody, "slixmpp-starttls-p").await;
}

#[tokio::test]
async fn slixmpp_starttls_ejabberd() {
    library(true, "starttls", Site::Ejabberd, "slixmpp-starttls-e").await;
}

#[tokio::test]
async fn slixmpp_direct_tls_prosody() {
    library(true, "direct", Site::Prosody, "slixmpp-direct-p").await;
}

#[tokio::test]
async fn slixmpp_direct_tls_ejabberd() {
    library(true, "direct", Site::Ejabberd, "slixmpp-direct-e").await;
}

#[tokio::test]
async fn xmpp_js_starttls_prosody() {
    library(false, "starttls", Site::Prosody, "xmpp-js-starttls-p").await;
}

#[tokio::test]
async fn xmpp_js_starttls_ejabberd() {
    library(false, "starttls", Site::Ejabberd, "xmpp-js-starttls-e").await;
}

#[tokio::test]
async fn xmpp_js_direct_tls_prosody() {
    library(false, "direct", Site::Prosody, "xmpp-js-direct-p").await;
}

#[tokio::test]
async fn xmpp_js_direct_tls_ejabberd() {
    library(false, "direct", Site::Ejabberd, "xmpp-js-direct-e").await;
}

/// openssl's own client reaches stream features, verified, both ways.
async fn openssl(site: Site) {
    if !available::all(&[Program::Openssl]) {
        return;
    }
    let Some((xbosh, authority)) = trusted(site) else {
        return;
    };
    let domain = site.server().domain();
    let ways: [&[&str]; 2] = [
        &["-starttls", "xmpp", "-xmpphost", domain],
        &["-alpn", "xmpp-client", "-servername", domain],
    ];
    for way in ways {
        let mut process = Command::new("openssl")
            .args(["s_client", "-connect", &xbosh.addr().to_string()])
            .args(["-verify_return_error", "-verify_hostname", domain])
            .arg("-CAfile")
            .arg(&authority)
            .args(way)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        let mut output = process.stdout.take().unwrap();
        let header = format!(
            "<stream:stream to='{domain}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        );
        input.write_all(header.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&said).contains("</stream:features>") {
                let count = output.read_buf(&mut said).await.unwrap();
                assert_ne!(count, 0, "{way:?}: {}", String::from_utf8_lossy(&said));
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(20), reading).await;
        let said = String::from_utf8_lossy(&said);
        assert!(done.is_ok(), "{way:?}: {said}\n{}", xbosh.log());
        assert!(
            said.contains("Verify return code: 0 (ok)") && said.contains("<mechanism>"),
            "{said}"
        );
        let features = said.rsplit("<stream:features").next().unwrap();
        assert!(!features.contains("starttls"), "{features}");
        assert_eq!(
            said.contains("ALPN protocol: xmpp-client"),
            way.contains(&"-alpn"),
            "{said}"
        );
    }
    assert_tls(&xbosh);
}

#[tokio::test]
async fn openssl_prosody() {
    openssl(Site::Prosody).await;
}

#[tokio::test]
async fn openssl_ejabberd() {
    openssl(Site::Ejabberd).await;
}

/// What a client that was not told of the authority makes xbosh say.
#[tokio::test]
async fn openssl_without_trust() {
    if !available::all(&[Program::Openssl]) {
        return;
    }
    let Some((xbosh, _)) = trusted(Site::Prosody) else {
        return;
    };
    let domain = Site::Prosody.server().domain();
    let done = Command::new("openssl")
        .args(["s_client", "-connect", &xbosh.addr().to_string()])
        .args(["-verify_return_error", "-servername", domain])
        .stdin(Stdio::null())
        .output();
    let done = tokio::time::timeout(Duration::from_secs(20), done)
        .await
        .unwrap()
        .unwrap();
    assert!(!done.status.success());
    let advice = format!("run `xbosh ca trust {domain}`");
    let log = xbosh.log();
    let line = log.lines().find(|line| line.contains("WARN"));
    assert!(line.is_some_and(|line| line.contains(&advice)), "{log}");
}

/// A client that renegotiates (TLS 1.2) is told no, again and again, or closed; others go on.
#[tokio::test]
async fn openssl_renegotiates() {
    if !available::all(&[Program::Openssl]) {
        return;
    }
    let Some((xbosh, authority)) = trusted(Site::Prosody) else {
        return;
    };
    let server = Site::Prosody.server();
    let mut process = Command::new("openssl")
        .args(["s_client", "-connect", &xbosh.addr().to_string(), "-tls1_2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(b"R\nR\nR\n").await.unwrap();
    let done = tokio::time::timeout(Duration::from_secs(20), process.wait_with_output())
        .await
        .expect("it is closed")
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        said.contains("RENEGOTIATING") && said.contains("error"),
        "{said}"
    );
    let pem = std::fs::read_to_string(authority).unwrap();
    let place = Place::Tls(xbosh.addr(), ClientTls::direct(&pem, server.domain()));
    walk::session(place, server, Mechanism::Scram, "beside-renegotiation").await;
}
