//! Fifty clients of all kinds and two domains on one port and a socket, some of which misbehave: the others notice nothing.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;
use tokio::task::JoinSet;
use xbosh::config::{Config, ListenAddress};
use xbosh_testkit::client::crowd::converse;
use xbosh_testkit::client::rude::Rude;
use xbosh_testkit::client::tls::ClientTls;
use xbosh_testkit::client::{Account, Place};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::xmpp::Server;

use super::support::{Chain, DOMAIN};

const OTHER: &str = "example.org";
/// Those that behave, in both domains together.
const GOOD: usize = 38;
/// Each of them sends so many, waiting for every echo.
const ROUNDS: usize = 30;
/// Rude in the clear, through the socket, and inside TLS.
const RUDE_IN_TLS: [Rude; 3] = [Rude::NeverReads, Rude::EndlessStanza, Rude::Reconnects];

/// Fifty at once that behave, alone and among twenty that are rude, in the clear, inside TLS and through a Unix socket: no
/// login and no echo takes much longer, and the rude ones are still at it then.
#[tokio::test]
async fn one_misbehaving_delays_nobody() {
    let other = Server::new(OTHER);
    other.add_user("user", "password");
    let second = Cm::start(&other, Profile::ejabberd(), None).await;
    let url = second.url("127.0.0.1");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("xbosh");
    let chain = Chain::start_with(Profile::prosody(), |config| {
        two_domains(config, &url);
        config.listen.push(ListenAddress::Unix(socket.clone()));
    })
    .await;
    let good = || (0..GOOD).map(|number| member(&chain, &socket, number));
    // Once for what is made at first use, once for the times.
    converse(good(), 1, Duration::from_secs(30)).await;
    let quiet = converse(good(), ROUNDS, Duration::from_secs(30)).await;

    let mut rude = JoinSet::new();
    let (begun, mut begins) = unbounded_channel();
    for domain in [DOMAIN, OTHER] {
        let account = || Account::new("user", domain, "password");
        for kind in Rude::ALL {
            rude.spawn(kind.misbehave(chain.addr(), account(), begun.clone()));
        }
        for kind in RUDE_IN_TLS {
            let tls = Place::Tls(
                chain.addr(),
                ClientTls::starttls(&pem(&chain, domain), domain),
            );
            rude.spawn(kind.misbehave(tls, account(), begun.clone()));
        }
    }
    for kind in Rude::ALL {
        let account = Account::new("user", DOMAIN, "password");
        rude.spawn(kind.misbehave(Place::from(&*socket), account, begun.clone()));
    }
    for _ in 0..rude.len() {
        begins.recv().await.unwrap();
    }

    let noisy = converse(good(), ROUNDS, Duration::from_secs(30)).await;
    assert!(rude.try_join_next().is_none(), "they are still at it");
    rude.abort_all();
    noisy.assert_like(&quiet);
}

fn two_domains(config: &mut Config, url: &str) {
    let mut settings = config.domains[DOMAIN].clone();
    settings.url = Some(url.parse().unwrap());
    config.domains.insert(OTHER.into(), settings);
    // The name in TLS, "localhost", may mean any domain otherwise.
    config.default_domain = Some(DOMAIN.into());
}

fn pem(chain: &Chain, domain: &str) -> String {
    let tls = chain.sidecar.local_tls().unwrap();
    std::fs::read_to_string(tls.certificate_file(domain).unwrap()).unwrap()
}

/// Of either domain: plain, STARTTLS, TLS from the first byte, or through the socket.
fn member(chain: &Chain, socket: &Path, number: usize) -> (Place, Account, Option<String>) {
    let domain = if number.is_multiple_of(2) {
        DOMAIN
    } else {
        OTHER
    };
    let place = match number / 2 % 4 {
        0 => chain.addr().into(),
        1 => Place::Tls(
            chain.addr(),
            ClientTls::starttls(&pem(chain, domain), domain),
        ),
        2 => Place::Tls(chain.addr(), ClientTls::direct(&pem(chain, domain), domain)),
        _ => socket.into(),
    };
    let account = Account::new("user", domain, "password");
    (place, account, Some(format!("echo@{domain}")))
}
