//! Logging in to proxies by other schemes than Basic.

use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::real::{PROXY_PASSWORD, Sidecar, Squid};

use crate::support::{Scheme, Site, Way, domain_config, proxy_config, trust_config, xbosh};
use crate::walk;

/// The server behind this Squid.
fn behind(squid: &Squid, password: &str, site: Site, scheme: Scheme) -> Sidecar {
    let server = site.server();
    let url = server.bosh_url(scheme == Scheme::Https, "localhost");
    let config = [
        proxy_config(&format!("http://{}", squid.addr()), password),
        trust_config(server),
        domain_config(server.domain(), &url),
    ];
    xbosh(&config.concat())
}

/// P-06: whole sessions behind Digest. Squid wears a nonce out after `uses` requests and calls it stale, in the
/// middle of what is under way: nothing is lost, doubled or reordered.
async fn digest(site: Site, scheme: Scheme, uses: u32) {
    if !Way::Squid.available(site) {
        return;
    }
    let squid = Squid::start_digest(uses).unwrap();
    let xbosh = behind(&squid, PROXY_PASSWORD, site, scheme);
    for round in 0..2 {
        let names = format!("digest-{scheme:?}-{uses}-{round}").to_lowercase();
        walk::session(xbosh.addr(), site.server(), Mechanism::Plain, &names).await;
    }
    let log = xbosh.log();
    assert!(!log.contains(PROXY_PASSWORD), "{log}");
    let method = match scheme {
        Scheme::Http => "POST",
        Scheme::Https => "CONNECT",
    };
    // Squid writes of tunnels after their end.
    drop(xbosh);
    squid.wait_logged(method, 2).unwrap();
    let refused = squid.logged("_DENIED/407");
    assert!(refused >= if uses < 5 { 4 } else { 1 }, "{refused} times");
}

/// P-06: absolute-form requests.
#[tokio::test]
async fn squid_digest_http() {
    digest(Site::Prosody, Scheme::Http, 50).await;
}

/// P-06: a nonce that hardly lasts.
#[tokio::test]
async fn squid_digest_http_short_nonces() {
    digest(Site::Ejabberd, Scheme::Http, 4).await;
}

/// P-06: CONNECT.
#[tokio::test]
async fn squid_digest_https() {
    digest(Site::Prosody, Scheme::Https, 50).await;
}

/// P-06: CONNECT, each with a nonce of its own.
#[tokio::test]
async fn squid_digest_https_short_nonces() {
    digest(Site::Ejabberd, Scheme::Https, 1).await;
}

/// P-06, E-31: a wrong password is one sentence, after one answer to the challenge.
#[tokio::test]
async fn squid_digest_wrong_password() {
    for scheme in [Scheme::Http, Scheme::Https] {
        if !Way::Squid.available(Site::Prosody) {
            return;
        }
        let squid = Squid::start_digest(50).unwrap();
        let xbosh = behind(&squid, "wr0ng-s3cret", Site::Prosody, scheme);
        let domain = Site::Prosody.server().domain();
        let mut client = Client::connect(xbosh.addr(), domain).await.unwrap();
        let outcome = client.open().await;
        let Err(ClientError::Stream(error)) = outcome else {
            panic!("no stream error but {outcome:?}; log:\n{}", xbosh.log());
        };
        let text = error.text.unwrap_or_default();
        let expected = format!(
            "the proxy {} refused the user name or password (407, offers Digest): check proxy.username and proxy.password",
            squid.addr()
        );
        assert_eq!(text, expected);
        squid.wait_logged("/407", 2).unwrap();
        assert_eq!(squid.logged("/407"), 2, "no loop");
        assert!(!xbosh.log().contains("wr0ng"));
    }
}
