//! What the log looks like on stderr: for a person, for the journal, for programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use insta::assert_snapshot;

/// xbosh in an empty environment but for a variable that is worth a warning.
fn xbosh(home: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xbosh"));
    command
        .env_clear()
        .env("HOME", home.path())
        .env("XBOSH_TYPO", "x")
        .stdin(Stdio::null());
    command
}

/// The first line of the log of a run that ends at once: its address is taken.
fn first_line(variables: &[(&str, &str)]) -> String {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = tempfile::tempdir().unwrap();
    let output = xbosh(&home)
        .args(["--listen", &address])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().next().unwrap().to_owned()
}

#[test]
fn lines_have_no_time_and_no_colour_without_a_terminal() {
    assert_snapshot!(first_line(&[]), @"WARN ignored: environment variable XBOSH_TYPO: unknown key typo");
}

#[test]
fn a_level_is_obeyed() {
    let line = first_line(&[("XBOSH_LOG__LEVEL", "error")]);
    assert!(line.starts_with("xbosh: cannot listen on "), "{line}");
}

#[test]
fn json_is_one_object_a_line() {
    let line = first_line(&[("XBOSH_LOG__FORMAT", "json")]);
    assert!(
        line.starts_with(r#"{"timestamp":""#) && line.ends_with('}'),
        "{line}"
    );
    assert!(
        line.contains(r#""level":"WARN""#) && line.contains("XBOSH_TYPO"),
        "{line}"
    );
}

/// sd-daemon(3): a priority in front of each line, but only where stderr really is the journal.
#[test]
fn lines_for_the_journal_carry_their_priority() {
    let home = tempfile::tempdir().unwrap();
    let first_line = |own: bool| {
        let path = home.path().join("log");
        let log = fs::File::create(&path).unwrap();
        let meta = log.metadata().unwrap();
        let inode = if own { meta.ino() } else { meta.ino() + 1 };
        xbosh(&home)
            // It ends before it listens.
            .env("XBOSH_TLS__CA_FILE", "/nonexistent/roots.pem")
            .env("JOURNAL_STREAM", format!("{}:{inode}", meta.dev()))
            .args(["--domain", "a.example", "--url", "https://a.example/"])
            .stderr(log)
            .status()
            .unwrap();
        let text = fs::read_to_string(path).unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_snapshot!(first_line(true), @"<4>ignored: environment variable XBOSH_TYPO: unknown key typo");
    assert_snapshot!(first_line(false), @"WARN ignored: environment variable XBOSH_TYPO: unknown key typo");
}

/// S-35, S-36: what a server's features lose is told once a domain, with the reason, not once a stream.
#[tokio::test]
async fn what_is_taken_out_is_told_once() {
    use xbosh_testkit::client::Client;
    use xbosh_testkit::cm::{Cm, Profile};
    use xbosh_testkit::xmpp::Server;

    let mut config = String::from("[discovery]\nhost_meta = false\n");
    let mut managers = Vec::new();
    for domain in ["a.test", "b.test"] {
        let server = Server::new(domain);
        server.configure(|options| {
            options.mechanisms = vec!["SCRAM-SHA-1-PLUS", "PLAIN"];
        });
        let cm = Cm::start(&server, Profile::strict(), None).await;
        config.push_str(&format!(
            "[domains.{domain:?}]\nurl = {:?}\n",
            cm.url("127.0.0.1")
        ));
        managers.push(cm);
    }
    let xbosh = std::path::Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let sidecar = xbosh_testkit::real::Sidecar::start(xbosh, &config).unwrap();
    for domain in ["a.test", "b.test", "a.test", "a.test"] {
        let mut client = Client::connect(sidecar.addr(), domain).await.unwrap();
        client.open().await.unwrap();
    }
    let log = sidecar.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("not offered"))
        .collect();
    assert_eq!(told.len(), 2, "{log}");
    for (line, domain) in told.iter().zip(["a.test", "b.test"]) {
        assert!(line.starts_with("INFO ") && line.contains(domain), "{line}");
        assert!(
            line.contains("SCRAM-SHA-1-PLUS (bound to the server's own TLS"),
            "{line}"
        );
    }
}

/// HAProxy and Kubernetes look every few seconds whether the port is there: a line for each look would fill the log.
#[tokio::test]
async fn a_look_at_the_port_is_not_logged() {
    use xbosh_testkit::client::Client;
    use xbosh_testkit::cm::{Cm, Profile};
    use xbosh_testkit::xmpp::Server;

    let cm = Cm::start(&Server::new("a.test"), Profile::strict(), None).await;
    let config = format!(
        "[discovery]\nhost_meta = false\n[domains.\"a.test\"]\nurl = {:?}\n",
        cm.url("127.0.0.1")
    );
    let xbosh = std::path::Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let mut sidecar = xbosh_testkit::real::Sidecar::start(xbosh, &config).unwrap();
    for _ in 0..3 {
        drop(std::net::TcpStream::connect(sidecar.addr()).unwrap());
    }
    // One that has said something is told of.
    let mut client = Client::connect(sidecar.addr(), "a.test").await.unwrap();
    client.open().await.unwrap();
    client.vanish();
    cm.until(|posts| posts.iter().any(|post| post.body.contains("terminate")))
        .await;
    sidecar.terminate().unwrap();
    sidecar.wait(std::time::Duration::from_secs(20)).unwrap();
    let log = sidecar.log();
    assert_eq!(log.matches("client went away").count(), 1, "{log}");
}

/// B-73, T-34: a whole session at trace level, with an HTTP proxy that wants a password, a cookie, key sequences and
/// PLAIN, ended by the one condition that is logged with its requests (C-08): nothing of it that is a secret, and
/// nothing of what is said, is in the log.
#[tokio::test]
async fn b73_a_session_leaves_no_secret_in_the_log() {
    use xbosh_testkit::client::{Account, Client, ClientError, Mechanism};
    use xbosh_testkit::cm::{Cm, Fault, Post, Profile, Rule, When};
    use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
    use xbosh_testkit::xmpp::Server;

    let server = Server::new("a.test");
    server.add_user("juliet", "zebra-password");
    let profile = Profile {
        strict_window: false,
        ..Profile::ejabberd()
    };
    let cm = Cm::start(&server, profile, None).await;
    let cookie = "Set-Cookie: balancer=zebra-cookie; Path=/\r\n";
    cm.script(Rule::times(When::Always, 1, Fault::Headers(cookie.into())));
    cm.script(Rule::times(When::EveryNth(9), 2, Fault::LoseAnswer));
    let options = ProxyOptions::with_credentials("montague", "zebra-proxy");
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let config = format!(
        "[log]\nlevel = 'trace'\n[discovery]\nhost_meta = false\n\
         [proxy]\nurl = 'http://{}'\nusername = 'montague'\npassword = 'zebra-proxy'\n\
         [domains.'a.test']\nurl = '{}?token=zebra-query'\nkey_sequence = true\n",
        proxy.addr(),
        cm.url("127.0.0.1"),
    );
    let xbosh = std::path::Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let sidecar = xbosh_testkit::real::Sidecar::start(xbosh, &config).unwrap();
    let account = Account::new("juliet", "a.test", "zebra-password");
    let mut client = Client::login(sidecar.addr(), &account, Mechanism::Plain)
        .await
        .unwrap();
    for _ in 0..20 {
        client
            .message("echo@a.test", "zebra-message")
            .await
            .unwrap();
        client
            .wait_for(|stanza| stanza.name() == "message")
            .await
            .unwrap();
    }
    let header = client.header().to_owned();
    cm.poll_is_held().await;
    cm.terminate_all("policy-violation", "");
    // First what was not confirmed comes back.
    let ended = client.wait_for(|_| false).await;
    match ended {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "policy-violation"),
        other => panic!("{other:?}"),
    }

    let mut secrets: Vec<String> = ["zebra", "bW9udGFndWU6emVicmEtcHJveHk="]
        .map(str::to_owned)
        .into();
    let between = |text: &str, from: &str, to: char| {
        let rest = text.split(from).nth(1).expect(from);
        rest.split(to).next().unwrap().to_owned()
    };
    secrets.push(between(&header, " id='", '\''));
    let posts = cm.posts();
    let auth = posts.iter().find(|post| post.body.contains("<auth"));
    let sasl = auth.unwrap().body.split("</auth>").next().unwrap();
    secrets.push(sasl.rsplit('>').next().unwrap().to_owned());
    for post in &posts {
        for name in ["rid", "sid", "key", "newkey"] {
            secrets.extend(post.attribute(name));
        }
    }
    secrets.sort();
    secrets.dedup();
    let repeats = posts.iter().filter(|post| {
        let rid = post.attribute("rid");
        posts
            .iter()
            .filter(|other| other.attribute("rid") == rid)
            .count()
            > 1
    });
    assert!(repeats.count() >= 4, "answers were lost");
    let keyed = posts.iter().filter(|post| post.attribute("key").is_some());
    assert!(keyed.count() >= 20);
    let kept = |post: &Post| post.header("cookie") == Some("balancer=zebra-cookie");
    assert!(posts.iter().any(kept));

    let log = sidecar.log();
    let told = "calls our requests too many";
    let line = log.lines().find(|line| line.contains(told)).expect("C-08");
    assert!(line.contains("sends=[("), "{line}");
    for secret in secrets {
        assert!(secret.len() >= 5, "too short to be looked for: {secret}");
        assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
    }
}
