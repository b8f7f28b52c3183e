//! The harness by itself, without xbosh: if one of these fails, the others prove nothing.

use std::path::Path;
use std::process::Command;

use xbosh_testkit::client::{Client, ClientError, Mechanism, raw::Raw};
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{Nginx, PROXY_PASSWORD, PROXY_USER, Prosody, Server};

use crate::support::{Site, Way};
use crate::walk;

async fn direct_tcp(site: Site) {
    if !available::all(&[site.program()]) {
        return;
    }
    let server = site.server();
    for mechanism in [Mechanism::Scram, Mechanism::Plain] {
        let user = format!("direct-{}", mechanism.name().to_lowercase());
        walk::session(server.c2s(), server, mechanism, &user).await;
    }
}

#[tokio::test]
async fn direct_tcp_prosody() {
    direct_tcp(Site::Prosody).await;
}

#[tokio::test]
async fn direct_tcp_ejabberd() {
    direct_tcp(Site::Ejabberd).await;
}

#[tokio::test]
async fn the_client_reads_refusals_and_stream_errors() {
    if !available::all(&[Program::Prosody]) {
        return;
    }
    let server = Site::Prosody.server();
    let mut account = server.add_account("refused").unwrap();
    account.password.push('x');
    for mechanism in [Mechanism::Scram, Mechanism::Plain] {
        let error = Client::login(server.c2s(), &account, mechanism).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, ClientError::Refused(condition) if condition == "not-authorized"),
            "{error}"
        );
    }
    let mut client = Client::connect(server.c2s(), "nowhere.test").await.unwrap();
    let ClientError::Stream(error) = client.open().await.unwrap_err() else {
        panic!("no stream error for an unknown host");
    };
    assert_eq!(error.condition, "host-unknown");
    let end = client.next_stanza().await.unwrap_err();
    assert!(matches!(end, ClientError::Ended), "{end}");

    let mut raw = Raw::connect(server.c2s()).await.unwrap();
    raw.send("<stream:stream to='xmpp.test' xmlns='jabber:client' version='1.0' xmlns:stream='http://etherx.jabber.org/streams'>").await.unwrap();
    let features = raw.read_until("</stream:features>").await.unwrap();
    assert!(features.contains("SCRAM-SHA-1"), "{features}");
    raw.send("</stream:stream>").await.unwrap();
    let end = raw.read_to_end().await.unwrap();
    assert!(end.contains("</stream:stream>"), "{end}");
}

/// Every cell of the matrix with curl in the place of xbosh: a session is created.
fn curl_creates_sessions(site: Site) {
    if !available::all(&[Program::Curl]) {
        return;
    }
    let ways = [
        Way::Direct,
        Way::Squid,
        Way::Tinyproxy,
        Way::Microsocks,
        Way::Dante,
    ];
    for way in ways {
        if !way.available(site) {
            continue;
        }
        let server = site.server();
        for tls in [false, true] {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--max-time", "20"]);
            match way.proxy() {
                None => curl.args(["--noproxy", "*"]),
                Some((url, credentials)) => {
                    if credentials {
                        curl.arg("--proxy-user");
                        curl.arg(format!("{PROXY_USER}:{PROXY_PASSWORD}"));
                    }
                    curl.args(["--noproxy", "", "--proxy", &url])
                }
            };
            let url = server.bosh_url(tls, way.cm_host());
            assert_session(curl, server.domain(), server.ca_file(), &url);
        }
    }
}

fn assert_session(mut curl: Command, domain: &str, ca_file: &Path, url: &str) {
    let body = format!(
        "<body xmlns='http://jabber.org/protocol/httpbind' to='{domain}' rid='4194305' ver='1.6' wait='5' hold='1' \
         xml:lang='en' xmpp:version='1.0' xmlns:xmpp='urn:xmpp:xbosh'/>"
    );
    let done = curl
        .arg("--cacert")
        .arg(ca_file)
        .args(["--header", "Content-Type: text/xml; charset=utf-8"])
        .args(["--data-binary", &body, url])
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && answer.contains("sid=") && answer.contains("SCRAM-SHA-1"),
        "{curl:?}: {answer}{errors}"
    );
}

#[test]
fn curl_reaches_prosody_by_every_way() {
    curl_creates_sessions(Site::Prosody);
}

#[test]
fn curl_reaches_ejabberd_by_every_way() {
    curl_creates_sessions(Site::Ejabberd);
}

#[test]
fn nginx_stands_in_front_of_prosody() {
    if !available::all(&[Program::Nginx, Program::Prosody, Program::Curl]) {
        return;
    }
    let server = Site::Prosody.server();
    let nginx = Nginx::start(&server.bosh_url(false, "127.0.0.1")).unwrap();
    for tls in [false, true] {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
        ]);
        let url = nginx.bosh_url(tls, "localhost");
        assert_session(curl, server.domain(), nginx.ca_file(), &url);
    }
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_folder() {
    if !available::all(&[Program::Prosody]) {
        return;
    }
    let server = Prosody::start().unwrap();
    let (addr, ca_file) = (server.c2s(), server.ca_file().to_owned());
    assert!(ca_file.exists());
    drop(server);
    assert!(std::net::TcpStream::connect(addr).is_err());
    assert!(!ca_file.exists());
}
