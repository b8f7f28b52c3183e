//! How long the server shows a client online when xbosh itself was killed: nobody tells it, so its own time limit does.
//!
//! `cargo test --test real ghost -- --ignored --nocapture` measures it; it takes some two minutes.

use std::time::Duration;

use xbosh_testkit::client::{Client, Mechanism};

use crate::support::{Scheme, Site, Way, xbosh_to};
use crate::walk;

async fn ghost(site: Site, most: u64) {
    if !Way::Direct.available(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "ghost").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.available(Some(peer.jid())).await.unwrap();
    let jid = client.jid().to_owned();
    peer.wait_for(|s| walk::is_presence(s, &jid, ""))
        .await
        .unwrap();
    client.ping().await.unwrap();
    peer.set_deadline(Duration::from_secs(most));
    // SIGKILL: it cannot say goodbye.
    drop(xbosh);
    let began = tokio::time::Instant::now();
    peer.wait_for(|s| walk::is_presence(s, &jid, "unavailable"))
        .await
        .unwrap();
    #[allow(clippy::print_stdout, reason = "this is a measurement")]
    {
        println!("{site:?}: {:.0?}", began.elapsed());
    }
}

/// Prosody sees the held request's connection close and waits for `inactivity`.
#[tokio::test]
#[ignore = "a measurement that takes minutes"]
async fn prosody() {
    ghost(Site::Prosody, 130).await;
}

/// ejabberd does not look at the connection: first the held request's `wait` has to run out.
#[tokio::test]
#[ignore = "a measurement that takes minutes"]
async fn ejabberd() {
    ghost(Site::Ejabberd, 130).await;
}
