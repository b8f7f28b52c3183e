//! Networks that hit one request in ten: every message still arrives once and in order, both ways, and the client's
//! stream stays open.
//!
//! `XBOSH_TEST_SEED` draws other requests. `examples/reliability.rs` runs the same with more messages and rates.
//! Log-in stays clean, so that what is judged is a session that lives.

use std::path::Path;
use std::time::Duration;

use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::proxy::{FaultKind, FaultPlan, FaultyProxy};
use xbosh_testkit::real::{Prosody, Server as _, available};
use xbosh_testkit::reliability::{Trial, Trouble, Way};

use crate::support::{Site, domain_config, xbosh};
use crate::walk;

const SEED: u64 = 20_240_229;
const RATE: f64 = 0.1;
/// Where https goes through a tunnel: the proxy sees few pieces.
const IN_TUNNELS: f64 = 0.2;
/// Where an answer gets lost: often enough that it happens to the repeat as well.
const OFTEN: f64 = 0.3;
/// Each way.
const MESSAGES: usize = 100;
const PACE: Duration = Duration::from_millis(20);

async fn trial(site: Site, trouble: Trouble, most: Option<u64>) {
    trial_by(Way::Http, site, trouble, most).await;
}

async fn trial_by(way: Way, site: Site, trouble: Trouble, most: Option<u64>) {
    if !available::all(&[site.program()]) {
        return;
    }
    let seed = std::env::var("XBOSH_TEST_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let trial = Trial {
        trouble,
        way,
        messages: MESSAGES,
        pace: PACE,
        seed,
        most,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let outcome = trial.run(program, site.server()).await.unwrap();
    if !outcome.is_sound() {
        let log =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{trouble}-{way}-{site:?}.log"));
        std::fs::write(&log, &outcome.log).unwrap();
        panic!("{trial:?}: {outcome}\nlog: {}", log.display());
    }
    assert!(outcome.counts.faults > 0, "nothing was hit: {outcome}");
}

macro_rules! faults {
    ($($(#[$attribute:meta])* $name:ident: $site:ident $kind:expr, $rate:expr;)*) => {$(
        $(#[$attribute])*
        #[tokio::test]
        async fn $name() {
            trial(Site::$site, Trouble::Fault($kind, $rate), None).await;
        }
    )*};
}

faults! {
    prosody_reset_before: Prosody FaultKind::ResetBefore, RATE;
    prosody_reset_during: Prosody FaultKind::ResetDuring, RATE;
    prosody_reset_after: Prosody FaultKind::ResetAfter, RATE;
    prosody_cut_answer: Prosody FaultKind::CutAnswer, RATE;
    prosody_status_407: Prosody FaultKind::Status(407), RATE;
    prosody_status_502: Prosody FaultKind::Status(502), RATE;
    prosody_status_503: Prosody FaultKind::Status(503), RATE;
    prosody_status_504: Prosody FaultKind::Status(504), RATE;
    prosody_status_504_after: Prosody FaultKind::StatusAfter(504), RATE;
    prosody_cut_long_poll: Prosody FaultKind::CutLongPoll(Duration::from_millis(300)), RATE;
    prosody_close_idle: Prosody FaultKind::CloseIdle, RATE;
    prosody_http10: Prosody FaultKind::Http10, RATE;
    prosody_buffer: Prosody FaultKind::Buffer, RATE;
    prosody_reset_after_often: Prosody FaultKind::ResetAfter, OFTEN;
    prosody_cut_answer_often: Prosody FaultKind::CutAnswer, OFTEN;
    prosody_status_504_after_often: Prosody FaultKind::StatusAfter(504), OFTEN;
    prosody_resend_post: Prosody FaultKind::ResendPost, RATE;
    prosody_resend_post_often: Prosody FaultKind::ResendPost, OFTEN;
    ejabberd_reset_before: Ejabberd FaultKind::ResetBefore, RATE;
    ejabberd_reset_during: Ejabberd FaultKind::ResetDuring, RATE;
    ejabberd_reset_after: Ejabberd FaultKind::ResetAfter, RATE;
    ejabberd_cut_answer: Ejabberd FaultKind::CutAnswer, RATE;
    ejabberd_status_407: Ejabberd FaultKind::Status(407), RATE;
    ejabberd_status_502: Ejabberd FaultKind::Status(502), RATE;
    ejabberd_status_503: Ejabberd FaultKind::Status(503), RATE;
    ejabberd_status_504: Ejabberd FaultKind::Status(504), RATE;
    ejabberd_status_504_after: Ejabberd FaultKind::StatusAfter(504), RATE;
    ejabberd_cut_long_poll: Ejabberd FaultKind::CutLongPoll(Duration::from_millis(300)), RATE;
    ejabberd_close_idle: Ejabberd FaultKind::CloseIdle, RATE;
    ejabberd_http10: Ejabberd FaultKind::Http10, RATE;
    ejabberd_buffer: Ejabberd FaultKind::Buffer, RATE;
    ejabberd_reset_after_often: Ejabberd FaultKind::ResetAfter, OFTEN;
    ejabberd_cut_answer_often: Ejabberd FaultKind::CutAnswer, OFTEN;
    ejabberd_status_504_after_often: Ejabberd FaultKind::StatusAfter(504), OFTEN;
    ejabberd_resend_post: Ejabberd FaultKind::ResendPost, RATE;
    ejabberd_resend_post_often: Ejabberd FaultKind::ResendPost, OFTEN;
}

/// Nobody tells of a swallowed request: it costs 15 s, or `wait` and 15 s if no other follows. One hit is what the
/// time of a test allows.
async fn swallowed(site: Site) {
    trial(site, Trouble::Fault(FaultKind::Blackhole, RATE), Some(1)).await;
}

#[tokio::test]
async fn prosody_blackhole() {
    swallowed(Site::Prosody).await;
}

#[tokio::test]
async fn ejabberd_blackhole() {
    swallowed(Site::Ejabberd).await;
}

macro_rules! in_tunnels {
    ($($name:ident: $site:ident $kind:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            trial_by(Way::Connect, Site::$site, Trouble::Fault($kind, IN_TUNNELS), None).await;
        }
    )*};
}

in_tunnels! {
    prosody_tunnel_reset_before: Prosody FaultKind::ResetBefore;
    prosody_tunnel_reset_during: Prosody FaultKind::ResetDuring;
    prosody_tunnel_reset_after: Prosody FaultKind::ResetAfter;
    prosody_tunnel_cut_answer: Prosody FaultKind::CutAnswer;
    prosody_tunnel_close_idle: Prosody FaultKind::CloseIdle;
    ejabberd_tunnel_reset_before: Ejabberd FaultKind::ResetBefore;
    ejabberd_tunnel_reset_during: Ejabberd FaultKind::ResetDuring;
    ejabberd_tunnel_reset_after: Ejabberd FaultKind::ResetAfter;
    ejabberd_tunnel_cut_answer: Ejabberd FaultKind::CutAnswer;
    ejabberd_tunnel_close_idle: Ejabberd FaultKind::CloseIdle;
}

/// Shorter than `inactivity`: the client notices nothing but the delay.
const AWAY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn prosody_outage() {
    trial(Site::Prosody, Trouble::Outage(AWAY), None).await;
}

#[tokio::test]
async fn ejabberd_outage() {
    trial(Site::Ejabberd, Trouble::Outage(AWAY), None).await;
}

/// A poll vanishes without a trace while neither side has anything else to say. The manager thinks that nothing is
/// held and ends the session after `inactivity`: xbosh has to ask again before.
#[tokio::test]
async fn an_idle_session_outlives_a_swallowed_poll() {
    const INACTIVITY: u64 = 12;
    if !available::all(&[Site::Prosody.program()]) {
        return;
    }
    let server = Prosody::start_with(&format!("bosh_max_inactivity = {INACTIVITY}")).unwrap();
    let proxy = FaultyProxy::start(FaultPlan {
        kind: FaultKind::Blackhole,
        rate: 1.0,
        seed: SEED,
        most: Some(1),
    })
    .await;
    let config = [
        format!("[proxy]\nurl = \"http://{}\"\n", proxy.addr()),
        domain_config(server.domain(), &server.bosh_url(false, "127.0.0.1")),
    ];
    let xbosh = xbosh(&config.concat());
    let (account, mut peer) = walk::pair(&server, "swallowed").await;
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.available(None).await.unwrap();
    client.ping().await.unwrap();
    proxy.arm();
    // Whichever poll is held now, this answers it, and one that follows is swallowed.
    for body in ["first", "second"] {
        peer.message(client.jid(), body).await.unwrap();
    }
    client.set_deadline(Duration::from_secs(2 * INACTIVITY));
    for body in ["first", "second"] {
        let message = client
            .wait_for(|stanza| stanza.name() == "message")
            .await
            .unwrap_or_else(|error| panic!("{error}; {}{}", proxy.log(), xbosh.log()));
        assert_eq!(message.child_text("body").as_deref(), Some(body));
    }
    assert_eq!(proxy.counts().faults, 1);
}

/// T-10, T-11: a proxy that cuts every long poll at seven seconds. Two cuts teach it; from then on an empty request makes
/// ejabberd answer the held one in time, and nothing is cut any more.
#[tokio::test]
async fn t10_ejabberd_is_nudged_before_the_cut() {
    const CUT: Duration = Duration::from_secs(7);
    let site = Site::Ejabberd;
    if !available::all(&[site.program()]) {
        return;
    }
    let server = site.server();
    let proxy = FaultyProxy::start(FaultPlan {
        kind: FaultKind::CutLongPoll(CUT),
        rate: 1.0,
        seed: SEED,
        most: None,
    })
    .await;
    let config = [
        format!("[proxy]\nurl = \"http://{}\"\n", proxy.addr()),
        domain_config(server.domain(), &server.bosh_url(false, "127.0.0.1")),
    ];
    let xbosh = xbosh(&config.concat());
    let (account, mut peer) = walk::pair(server, "nudged").await;
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.available(None).await.unwrap();
    client.ping().await.unwrap();
    proxy.arm();
    // Long enough for two cuts, and then for three that do not happen.
    client.set_deadline(CUT * 3);
    let quiet = client.wait_for(|stanza| stanza.name() == "message").await;
    assert!(quiet.is_err());
    let learnt = proxy.counts().faults;
    assert!(learnt >= 2, "{learnt} cuts\n{}", proxy.log());
    let quiet = client.wait_for(|stanza| stanza.name() == "message").await;
    assert!(quiet.is_err());
    let later = proxy.counts().faults;
    assert_eq!(later, learnt, "cut again\n{}{}", proxy.log(), xbosh.log());
    peer.message(client.jid(), "still there").await.unwrap();
    client
        .wait_for(|s| s.child_text("body").as_deref() == Some("still there"))
        .await
        .unwrap();
    client.logout().await.unwrap();
}

/// cm-quirks 4.4: faults from the first request on: creation and restart are lost as well. Each login works, at the second
/// try at the latest, and a try that does not is told.
async fn logs_in_in_bad_weather(site: Site, kind: FaultKind) {
    const LOGINS: u32 = 12;
    if !available::all(&[site.program()]) {
        return;
    }
    let server = site.server();
    let proxy = FaultyProxy::start(FaultPlan {
        kind,
        rate: 0.2,
        seed: SEED,
        most: None,
    })
    .await;
    proxy.arm();
    let config = [
        format!("[proxy]\nurl = \"http://{}\"\n", proxy.addr()),
        domain_config(server.domain(), &server.bosh_url(false, "127.0.0.1")),
    ];
    let xbosh = xbosh(&config.concat());
    let (account, mut peer) = walk::pair(server, &format!("weather-{kind}")).await;
    let mut failed = 0;
    for n in 0..LOGINS {
        let mut client = loop {
            let mut client = Client::connect(xbosh.addr(), server.domain())
                .await
                .unwrap();
            client.set_deadline(Duration::from_secs(40));
            let login = async {
                client.open().await?;
                client.authenticate(&account, Mechanism::Scram).await?;
                client.open().await?;
                client.bind(None).await
            };
            match login.await {
                Ok(()) => break client,
                Err(ClientError::Stream(_)) => failed += 1,
                Err(error) => panic!("login {n}: {error}\n{}{}", proxy.log(), xbosh.log()),
            }
        };
        client.message(peer.jid(), &n.to_string()).await.unwrap();
        peer.wait_for(|s| s.child_text("body") == Some(n.to_string()))
            .await
            .unwrap();
        client.ping().await.unwrap();
        client.logout().await.unwrap();
    }
    assert!(
        failed <= 2,
        "{failed} of {LOGINS} logins failed\n{}",
        xbosh.log()
    );
    assert!(
        proxy.counts().faults > u64::from(LOGINS),
        "too little happened"
    );
}

macro_rules! weather {
    ($($name:ident: $site:ident $kind:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            logs_in_in_bad_weather(Site::$site, $kind).await;
        }
    )*};
}

weather! {
    prosody_logins_reset_before: Prosody FaultKind::ResetBefore;
    prosody_logins_reset_after: Prosody FaultKind::ResetAfter;
    prosody_logins_504_after: Prosody FaultKind::StatusAfter(504);
    prosody_logins_resend_post: Prosody FaultKind::ResendPost;
    ejabberd_logins_reset_before: Ejabberd FaultKind::ResetBefore;
    ejabberd_logins_reset_after: Ejabberd FaultKind::ResetAfter;
    ejabberd_logins_504_after: Ejabberd FaultKind::StatusAfter(504);
    ejabberd_logins_resend_post: Ejabberd FaultKind::ResendPost;
}
