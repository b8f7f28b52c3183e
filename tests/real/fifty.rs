//! Many clients of both servers through one xbosh, some of which misbehave: the others notice nothing.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use xbosh_testkit::client::Place;
use xbosh_testkit::client::crowd::converse;
use xbosh_testkit::client::rude::Rude;
use xbosh_testkit::client::tls::ClientTls;
use xbosh_testkit::real::Sidecar;

use crate::support::{Site, Way, domain_config};

/// Good clients of each server, and the messages that each sends to itself, one after another.
const GOOD: usize = 20;
const ROUNDS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(60);

/// In the clear, inside TLS and through a Unix socket.
fn places(xbosh: &Sidecar, domain: &str) -> [Place; 4] {
    let file = xbosh.command(&["ca", "path", domain]).unwrap();
    let pem = std::fs::read_to_string(file.trim_end()).unwrap();
    [
        xbosh.addr().into(),
        Place::Tls(xbosh.addr(), ClientTls::starttls(&pem, domain)),
        Place::Tls(xbosh.addr(), ClientTls::direct(&pem, domain)),
        xbosh.path().as_path().into(),
    ]
}

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
    let binary = Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let xbosh = Sidecar::start_unix(binary, &config).unwrap();

    let mut good = Vec::new();
    for site in sites {
        let account = site.server().add_account("fiftieth").unwrap();
        let places = places(&xbosh, site.server().domain());
        let places = places.iter().cycle().take(GOOD);
        good.extend(places.map(|place| (place.clone(), account.clone(), None)));
    }
    converse(good.clone(), 1, DEADLINE).await;
    let quiet = converse(good.clone(), ROUNDS, DEADLINE).await;

    let mut rude = JoinSet::new();
    let (begun, mut begins) = unbounded_channel();
    for site in sites {
        let account = site.server().add_account("rude").unwrap();
        let [plain, starttls, direct, socket] = places(&xbosh, site.server().domain());
        for kind in Rude::ALL {
            rude.spawn(kind.misbehave(plain.clone(), account.clone(), begun.clone()));
        }
        for (place, kind) in [
            (starttls, Rude::NeverReads),
            (direct, Rude::Reconnects),
            (socket.clone(), Rude::NeverReads),
            (socket, Rude::EndlessStanza),
        ] {
            rude.spawn(kind.misbehave(place, account.clone(), begun.clone()));
        }
    }
    for _ in 0..rude.len() {
        begins.recv().await.unwrap();
    }

    let noisy = converse(good, ROUNDS, DEADLINE).await;
    assert!(rude.try_join_next().is_none(), "they are still at it");
    rude.abort_all();
    noisy.assert_like(&quiet);
}
