//! Real command-line clients, each with the security that it begins with by itself, which xbosh has to confirm: login, a
//! message each way, logout.
//! `tests/clients --full` runs these and the others for long.

use std::path::Path;

use xbosh_testkit::matrix::{Driver, Stage, Trial, drivers};
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

async fn row(
    site: Site,
    name: &str,
    security: &'static str,
    environment: &[(&'static str, &str)],
) -> Result<(), Told> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = drivers(&here.join("tests/clients.d")).unwrap();
    let driver = all.iter().find(|driver| driver.name == name).unwrap();
    row_of(driver, name, site, security, environment).await
}

async fn row_of(
    driver: &Driver,
    program: &str,
    site: Site,
    security: &'static str,
    environment: &[(&'static str, &str)],
) -> Result<(), Told> {
    if !Way::Direct.available(site) {
        return Ok(());
    }
    // What is there is only looked at; `./test` has installed it.
    if available::find(program).is_none() {
        available::skipped(&format!("{program} not installed"));
        return Ok(());
    }
    if let Err(why) = driver.install(&[]).await {
        available::skipped(&why);
        return Ok(());
    }
    let xbosh = xbosh_to(site, Scheme::Http, Way::Direct);
    let homes = tempfile::tempdir().unwrap();
    let stage = Stage {
        server: site.server(),
        xbosh: &xbosh,
        ca: xbosh.trust(site.server().domain()).unwrap(),
        out: homes.path().to_owned(),
        environment: environment
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect(),
    };
    let trial = Trial {
        driver,
        stage: &stage,
        security,
    };
    let result = async {
        let mut online = trial.login(homes.path()).await?;
        online.exchange().await?;
        online.logout().await
    };
    let outcome = result.await.map_err(|why| {
        let log = homes.path().join(trial.log_name());
        let log = std::fs::read_to_string(log).unwrap_or_default();
        Told(format!(
            "\nxbosh, at last:\n{}\nthe driver, at last:\n{}\n{program}: {why}",
            last(&xbosh.log(), 10),
            last(&log, 24)
        ))
    })?;
    assert_eq!(
        (outcome.lost, outcome.doubled, outcome.interruptions),
        (0, 0, Vec::<String>::new())
    );
    Ok(())
}

/// Why a row failed, the reason last: where only the end of all output is kept, it is there.
struct Told(String);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The end of a log.
fn last(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

macro_rules! rows {
    ($($name:ident: $driver:literal, $security:literal;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn prosody() -> Result<(), Told> {
                row(Site::Prosody, $driver, $security, &[]).await
            }

            #[tokio::test]
            async fn ejabberd() -> Result<(), Told> {
                row(Site::Ejabberd, $driver, $security, &[]).await
            }
        }
    )*};
}

rows! {
    profanity: "profanity", "default";
    profanity_plain: "profanity", "plain";
    profanity_direct: "profanity", "direct";
    mcabber: "mcabber", "default";
    mcabber_starttls: "mcabber", "starttls";
    finch: "finch", "default";
    poezio: "poezio", "default";
    sendxmpp: "sendxmpp", "default";
    go_sendxmpp: "go-sendxmpp", "default";
}

/// As a service of the system starts programs: tmux took the shell of `nobody`, which only says no, ran each client in
/// it, and ended with it.
#[tokio::test]
async fn poezio_where_the_shell_refuses_and_nothing_else_is_set() -> Result<(), Told> {
    let environment = [
        ("SHELL", "/usr/sbin/nologin"),
        ("TERM", "dumb"),
        ("LANG", "C"),
        ("LC_ALL", "C"),
        ("HOME", "/nonexistent"),
        ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent"),
        ("TMUX", "/nonexistent,1,0"),
    ];
    row(Site::Prosody, "poezio", "starttls", &environment).await
}

/// The column "default security" was the driver's own word, and mcabber's was wrong.
#[tokio::test]
async fn a_stream_that_is_secured_otherwise_than_its_driver_says() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = drivers(&here.join("tests/clients.d")).unwrap();
    let mut driver = all.into_iter().find(|d| d.name == "mcabber").unwrap();
    // An account of its own.
    driver.name = "claiming".into();
    driver.default = "plain".into();
    if Way::Direct.available(Site::Prosody) && available::find("mcabber").is_some() {
        let told = row_of(&driver, "mcabber", Site::Prosody, "default", &[]).await;
        let Told(why) = told.unwrap_err();
        let reason = "mcabber: xbosh says that it is starttls, not plain";
        assert!(why.ends_with(reason), "{why}");
    }
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
