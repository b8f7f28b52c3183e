//! What is wrong with what a domain says of itself. The proxy leads to its web server.

use insta::assert_snapshot;
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, ok, redirect, xrd};

use crate::support::{Case, DOMAIN};

const HOST_META: &str = "/.well-known/host-meta";

#[tokio::test(flavor = "multi_thread")]
async fn host_meta() {
    let websocket = xrd(&[("urn:xmpp:alt-connections:websocket", "wss://example.org/ws")]);
    let http = xrd(&[(BOSH, "http://example.org:5280/http-bind")]);
    let page = "<!DOCTYPE html><html><title>Welcome to the hotel</title></html>";
    let mut all = String::new();
    for (name, reply) in [
        ("no host-meta", None),
        ("WebSocket only", Some(ok("", &websocket))),
        ("http only", Some(ok("", &http))),
        ("nothing for XMPP", Some(ok("", &xrd(&[])))),
        ("no XRD", Some(ok("", "{}"))),
        (
            "a login page",
            Some(ok("Content-Type: text/html\r\n", page)),
        ),
        (
            "sent to a login page",
            Some(redirect("302 Found", "http://login.example/")),
        ),
        (
            "a broken web server",
            Some("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".into()),
        ),
    ] {
        let authority = Authority::new();
        let web = WebHost::start(Some(authority.acceptor(&[DOMAIN]))).await;
        if let Some(reply) = reply {
            web.reply(HOST_META, reply);
        }
        all.push_str(&through(&web, &authority, true).await.told(name).await);
    }
    let authority = Authority::new();
    let web = WebHost::start(Some(authority.acceptor(&["login.example"]))).await;
    let case = through(&web, &authority, true).await;
    all.push_str(&case.told("a login page with its own certificate").await);
    let case = through(&web, &authority, false).await;
    all.push_str(
        &case
            .told("a login page with a certificate that nobody trusts")
            .await,
    );
    assert_snapshot!(all);
}

/// The proxy knows this one name, and is kept as long as the process.
async fn through(web: &WebHost, authority: &Authority, trusted: bool) -> Case {
    let options = ProxyOptions {
        places: [(format!("{DOMAIN}:443"), web.addr())].into(),
        ..ProxyOptions::default()
    };
    let proxy = Box::leak(Box::new(HttpProxy::start(options, HttpTrick::None).await));
    let mut config = format!("[proxy]\nurl = \"http://{}\"\n", proxy.addr());
    if trusted {
        config.push_str("[tls]\nca_file = \"ca.pem\"\n");
    }
    let case = Case::new(&config).named(proxy.addr(), "proxy.example:3128");
    case.write("ca.pem", &authority.pem(), 0o644);
    case
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown() {
    let proxy = HttpProxy::start(ProxyOptions::default(), HttpTrick::None).await;
    let config = format!("[proxy]\nurl = \"http://{}\"\n", proxy.addr());
    let case = Case::new(&config).named(proxy.addr(), "proxy.example:3128");
    let mut all = case.told("a domain that the proxy does not find").await;
    let case = Case::new("[proxy]\nurl = \"none\"\n[discovery]\nhost_meta = false\n");
    all.push_str(&case.told("no address, and nobody to ask").await);
    let case = Case::new("allowed_domains = [\"example.com\"]\n");
    all.push_str(&case.told("a domain that is not allowed").await);
    assert_snapshot!(all);
}
