//! The client matrix: real clients of all kinds, run without a person, through xbosh to real servers.
//!
//! `tests/clients` installs what is needed and runs this. `tests/clients NAME…` is a login and a message each way;
//! `tests/clients --full` has all clients stay five minutes side by side while the network is away for 20 s in
//! between, and writes `docs/clients.md`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command says what it found"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use xbosh_testkit::matrix::{Driver, Online, Outcome, Stage, Trial, drivers};
use xbosh_testkit::proxy::{FaultKind, FaultPlan, FaultyProxy};
use xbosh_testkit::real::{Ejabberd, Prosody, Server, Sidecar};

/// Programs that log in or out at the same time.
const AT_ONCE: usize = 3;
/// How long clients stay, and when the network goes away meanwhile.
const STAY: Duration = Duration::from_secs(300);
const CUT_AFTER: Duration = Duration::from_secs(140);
const CUT: Duration = Duration::from_secs(20);

#[derive(Parser)]
#[command(about = "Runs real clients through xbosh to real servers")]
struct Arguments {
    /// Clients. All if left out.
    clients: Vec<String>,
    /// Long stays side by side, with the network cut in between; writes --out.
    #[arg(long)]
    full: bool,
    /// What clients begin with: default, plain, starttls or direct.
    #[arg(long, default_value = "default", value_parser = ["default", "plain", "starttls", "direct"])]
    security: String,
    /// The page that --full writes.
    #[arg(long, default_value = "docs/clients.md")]
    out: PathBuf,
    /// Where logs and screenshots go.
    #[arg(long, default_value = "target/clients")]
    logs: PathBuf,
}

/// A server with xbosh before it, and the network between them.
struct Site {
    server: Box<dyn Server>,
    xbosh: Sidecar,
    network: FaultyProxy,
    ca: PathBuf,
}

impl Site {
    async fn new(server: Box<dyn Server>, program: &Path) -> Result<Self, String> {
        // A proxy that does nothing until told to.
        let network = FaultyProxy::start(FaultPlan {
            kind: FaultKind::Buffer,
            rate: 0.0,
            seed: 1,
            most: None,
        })
        .await;
        let config = format!(
            "[proxy]\nurl = \"http://{}\"\n[domains.\"{}\"]\nurl = \"{}\"\n",
            network.addr(),
            server.domain(),
            server.bosh_url(false, "127.0.0.1")
        );
        let xbosh = Sidecar::start(program, &config)?;
        let ca = xbosh.trust(server.domain())?;
        Ok(Self {
            server,
            xbosh,
            network,
            ca,
        })
    }
}

/// One cell of the matrix.
struct Cell {
    driver: usize,
    site: usize,
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
    let sites = [
        Site::new(Box::new(Prosody::start()?), &program).await?,
        Site::new(Box::new(Ejabberd::start()?), &program).await?,
    ];
    let stages: Vec<Stage<'_>> = sites
        .iter()
        .map(|site| Stage {
            server: &*site.server,
            xbosh: site.xbosh.addr(),
            ca: site.ca.clone(),
            out: logs.clone(),
            environment: environment.clone(),
        })
        .collect();
    let homes = tempfile::tempdir().map_err(|error| error.to_string())?;
    let security = match arguments.security.as_str() {
        "plain" => "plain",
        "starttls" => "starttls",
        "direct" => "direct",
        _ => "default",
    };
    let mut trials = Vec::new();
    for (at, driver) in all
        .iter()
        .enumerate()
        .filter(|(at, _)| missing[*at].is_none())
    {
        for (site, stage) in stages.iter().enumerate() {
            trials.push((
                at,
                site,
                Trial {
                    driver,
                    stage,
                    security,
                },
            ));
        }
    }
    let mut cells = match arguments.full {
        true => full(&trials, &sites, homes.path()).await,
        false => short(&trials, homes.path()).await,
    };
    cells.sort_by_key(|cell| (cell.driver, cell.site));
    for cell in &cells {
        let name = &all[cell.driver].name;
        let site = sites[cell.site].server.name();
        match &cell.result {
            Ok(outcome) => println!(
                "{name}, {site}: {}, online after {:.1?}, {}",
                outcome.version,
                outcome.login,
                verdict(outcome)
            ),
            Err(why) => println!("{name}, {site}: FAILED: {why}"),
        }
    }
    for site in &sites {
        let log = logs.join(format!("xbosh-{}.log", site.server.name()));
        std::fs::write(log, site.xbosh.log()).map_err(|error| error.to_string())?;
    }
    if arguments.full {
        write_page(&arguments.out, &all, &missing, &cells, &logs)?;
    }
    Ok(cells
        .iter()
        .all(|cell| cell.result.as_ref().is_ok_and(is_sound)))
}

fn is_sound(outcome: &Outcome) -> bool {
    outcome.lost == 0 && outcome.doubled == 0 && outcome.interruptions.is_empty()
}

fn verdict(outcome: &Outcome) -> String {
    if is_sound(outcome) {
        return format!("{} messages, none lost", outcome.sent);
    }
    format!(
        "{} messages, {} lost, {} doubled, interruptions: {:?}",
        outcome.sent, outcome.lost, outcome.doubled, outcome.interruptions
    )
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

/// A login, a message each way, a logout.
async fn short(trials: &[Planned<'_>], homes: &Path) -> Vec<Cell> {
    let places = Semaphore::new(AT_ONCE);
    let running: FuturesUnordered<_> = trials
        .iter()
        .map(|(driver, site, trial)| {
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
                    site: *site,
                    result: result.await,
                }
            }
        })
        .collect();
    running.collect().await
}

/// All stay side by side, and the network is away for a while.
async fn full(trials: &[Planned<'_>], sites: &[Site], homes: &Path) -> Vec<Cell> {
    let places = Semaphore::new(AT_ONCE);
    let arriving: FuturesUnordered<_> = trials
        .iter()
        .map(|(driver, site, trial)| {
            let places = &places;
            async move {
                let _place = places.acquire().await;
                let arrived = async {
                    let mut online = trial.login(homes).await?;
                    online.exchange().await?;
                    Ok(online)
                };
                (*driver, *site, trial.driver, arrived.await)
            }
        })
        .collect();
    let arrived: Vec<(usize, usize, &Driver, Result<Online, String>)> = arriving.collect().await;
    let count = arrived.iter().filter(|(.., online)| online.is_ok()).count();
    println!(
        "{count} of {} are online; they stay for {STAY:?}",
        arrived.len()
    );
    let began = Instant::now();
    let cut = async {
        tokio::time::sleep_until(began + CUT_AFTER).await;
        println!("the network is away for {CUT:?}");
        for site in sites {
            site.network.outage(CUT);
        }
    };
    let staying: FuturesUnordered<_> = arrived
        .into_iter()
        .map(|(driver, site, about, online)| {
            let places = &places;
            async move {
                let result = async {
                    let mut online = online?;
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
                    site,
                    result: result.await,
                }
            }
        })
        .collect();
    tokio::join!(staying.collect(), cut).0
}

/// The page for users, and the screenshots beside it.
fn write_page(
    out: &Path,
    all: &[Driver],
    missing: &[Option<String>],
    cells: &[Cell],
    logs: &Path,
) -> Result<(), String> {
    let pictures = out.with_extension("");
    std::fs::create_dir_all(&pictures).map_err(|error| error.to_string())?;
    let mut text = String::from(
        "# Clients\n\nWritten by `tests/clients --full`. Each client runs without a person, installed from where the table says, with the \
         security that it begins with by itself, through xbosh and an HTTP proxy to a real Prosody and a real ejabberd. It logs in, \
         sends and receives, stays five minutes during which the network behind xbosh is away for 20 s, sends and receives again, \
         and logs out; the server must then know no session of it. *ok* means that nothing was lost or doubled and the client \
         noticed nothing.\n\nClients that use TLS were told of the domain's local authority first (`xbosh ca trust`, see \
         [local-tls.md](local-tls.md)): those without a setting of their own by the system's certificates.\n\n\
         | client | version | kind | from | default security | Prosody | ejabberd |\n|---|---|---|---|---|---|---|\n",
    );
    for (at, driver) in all.iter().enumerate() {
        let of = |site: usize| {
            cells
                .iter()
                .find(|cell| cell.driver == at && cell.site == site)
        };
        let words = |site: usize| match (of(site).map(|cell| &cell.result), &missing[at]) {
            (_, Some(why)) => why.clone(),
            (Some(Ok(outcome)), _) if is_sound(outcome) => "ok".into(),
            (Some(Ok(outcome)), _) => verdict(outcome),
            (Some(Err(why)), _) => format!("failed: {why}"),
            (None, None) => "not run".into(),
        };
        let version = [0, 1]
            .into_iter()
            .filter_map(|site| of(site)?.result.as_ref().ok())
            .map(|outcome| outcome.version.rsplit(' ').next().unwrap_or_default())
            .next()
            .unwrap_or("\u{2013}");
        let cell = |text: String| text.replace('|', "\\|");
        let _ = writeln!(
            text,
            "| [{}](#{name}) | {version} | {} | {} | {} | {} | {} |",
            driver.title,
            driver.kind,
            driver.source,
            driver.default,
            cell(words(0)),
            cell(words(1)),
            name = driver.name
        );
    }
    for driver in all {
        let _ = write!(
            text,
            "\n<a id=\"{}\"></a>\n\n## {}\n\n{}\n",
            driver.name, driver.title, driver.settings
        );
        let picture = logs.join(format!("{}-prosody.png", driver.name));
        if picture.is_file() {
            let copy = pictures.join(format!("{}.png", driver.name));
            std::fs::copy(&picture, &copy).map_err(|error| error.to_string())?;
            let _ = write!(
                text,
                "\n![{} through xbosh](clients/{}.png)\n",
                driver.title, driver.name
            );
        }
    }
    std::fs::write(out, text).map_err(|error| format!("{}: {error}", out.display()))
}
