//! Asking a domain's web server, which a fake proxy finds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use url::Url;
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, ok, redirect, xrd};

use super::super::{DiscoverError, Discovery, Source};
use crate::config::{Proxy, ProxySource, Tls};
use crate::connect::Connector;
use crate::stream::error::FaultReason;

const XRD: &str = "/.well-known/host-meta";
const JRD: &str = "/.well-known/host-meta.json";
const DOMAIN: &str = "example.test";

struct World {
    web: WebHost,
    other: WebHost,
    proxy: HttpProxy,
    connector: Connector,
    discovery: Discovery,
    now: Instant,
    _files: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(&["example.test"]).await
    }

    /// The domain's web server shows a certificate for these names; a second one is at other.test.
    async fn with(names: &[&str]) -> Self {
        let authority = Authority::new();
        let web = WebHost::start(Some(authority.acceptor(names))).await;
        let other = WebHost::start(Some(authority.acceptor(&["other.test"]))).await;
        let places: HashMap<String, SocketAddr> = [
            ("example.test:443".to_owned(), web.addr()),
            ("other.test:443".to_owned(), other.addr()),
            ("third.test:443".to_owned(), other.addr()),
        ]
        .into();
        let options = ProxyOptions {
            places,
            ..ProxyOptions::default()
        };
        let proxy = HttpProxy::start(options, HttpTrick::None).await;
        let files = tempfile::tempdir().unwrap();
        let ca_file = files.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let way = Proxy {
            source: ProxySource::Url(Url::parse(&format!("http://{}", proxy.addr())).unwrap()),
            ..Proxy::default()
        };
        let tls = Tls {
            ca_file: Some(ca_file),
            ..Tls::default()
        };
        Self {
            web,
            other,
            connector: Connector::new(&way, &tls).unwrap(),
            proxy,
            discovery: Discovery::new(true),
            now: tokio::time::Instant::now().into_std(),
            _files: files,
        }
    }

    async fn find(&self) -> Result<(Vec<String>, Source), DiscoverError> {
        self.find_of(DOMAIN).await
    }

    async fn find_of(&self, domain: &str) -> Result<(Vec<String>, Source), DiscoverError> {
        let found = self
            .discovery
            .find(&self.connector, domain, self.now)
            .await?;
        let urls = found.urls.iter().map(ToString::to_string).collect();
        Ok((urls, found.source))
    }

    async fn refused(&self) -> (FaultReason, String) {
        let error = self.find().await.unwrap_err();
        (error.reason(), error.to_string())
    }
}

fn bosh(href: &str) -> String {
    xrd(&[(BOSH, href)])
}

/// D-01, D-02, D-07, D-14: one GET over TLS through the proxy, which resolves the name; no cookies, no
/// credentials, no other question.
#[tokio::test]
async fn d02_one_question() {
    let world = World::new().await;
    world.web.page(XRD, &bosh("https://cm.example.test/bosh"));
    let (urls, source) = world.find().await.unwrap();
    assert_eq!(urls, ["https://cm.example.test/bosh"]);
    assert_eq!(source, Source::Xrd);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        world.web.heads(),
        [format!(
            "GET /.well-known/host-meta HTTP/1.1\r\nhost: example.test\r\naccept: application/xrd+xml\r\nuser-agent: xbosh/{version}\r\n\r\n"
        )]
    );
    let connects = world.proxy.heads();
    assert_eq!(connects.len(), 1);
    assert!(
        connects[0].starts_with("CONNECT example.test:443 "),
        "{connects:?}"
    );
}

/// D-03: the JRD where the XRD is missing, broken, or of no use.
#[tokio::test]
async fn d03_jrd_instead() {
    for page in [
        None,
        Some(ok("", "<html>hello</html>")),
        Some(ok("", &bosh("http://plain.example.test/bosh"))),
        Some("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned()),
    ] {
        let world = World::new().await;
        if let Some(page) = page {
            world.web.reply(XRD, page);
        }
        let link = format!(r#"{{"links":[{{"rel":"{BOSH}","href":"https://j.test/b"}}]}}"#);
        world.web.page(JRD, &link);
        let found = world.find().await.unwrap();
        assert_eq!(found, (vec!["https://j.test/b".to_owned()], Source::Jrd));
    }
}

/// E-20: a captive portal answers for every web server, in the end with a certificate that is trusted: it is called what it
/// is, says nothing of the domain, and is not remembered.
#[tokio::test]
async fn e20_a_login_page_is_called_one() {
    let world = World::new().await;
    for page in [
        "<!DOCTYPE html><title>Welcome</title>",
        "\n<HTML>",
        "<html>Log in<br>",
    ] {
        world.web.page(XRD, page);
        world.web.page(JRD, page);
        let said = "could not ask example.test for its BOSH address: a web page came in place of its host-meta, perhaps the \
                    login page of this network, which a browser shows; try again later, or set url under \
                    [domains.\"example.test\"] in xbosh's config.toml";
        assert_eq!(
            world.refused().await,
            (FaultReason::DiscoveryFailed, said.to_owned())
        );
    }
    world.web.page(XRD, &bosh("https://cm.test/bosh"));
    assert!(world.find().await.is_ok(), "the user has logged in");
}

/// E-21: nothing usable is told apart by what there was instead, and not asked again for a while.
#[tokio::test]
async fn e21_nothing_usable() {
    let set = "if you know it, set url under [domains.\"example.test\"] in xbosh's config.toml";
    for (page, said) in [
        (None, "its web server says 404 Not Found to host-meta"),
        (
            Some(bosh("http://plain.example.test/bosh")),
            "its host-meta names BOSH addresses that are not https only",
        ),
        (
            Some(xrd(&[(
                "urn:xmpp:alt-connections:websocket",
                "wss://a.test/ws",
            )])),
            "its host-meta names WebSocket addresses only",
        ),
        (Some(xrd(&[])), "its host-meta has no link for XMPP"),
        (
            Some("<xrd/>".into()),
            "its host-meta: it is no XRD document",
        ),
    ] {
        let world = World::new().await;
        if let Some(page) = page {
            world.web.page(XRD, &page);
        }
        let expected = format!("example.test names no BOSH address ({said}): {set}");
        assert_eq!(
            world.refused().await,
            (FaultReason::NoBoshEndpoint, expected.clone())
        );
        let asked = world.web.heads().len();
        assert_eq!(
            world.refused().await,
            (FaultReason::NoBoshEndpoint, expected)
        );
        assert_eq!(world.web.heads().len(), asked, "remembered");
    }
}

/// E-20, D-02: no TLS, a certificate of somebody else, a server's own trouble: asked once more, never by http.
#[tokio::test]
async fn e20_failures() {
    let set = "or set url under [domains.\"example.test\"] in xbosh's config.toml";
    let world = World::with(&["somebody.else"]).await;
    let (reason, text) = world.refused().await;
    assert_eq!(reason, FaultReason::DiscoveryFailed);
    assert!(
        text.starts_with(
            "could not ask example.test for its BOSH address: the certificate of example.test:443"
        ) && text.ends_with(set),
        "{text}"
    );
    assert_eq!(
        world.proxy.heads().len(),
        1,
        "a certificate does not get better"
    );

    let world = World::new().await;
    world
        .web
        .reply(XRD, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let (reason, text) = world.refused().await;
    assert_eq!(reason, FaultReason::DiscoveryFailed);
    assert!(
        text.contains("its web server says 503 Service Unavailable; try again later, or set"),
        "{text}"
    );
    assert_eq!(world.web.heads().len(), 2, "asked once more");

    let error = world.find_of("unknown.test").await.unwrap_err();
    assert_eq!(error.reason(), FaultReason::DiscoveryFailed);
    assert!(
        world
            .proxy
            .heads()
            .iter()
            .all(|head| head.starts_with("CONNECT "))
    );
}

/// D-14: a host-meta has an end.
#[tokio::test]
async fn d14_oversized() {
    let world = World::new().await;
    let page = format!(
        "{}<!--{}-->",
        bosh("https://cm.test/"),
        "x".repeat(256 * 1024)
    );
    world.web.page(XRD, &page);
    let (reason, text) = world.refused().await;
    assert_eq!(reason, FaultReason::DiscoveryFailed);
    assert!(text.contains("its host-meta is too large"), "{text}");
}

/// D-11, D-12: redirects from https to https are followed, each host by its own certificate, five at most.
#[tokio::test]
async fn d11_redirects() {
    for status in [
        "301 Moved",
        "302 Found",
        "303 See Other",
        "307 Temporary",
        "308 Permanent",
    ] {
        let world = World::new().await;
        world
            .web
            .reply(XRD, redirect(status, "https://other.test/meta?x=1"));
        world.other.page("/meta?x=1", &bosh("https://cm.test/bosh"));
        let (urls, _) = world.find().await.unwrap();
        assert_eq!(urls, ["https://cm.test/bosh"]);
    }
}

/// D-12: a hop to http, a user name, a loop, a host without a certificate of its own, a sixth hop.
#[tokio::test]
async fn d12_redirects_refused() {
    for to in [
        "http://other.test/meta",
        "https://user@other.test/meta",
        "https://example.test/.well-known/host-meta",
        "https://third.test/meta",
        "https://other.test/1",
        "/\u{0}",
    ] {
        let world = World::new().await;
        world.web.reply(XRD, redirect("302 Found", to));
        world.other.page("/meta", &bosh("https://cm.test/bosh"));
        for hop in 1..=5 {
            let next = format!("/{}", hop + 1);
            world
                .other
                .reply(&format!("/{hop}"), redirect("302 Found", &next));
        }
        world.other.page("/6", &bosh("https://cm.test/bosh"));
        let (reason, text) = world.refused().await;
        assert_eq!(reason, FaultReason::DiscoveryFailed, "{to}: {text}");
    }
}

/// D-15: an answer is used as long as it is fresh, or until it proves wrong; many ask as one.
#[tokio::test]
async fn d15_cache() {
    let mut world = World::new().await;
    let page = ok("Cache-Control: max-age=600\r\n", &bosh("https://one.test/"));
    world.web.reply(XRD, page);
    let (a, b) = tokio::join!(world.find(), world.find());
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(world.web.heads().len(), 1);

    world.web.page(XRD, &bosh("https://two.test/"));
    world.now += Duration::from_secs(599);
    assert_eq!(world.find().await.unwrap().0, ["https://one.test/"]);
    world.now += Duration::from_secs(2);
    assert_eq!(world.find().await.unwrap().0, ["https://two.test/"]);

    world.web.page(XRD, &bosh("https://three.test/"));
    world.discovery.forget(DOMAIN);
    assert_eq!(world.find().await.unwrap().0, ["https://three.test/"]);

    world.discovery = Discovery::new(false);
    let before = world.web.heads().len();
    world.find().await.unwrap();
    world.find().await.unwrap();
    assert_eq!(world.web.heads().len(), before + 2, "switched off");
}

/// D-16: an address has no host-meta: nothing is asked.
#[tokio::test]
async fn d16_addresses() {
    let world = World::new().await;
    for address in ["192.0.2.1", "[2001:db8::1]"] {
        let error = world.find_of(address).await.unwrap_err();
        assert_eq!(error.reason(), FaultReason::NoBoshEndpoint);
    }
    assert_eq!(world.proxy.heads(), Vec::<String>::new());
}

/// E-31: what the proxy says about us is told as everywhere else.
#[tokio::test]
async fn e31_proxy_in_the_way() {
    let options = ProxyOptions::with_credentials("me", "secret");
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let way = Proxy {
        source: ProxySource::Url(Url::parse(&format!("http://{}", proxy.addr())).unwrap()),
        ..Proxy::default()
    };
    let connector = Connector::new(&way, &Tls::default()).unwrap();
    let discovery = Discovery::new(true);
    let error = discovery
        .find(&connector, DOMAIN, tokio::time::Instant::now().into_std())
        .await
        .unwrap_err();
    assert_eq!(error.reason(), FaultReason::ProxyAuth);
    assert!(
        error.to_string().contains("wants a user name and password"),
        "{error}"
    );
    assert_eq!(proxy.heads().len(), 1);
}
