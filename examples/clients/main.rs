//! The client matrix: real clients of all kinds, run without a person, through xbosh to real servers.
//!
//! `tests/clients` installs what is needed and runs this. `tests/clients NAME…` is a login and a message each way;
//! `tests/clients --full` has all clients stay five minutes side by side, on one port of one xbosh, while the network is
//! away for 20 s in between and they speak; then it tries all that each can be set to, and writes `docs/clients.md`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command says what it found"
)]

mod page;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use xbosh_testkit::matrix::{Driver, Online, Outcome, Stage, Trial, drivers};
use xbosh_testkit::proxy::{FaultKind, FaultPlan, FaultyProxy};
use xbosh_testkit::real::{Ejabberd, Prosody, Server, Sidecar};

/// Programs that log in or out at the same time.
const AT_ONCE: usize = 3;
/// How long clients stay, and when the network goes away meanwhile.
const STAY: Duration = Duration::from_secs(300);
const CUT_AFTER: Duration = Duration::from_secs(140);
const CUT: Duration = Duration::from_secs(20);
/// How long before it clients are looked at, and how long after its begin they speak.
const LOOK_BEFORE: Duration = Duration::from_secs(20);
const SPEAK_AFTER: Duration = Duration::from_secs(6);

#[derive(Parser)]
#[command(about = "Runs real clients through xbosh to real servers")]
struct Arguments {
    /// Clients. All if left out.
    clients: Vec<String>,
    /// Long stays side by side, with the network cut in between; writes --out.
    #[arg(long)]
    full: bool,
    /// What clients begin with: default, plain, starttls or direct; or all that they can be set to.
    #[arg(long, default_value = "default", value_parser = ["default", "plain", "starttls", "direct", "all"])]
    security: String,
    /// The page that --full writes.
    #[arg(long, default_value = "docs/clients.md")]
    out: PathBuf,
    /// Where logs and screenshots go.
    #[arg(long, default_value = "target/clients")]
    logs: PathBuf,
}

/// One xbosh before one or more servers, and the network between them.
struct Site {
    xbosh: Sidecar,
    network: FaultyProxy,
    ca: Vec<PathBuf>,
}

impl Site {
    async fn new(servers: &[Box<dyn Server>], program: &Path) -> Result<Self, String> {
        // A proxy that does nothing until told to.
        let network = FaultyProxy::start(FaultPlan {
            kind: FaultKind::Buffer,
            rate: 0.0,
            seed: 1,
            most: None,
        })
        .await;
        let mut config = format!("[proxy]\nurl = \"http://{}\"\n", network.addr());
        for server in servers {
            config += &format!(
                "[domains.\"{}\"]\nurl = \"{}\"\n",
                server.domain(),
                server.bosh_url(false, "127.0.0.1")
            );
        }
        let xbosh = Sidecar::start(program, &config)?;
        let ca: Result<_, String> = servers.iter().map(|s| xbosh.trust(s.domain())).collect();
        Ok(Self {
            xbosh,
            network,
            ca: ca?,
        })
    }

    /// Where clients of these servers are tried.
    fn stages<'a>(
        &'a self,
        servers: &'a [Box<dyn Server>],
        out: &Path,
        environment: &[(&'static str, String)],
    ) -> Vec<Stage<'a>> {
        let both = servers.iter().zip(&self.ca);
        both.map(|(server, ca)| Stage {
            server: &**server,
            xbosh: &self.xbosh,
            ca: ca.clone(),
            out: out.to_owned(),
            environment: environment.to_vec(),
        })
        .collect()
    }
}

/// One cell of the matrix.
struct Cell {
    driver: usize,
    server: usize,
    security: &'static str,
    result: Result<Outcome, String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("clients: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<bool, String> {
    let program = program()?;
    let environment = environment()?;
    std::fs::create_dir_all(&arguments.logs).map_err(|error| error.to_string())?;
    let logs = arguments.logs.canonicalize().map_err(|e| e.to_string())?;
    let mut all = drivers(Path::new("tests/clients.d")).map_err(|error| error.to_string())?;
    for name in &arguments.clients {
        if !all.iter().any(|driver| driver.name == *name) {
            let names: Vec<&str> = all.iter().map(|driver| driver.name.as_str()).collect();
            return Err(format!(
                "no driver for {name}; there are {}",
                names.join(", ")
            ));
        }
    }
    all.retain(|driver| arguments.clients.is_empty() || arguments.clients.contains(&driver.name));
    let mut missing: Vec<Option<String>> = Vec::new();
    for driver in &all {
        let installed = driver.install(&environment).await;
        if let Err(why) = &installed {
            println!("{}: not run: {why}", driver.name);
        }
        missing.push(installed.err());
    }
    let servers: [Box<dyn Server>; 2] = [Box::new(Prosody::start()?), Box::new(Ejabberd::start()?)];
    // The long stays are all on one port. What a client can be set to besides is tried with an xbosh for each server:
    // not all of them name their domain in TLS.
    let common = Site::new(&servers, &program).await?;
    let single = [
        Site::new(&servers[..1], &program).await?,
        Site::new(&servers[1..], &program).await?,
    ];
    let together = common.stages(&servers, &logs, &environment);
    let mut apart = single[0].stages(&servers[..1], &logs, &environment);
    apart.extend(single[1].stages(&servers[1..], &logs, &environment));
    let homes = tempfile::tempdir().map_err(|error| error.to_string())?;
    let there: Vec<(usize, &Driver)> = all
        .iter()
        .enumerate()
        .filter(|(at, _)| missing[*at].is_none())
        .collect();
    let mut cells = Vec::new();
    if arguments.full {
        let trials = planned(&there, &together, "default");
        for (.., trial) in &trials {
            common.network.mark(&trial.mark());
        }
        cells.extend(full(&trials, &common.network, homes.path()).await);
    }
    for security in ["default", "plain", "starttls", "direct"] {
        let wanted = match arguments.full {
            true => security != "default",
            false => [security, "all"].contains(&arguments.security.as_str()),
        };
        if wanted {
            cells.extend(short(&planned(&there, &apart, security), homes.path()).await);
        }
    }
    cells.sort_by_key(|cell| (cell.driver, cell.server));
    for cell in &cells {
        let name = &all[cell.driver].name;
        let security = cell.security;
        let server = servers[cell.server].name();
        match &cell.result {
            Ok(outcome) => println!(
                "{name}, {security}, {server}: {}, {} by xbosh, online after {:.1?}, {}",
                outcome.version,
                outcome.secured,
                outcome.login,
                verdict(outcome)
            ),
            Err(why) => println!("{name}, {security}, {server}: FAILED: {why}"),
        }
    }
    let log = |name: &str, text: String| {
        std::fs::write(logs.join(name), text).map_err(|error| error.to_string())
    };
    log("xbosh.log", common.xbosh.log())?;
    for (site, server) in single.iter().zip(&servers) {
        log(&format!("xbosh-{}.log", server.name()), site.xbosh.log())?;
    }
    log("network.log", common.network.log())?;
    if arguments.full {
        let versions = page::versions(&program)?;
        page::write(&arguments.out, &all, &missing, &cells, &logs, &versions)?;
    }
    Ok(cells
        .iter()
        .all(|cell| cell.result.as_ref().is_ok_and(is_sound)))
}

fn is_sound(outcome: &Outcome) -> bool {
    outcome.lost == 0 && outcome.doubled == 0 && outcome.interruptions.is_empty()
}

fn verdict(outcome: &Outcome) -> String {
    let mut words = vec![format!("{} messages", outcome.sent)];
    if outcome.sends_only {
        words.push("sends only".into());
    }
    if let Some(outage) = outcome.outage {
        words.push(format!(
            "{} requests cut, {} repeated",
            outage.cut, outage.repeats
        ));
    }
    if is_sound(outcome) {
        words.push("none lost".into());
    } else {
        words.push(format!(
            "{} lost, {} doubled, interruptions: {:?}",
            outcome.lost, outcome.doubled, outcome.interruptions
        ));
    }
    words.join(", ")
}

/// xbosh as it was built beside this.
fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = own.ancestors().nth(2).map(|folder| folder.join("xbosh"));
    program
        .filter(|path| path.is_file())
        .ok_or_else(|| "xbosh is not built: cargo build --release".into())
}

/// Where drivers keep libraries.
fn environment() -> Result<Vec<(&'static str, String)>, String> {
    let here = std::env::current_dir().map_err(|error| error.to_string())?;
    let folder = |name: &str, usual: &str| match std::env::var(name) {
        Ok(path) => path,
        Err(_) => here.join("target").join(usual).display().to_string(),
    };
    Ok(vec![
        ("XB_VENV", folder("XBOSH_TEST_VENV", "test-venv")),
        ("XB_NODE", folder("XBOSH_TEST_NODE", "test-node")),
    ])
}

type Planned<'a> = (usize, usize, Trial<'a>);

/// Every client that has this setting, at every stage.
fn planned<'a>(
    there: &[(usize, &'a Driver)],
    stages: &'a [Stage<'a>],
    security: &'static str,
) -> Vec<Planned<'a>> {
    let mut trials = Vec::new();
    for (at, driver) in there {
        if security != "default" && !driver.also.iter().any(|name| name == security) {
            continue;
        }
        for (server, stage) in stages.iter().enumerate() {
            let trial = Trial {
                driver,
                stage,
                security,
            };
            trials.push((*at, server, trial));
        }
    }
    trials
}

/// A login, a message each way, a logout.
async fn short(trials: &[Planned<'_>], homes: &Path) -> Vec<Cell> {
    let places = Semaphore::new(AT_ONCE);
    let running: FuturesUnordered<_> = trials
        .iter()
        .map(|(driver, server, trial)| {
            let places = &places;
            async move {
                let _place = places.acquire().await;
                let result = async {
                    let mut online = trial.login(homes).await?;
                    online.exchange().await?;
                    online.logout().await
                };
                Cell {
                    driver: *driver,
                    server: *server,
                    security: trial.security,
                    result: result.await,
                }
            }
        })
        .collect();
    running.collect().await
}

type Arrived<'a> = (usize, usize, &'a Driver, Result<Online<'a>, String>);

/// All stay side by side; the network is away for a while, and they speak then.
async fn full(trials: &[Planned<'_>], network: &FaultyProxy, homes: &Path) -> Vec<Cell> {
    let places = Semaphore::new(AT_ONCE);
    let arriving: FuturesUnordered<_> = trials
        .iter()
        .map(|(driver, server, trial)| {
            let places = &places;
            async move {
                let _place = places.acquire().await;
                let arrived = async {
                    let mut online = trial.login(homes).await?;
                    online.exchange().await?;
                    Ok(online)
                };
                (*driver, *server, trial.driver, arrived.await)
            }
        })
        .collect();
    let arrived: Vec<Arrived<'_>> = arriving.collect().await;
    let count = arrived.iter().filter(|(.., online)| online.is_ok()).count();
    println!(
        "{count} of {} are online; they stay for {STAY:?}",
        arrived.len()
    );
    let began = Instant::now();
    let cut = async {
        sleep_until(began + CUT_AFTER).await;
        println!("the network is away for {CUT:?}");
        network.outage(CUT);
    };
    let staying: FuturesUnordered<_> = arrived
        .into_iter()
        .map(|(driver, server, about, online)| {
            let places = &places;
            async move {
                let result = async {
                    let mut online = online?;
                    online.stay(began + CUT_AFTER - LOOK_BEFORE).await;
                    online.before_outage(network).await?;
                    online.stay(began + CUT_AFTER + SPEAK_AFTER).await;
                    online.speak_in_outage().await?;
                    online.after_outage(network).await?;
                    online.stay(began + STAY).await;
                    let _place = places.acquire().await;
                    online.exchange().await?;
                    if about.has_screen() {
                        online.shot().await?;
                    }
                    online.logout().await
                };
                Cell {
                    driver,
                    server,
                    security: "default",
                    result: result.await,
                }
            }
        })
        .collect();
    tokio::join!(staying.collect(), cut).0
}
