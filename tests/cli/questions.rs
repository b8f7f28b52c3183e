//! `xbosh check`, `discover`, `completions` and `man`.

use std::fs;

use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::tls::Authority;
use xbosh_testkit::web::{BOSH, WebHost, xrd};
use xbosh_testkit::xmpp::Server;

use super::Home;

const WEBSOCKET: &str = "urn:xmpp:alt-connections:websocket";

/// 0 and a line a hop where the way is free; 3 and what to do where it is not; one object for scripts.
#[tokio::test(flavor = "multi_thread")]
async fn check() {
    let server = Server::new("localhost");
    let cm = Cm::start(&server, Profile::prosody(), None).await;
    let home = Home::new();
    let url = cm.url("127.0.0.1");
    let (code, out, said) = home.ends(&["check", "localhost", "--url", &url]);
    assert_eq!((code, said.as_str()), (0, ""), "{out}");
    assert!(out.contains("\nsession     ok"), "{out}");
    assert!(
        out.ends_with("A client can log in to localhost through xbosh.\n"),
        "{out}"
    );

    let dead = [
        "check",
        "localhost",
        "--url",
        "http://127.0.0.1:1/http-bind",
    ];
    let (code, out, said) = home.ends(&dead);
    assert_eq!((code, said.as_str()), (3, ""), "{out}");
    assert!(out.contains("FAILED"), "{out}");

    let (code, out, _) = home.ends(&[&dead[..], &["--json"]].concat());
    assert_eq!(code, 3);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["format"], 1);
    assert_eq!(report["domain"], "localhost");
    assert_eq!(report["ok"], false);
    let last = report["hops"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["hop"], &last["outcome"], &last["row"]),
        (&"network".into(), &"failed".into(), &"E-50".into())
    );
}

/// Mistakes in the question: nothing is asked.
#[test]
fn usage() {
    let home = Home::new();
    for (arguments, expected, words) in [
        (&["check", "juliet@example.org"][..], 2, "is no domain name"),
        (
            &["check", "example.org", "--proxy", "http://u:p@h:1"],
            2,
            "every user of this machine can read",
        ),
        (
            &["discover", "example.org", "--config", "nowhere.toml"],
            78,
            "nowhere.toml",
        ),
    ] {
        let (code, out, said) = home.ends(arguments);
        assert_eq!(
            (code, out.as_str()),
            (expected, ""),
            "{arguments:?}: {said}"
        );
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

/// Each address that the domain names, and where that stands; those that xbosh does not use too.
#[tokio::test(flavor = "multi_thread")]
async fn discover() {
    let authority = Authority::new();
    let web = WebHost::start(Some(authority.acceptor(&["localhost"]))).await;
    let links = [
        (BOSH, "https://cm.example.test/http-bind"),
        (BOSH, "http://cm.example.test/http-bind"),
        (WEBSOCKET, "wss://cm.example.test/ws"),
    ];
    web.page("/.well-known/host-meta", &xrd(&links));
    let home = Home::new();
    let ca_file = home.write("ca.pem", &authority.pem());
    let config = home.write("c.toml", &format!("[tls]\nca_file = {ca_file:?}\n"));
    let port = web.addr().port().to_string();
    let ask = [
        "discover",
        "localhost",
        "--web-port",
        &port,
        "--config",
        config.to_str().unwrap(),
    ];
    let (code, out, said) = home.ends(&ask);
    assert_eq!((code, said.as_str()), (0, ""));
    assert_eq!(
        out,
        "bosh       https://cm.example.test/http-bind  (host-meta)\n\
         bosh       http://cm.example.test/http-bind  (host-meta, not used by xbosh)\n\
         websocket  wss://cm.example.test/ws  (host-meta, not used by xbosh)\n"
    );
    let (_, out, _) = home.ends(&[&ask[..], &["--json"]].concat());
    let addresses: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(addresses[0]["url"], "https://cm.example.test/http-bind");
    assert_eq!(addresses[2]["usable"], false);

    web.page("/.well-known/host-meta", &xrd(&[]));
    let (code, out, said) = home.ends(&ask);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(said.contains("names no BOSH address"), "{said}");
}

/// For packagers.
#[test]
fn completions_and_manual_pages() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = home.ends(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(
            out.contains("discover") && out.contains("xbosh"),
            "{shell}: {out}"
        );
    }
    let (code, out, _) = home.ends(&["man"]);
    assert_eq!(code, 0);
    assert!(out.contains(".TH xbosh 1"), "{out}");
    let (code, ..) = home.ends(&["man", "--out", "pages"]);
    assert_eq!(code, 0);
    let mut pages: Vec<_> = fs::read_dir(home.path().join("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    for page in ["xbosh-check.1", "xbosh.1", "xbosh.toml.5"] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
}
