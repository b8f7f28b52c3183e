//! The matrix: each server, each scheme, each way out.

use std::time::{Duration, Instant};

use xbosh_testkit::client::{Client, ClientError, Mechanism};
use xbosh_testkit::real::{PROXY_PASSWORD, Server};

use crate::support::{Scheme, Site, Way, squid, xbosh_to};
use crate::walk;

/// The longest that xbosh may take from SIGTERM to its end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

async fn cell(site: Site, scheme: Scheme, way: Way, name: &str) {
    if !way.available(site) {
        return;
    }
    let server = site.server();
    let line = squid_line(server, scheme);
    let before = (way == Way::Squid).then(|| squid().logged(&line));
    let mut xbosh = xbosh_to(site, scheme, way);
    for mechanism in [Mechanism::Scram, Mechanism::Plain] {
        let user = format!("{name}-{}", mechanism.name().to_lowercase());
        walk::session(xbosh.addr(), server, mechanism, &user).await;
    }

    let account = server.add_account(&format!("{name}-stop")).unwrap();
    let mut client = Client::login(xbosh.addr(), &account, Mechanism::Scram)
        .await
        .unwrap();
    client.available(None).await.unwrap();
    client.ping().await.unwrap();
    #[allow(clippy::disallowed_methods, reason = "the limit is one of real time")]
    let begun = Instant::now();
    xbosh.terminate().unwrap();
    let error = loop {
        match client.next_stanza().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let ClientError::Stream(error) = error else {
        panic!("no stream error on SIGTERM: {error}");
    };
    assert_eq!(error.condition, "system-shutdown");
    let end = client.next_stanza().await.unwrap_err();
    assert!(matches!(end, ClientError::Ended), "{end}");
    client.vanish();
    let left = STOP_WITHIN.saturating_sub(begun.elapsed());
    assert_eq!(xbosh.wait(left).unwrap().code(), Some(0));

    if let Some(before) = before {
        squid().wait_logged(&line, before + 1).unwrap();
    }
    let log = xbosh.log();
    assert!(
        !log.contains(PROXY_PASSWORD),
        "the proxy's password is logged"
    );
    assert!(!log.contains(&account.password), "a password is logged");
}

/// How squid's log must begin to tell of this traffic: absolute-form requests, or tunnels.
fn squid_line(server: &dyn Server, scheme: Scheme) -> String {
    let url = server.bosh_url(scheme == Scheme::Https, "localhost");
    match scheme {
        Scheme::Http => format!("POST {url} "),
        Scheme::Https => {
            let authority = url.trim_start_matches("https://").split('/').next();
            format!("CONNECT {} ", authority.unwrap())
        }
    }
}

macro_rules! matrix {
    ($($name:ident: $site:ident $scheme:ident $way:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            cell(Site::$site, Scheme::$scheme, Way::$way, &stringify!($name).replace('_', "-")).await;
        }
    )*};
}

matrix! {
    prosody_http_direct: Prosody Http Direct;
    prosody_http_squid: Prosody Http Squid;
    prosody_http_tinyproxy: Prosody Http Tinyproxy;
    prosody_http_microsocks: Prosody Http Microsocks;
    prosody_http_dante: Prosody Http Dante;
    prosody_https_direct: Prosody Https Direct;
    prosody_https_squid: Prosody Https Squid;
    prosody_https_tinyproxy: Prosody Https Tinyproxy;
    prosody_https_microsocks: Prosody Https Microsocks;
    prosody_https_dante: Prosody Https Dante;
    ejabberd_http_direct: Ejabberd Http Direct;
    ejabberd_http_squid: Ejabberd Http Squid;
    ejabberd_http_tinyproxy: Ejabberd Http Tinyproxy;
    ejabberd_http_microsocks: Ejabberd Http Microsocks;
    ejabberd_http_dante: Ejabberd Http Dante;
    ejabberd_https_direct: Ejabberd Https Direct;
    ejabberd_https_squid: Ejabberd Https Squid;
    ejabberd_https_tinyproxy: Ejabberd Https Tinyproxy;
    ejabberd_https_microsocks: Ejabberd Https Microsocks;
    ejabberd_https_dante: Ejabberd Https Dante;
}
