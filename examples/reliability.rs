//! What becomes of messages while the network misbehaves: real servers, xbosh as it was built, and a proxy that hits
//! a share of the requests. Writes a table in Markdown, one row for each kind of fault, rate and server.
//!
//! `cargo run --release --example reliability` runs everything, in half an hour;
//! `-- --kinds reset-after,outage --rates 10 --servers prosody --messages 200` a part of it.

#![allow(
    clippy::print_stderr,
    reason = "progress is for the person who waits for it"
)]

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;
use xbosh_testkit::proxy::FaultKind;
use xbosh_testkit::real::available::Program;
use xbosh_testkit::real::{Ejabberd, Prosody, Server};
use xbosh_testkit::reliability::{Outcome, Trial, Trouble, Way};

/// Hits a row may have where each costs the better part of a minute.
const MOST_SWALLOWED: u64 = 3;

/// Prosody's own cost grows with archives and old log-ins, which would show as delays of ours.
const LIGHT: &str = r#"default_archive_policy = false; gc = { mode = "generational" }"#;

#[derive(Parser)]
#[command(about = "Counts lost, doubled and reordered messages behind a network that misbehaves")]
struct Arguments {
    /// Messages each way in every row.
    #[arg(long, default_value_t = 1000)]
    messages: usize,
    /// Percent of the requests that are hit.
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,30")]
    rates: Vec<f64>,
    /// Which servers: prosody, ejabberd.
    #[arg(long, value_delimiter = ',', default_value = "prosody,ejabberd")]
    servers: Vec<String>,
    /// Which faults, by the names in the table's first column, and "outage". All if left out.
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// Percent of the pieces that are hit where https goes through a tunnel.
    #[arg(long, value_delimiter = ',', default_value = "5,30")]
    tunnel_rates: Vec<f64>,
    /// Seconds that the network is away, one row each; half a second is what a proxy takes to start again.
    #[arg(long, value_delimiter = ',', default_value = "0.5,5,20")]
    outage: Vec<f64>,
    /// Which ways: http, for plain http through the proxy, and connect, for https in a tunnel.
    #[arg(long, value_delimiter = ',', default_value = "http,connect")]
    ways: Vec<String>,
    /// Milliseconds from one pair of messages to the next.
    #[arg(long, default_value_t = 10)]
    pace: u64,
    /// Draws the requests that are hit.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rows at the same time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Where the table goes; standard output if left out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The program to try. Built like this example if left out.
    #[arg(long)]
    xbosh: Option<PathBuf>,
    /// Where the logs of rows with failures go.
    #[arg(long, default_value = "target/reliability")]
    logs: PathBuf,
}

/// One row to be, of the server with this index.
#[derive(Clone, Copy)]
struct Work {
    server: usize,
    trial: Trial,
}

struct Row {
    work: Work,
    outcome: Outcome,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

/// Whether every row was sound.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let troubles = troubles(arguments)?;
    let xbosh = match &arguments.xbosh {
        Some(path) => path.clone(),
        None => build()?,
    };
    let mut servers: Vec<Box<dyn Server>> = Vec::new();
    for name in &arguments.servers {
        match start(name) {
            Ok(server) => servers.push(server),
            Err(why) => eprintln!("left out: {why}"),
        }
    }
    if servers.is_empty() {
        return Err("no server to try".to_owned());
    }
    let work = |(way, trouble)| {
        (0..servers.len()).map(move |server| Work {
            server,
            trial: Trial {
                trouble,
                way,
                messages: arguments.messages,
                pace: Duration::from_millis(arguments.pace),
                seed: arguments.seed,
                most: match trouble {
                    Trouble::Fault(FaultKind::Blackhole, _) => Some(MOST_SWALLOWED),
                    _ => None,
                },
            },
        })
    };
    let all: Vec<Work> = troubles.into_iter().flat_map(work).collect();
    let rows = run_all(arguments, &xbosh, &servers, &all)?;
    let table = table(arguments, &servers, &rows)?;
    match &arguments.out {
        Some(path) => {
            std::fs::write(path, table).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        None => std::io::Write::write_all(&mut std::io::stdout(), table.as_bytes())
            .map_err(|error| error.to_string())?,
    }
    Ok(rows.iter().all(|row| row.outcome.is_sound()))
}

/// The clean run first: the others' delays are measured against it.
fn troubles(arguments: &Arguments) -> Result<Vec<(Way, Trouble)>, String> {
    let wanted =
        |name: &str| arguments.kinds.is_empty() || arguments.kinds.iter().any(|k| k == name);
    for name in arguments.kinds.iter().filter(|name| *name != "outage") {
        name.parse::<FaultKind>()
            .map_err(|error| format!("{error}, outage"))?;
    }
    let mut ways = Vec::new();
    for name in &arguments.ways {
        ways.push(match name.as_str() {
            "http" => Way::Http,
            "connect" => Way::Connect,
            _ => return Err(format!("no way is called {name}: http, connect")),
        });
    }
    let mut troubles: Vec<_> = ways.iter().map(|way| (*way, Trouble::None)).collect();
    for way in ways {
        troubles.extend(
            on_way(arguments, way, &wanted)?
                .into_iter()
                .map(|t| (way, t)),
        );
    }
    Ok(troubles)
}

/// What can happen on this way, the clean run left out.
fn on_way(
    arguments: &Arguments,
    way: Way,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Trouble>, String> {
    let mut troubles = Vec::new();
    for kind in FaultKind::ALL {
        if !wanted(&kind.to_string()) || (way == Way::Connect && !kind.hits_tunnels()) {
            continue;
        }
        // It hits what is old, whatever the rate.
        let one = [100.0];
        let rates = match kind {
            FaultKind::CutLongPoll(_) => &one[..],
            _ if way == Way::Connect => &arguments.tunnel_rates,
            _ => &arguments.rates,
        };
        for rate in rates {
            if !(0.0..=100.0).contains(rate) {
                return Err(format!("{rate} is no rate in percent"));
            }
            troubles.push(Trouble::Fault(kind, rate / 100.0));
        }
    }
    if wanted("outage") {
        let seconds = arguments.outage.iter();
        troubles.extend(seconds.map(|&s| Trouble::Outage(Duration::from_secs_f64(s))));
    }
    Ok(troubles)
}

/// Builds the program in this example's profile, and says where it is.
fn build() -> Result<PathBuf, String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--bin", "xbosh"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let status = command
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    // target/<profile>/examples/reliability
    let example = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = example
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("xbosh"));
    match path {
        Some(path) if status.success() && path.is_file() => Ok(path),
        _ => Err("xbosh is not built; name it by --xbosh".to_owned()),
    }
}

fn start(name: &str) -> Result<Box<dyn Server>, String> {
    match name {
        "prosody" => {
            Program::Prosody.available()?;
            Ok(Box::new(Prosody::start_with(LIGHT)?))
        }
        "ejabberd" => {
            Program::Ejabberd.available()?;
            Ok(Box::new(Ejabberd::start()?))
        }
        _ => Err(format!("no server is called {name}")),
    }
}

/// Runs the clean rows, then all others, several at a time; the rows come back in the order of the work.
fn run_all(
    arguments: &Arguments,
    xbosh: &Path,
    servers: &[Box<dyn Server>],
    all: &[Work],
) -> Result<Vec<Row>, String> {
    let clean = all.iter().filter(|w| w.trial.trouble == Trouble::None);
    let (clean, faulty) = all.split_at(clean.count());
    let mut rows = run_some(arguments, xbosh, servers, clean, all.len(), 0)?;
    rows.extend(run_some(
        arguments,
        xbosh,
        servers,
        faulty,
        all.len(),
        clean.len(),
    )?);
    Ok(rows)
}

fn run_some(
    arguments: &Arguments,
    xbosh: &Path,
    servers: &[Box<dyn Server>],
    some: &[Work],
    of: usize,
    before: usize,
) -> Result<Vec<Row>, String> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..some.len()).collect());
    let done: Mutex<Vec<(usize, Result<Outcome, String>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    // A statement of its own: the lock must not be held while the row runs.
                    let next = lock(&queue).pop_front();
                    let Some(index) = next else { break };
                    let work = some[index];
                    let server = servers[work.server].as_ref();
                    let begun = Instant::now();
                    let outcome = run_one(xbosh, server, &work.trial);
                    let count = before + lock(&done).len() + 1;
                    report(arguments, server, &work.trial, &outcome, begun, (count, of));
                    lock(&done).push((index, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter()
        .map(|(index, outcome)| {
            Ok(Row {
                work: some[index],
                outcome: outcome?,
            })
        })
        .collect()
}

fn run_one(xbosh: &Path, server: &dyn Server, trial: &Trial) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(trial.run(xbosh, server))
}

fn report(
    arguments: &Arguments,
    server: &dyn Server,
    trial: &Trial,
    outcome: &Result<Outcome, String>,
    begun: Instant,
    (count, of): (usize, usize),
) {
    let (trouble, way) = (trial.trouble, trial.way);
    let (rate, server) = (rate(trial), server.name());
    let took = begun.elapsed().as_secs_f64();
    let said = match outcome {
        Ok(outcome) => outcome.to_string(),
        Err(why) => why.clone(),
    };
    eprintln!("[{count}/{of}] {trouble} {rate} {way} {server}: {said} ({took:.1} s)");
    if let Ok(outcome) = outcome
        && !outcome.is_sound()
    {
        let name = format!("{trouble}-{rate}-{way}-{server}.log").replace([' ', '%'], "");
        let path = arguments.logs.join(name);
        let written = std::fs::create_dir_all(&arguments.logs)
            .and_then(|()| std::fs::write(&path, &outcome.log));
        match written {
            Ok(()) => eprintln!("  log: {}", path.display()),
            Err(error) => eprintln!("  no log at {}: {error}", path.display()),
        }
    }
}

fn rate(trial: &Trial) -> String {
    match trial.trouble {
        Trouble::None => "–".to_owned(),
        Trouble::Outage(_) => "once".to_owned(),
        Trouble::Fault(FaultKind::CutLongPoll(_), _) => "all".to_owned(),
        Trouble::Fault(_, rate) => format!("{} %", (rate * 1000.0).round() / 10.0),
    }
}

fn table(
    arguments: &Arguments,
    servers: &[Box<dyn Server>],
    rows: &[Row],
) -> Result<String, String> {
    let Arguments {
        messages,
        pace,
        seed,
        ..
    } = arguments;
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(
        "# Reliability behind a network that misbehaves\n\n\
         xbosh {version}, written by `cargo run --release --example reliability -- --messages {messages} --pace {pace} \
         --seed {seed} --out docs/reliability.md`.\n\n\
         Each row is one session. A client behind xbosh and a peer connected directly to the server send each other \
         {messages} numbered messages, one each way every {pace} ms. Between xbosh and the server's BOSH stands an HTTP \
         proxy that does what the first column says to a share of the requests, long polls included; with https it sees the \
         pieces of a tunnel (CONNECT), and hits those. *Sent* counts both \
         ways. *Returned* messages came back to the client as not confirmed before its stream ended; they may have arrived \
         all the same. *Added delay* is the median time from sending to arrival, less that of the row without faults.\n\n\
         | fault | rate | way | server | sent | delivered | lost | doubled | out of order | returned | streams closed | faults | added delay | longest delay |\n\
         |---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for row in rows {
        let outcome = &row.outcome;
        let clean = rows
            .iter()
            .find(|other| {
                let (other, row) = (&other.work, &row.work);
                let same = other.server == row.server && other.trial.way == row.trial.way;
                same && other.trial.trouble == Trouble::None
            })
            .map_or(Duration::ZERO, |other| other.outcome.median_delay);
        let added = outcome.median_delay.as_secs_f64() - clean.as_secs_f64();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} ms | {:.0} ms |",
            row.work.trial.trouble,
            rate(&row.work.trial),
            row.work.trial.way,
            servers[row.work.server].name(),
            outcome.sent,
            outcome.delivered,
            outcome.lost,
            outcome.doubled,
            outcome.out_of_order,
            outcome.returned,
            outcome.closed.len(),
            outcome.counts.faults,
            added * 1000.0,
            outcome.longest_delay.as_secs_f64() * 1000.0,
        )
        .map_err(|error| error.to_string())?;
    }
    text.push_str(MEANINGS);
    Ok(text)
}

const MEANINGS: &str = "
The faults:

- **reset-before**, **reset-during**, **reset-after**: the connection is reset before the request is forwarded, with half of it forwarded, or after the server has answered; that answer is lost.
- **cut-answer**: a reset after half of the answer.
- **status-407**, **-502**, **-503**, **-504**: this status and a page of the proxy's, nothing forwarded. **status-504-after**: the server has answered, and the answer is lost.
- **cut-long-poll**: every request older than 0.3 s gets a 504. Messages come in bursts, so that there are such requests.
- **close-idle**: a kept connection closes unannounced, behind an answer or just when the next request arrives.
- **http10**: the answer comes as HTTP/1.0, without a length. **buffer**: it is late by up to 0.3 s.
- **resend-post**: the proxy sends the request to the server twice and passes on the answer that comes first.
- **blackhole**: the request is swallowed and the connection stays open; at most three times a session, as each costs 15 s or more. These sessions ask for a `wait` of 5 s.
- **outage**: half way through, every connection is reset, and so is every new one until the time is over. Both sides go on writing.

About resend-post: the server answers the first copy of a request with nothing when the second comes, and what it has to say
next goes to the second copy, which the proxy throws away. Both servers keep their last two answers, so xbosh asks for an empty
answer once more where a proxy may do such a thing, which is plain http through an HTTP proxy, or was seen to: a small request
more for each that is answered empty.

Where a row of ejabberd's shows a closed stream and returned messages: ejabberd puts a request aside that arrives before an older one, looks at
it again only when it answers that one with stanzas, and ends the session when the request is repeated. If silence has
swallowed the older one twice, no client can tell whether the newer one was put aside or never came, and nothing but a stanza
for the client would release it. A proxy that repeats a request while it is put aside has the same effect. The client is told,
and everything that is not confirmed comes back to it.
";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
