//! Networks that hit one request in ten: every message still arrives once and in order, both ways, and the client's
//! stream stays open.
//!
//! `XBOSH_TEST_SEED` draws other requests. `examples/reliability.rs` runs the same with more messages and rates.

use std::path::Path;
use std::time::Duration;

use xbosh_testkit::proxy::FaultKind;
use xbosh_testkit::real::available;
use xbosh_testkit::reliability::{Trial, Trouble};

use crate::support::Site;

const SEED: u64 = 20_240_229;
const RATE: f64 = 0.1;
/// Each way.
const MESSAGES: usize = 100;
const PACE: Duration = Duration::from_millis(20);

async fn trial(site: Site, trouble: Trouble, most: Option<u64>) {
    if !available::all(&[site.program()]) {
        return;
    }
    let seed = std::env::var("XBOSH_TEST_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let trial = Trial {
        trouble,
        messages: MESSAGES,
        pace: PACE,
        seed,
        most,
    };
    let xbosh = Path::new(env!("CARGO_BIN_EXE_xbosh"));
    let outcome = trial.run(xbosh, site.server()).await.unwrap();
    if !outcome.is_sound() {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{trouble}-{site:?}.log"));
        std::fs::write(&log, &outcome.log).unwrap();
        panic!("{trial:?}: {outcome}\nlog: {}", log.display());
    }
    assert!(outcome.counts.faults > 0, "nothing was hit: {outcome}");
}

async fn fault(site: Site, kind: FaultKind) {
    trial(site, Trouble::Fault(kind, RATE), None).await;
}

macro_rules! faults {
    ($($name:ident: $kind:expr;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn prosody() {
                fault(Site::Prosody, $kind).await;
            }

            #[tokio::test]
            async fn ejabberd() {
                fault(Site::Ejabberd, $kind).await;
            }
        }
    )*};
}

faults! {
    reset_before: FaultKind::ResetBefore;
    reset_during: FaultKind::ResetDuring;
    reset_after: FaultKind::ResetAfter;
    cut_answer: FaultKind::CutAnswer;
    status_407: FaultKind::Status(407);
    status_502: FaultKind::Status(502);
    status_503: FaultKind::Status(503);
    status_504: FaultKind::Status(504);
    status_504_after: FaultKind::StatusAfter(504);
    cut_long_poll: FaultKind::CutLongPoll(Duration::from_millis(300));
    close_idle: FaultKind::CloseIdle;
    http10: FaultKind::Http10;
    buffer: FaultKind::Buffer;
    resend_post: FaultKind::ResendPost;
}

mod blackhole {
    use super::*;

    /// Nobody tells of a swallowed request: it costs 15 s, or `wait` and 15 s if no other follows. One hit is what
    /// the time of a test allows.
    async fn swallowed(site: Site) {
        trial(site, Trouble::Fault(FaultKind::Blackhole, RATE), Some(1)).await;
    }

    #[tokio::test]
    async fn prosody() {
        swallowed(Site::Prosody).await;
    }

    #[tokio::test]
    async fn ejabberd() {
        swallowed(Site::Ejabberd).await;
    }
}

mod outage {
    use super::*;

    const LASTS: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn prosody() {
        trial(Site::Prosody, Trouble::Outage(LASTS), None).await;
    }

    #[tokio::test]
    async fn ejabberd() {
        trial(Site::Ejabberd, Trouble::Outage(LASTS), None).await;
    }
}
