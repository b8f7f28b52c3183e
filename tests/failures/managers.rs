//! What is wrong with the BOSH server, or stands in its place.

use std::net::SocketAddr;

use insta::assert_snapshot;
use xbosh_testkit::cm::{Cm, Fault, Profile, Rule, When};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::xmpp::Server;

use crate::support::{Case, DOMAIN, no_tls};

fn case(url: &str, more: &str, address: SocketAddr) -> Case {
    let config =
        format!("[proxy]\nurl = \"none\"\n[domains.\"example.org\"]\nurl = \"{url}\"\n{more}");
    Case::new(&config).named(address, "chat.example:5281")
}

#[tokio::test(flavor = "multi_thread")]
async fn answers() {
    let reply = |status: &'static str, headers: &str, body: &str| Fault::Reply {
        status,
        headers: headers.into(),
        body: body.into(),
    };
    let html = "Content-Type: text/html\r\n";
    let page = "<html><body>Welcome</body></html>";
    let location = "Location: http://login.example/?token=secret\r\n";
    let mut all = String::new();
    for (name, fault) in [
        ("404", reply("404 Not Found", html, page)),
        ("a web page", reply("200 OK", html, page)),
        (
            "a web page with an error of its own",
            reply("501 Not Implemented", html, page),
        ),
        ("sent to a login page", reply("302 Found", location, "")),
        (
            "a web login",
            reply("401 Unauthorized", "WWW-Authenticate: Basic\r\n", ""),
        ),
        ("forbidden", reply("403 Forbidden", html, page)),
        (
            "a domain that it does not serve",
            Fault::Terminate {
                attributes: "condition='host-unknown'".into(),
                inner: String::new(),
            },
        ),
        (
            "an XMPP server that is down",
            Fault::Terminate {
                attributes: "condition='remote-connection-failed'".into(),
                inner: String::new(),
            },
        ),
        ("no HTTP", Fault::Raw(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())),
    ] {
        let cm = Cm::start(&Server::new(DOMAIN), Profile::strict(), None).await;
        cm.script(Rule::always(When::Always, fault));
        let case = case(&cm.url("127.0.0.1"), "", cm.addr());
        all.push_str(&case.told(name).await);
    }
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    let case_dead = case(&format!("https://{nobody}/http-bind"), "", nobody);
    all.push_str(&case_dead.told("nobody there").await);
    let plain = no_tls().await;
    let url = format!("https://{}/http-bind", plain.addr());
    let case = case(&url, "", plain.addr());
    all.push_str(&case.told("https:// for a port that has no TLS").await);
    assert_snapshot!(all);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates() {
    let authority = Authority::new();
    let own = ["127.0.0.1"];
    let mut all = String::new();
    for (name, acceptor, trusted) in [
        ("untrusted", authority.acceptor(&own), false),
        ("expired", authority.expired(&own), true),
        (
            "not yet valid, or a wrong clock",
            authority.not_yet_valid(&own),
            true,
        ),
        (
            "for another name",
            authority.acceptor(&["portal.example"]),
            true,
        ),
    ] {
        let cm = Cm::start(&Server::new(DOMAIN), Profile::strict(), Some(acceptor)).await;
        let more = match trusted {
            true => "ca_file = \"ca.pem\"\n",
            false => "",
        };
        let case = case(&cm.url("127.0.0.1"), more, cm.addr());
        case.write("ca.pem", &authority.pem(), 0o644);
        all.push_str(&case.told(&format!("certificate {name}")).await);
    }
    assert_snapshot!(all);
}
