//! `xbosh check`: what each hop's failure looks like, and that a client is told the same.

use std::net::SocketAddr;
use std::time::Duration;

use insta::assert_snapshot;
use url::Url;
use xbosh::check::{HopName, Outcome, Report, Walk, check};
use xbosh::config::{Config, Proxy, ProxySource};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::cm::{Cm, Fault, Profile, Rule, When};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions, Socks5Proxy, SocksTrick};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, xrd};

use super::support::{DOMAIN, account, config, server, told};

fn through(scheme: &str, proxy: SocketAddr, login: &str) -> Proxy {
    Proxy {
        source: ProxySource::Url(Url::parse(&format!("{scheme}://{login}{proxy}")).unwrap()),
        ..Proxy::default()
    }
}

fn direct() -> Proxy {
    Proxy {
        source: ProxySource::None,
        ..Proxy::default()
    }
}

async fn walk(config: &Config, long: bool) -> Report {
    walk_to(DOMAIN, config, long).await
}

async fn walk_to(domain: &str, config: &Config, long: bool) -> Report {
    let walk = Walk {
        config: config.clone(),
        file: None,
        warnings: Vec::new(),
        domain: domain.into(),
        long,
        web_port: 443,
    };
    let mut told = 0;
    let report = check(walk, |_| told += 1).await;
    assert_eq!(told, report.hops.len(), "each hop is told as it is known");
    report
}

/// Without what differs from run to run.
fn shown(report: &Report, names: &[(SocketAddr, &str)]) -> String {
    let mut text = String::new();
    for hop in &report.hops {
        let mut hop = hop.clone();
        hop.took = None;
        text.push_str(&format!("{hop}\n"));
    }
    for advice in &report.advice {
        text.push_str(&format!("> {}\n", advice.replace('\n', "\n> ")));
    }
    for (address, name) in names {
        text = text.replace(&address.to_string(), name);
    }
    text
}

/// The text of the hop that failed is what a client's stream error says, but for how it goes on.
async fn assert_client_is_told(config: &Config, report: &Report) {
    let failed = report.hops.last().unwrap();
    assert_eq!(failed.outcome, Outcome::Failed);
    let sidecar = Sidecar::start(config.clone()).await.unwrap();
    let login = Client::login(sidecar.addrs()[0], &account("user"), Mechanism::Plain).await;
    let Err(ClientError::Stream(error)) = login else {
        panic!("a client logs in where check fails: {failed}");
    };
    let (_, text, _) = told(&error);
    assert_eq!(text, failed.text);
}

/// The whole way: proxy with password, CONNECT, TLS, session, features, end; and no session is left behind.
#[tokio::test]
async fn the_way_is_free() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(&["127.0.0.1"]);
    let cm = Cm::start(&server(), Profile::prosody(), Some(acceptor)).await;
    let options = ProxyOptions::with_credentials("juliet", "secret");
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let way = through("http", proxy.addr(), "juliet:secret@");
    let mut config = config(&cm.url("127.0.0.1"), way);
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    config.domains.get_mut(DOMAIN).unwrap().tls.ca_file = Some(ca_file);
    let report = walk(&config, false).await;
    let text = shown(&report, &[(cm.addr(), "CM"), (proxy.addr(), "PROXY")]);
    assert!(report.ok, "{text}");
    let until = text.split("valid until ").nth(1).unwrap();
    let text = text.replace(until.lines().next().unwrap(), "DATE");
    assert_snapshot!(text);
    assert_eq!(cm.sessions(), 0);
    assert_eq!(cm.violations(), Vec::<String>::new());
}

/// Each failure of a proxy.
#[tokio::test]
async fn proxies() {
    let cm = Cm::start(&server(), Profile::strict(), None).await;
    let secure = Authority::new().acceptor(&["127.0.0.1"]);
    let secure = Cm::start(&server(), Profile::strict(), Some(secure)).await;
    let (plain, https) = (cm.url("127.0.0.1"), secure.url("127.0.0.1"));
    let mut all = String::new();
    let strict = || ProxyOptions::with_credentials("juliet", "secret");
    let open = ProxyOptions::default;
    let refuses = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned();
    let fails = "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_owned();
    let ntlm = "Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n".to_owned();
    for (name, url, options, trick, login) in [
        (
            "wrong password",
            &plain,
            strict(),
            HttpTrick::None,
            "juliet:wrong@",
        ),
        ("no password", &https, strict(), HttpTrick::None, ""),
        (
            "NTLM",
            &https,
            strict(),
            HttpTrick::Challenges(ntlm),
            "juliet:wrong@",
        ),
        ("port refused", &https, open(), HttpTrick::OnlyPort(443), ""),
        ("refused", &https, open(), HttpTrick::Answer(refuses), ""),
        (
            "cannot reach it",
            &https,
            open(),
            HttpTrick::Answer(fails),
            "",
        ),
        (
            "no HTTP",
            &https,
            open(),
            HttpTrick::Answer("SSH-2.0-OpenSSH\r\n".into()),
            "",
        ),
        ("login page", &plain, open(), HttpTrick::portal(), ""),
    ] {
        let proxy = HttpProxy::start(options, trick).await;
        let config = config(url, through("http", proxy.addr(), login));
        let report = walk(&config, false).await;
        let names = [
            (cm.addr(), "CM"),
            (secure.addr(), "CM"),
            (proxy.addr(), "PROXY"),
        ];
        all.push_str(&format!("== {name}\n{}", shown(&report, &names)));
        assert_client_is_told(&config, &report).await;
    }
    for (name, trick, login) in [
        ("SOCKS5, wrong password", SocksTrick::None, "juliet:wrong@"),
        ("SOCKS5, refused", SocksTrick::Reply(2), "juliet:secret@"),
        (
            "SOCKS5, no way there",
            SocksTrick::Reply(4),
            "juliet:secret@",
        ),
        (
            "no SOCKS5",
            SocksTrick::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "juliet:secret@",
        ),
    ] {
        let proxy = Socks5Proxy::start(strict(), trick).await;
        let config = config(&plain, through("socks5", proxy.addr(), login));
        let report = walk(&config, false).await;
        let names = [(cm.addr(), "CM"), (proxy.addr(), "PROXY")];
        all.push_str(&format!("== {name}\n{}", shown(&report, &names)));
        assert_client_is_told(&config, &report).await;
    }
    assert_snapshot!(all);
}

/// Each failure behind the network.
#[tokio::test]
async fn managers() {
    let mut all = String::new();
    let not_found = Fault::Reply {
        status: "404 Not Found",
        headers: String::new(),
        body: String::new(),
    };
    let page = Fault::Reply {
        status: "200 OK",
        headers: "Content-Type: text/html\r\n".into(),
        body: "<html><body>Log in</body></html>".into(),
    };
    let unknown = Fault::Terminate {
        attributes: "condition='host-unknown'".into(),
        inner: String::new(),
    };
    let bad_xml = Fault::Reply {
        status: "200 OK",
        headers: String::new(),
        body: "<body xmlns='http://jabber.org/protocol/httpbind' sid='1'>&x;</body>".into(),
    };
    for (name, fault) in [
        ("404", not_found),
        ("a web page", page),
        ("unknown domain", unknown),
        ("an entity", bad_xml),
    ] {
        let cm = Cm::start(&server(), Profile::strict(), None).await;
        cm.script(Rule::always(When::Always, fault));
        let config = config(&cm.url("127.0.0.1"), direct());
        let report = walk(&config, false).await;
        all.push_str(&format!(
            "== {name}\n{}",
            shown(&report, &[(cm.addr(), "CM")])
        ));
        assert_client_is_told(&config, &report).await;
    }
    let secure = Authority::new().acceptor(&["127.0.0.1"]);
    let secure = Cm::start(&server(), Profile::strict(), Some(secure)).await;
    let dead: SocketAddr = ([127, 0, 0, 1], 1).into();
    for (name, url, address) in [
        ("untrusted", secure.url("127.0.0.1"), secure.addr()),
        ("TLS where there is none", format!("https://{dead}/"), dead),
        ("dead", format!("http://{dead}/http-bind"), dead),
    ] {
        let config = config(&url, direct());
        let report = walk(&config, false).await;
        all.push_str(&format!(
            "== {name}\n{}",
            shown(&report, &[(address, "CM")])
        ));
        assert_client_is_told(&config, &report).await;
    }
    assert_snapshot!(all);
}

/// The proxy refuses the port of the first address that the domain names: which other it allows is said, with the line to
/// paste.
#[tokio::test]
async fn another_address_that_the_proxy_allows() {
    let authority = Authority::new();
    let server = xbosh_testkit::xmpp::Server::new("example.test");
    let acceptor = authority.acceptor(&["far.example.test"]);
    let cm = Cm::start(&server, Profile::strict(), Some(acceptor)).await;
    let web = WebHost::start(Some(authority.acceptor(&["example.test"]))).await;
    let links = [
        (BOSH, "https://near.example.test:5281/http-bind"),
        (BOSH, "https://far.example.test/http-bind"),
    ];
    web.page("/.well-known/host-meta", &xrd(&links));
    let options = ProxyOptions {
        places: [
            ("example.test:443".to_owned(), web.addr()),
            ("far.example.test:443".to_owned(), cm.addr()),
        ]
        .into(),
        ..ProxyOptions::default()
    };
    let proxy = HttpProxy::start(options, HttpTrick::OnlyPort(443)).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let mut config = Config {
        proxy: through("http", proxy.addr(), ""),
        ..Config::default()
    };
    config.tls.ca_file = Some(ca_file);
    let report = walk_to("example.test", &config, false).await;
    assert!(!report.ok);
    assert_eq!(
        notes_of(&report, HopName::Proxy).last().map(String::as_str),
        Some("the proxy allows far.example.test:443")
    );
    let line = "[domains.\"example.test\"]\nurl = \"https://far.example.test/http-bind\"";
    assert!(
        report.advice.iter().any(|advice| advice == line),
        "{report:?}"
    );
}

/// B-59: a manager that is elsewhere is followed, and that is told.
#[tokio::test]
async fn redirects() {
    let there = Cm::start(&server(), Profile::strict(), None).await;
    let cm = Cm::start(&server(), Profile::strict(), None).await;
    cm.script(Rule::always(
        When::Creation,
        Fault::Reply {
            status: "307 Temporary Redirect",
            headers: format!("Location: {}\r\n", there.url("127.0.0.1")),
            body: String::new(),
        },
    ));
    let report = walk(&config(&cm.url("127.0.0.1"), direct()), false).await;
    assert!(report.ok, "{report:?}");
    assert!(
        notes(&report, HopName::Session).contains(&format!("sends us to http://{}", there.addr()))
    );
    assert_eq!((cm.sessions(), there.sessions()), (0, 0));
}

/// What can be known before anything is sent.
#[tokio::test]
async fn settings() {
    let mut config = Config::default();
    config.discovery.host_meta = false;
    let mut all = shown(&walk(&config, false).await, &[]);
    config.allowed_domains = Some(vec!["example.org".into()]);
    all.push_str(&shown(&walk(&config, false).await, &[]));
    config.allowed_domains = None;
    config.tls.ca_file = Some("/nowhere/ca.pem".into());
    all.push_str(&shown(&walk(&config, false).await, &[]));
    assert_snapshot!(all);
}

/// `--long`: a proxy that cuts held requests, and a manager that refuses large ones.
#[tokio::test]
async fn the_long_walk() {
    let cm = Cm::start(&server(), Profile::prosody(), None).await;
    let proxy = HttpProxy::start(
        ProxyOptions::default(),
        HttpTrick::CutsAfter(Duration::from_secs(1)),
    )
    .await;
    let mut config = config(&cm.url("127.0.0.1"), through("http", proxy.addr(), ""));
    let report = walk(&config, true).await;
    let notes = notes(&report, HopName::LongPoll);
    assert!(
        notes.starts_with("something on the way ends held requests after 1 s"),
        "{notes}"
    );
    assert!(
        report.advice.iter().any(|line| line.contains("wait = 5")),
        "{report:?}"
    );
    assert!(report.ok, "it is worked around");
    assert_eq!(cm.sessions(), 0);

    // Nobody cuts.
    config.domains.get_mut(DOMAIN).unwrap().proxy = direct();
    config.domains.get_mut(DOMAIN).unwrap().bosh.wait = Duration::from_secs(1);
    let report = walk(&config, true).await;
    assert_eq!(
        notes_of(&report, HopName::LongPoll),
        ["held for 1 s and answered, as agreed"]
    );
    assert_eq!(
        notes_of(&report, HopName::LargeBody),
        ["1024 KiB come through"]
    );
    assert_eq!(cm.sessions(), 0);
}

fn notes(report: &Report, hop: HopName) -> String {
    notes_of(report, hop).concat()
}

fn notes_of(report: &Report, hop: HopName) -> Vec<String> {
    let lines = report.hops.iter().filter(|line| line.hop == hop);
    lines.map(|line| line.text.clone()).collect()
}
