//! Fifty clients of all kinds and two domains on one port, some of which misbehave: the others notice nothing.

use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use xbosh::config::Config;
use xbosh_testkit::client::rude::Rude;
use xbosh_testkit::client::tls::ClientTls;
use xbosh_testkit::client::{Account, Client, Mechanism, Place};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::xmpp::Server;

use super::support::{Chain, DOMAIN};

const OTHER: &str = "example.org";
/// Each good one sends so many, waiting for every echo.
const ROUNDS: u32 = 30;

/// Fifty at once, six of them rude in each domain; then the good ones are done while the rude ones still are at it.
#[tokio::test]
async fn one_misbehaving_delays_nobody() {
    let other = Server::new(OTHER);
    other.add_user("user", "password");
    let second = Cm::start(&other, Profile::ejabberd(), None).await;
    let url = second.url("127.0.0.1");
    let chain = Chain::start_with(Profile::prosody(), |config| two_domains(config, &url)).await;

    let mut rude = JoinSet::new();
    let (begun, mut begins) = unbounded_channel();
    for domain in [DOMAIN, OTHER] {
        for kind in Rude::ALL {
            let account = Account::new("user", domain, "password");
            rude.spawn(kind.misbehave(chain.addr(), account, begun.clone()));
        }
    }
    for _ in 0..2 * Rude::ALL.len() {
        begins.recv().await.unwrap();
    }

    let mut good = JoinSet::new();
    for number in 0..38 {
        let domain = if number % 2 == 0 { DOMAIN } else { OTHER };
        let place = place(&chain, domain, number);
        good.spawn(converse(place, domain, number));
    }
    let all = async {
        while let Some(done) = good.join_next().await {
            done.unwrap();
        }
    };
    // Far more than it takes; a client that waits for a rude one waits for ever.
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("a good client is kept waiting");
    assert!(rude.try_join_next().is_none(), "they are still at it");
    rude.abort_all();
}

fn two_domains(config: &mut Config, url: &str) {
    let mut settings = config.domains[DOMAIN].clone();
    settings.url = Some(url.parse().unwrap());
    config.domains.insert(OTHER.into(), settings);
    // The name in TLS, "localhost", may mean any domain otherwise.
    config.default_domain = Some(DOMAIN.into());
}

/// Plain, STARTTLS or TLS from the first byte.
fn place(chain: &Chain, domain: &str, number: usize) -> Place {
    let tls = chain.sidecar.local_tls().unwrap();
    let pem = || std::fs::read_to_string(tls.certificate_file(domain).unwrap()).unwrap();
    match number % 3 {
        0 => chain.addr().into(),
        1 => Place::Tls(chain.addr(), ClientTls::starttls(&pem(), domain)),
        _ => Place::Tls(chain.addr(), ClientTls::direct(&pem(), domain)),
    }
}

async fn converse(place: Place, domain: &str, number: usize) {
    let account = Account::new("user", domain, "password");
    let mut client = Client::login(place, &account, Mechanism::Scram)
        .await
        .unwrap();
    let to = format!("echo@{domain}");
    for round in 0..ROUNDS {
        let text = format!("{number}: {round}");
        client.message(&to, &text).await.unwrap();
        let back = client.wait_for(|s| s.name() == "message").await.unwrap();
        assert_eq!(back.child_text("body"), Some(text));
    }
    client.logout().await.unwrap();
}
