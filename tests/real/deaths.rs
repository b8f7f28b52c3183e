//! Sessions that die under load: the network stays away for longer than the server waits. The client is told at once
//! when it is back, and of everything it sent it knows whether that has arrived or may not have.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::client::{Account, Client, ClientError, Mechanism, Stanza};
use xbosh_testkit::proxy::{FaultKind, FaultPlan, FaultyProxy};
use xbosh_testkit::real::{Ejabberd, Prosody, Server, Sidecar, available};

use crate::support::{Site, domain_config, xbosh};
use crate::walk;

/// Seconds of silence after which the servers end a session.
const INACTIVITY: u64 = 5;
/// `wait` asked for, in seconds. ejabberd does not notice that a connection is gone, so there the silence only begins
/// when this is over.
const WAIT: u64 = 5;
/// How long the network is away: no session lives that long.
const AWAY: Duration = Duration::from_secs(WAIT + INACTIVITY + 4);
/// The client is told so soon after the network is back.
const AT_ONCE: Duration = Duration::from_secs(3);
/// Messages up to the moment when the network goes away; the exact number is drawn.
const BEFORE: u64 = 300;
/// Messages while it is away.
const MEANWHILE: usize = 50;
/// Sessions that die at the same time, each at a moment of its own.
const DEATHS: u64 = 3;

fn start(site: Site) -> Box<dyn Server> {
    match site {
        Site::Prosody => {
            let settings = format!("bosh_max_inactivity = {INACTIVITY}");
            Box::new(Prosody::start_with(&settings).unwrap())
        }
        Site::Ejabberd => Box::new(Ejabberd::start_impatient(INACTIVITY).unwrap()),
    }
}

/// One client's way to the server, and the peer that it writes to.
struct Chain {
    proxy: FaultyProxy,
    xbosh: Sidecar,
    account: Account,
    peer: Client,
    /// Messages before the network goes away.
    before: usize,
}

impl Chain {
    async fn start(server: &dyn Server, names: &str, seed: u64) -> Self {
        let proxy = FaultyProxy::start(FaultPlan {
            kind: FaultKind::Buffer,
            rate: 0.0,
            seed,
            most: None,
        })
        .await;
        let config = [
            format!("[proxy]\nurl = \"http://{}\"\n", proxy.addr()),
            format!("[bosh]\nwait = {WAIT}\n"),
            domain_config(server.domain(), &server.bosh_url(false, "127.0.0.1")),
        ];
        let xbosh = xbosh(&config.concat());
        let (account, peer) = walk::pair(server, &format!("{names}-{seed}")).await;
        // splitmix64's last steps: seeds that are neighbours give numbers that are not.
        let mut lot = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        lot = (lot ^ (lot >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let before = usize::try_from(50 + (lot >> 32) % (BEFORE - 50)).unwrap();
        Self {
            proxy,
            xbosh,
            account,
            peer,
            before,
        }
    }

    /// Numbers that have arrived, until none has come for a while.
    async fn arrived(&mut self) -> Vec<usize> {
        let mut numbers = Vec::new();
        self.peer.set_deadline(Duration::from_secs(1));
        loop {
            match self.peer.next_stanza().await {
                Ok(stanza) => numbers.extend(number(&stanza)),
                Err(ClientError::Timeout(..)) => return numbers,
                Err(error) => panic!("the peer's stream: {error}"),
            }
        }
    }
}

/// The number that a message holds, an error's as well.
fn number(stanza: &Stanza) -> Option<usize> {
    (stanza.name() == "message")
        .then(|| stanza.child_text("body"))
        .flatten()?
        .parse()
        .ok()
}

fn seeds() -> std::ops::Range<u64> {
    let seed = std::env::var("XBOSH_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    seed..seed + DEATHS
}

/// Nothing in order twice, and nothing out of it.
fn assert_in_order(numbers: &[usize], chain: &Chain) {
    assert!(
        numbers.is_sorted_by(|a, b| a < b),
        "{numbers:?}\n{}",
        chain.xbosh.log()
    );
}

fn assert_told_at_once(back: Instant, chain: &Chain) {
    let after = Instant::now().saturating_duration_since(back);
    assert!(
        after < AT_ONCE,
        "told {after:?} after the network was back\n{}",
        chain.xbosh.log()
    );
}

/// A client without stream management: each message has arrived or comes back, before the stream error.
async fn plain(server: &dyn Server, seed: u64) {
    let mut chain = Chain::start(server, "plain", seed).await;
    let mut client = Client::login(chain.xbosh.addr(), &chain.account, Mechanism::Scram)
        .await
        .unwrap();
    let to = chain.peer.jid().to_owned();
    let all = chain.before + MEANWHILE;
    let mut back = Instant::now();
    for n in 0..all {
        if n == chain.before {
            chain.proxy.outage(AWAY);
            back = Instant::now() + AWAY;
        }
        let text = format!("<message to='{to}' type='chat' id='{n}'><body>{n}</body></message>");
        client.send(&text).await.unwrap();
        tokio::task::yield_now().await;
    }
    client.set_deadline(AWAY + Duration::from_secs(30));
    let mut returned = HashSet::new();
    let error = loop {
        match client.next_stanza().await {
            Ok(stanza) if stanza.attribute("type").as_deref() == Some("error") => {
                let id = stanza.attribute("id").unwrap();
                assert!(returned.insert(id.parse::<usize>().unwrap()), "{id} twice");
            }
            Ok(_) => {}
            Err(ClientError::Stream(error)) => break error,
            Err(other) => panic!("not told: {other}\n{}", chain.xbosh.log()),
        }
    };
    assert_told_at_once(back, &chain);
    assert!(
        [
            "item-not-found",
            "remote-connection-failed",
            "connection-timeout",
            "reset"
        ]
        .contains(&error.condition.as_str()),
        "{error:?}"
    );
    let arrived = chain.arrived().await;
    assert_in_order(&arrived, &chain);
    let missing: Vec<usize> = (0..all)
        .filter(|n| !arrived.contains(n) && !returned.contains(n))
        .collect();
    assert!(
        missing.is_empty(),
        "{missing:?} lost\n{}",
        chain.xbosh.log()
    );
    // Those that went out while nobody was there cannot have arrived.
    assert!((chain.before + 1..all).all(|n| returned.contains(&n)));
}

/// A client with stream management: what was acknowledged has arrived, and `h` says what is to be sent again.
async fn managed(server: &dyn Server, seed: u64) {
    let mut chain = Chain::start(server, "managed", seed).await;
    let mut client = Managed::login(chain.xbosh.addr(), &chain.account, Mechanism::Scram)
        .await
        .unwrap();
    let to = chain.peer.jid().to_owned();
    let all = chain.before + MEANWHILE;
    let mut back = Instant::now();
    for n in 0..all {
        if n == chain.before {
            chain.proxy.outage(AWAY);
            back = Instant::now() + AWAY;
        }
        client.message(&to, &n.to_string()).await;
        if n % 20 == 0 {
            client
                .client()
                .send("<r xmlns='urn:xmpp:sm:3'/>")
                .await
                .unwrap();
        }
    }
    client.client().set_deadline(AWAY + Duration::from_secs(30));
    loop {
        match client.next_stanza().await {
            Ok(_) => {}
            Err(ClientError::Stream(_)) => break,
            Err(other) => panic!("not told: {other}\n{}", chain.xbosh.log()),
        }
    }
    assert_told_at_once(back, &chain);
    let acked = all - client.unacked().len();
    let first = chain.arrived().await;
    assert_in_order(&first, &chain);
    // The client may have been told before.
    tokio::time::sleep_until(back).await;
    let Resumed::No(h) = client.reconnect().await.unwrap() else {
        panic!(
            "a session that is gone cannot be resumed\n{}",
            chain.xbosh.log()
        );
    };
    let h = h.map_or(acked, |h| usize::try_from(h).unwrap());
    assert!(h >= acked, "{acked} were acknowledged, now {h}");
    let missing: Vec<usize> = (0..h).filter(|n| !first.contains(n)).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} acknowledged and lost, h {h}\n{}",
        chain.xbosh.log()
    );
    assert!(
        h <= chain.before + 1,
        "{h} acknowledged, {} sent",
        chain.before
    );
    client.settle().await.unwrap();
    let again = chain.arrived().await;
    let expected: Vec<usize> = (h..all).collect();
    assert_eq!(again, expected, "what h left open, once and in order");
    client.logout().await.unwrap();
}

/// S-43, S-44, S-49, B-54: see the module.
async fn die_under_load(site: Site) {
    if !available::all(&[site.program()]) {
        return;
    }
    let server = start(site);
    let server = server.as_ref();
    let all = seeds().map(async |seed| tokio::join!(plain(server, seed), managed(server, seed)));
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn prosody_ends_sessions_under_load() {
    die_under_load(Site::Prosody).await;
}

#[tokio::test]
async fn ejabberd_ends_sessions_under_load() {
    die_under_load(Site::Ejabberd).await;
}
