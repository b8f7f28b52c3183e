//! Does xbosh keep anything that it should let go? Memory and open files of the real program while streams come
//! and go, and while the network misbehaves for as long as asked.
//!
//! `cargo run --release --example soak` opens and closes 10,000 streams; `-- --minutes 60` then keeps 30 streams busy
//! behind proxies that reset, swallow, cut, delay and repeat requests, one proxy for each kind of fault. The manager
//! is the embedded one, as Prosody does it; each xbosh that is measured is a process of its own. Memory and open files
//! are printed as it goes, and the exit code is 1 if they grow.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command says what it measured"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;
use xbosh_testkit::client::managed::Managed;
use xbosh_testkit::client::{Account, Client, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::proxy::{FaultKind, FaultPlan, FaultyProxy};
use xbosh_testkit::real::Sidecar;
use xbosh_testkit::xmpp::Server;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Streams at a time while cycles run.
const AT_ONCE: usize = 20;
/// Streams behind each kind of fault.
const EACH: usize = 2;
/// `wait` where requests are swallowed, in seconds: nobody tells of it, so that only `wait` and a margin end one.
const SWALLOWED_WAIT: u64 = 5;
/// Growth beyond this share between the second and the last tenth of the measurements is a leak.
const ALLOWED: f64 = 0.10;
#[derive(Parser)]
#[command(about = "Watches memory and open files of xbosh while streams come and go")]
struct Arguments {
    /// Streams opened and closed.
    #[arg(long, default_value_t = 10_000)]
    cycles: usize,
    /// Minutes of faults.
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
    /// Share of requests that are hit meanwhile.
    #[arg(long, default_value_t = 0.1)]
    rate: f64,
    /// The faults. All if left out.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<FaultKind>,
    /// The program to measure. Built like this example if left out.
    #[arg(long)]
    xbosh: Option<PathBuf>,
}

/// What the process holds.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Resident memory, KiB.
    memory: u64,
    files: usize,
    threads: usize,
}

impl Held {
    fn of(pid: u32) -> Result<Self, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            memory: number("VmRSS:"),
            threads: usize::try_from(number("Threads:"))?,
            files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(run(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let binary = match &arguments.xbosh {
        Some(path) => path.clone(),
        None => build()?,
    };
    let mut flat = cycles(&binary, arguments.cycles).await?;
    if arguments.minutes > 0.0 {
        let time = Duration::from_secs_f64(arguments.minutes * 60.0);
        let kinds = match arguments.kinds.is_empty() {
            true => FaultKind::ALL.to_vec(),
            false => arguments.kinds.clone(),
        };
        flat &= faults(&binary, time, arguments.rate, &kinds).await?;
    }
    Ok(flat)
}

/// The program in the profile that this example was built in.
fn build() -> Result<PathBuf, Failure> {
    let example = std::env::current_exe()?;
    let folder = example.ancestors().nth(2).ok_or("no build folder")?;
    let release = folder.ends_with("release");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--bin", "xbosh"])
        .args(release.then_some("--release"))
        .status()?;
    if !status.success() {
        return Err("xbosh cannot be built".into());
    }
    Ok(folder.join("xbosh"))
}

async fn manager(users: usize) -> Cm {
    let server = Server::new("localhost");
    for n in 0..users {
        server.add_user(&format!("user{n}"), "password");
    }
    // How many requests are open cannot be judged while connections die unseen.
    let profile = Profile {
        strict_window: false,
        ..Profile::prosody()
    };
    let cm = Cm::start(&server, profile, None).await;
    cm.keep_no_posts();
    cm
}

fn start(binary: &Path, cm: &Cm, way: &str, wait: Option<u64>) -> Result<Sidecar, Failure> {
    let wait = wait.map_or_else(String::new, |wait| format!("[bosh]\nwait = {wait}\n"));
    // Streams that come and go at once are what xbosh slows down otherwise.
    let config = format!(
        "[proxy]\nurl = \"{way}\"\n{wait}[limits]\nsession_rate = 100000\n[log]\nlevel = \"error\"\n[domains.localhost]\nurl = \"{}\"\n",
        cm.url("127.0.0.1")
    );
    Ok(Sidecar::start(binary, &config)?)
}

fn account(n: usize) -> Account {
    Account::new(&format!("user{n}"), "localhost", "password")
}

/// Streams that open, say something, and end: in order, by a crash, or resumed once before.
async fn cycles(binary: &Path, count: usize) -> Result<bool, Failure> {
    let cm = manager(AT_ONCE).await;
    let sidecar = start(binary, &cm, "none", None)?;
    let rounds = count.div_ceil(AT_ONCE).max(10);
    let mut seen = Vec::new();
    for round in 0..rounds {
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..AT_ONCE {
            let addr = sidecar.addr();
            tasks.spawn(async move { one_cycle(addr, &account(n), round + n).await });
        }
        while let Some(result) = tasks.join_next().await {
            result??;
        }
        if round % (rounds / 10) == 0 {
            let held = Held::of(sidecar.pid())?;
            println!("{:>6} streams: {held:?}", (round + 1) * AT_ONCE);
            seen.push(held);
        }
    }
    Ok(is_flat("streams that come and go", &seen))
}

async fn one_cycle(
    addr: std::net::SocketAddr,
    account: &Account,
    turn: usize,
) -> Result<(), xbosh_testkit::client::ClientError> {
    match turn % 4 {
        0 => {
            let client = Client::login(addr, account, Mechanism::Plain).await?;
            client.vanish();
        }
        1 => {
            let mut client = Managed::login(addr, account, Mechanism::Plain).await?;
            client.message("echo@localhost", "hello").await;
            client.reconnect().await?;
            client.settle().await?;
            client.logout().await?;
        }
        _ => {
            let mut client = Client::login(addr, account, Mechanism::Plain).await?;
            client.ping().await?;
            client.logout().await?;
        }
    }
    Ok(())
}

/// Busy streams behind a bad network.
async fn faults(
    binary: &Path,
    time: Duration,
    rate: f64,
    kinds: &[FaultKind],
) -> Result<bool, Failure> {
    let count = kinds.len() * EACH;
    let cm = manager(count).await;
    let mut seen = Vec::new();
    let plan = |kind, seed| FaultPlan {
        kind,
        rate,
        seed,
        most: None,
    };
    let mut proxies = Vec::new();
    for (n, kind) in kinds.iter().copied().enumerate() {
        proxies.push(FaultyProxy::start(plan(kind, n as u64)).await);
    }
    let sidecars = proxies
        .iter()
        .zip(kinds)
        .map(|(proxy, kind)| {
            let wait = (*kind == FaultKind::Blackhole).then_some(SWALLOWED_WAIT);
            start(binary, &cm, &format!("http://{}", proxy.addr()), wait)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut streams = tokio::task::JoinSet::new();
    for n in 0..count {
        let sidecar = &sidecars[n % sidecars.len()];
        let mut client = Client::login(sidecar.addr(), &account(n), Mechanism::Plain).await?;
        client.set_deadline(Duration::from_secs(120));
        let kind = kinds[n % kinds.len()];
        streams.spawn(async move {
            let mut number = 0_u64;
            let told = |error| format!("behind {kind}: {error}");
            loop {
                client
                    .message("echo@localhost", &number.to_string())
                    .await
                    .map_err(told)?;
                let echo = client
                    .wait_for(|s| s.name() == "message")
                    .await
                    .map_err(told)?;
                if echo.child_text("body") != Some(number.to_string()) {
                    return Err::<(), Failure>(format!("{number} came back as {echo:?}").into());
                }
                number += 1;
            }
        });
    }
    for proxy in &proxies {
        proxy.arm();
    }
    let began = Instant::now();
    let step = (time / 40).max(Duration::from_secs(1));
    while began.elapsed() < time {
        tokio::select! {
            () = tokio::time::sleep(step) => {}
            Some(ended) = streams.join_next() => ended??,
        }
        let mut all = Held::default();
        for sidecar in &sidecars {
            let held = Held::of(sidecar.pid())?;
            all.memory += held.memory;
            all.files += held.files;
            all.threads += held.threads;
        }
        let hits: u64 = proxies.iter().map(|proxy| proxy.counts().faults).sum();
        println!(
            "{:>5} s, {hits} faults: {all:?} in {} programs",
            began.elapsed().as_secs(),
            sidecars.len()
        );
        seen.push(all);
    }
    Ok(is_flat("faults", &seen))
}

/// Compares the second tenth with the last one: what comes first is warming up.
fn is_flat(what: &str, seen: &[Held]) -> bool {
    let tenth = (seen.len() / 10).max(1);
    let (early, late) = (
        &seen[tenth.min(seen.len() - 1)..(2 * tenth).min(seen.len())],
        &seen[seen.len() - tenth..],
    );
    let most = |part: &[Held]| {
        let memory = part.iter().map(|h| h.memory).max().unwrap_or(0);
        let files = part.iter().map(|h| h.files).max().unwrap_or(0);
        (memory, files)
    };
    let ((memory, files), (memory_late, files_late)) = (most(early), most(late));
    #[expect(clippy::cast_precision_loss, reason = "a share, printed")]
    let growth = memory_late as f64 / memory.max(1) as f64 - 1.0;
    let flat = growth <= ALLOWED && files_late <= files + AT_ONCE * 4;
    println!(
        "{what}: memory {memory} to {memory_late} KiB ({:+.1} %), files {files} to {files_late}: {}",
        growth * 100.0,
        if flat { "flat" } else { "GROWS" }
    );
    flat
}
