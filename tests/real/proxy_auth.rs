//! Logging in to proxies by other schemes than Basic.

use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{Cntlm, PROXY_PASSWORD, Sidecar, Squid};

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
    let worn_out = uses < 5 && scheme == Scheme::Http;
    assert!(refused >= if worn_out { 4 } else { 1 }, "{refused} times");
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

/// P-06, E-31: a proxy that wants NTLM alone: the error names the way, and the way works: cntlm between xbosh and
/// the proxy, with no credentials in xbosh's own configuration.
async fn ntlm(scheme: Scheme) {
    if !Way::Squid.available(Site::Prosody) || !available::all(&[Program::Cntlm]) {
        return;
    }
    let squid = Squid::start_ntlm().unwrap();
    let server = Site::Prosody.server();
    let xbosh_direct = behind(&squid, PROXY_PASSWORD, Site::Prosody, scheme);
    let mut client = Client::connect(xbosh_direct.addr(), server.domain())
        .await
        .unwrap();
    let outcome = client.open().await;
    let Err(ClientError::Stream(error)) = outcome else {
        panic!(
            "no stream error but {outcome:?}; log:\n{}",
            xbosh_direct.log()
        );
    };
    assert_eq!(
        error.text.unwrap_or_default(),
        format!(
            "the proxy {} wants a login that xbosh does not speak (407, offers NTLM): run cntlm or px on this machine and set proxy.url to its address, see docs/corporate-proxies.md",
            squid.addr()
        )
    );

    let cntlm = Cntlm::start(squid.addr()).unwrap();
    let url = server.bosh_url(scheme == Scheme::Https, "localhost");
    let config = [
        format!("[proxy]\nurl = \"http://{}\"\n", cntlm.addr()),
        trust_config(server),
        domain_config(server.domain(), &url),
    ];
    let xbosh = xbosh(&config.concat());
    let names = format!("ntlm-{scheme:?}").to_lowercase();
    walk::session(xbosh.addr(), server, Mechanism::Plain, &names).await;
    drop(xbosh);
    // It lets nobody through who has not logged in; its helper misreads the name.
    squid.wait_logged("/200 ", 1).unwrap();
}

/// P-06: absolute-form requests.
#[tokio::test]
async fn cntlm_http() {
    ntlm(Scheme::Http).await;
}

/// P-06: CONNECT.
#[tokio::test]
async fn cntlm_https() {
    ntlm(Scheme::Https).await;
}
