//! Every way out, with proxies that resolve names nobody else knows, and ones that refuse.

use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;
use xbosh::config::{Credentials, Proxy, ProxyList, ProxySource, Tls};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Client, ClientError, Mechanism, StreamError};
use xbosh_testkit::cm::{Cm, Fault, Profile, Rule, When};
use xbosh_testkit::proxy::{
    DigestRules, HttpProxy, HttpTrick, ProxyOptions, Socks5Proxy, SocksTrick,
};
use xbosh_testkit::tls::Authority;

use super::support::{DOMAIN, account, app, config, echo, server};

/// A name that only the proxies know.
const HIDDEN: &str = "cm.hidden.invalid";

fn options(password: Option<&str>) -> ProxyOptions {
    let mut options = password.map_or_else(ProxyOptions::default, |p| {
        ProxyOptions::with_credentials("user", p)
    });
    options.names.insert(HIDDEN.into(), [127, 0, 0, 1].into());
    options
}

fn way(url: &str, password: Option<&str>) -> Proxy {
    Proxy {
        source: ProxySource::Url(Url::parse(url).unwrap()),
        credentials: password.map(|password| Credentials {
            username: "user".into(),
            password: SecretString::from(password.to_owned()),
        }),
        no_proxy: Vec::new(),
        ca_file: None,
        isolate: false,
        preemptive: true,
    }
}

struct Rig {
    cm: Cm,
    ca_file: Option<PathBuf>,
    /// In the manager's URL.
    host: &'static str,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new(tls: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let acceptor = tls.then(|| authority.acceptor(&[HIDDEN]));
        let cm = Cm::start(&server(), Profile::strict(), acceptor).await;
        Self {
            cm,
            ca_file: tls.then_some(ca_file),
            host: HIDDEN,
            _folder: folder,
        }
    }

    async fn sidecar(&self, proxy: Proxy) -> Sidecar {
        let mut config = config(&self.cm.url(self.host), proxy);
        if let Some(domain) = config.domains.get_mut(DOMAIN) {
            domain.tls = Tls {
                ca_file: self.ca_file.clone(),
                ..Tls::default()
            };
        }
        Sidecar::start(config).await.unwrap()
    }

    async fn talks(&self, proxy: Proxy) {
        let sidecar = self.sidecar(proxy).await;
        let mut client = Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
            .await
            .unwrap();
        echo(&mut client, 0..50).await;
        client.logout().await.unwrap();
        assert_eq!(self.cm.violations(), Vec::<String>::new());
    }

    async fn fails(&self, proxy: Proxy) -> StreamError {
        let sidecar = self.sidecar(proxy).await;
        let mut client = Client::connect(sidecar.addrs()[0], DOMAIN).await.unwrap();
        match client.open().await {
            Err(ClientError::Stream(error)) => error,
            other => panic!("{other:?}"),
        }
    }
}

/// T-33, B-59: a redirect to https changes how the proxy is used: from a request in absolute-form to CONNECT.
#[tokio::test]
async fn t33_a_redirect_to_https_asks_for_a_tunnel() {
    let (plain, secure) = (Rig::new(false).await, Rig::new(true).await);
    let url = secure.cm.url(HIDDEN);
    plain.cm.script(Rule::times(
        When::Always,
        usize::MAX,
        Fault::redirect("308 Permanent Redirect", &url),
    ));
    let proxy = HttpProxy::start(options(Some("secret")), HttpTrick::None).await;
    let way = way(&format!("http://{}", proxy.addr()), Some("secret"));
    let mut config = config(&plain.cm.url(HIDDEN), way);
    for domain in config.domains.values_mut() {
        domain.tls = Tls {
            ca_file: secure.ca_file.clone(),
            ..Tls::default()
        };
    }
    let sidecar = Sidecar::start(config).await.unwrap();
    let mut client = Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
        .await
        .unwrap();
    echo(&mut client, 0..20).await;
    client.logout().await.unwrap();
    assert_eq!(plain.cm.posts().len(), 1);
    // Among them: nothing of the proxy's reaches the manager (P-05, P-07).
    assert_eq!(secure.cm.violations(), Vec::<String>::new());
    let heads = proxy.heads();
    let port = secure.cm.addr().port();
    let tunnel = format!("CONNECT {HIDDEN}:{port} HTTP/1.1\r\n");
    assert!(
        heads[0].starts_with(&format!("POST http://{HIDDEN}:")),
        "{heads:?}"
    );
    assert!(
        heads.len() > 1 && heads[1..].iter().all(|head| head.starts_with(&tunnel)),
        "{heads:?}"
    );
}

/// P-01, P-05, P-08, P-12: absolute-form with Basic on each request; the proxy alone resolves the name.
#[tokio::test]
async fn p01_absolute_form() {
    for trick in [HttpTrick::None, HttpTrick::CloseSilently] {
        let rig = Rig::new(false).await;
        let proxy = HttpProxy::start(options(Some("secret")), trick).await;
        rig.talks(way(&format!("http://{}", proxy.addr()), Some("secret")))
            .await;
        let target = format!(
            "POST http://{HIDDEN}:{}/http-bind HTTP/1.1\r\n",
            rig.cm.addr().port()
        );
        for head in proxy.heads() {
            assert!(head.starts_with(&target), "{head}");
            assert!(
                head.to_lowercase()
                    .contains("proxy-authorization: basic dxnlcjpzzwnyzxq="),
                "{head}"
            );
            assert!(!head.to_lowercase().contains("proxy-connection"), "P-07");
        }
        assert!(
            rig.cm
                .posts()
                .iter()
                .all(|p| p.header("proxy-authorization").is_none())
        );
    }
}

/// P-02, P-05: CONNECT, TLS verified against the manager's name inside; credentials on CONNECT alone.
#[tokio::test]
async fn p02_connect() {
    let rig = Rig::new(true).await;
    let proxy = HttpProxy::start(options(Some("secret")), HttpTrick::None).await;
    rig.talks(way(&format!("http://{}", proxy.addr()), Some("secret")))
        .await;
    let line = format!("CONNECT {HIDDEN}:{} HTTP/1.1\r\n", rig.cm.addr().port());
    assert!(!proxy.heads().is_empty() && proxy.heads().iter().all(|head| head.starts_with(&line)));
    assert!(
        rig.cm
            .posts()
            .iter()
            .all(|p| p.header("proxy-authorization").is_none())
    );
}

/// P-06: Digest, in both forms: one nonce serves many requests, a stale or forgotten one costs one more
/// request, and the manager sees each rid once.
#[tokio::test]
async fn p06_digest() {
    for (tls, algorithms, says_stale) in [
        (false, vec!["MD5"], true),
        (false, vec!["SHA-256", "MD5"], false),
        (true, vec!["MD5"], true),
        (true, vec!["SHA-256"], false),
    ] {
        let rules = DigestRules {
            algorithms,
            says_stale,
            uses: 20,
            ..DigestRules::default()
        };
        let rig = Rig::new(tls).await;
        let proxy = HttpProxy::start(options(Some("secret")), HttpTrick::Digest(rules)).await;
        let sidecar = rig
            .sidecar(way(&format!("http://{}", proxy.addr()), Some("secret")))
            .await;
        for _ in 0..2 {
            let mut client = Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
                .await
                .unwrap();
            echo(&mut client, 0..50).await;
            proxy.forget_nonces();
            echo(&mut client, 50..100).await;
            client.logout().await.unwrap();
        }
        assert_eq!(rig.cm.violations(), Vec::<String>::new());
        let heads = proxy.heads();
        let basic = heads.iter().filter(|head| head.contains(" Basic "));
        assert_eq!(basic.count(), 1, "the first alone");
        let again = heads.iter().filter(|head| head.contains("nc=00000001"));
        let (again, posts) = (again.count(), rig.cm.posts().len());
        if !tls {
            // Of the rest none was refused but for a nonce that had worn out or was forgotten.
            assert!(
                heads.len() - posts <= 1 + 2 * again,
                "{} {posts} {again}",
                heads.len()
            );
            assert!(again >= posts / 20, "{posts} {again}");
        }
    }
}

/// P-06: told to wait, nothing is sent before the proxy asks: one that wants Digest never sees the password, one that
/// wants Basic gets it from then on, and the manager sees each request once.
#[tokio::test]
async fn p06_waiting_for_the_challenge() {
    for (tls, digest) in [(false, true), (true, true), (false, false), (true, false)] {
        let rig = Rig::new(tls).await;
        let trick = if digest {
            HttpTrick::Digest(DigestRules::default())
        } else {
            HttpTrick::None
        };
        let proxy = HttpProxy::start(options(Some("secret")), trick).await;
        let mut out = way(&format!("http://{}", proxy.addr()), Some("secret"));
        out.preemptive = false;
        let sidecar = rig.sidecar(out).await;
        for _ in 0..2 {
            let mut client = Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
                .await
                .unwrap();
            echo(&mut client, 0..10).await;
            client.logout().await.unwrap();
        }
        assert_eq!(rig.cm.violations(), Vec::<String>::new());
        let heads = proxy.heads();
        let asked = |head: &&String| !head.to_lowercase().contains("proxy-authorization");
        let basic = heads.iter().filter(|head| head.contains(" Basic ")).count();
        if digest {
            assert_eq!(basic, 0, "{heads:?}");
        } else {
            assert!(asked(&&heads[0]), "{heads:?}");
            assert_eq!(heads.iter().filter(asked).count(), 1, "only the first");
        }
    }
}

/// P-06: a proxy that offers Basic beside Digest was sent Basic already.
#[tokio::test]
async fn p06_digest_beside_basic() {
    let rules = DigestRules {
        basic_too: true,
        ..DigestRules::default()
    };
    let rig = Rig::new(true).await;
    let proxy = HttpProxy::start(options(Some("secret")), HttpTrick::Digest(rules)).await;
    rig.talks(way(&format!("http://{}", proxy.addr()), Some("secret")))
        .await;
    assert!(proxy.heads().iter().all(|head| head.contains(" Basic ")));
}

/// P-06, E-31: a wrong password for Digest is one clear sentence after one answer to the challenge.
#[tokio::test]
async fn p06_digest_wrong_password() {
    for tls in [false, true] {
        let rig = Rig::new(tls).await;
        let trick = HttpTrick::Digest(DigestRules::default());
        let proxy = HttpProxy::start(options(Some("secret")), trick).await;
        let error = rig
            .fails(way(&format!("http://{}", proxy.addr()), Some("wr0ng")))
            .await;
        assert_eq!(app(&error), Some("proxy-auth-failed"));
        assert_eq!(
            error.text.clone().unwrap_or_default(),
            format!(
                "the proxy {} refused the user name or password (407, offers Digest): check proxy.username and proxy.password",
                proxy.addr()
            )
        );
        assert_eq!(proxy.heads().len(), 2, "{:?}", proxy.heads());
    }
}

/// P-06, E-31: NTLM and Negotiate alone: what to do, in both forms, and no second try.
#[tokio::test]
async fn p06_ntlm_alone() {
    for tls in [false, true] {
        let rig = Rig::new(tls).await;
        let lines = "Proxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n";
        let trick = HttpTrick::Challenges(lines.into());
        let proxy = HttpProxy::start(options(Some("secret")), trick).await;
        let error = rig
            .fails(way(&format!("http://{}", proxy.addr()), Some("wr0ng")))
            .await;
        assert_eq!(app(&error), Some("proxy-auth-failed"));
        assert_eq!(
            error.text.clone().unwrap_or_default(),
            format!(
                "the proxy {} wants a login that xbosh does not speak (407, offers Negotiate, NTLM): run cntlm or px on this machine and set proxy.url to its address, see docs/corporate-proxies.md",
                proxy.addr()
            )
        );
        assert_eq!(proxy.heads().len(), 1);
    }
}

/// P-15 to P-18: SOCKS5 with and without password, the name by ATYP 03, an odd but legal reply.
#[tokio::test]
async fn p15_socks5() {
    for (password, tls, trick) in [
        (None, false, SocksTrick::None),
        (Some("secret"), false, SocksTrick::None),
        (Some("secret"), true, SocksTrick::OddReply),
    ] {
        let rig = Rig::new(tls).await;
        let proxy = Socks5Proxy::start(options(password), trick).await;
        rig.talks(way(&format!("socks5h://{}", proxy.addr()), password))
            .await;
        let expected = format!("connect name {HIDDEN} {}", rig.cm.addr().port());
        let log = proxy.log();
        assert!(
            log.iter()
                .filter(|line| line.starts_with("connect"))
                .all(|line| *line == expected),
            "{log:?}"
        );
    }
}

/// E-31: a wrong password is one clear sentence, at once.
#[tokio::test]
async fn e31_wrong_password() {
    for tls in [false, true] {
        let rig = Rig::new(tls).await;
        let proxy = HttpProxy::start(options(Some("secret")), HttpTrick::None).await;
        let error = rig
            .fails(way(&format!("http://{}", proxy.addr()), Some("wr0ng")))
            .await;
        assert_eq!(app(&error), Some("proxy-auth-failed"));
        assert_eq!(
            error.text.clone().unwrap_or_default(),
            format!(
                "the proxy {} refused the user name or password (407, offers Basic): check proxy.username and proxy.password",
                proxy.addr()
            )
        );
        assert_eq!(proxy.heads().len(), 1, "P-06: no second try");
    }
    let rig = Rig::new(false).await;
    let proxy = Socks5Proxy::start(options(Some("secret")), SocksTrick::None).await;
    let error = rig
        .fails(way(&format!("socks5://{}", proxy.addr()), Some("wr0ng")))
        .await;
    assert_eq!(app(&error), Some("proxy-auth-failed"));
}

/// E-32: a port that the proxy does not allow.
#[tokio::test]
async fn e32_refused_port() {
    let rig = Rig::new(true).await;
    let proxy = HttpProxy::start(options(None), HttpTrick::OnlyPort(443)).await;
    let error = rig
        .fails(way(&format!("http://{}", proxy.addr()), None))
        .await;
    assert_eq!(app(&error), Some("proxy-refused"));
    let port = rig.cm.addr().port();
    assert!(
        error
            .text
            .as_deref()
            .unwrap_or_default()
            .contains(&format!("{HIDDEN}:{port}"))
            && error.text.as_deref().unwrap_or_default().contains("443"),
        "{error:?}"
    );
}

/// P-20: each client connection is somebody else to Tor, one session the same throughout, in all its requests.
#[tokio::test]
async fn p20_isolation() {
    for tls in [false, true] {
        let rig = Rig::new(tls).await;
        // Each exchange needs a connection of its own.
        rig.cm.script(Rule::always(When::Always, Fault::Close));
        let proxy = Socks5Proxy::start(options(None), SocksTrick::Method(2)).await;
        let mut way = way(&format!("socks5h://{}", proxy.addr()), None);
        way.isolate = true;
        let sidecar = rig.sidecar(way).await;
        let mut seen = std::collections::BTreeSet::new();
        for round in 1..4 {
            let mut client = Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain)
                .await
                .unwrap();
            echo(&mut client, 0..50).await;
            client.logout().await.unwrap();
            let log = proxy.log();
            let passwords = log.iter().filter_map(|line| line.strip_prefix("password "));
            seen.extend(passwords.map(str::to_owned));
            assert_eq!(seen.len(), round, "{seen:?}");
        }
        assert!(seen.iter().all(|password| password.len() == 32));
        let log = proxy.log();
        let users = log.iter().filter(|line| line.starts_with("user "));
        assert!(users.clone().count() >= 3 * 5);
        assert!(
            users
                .clone()
                .all(|line| line == "user <torS0X>0 (version 1)"),
            "{log:?}"
        );
    }
}

/// P-21: an onion service's http address is fine, its name goes to the proxy, and Tor's code comes in words.
#[tokio::test]
async fn p21_onion() {
    let onion = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion";
    let mut rig = Rig::new(false).await;
    rig.host = onion;
    let mut known = options(None);
    known.names.insert(onion.into(), [127, 0, 0, 1].into());
    let proxy = Socks5Proxy::start(known, SocksTrick::None).await;
    rig.talks(way(&format!("socks5h://{}", proxy.addr()), None))
        .await;
    let name = format!("connect name {onion} {}", rig.cm.addr().port());
    assert!(proxy.log().contains(&name));
    let proxy = Socks5Proxy::start(options(None), SocksTrick::Reply(0xf4)).await;
    let error = rig
        .fails(way(&format!("socks5h://{}", proxy.addr()), None))
        .await;
    assert_eq!(app(&error), Some("proxy-upstream-failed"));
    let text = error.text.unwrap_or_default();
    assert!(
        text.contains("SOCKS5 reply F4, the onion service wants a client key"),
        "{text}"
    );
}

/// P-12: several proxies: the next where one does not answer, the direct way only if it is in the list, and
/// what a proxy says is final.
#[tokio::test]
async fn p12_several() {
    let dead = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let several = |urls: &[&str], then_direct| Proxy {
        source: ProxySource::List(ProxyList {
            urls: urls.iter().map(|url| Url::parse(url).unwrap()).collect(),
            then_direct,
        }),
        ..way("http://unused", None)
    };
    let rig = Rig::new(true).await;
    let proxy = HttpProxy::start(options(Some("secret")), HttpTrick::None).await;
    let live = format!("http://user:secret@{}", proxy.addr());
    rig.talks(several(&[&dead(), &dead(), &live], true)).await;
    assert!(!proxy.heads().is_empty());

    let (one, two) = (dead(), dead());
    let error = rig.fails(several(&[&one, &two], false)).await;
    assert_eq!(app(&error), Some("proxy-unreachable"));
    let [one, two] = [&one, &two].map(|url| url.strip_prefix("http://").unwrap());
    assert_eq!(
        error.text.unwrap_or_default(),
        format!(
            "none of the proxies in proxy.url answers ({one}: connection refused; {two}: connection refused): check that list, and that one of them runs"
        )
    );

    let before = proxy.heads().len();
    let wrong = format!("http://user:wr0ng@{}", proxy.addr());
    let error = rig.fails(several(&[&wrong, &live], true)).await;
    assert_eq!(app(&error), Some("proxy-auth-failed"));
    assert_eq!(proxy.heads().len(), before + 1);

    let mut rig = Rig::new(false).await;
    rig.host = "127.0.0.1";
    rig.talks(several(&[&dead()], true)).await;
}

/// E-33, E-34, P-19: SOCKS replies.
#[tokio::test]
async fn p19_socks_replies() {
    let rig = Rig::new(false).await;
    for (code, detail) in [
        (2, "proxy-refused"),
        (7, "proxy-protocol-error"),
        (8, "proxy-protocol-error"),
    ] {
        let proxy = Socks5Proxy::start(options(None), SocksTrick::Reply(code)).await;
        let error = rig
            .fails(way(&format!("socks5://{}", proxy.addr()), None))
            .await;
        assert_eq!(app(&error), Some(detail), "{code}");
        assert!(
            error
                .text
                .as_deref()
                .unwrap_or_default()
                .contains(&format!("SOCKS5 reply {code}")),
            "{error:?}"
        );
    }
}

/// E-40: the manager's certificate is for another name, or signed by nobody we trust.
#[tokio::test]
async fn e40_certificate() {
    let mut rig = Rig::new(true).await;
    rig.ca_file = None;
    let proxy = HttpProxy::start(options(None), HttpTrick::None).await;
    let error = rig
        .fails(way(&format!("http://{}", proxy.addr()), None))
        .await;
    assert_eq!(app(&error), Some("tls-certificate-invalid"));
    assert!(
        error
            .text
            .as_deref()
            .unwrap_or_default()
            .contains("tls.ca_file"),
        "{error:?}"
    );
    assert!(
        rig.cm.posts().is_empty(),
        "no body goes to a refused certificate"
    );
}

/// E-34: what answers is no proxy.
#[tokio::test]
async fn e34_not_a_proxy() {
    let rig = Rig::new(true).await;
    let proxy = HttpProxy::start(
        options(None),
        HttpTrick::Answer("220 smtp.example ESMTP\r\n".into()),
    )
    .await;
    let error = rig
        .fails(way(&format!("http://{}", proxy.addr()), None))
        .await;
    assert_eq!(app(&error), Some("proxy-protocol-error"));
}
