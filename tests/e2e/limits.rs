//! Hostile and heavy clients, several at once, shutdown.

use std::time::Duration;

use xbosh_testkit::client::raw::Raw;
use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::cm::Profile;

use super::support::{Chain, DOMAIN, account, app, echo};

/// S-29, E-13: an element over the limit ends that stream; others never notice.
#[tokio::test]
async fn e13_oversized_stanza() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.limits.max_stanza_bytes = 20_000
    })
    .await;
    let mut other = Client::login(chain.addr(), &account("other"), Mechanism::Plain)
        .await
        .unwrap();
    let mut client = chain.login().await;
    client
        .message("echo@localhost", &"x".repeat(30_000))
        .await
        .unwrap();
    match client.next_stanza().await {
        Err(ClientError::Stream(error)) => {
            assert_eq!(
                (error.condition.as_str(), app(&error)),
                ("policy-violation", Some("stanza-too-big"))
            );
        }
        result => panic!("{result:?}"),
    }
    echo(&mut other, 0..3).await;
}

/// S-46: a client is told of the smaller limit of the two (XEP-0478), and what is within it passes.
#[tokio::test]
async fn s46_stream_limits() {
    for (told, limit) in [("262144", "20000"), ("12345", "12345")] {
        let chain = Chain::start_with(Profile::strict(), |config| {
            config.limits.max_stanza_bytes = 20_000
        })
        .await;
        chain.server.set_extra_features(&format!(
            "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{told}</max-bytes></limits>"
        ));
        let mut client = Client::connect(chain.addr(), DOMAIN).await.unwrap();
        let features = client.open().await.unwrap();
        let max = features.read(|features| {
            let max = features
                .descendants()
                .find(|n| n.has_tag_name(("urn:xmpp:stream-limits:0", "max-bytes")));
            max.and_then(|node| node.text()).map(str::to_owned)
        });
        assert_eq!(max.as_deref(), Some(limit));
        let mut client = chain.login().await;
        let text = "x".repeat(limit.parse::<usize>().unwrap() - 200);
        client.message("echo@localhost", &text).await.unwrap();
        let back = client.wait_for(|s| s.name() == "message").await.unwrap();
        assert_eq!(back.child_text("body"), Some(text));
    }
}

/// E-14: one stream too many is told so at once.
#[tokio::test]
async fn e14_too_many_streams() {
    let chain = Chain::start_with(Profile::strict(), |config| config.limits.max_streams = 1).await;
    let mut first = chain.login().await;
    let mut second = Raw::connect(chain.addr()).await.unwrap();
    let told = second.read_to_end().await.unwrap();
    assert!(
        told.contains("<resource-constraint") && told.ends_with("</stream:stream>"),
        "{told}"
    );
    first.ping().await.unwrap();
}

/// S-02: a browser that posts to the port gets silence, and what it posts goes nowhere.
#[tokio::test]
async fn s02_browser_gets_silence() {
    let chain = Chain::start(Profile::strict()).await;
    let mut browser = Raw::connect(chain.addr()).await.unwrap();
    browser
        .send("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n<stream:stream to='localhost'>")
        .await
        .unwrap();
    assert_eq!(browser.read_to_end().await.unwrap(), "");
    assert!(chain.cm.posts().is_empty());
}

/// Two thousand stanzas in one write, each way, in order (S-24, B-36).
#[tokio::test]
async fn b36_burst() {
    let chain = Chain::start(Profile::strict()).await;
    let mut client = chain.login().await;
    echo(&mut client, 0..2000).await;
    chain.assert_faithful();
    let posts = chain.cm.posts().len();
    assert!(
        posts < 1000,
        "B-38: what waits travels together, yet {posts} requests"
    );
}

/// 50 streams at once.
#[tokio::test]
async fn fifty_streams() {
    let chain = Chain::start(Profile::strict()).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let addr = chain.addr();
        clients.spawn(async move {
            let mut client = Client::login(addr, &account("user"), Mechanism::Plain)
                .await
                .unwrap();
            echo(&mut client, 0..20).await;
            client.logout().await.unwrap();
        });
    }
    while let Some(result) = clients.join_next().await {
        result.unwrap();
    }
    chain.assert_faithful();
    assert_eq!(chain.cm.sessions(), 0);
}

/// S-47: stopping tells every client and ends every session, within 5 s.
#[tokio::test]
async fn s47_stop_with_fifty_clients() {
    let Chain {
        server,
        cm,
        sidecar,
        folder: _folder,
    } = Chain::start(Profile::strict()).await;
    let addr = sidecar.addrs()[0];
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(
            Client::login(addr, &account("user"), Mechanism::Plain)
                .await
                .unwrap(),
        );
    }
    assert_eq!(server.online().len(), 50);
    let began = tokio::time::Instant::now();
    let stopping = tokio::spawn(sidecar.stop());
    for client in &mut clients {
        match client.next_stanza().await {
            Err(ClientError::Stream(error)) => assert_eq!(error.condition, "system-shutdown"),
            other => panic!("{other:?}"),
        }
    }
    drop(clients);
    stopping.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((server.online().len(), cm.sessions()), (0, 0));
    assert_eq!(cm.violations(), Vec::<String>::new());
}

/// E-21: a domain without a known address.
#[tokio::test]
async fn e21_unknown_domain() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.discovery.host_meta = false;
    })
    .await;
    let mut client = Client::connect(chain.addr(), "example.org").await.unwrap();
    match client.open().await {
        Err(ClientError::Stream(error)) => {
            assert_eq!(
                (error.condition.as_str(), app(&error)),
                ("host-unknown", Some("no-bosh-endpoint"))
            );
            assert!(
                error
                    .text
                    .as_deref()
                    .unwrap_or_default()
                    .contains("example.org"),
                "{error:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(DOMAIN, "localhost");
}

/// S-18: a client that never closes its side is waited for, but not for ever: its place is free again.
#[tokio::test]
async fn s18_silent_client_is_dropped() {
    let chain = Chain::start_with(Profile::strict(), |config| config.limits.max_streams = 1).await;
    let mut silent = Raw::connect(chain.addr()).await.unwrap();
    silent
        .send("<stream:stream xmlns:stream='wrong'>")
        .await
        .unwrap();
    assert!(
        silent
            .read_to_end()
            .await
            .unwrap()
            .ends_with("</stream:stream>")
    );
    let began = tokio::time::Instant::now();
    let mut refusals = 0;
    loop {
        let mut next = Raw::connect(chain.addr()).await.unwrap();
        next.send("<stream:stream xmlns:stream='wrong'>")
            .await
            .unwrap();
        if !next
            .read_to_end()
            .await
            .unwrap()
            .contains("<resource-constraint")
        {
            break;
        }
        refusals += 1;
        assert!(began.elapsed() < Duration::from_secs(8), "still taken");
        tokio::task::yield_now().await;
    }
    assert!(
        refusals > 0 && began.elapsed() > Duration::from_secs(3),
        "{refusals} in {:?}",
        began.elapsed()
    );
    drop(silent);
}
