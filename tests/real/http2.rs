//! HTTP/2 between xbosh and a real nginx, in front of a real Prosody.

use std::collections::HashSet;

use xbosh_testkit::client::{Client, Mechanism};
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{Logged, Nginx, Sidecar};

use crate::support::{Site, Way, domain_config, xbosh};
use crate::walk;

fn behind(nginx: &Nginx, http_version: &str) -> Sidecar {
    let url = nginx.bosh_url(true, "localhost");
    let config = [
        Way::Direct.config(),
        format!("[tls]\nca_file = \"{}\"\n", nginx.ca_file().display()),
        format!("[bosh]\nhttp_version = \"{http_version}\"\n"),
        domain_config(Site::Prosody.server().domain(), &url),
    ];
    xbosh(&config.concat())
}

/// nginx in front of Prosody that ends a connection after so many requests.
fn nginx(requests: u32) -> Option<Nginx> {
    if !available::all(&[Program::Nginx, Program::Prosody]) {
        return None;
    }
    let upstream = Site::Prosody.server().bosh_url(false, "127.0.0.1");
    Some(Nginx::start_http2(&upstream, requests).unwrap())
}

fn all_by(requests: &[Logged], protocol: &str) {
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!((request.protocol.as_str(), request.status), (protocol, 200));
    }
}

fn connections(requests: &[Logged]) -> usize {
    let all: HashSet<u64> = requests.iter().map(|r| r.connection).collect();
    all.len()
}

/// B-07: a login and hundreds of messages each way, over HTTP/2 and with HTTP/2 switched off.
#[tokio::test]
async fn b07_session_through_nginx() {
    for (version, protocol) in [("auto", "HTTP/2.0"), ("1.1", "HTTP/1.1")] {
        let Some(nginx) = nginx(1000) else { return };
        let xbosh = behind(&nginx, version);
        let name = format!("nginx-{}", version.replace('.', "-"));
        let server = Site::Prosody.server();
        walk::session(xbosh.addr(), server, Mechanism::Scram, &name).await;
        let requests = nginx.requests();
        all_by(&requests, protocol);
        assert_eq!(connections(&requests) == 1, version == "auto");
    }
}

/// T-31: the same while nginx says GOAWAY every 20 requests.
#[tokio::test]
async fn t31_nginx_says_goaway_all_the_time() {
    let Some(nginx) = nginx(20) else { return };
    let xbosh = behind(&nginx, "auto");
    let server = Site::Prosody.server();
    walk::session(xbosh.addr(), server, Mechanism::Plain, "nginx-goaway").await;
    let (account, mut peer) = walk::pair(server, "nginx-goaway-slowly").await;
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Plain)
        .await
        .unwrap();
    client.available(None).await.unwrap();
    for number in 0..100 {
        // One at a time, each in a request of its own.
        let text = number.to_string();
        client.message(peer.jid(), &text).await.unwrap();
        let message = peer.wait_for(|s| s.name() == "message").await.unwrap();
        assert_eq!(message.child_text("body"), Some(text.clone()));
        peer.message(client.jid(), &text).await.unwrap();
        let message = client.wait_for(|s| s.name() == "message").await.unwrap();
        assert_eq!(message.child_text("body"), Some(text));
    }
    client.logout().await.unwrap();
    let requests = nginx.requests();
    all_by(&requests, "HTTP/2.0");
    let expected = requests.len() / 20;
    assert!(expected >= 5, "{} requests", requests.len());
    let connections = connections(&requests);
    assert!(connections >= expected, "{connections}, not {expected}");
}

/// P-11: many clients on one connection, all of whose sessions work.
#[tokio::test]
async fn p11_many_sessions_on_one_connection() {
    let Some(nginx) = nginx(1000) else { return };
    let xbosh = behind(&nginx, "auto");
    let server = Site::Prosody.server();
    let mut clients = Vec::new();
    for number in 0..20 {
        let account = server.add_account(&format!("nginx-many-{number}")).unwrap();
        let client = Client::login(xbosh.addr(), &account, Mechanism::Plain)
            .await
            .unwrap();
        clients.push(client);
    }
    for client in &mut clients {
        client.ping().await.unwrap();
    }
    assert_eq!(nginx.open_connections(), 1);
    for client in clients {
        client.logout().await.unwrap();
    }
    let requests = nginx.requests();
    all_by(&requests, "HTTP/2.0");
    assert_eq!(connections(&requests), 1);
}
