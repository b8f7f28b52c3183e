//! Key sequences (XEP-0124 section 15) with a real server that checks them.

use xbosh_testkit::client::{Client, Mechanism};

use crate::support::{Site, Way, domain_config, xbosh};
use crate::walk;

/// B-64 to B-68: ejabberd ends a session at the first wrong key. A whole session, and enough requests for the
/// chain (1024 keys at most) to be changed.
#[tokio::test]
async fn b66_ejabberd() {
    if !Way::Direct.available(Site::Ejabberd) {
        return;
    }
    let server = Site::Ejabberd.server();
    let config = [
        Way::Direct.config(),
        domain_config(server.domain(), &server.bosh_url(false, "127.0.0.1")),
        "key_sequence = true\n".to_owned(),
    ];
    let xbosh = xbosh(&config.concat());
    walk::session(xbosh.addr(), server, Mechanism::Scram, "keyed").await;
    let account = server.add_account("keyed-pings").unwrap();
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Plain)
        .await
        .unwrap();
    for _ in 0..1100 {
        client.ping().await.unwrap();
    }
    client.logout().await.unwrap();
    assert!(!xbosh.log().contains("stream ended"), "{}", xbosh.log());
}
