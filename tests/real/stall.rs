//! What a proxy's delayed acknowledgements must not cost.

use std::time::{Duration, Instant};

use xbosh_testkit::client::{Client, Mechanism};
use xbosh_testkit::real::{PROXY_PASSWORD, Squid};

use crate::support::{Scheme, Site, Way};

/// Logins that are tried: a busy machine may be slow for once.
const TRIES: usize = 20;
/// Less than what the kernel delays an acknowledgement by.
const LIMIT: Duration = Duration::from_millis(38);

/// Prosody keeps its first reply over TLS 1.3 until its session tickets are acknowledged (cm-quirks section 15), which
/// Squid's kernel delays by 40 ms: each login by CONNECT took longer than that.
#[tokio::test]
async fn a_login_by_connect_does_not_wait_for_acknowledgements() {
    if !Way::Squid.available(Site::Prosody) {
        return;
    }
    let squid = Squid::start().unwrap();
    let xbosh = crate::proxy_auth::behind(&squid, PROXY_PASSWORD, Site::Prosody, Scheme::Https);
    let account = Site::Prosody.server().add_account("stall").unwrap();
    let mut took = Vec::new();
    for _ in 0..TRIES {
        let began = Instant::now();
        let client = Client::login(xbosh.addr(), &account, Mechanism::Plain).await;
        let client = client.unwrap();
        took.push(began.elapsed());
        client.logout().await.unwrap();
        if took.last() < Some(&LIMIT) {
            return;
        }
    }
    panic!("{took:?}");
}
