//! A sidecar in this process in front of an embedded manager.

use std::net::SocketAddr;

use url::Url;
use xbosh::config::{Config, Domain, Proxy, ProxySource, Tls};
use xbosh::driver::{Activated, Sidecar};
use xbosh_testkit::client::{Account, Client, Mechanism, StreamError};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::xmpp::Server;

/// The domain everything is about.
pub(crate) const DOMAIN: &str = "localhost";

/// Server, manager and sidecar; the client logs in as `user`.
pub(crate) struct Chain {
    /// Of its certificate authorities.
    pub(crate) folder: tempfile::TempDir,
    pub(crate) server: Server,
    pub(crate) cm: Cm,
    pub(crate) sidecar: Sidecar,
}

impl Chain {
    pub(crate) async fn start(profile: Profile) -> Self {
        Self::start_with(profile, |_| {}).await
    }

    /// As [`Self::start`]; `adjust` changes the configuration first.
    pub(crate) async fn start_with(profile: Profile, adjust: impl FnOnce(&mut Config)) -> Self {
        let server = server();
        let cm = Cm::start(&server, profile, None).await;
        let mut config = config(
            &cm.url("127.0.0.1"),
            Proxy {
                source: ProxySource::None,
                ..Proxy::default()
            },
        );
        adjust(&mut config);
        let folder = tempfile::tempdir().unwrap();
        let authorities = Some(folder.path().join("ca"));
        let sidecar = Sidecar::start_with(config, Activated::default(), authorities)
            .await
            .unwrap();
        Self {
            folder,
            server,
            cm,
            sidecar,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.sidecar.addrs()[0]
    }

    pub(crate) async fn login(&self) -> Client {
        Client::login(self.addr(), &account("user"), Mechanism::Plain)
            .await
            .unwrap()
    }

    /// Nothing was done against the specification.
    pub(crate) fn assert_faithful(&self) {
        assert_eq!(self.cm.violations(), Vec::<String>::new());
    }
}

pub(crate) fn server() -> Server {
    let server = Server::new(DOMAIN);
    for user in ["user", "other"] {
        server.add_user(user, "password");
    }
    server
}

pub(crate) fn account(user: &str) -> Account {
    Account::new(user, DOMAIN, "password")
}

/// A configuration for one manager and way out, on a port that the system chooses.
pub(crate) fn config(url: &str, proxy: Proxy) -> Config {
    let mut config = Config {
        listen: vec![([127, 0, 0, 1], 0).into()],
        ..Config::default()
    };
    let domain = Domain {
        url: Some(Url::parse(url).unwrap()),
        route: None,
        tls: Tls::default(),
        bosh: config.bosh.clone(),
        proxy,
    };
    config.domains.insert(DOMAIN.into(), domain);
    config
}

/// Sends numbered messages to `echo` and expects each back, once and in order.
pub(crate) async fn echo(client: &mut Client, range: std::ops::Range<u32>) {
    for n in range.clone() {
        client
            .message(&format!("echo@{DOMAIN}"), &format!("number {n}"))
            .await
            .unwrap();
    }
    for n in range {
        let stanza = client
            .wait_for(|stanza| stanza.name() == "message")
            .await
            .unwrap();
        assert_eq!(
            stanza.child_text("body").as_deref(),
            Some(format!("number {n}").as_str())
        );
    }
}

/// Condition, text and detail of a stream error.
pub(crate) fn told(error: &StreamError) -> (String, String, Option<String>) {
    let detail = app(error).map(str::to_owned);
    (
        error.condition.clone(),
        error.text.clone().unwrap_or_default(),
        detail,
    )
}

/// Name of a stream error's detail element.
pub(crate) fn app(error: &StreamError) -> Option<&str> {
    error.app.as_ref().map(|(_, name)| name.as_str())
}
