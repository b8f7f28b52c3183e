//! Clients of a Unix socket, in front of real servers.

use std::path::Path;

use xbosh_testkit::client::Mechanism;
use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::real::Sidecar;

use crate::support::{Scheme, Site, Way, config_to};
use crate::{libraries, walk};

fn xbosh(site: Site) -> Option<Sidecar> {
    Way::Direct.available(site).then(|| {
        let config = config_to(site, Scheme::Https, Way::Direct);
        Sidecar::start_unix(Path::new(env!("CARGO_BIN_EXE_xbosh")), &config).unwrap()
    })
}

/// A whole session; then a connection that dies, and its stream resumed, with what came meanwhile.
async fn session(site: Site, name: &str) {
    let Some(xbosh) = xbosh(site) else { return };
    let path = xbosh.path();
    walk::session(path.as_path(), site.server(), Mechanism::Scram, name).await;

    let (account, mut peer) = walk::pair(site.server(), &format!("{name}-again")).await;
    let mut client = Managed::login(path.as_path(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.send("<presence/>").await;
    let (jid, peer_jid) = (client.jid().to_owned(), peer.jid().to_owned());
    for round in 0..3 {
        let text = format!("round {round}");
        client.message(&peer_jid, &text).await;
        peer.message(&jid, &text).await.unwrap();
        assert_eq!(client.reconnect().await.unwrap(), Resumed::Yes);
        let is_message = |stanza: &xbosh_testkit::client::Stanza| stanza.name() == "message";
        let at_peer = peer.wait_for(is_message).await.unwrap();
        let at_client = loop {
            let stanza = client.next_stanza().await.unwrap();
            if is_message(&stanza) {
                break stanza;
            }
        };
        for stanza in [at_peer, at_client] {
            assert_eq!(stanza.child_text("body").as_deref(), Some(text.as_str()));
        }
    }
    client.logout().await.unwrap();
    assert!(xbosh.log().contains("unix:"), "{}", xbosh.log());
}

#[tokio::test]
async fn unix_prosody() {
    session(Site::Prosody, "unix-p").await;
}

#[tokio::test]
async fn unix_ejabberd() {
    session(Site::Ejabberd, "unix-e").await;
}

async fn slixmpp(site: Site, name: &str) {
    let Some(xbosh) = xbosh(site) else { return };
    libraries::slixmpp_on(&xbosh.path(), site, &xbosh, name).await;
    assert!(xbosh.log().contains("unix:"), "{}", xbosh.log());
}

#[tokio::test]
async fn unix_slixmpp_prosody() {
    slixmpp(Site::Prosody, "unix-slixmpp-p").await;
}

#[tokio::test]
async fn unix_slixmpp_ejabberd() {
    slixmpp(Site::Ejabberd, "unix-slixmpp-e").await;
}
