//! Exchanges through scripted proxies.

use super::*;
use crate::bosh::failure::FailureKind;
use crate::connect::tests::authority::Authority;

const BASIC: &str = "proxy-authorization: Basic dXNlcjpzM2NyZXQ=\r\n";
const NAME: &str = "cm.invalid";

fn target(scheme: &str) -> Url {
    Url::parse(&format!("{scheme}://{NAME}:5280/http-bind?a=b")).unwrap()
}

fn trusting(url: Url, proxy: &config::Proxy, authority: &Authority) -> SessionClient {
    let connector = Connector::new(proxy, &authority.tls()).unwrap();
    SessionClient::new(Target::new(url), connector, ClientOptions::default())
}

/// P-01, P-05, P-07, P-12: absolute-form with the login; the name is never resolved here. One connection
/// carries several requests.
#[tokio::test]
async fn p01_absolute_form() {
    let proxy = Peer::new().await;
    let client = client(target("http"), &via("http", proxy.address()));
    let served = async {
        let mut conn = proxy.accept().await;
        for _ in 0..2 {
            let (head, body) = conn.request().await;
            assert_eq!(
                head,
                format!(
                    "POST http://{NAME}:5280/http-bind?a=b HTTP/1.1\r\nhost: {NAME}:5280\r\n\
                     content-type: text/xml; charset=utf-8\r\ncache-control: no-store\r\npragma: no-cache\r\n\
                     accept-encoding: gzip\r\nuser-agent: xbosh/{}\r\ncontent-length: {}\r\n{BASIC}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    BODY.len()
                )
            );
            assert_eq!(body, BODY.as_bytes());
            conn.send(&counted("x")).await;
        }
        conn
    };
    let asked = async {
        for _ in 0..2 {
            assert_eq!(client.exchange(ask()).await.unwrap().status, 200);
        }
    };
    tokio::join!(asked, served);
}

/// P-08, T-31: a proxy that closes after each answer, by HTTP/1.0 or without a word.
#[tokio::test]
async fn p08_closing_proxies() {
    for reply in [
        "HTTP/1.0 200 OK\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let proxy = Peer::new().await;
        let client = client(target("http"), &via("http", proxy.address()));
        for _ in 0..5 {
            let count = Count::default();
            let (result, ()) = tokio::join!(
                client.exchange(ask_counted(&count)),
                proxy.answer_close(reply.as_bytes())
            );
            assert_eq!((&result.unwrap().body[..], count.get()), (&b"x"[..], 1));
        }
    }
}

/// P-06, E-31 to E-33: what only the proxy can have said to an absolute-form request.
#[tokio::test]
async fn p06_refusals() {
    let page = "x".repeat(3000);
    let squid = |status: &str, headers: &str| {
        format!(
            "HTTP/1.1 {status}\r\nServer: squid/5.7\r\n{headers}Content-Length: 3000\r\nConnection: keep-alive\r\n\r\n{page}"
        )
    };
    let cases = [
        (
            squid("407 Proxy Authentication Required", "X-Squid-Error: ERR_CACHE_ACCESS_DENIED 0\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"),
            FailureKind::ProxyAuth,
            "the proxy {proxy} refused the user name or password (407, offers Basic): check proxy.username and proxy.password",
        ),
        (
            "HTTP/1.0 401 Unauthorized\r\nServer: tinyproxy/1.11.1\r\nWWW-Authenticate: Basic realm=\"tinyproxy\"\r\n\r\n<html>".to_owned(),
            FailureKind::ProxyAuth,
            "the proxy {proxy} refused the user name or password (401, offers Basic): check proxy.username and proxy.password",
        ),
        (
            squid("407 No", "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n"),
            FailureKind::ProxyAuth,
            "the proxy {proxy} wants a login that xbosh does not speak (407, offers Negotiate, NTLM): run cntlm or px on this machine and set proxy.url to its address, see docs/corporate-proxies.md",
        ),
        (
            squid("403 Forbidden", "X-Squid-Error: ERR_ACCESS_DENIED 0\r\n"),
            FailureKind::ProxyRefused,
            "the proxy {proxy} does not allow a connection to cm.invalid:5280 (403: ERR_ACCESS_DENIED 0); many proxies allow only port 443",
        ),
        (
            squid("503 Service Unavailable", "X-Squid-Error: ERR_CONNECT_FAIL 111\r\n"),
            FailureKind::ProxyUpstream,
            "the proxy {proxy} could not reach cm.invalid:5280 (503: ERR_CONNECT_FAIL 111); check the url of this domain, or try again later",
        ),
    ];
    for (reply, kind, text) in cases {
        let proxy = Peer::new().await;
        let client = client(target("http"), &via("http", proxy.address()));
        let (result, _conn) = tokio::join!(client.exchange(ask()), proxy.answer(reply.as_bytes()));
        let failure = result.unwrap_err();
        assert_eq!(failure.kind, kind);
        assert_eq!(
            failure.text,
            text.replace("{proxy}", &proxy.address().to_string())
        );
    }
    // What a manager behind the proxy may say itself is its reply.
    for reply in [
        "403 Forbidden\r\n",
        "503 Busy\r\n",
        "401 No\r\n",
        "502 Bad Gateway\r\n",
    ] {
        let proxy = Peer::new().await;
        let client = client(target("http"), &via("http", proxy.address()));
        let reply = format!("HTTP/1.1 {reply}Content-Length: 0\r\n\r\n");
        let (result, _conn) = tokio::join!(client.exchange(ask()), proxy.answer(reply.as_bytes()));
        assert_eq!(result.unwrap().status.to_string(), reply[9..12]);
    }
}

/// P-02, P-05: CONNECT with the login, inside it TLS verified against the manager's name, and no login there.
#[tokio::test]
async fn p02_tunnel() {
    let ours = Authority::new();
    for (host, name) in [(NAME, NAME), ("[::1]", "::1")] {
        let proxy = Peer::new().await;
        let url = Url::parse(&format!("https://{host}/b")).unwrap();
        let client = trusting(url, &via("http", proxy.address()), &ours);
        let served = async {
            let mut conn = proxy.accept().await;
            let head = conn.head().await;
            conn.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await;
            let inside = ours.server_http1(name).accept(conn.stream).await.unwrap();
            let mut conn = Conn::new(inside);
            let (inner, _) = conn.request().await;
            conn.send(&counted("x")).await;
            (head, inner, conn)
        };
        let (result, (head, inner, _conn)) = tokio::join!(client.exchange(ask()), served);
        assert_eq!(result.unwrap().status, 200);
        assert!(head.starts_with(&format!(
            "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n"
        )));
        assert!(head.contains("Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=\r\n"));
        assert!(
            inner.starts_with(&format!("POST /b HTTP/1.1\r\nhost: {host}\r\n")),
            "{inner}"
        );
        assert!(!inner.to_ascii_lowercase().contains("proxy"), "{inner}");
    }
}

/// P-02, P-13: a proxy reached over TLS, trusted by `proxy.ca_file`; neither its certificate nor its authority
/// is good for the manager, and the other way round.
#[tokio::test]
async fn p13_https_proxy() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let nested = async |proxy: &Peer, outer: &Authority, inner: &Authority, name: &str| {
        let Ok(stream) = outer.server("127.0.0.1").accept(proxy.tcp().await).await else {
            return;
        };
        let mut conn = Conn::new(stream);
        if !conn.head().await.starts_with("CONNECT cm.invalid:5280 ") {
            return;
        }
        conn.send(b"HTTP/1.1 200 OK\r\n\r\n").await;
        if let Ok(inside) = inner.server_http1(name).accept(conn.stream).await {
            let mut conn = Conn::new(inside);
            conn.request().await;
            conn.send(&counted("x")).await;
        }
    };
    for (outer, inner, name, refused) in [
        (&theirs, &ours, NAME, None),
        (
            &theirs,
            &ours,
            "127.0.0.1",
            Some(
                "cm.invalid:5280 is not accepted: it is for another name (127.0.0.1); check the url of this domain",
            ),
        ),
        (
            &theirs,
            &theirs,
            NAME,
            Some(
                "cm.invalid:5280 is not accepted: nobody this machine trusts has signed it (issuer \"rcgen self signed cert\", subject \"rcgen self signed cert\"); if your network inspects TLS or the server has its own authority, add that root to tls.ca_file",
            ),
        ),
        (
            &ours,
            &ours,
            NAME,
            Some(
                "{proxy} is not accepted: nobody this machine trusts has signed it (issuer \"rcgen self signed cert\", subject \"rcgen self signed cert\"); if the proxy has its own authority, add that root to proxy.ca_file",
            ),
        ),
    ] {
        let proxy = Peer::new().await;
        let settings = config::Proxy {
            ca_file: Some(theirs.ca_file()),
            ..via("https", proxy.address())
        };
        let client = trusting(target("https"), &settings, &ours);
        let (result, ()) = tokio::join!(client.exchange(ask()), nested(&proxy, outer, inner, name));
        match refused {
            None => assert_eq!(result.unwrap().status, 200),
            Some(text) => {
                let failure = result.unwrap_err();
                assert_eq!(
                    (failure.kind, failure.sent),
                    (FailureKind::TlsCertificate, false)
                );
                let text = text.replace("{proxy}", &proxy.address().to_string());
                assert_eq!(failure.text, format!("the certificate of {text}"));
            }
        }
    }
}

/// P-13: an absolute-form request to a proxy reached over TLS.
#[tokio::test]
async fn p13_absolute_form_over_tls() {
    let theirs = Authority::new();
    let proxy = Peer::new().await;
    let settings = config::Proxy {
        ca_file: Some(theirs.ca_file()),
        ..via("https", proxy.address())
    };
    let client = client(target("http"), &settings);
    let served = async {
        let stream = theirs
            .server("127.0.0.1")
            .accept(proxy.tcp().await)
            .await
            .unwrap();
        let mut conn = Conn::new(stream);
        let (head, _) = conn.request().await;
        conn.send(&counted("x")).await;
        (head, conn)
    };
    let (result, (head, _conn)) = tokio::join!(client.exchange(ask()), served);
    assert_eq!(result.unwrap().status, 200);
    assert!(
        head.starts_with("POST http://cm.invalid:5280/") && head.contains(BASIC),
        "{head}"
    );
}

/// P-12, P-16, P-17: SOCKS5 with a login and the name as it is; then origin-form, and nothing for a proxy.
#[tokio::test]
async fn p17_socks5() {
    for scheme in ["socks5", "socks5h"] {
        let proxy = Peer::new().await;
        let client = client(target("http"), &via(scheme, proxy.address()));
        let served = async {
            let mut conn = proxy.accept().await;
            let mut heard = Vec::new();
            for (length, reply) in [
                (4, &[5, 2][..]),
                (13, &[1, 0]),
                (17, &[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]),
            ] {
                let mut buffer = vec![0; length];
                conn.stream.read_exact(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer);
                conn.send(reply).await;
            }
            let (head, _) = conn.request().await;
            conn.send(&counted("x")).await;
            (heard, head, conn)
        };
        let (result, (heard, head, _conn)) = tokio::join!(client.exchange(ask()), served);
        assert_eq!(result.unwrap().status, 200);
        assert_eq!(
            heard,
            b"\x05\x02\0\x02\x01\x04user\x06s3cret\x05\x01\0\x03\x0acm.invalid\x14\xa0"
        );
        assert!(head.starts_with("POST /http-bind?a=b HTTP/1.1\r\nhost: cm.invalid:5280\r\n"));
        assert!(!head.to_ascii_lowercase().contains("proxy"), "{head}");
    }
}

/// E-31, E-34, P-14: refusals on the way, as one exchange sees them: nothing was sent.
#[tokio::test]
async fn e34_not_a_proxy() {
    for (scheme, reply, kind, text) in [
        (
            "http",
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
            FailureKind::ProxyAuth,
            "refused the user name or password (407, offers Basic)",
        ),
        (
            "http",
            "SSH-2.0-x\r\n",
            FailureKind::ProxyProtocol,
            "does not behave like an HTTP proxy (its answer is not HTTP)",
        ),
        (
            "socks5",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            FailureKind::ProxyProtocol,
            "does not behave like a SOCKS5 proxy (its answer begins with byte 72)",
        ),
        (
            "socks5",
            "\x05\x7f",
            FailureKind::ProxyProtocol,
            "login method 127",
        ),
    ] {
        let proxy = Peer::new().await;
        let client = client(target("https"), &via(scheme, proxy.address()));
        let served = async {
            let mut conn = proxy.accept().await;
            conn.stream.read_buf(&mut conn.ahead).await.unwrap();
            conn.send(reply.as_bytes()).await;
            conn.finish().await;
        };
        let (result, ()) = tokio::join!(client.exchange(ask()), served);
        let failure = result.unwrap_err();
        assert_eq!((failure.kind, failure.sent), (kind, false), "{failure:?}");
        assert!(failure.text.contains(text), "{failure:?}");
        assert!(
            failure.text.contains(&proxy.address().to_string()),
            "{failure:?}"
        );
    }
}

/// E-34: no HTTP from the proxy of an absolute-form request is named as the proxy's fault.
#[tokio::test]
async fn e34_absolute_form_garbage() {
    let proxy = Peer::new().await;
    let client = client(target("http"), &via("http", proxy.address()));
    let (result, ()) = tokio::join!(client.exchange(ask()), proxy.answer_close(b"\x05\xff\r\n"));
    let failure = result.unwrap_err();
    let at = proxy.address();
    assert_eq!(
        failure.text,
        format!(
            "what answers at {at} does not behave like an HTTP proxy (its answer is not HTTP); check the kind of proxy and the port in proxy.url"
        )
    );
    assert!(failure.sent);
    assert_eq!(failure.kind, FailureKind::ProxyProtocol);
}
