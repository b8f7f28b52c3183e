//! `xbosh check`, `discover`, `completions` and `man`.

use std::fs;
use std::process::Command;

use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
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

/// What scripts get, as a whole; times and addresses apart.
#[tokio::test(flavor = "multi_thread")]
async fn check_for_scripts() {
    let server = Server::new("localhost");
    let cm = Cm::start(&server, Profile::prosody(), None).await;
    let home = Home::new();
    let mut all = String::new();
    for url in [cm.url("127.0.0.1"), "http://127.0.0.1:1/http-bind".into()] {
        let (_, out, _) = home.ends(&["check", "localhost", "--json", "--url", &url]);
        for line in out.lines() {
            let line = match line.split_once("\"ms\": ") {
                Some((front, time)) => {
                    let time = time.trim_end_matches(',');
                    assert!(time.parse::<f64>().unwrap() >= 0.0, "{line}");
                    line.replace(
                        &format!("{front}\"ms\": {time}"),
                        &format!("{front}\"ms\": TIME"),
                    )
                }
                None => line.replace(&cm.addr().to_string(), "CM"),
            };
            all.push_str(&line);
            all.push('\n');
        }
    }
    insta::assert_snapshot!(all);
}

/// D-16: a domain as people write it, found by its host-meta: A-labels go out, and are what is told.
#[tokio::test(flavor = "multi_thread")]
async fn d16_a_domain_with_other_letters() {
    let name = "xn--bcher-kva.example";
    let authority = Authority::new();
    let server = Server::new(name);
    let cm = Cm::start(
        &server,
        Profile::strict(),
        Some(authority.acceptor(&[name])),
    )
    .await;
    let web = WebHost::start(Some(authority.acceptor(&[name]))).await;
    web.page(
        "/.well-known/host-meta",
        &xrd(&[(BOSH, "https://chat.bücher.example/http-bind")]),
    );
    let options = ProxyOptions {
        places: [
            (format!("{name}:443"), web.addr()),
            (format!("chat.{name}:443"), cm.addr()),
        ]
        .into(),
        ..ProxyOptions::default()
    };
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let home = Home::new();
    let ca_file = home.write("ca.pem", &authority.pem());
    for written in ["bücher.example", "BÜCHER.example", name] {
        let mut command = home.command(&["check", written]);
        command
            .env("XBOSH_DISCOVERY__HOST_META", "true")
            .env("XBOSH_TLS__CA_FILE", &ca_file)
            .env("HTTPS_PROXY", proxy.addr().to_string());
        let output = command.output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{out}");
        let told = format!("A client can log in to {name} through xbosh.\n");
        assert!(out.contains(&told), "{out}");
        let url = format!("url = \"https://chat.{name}/http-bind\"\n");
        assert!(out.contains(&url), "{out}");
    }
    assert!(
        web.heads()
            .iter()
            .all(|head| head.contains(&format!("{name}\r\n")))
    );
    assert_eq!(cm.violations(), Vec::<String>::new());
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
    for page in pages {
        let mut groff = Command::new("groff");
        let options = ["-ww", "-man", "-Tutf8", "-Kutf8", "-z"];
        groff
            .args(options)
            .arg(home.path().join("pages").join(&page));
        match groff.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.is_empty(), "{page}: {said}");
            }
            // Not every machine can show them.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}
