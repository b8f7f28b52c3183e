//! Does every message arrive once and in order while the network misbehaves?
//!
//! [`Trial::run`] puts xbosh between a client and a real server, with a [`FaultyProxy`] in its way out. The client
//! and a peer on direct TCP send each other numbered messages at a steady pace, and the tally says what became of
//! them. Log-in and log-out are left alone; so is the direct connection.

mod tally;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

pub use tally::Outcome;
use tally::{Direction, Tally};

use crate::client::{Client, ClientError, Mechanism, Reader, Writer};
use crate::proxy::{FaultKind, FaultPlan, FaultyProxy};
use crate::real::{Server, Sidecar};

/// How long nothing at all may arrive before what is missing counts as lost. Longer than a request that is
/// swallowed can stall a session: [`WAIT`] and 15 s, and once more for its repeat.
const PATIENCE: Duration = Duration::from_secs(45);
/// Time for the last words, on a path that is clean again.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// `wait` asked for where requests are swallowed, in seconds: nobody tells the client of it, so that only `wait`
/// and a margin end such a request when no other follows.
const WAIT: u64 = 5;
/// Messages between two pauses, where long polls are what is to be hit.
const BURST: usize = 10;

/// What is done to the network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Requests are hit by this fault, at this rate.
    Fault(FaultKind, f64),
    /// It goes away once, half way through, for so long.
    Outage(Duration),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Fault(kind, _) => kind.fmt(f),
            Self::Outage(lasts) => write!(f, "outage of {} s", lasts.as_secs_f64()),
        }
    }
}

/// How xbosh speaks to the manager through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Plain http in absolute form: the proxy reads, and hits, requests.
    Http,
    /// https by CONNECT: the proxy sees pieces of a tunnel.
    Connect,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Connect => "CONNECT",
        })
    }
}

/// One run with one trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// What happens to the network.
    pub trouble: Trouble,
    /// How the manager is spoken to.
    pub way: Way,
    /// Messages each way.
    pub messages: usize,
    /// Time from one pair of messages to the next.
    pub pace: Duration,
    /// Draws the requests that are hit.
    pub seed: u64,
    /// No more faults than these.
    pub most: Option<u64>,
}

impl Trial {
    /// Runs it with this xbosh in front of this server. Must be called on a runtime of one thread that lives until
    /// the end, since xbosh dies with the thread that started it.
    ///
    /// # Errors
    /// What kept it from starting; whatever happens after log-in is in the [`Outcome`].
    pub async fn run(&self, xbosh: &Path, server: &dyn Server) -> Result<Outcome, String> {
        let proxy = FaultyProxy::start(self.plan()).await;
        let sidecar = Sidecar::start(xbosh, &self.config(server, &proxy))?;
        let said = |error: ClientError| format!("login failed: {error}; {}", sidecar.log());
        let names = names();
        let account = server.add_account(&names)?;
        let other = server.add_account(&format!("peer-of-{names}"))?;
        let mut client = Client::login(sidecar.addr(), &account, Mechanism::Scram)
            .await
            .map_err(said)?;
        let mut peer = Client::login(server.c2s(), &other, Mechanism::Scram)
            .await
            .map_err(said)?;
        for side in [&mut client, &mut peer] {
            side.available(None).await.map_err(said)?;
            side.ping().await.map_err(said)?;
        }

        let tally = Tally::new(self.messages);
        let jids = [client.jid().to_owned(), peer.jid().to_owned()];
        let (client_in, client_out) = client.split();
        let (peer_in, peer_out) = peer.split();
        let [client_jid, peer_jid] = jids;
        let mut ends = Ends {
            at_peer: collect(peer_in, &client_jid, Direction::Up, &tally),
            at_client: collect(client_in, &peer_jid, Direction::Down, &tally),
            client_out,
            peer_out,
            client_jid,
            peer_jid,
        };
        proxy.arm();
        self.send_all(&mut ends, &tally, &proxy).await;
        tally.settle(self.patience()).await;
        proxy.disarm();
        let domain = server.domain();
        ends.say_last_words(domain, &tally).await;
        let mut outcome = tally.outcome(proxy.counts());
        if !outcome.is_sound() {
            outcome.log = format!(
                "{self:?}\n{outcome}\n\n--- the proxy\n{}\n--- xbosh\n{}",
                proxy.log(),
                sidecar.log()
            );
        }
        Ok(outcome)
    }

    fn plan(&self) -> FaultPlan {
        let (kind, rate) = match self.trouble {
            Trouble::Fault(kind, rate) => (kind, rate),
            Trouble::None | Trouble::Outage(_) => (FaultKind::Buffer, 0.0),
        };
        FaultPlan {
            kind,
            rate,
            seed: self.lots(),
            most: self.most,
        }
    }

    /// Every trouble draws lots of its own from the seed (FNV-1a).
    fn lots(&self) -> u64 {
        let name = self.trouble.to_string();
        name.bytes().fold(self.seed, |lots, byte| {
            (lots ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    fn config(&self, server: &dyn Server, proxy: &FaultyProxy) -> String {
        let bosh = match self.trouble {
            Trouble::Fault(FaultKind::Blackhole, _) => format!("[bosh]\nwait = {WAIT}\n"),
            _ => String::new(),
        };
        format!(
            "[proxy]\nurl = \"http://{}\"\n{bosh}[log]\nlevel = \"debug\"\n[tls]\nca_file = \"{}\"\n\
             [domains.\"{}\"]\nurl = \"{}\"\n",
            proxy.addr(),
            server.ca_file().display(),
            server.domain(),
            server.bosh_url(self.way == Way::Connect, "127.0.0.1")
        )
    }

    /// Pause behind this message on top of the pace. Where long polls are cut, the next burst begins just before,
    /// while or after that happens.
    fn pause(&self, number: usize) -> Duration {
        match self.trouble {
            Trouble::Fault(FaultKind::CutLongPoll(limit), _)
                if (number + 1).is_multiple_of(BURST) =>
            {
                let step = (number / BURST % 15) as f64;
                limit.mul_f64(0.95 + step / 100.0)
            }
            _ => Duration::ZERO,
        }
    }

    fn patience(&self) -> Duration {
        match self.trouble {
            Trouble::Outage(lasts) => PATIENCE + lasts,
            Trouble::None | Trouble::Fault(..) => PATIENCE,
        }
    }

    async fn send_all(&self, ends: &mut Ends, tally: &Arc<Tally>, proxy: &FaultyProxy) {
        let mut next = Instant::now();
        for number in 0..self.messages {
            if let Trouble::Outage(lasts) = self.trouble
                && number == self.messages / 2
            {
                proxy.outage(lasts);
            }
            let body = number.to_string();
            tally.sent(Direction::Up, number);
            if ends
                .client_out
                .message(&ends.peer_jid, &body)
                .await
                .is_err()
            {
                // The reader knows why.
                return;
            }
            tally.sent(Direction::Down, number);
            if let Err(error) = ends.peer_out.message(&ends.client_jid, &body).await {
                tally.ended(Direction::Up, &error.to_string());
                return;
            }
            next += self.pace + self.pause(number);
            sleep_until(next).await;
        }
    }
}

/// Both clients, taken apart.
struct Ends {
    client_out: Writer,
    peer_out: Writer,
    at_client: JoinHandle<()>,
    at_peer: JoinHandle<()>,
    client_jid: String,
    peer_jid: String,
}

impl Ends {
    /// A ping's answer comes after all that the server sent before, so a doubled message comes first. The peer
    /// asks second: what the client sent has been routed then.
    async fn say_last_words(&mut self, domain: &str, tally: &Arc<Tally>) {
        let ping =
            format!("<iq type='get' id='last' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>");
        // Readers say how a stream ended.
        let _ = self.client_out.send(&ping).await;
        if timeout(LAST_WORDS, &mut self.at_client).await.is_err() {
            tally.ended(Direction::Down, "no answer to the last ping");
            self.at_client.abort();
        }
        let _ = self.peer_out.send(&ping).await;
        if timeout(LAST_WORDS, &mut self.at_peer).await.is_err() {
            tally.ended(Direction::Up, "no answer to the last ping");
            self.at_peer.abort();
        }
        let _ = self.client_out.send("</stream:stream>").await;
        let _ = self.peer_out.send("</stream:stream>").await;
    }
}

/// Counts what comes from `from` until the answer to the last ping, or the end of the stream.
fn collect(
    mut reader: Reader,
    from: &str,
    direction: Direction,
    tally: &Arc<Tally>,
) -> JoinHandle<()> {
    let (from, tally) = (from.to_owned(), Arc::clone(tally));
    // The runner's own limits end it.
    reader.set_deadline(Duration::from_secs(24 * 3600));
    tokio::spawn(async move {
        loop {
            let stanza = match reader.next_stanza().await {
                Ok(stanza) => stanza,
                Err(error) => return tally.ended(direction, &error.to_string()),
            };
            if stanza.attribute("id").as_deref() == Some("last") {
                // An error is what xbosh gives back that it could not deliver: the stream is about to end.
                match stanza.is("iq", "result") {
                    true => return,
                    false => continue,
                }
            }
            let is_ours = stanza.is("message", "chat")
                && stanza.attribute("from").as_deref() == Some(from.as_str());
            if is_ours && let Some(number) = stanza.child_text("body").and_then(|b| b.parse().ok())
            {
                tally.received(direction, number);
            } else if stanza.name() == "message" {
                tally.stranger(&stanza.text());
            }
        }
    })
}

/// A user name that no other run of this process has.
fn names() -> String {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    format!("run-{}", RUNS.fetch_add(1, Ordering::Relaxed))
}
