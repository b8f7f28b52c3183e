//! The manager's certificate changes in mid-session (B-72).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use xbosh::config::{Config, Proxy, ProxySource};
use xbosh::driver::Sidecar;
use xbosh_testkit::Service;
use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::tls::Authority;

use super::support::{DOMAIN, account, app, config, echo, server};

/// A manager behind something that ends TLS with one of two certificates, both valid.
struct Farm {
    front: Service,
    other: Arc<AtomicBool>,
    _cm: Cm,
    _folder: tempfile::TempDir,
    config: Config,
}

impl Farm {
    async fn new(same_certificate: bool) -> Self {
        let profile = Profile {
            inactivity: 6,
            ..Profile::strict()
        };
        let cm = Cm::start(&server(), profile, None).await;
        let origin = cm.addr();
        let authority = Authority::new();
        let acceptors = [
            authority.acceptor(&["localhost"]),
            authority.acceptor(&["localhost"]),
        ];
        let other = Arc::new(AtomicBool::new(false));
        let turned = Arc::clone(&other);
        let front = Service::start(move |stream| {
            let acceptor = acceptors[usize::from(turned.load(Ordering::Relaxed))].clone();
            async move {
                let (Some(mut client), Ok(mut origin)) = (
                    acceptor.accept(stream).await,
                    TcpStream::connect(origin).await,
                ) else {
                    return;
                };
                drop(copy_bidirectional(&mut client, &mut origin).await);
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let url = format!("https://localhost:{}/http-bind", front.addr().port());
        let way = Proxy {
            source: ProxySource::None,
            ..Proxy::default()
        };
        let mut config = config(&url, way);
        if let Some(domain) = config.domains.get_mut(DOMAIN) {
            domain.tls.ca_file = Some(ca_file);
            domain.tls.same_certificate = same_certificate;
        }
        Self {
            front,
            other,
            _cm: cm,
            _folder: folder,
            config,
        }
    }

    /// From now on it is the other one.
    async fn turn(&self) {
        self.other.store(true, Ordering::Relaxed);
        self.front.cut().await;
    }
}

async fn login(sidecar: &Sidecar) -> Client {
    Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
        .await
        .unwrap()
}

/// B-72: a renewal, or one machine of a farm: nothing happens.
#[tokio::test]
async fn b72_another_certificate_is_accepted() {
    let farm = Farm::new(false).await;
    let sidecar = Sidecar::start(farm.config.clone()).await.unwrap();
    let mut client = login(&sidecar).await;
    echo(&mut client, 0..10).await;
    farm.turn().await;
    echo(&mut client, 10..20).await;
    client.logout().await.unwrap();
}

/// B-72, E-42: strictly: no request goes to the other one, and what says so in the end is the certificate.
#[tokio::test]
async fn b72_e42_one_certificate_for_a_session() {
    let farm = Farm::new(true).await;
    let mut config = farm.config.clone();
    for domain in config.domains.values_mut() {
        // The end of patience comes sooner.
        domain.bosh.wait = std::time::Duration::from_secs(1);
    }
    let sidecar = Sidecar::start(config).await.unwrap();
    let mut client = login(&sidecar).await;
    client.set_deadline(std::time::Duration::from_secs(30));
    echo(&mut client, 0..10).await;
    farm.turn().await;
    let ended = loop {
        match client.next_stanza().await {
            Ok(_) => {}
            Err(ended) => break ended,
        }
    };
    let ClientError::Stream(error) = ended else {
        panic!("{ended}");
    };
    assert_eq!(app(&error), Some("tls-certificate-changed"));
    // A new session begins with the other one.
    login(&sidecar).await.logout().await.unwrap();
}
