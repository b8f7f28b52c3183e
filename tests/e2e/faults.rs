//! Bad weather: requests and answers lost, odd replies; nothing lost, doubled or reordered.

use std::time::Duration;

use xbosh_testkit::client::{Client, ClientError};
use xbosh_testkit::cm::{Fault, Profile, Rule, When};

use super::support::{Chain, DOMAIN, app, echo, told};

/// B-49 to B-51: each of these at every seventh request; 200 messages there and back, once and in order.
#[tokio::test]
async fn b49_messages_survive_a_bad_network() {
    for fault in [
        Fault::LoseRequest,
        Fault::LoseAnswer,
        Fault::Truncate(40),
        Fault::Truncate(150),
        Fault::Reply {
            status: "502 Bad Gateway",
            headers: String::new(),
            body: "<html>bad gateway</html>".into(),
        },
        Fault::Reply {
            status: "503 Service Unavailable",
            headers: "Retry-After: 1\r\n".into(),
            body: String::new(),
        },
        Fault::Reply {
            status: "404 Not Found",
            headers: String::new(),
            body: "<html>not here</html>".into(),
        },
        Fault::Reply {
            status: "407 Proxy Authentication Required",
            headers: String::new(),
            body: String::new(),
        },
        Fault::Reply {
            status: "200 OK",
            headers: String::new(),
            body: "<html>please log in</html>".into(),
        },
        Fault::Raw(b"not HTTP at all\r\n\r\n".to_vec()),
        Fault::RecoverableError,
    ] {
        let chain = Chain::start(patient()).await;
        let mut client = chain.login().await;
        client.set_deadline(Duration::from_secs(60));
        let told = format!("{fault:?}");
        chain
            .cm
            .script(Rule::times(When::EveryNth(7), usize::MAX, fault));
        for round in 0..10 {
            echo(&mut client, round * 20..round * 20 + 20).await;
        }
        client.logout().await.unwrap();
        let mut wrong = chain.cm.violations();
        wrong.retain(|what| !what.starts_with("B-38") && !what.starts_with("B-39"));
        assert_eq!(wrong, Vec::<String>::new(), "{told}");
    }
}

/// A manager that has not noticed a dead connection still counts its request: it must not end the session for
/// that, and how many are open cannot be judged from its side (B-38, B-39: the session's own tests do).
fn patient() -> Profile {
    Profile {
        strict_window: false,
        ..Profile::strict()
    }
}

/// B-49: the answer cut at each of its bytes.
#[tokio::test]
async fn b49_reply_cut_at_every_byte() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = chain.login().await;
    for cut in 0..320 {
        chain.cm.script(Rule::once(
            When::Holds(format!("number {cut}<")),
            Fault::Truncate(cut as usize),
        ));
        echo(&mut client, cut..cut + 1).await;
    }
    chain.assert_faithful();
}

/// B-55, T-05: a creation request whose answer is lost is followed by one with a new rid.
#[tokio::test]
async fn b55_lost_creation() {
    let chain = Chain::start(Profile::strict()).await;
    chain
        .cm
        .script(Rule::times(When::Creation, 2, Fault::LoseAnswer));
    let mut client = chain.login().await;
    echo(&mut client, 0..3).await;
    let rids: Vec<_> = chain
        .cm
        .posts()
        .iter()
        .filter(|p| p.attribute("sid").is_none())
        .map(|p| p.attribute("rid"))
        .collect();
    assert_eq!(rids.len(), 3);
    assert!(rids[0] != rids[1] && rids[1] != rids[2]);
}

/// cm-quirks 4.4: a restart whose answer is lost is repeated under the same rid, and answered from the store.
#[tokio::test]
async fn x13_lost_restart() {
    for (name, profile) in [
        ("strict", Profile::strict()),
        ("prosody", Profile::prosody()),
        ("ejabberd", Profile::ejabberd()),
        ("mongooseim", Profile::mongooseim()),
        ("punjab", Profile::punjab()),
        ("node-xmpp-bosh", Profile::node_xmpp_bosh()),
    ] {
        for fault in [Fault::LoseRequest, Fault::LoseAnswer] {
            lost_restart(name, profile.clone(), fault).await;
        }
    }
}

/// The same where no answer is kept (Tigase), or none to a restart (Openfire): one that never came is repeated all the
/// same.
#[tokio::test]
async fn x13_lost_restart_request() {
    for (name, profile) in [
        ("openfire", Profile::openfire()),
        ("tigase", Profile::tigase()),
    ] {
        lost_restart(name, profile, Fault::LoseRequest).await;
    }
}

async fn lost_restart(name: &str, profile: Profile, fault: Fault) {
    let told = format!("{name}: {fault:?}");
    let profile = Profile {
        strict_window: false,
        ..profile
    };
    let chain = Chain::start(profile).await;
    chain
        .cm
        .script(Rule::once(When::Holds("xmpp:restart".into()), fault));
    let login = chain.login();
    let mut client = tokio::time::timeout(Duration::from_secs(20), login)
        .await
        .expect(&told);
    echo(&mut client, 0..3).await;
    client.logout().await.unwrap();
}

/// Every connection cut again and again in the middle of a conversation.
#[tokio::test]
async fn b49_connections_cut() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = chain.login().await;
    for round in 0..20 {
        chain.cm.cut().await;
        echo(&mut client, round * 5..round * 5 + 5).await;
    }
    client.logout().await.unwrap();
    chain.assert_faithful();
}

async fn setup_error(rule: Rule) -> (String, String, Option<String>) {
    let chain = Chain::start(Profile::strict()).await;
    chain.cm.script(rule);
    let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
    match client.open().await {
        Err(ClientError::Stream(error)) => told(&error),
        other => panic!("expected a stream error, got {other:?}"),
    }
}

fn reply(status: &'static str, body: &str) -> Fault {
    Fault::Reply {
        status,
        headers: String::new(),
        body: body.to_owned(),
    }
}

/// E-52 to E-63, C-03: what a manager that is none, or refuses, tells the client at set-up.
#[tokio::test]
async fn e52_to_e63_at_setup() {
    for (fault, condition, expected) in [
        (
            reply("200 OK", "<html><form/></html>"),
            "remote-connection-failed",
            Some("not-a-bosh-endpoint"),
        ),
        (
            reply("200 OK", ""),
            "remote-connection-failed",
            Some("not-a-bosh-endpoint"),
        ),
        (
            reply("404 Not Found", "<html/>"),
            "remote-connection-failed",
            Some("not-a-bosh-endpoint"),
        ),
        (
            reply("401 Unauthorized", ""),
            "remote-connection-failed",
            Some("cm-auth-required"),
        ),
        (reply("403 Forbidden", ""), "policy-violation", None),
        (
            reply("405 Method Not Allowed", ""),
            "remote-connection-failed",
            Some("cm-http-error"),
        ),
        (
            reply("500 Internal Server Error", ""),
            "remote-connection-failed",
            Some("cm-http-error"),
        ),
        (
            Fault::Reply {
                status: "302 Found",
                headers: "Location: http://127.0.0.1/login\r\n".into(),
                body: String::new(),
            },
            "remote-connection-failed",
            Some("unexpected-redirect"),
        ),
        (
            reply(
                "200 OK",
                "<!DOCTYPE b [<!ENTITY a 'aaaaaaaa'>]><body xmlns='http://jabber.org/protocol/httpbind'>&a;</body>",
            ),
            "remote-connection-failed",
            Some("cm-protocol-error"),
        ),
        (
            reply(
                "200 OK",
                "<body xmlns='http://jabber.org/protocol/httpbind' wait='60'/>",
            ),
            "remote-connection-failed",
            Some("cm-protocol-error"),
        ),
        (
            Fault::Terminate {
                attributes: "condition='host-unknown'".into(),
                inner: String::new(),
            },
            "host-unknown",
            None,
        ),
    ] {
        let told = format!("{fault:?}");
        let (got, text, detail) = setup_error(Rule::times(When::Always, usize::MAX, fault)).await;
        assert_eq!(
            (got.as_str(), detail.as_deref()),
            (condition, expected),
            "{told}"
        );
        assert!(text.len() > 20, "{told}: {text}");
    }
}

/// E-51: a manager that never answers; the set-up limit ends the wait.
#[tokio::test]
async fn e51_silent_manager() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.limits.setup_timeout = Duration::from_secs(1);
    })
    .await;
    chain
        .cm
        .script(Rule::times(When::Always, usize::MAX, Fault::Silence));
    let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
    match client.open().await {
        Err(ClientError::Stream(error)) => assert_eq!(app(&error), Some("cm-timeout")),
        other => panic!("{other:?}"),
    }
}

/// E-53, B-59: a permanent redirect of the BOSH URL is followed.
#[tokio::test]
async fn b59_redirect_is_followed() {
    let chain = Chain::start(Profile::strict()).await;
    let there = Chain::start(Profile::strict()).await;
    chain.cm.script(Rule::times(
        When::Always,
        usize::MAX,
        Fault::Reply {
            status: "308 Permanent Redirect",
            headers: format!("Location: {}\r\n", there.cm.url("127.0.0.1")),
            body: String::new(),
        },
    ));
    let mut client = chain.login().await;
    echo(&mut client, 0..3).await;
    assert_eq!((chain.cm.posts().len(), there.cm.sessions()), (1, 1));
}

/// C-12: the manager goes down; the client is told.
#[tokio::test]
async fn c12_manager_shuts_down() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = chain.login().await;
    client.ping().await.unwrap();
    chain.cm.poll_is_held().await;
    chain.cm.terminate_all("system-shutdown", "");
    match client.next_stanza().await {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "system-shutdown"),
        other => panic!("{other:?}"),
    }
}

/// T-28: a client that vanishes takes its session with it.
#[tokio::test]
async fn t28_vanished_client() {
    let chain = Chain::start(Profile::strict()).await;
    let client = chain.login().await;
    assert_eq!(chain.server.online().len(), 1);
    client.vanish();
    let gone = async {
        while !chain.server.online().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("no ghost stays online");
    chain.assert_faithful();
}

/// B-04: compressed replies are read; broken ones are repeated.
#[tokio::test]
async fn b04_compressed_replies() {
    let chain = Chain::start(Profile::strict()).await;
    chain.cm.script(Rule::times(
        When::EveryNth(5),
        usize::MAX,
        Fault::BrokenGzip,
    ));
    chain
        .cm
        .script(Rule::times(When::Always, usize::MAX, Fault::Gzip));
    let mut client = chain.login().await;
    echo(&mut client, 0..50).await;
    client.logout().await.unwrap();
    chain.assert_faithful();
    assert!(
        chain
            .cm
            .posts()
            .iter()
            .all(|post| post.header("content-encoding").is_none())
    );
}

/// B-04, E-67: a reply that grows past the limit, compressed or not, ends the session; others go on.
#[tokio::test]
async fn e67_oversized_replies() {
    for fault in [Fault::GzipBomb(64 << 20), Fault::Oversized(4 << 20)] {
        let chain = Chain::start_with(Profile::strict(), |config| {
            config.limits.max_response_bytes = 2 << 20
        })
        .await;
        let mut client = chain.login().await;
        chain
            .cm
            .script(Rule::once(When::Holds("boom".into()), fault));
        client
            .message(&format!("echo@{DOMAIN}"), "boom")
            .await
            .unwrap();
        let error = loop {
            match client.next_stanza().await {
                Ok(_) => {}
                Err(ClientError::Stream(error)) => break error,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!(app(&error), Some("cm-protocol-error"), "{error:?}");
        assert!(
            error
                .text
                .as_deref()
                .unwrap_or_default()
                .contains("max_response_bytes")
        );
        let mut other = chain.login().await;
        echo(&mut other, 0..3).await;
    }
}
