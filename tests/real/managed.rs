//! Stream management served by xbosh, in front of real servers: nothing lost, doubled or reordered while the
//! client's connection dies at random points.

use std::time::Duration;

use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::client::{Client, ClientError, Mechanism, Stanza};
use xbosh_testkit::real::Sidecar;

use crate::support::{Scheme, Site, Way, xbosh_to};
use crate::walk;

/// Messages each way while connections die.
const MESSAGES: usize = 200;
/// How often the connection dies.
const DEATHS: usize = 12;

fn ready(site: Site) -> bool {
    Way::Direct.available(site)
}

fn body(stanza: &Stanza) -> Option<String> {
    (stanza.name() == "message")
        .then(|| stanza.child_text("body"))
        .flatten()
}

fn is_error(stanza: &Stanza) -> bool {
    stanza.attribute("type").as_deref() == Some("error")
}

/// A small generator; `XBOSH_TEST_SEED` repeats a run.
struct Dice(u64);

impl Dice {
    fn seed() -> u64 {
        let wanted = std::env::var("XBOSH_TEST_SEED").ok();
        wanted
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| std::process::id().into())
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// S-43, S-49: a flow both ways, the client killed at random points and resumed each time.
async fn killed_and_resumed(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "killed").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Managed::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.send("<presence/>").await;
    let (jid, peer_jid) = (client.jid().to_owned(), peer.jid().to_owned());
    let (mut at_peer, mut at_client) = (Vec::new(), Vec::new());
    let seed = Dice::seed();
    let mut dice = Dice(seed);
    let (mut next, mut deaths) = (0, 0);
    while at_peer.len() < MESSAGES || at_client.len() < MESSAGES {
        for _ in 0..dice.below(12) {
            if next < MESSAGES {
                client.message(&peer_jid, &next.to_string()).await;
                peer.message(&jid, &next.to_string()).await.unwrap();
                next += 1;
            }
        }
        for _ in 0..dice.below(20) {
            let soon = Duration::from_millis(if next < MESSAGES { 5 } else { 200 });
            let (from_server, from_xbosh) = tokio::join!(
                tokio::time::timeout(soon, peer.next_stanza()),
                tokio::time::timeout(soon, client.next_stanza()),
            );
            at_peer.extend(from_server.ok().and_then(|s| body(&s.unwrap())));
            at_client.extend(from_xbosh.ok().and_then(|s| body(&s.unwrap())));
        }
        if deaths < DEATHS && next > deaths * MESSAGES / DEATHS {
            deaths += 1;
            assert_eq!(client.reconnect().await.unwrap(), Resumed::Yes);
        }
    }
    let all: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(at_peer, all, "seed {seed}\n{}", xbosh.log());
    assert_eq!(at_client, all, "seed {seed}\n{}", xbosh.log());
    assert_eq!(deaths, DEATHS);
    client.settle().await.unwrap();
    client.logout().await.unwrap();
}

/// S-43: a lone stanza is acknowledged within `polling` + 2 s.
async fn lone_stanza(site: Site, polling: u64) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "lone").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Managed::login(xbosh.addr(), &account, Mechanism::Plain)
        .await
        .unwrap();
    client.settle().await.unwrap();
    let began = tokio::time::Instant::now();
    client.message(peer.jid(), "alone").await;
    peer.wait_for(|s| body(s).as_deref() == Some("alone"))
        .await
        .unwrap();
    client.settle().await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(polling + 2), "{took:?}");
}

/// S-43: a session that the manager ends: `<failed h=…/>` names what had arrived; what is sent again behind it
/// arrives once. S-43 too: after a logout the name is free at once.
async fn lost_session(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "lost").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Managed::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    for n in 0..3 {
        client.message(peer.jid(), &n.to_string()).await;
    }
    client.settle().await.unwrap();
    // Another login takes the same resource: the server ends this session.
    let resource = client.jid().rsplit_once('/').unwrap().1.to_owned();
    let mut usurper = Client::connect(site.server().c2s(), &account.domain)
        .await
        .unwrap();
    usurper.open().await.unwrap();
    usurper
        .authenticate(&account, Mechanism::Plain)
        .await
        .unwrap();
    usurper.open().await.unwrap();
    usurper.bind(Some(&resource)).await.unwrap();
    let ended = loop {
        match client.next_stanza().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(ended, ClientError::Stream(_) | ClientError::Ended),
        "{ended}"
    );
    client.message(peer.jid(), "3").await;
    let outcome = client.reconnect().await.unwrap();
    assert_eq!(outcome, Resumed::No(Some(3)));
    client.settle().await.unwrap();
    for n in 0..4 {
        let stanza = peer.wait_for(|s| body(s).is_some()).await.unwrap();
        assert_eq!(body(&stanza), Some(n.to_string()));
    }
    let jid = client.jid().to_owned();
    client.logout().await.unwrap();
    let again = xbosh_login(&xbosh, &account, &jid).await;
    assert_eq!(again.jid(), jid, "the resource is free at once");
}

async fn xbosh_login(
    xbosh: &Sidecar,
    account: &xbosh_testkit::client::Account,
    jid: &str,
) -> Client {
    let mut client = Client::connect(xbosh.addr(), &account.domain)
        .await
        .unwrap();
    client.open().await.unwrap();
    client
        .authenticate(account, Mechanism::Scram)
        .await
        .unwrap();
    client.open().await.unwrap();
    client
        .bind(Some(jid.rsplit_once('/').unwrap().1))
        .await
        .unwrap();
    client
}

/// S-49: nobody else can resume a stream, whatever name he knows.
async fn wrong_user(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "victim").await;
    let other = site.server().add_account("thief").unwrap();
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Managed::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.send("<presence/>").await;
    client.settle().await.unwrap();
    let jid = client.jid().to_owned();
    assert_eq!(
        client.reconnect_as(&other).await.unwrap(),
        Resumed::No(None)
    );
    assert!(client.jid().starts_with("thief"));
    peer.message(&jid, "secret").await.unwrap();
    let seen = tokio::time::timeout(Duration::from_millis(500), client.next_stanza()).await;
    assert!(!seen.is_ok_and(|s| body(&s.unwrap()).is_some()));
}

/// S-50: a client without stream management vanishes: its contacts see it go, and what comes later does not
/// disappear: it is answered by the server, or kept by it.
async fn vanished(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "vanished").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.available(Some(peer.jid())).await.unwrap();
    let jid = client.jid().to_owned();
    peer.wait_for(|s| walk::is_presence(s, &jid, ""))
        .await
        .unwrap();
    client.vanish();
    let began = tokio::time::Instant::now();
    peer.wait_for(|s| walk::is_presence(s, &jid, "unavailable"))
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(3));
}

/// S-50, S-43: with resumption the session stays for `resume_window`; what was not acknowledged then goes back
/// to its sender.
async fn window_over(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "window").await;
    let server = site.server();
    let config = [
        Way::Direct.config(),
        "[stream_management]\nresume_window = 3\n".to_owned(),
        crate::support::domain_config(server.domain(), &server.bosh_url(false, "127.0.0.1")),
    ];
    let xbosh = crate::support::xbosh(&config.concat());
    let mut client = Managed::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.mute();
    client
        .send(&format!("<presence to='{}'/>", peer.jid()))
        .await;
    let jid = client.jid().to_owned();
    peer.wait_for(|s| walk::is_presence(s, &jid, ""))
        .await
        .unwrap();
    // A message would be in Prosody's archive, and so not be sent back.
    peer.send(&format!(
        "<iq type='get' id='q' to='{jid}'><ping xmlns='urn:xmpp:ping'/></iq>"
    ))
    .await
    .unwrap();
    client.next_stanza().await.unwrap();
    client.vanish();
    // The error may come before or behind the presence.
    let (mut gone, mut returned) = (false, false);
    while !(gone && returned) {
        let stanza = peer.next_stanza().await.unwrap();
        gone |= walk::is_presence(&stanza, &jid, "unavailable");
        returned |= stanza.name() == "iq" && is_error(&stanza);
    }
    assert!(!xbosh.log().contains("lost"), "{}", xbosh.log());
}

macro_rules! tests {
    ($($name:ident: $test:ident($($argument:expr),*);)*) => {$(
        #[tokio::test]
        async fn $name() {
            $test($($argument),*).await;
        }
    )*};
}

tests! {
    s49_killed_at_random_points_prosody: killed_and_resumed(Site::Prosody);
    s49_killed_at_random_points_ejabberd: killed_and_resumed(Site::Ejabberd);
    s43_lone_stanza_prosody: lone_stanza(Site::Prosody, 5);
    s43_lone_stanza_ejabberd: lone_stanza(Site::Ejabberd, 2);
    s43_lost_session_prosody: lost_session(Site::Prosody);
    s43_lost_session_ejabberd: lost_session(Site::Ejabberd);
    s49_wrong_user_prosody: wrong_user(Site::Prosody);
    s49_wrong_user_ejabberd: wrong_user(Site::Ejabberd);
    s50_vanished_prosody: vanished(Site::Prosody);
    s50_vanished_ejabberd: vanished(Site::Ejabberd);
    s50_window_over_prosody: window_over(Site::Prosody);
    s50_window_over_ejabberd: window_over(Site::Ejabberd);
}
