//! One address for many people: the HAProxy configuration of packaging/, two xbosh behind it (docs/team.md).

use std::path::Path;
use std::time::Duration;

use xbosh_testkit::client::tls::ClientTls;
use xbosh_testkit::client::{Client, ClientError, Mechanism, Place};
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{Haproxy, Sidecar};

use crate::support::{Scheme, Site, Way, config_to, xbosh};
use crate::walk;

const CONFIG: &str = include_str!("../../packaging/haproxy.cfg");
const ONLINE: &str = "client is online";

/// The folder of the authorities, as a volume that both have.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
    for entry in from.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &copied),
            // With its mode.
            false => drop(std::fs::copy(&path, &copied).unwrap()),
        }
    }
}

/// A client chats through HAProxy, whichever xbosh it gets; when that one goes, it comes back by the other one, whose
/// certificate it trusts too. Without TLS nobody gets in, though to xbosh every client is a local one.
#[tokio::test]
async fn two_xbosh_behind_haproxy() {
    let site = Site::Prosody;
    if !available::all(&[Program::Prosody, Program::Haproxy]) {
        return;
    }
    let server = site.server();
    let domain = server.domain();
    let config = config_to(site, Scheme::Https, Way::Direct) + "[local_tls]\nmode = \"required\"\n";
    let mut sidecars: [Sidecar; 2] = std::array::from_fn(|_| xbosh(&config));
    let authority = sidecars[0].trust(domain).unwrap();
    let pem = std::fs::read_to_string(&authority).unwrap();
    let state = Path::new("xbosh/ca");
    copy(
        &sidecars[0].folder().join(state),
        &sidecars[1].folder().join(state),
    );
    let haproxy = Haproxy::start(|addr| {
        let config = CONFIG
            .replace("bind :5222", &format!("bind {addr}"))
            .replace("127.0.0.1:5223", &sidecars[0].addr().to_string())
            .replace("127.0.0.1:5224", &sidecars[1].addr().to_string());
        assert!(!config.contains(":522"), "{config}");
        config
    })
    .unwrap();

    let mut plain = Client::connect(haproxy.addr(), domain).await.unwrap();
    plain.open().await.unwrap();
    let (account, _peer) = walk::pair(server, "haproxy-plain").await;
    let refused = plain.authenticate(&account, Mechanism::Plain).await;
    assert!(
        matches!(&refused, Err(ClientError::Stream(error))
            if error.app.as_ref().is_some_and(|(_, name)| name == "tls-required")),
        "{refused:?}"
    );

    let place = Place::Tls(haproxy.addr(), ClientTls::starttls(&pem, domain));
    walk::session(place.clone(), server, Mechanism::Scram, "haproxy-1").await;
    walk::session(place.clone(), server, Mechanism::Scram, "haproxy-2").await;
    let served = |sidecar: &Sidecar| sidecar.log().matches(ONLINE).count();
    let counts = sidecars.each_ref().map(served);
    assert_eq!(
        counts.iter().max(),
        Some(&2),
        "the same address comes to the same xbosh: {counts:?}"
    );

    let gone = usize::from(counts[1] == 2);
    sidecars[gone].terminate().unwrap();
    sidecars[gone].wait(Duration::from_secs(10)).unwrap();
    walk::session(place, server, Mechanism::Scram, "haproxy-3").await;
    assert_eq!(served(&sidecars[1 - gone]), 1);
    // HAProxy looks every two seconds whether they are there: nothing that a person must read.
    for sidecar in &sidecars {
        let log = sidecar.log();
        let mut warnings = log.lines().filter(|line| line.starts_with("WARN"));
        assert!(warnings.all(|line| line.contains("over TLS only")), "{log}");
    }
}
