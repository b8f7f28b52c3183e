//! What is wrong with the proxy.

use std::net::SocketAddr;

use insta::assert_snapshot;
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::proxy::{
    Blackhole, HttpProxy, HttpTrick, ProxyOptions, Socks5Proxy, SocksStage, SocksTrick,
};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::xmpp::Server;

use crate::support::{Case, no_tls};

const URL: &str = "https://chat.example:5281/http-bind";

/// `login` is `user:password@` or nothing.
fn case(scheme: &str, address: SocketAddr, login: &str, url: &str) -> Case {
    let config = format!(
        "[proxy]\nurl = \"{scheme}://{login}{address}\"\n[domains.\"example.org\"]\nurl = \"{url}\"\n"
    );
    Case::new(&config).named(address, "proxy.example:3128")
}

fn answer(status: &str, page: &str) -> HttpTrick {
    HttpTrick::Answer(format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn http() {
    let cm = Cm::start(&Server::new("example.org"), Profile::strict(), None).await;
    let strict = || ProxyOptions::with_credentials("juliet", "secret");
    let open = || ProxyOptions {
        places: [("chat.example:5280".to_owned(), cm.addr())].into(),
        ..ProxyOptions::default()
    };
    let ntlm = "Proxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n".to_owned();
    let plain = "http://chat.example:5280/http-bind\"\nallow_plain_http = true\n#\"";
    let mut all = String::new();
    for (name, options, trick, login, url) in [
        (
            "wrong password",
            strict(),
            HttpTrick::None,
            "juliet:wrong@",
            URL,
        ),
        ("no password", strict(), HttpTrick::None, "", URL),
        (
            "wrong password, http",
            strict(),
            HttpTrick::None,
            "juliet:wrong@",
            plain,
        ),
        (
            "a proxy for NTLM and Kerberos only",
            strict(),
            HttpTrick::Challenges(ntlm),
            "juliet:wrong@",
            URL,
        ),
        (
            "a proxy for port 443 only",
            open(),
            HttpTrick::OnlyPort(443),
            "",
            URL,
        ),
        (
            "a proxy that forbids the host",
            open(),
            answer("403 Forbidden", "<h1>Blocked</h1> Category: chat"),
            "",
            "https://chat.example/http-bind",
        ),
        (
            "a proxy that does not find the host",
            open(),
            HttpTrick::None,
            "",
            URL,
        ),
        ("a login page", open(), HttpTrick::portal(), "", plain),
        (
            "no proxy but a web server",
            open(),
            answer("405 Method Not Allowed", "no CONNECT here"),
            "",
            URL,
        ),
        (
            "no proxy at all",
            open(),
            HttpTrick::Answer("SSH-2.0-OpenSSH_9.2\r\n".into()),
            "",
            URL,
        ),
    ] {
        let proxy = HttpProxy::start(options, trick).await;
        all.push_str(&case("http", proxy.addr(), login, url).told(name).await);
    }
    let proxy = no_tls().await;
    let case = case("https", proxy.addr(), "", URL);
    all.push_str(&case.told("https:// for a proxy that has no TLS").await);
    assert_snapshot!(all);
}

#[tokio::test(flavor = "multi_thread")]
async fn socks5() {
    let strict = || ProxyOptions::with_credentials("juliet", "secret");
    let right = "juliet:secret@";
    let mut all = String::new();
    for (name, trick, login) in [
        ("wrong password", SocksTrick::None, "juliet:wrong@"),
        ("no password", SocksTrick::None, ""),
        ("general failure", SocksTrick::Reply(1), right),
        ("not allowed", SocksTrick::Reply(2), right),
        ("network unreachable", SocksTrick::Reply(3), right),
        ("host unreachable", SocksTrick::Reply(4), right),
        ("connection refused", SocksTrick::Reply(5), right),
        (
            "Tor: onion service not found",
            SocksTrick::Reply(0xf0),
            right,
        ),
        (
            "no SOCKS5 proxy",
            SocksTrick::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            right,
        ),
        ("closes", SocksTrick::Closes(SocksStage::Request), right),
    ] {
        let proxy = Socks5Proxy::start(strict(), trick).await;
        let case = case("socks5", proxy.addr(), login, URL);
        all.push_str(&case.told(&format!("SOCKS5, {name}")).await);
    }
    assert_snapshot!(all);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead() {
    let mut all = String::new();
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    all.push_str(&case("http", nobody, "", URL).told("a dead proxy").await);
    let config = format!(
        "[proxy]\nurl = [\"http://{nobody}\", \"socks5h://127.0.0.1:2\"]\n[domains.\"example.org\"]\nurl = \"{URL}\"\n"
    );
    let case = Case::new(&config).named(nobody, "proxy.example:3128");
    all.push_str(&case.told("two dead proxies").await);
    assert_snapshot!(all);
}

/// Through TLS to the proxy itself.
#[tokio::test(flavor = "multi_thread")]
async fn certificate() {
    let authority = Authority::new();
    let front = xbosh_testkit::web::WebHost::start(Some(authority.acceptor(&["127.0.0.1"]))).await;
    let case = case("https", front.addr(), "", URL);
    let told = case.told("an https:// proxy with its own authority").await;
    assert_snapshot!(told);
}

/// The limit of a silent proxy is real time.
#[tokio::test(flavor = "multi_thread")]
async fn silent() {
    let hole = Blackhole::start().await;
    let told = case("http", hole.addr(), "", URL).run().await;
    assert_snapshot!(format!("== a silent proxy\n{told}"));
}

/// What the environment says, the configuration is not blamed for.
#[tokio::test(flavor = "multi_thread")]
async fn environment() {
    let options = ProxyOptions::with_credentials("juliet", "secret");
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let strict = proxy.addr();
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    let mut all = String::new();
    for (name, variable, proxy, login) in [
        ("wrong password", "HTTPS_PROXY", strict, "juliet:wrong@"),
        ("no password", "https_proxy", strict, ""),
        ("dead proxy", "ALL_PROXY", nobody, ""),
    ] {
        let case = Case::new(&format!("[domains.\"example.org\"]\nurl = \"{URL}\"\n"));
        let case = case
            .named(proxy, "proxy.example:3128")
            .with(variable, &format!("http://{login}{proxy}"));
        all.push_str(&case.told(&format!("{variable}, {name}")).await);
    }
    let case = Case::new("").with("HTTPS_PROXY", "http://juliet:pa/ss@proxy.example:3128");
    all.push_str(&case.told("HTTPS_PROXY that is no address").await);
    assert_snapshot!(all);
}
