//! Many sessions of one xbosh with one server behind nginx, over HTTP/1.1 or HTTP/2: what they take.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Client, Mechanism};
use crate::real::{Nginx, Server, Sidecar};

/// Log-ins at once.
const AT_ONCE: usize = 8;
/// Clock ticks a second, as `/proc` counts CPU time on Linux.
const TICKS: f64 = 100.0;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    /// `bosh.http_version`.
    pub http_version: &'static str,
    /// Sessions that stay open.
    pub sessions: usize,
    /// Pings of each, one after another.
    pub pings: usize,
}

/// What it came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Connections between xbosh and nginx while all sessions are idle.
    pub connections: f64,
    /// Memory of xbosh by then that no session was there for before, in KiB a session.
    pub kib_per_session: f64,
    /// From the client's connect until it is bound, in milliseconds: the median of all.
    pub login_ms: f64,
    /// A lone ping's way to the server and back, in microseconds: median and 99th percentile.
    pub ping_us: f64,
    /// See [`Self::ping_us`].
    pub ping_p99_us: f64,
    /// The same while every session pings.
    pub crowded_ping_us: f64,
    /// CPU time of xbosh for a lone ping, in microseconds.
    pub cpu_us: f64,
}

/// Measures; accounts are made by a number that `next` gives.
///
/// # Errors
/// What is wrong.
pub async fn measure(
    xbosh: &Path,
    server: &dyn Server,
    crowd: Crowd,
    name: &str,
) -> Result<Figures, String> {
    let nginx = Nginx::start_http2(&server.bosh_url(false, "127.0.0.1"), 1_000_000)?;
    let config = format!(
        "[proxy]\nurl = \"none\"\n[tls]\nca_file = \"{}\"\n[bosh]\nhttp_version = \"{}\"\n[domains.\"{}\"]\nurl = \"{}\"\n",
        nginx.ca_file().display(),
        crowd.http_version,
        server.domain(),
        nginx.bosh_url(true, "localhost"),
    );
    let sidecar = Sidecar::start(xbosh, &config)?;
    // The first session brings up what all share: roots, allocator, threads.
    let (first, _) = login(&sidecar, server, &format!("{name}-first")).await?;
    first.logout().await.map_err(|error| error.to_string())?;
    let before = resident_kib(sidecar.pid())?;
    let mut clients = Vec::with_capacity(crowd.sessions);
    let mut logins = Vec::with_capacity(crowd.sessions);
    let numbers: Vec<usize> = (0..crowd.sessions).collect();
    for some in numbers.chunks(AT_ONCE) {
        let names: Vec<String> = some.iter().map(|n| format!("{name}-{n}")).collect();
        let mut begun = Vec::new();
        for name in &names {
            begun.push(Box::pin(login(&sidecar, server, name)));
        }
        for done in all(begun).await {
            let (client, took) = done?;
            clients.push(client);
            logins.push(took);
        }
    }
    // Until every session has settled to one held request.
    for client in &mut clients {
        ping(client).await?;
    }
    let connections = nginx.open_connections() as f64;
    let memory = resident_kib(sidecar.pid())?.saturating_sub(before) as f64;
    let cpu = cpu_ticks(sidecar.pid())?;
    let mut lone = Vec::with_capacity(crowd.sessions * crowd.pings);
    for _ in 0..crowd.pings {
        for client in &mut clients {
            lone.push(ping(client).await?);
        }
    }
    let cpu = cpu_ticks(sidecar.pid())?.saturating_sub(cpu) as f64;
    let crowded = clients.iter_mut().map(|client| {
        Box::pin(async move {
            let mut times = Vec::with_capacity(crowd.pings);
            for _ in 0..crowd.pings {
                times.push(ping(client).await?);
            }
            Ok::<_, String>(times)
        })
    });
    let crowded: Result<Vec<_>, String> = all(crowded.collect()).await.into_iter().collect();
    let crowded: Vec<Duration> = crowded?.into_iter().flatten().collect();
    let figures = Figures {
        connections,
        kib_per_session: memory / crowd.sessions as f64,
        login_ms: micros(&mut logins, 0.5) / 1000.0,
        cpu_us: cpu / TICKS * 1e6 / lone.len() as f64,
        ping_us: micros(&mut lone, 0.5),
        ping_p99_us: micros(&mut lone, 0.99),
        crowded_ping_us: micros(&mut { crowded }, 0.5),
    };
    for client in clients {
        client.logout().await.map_err(|error| error.to_string())?;
    }
    Ok(figures)
}

async fn login(
    sidecar: &Sidecar,
    server: &dyn Server,
    name: &str,
) -> Result<(Client, Duration), String> {
    let account = server.add_account(name)?;
    let began = Instant::now();
    let client = Client::login(sidecar.addr(), &account, Mechanism::Plain);
    let client = client.await.map_err(|error| format!("{name}: {error}"))?;
    Ok((client, began.elapsed()))
}

async fn ping(client: &mut Client) -> Result<Duration, String> {
    let began = Instant::now();
    client.ping().await.map_err(|error| error.to_string())?;
    Ok(began.elapsed())
}

/// All of them at once, in this task.
async fn all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none() {
                match std::pin::Pin::new(future).poll(cx) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        match ready {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// The time that this share of them is not above.
fn micros(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    let time = times.get(at.min(times.len().saturating_sub(1)));
    time.map_or(0.0, Duration::as_secs_f64) * 1e6
}

fn resident_kib(pid: u32) -> Result<u64, String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| "no VmRSS".to_owned())
}

/// User and system time.
fn cpu_ticks(pid: u32) -> Result<u64, String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let stat = stat.map_err(|error| error.to_string())?;
    // Behind the name, which may hold anything, the 12th and 13th of the words.
    let words = stat.rsplit(')').next().unwrap_or_default();
    let mut times = words.split_whitespace().skip(11);
    let mut time = || times.next()?.parse::<u64>().ok();
    let both = time().zip(time()).map(|(user, system)| user + system);
    both.ok_or_else(|| "no CPU time".to_owned())
}
