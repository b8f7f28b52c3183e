//! One target on one way, put through a round.

use std::path::PathBuf;

use super::link::{Link, Way};
use super::process::Cpu;
use super::results::{Metric, Results, Target};
use super::stage::{Path, Stage};
use super::stats::at;
use super::{Loader, Pace, load};
use crate::real::Sidecar;

/// How much a round holds.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Logins one after the other, beside the first.
    pub logins: usize,
    /// Pings one after the other.
    pub pings: usize,
    /// Messages out, and as many in.
    pub messages: usize,
    /// Messages there and back.
    pub echoes: usize,
}

/// Echoed messages on the way at a time.
const IN_FLIGHT: usize = 32;
/// Seconds that a request may be held.
pub(super) const WAIT: u64 = 55;
/// Pings before those that count.
const WARM: usize = 30;

/// The programs at work.
#[derive(Clone, Debug)]
pub struct Programs {
    /// What hands `load ARGUMENTS` to [`super::loader::run`].
    pub load: PathBuf,
    /// The sidecar.
    pub xbosh: PathBuf,
}

/// A target on a way, running.
pub struct Subject {
    target: Target,
    path: Path,
    loader: Loader,
    sidecar: Option<Sidecar>,
}

impl Subject {
    /// Starts its processes. xbosh dies with the thread that started it.
    ///
    /// # Errors
    /// They do not start.
    pub fn start(
        programs: &Programs,
        stage: &Stage,
        path: Path,
        target: Target,
    ) -> Result<Self, String> {
        let mut sidecar = None;
        let stream = |addr: std::net::SocketAddr| vec!["stream".to_owned(), addr.to_string()];
        let arguments = match target {
            Target::Direct => stream(stage.c2s),
            Target::Floor => floor(stage, path),
            Target::Xbosh => {
                let started = Sidecar::start(&programs.xbosh, &configuration(stage, path))?;
                stream(sidecar.insert(started).addr())
            }
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ok(Self {
            target,
            path,
            loader: Loader::start(&programs.load, &arguments)?,
            sidecar,
        })
    }

    /// Whose costs count: the sidecar's, or those of the program that speaks to the server itself.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.sidecar {
            Some(sidecar) => sidecar.pid(),
            None => self.loader.pid(),
        }
    }

    pub(super) const fn loader(&mut self) -> &mut Loader {
        &mut self.loader
    }

    pub(super) const fn key(&self) -> (Path, Target) {
        (self.path, self.target)
    }

    /// One round of everything under load.
    ///
    /// # Errors
    /// Something failed, above all a lost, reordered or changed message.
    pub async fn round(
        &mut self,
        stage: &Stage,
        amounts: Amounts,
        results: &mut Results,
    ) -> Result<(), String> {
        let done = self.put_through(stage, amounts, results).await;
        done.map_err(|why| self.explain(stage, &why))
    }

    async fn put_through(
        &mut self,
        stage: &Stage,
        amounts: Amounts,
        results: &mut Results,
    ) -> Result<(), String> {
        let (path, target, pid) = (self.path, self.target, self.pid());
        let mut push = |metric, value| results.push(path, target, metric, value);
        let (account, mut peer) = ends(stage).await?;
        // The first of a process makes ready what the others share.
        push(Metric::FirstLogin, self.loader.login(account).await?.0);
        self.loader.logout().await?;
        let mut logins = Vec::new();
        for _ in 1..amounts.logins {
            logins.push(self.loader.login(account).await?.0);
            self.loader.logout().await?;
        }
        let (last, jid) = self.loader.login(account).await?;
        logins.push(last);
        logins.sort_by(f64::total_cmp);
        push(Metric::Login, at(&logins, 0.5).unwrap_or(f64::NAN));

        self.loader.ping(WARM).await?;
        let before = Cpu::of(pid)?;
        let mut pings = self.loader.ping(amounts.pings).await?;
        let spent = Cpu::of(pid)?.since(&before);
        pings.sort_by(f64::total_cmp);
        push(Metric::Ping, at(&pings, 0.5).unwrap_or(f64::NAN));
        push(Metric::PingP99, at(&pings, 0.99).unwrap_or(f64::NAN));
        push(Metric::CpuPing, micros_each(spent, amounts.pings));

        let there = peer.jid().to_owned();
        let count = amounts.messages;
        let before = Cpu::of(pid)?;
        let began = tokio::time::Instant::now();
        let received = load::receive(&mut peer, count);
        tokio::try_join!(self.loader.send(&there, count), received)?;
        push(Metric::Out, per_second(count, began));
        let spent = Cpu::of(pid)?.since(&before);
        push(Metric::CpuOut, micros_each(spent, count));

        let before = Cpu::of(pid)?;
        let began = tokio::time::Instant::now();
        let sent = load::send(&mut peer, &jid, count);
        tokio::try_join!(self.loader.receive(count), sent)?;
        push(Metric::In, per_second(count, began));
        let spent = Cpu::of(pid)?.since(&before);
        push(Metric::CpuIn, micros_each(spent, count));

        let count = amounts.echoes;
        let began = tokio::time::Instant::now();
        let sent_back = load::send_back(&mut peer, &jid, count);
        let echoed = self.loader.echo(&there, count, IN_FLIGHT);
        tokio::try_join!(echoed, sent_back)?;
        push(Metric::Echo, per_second(count, began));

        self.loader.logout().await?;
        peer.logout().await
    }

    /// Delays on the way out under each of these loads.
    ///
    /// # Errors
    /// As [`Self::round`].
    pub async fn delays(
        &mut self,
        stage: &Stage,
        paces: &[Pace],
        results: &mut Results,
    ) -> Result<(), String> {
        let done = self.time_messages(stage, paces, results).await;
        done.map_err(|why| self.explain(stage, &why))
    }

    async fn time_messages(
        &mut self,
        stage: &Stage,
        paces: &[Pace],
        results: &mut Results,
    ) -> Result<(), String> {
        let (account, mut peer) = ends(stage).await?;
        let there = peer.jid().to_owned();
        self.loader.login(account).await?;
        self.loader.ping(WARM).await?;
        for &pace in paces {
            let delays = load::delays(&mut peer, pace.messages());
            let (delays, ()) = tokio::try_join!(delays, self.loader.paced(&there, pace))?;
            results.push_delays(self.path, self.target, pace, delays);
        }
        self.loader.logout().await?;
        peer.logout().await
    }

    pub(super) fn explain(&self, stage: &Stage, why: &str) -> String {
        let (server, path, target) = (stage.name, self.path, self.target);
        let log = self.sidecar.as_ref().map(Sidecar::log).unwrap_or_default();
        format!("{server}, {path}, {target}: {why}\n{log}")
    }
}

/// The account under test, and the peer on direct TCP.
async fn ends(stage: &Stage) -> Result<(&crate::client::Account, Link), String> {
    let [account, .., peer] = stage.accounts() else {
        return Err("the stage has no accounts".to_owned());
    };
    let peer = Link::login(&Way::Stream(stage.c2s.into()), peer).await?;
    Ok((account, peer))
}

fn micros_each(spent: std::time::Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / count as f64
}

fn per_second(count: usize, began: tokio::time::Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

fn floor(stage: &Stage, path: Path) -> Vec<String> {
    let proxy = stage.upstream(path).map_or_else(
        || "-".to_owned(),
        |upstream| {
            let login = match &upstream.credentials {
                Some((user, password)) => format!("{user}:{password}@"),
                None => String::new(),
            };
            format!("{}://{login}{}", upstream.scheme, upstream.addr)
        },
    );
    vec![
        "bosh".to_owned(),
        stage.url(path).to_owned(),
        WAIT.to_string(),
        stage.ca_file.display().to_string(),
        proxy,
    ]
}

fn configuration(stage: &Stage, path: Path) -> String {
    let proxy = stage.upstream(path).map_or_else(
        || "url = \"none\"\n".to_owned(),
        |upstream| {
            let login = match &upstream.credentials {
                Some((user, password)) => {
                    format!("username = \"{user}\"\npassword = \"{password}\"\n")
                }
                None => String::new(),
            };
            format!("url = \"{}://{}\"\n{login}", upstream.scheme, upstream.addr)
        },
    );
    format!(
        "[proxy]\n{proxy}[tls]\nca_file = \"{ca}\"\n[bosh]\nwait = {WAIT}\n[limits]\nmax_streams = 8192\n\
         session_rate = 100000\n[domains.\"{domain}\"]\nurl = \"{url}\"\n",
        ca = stage.ca_file.display(),
        domain = stage.domain,
        url = stage.url(path),
    )
}
