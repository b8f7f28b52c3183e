//! No address in the configuration: the domain's host-meta says where the manager is, through the proxy.

use std::collections::HashMap;
use std::net::SocketAddr;

use url::Url;
use xbosh::config::{Config, Proxy, ProxySource};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Account, Client, ClientError, Mechanism};
use xbosh_testkit::cm::{Cm, Fault, Profile, Rule, When};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, xrd};
use xbosh_testkit::xmpp::Server;

use super::support::told;

const DOMAIN: &str = "example.test";
const HOST_META: &str = "/.well-known/host-meta";

/// A domain with a web server and two managers, behind a proxy that alone knows where anything is.
struct World {
    web: WebHost,
    cm: Cm,
    second: Cm,
    proxy: HttpProxy,
    sidecar: Sidecar,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(links: &[&str]) -> Self {
        Self::with(links, "cm.example.test", |_| {}).await
    }

    /// `name` is in the first manager's certificate.
    async fn with(links: &[&str], name: &str, adjust: impl FnOnce(&mut Config)) -> Self {
        let server = Server::new(DOMAIN);
        for user in ["user", "echo"] {
            server.add_user(user, "password");
        }
        let authority = Authority::new();
        let cm = Cm::start(
            &server,
            Profile::strict(),
            Some(authority.acceptor(&[name])),
        )
        .await;
        let second = authority.acceptor(&["second.other.test"]);
        let second = Cm::start(&server, Profile::strict(), Some(second)).await;
        let web = WebHost::start(Some(authority.acceptor(&[DOMAIN]))).await;
        let links: Vec<(&str, &str)> = links.iter().map(|href| (BOSH, *href)).collect();
        web.page(HOST_META, &xrd(&links));
        let dead = SocketAddr::from(([127, 0, 0, 1], 1));
        let places: HashMap<String, SocketAddr> = [
            ("example.test:443".to_owned(), web.addr()),
            ("cm.example.test:443".to_owned(), cm.addr()),
            ("dead.example.test:443".to_owned(), dead),
            ("second.other.test:5281".to_owned(), second.addr()),
        ]
        .into();
        let options = ProxyOptions {
            places,
            ..ProxyOptions::with_credentials("juliet", "secret")
        };
        let proxy = HttpProxy::start(options, HttpTrick::None).await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let way = format!("http://juliet:secret@{}", proxy.addr());
        let mut config = Config {
            listen: vec![([127, 0, 0, 1], 0).into()],
            proxy: Proxy {
                source: ProxySource::Url(Url::parse(&way).unwrap()),
                ..Proxy::default()
            },
            ..Config::default()
        };
        config.tls.ca_file = Some(ca_file);
        adjust(&mut config);
        let sidecar = Sidecar::start(config).await.unwrap();
        Self {
            web,
            cm,
            second,
            proxy,
            sidecar,
            _folder: folder,
        }
    }

    async fn login(&self) -> Result<Client, ClientError> {
        let account = Account::new("user", DOMAIN, "password");
        Client::login(self.sidecar.addrs()[0], &account, Mechanism::Plain).await
    }

    fn asked(&self) -> usize {
        self.web.heads().len()
    }
}

/// D-01, P-12: nothing is configured but the proxy; it sees names only, the web server is asked once for two
/// streams.
#[tokio::test]
async fn d01_without_an_address() {
    let world = World::new(&["https://cm.example.test/http-bind"]).await;
    let mut client = world.login().await.unwrap();
    echo_to_itself(&mut client).await;
    client.logout().await.unwrap();
    world.login().await.unwrap().logout().await.unwrap();
    assert_eq!(world.asked(), 1, "remembered");
    let heads = world.proxy.heads();
    assert!(
        heads[0].starts_with("CONNECT example.test:443 "),
        "{heads:?}"
    );
    assert!(
        heads[1..]
            .iter()
            .all(|head| head.starts_with("CONNECT cm.example.test:443 ")),
        "{heads:?}"
    );
    assert_eq!(world.cm.violations(), Vec::<String>::new());
}

/// D-08: the found host may show the XMPP domain's own certificate, but no third name's.
#[tokio::test]
async fn d08_certificate_of_the_domain() {
    let links = ["https://cm.example.test/http-bind"];
    let world = World::with(&links, DOMAIN, |_| {}).await;
    world.login().await.unwrap().logout().await.unwrap();

    let world = World::with(&links, "third.test", |_| {}).await;
    let Err(ClientError::Stream(error)) = world.login().await else {
        panic!("logged in past a third name");
    };
    let (condition, text, app) = told(&error);
    assert_eq!(condition, "remote-connection-failed");
    assert_eq!(app.as_deref(), Some("tls-certificate-invalid"));
    assert!(text.contains("third.test"), "{text}");
}

/// D-06: the first address is dead, the second is used, within the client's first stream; and the next stream
/// goes there at once.
#[tokio::test]
async fn d06_first_dead_second_used() {
    let world = World::new(&[
        "https://second.other.test:5281/http-bind",
        "https://dead.example.test/http-bind",
    ])
    .await;
    world.login().await.unwrap().logout().await.unwrap();
    let dead = |world: &World| {
        let heads = world.proxy.heads();
        heads
            .iter()
            .filter(|head| head.contains("dead.example.test"))
            .count()
    };
    assert_eq!(dead(&world), 1, "the domain's own host was tried first");
    world.login().await.unwrap().logout().await.unwrap();
    assert_eq!(dead(&world), 1, "not again for a while");
    assert!(!world.second.posts().is_empty());
}

/// D-06: what answers at the first address is no connection manager.
#[tokio::test]
async fn d06_first_refuses_second_used() {
    let world = World::new(&[
        "https://second.other.test:5281/http-bind",
        "https://cm.example.test/http-bind",
    ])
    .await;
    world
        .cm
        .script(Rule::always(When::Always, Fault::page("404 Not Found")));
    let mut client = world.login().await.unwrap();
    echo_to_itself(&mut client).await;
    client.logout().await.unwrap();
    assert!(!world.cm.posts().is_empty(), "the first was asked");
    assert_eq!(world.second.violations(), Vec::<String>::new());
}

async fn echo_to_itself(client: &mut Client) {
    client
        .message(&format!("user@{DOMAIN}"), "hello")
        .await
        .unwrap();
    let stanza = client
        .wait_for(|stanza| stanza.name() == "message")
        .await
        .unwrap();
    assert_eq!(stanza.child_text("body").as_deref(), Some("hello"));
}

/// E-21, D-15: a domain that names nothing: the client is told what to do; a new answer counts once the old one
/// proved wrong.
#[tokio::test]
async fn e21_nothing_named() {
    let world = World::new(&["http://cm.example.test/http-bind"]).await;
    let Err(ClientError::Stream(error)) = world.login().await else {
        panic!("logged in without an address");
    };
    let (condition, text, app) = told(&error);
    assert_eq!(condition, "host-unknown");
    assert_eq!(app.as_deref(), Some("no-bosh-endpoint"));
    assert!(
        text.contains("names BOSH addresses that are not https only")
            && text.contains("set url under [domains.\"example.test\"]"),
        "{text}"
    );

    let world = World::new(&["https://dead.example.test/http-bind"]).await;
    world.login().await.unwrap_err();
    world.web.page(
        HOST_META,
        &xrd(&[(BOSH, "https://cm.example.test/http-bind")]),
    );
    world.login().await.unwrap().logout().await.unwrap();
    assert_eq!(world.asked(), 2);
}

/// E-31, E-20: the proxy refuses us; or the domain has no web server.
#[tokio::test]
async fn e31_e20_before_any_address() {
    let wrong = |config: &mut Config| {
        if let ProxySource::Url(url) = &mut config.proxy.source {
            url.set_password(Some("wrong")).unwrap();
        }
    };
    let world = World::with(
        &["https://cm.example.test/http-bind"],
        "cm.example.test",
        wrong,
    )
    .await;
    let Err(ClientError::Stream(error)) = world.login().await else {
        panic!("logged in with a wrong proxy password");
    };
    let (_, text, app) = told(&error);
    assert_eq!(app.as_deref(), Some("proxy-auth-failed"));
    assert!(text.contains("refused the user name or password"), "{text}");

    let account = Account::new("user", "nowhere.test", "password");
    let world = World::new(&[]).await;
    let login = Client::login(world.sidecar.addrs()[0], &account, Mechanism::Plain).await;
    let Err(ClientError::Stream(error)) = login else {
        panic!("logged in nowhere");
    };
    let (condition, text, app) = told(&error);
    assert_eq!(condition, "remote-connection-failed");
    assert_eq!(app.as_deref(), Some("discovery-failed"));
    assert!(
        text.contains("could not ask nowhere.test for its BOSH address"),
        "{text}"
    );
}
