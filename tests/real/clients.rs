//! Real command-line clients, each with the security that it begins with by itself: login, a message each way, logout.
//! `tests/clients --full` runs these and the others for long.

use std::path::Path;

use xbosh_testkit::matrix::{Stage, Trial, drivers};
use xbosh_testkit::real::available;

use crate::support::{Scheme, Site, Way, xbosh_to};

/// The drivers that `./test` runs.
const NAMES: [&str; 6] = [
    "profanity",
    "mcabber",
    "finch",
    "poezio",
    "sendxmpp",
    "go-sendxmpp",
];

async fn row(site: Site, name: &str, security: &'static str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = drivers(&here.join("tests/clients.d")).unwrap();
    let driver = all.iter().find(|driver| driver.name == name).unwrap();
    if !Way::Direct.available(site) {
        return;
    }
    // What is there is only looked at; `./test` has installed it.
    if available::find(name).is_none() {
        return available::skipped(&format!("{name} not installed"));
    }
    if let Err(why) = driver.install(&[]).await {
        return available::skipped(&why);
    }
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let homes = tempfile::tempdir().unwrap();
    let stage = Stage {
        server: site.server(),
        xbosh: xbosh.addr(),
        ca: xbosh.trust(site.server().domain()).unwrap(),
        out: homes.path().to_owned(),
        environment: vec![],
    };
    let trial = Trial {
        driver,
        stage: &stage,
        security,
    };
    let told = |why: String| -> ! {
        let log = std::fs::read_dir(homes.path())
            .into_iter()
            .flatten()
            .flatten();
        let log: String = log
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .collect();
        panic!("{why}\n{log}\n{}", xbosh.log());
    };
    let mut online = match trial.login(homes.path()).await {
        Ok(online) => online,
        Err(why) => told(why),
    };
    if let Err(why) = online.exchange().await {
        told(why);
    }
    match online.logout().await {
        Ok(outcome) => assert_eq!(
            (outcome.lost, outcome.doubled, outcome.interruptions),
            (0, 0, Vec::<String>::new())
        ),
        Err(why) => told(why),
    }
}

macro_rules! rows {
    ($($name:ident: $driver:literal, $security:literal;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn prosody() {
                row(Site::Prosody, $driver, $security).await;
            }

            #[tokio::test]
            async fn ejabberd() {
                row(Site::Ejabberd, $driver, $security).await;
            }
        }
    )*};
}

rows! {
    profanity: "profanity", "default";
    profanity_direct: "profanity", "direct";
    mcabber: "mcabber", "default";
    mcabber_starttls: "mcabber", "starttls";
    finch: "finch", "default";
    poezio: "poezio", "default";
    sendxmpp: "sendxmpp", "default";
    go_sendxmpp: "go-sendxmpp", "default";
}

/// No command-line driver is forgotten here.
#[test]
fn every_command_line_client_has_a_row() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<String> = drivers(&here.join("tests/clients.d"))
        .unwrap()
        .into_iter()
        .filter(|driver| matches!(driver.kind.as_str(), "console" | "one-shot"))
        .map(|driver| driver.name)
        .collect();
    found.sort();
    let mut expected = NAMES.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
}
