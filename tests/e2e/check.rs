//! `xbosh check`: what each hop's failure looks like, and that a client is told the same.

use std::net::SocketAddr;
use std::time::Duration;

use insta::assert_snapshot;
use url::Url;
use xbosh::check::{HopName, Outcome, Report, Walk, check};
use xbosh::config::{Config, Proxy, ProxyEnv, ProxySource, ProxyVariable};
use xbosh::driver::Sidecar;
use xbosh_testkit::client::{Account, Client, ClientError, Mechanism};
use xbosh_testkit::cm::{Cm, Fault, Profile, Rule, When};
use xbosh_testkit::proxy::{
    DigestRules, HttpProxy, HttpTrick, ProxyOptions, Socks5Proxy, SocksTrick,
};
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
        running: None,
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
    assert_told(config, &account("user"), report).await;
}

async fn assert_told(config: &Config, account: &Account, report: &Report) {
    let failed = report.hops.last().unwrap();
    assert_eq!(failed.outcome, Outcome::Failed);
    let sidecar = Sidecar::start(config.clone()).await.unwrap();
    let login = Client::login(sidecar.addrs()[0], account, Mechanism::Plain).await;
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

/// A domain whose web server names its managers, behind a proxy that alone knows where anything is.
struct Named {
    authority: Authority,
    near: Cm,
    far: Cm,
    web: WebHost,
    proxy: HttpProxy,
    config: Config,
    _folder: tempfile::TempDir,
}

const NAMED: &str = "example.test";
const NEAR: &str = "https://near.example.test:5281/http-bind";
const FAR: &str = "https://far.other.test/http-bind";

impl Named {
    async fn new(trick: HttpTrick, links: &[&str]) -> Self {
        let authority = Authority::new();
        let server = xbosh_testkit::xmpp::Server::new(NAMED);
        server.add_user("user", "password");
        let near = authority.acceptor(&["near.example.test"]);
        let near = Cm::start(&server, Profile::strict(), Some(near)).await;
        let far = authority.acceptor(&["far.other.test"]);
        let far = Cm::start(&server, Profile::strict(), Some(far)).await;
        let web = WebHost::start(Some(authority.acceptor(&[NAMED]))).await;
        let links: Vec<(&str, &str)> = links.iter().map(|link| (BOSH, *link)).collect();
        web.page("/.well-known/host-meta", &xrd(&links));
        let dead = SocketAddr::from(([127, 0, 0, 1], 1));
        let options = ProxyOptions {
            places: [
                ("example.test:443".to_owned(), web.addr()),
                ("near.example.test:5281".to_owned(), near.addr()),
                ("dead.example.test:443".to_owned(), dead),
                ("far.other.test:443".to_owned(), far.addr()),
            ]
            .into(),
            ..ProxyOptions::with_credentials("juliet", "secret")
        };
        let proxy = HttpProxy::start(options, trick).await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let mut config = Config {
            listen: vec![([127, 0, 0, 1], 0).into()],
            proxy: through("http", proxy.addr(), "juliet:secret@"),
            ..Config::default()
        };
        config.tls.ca_file = Some(ca_file);
        Self {
            authority,
            near,
            far,
            web,
            proxy,
            config,
            _folder: folder,
        }
    }

    async fn walk(&self) -> Report {
        walk_to(NAMED, &self.config, false).await
    }

    /// Without what differs from run to run.
    fn shown(&self, report: &Report) -> String {
        let text = shown(report, &[(self.proxy.addr(), "PROXY")]);
        let lines = text
            .lines()
            .map(|line| match line.split_once("valid until ") {
                Some((front, _)) => format!("{front}valid until DATE\n"),
                None => format!("{line}\n"),
            });
        lines.collect()
    }
}

/// Nothing is set but the way out: each failure before there is an address, told as a client is told, with the lines that
/// change it and not those of another.
#[tokio::test]
async fn before_there_is_an_address() {
    let user = Account::new("user", NAMED, "password");
    let mut all = String::new();
    let none: fn(&mut Named) = |_| {};
    let wrong_password: fn(&mut Named) =
        |named| named.config.proxy = through("http", named.proxy.addr(), "juliet:wrong@");
    let no_proxy: fn(&mut Named) =
        |named| named.config.proxy = through("http", ([127, 0, 0, 1], 1).into(), "");
    let untrusted: fn(&mut Named) = |named| named.config.tls.ca_file = None;
    let failing: fn(&mut Named) = |named| {
        let reply = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        named.web.reply("/.well-known/host-meta", reply);
    };
    let refuses = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned();
    for (name, trick, links, change) in [
        ("wrong proxy password", HttpTrick::None, FAR, wrong_password),
        ("no proxy", HttpTrick::None, FAR, no_proxy),
        (
            "the web server refused",
            HttpTrick::Answer(refuses),
            FAR,
            none,
        ),
        ("untrusted", HttpTrick::None, FAR, untrusted),
        ("the web server fails", HttpTrick::None, FAR, failing),
        (
            "nothing named",
            HttpTrick::None,
            "http://far.other.test/",
            none,
        ),
    ] {
        let mut named = Named::new(trick, &[links]).await;
        change(&mut named);
        let report = named.walk().await;
        all.push_str(&format!("== {name}\n{}", named.shown(&report)));
        assert_told(&named.config, &user, &report).await;
    }
    assert_snapshot!(all);
}

/// A proxy that the environment names: every sentence of a failure at it names the variable, and no key that nobody has set.
#[tokio::test]
async fn a_proxy_from_the_environment() {
    let user = Account::new("user", NAMED, "password");
    let garbage = HttpTrick::Answer("SSH-2.0-OpenSSH\r\n".into());
    let ntlm = HttpTrick::Challenges("Proxy-Authenticate: NTLM\r\n".into());
    let mut all = String::new();
    for (name, trick, login) in [
        ("wrong password", HttpTrick::None, "juliet:wrong@"),
        ("no password", HttpTrick::None, ""),
        ("NTLM", ntlm, ""),
        ("no HTTP", garbage, ""),
        ("none there", HttpTrick::None, "nobody"),
    ] {
        let mut named = Named::new(trick, &[FAR]).await;
        let value = match login {
            "nobody" => "127.0.0.1:1".to_owned(),
            login => format!("http://{login}{}", named.proxy.addr()),
        };
        let variable = ProxyVariable {
            name: "https_proxy",
            value,
        };
        named.config.proxy.source = ProxySource::Env(ProxyEnv {
            https: Some(variable),
            ..ProxyEnv::default()
        });
        let report = named.walk().await;
        all.push_str(&format!("== {name}\n{}", named.shown(&report)));
        assert_told(&named.config, &user, &report).await;
    }
    assert_snapshot!(all);
}

/// D-06: what a client's stream would try is tried: an address behind a proxy that allows other ports only, a dead one, one
/// where no BOSH is spoken; the first that works is used, and no session is left behind.
#[tokio::test]
async fn d06_the_first_address_that_works() {
    let dead = "https://dead.example.test/http-bind";
    let mut all = String::new();
    for (name, trick, first, then) in [
        ("port refused", HttpTrick::OnlyPort(443), NEAR, FAR),
        ("dead", HttpTrick::None, dead, FAR),
        ("not found", HttpTrick::None, NEAR, FAR),
    ] {
        let named = Named::new(trick, &[first, then]).await;
        let not_found = Fault::page("404 Not Found");
        named.near.script(Rule::always(When::Always, not_found));
        let report = named.walk().await;
        all.push_str(&format!("== {name}\n{}", named.shown(&report)));
        assert!(report.ok, "{report:?}");
        assert_eq!((named.near.sessions(), named.far.sessions()), (0, 0));
    }
    assert_snapshot!(all);
}

/// D-06: none works: the last is what failed, as a client is told.
#[tokio::test]
async fn d06_no_address_works() {
    let named = Named::new(HttpTrick::None, &[NEAR, FAR]).await;
    for cm in [&named.near, &named.far] {
        let not_found = Fault::page("404 Not Found");
        cm.script(Rule::always(When::Always, not_found));
    }
    let report = named.walk().await;
    assert!(!report.ok);
    assert_snapshot!(named.shown(&report));
    let user = Account::new("user", NAMED, "password");
    assert_told(&named.config, &user, &report).await;
}

/// Who signed the certificate is told where that is no public authority: as an inspecting proxy's where its name is that of
/// such a product, else as what it may be.
#[tokio::test]
async fn certificates_of_the_network() {
    for (authority, told) in [
        (
            "Zscaler Intermediate Root CA",
            "this certificate looks like one of an inspecting proxy (Zscaler Intermediate Root CA): it can read what you send",
        ),
        (
            "Capulet Corp. Root",
            "Capulet Corp. Root is no public authority that xbosh knows, but this machine or tls.ca_file trusts it",
        ),
    ] {
        let authority = Authority::named(authority);
        let acceptor = authority.acceptor(&["127.0.0.1"]);
        let cm = Cm::start(&server(), Profile::strict(), Some(acceptor)).await;
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let mut config = config(&cm.url("127.0.0.1"), direct());
        config.domains.get_mut(DOMAIN).unwrap().tls.ca_file = Some(ca_file);
        let report = walk(&config, false).await;
        assert!(report.ok, "{report:?}");
        let notes: Vec<_> = report
            .hops
            .iter()
            .filter(|hop| hop.outcome == Outcome::Note)
            .collect();
        let [note] = notes[..] else {
            panic!("{report:?}");
        };
        assert!(
            note.hop == HopName::Tls && note.text.starts_with(told),
            "{note}"
        );
    }
}

/// What the proxy offers is told where it had to ask: by CONNECT at once, else once there is a session.
#[tokio::test]
async fn the_logins_that_a_proxy_offers() {
    let secure = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, secure.pem()).unwrap();
    for tls in [None, Some(secure.acceptor(&["127.0.0.1"]))] {
        let cm = Cm::start(&server(), Profile::strict(), tls).await;
        for (preemptive, trick, told) in [
            (true, HttpTrick::None, None),
            (
                false,
                HttpTrick::None,
                Some("offers the logins Basic; Basic is used"),
            ),
            (
                true,
                HttpTrick::Digest(DigestRules::default()),
                Some("offers the logins Digest; Digest is used"),
            ),
        ] {
            let options = ProxyOptions::with_credentials("juliet", "secret");
            let proxy = HttpProxy::start(options, trick).await;
            let mut way = through("http", proxy.addr(), "juliet:secret@");
            way.preemptive = preemptive;
            let mut config = config(&cm.url("127.0.0.1"), way);
            config.domains.get_mut(DOMAIN).unwrap().tls.ca_file = Some(ca_file.clone());
            let report = walk(&config, false).await;
            assert!(report.ok, "{report:?}");
            let said = notes_of(&report, HopName::Proxy);
            let said = said.iter().filter(|text| text.contains("offers"));
            let expected = told.map(|told| format!("{} {told}", proxy.addr()));
            assert!(said.eq(&expected), "{report:?}");
        }
    }
}

/// The proxy refuses the port of the configured address: which of those that the domain names it allows is said, with the
/// line to paste.
#[tokio::test]
async fn another_address_that_the_proxy_allows() {
    let mut named = Named::new(HttpTrick::OnlyPort(443), &[NEAR, FAR]).await;
    let mut domain = named.config.domain(NAMED);
    domain.url = Some(Url::parse(NEAR).unwrap());
    named.config.domains.insert(NAMED.into(), domain);
    let report = named.walk().await;
    assert!(!report.ok);
    assert_eq!(
        notes_of(&report, HopName::Proxy).last().map(String::as_str),
        Some("the proxy allows far.other.test:443")
    );
    let line = format!("[domains.\"example.test\"]\nurl = \"{FAR}\"");
    assert_eq!(report.advice, [line]);
}

/// D-13: where a manager redirects to, the domain's own certificate is no proof, in check as in run.
#[tokio::test]
async fn d13_redirect_to_a_host_that_nobody_vouches_for() {
    let named = Named::new(HttpTrick::None, &[NEAR]).await;
    // It shows the domain's certificate, and is not the domain's.
    let server = xbosh_testkit::xmpp::Server::new(NAMED);
    let acceptor = named.authority.acceptor(&[NAMED]);
    let there = Cm::start(&server, Profile::strict(), Some(acceptor)).await;
    let mut config = named.config.clone();
    config.proxy = direct();
    let mut domain = config.domain(NAMED);
    let near = named.authority.acceptor(&["127.0.0.1"]);
    let near = Cm::start(&server, Profile::strict(), Some(near)).await;
    near.script(Rule::always(
        When::Creation,
        Fault::redirect("307 Temporary Redirect", &there.url("localhost")),
    ));
    domain.url = Some(Url::parse(&near.url("127.0.0.1")).unwrap());
    config.domains.insert(NAMED.into(), domain);
    let report = walk_to(NAMED, &config, false).await;
    let failed = report.hops.last().unwrap();
    assert_eq!((failed.hop, failed.row), (HopName::Tls, Some("E-40")));
    assert_told(&config, &Account::new("user", NAMED, "password"), &report).await;
    // Its own address may show it.
    let mut domain = config.domain(NAMED);
    domain.url = Some(Url::parse(&there.url("localhost")).unwrap());
    config.domains.insert(NAMED.into(), domain);
    assert!(walk_to(NAMED, &config, false).await.ok);
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

/// `--long`, where large requests are refused on the way: the session that each try opened is ended all the same, and what
/// to set is told once it matters.
#[tokio::test]
async fn large_requests_refused_leave_no_session_behind() {
    for (limit, told, advice) in [
        (100_000, "64 KiB come through", None),
        (
            40_000,
            "16 KiB come through",
            Some("[bosh]\nmax_body_bytes = 16384"),
        ),
        (
            9_000,
            "16 KiB are refused (HTTP status 413)",
            Some("[bosh]\nmax_body_bytes = 4096"),
        ),
    ] {
        let profile = Profile {
            max_request: Some((limit, "413 Request Entity Too Large")),
            ..Profile::strict()
        };
        let cm = Cm::start(&server(), profile, None).await;
        let mut config = config(&cm.url("127.0.0.1"), direct());
        config.domains.get_mut(DOMAIN).unwrap().bosh.wait = Duration::from_secs(1);
        let report = walk(&config, true).await;
        assert!(report.ok, "{report:?}");
        let said = notes_of(&report, HopName::LargeBody);
        assert_eq!(said[0], "1024 KiB are refused (HTTP status 413)");
        assert_eq!(said.last().map(String::as_str), Some(told));
        assert_eq!(report.advice, Vec::from_iter(advice), "{limit}");
        assert_eq!(cm.sessions(), 0, "{limit}");
    }
}

/// A session whose features are of no use is ended too.
#[tokio::test]
async fn features_of_no_use_leave_no_session_behind() {
    let cm = Cm::start(&server(), Profile::strict(), None).await;
    let broken = Fault::Rewrite(|body| {
        body.replace("PLAIN</", "SCRAM-SHA-1-PLUS</")
            .replace("SCRAM-SHA-1</", "SCRAM-SHA-1-PLUS</")
            .replace("SCRAM-SHA-256</", "SCRAM-SHA-256-PLUS</")
    });
    cm.script(Rule::always(When::Always, broken));
    let config = config(&cm.url("127.0.0.1"), direct());
    let report = walk(&config, false).await;
    assert_eq!(report.hops.last().unwrap().row, Some("E-66"));
    assert_eq!(cm.sessions(), 0);
    assert_client_is_told(&config, &report).await;
}

fn notes(report: &Report, hop: HopName) -> String {
    notes_of(report, hop).concat()
}

fn notes_of(report: &Report, hop: HopName) -> Vec<String> {
    let lines = report.hops.iter().filter(|line| line.hop == hop);
    lines.map(|line| line.text.clone()).collect()
}
