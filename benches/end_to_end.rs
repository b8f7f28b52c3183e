//! The `xbosh` binary between the same client and the same embedded server, beside direct TCP, in one run.
//!
//! `cargo bench --bench end_to_end` prints a table of medians over interleaved rounds. Absolute numbers
//! belong to the machine; only the ratios of one run say something. Every receiver checks order and content.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use xbosh_testkit::client::{Account, Client, Mechanism};
use xbosh_testkit::cm::{Cm, Profile};
use xbosh_testkit::proxy::{HttpProxy, HttpTrick, ProxyOptions};
use xbosh_testkit::real::Sidecar;
use xbosh_testkit::tls::Authority;
use xbosh_testkit::xmpp::Server;

type Failure = Box<dyn std::error::Error>;

const DOMAIN: &str = "localhost";
const ROUNDS: usize = 7;
const PINGS: usize = 300;
const MESSAGES: usize = 5000;
const IDLE_STREAMS: usize = 100;

/// A way to the server, and what was measured on it.
struct Way {
    name: &'static str,
    addr: SocketAddr,
    sidecar: Option<Sidecar>,
    login_ms: Vec<f64>,
    ping_us: Vec<f64>,
    ping_p99_us: Vec<f64>,
    out_per_s: Vec<f64>,
    in_per_s: Vec<f64>,
    cpu_ping_us: Vec<f64>,
    cpu_message_us: Vec<f64>,
}

impl Way {
    fn new(name: &'static str, addr: SocketAddr, sidecar: Option<Sidecar>) -> Self {
        let none = Vec::new;
        Self {
            name,
            addr,
            sidecar,
            login_ms: none(),
            ping_us: none(),
            ping_p99_us: none(),
            out_per_s: none(),
            in_per_s: none(),
            cpu_ping_us: none(),
            cpu_message_us: none(),
        }
    }

    /// Processor time of the sidecar so far, in microseconds; clock ticks are 10 ms.
    fn cpu_us(&self) -> f64 {
        let stat = self
            .sidecar
            .as_ref()
            .and_then(|s| fs::read_to_string(format!("/proc/{}/stat", s.pid())).ok());
        let ticks: f64 = stat
            .as_deref()
            .and_then(|stat| stat.rsplit_once(") "))
            .map_or(0.0, |(_, rest)| {
                rest.split(' ')
                    .skip(11)
                    .take(2)
                    .filter_map(|t| t.parse::<f64>().ok())
                    .sum()
            });
        ticks * 10_000.0
    }

    fn resident_kib(&self) -> f64 {
        let status = self
            .sidecar
            .as_ref()
            .and_then(|s| fs::read_to_string(format!("/proc/{}/status", s.pid())).ok());
        let line = status
            .as_deref()
            .and_then(|s| s.lines().find(|line| line.starts_with("VmRSS:")));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0.0)
    }

    async fn round(&mut self, direct: SocketAddr) -> Result<(), Failure> {
        let account = Account::new("user", DOMAIN, "password");
        let began = Instant::now();
        let mut client = Client::login(self.addr, &account, Mechanism::Plain).await?;
        self.login_ms.push(began.elapsed().as_secs_f64() * 1e3);

        let cpu = self.cpu_us();
        let mut pings = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            client.ping().await?;
            pings.push(began.elapsed().as_secs_f64() * 1e6);
        }
        self.cpu_ping_us.push((self.cpu_us() - cpu) / PINGS as f64);
        pings.sort_by(f64::total_cmp);
        self.ping_us.push(pings[PINGS / 2]);
        self.ping_p99_us.push(pings[PINGS * 99 / 100]);

        let mut peer = Client::login(
            direct,
            &Account::new("peer", DOMAIN, "password"),
            Mechanism::Plain,
        )
        .await?;
        let (there, here) = (peer.jid().to_owned(), client.jid().to_owned());
        let cpu = self.cpu_us();
        self.out_per_s
            .push(bulk(&mut client, &mut peer, &there).await?);
        self.in_per_s
            .push(bulk(&mut peer, &mut client, &here).await?);
        self.cpu_message_us
            .push((self.cpu_us() - cpu) / (2 * MESSAGES) as f64);
        client.logout().await?;
        peer.logout().await?;
        Ok(())
    }
}

/// Messages per second from one client to the other, each checked.
async fn bulk(from: &mut Client, to: &mut Client, jid: &str) -> Result<f64, Failure> {
    let mut batch = String::new();
    for n in 0..MESSAGES {
        write!(
            batch,
            "<message to='{jid}' type='chat' id='m{n}'><body>message number {n} of many</body></message>"
        )?;
    }
    let began = Instant::now();
    let receive = async {
        for n in 0..MESSAGES {
            let stanza = to.wait_for(|stanza| stanza.name() == "message").await?;
            let id = stanza.attribute("id");
            if id.as_deref() != Some(format!("m{n}").as_str()) {
                return Err(format!("expected m{n}, got {id:?}").into());
            }
        }
        Ok::<(), Failure>(())
    };
    let (sent, received) = tokio::join!(from.send(&batch), receive);
    sent?;
    received?;
    Ok(MESSAGES as f64 / began.elapsed().as_secs_f64())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn sidecar(url: &str, extra: &str) -> Result<Sidecar, Failure> {
    let config = format!("[domains.\"{DOMAIN}\"]\nurl = \"{url}\"\n{extra}");
    Ok(Sidecar::start(
        Path::new(env!("CARGO_BIN_EXE_xbosh")),
        &config,
    )?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let server = Server::new(DOMAIN);
    for user in ["user", "peer"] {
        server.add_user(user, "password");
    }
    let authority = Authority::new();
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, authority.pem())?;
    let ca = format!("ca_file = \"{}\"\n", ca.display());
    let direct = server.listen().await;
    let http = Cm::start(&server, Profile::strict(), None).await;
    let https = Cm::start(
        &server,
        Profile::strict(),
        Some(authority.acceptor(&[DOMAIN])),
    )
    .await;
    let mut options = ProxyOptions::default();
    options.names.insert(DOMAIN.into(), [127, 0, 0, 1].into());
    let proxy = HttpProxy::start(options, HttpTrick::None).await;
    let through = format!(
        "{ca}[domains.\"{DOMAIN}\".proxy]\nurl = \"http://{}\"\n",
        proxy.addr()
    );

    let mut ways = vec![Way::new("direct TCP", direct.addr(), None)];
    let began = Instant::now();
    let first = sidecar(&http.url(DOMAIN), "")?;
    let start_ms = began.elapsed().as_secs_f64() * 1e3;
    let rest = [
        ("xbosh, http", first),
        ("xbosh, https", sidecar(&https.url(DOMAIN), &ca)?),
        (
            "xbosh, https by CONNECT",
            sidecar(&https.url(DOMAIN), &through)?,
        ),
    ];
    ways.extend(
        rest.into_iter()
            .map(|(name, sidecar)| Way::new(name, sidecar.addr(), Some(sidecar))),
    );
    let fresh: Vec<f64> = ways.iter().map(Way::resident_kib).collect();

    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.round(direct.addr()).await?;
        }
    }

    say(
        "way                       login ms  ping µs   p99 µs   out/s    in/s  CPU µs/ping  CPU µs/msg  RSS KiB  KiB/stream",
    )?;
    for (way, fresh) in ways.iter().zip(fresh) {
        let (before, each) = idle_memory(way).await?;
        say(&format!(
            "{:<24} {:>9.2} {:>8.0} {:>8.0} {:>7.0} {:>7.0} {:>12.0} {:>11.1} {:>8.0} {:>11.1}",
            way.name,
            median(&way.login_ms),
            median(&way.ping_us),
            median(&way.ping_p99_us),
            median(&way.out_per_s),
            median(&way.in_per_s),
            median(&way.cpu_ping_us),
            median(&way.cpu_message_us),
            fresh.max(before.min(fresh)),
            each,
        ))?;
    }
    let base = ways.first().ok_or("no way")?;
    say("\nratio to direct TCP, paired by round (median): login, ping, out, in")?;
    for way in &ways[1..] {
        let paired = |ours: &[f64], theirs: &[f64]| {
            median(
                &ours
                    .iter()
                    .zip(theirs)
                    .map(|(a, b)| a / b)
                    .collect::<Vec<_>>(),
            )
        };
        say(&format!(
            "{:<24} {:>6.2} {:>6.2} {:>6.2} {:>6.2}",
            way.name,
            paired(&way.login_ms, &base.login_ms),
            paired(&way.ping_us, &base.ping_us),
            paired(&way.out_per_s, &base.out_per_s),
            paired(&way.in_per_s, &base.in_per_s),
        ))?;
    }
    say(&format!(
        "\nxbosh accepts clients {start_ms:.1} ms after its start"
    ))
}

/// Resident memory before and the growth for each of many idle bound streams.
async fn idle_memory(way: &Way) -> Result<(f64, f64), Failure> {
    let before = way.resident_kib();
    let mut clients = Vec::with_capacity(IDLE_STREAMS);
    for _ in 0..IDLE_STREAMS {
        clients.push(
            Client::login(
                way.addr,
                &Account::new("user", DOMAIN, "password"),
                Mechanism::Plain,
            )
            .await?,
        );
    }
    // Every stream comes to rest with one request held.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let grown = way.resident_kib() - before;
    drop(clients);
    Ok((before, grown / IDLE_STREAMS as f64))
}

fn say(line: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}
