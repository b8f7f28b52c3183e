//! Many clients of both servers through one xbosh, some of which misbehave: the others notice nothing.

use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use xbosh_testkit::client::rude::Rude;
use xbosh_testkit::client::{Account, Client, Mechanism};

use crate::support::{Site, Way, domain_config, xbosh};

/// Good clients of each server, and the messages that each sends to itself, one after another.
const GOOD: usize = 20;
const ROUNDS: usize = 20;

#[tokio::test]
async fn one_misbehaving_delays_nobody() {
    let sites = [Site::Prosody, Site::Ejabberd];
    if !sites.iter().all(|site| Way::Direct.available(*site)) {
        return;
    }
    let mut config = Way::Direct.config();
    for site in sites {
        let server = site.server();
        config.push_str(&domain_config(
            server.domain(),
            &server.bosh_url(false, "127.0.0.1"),
        ));
    }
    let xbosh = xbosh(&config);

    let mut rude = JoinSet::new();
    let (begun, mut begins) = unbounded_channel();
    for site in sites {
        let account = site.server().add_account("rude").unwrap();
        for kind in Rude::ALL {
            rude.spawn(kind.misbehave(xbosh.addr(), account.clone(), begun.clone()));
        }
    }
    for _ in 0..2 * Rude::ALL.len() {
        begins.recv().await.unwrap();
    }

    let mut good = JoinSet::new();
    for site in sites {
        let account = site.server().add_account("fiftieth").unwrap();
        for number in 0..GOOD {
            good.spawn(converse(xbosh.addr(), account.clone(), number));
        }
    }
    let all = async {
        while let Some(done) = good.join_next().await {
            done.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all)
        .await
        .expect("a good client is kept waiting");
    assert!(rude.try_join_next().is_none(), "they are still at it");
    rude.abort_all();
}

async fn converse(xbosh: std::net::SocketAddr, account: Account, number: usize) {
    let mut client = Client::login(xbosh, &account, Mechanism::Scram)
        .await
        .unwrap();
    client.set_deadline(Duration::from_secs(60));
    let to = client.jid().to_owned();
    for round in 0..ROUNDS {
        let text = format!("{number}: {round}");
        client.message(&to, &text).await.unwrap();
        let back = client.wait_for(|s| s.name() == "message").await.unwrap();
        assert_eq!(back.child_text("body"), Some(text));
    }
    client.logout().await.unwrap();
}
