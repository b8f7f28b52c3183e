//! Sessions over HTTP/2, in front of an embedded manager (B-07, P-11).

use secrecy::SecretString;
use url::Url;
use xbosh::config::{Config, Credentials, HttpVersion, Proxy, ProxySource};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Client, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::front::{Front, Trick};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;

use super::support::{DOMAIN, account, config, echo, server};

/// A manager behind a front that speaks HTTP/2, and a sidecar.
struct Chain {
    cm: Cm,
    front: Front,
    sidecar: Sidecar,
    _folder: tempfile::TempDir,
}

impl Chain {
    async fn start(max_streams: u32, adjust: impl FnOnce(&mut Config)) -> Self {
        let cm = Cm::start(&server(), Profile::prosody(), None).await;
        let authority = Authority::new();
        let acceptor = authority
            .acceptor(&["localhost"])
            .speaking(&["h2", "http/1.1"]);
        let front = Front::start(cm.addr(), acceptor, max_streams).await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let way = Proxy {
            source: ProxySource::None,
            ..Proxy::default()
        };
        let mut config = config(&front.url("localhost"), way);
        if let Some(domain) = config.domains.get_mut(DOMAIN) {
            domain.tls.ca_file = Some(ca_file);
        }
        adjust(&mut config);
        let sidecar = Sidecar::start(config).await.unwrap();
        Self {
            cm,
            front,
            sidecar,
            _folder: folder,
        }
    }

    async fn login(&self) -> Client {
        Client::login(self.sidecar.addrs()[0], &account("user"), Mechanism::Plain)
            .await
            .unwrap()
    }

    async fn logins<const N: usize>(&self) -> [Client; N] {
        let mut clients = Vec::new();
        for _ in 0..N {
            clients.push(self.login().await);
        }
        clients
            .try_into()
            .unwrap_or_else(|_| panic!("there are {N}"))
    }
}

/// P-11, B-09: over HTTP/2 two sessions share one connection, each with its own cookie; over HTTP/1.1 they have
/// connections of their own.
#[tokio::test]
async fn p11_connections_of_two_sessions() {
    for (version, few) in [(HttpVersion::Auto, true), (HttpVersion::Http11, false)] {
        let chain = Chain::start(100, |config| {
            for domain in config.domains.values_mut() {
                domain.bosh.http_version = version;
            }
        })
        .await;
        chain.cm.demand_cookie();
        let [mut one, mut two] = chain.logins().await;
        echo(&mut one, 0..20).await;
        echo(&mut two, 0..20).await;
        let connections = chain.front.connections();
        assert_eq!(connections == 1, few, "{version:?}: {connections}");
        assert_eq!(chain.front.requests() > 0, few);
        // The manager demands the cookie that it set; a creation knows none yet, not of the other session either.
        let posts = chain.cm.posts();
        let creations = posts.iter().filter(|post| post.attribute("sid").is_none());
        let cookies: Vec<_> = creations.map(|post| post.header("cookie")).collect();
        assert_eq!(cookies, [None, None], "{version:?}");
        one.logout().await.unwrap();
        two.logout().await.unwrap();
        assert_eq!(chain.cm.violations(), Vec::<String>::new());
    }
}

/// P-11, P-02: through one proxy with one login sessions share a tunnel, and what is in it.
#[tokio::test]
async fn p11_sessions_share_a_tunnel() {
    let mut options = ProxyOptions::with_credentials("user", "pw");
    options
        .names
        .insert("localhost".into(), [127, 0, 0, 1].into());
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let url = Url::parse(&format!("http://{}", proxy.addr())).unwrap();
    let chain = Chain::start(100, |config| {
        for domain in config.domains.values_mut() {
            domain.proxy.source = ProxySource::Url(url.clone());
            domain.proxy.credentials = Some(Credentials {
                username: "user".into(),
                password: SecretString::from("pw".to_owned()),
            });
        }
    })
    .await;
    let [mut one, mut two] = chain.logins().await;
    echo(&mut one, 0..5).await;
    echo(&mut two, 0..5).await;
    assert_eq!(chain.front.connections(), 1);
    assert_eq!(chain.cm.violations(), Vec::<String>::new());
}

/// P-20: isolated sessions share nothing, though each speaks HTTP/2.
#[tokio::test]
async fn p20_isolated_sessions_share_nothing() {
    let chain = Chain::start(100, |config| {
        for domain in config.domains.values_mut() {
            domain.proxy.isolate = true;
        }
    })
    .await;
    let [mut one, mut two] = chain.logins().await;
    echo(&mut one, 0..5).await;
    echo(&mut two, 0..5).await;
    assert_eq!(chain.front.connections(), 2);
}

/// P-11: with two streams a connection, several sessions take several connections.
#[tokio::test]
async fn p11_few_streams_on_a_connection() {
    let chain = Chain::start(2, |_| {}).await;
    let mut clients: [Client; 5] = chain.logins().await;
    for client in &mut clients {
        echo(client, 0..10).await;
    }
    assert!(chain.front.crowd() <= 2, "{}", chain.front.crowd());
    assert!(chain.front.open() >= 3, "{}", chain.front.open());
    for client in clients {
        client.logout().await.unwrap();
    }
    assert_eq!(chain.cm.violations(), Vec::<String>::new());
}

/// T-31, E-51: streams that are refused or broken, connections that say GOAWAY or die: nothing is lost, doubled
/// or out of order, for either session.
#[tokio::test]
async fn t31_faults_of_a_shared_connection() {
    let chain = Chain::start(100, |_| {}).await;
    let [mut one, mut two] = chain.logins().await;
    let mut range = 0..10;
    for trick in [
        Some(Trick::Refuse),
        Some(Trick::Leave),
        Some(Trick::Break),
        None,
        Some(Trick::Refuse),
    ] {
        match trick {
            Some(trick) => chain.front.script(trick),
            None => chain.front.cut().await,
        }
        tokio::join!(echo(&mut one, range.clone()), echo(&mut two, range.clone()));
        range = range.end..range.end + 10;
    }
    assert_eq!(chain.front.tricks_left(), 0);
    one.logout().await.unwrap();
    two.logout().await.unwrap();
    // The next request may be on its way when a poll is refused: the manager then sees the poll behind it.
    let mut violations = chain.cm.violations();
    violations.retain(|text| !text.contains("an empty request too early"));
    assert_eq!(violations, Vec::<String>::new());
}

/// B-51, S-47: a client that is gone resets its own streams; the other session goes on, on the same connection.
#[tokio::test]
async fn b51_one_session_ends_and_the_other_stays() {
    let chain = Chain::start(100, |config| {
        config.stream_management.resume_window = std::time::Duration::ZERO;
    })
    .await;
    let [one, mut two] = chain.logins().await;
    drop(one);
    echo(&mut two, 0..10).await;
    while chain.cm.sessions() > 1 {
        tokio::task::yield_now().await;
    }
    echo(&mut two, 10..20).await;
    assert_eq!(chain.front.connections(), 1);
    two.logout().await.unwrap();
    assert_eq!(chain.cm.violations(), Vec::<String>::new());
}
