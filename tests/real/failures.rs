//! What goes wrong on the way out reaches the client as one stream error that names the hop, within the set-up limit.

use std::time::{Duration, Instant};

use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::real::PROXY_PASSWORD;
use xbosh_testkit::real::available::{self, Program};

use crate::support::{
    Scheme, Site, Way, domain_config, proxy_config, squid, trust_config, xbosh, xbosh_to,
};

const WRONG_PASSWORD: &str = "wr0ng-s3cret";
/// Set in the configuration of all tests here, in seconds.
const SETUP_TIMEOUT: u64 = 10;

/// What the client and the log must say.
struct Expected<'a> {
    condition: &'a str,
    /// The detail element in our namespace.
    app: Option<&'a str>,
    /// A word of the text that names the hop.
    hop: &'a str,
    /// What a log line must hold.
    log: &'a str,
}

async fn expect(config: &str, domain: &str, expected: Expected<'_>) {
    let config = format!("{config}[limits]\nsetup_timeout = {SETUP_TIMEOUT}\n");
    let xbosh = xbosh(&config);
    #[allow(clippy::disallowed_methods, reason = "the limit is one of real time")]
    let begun = Instant::now();
    let mut client = Client::connect(xbosh.addr(), domain).await.unwrap();
    client.set_deadline(Duration::from_secs(SETUP_TIMEOUT + 5));
    let outcome = client.open().await;
    let took = begun.elapsed();
    let log = xbosh.log();
    let Err(ClientError::Stream(error)) = outcome else {
        panic!("no stream error but {outcome:?}; log:\n{log}");
    };
    assert_eq!(error.condition, expected.condition, "{error:?}\n{log}");
    let app = expected
        .app
        .map(|name| ("urn:xbosh:errors:0".to_owned(), name.to_owned()));
    assert_eq!(error.app, app, "{error:?}\n{log}");
    let text = error.text.unwrap_or_default();
    assert!(text.contains(expected.hop), "{text}");
    assert!(
        took < Duration::from_secs(SETUP_TIMEOUT + 2),
        "after {took:?}"
    );
    let end = client.next_stanza().await.unwrap_err();
    assert!(matches!(end, ClientError::Ended), "{end}");
    assert!(
        log.contains(expected.log),
        "no {} in the log:\n{log}",
        expected.log
    );
    for secret in [PROXY_PASSWORD, WRONG_PASSWORD] {
        assert!(!log.contains(secret), "a password in the log:\n{log}");
    }
}

/// The server's URL and the trust in it, behind some `[proxy]`.
fn behind(proxy: &str, site: Site, scheme: Scheme) -> String {
    let server = site.server();
    let url = server.bosh_url(scheme == Scheme::Https, "localhost");
    [
        proxy,
        &trust_config(server),
        &domain_config(server.domain(), &url),
    ]
    .concat()
}

async fn wrong_password(way: Way, scheme: Scheme) {
    if !way.available(Site::Prosody) {
        return;
    }
    let (url, _) = way.proxy().unwrap();
    let config = behind(&proxy_config(&url, WRONG_PASSWORD), Site::Prosody, scheme);
    let expected = Expected {
        condition: "remote-connection-failed",
        app: Some("proxy-auth-failed"),
        hop: "proxy",
        log: url.split("//").nth(1).unwrap(),
    };
    expect(&config, Site::Prosody.server().domain(), expected).await;
}

/// E-31: 407 to an absolute-form request.
#[tokio::test]
async fn squid_wrong_password_http() {
    wrong_password(Way::Squid, Scheme::Http).await;
}

/// E-31: 407 to CONNECT.
#[tokio::test]
async fn squid_wrong_password_https() {
    wrong_password(Way::Squid, Scheme::Https).await;
}

/// E-31, P-06: tinyproxy answers wrong credentials with 401.
#[tokio::test]
async fn tinyproxy_wrong_password_http() {
    wrong_password(Way::Tinyproxy, Scheme::Http).await;
}

/// E-31, P-06: tinyproxy answers wrong credentials with 401, to CONNECT too.
#[tokio::test]
async fn tinyproxy_wrong_password_https() {
    wrong_password(Way::Tinyproxy, Scheme::Https).await;
}

/// E-31: microsocks ends RFC 1929 with status 2.
#[tokio::test]
async fn microsocks_wrong_password() {
    wrong_password(Way::Microsocks, Scheme::Https).await;
}

/// E-31: no credentials where the proxy wants some: 407 to CONNECT.
#[tokio::test]
async fn squid_without_credentials() {
    if !Way::Squid.available(Site::Prosody) {
        return;
    }
    let proxy = format!("[proxy]\nurl = \"http://{}\"\n", squid().addr());
    let expected = Expected {
        condition: "remote-connection-failed",
        app: Some("proxy-auth-failed"),
        hop: "proxy",
        log: &squid().addr().to_string(),
    };
    let config = behind(&proxy, Site::Prosody, Scheme::Https);
    expect(&config, Site::Prosody.server().domain(), expected).await;
}

/// E-32: the proxy's rules refuse CONNECT to this port.
#[tokio::test]
async fn squid_refuses_the_port() {
    if !available::all(&[Program::Squid]) {
        return;
    }
    let url = format!("https://localhost:{}/bosh", squid().refused_port());
    let config = Way::Squid.config() + &domain_config("xmpp.test", &url);
    let expected = Expected {
        condition: "remote-connection-failed",
        app: Some("proxy-refused"),
        hop: "proxy",
        log: "403",
    };
    expect(&config, "xmpp.test", expected).await;
}

/// E-33 and E-50: nobody listens at the connection manager's port.
/// A port that is taken and not listened on: connections are refused, and nobody else can get it meanwhile.
struct ClosedPort(tokio::net::TcpSocket);

impl ClosedPort {
    fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

async fn closed_port(way: Way, app: &str, hop: &str) {
    if !way.available_alone() {
        return;
    }
    let closed = ClosedPort::new();
    let port = closed.port();
    let url = format!("https://{}:{port}/bosh", way.cm_host());
    let config = way.config() + &domain_config("xmpp.test", &url);
    let expected = Expected {
        condition: "remote-connection-failed",
        app: Some(app),
        hop,
        log: &port.to_string(),
    };
    expect(&config, "xmpp.test", expected).await;
}

#[tokio::test]
async fn direct_closed_port() {
    closed_port(Way::Direct, "cm-unreachable", "BOSH server").await;
}

#[tokio::test]
async fn squid_closed_port() {
    closed_port(Way::Squid, "proxy-upstream-failed", "proxy").await;
}

#[tokio::test]
async fn tinyproxy_closed_port() {
    closed_port(Way::Tinyproxy, "proxy-upstream-failed", "proxy").await;
}

#[tokio::test]
async fn microsocks_closed_port() {
    closed_port(Way::Microsocks, "proxy-upstream-failed", "proxy").await;
}

#[tokio::test]
async fn dante_closed_port() {
    closed_port(Way::Dante, "proxy-upstream-failed", "proxy").await;
}

/// E-30: nobody listens at the proxy's port.
#[tokio::test]
async fn no_proxy_there() {
    let closed = ClosedPort::new();
    let port = closed.port();
    let url = format!("http://127.0.0.1:{port}");
    let config =
        proxy_config(&url, PROXY_PASSWORD) + &domain_config("xmpp.test", "https://localhost:1/b");
    let expected = Expected {
        condition: "remote-connection-failed",
        app: Some("proxy-unreachable"),
        hop: "proxy",
        log: &format!("127.0.0.1:{port}"),
    };
    expect(&config, "xmpp.test", expected).await;
}

/// E-40: the server's authority is not among those trusted.
async fn untrusted(site: Site, way: Way) {
    if !way.available(site) {
        return;
    }
    let server = site.server();
    let url = server.bosh_url(true, way.cm_host());
    let config = way.config() + &domain_config(server.domain(), &url);
    let expected = Expected {
        condition: "remote-connection-failed",
        app: Some("tls-certificate-invalid"),
        hop: "certificate",
        log: "ca_file",
    };
    expect(&config, server.domain(), expected).await;
}

#[tokio::test]
async fn prosody_untrusted_certificate_direct() {
    untrusted(Site::Prosody, Way::Direct).await;
}

#[tokio::test]
async fn ejabberd_untrusted_certificate_direct() {
    untrusted(Site::Ejabberd, Way::Direct).await;
}

#[tokio::test]
async fn prosody_untrusted_certificate_squid() {
    untrusted(Site::Prosody, Way::Squid).await;
}

#[tokio::test]
async fn ejabberd_untrusted_certificate_microsocks() {
    untrusted(Site::Ejabberd, Way::Microsocks).await;
}

/// A domain that the connection manager does not serve.
async fn unknown_host(site: Site, condition: &str) {
    if !Way::Squid.available(site) {
        return;
    }
    let server = site.server();
    let url = server.bosh_url(true, "localhost");
    let config = [
        Way::Squid.config(),
        trust_config(server),
        domain_config("nowhere.test", &url),
    ];
    let expected = Expected {
        condition,
        app: None,
        hop: "BOSH server",
        log: "nowhere.test",
    };
    expect(&config.concat(), "nowhere.test", expected).await;
}

/// C-04: Prosody says improper-addressing of a host that it does not know.
#[tokio::test]
async fn prosody_unknown_host() {
    unknown_host(Site::Prosody, "host-unknown").await;
}

/// C-05: ejabberd says internal-server-error of a host that it does not know.
#[tokio::test]
async fn ejabberd_unknown_host() {
    unknown_host(Site::Ejabberd, "internal-server-error").await;
}

/// B-60, S-39: the server's refusal ends nothing; a second try on the same stream logs in.
#[tokio::test]
async fn a_refused_login_can_be_tried_again() {
    if !Way::Squid.available(Site::Prosody) {
        return;
    }
    let xbosh = xbosh_to(Site::Prosody, Scheme::Https, Way::Squid);
    let mut account = Site::Prosody.server().add_account("second-try").unwrap();
    let right = std::mem::replace(&mut account.password, "wrong".to_owned());
    let mut client = Client::connect(xbosh.addr(), &account.domain)
        .await
        .unwrap();
    client.open().await.unwrap();
    let refused = client
        .authenticate(&account, Mechanism::Scram)
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, ClientError::Refused(condition) if condition == "not-authorized"),
        "{refused}"
    );
    // no restart in between.
    account.password = right;
    client
        .authenticate(&account, Mechanism::Scram)
        .await
        .unwrap();
    client.open().await.unwrap();
    client.bind(None).await.unwrap();
    client.logout().await.unwrap();
}
