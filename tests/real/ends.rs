//! How things end in front of real servers: xbosh stops, is killed, the server or the proxy is started again, the
//! client vanishes or closes with messages under way, nobody reads.

use std::time::Duration;

use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::client::{Client, ClientError, Mechanism, Stanza};
use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{Ejabberd, PROXY_PASSWORD, Prosody, Server, Sidecar, Squid, Tinyproxy};

use crate::support::{
    Scheme, Site, Way, domain_config, proxy_config, trust_config, xbosh, xbosh_to,
};
use crate::walk;

fn ready(site: Site) -> bool {
    Way::Direct.available(site)
}

async fn login(xbosh: &Sidecar, account: &xbosh_testkit::client::Account) -> Client {
    Client::login(xbosh.addr(), account, Mechanism::Scram)
        .await
        .unwrap()
}

fn body(stanza: &Stanza) -> Option<String> {
    let is_message =
        stanza.name() == "message" && stanza.attribute("type").as_deref() != Some("error");
    is_message.then(|| stanza.child_text("body")).flatten()
}

/// S-47: SIGTERM with fifty busy streams: each is told, each session is gone from the server, what was acknowledged
/// has arrived, and the program ends in time.
async fn sigterm_with_fifty_busy_streams(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "sigterm").await;
    let mut xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut managed = Managed::login(xbosh.addr(), &account, Mechanism::Plain)
        .await
        .unwrap();
    let mut talkers = Vec::new();
    let mut online = std::collections::HashSet::new();
    for _ in 0..49 {
        let mut client = Client::login(xbosh.addr(), &account, Mechanism::Plain)
            .await
            .unwrap();
        client.available(Some(peer.jid())).await.unwrap();
        online.insert(client.jid().to_owned());
        let to = client.jid().to_owned();
        client.message(&to, "go").await.unwrap();
        client.wait_for(|s| body(s).is_some()).await.unwrap();
        client.message(&to, "on").await.unwrap();
        talkers.push(tokio::spawn(async move {
            // Each message of its own brings the next: busy both ways until told to stop.
            loop {
                match client.next_stanza().await {
                    Ok(stanza) if body(&stanza).is_some() => {
                        // It may be closed already.
                        let _ = client.message(&to, "on").await;
                    }
                    Ok(_) => {}
                    Err(ClientError::Stream(error)) => return error.condition,
                    Err(other) => panic!("not told: {other}"),
                }
            }
        }));
    }
    for n in 0..100 {
        managed.message(peer.jid(), &n.to_string()).await;
    }
    xbosh.terminate().unwrap();
    let told = loop {
        match managed.next_stanza().await {
            Ok(_) => {}
            Err(ClientError::Stream(error)) => break error.condition,
            Err(other) => panic!("not told: {other}"),
        }
    };
    assert_eq!(told, "system-shutdown");
    for talker in talkers {
        assert_eq!(talker.await.unwrap(), "system-shutdown");
    }
    let status = xbosh.wait(Duration::from_secs(5)).unwrap();
    assert!(status.success(), "{status}\n{}", xbosh.log());
    let acked = 100 - managed.unacked().len();
    let mut arrived = Vec::new();
    while !online.is_empty() || arrived.len() < acked {
        let stanza = peer.next_stanza().await.unwrap();
        arrived.extend(body(&stanza));
        if stanza.is("presence", "unavailable") {
            online.remove(&stanza.attribute("from").unwrap());
        }
    }
    let expected: Vec<String> = (0..arrived.len()).map(|n| n.to_string()).collect();
    assert_eq!(arrived, expected, "in order, each once");
}

/// xbosh is killed and started again: the same account logs in and talks at once.
async fn killed_and_started_again(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "sigkill").await;
    let first = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = login(&first, &account).await;
    client.ping().await.unwrap();
    // SIGKILL.
    drop(first);
    assert!(client.ping().await.is_err());
    let second = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = login(&second, &account).await;
    client.message(peer.jid(), "again").await.unwrap();
    peer.wait_for(|s| body(s).as_deref() == Some("again"))
        .await
        .unwrap();
    client.logout().await.unwrap();
}

/// A server that can be killed and started again.
trait Mortal: Server + Sized {
    fn start() -> Result<Self, String>;
    fn restart(&mut self) -> Result<(), String>;
}

impl Mortal for Prosody {
    fn start() -> Result<Self, String> {
        Self::start()
    }
    fn restart(&mut self) -> Result<(), String> {
        Self::restart(self)
    }
}

impl Mortal for Ejabberd {
    fn start() -> Result<Self, String> {
        Self::start()
    }
    fn restart(&mut self) -> Result<(), String> {
        Self::restart(self)
    }
}

/// The server is started again under a live stream. It knows the session no more: the client is told, a message that
/// it sent meanwhile comes back, and the next login works.
async fn server_started_again<S: Mortal>(program: Program) {
    if !available::all(&[program]) {
        return;
    }
    let mut server = S::start().unwrap();
    let account = server.add_account("survivor").unwrap();
    let url = server.bosh_url(false, "127.0.0.1");
    let config = [
        Way::Direct.config(),
        trust_config(&server),
        domain_config(server.domain(), &url),
    ];
    let xbosh = xbosh(&config.concat());
    let mut client = login(&xbosh, &account).await;
    client.ping().await.unwrap();
    server.restart().unwrap();
    let to = format!("survivor@{}", server.domain());
    client
        .send(&format!(
            "<message id='m1' type='chat' to='{to}'><body>hello</body></message>"
        ))
        .await
        .unwrap();
    let mut returned = Vec::new();
    let error = loop {
        match client.next_stanza().await {
            Ok(stanza) => returned.extend(stanza.attribute("id")),
            Err(ClientError::Stream(error)) => break error,
            Err(other) => panic!("not told: {other}\n{}", xbosh.log()),
        }
    };
    assert_eq!(returned, ["m1"], "{}", xbosh.log());
    assert!(
        [
            "item-not-found",
            "remote-connection-failed",
            "connection-timeout",
            "internal-server-error",
            "reset"
        ]
        .contains(&error.condition.as_str()),
        "{error:?}"
    );
    // A server that is killed may forget whom it registered last.
    let _ = server.add_account("survivor");
    let mut client = login(&xbosh, &account).await;
    client.ping().await.unwrap();
    client.logout().await.unwrap();
}

/// The proxy is started again under a live stream: the client notices nothing, nothing is lost, doubled or reordered.
async fn proxy_started_again(
    site: Site,
    scheme: Scheme,
    url: &str,
    restart: impl FnOnce() -> Result<(), String> + Send + 'static,
) {
    const MESSAGES: usize = 200;
    let server = site.server();
    let names = format!("behind-{}", url.rsplit(':').next().unwrap());
    let (account, mut peer) = walk::pair(server, &names).await;
    let cm = server.bosh_url(scheme == Scheme::Https, "localhost");
    let config = [
        proxy_config(url, PROXY_PASSWORD),
        trust_config(server),
        domain_config(server.domain(), &cm),
    ];
    let xbosh = xbosh(&config.concat());
    let mut client = login(&xbosh, &account).await;
    let (jid, peer_jid) = (client.jid().to_owned(), peer.jid().to_owned());
    let mut restart = Some(restart);
    let mut restarting = None;
    let (mut at_peer, mut at_client) = (Vec::new(), Vec::new());
    let mut sent = 0;
    while at_peer.len() < MESSAGES || at_client.len() < MESSAGES {
        if sent < MESSAGES {
            client.message(&peer_jid, &sent.to_string()).await.unwrap();
            peer.message(&jid, &sent.to_string()).await.unwrap();
            sent += 1;
        }
        if sent == MESSAGES / 4
            && let Some(restart) = restart.take()
        {
            restarting = Some(tokio::task::spawn_blocking(restart));
        }
        let soon = Duration::from_millis(if sent < MESSAGES { 10 } else { 500 });
        let (from_server, from_xbosh) = tokio::join!(
            tokio::time::timeout(soon, peer.next_stanza()),
            tokio::time::timeout(soon, client.next_stanza()),
        );
        at_peer.extend(from_server.ok().and_then(|s| body(&s.unwrap())));
        at_client.extend(from_xbosh.ok().and_then(|s| body(&s.unwrap())));
    }
    restarting.unwrap().await.unwrap().unwrap();
    let all: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(at_peer, all, "{}", xbosh.log());
    assert_eq!(at_client, all, "{}", xbosh.log());
    client.ping().await.unwrap();
    client.logout().await.unwrap();
}

async fn squid_started_again(site: Site, scheme: Scheme) {
    if !Way::Squid.available(site) {
        return;
    }
    let mut squid = Squid::start().unwrap();
    let url = format!("http://{}", squid.addr());
    proxy_started_again(site, scheme, &url, move || {
        squid.restart()?;
        // It has to be there until the test is over.
        Box::leak(Box::new(squid));
        Ok(())
    })
    .await;
}

async fn tinyproxy_started_again(site: Site) {
    if !Way::Tinyproxy.available(site) {
        return;
    }
    let mut tinyproxy = Tinyproxy::start().unwrap();
    let url = format!("http://{}", tinyproxy.addr());
    proxy_started_again(site, Scheme::Http, &url, move || {
        tinyproxy.restart()?;
        Box::leak(Box::new(tinyproxy));
        Ok(())
    })
    .await;
}

/// S-50, T-28: the client's connection breaks with messages under way both ways, without resumption: what it sent
/// arrives, it is offline at once, and what came for it is not lost without a word: the sender is told, or the server
/// keeps it.
async fn vanishes_while_busy(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "vanisher").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = login(&xbosh, &account).await;
    client.available(Some(peer.jid())).await.unwrap();
    let jid = client.jid().to_owned();
    peer.wait_for(|s| walk::is_presence(s, &jid, ""))
        .await
        .unwrap();
    for n in 0..50 {
        client.message(peer.jid(), &n.to_string()).await.unwrap();
    }
    client.vanish();
    let mut arrived = Vec::new();
    loop {
        let stanza = peer.next_stanza().await.unwrap();
        arrived.extend(body(&stanza));
        if walk::is_presence(&stanza, &jid, "unavailable") {
            break;
        }
    }
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(arrived, expected);
    // Nobody is there: what is sent now is the server's to keep or to return, and it does one of the two.
    peer.message(&account.jid(), "while you were away")
        .await
        .unwrap();
    let returned = match site {
        Site::Prosody => None,
        Site::Ejabberd => Some(peer.wait_for(|s| s.is("message", "error")).await.unwrap()),
    };
    peer.ping().await.unwrap();
    let mut client = login(&xbosh, &account).await;
    client.available(None).await.unwrap();
    match site {
        Site::Prosody => {
            client
                .wait_for(|s| body(s).as_deref() == Some("while you were away"))
                .await
                .unwrap();
        }
        // It has no offline storage here (mod_offline): the sender is told.
        Site::Ejabberd => {
            let returned = returned.expect("nothing kept and nothing returned");
            assert_eq!(
                returned.child_text("body").as_deref(),
                Some("while you were away")
            );
        }
    }
    client.ping().await.unwrap();
    client.logout().await.unwrap();
}

/// S-49: the same with resumption: nothing is lost either way.
async fn vanishes_and_resumes(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "resumer").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = Managed::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    let (jid, peer_jid) = (client.jid().to_owned(), peer.jid().to_owned());
    for n in 0..50 {
        client.message(&peer_jid, &n.to_string()).await;
        peer.message(&jid, &n.to_string()).await.unwrap();
    }
    assert_eq!(client.reconnect().await.unwrap(), Resumed::Yes);
    let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let (mut at_peer, mut at_client) = (Vec::new(), Vec::new());
    while at_peer.len() < 50 {
        at_peer.extend(body(&peer.next_stanza().await.unwrap()));
    }
    while at_client.len() < 50 {
        at_client.extend(body(&client.next_stanza().await.unwrap()));
    }
    assert_eq!(at_peer, expected);
    assert_eq!(at_client, expected);
    client.settle().await.unwrap();
    client.logout().await.unwrap();
}

/// B-61: messages right before `</stream:stream>` arrive, and what comes down meanwhile is delivered first.
async fn closes_while_busy(site: Site) {
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "closer").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = login(&xbosh, &account).await;
    let jid = client.jid().to_owned();
    for n in 0..100 {
        client.message(peer.jid(), &n.to_string()).await.unwrap();
        client.message(&jid, &n.to_string()).await.unwrap();
    }
    let last = client.logout().await.unwrap();
    let to_itself: Vec<String> = last.iter().filter_map(body).collect();
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    // Those that the server has sent before it took the end are all, or a first part of them.
    assert_eq!(to_itself, expected[..to_itself.len()]);
    let mut arrived = Vec::new();
    while arrived.len() < 100 {
        arrived.extend(body(&peer.next_stanza().await.unwrap()));
    }
    assert_eq!(arrived, expected);
}

/// Peak resident memory of a process, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// S-25: the client does not read while 20 MB come for it, then reads all; xbosh holds a bounded part of it.
async fn client_that_stops_reading(site: Site) {
    const MESSAGES: usize = 1000;
    if !ready(site) {
        return;
    }
    let (account, mut peer) = walk::pair(site.server(), "sleeper").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let mut client = login(&xbosh, &account).await;
    let jid = client.jid().to_owned();
    let padding = "x".repeat(20_000);
    for n in 0..MESSAGES {
        peer.message(&jid, &format!("{n} {padding}")).await.unwrap();
    }
    for n in 0..MESSAGES {
        let stanza = client.wait_for(|s| body(s).is_some()).await.unwrap();
        let number = body(&stanza).unwrap();
        assert!(
            number.starts_with(&format!("{n} ")),
            "{n}: {}",
            &number[..20]
        );
    }
    let peak = peak_kib(xbosh.pid());
    // One reply may have 16 MiB (limits.max_response_bytes), and is there four times at worst while it is taken apart.
    assert!(peak < 96 * 1024, "{peak} KiB");
    client.logout().await.unwrap();
}

/// S-25: the client sends as fast as it can; order and content are kept, memory is bounded.
async fn client_at_full_speed(site: Site, messages: usize) {
    if !ready(site) {
        return;
    }
    let (account, peer) = walk::pair(site.server(), "rusher").await;
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let client = login(&xbosh, &account).await;
    let to = peer.jid().to_owned();
    let (mut from_server, _to_server) = peer.split();
    let (_from_xbosh, mut to_xbosh) = client.split();
    let sending = tokio::spawn(async move {
        for n in 0..messages {
            // Not of the kind that a server archives: Prosody's archive gets slow beyond 10,000.
            let message = format!("<message type='headline' to='{to}'><body>{n}</body></message>");
            to_xbosh.send(&message).await.unwrap();
        }
        to_xbosh
    });
    let mut expected = 0;
    while expected < messages {
        let stanza = from_server.next_stanza().await;
        let stanza = stanza.unwrap_or_else(|error| panic!("{expected}: {error}\n{}", xbosh.log()));
        if let Some(text) = body(&stanza) {
            assert_eq!(text, expected.to_string());
            expected += 1;
        }
    }
    drop(sending.await.unwrap());
    let peak = peak_kib(xbosh.pid());
    assert!(peak < 64 * 1024, "{peak} KiB");
}

/// A manager that stops answering for a while: the client goes on sending until it is slowed down, and everything
/// arrives once the manager is back.
async fn manager_that_stops_for_a_while(site: Site) {
    const MESSAGES: usize = 5000;
    if !ready(site) {
        return;
    }
    // One of its own: everybody would have to wait.
    let (prosody, ejabberd) = match site {
        Site::Prosody => (Some(Prosody::start().unwrap()), None),
        Site::Ejabberd => (None, Some(Ejabberd::start().unwrap())),
    };
    let server: &dyn Server = match (&prosody, &ejabberd) {
        (Some(prosody), _) => prosody,
        (None, Some(ejabberd)) => ejabberd,
        (None, None) => unreachable!(),
    };
    let (account, peer) = walk::pair(server, "waiter").await;
    let url = server.bosh_url(false, "127.0.0.1");
    let config = [Way::Direct.config(), domain_config(server.domain(), &url)];
    let xbosh = xbosh(&config.concat());
    let client = login(&xbosh, &account).await;
    let to = peer.jid().to_owned();
    let (mut from_server, _to_server) = peer.split();
    let (_from_xbosh, mut to_xbosh) = client.split();
    let time = Duration::from_secs(4);
    match (&prosody, &ejabberd) {
        (Some(prosody), _) => prosody.stop_for(time).unwrap(),
        (None, Some(ejabberd)) => ejabberd.stop_for(time).unwrap(),
        (None, None) => unreachable!(),
    }
    let sending = tokio::spawn(async move {
        let padding = "x".repeat(2000);
        for n in 0..MESSAGES {
            to_xbosh
                .message(&to, &format!("{n} {padding}"))
                .await
                .unwrap();
        }
        to_xbosh
    });
    for n in 0..MESSAGES {
        let text = loop {
            if let Some(text) = body(&from_server.next_stanza().await.unwrap()) {
                break text;
            }
        };
        assert!(text.starts_with(&format!("{n} ")), "{n}: {}", &text[..20]);
    }
    drop(sending.await.unwrap());
    let peak = peak_kib(xbosh.pid());
    assert!(peak < 64 * 1024, "{peak} KiB");
}

macro_rules! both {
    ($($(#[$attribute:meta])* $name:ident: $test:expr;)*) => {$(
        mod $name {
            use super::*;

            $(#[$attribute])*
            #[tokio::test]
            async fn prosody() {
                ($test)(Site::Prosody).await;
            }

            $(#[$attribute])*
            #[tokio::test]
            async fn ejabberd() {
                ($test)(Site::Ejabberd).await;
            }
        }
    )*};
}

both! {
    s47_sigterm: sigterm_with_fifty_busy_streams;
    sigkill: killed_and_started_again;
    s50_vanishes: vanishes_while_busy;
    s49_vanishes_and_resumes: vanishes_and_resumes;
    b61_closes: closes_while_busy;
    s25_manager_stops: manager_that_stops_for_a_while;
    s25_stops_reading: client_that_stops_reading;
    s25_full_speed: |site| client_at_full_speed(site, 20_000);
    #[ignore = "about a minute at full speed"]
    s25_full_speed_for_long: |site| client_at_full_speed(site, 1_000_000);
    squid_http: |site| squid_started_again(site, Scheme::Http);
    squid_https: |site| squid_started_again(site, Scheme::Https);
    tinyproxy: tinyproxy_started_again;
}

#[tokio::test]
async fn prosody_started_again() {
    server_started_again::<Prosody>(Program::Prosody).await;
}

#[tokio::test]
async fn ejabberd_started_again() {
    server_started_again::<Ejabberd>(Program::Ejabberd).await;
}
