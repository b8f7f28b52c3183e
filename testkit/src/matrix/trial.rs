//! What a client has to do, and what came of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::driver::{Driver, Running};
use super::streams::{Stream, streams_of};
use super::used::{Names, Used, excerpt};
use crate::client::{Client, Mechanism, Stanza};
use crate::proxy::FaultyProxy;
use crate::real::{Server, Sidecar};

/// Longest login; a graphical client on a busy machine takes its time.
const LOGIN: Duration = Duration::from_secs(150);
/// Longest logout: drivers wait half a minute for their programs.
const LOGOUT: Duration = Duration::from_secs(60);
/// An answer about a session that is over takes no longer.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// `stream_management.resume_window`, by default.
const RESUME_WINDOW: Duration = Duration::from_secs(60);
/// Longest way of a message.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Longest way of a message that was sent while the network was away; xbosh may be waiting for its next try.
const LATE_ARRIVAL: Duration = Duration::from_secs(90);
/// Between two looks at xbosh's streams.
const LOOK: Duration = Duration::from_millis(20);
/// Messages after which a stream has to have been seen that lasts for one only.
const LOOKS: usize = 10;

/// Where clients are tried.
pub struct Stage<'a> {
    /// The server.
    pub server: &'a dyn Server,
    /// What the client connects to.
    pub xbosh: &'a Sidecar,
    /// The local authority of the server's domain.
    pub ca: PathBuf,
    /// Where logs and screenshots go.
    pub out: PathBuf,
    /// More variables for drivers: where their libraries are.
    pub environment: Vec<(&'static str, String)>,
}

/// One client on one stage.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// The client.
    pub driver: &'a Driver,
    /// The stage.
    pub stage: &'a Stage<'a>,
    /// `default`, `plain`, `starttls` or `direct`.
    pub security: &'static str,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Name and version as the client says them.
    pub version: String,
    /// Time to log in.
    pub login: Duration,
    /// What xbosh says of the stream: `plain`, `starttls` or `direct`.
    pub secured: &'static str,
    /// It cannot receive, and logs in for each message anew.
    pub sends_only: bool,
    /// What its driver wrote and ran, with names of examples.
    pub used: Vec<Used>,
    /// What an outage did to it.
    pub outage: Option<Outage>,
    /// Messages sent each way.
    pub sent: usize,
    /// Messages that did not arrive.
    pub lost: usize,
    /// Messages that arrived again.
    pub doubled: usize,
    /// What the client said each time that its stream was gone.
    pub interruptions: Vec<String>,
}

/// What an outage did to a client's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outage {
    /// Requests that the network cut off.
    pub cut: u64,
    /// Requests that xbosh repeated meanwhile.
    pub repeats: u64,
}

/// A client that is online, and its peer on the server.
pub struct Online<'a> {
    running: Running,
    peer: Client,
    trial: Trial<'a>,
    home: PathBuf,
    names: Names,
    /// Where its peer answers: of what it last sent, unless its driver has told of one that stays.
    full_jid: Option<String>,
    listens: bool,
    outcome: Outcome,
    /// Texts the client has shown.
    got: Vec<String>,
    texts: usize,
    /// The stream before an outage.
    before: Option<Stream>,
}

impl<'a> Trial<'a> {
    fn name(&self) -> String {
        format!(
            "{}-{}-{}",
            self.driver.name,
            self.stage.server.name(),
            self.security
        )
    }

    /// What requests of its stream hold once it has spoken: its peer's address.
    #[must_use]
    pub fn mark(&self) -> String {
        format!("{}@{}", self.peer_name(), self.stage.server.domain())
    }

    fn user(&self) -> String {
        self.name().replace(['@', '/', ' ', '.'], "-")
    }

    fn peer_name(&self) -> String {
        format!("peer-of-{}", self.user())
    }

    /// The file in [`Stage::out`] that has what the driver wrote of its troubles.
    #[must_use]
    pub fn log_name(&self) -> String {
        format!("{}.log", self.name())
    }

    /// Logs in.
    ///
    /// # Errors
    /// What failed.
    pub async fn login(&self, home: &Path) -> Result<Online<'a>, String> {
        let Self { driver, stage, .. } = self;
        let server = stage.server;
        let user = self.user();
        let account = server.add_account(&user)?;
        let other = server.add_account(&self.peer_name())?;
        let mut peer = Client::login(server.c2s(), &other, Mechanism::Plain)
            .await
            .map_err(|error| format!("the peer: {error}"))?;
        peer.available(None).await.map_err(|e| e.to_string())?;
        peer.set_deadline(ARRIVAL);
        let home = home.join(self.name());
        fs::create_dir_all(&home).map_err(|error| error.to_string())?;
        let log = stage.out.join(self.log_name());
        let log = fs::File::create(log).map_err(|error| error.to_string())?;
        let mut environment = stage.environment.clone();
        environment.extend([
            ("XB_JID", account.jid()),
            ("XB_PASSWORD", account.password.clone()),
            ("XB_HOST", stage.xbosh.addr().ip().to_string()),
            ("XB_PORT", stage.xbosh.addr().port().to_string()),
            ("XB_CA", stage.ca.display().to_string()),
            ("XB_TLS", self.security.to_owned()),
            ("XB_PEER", other.jid()),
            ("XB_HOME", home.display().to_string()),
            ("XB_OUT", stage.out.display().to_string()),
            ("XB_SERVER", server.name().to_owned()),
        ]);
        let began = Instant::now();
        let running = driver.run(&environment, log)?;
        let names = Names::new(&[
            (&home.display().to_string(), "~"),
            (&stage.ca.display().to_string(), "FILE"),
            (&account.password, "PASSWORD"),
            (&other.jid(), "friend@example.org"),
            (&account.jid(), "you@example.org"),
            (&user, "you"),
            (server.domain(), "example.org"),
            (&stage.xbosh.addr().port().to_string(), "5222"),
        ]);
        let mut online = Online {
            running,
            peer,
            trial: *self,
            home,
            names,
            full_jid: None,
            listens: false,
            outcome: Outcome::default(),
            got: Vec::new(),
            texts: 0,
            before: None,
        };
        loop {
            match timeout(LOGIN, online.running.event()).await {
                Err(_) => return Err("not online in time".into()),
                Ok(None) => return Err("the driver ended before it was online".into()),
                Ok(Some((name, rest))) => match name.as_str() {
                    "version" => online.outcome.version = rest,
                    "online" => break,
                    "ready" => {
                        online.outcome.sends_only = true;
                        break;
                    }
                    "lost" => return Err(format!("login failed: {rest}")),
                    _ => online.note((name, rest)),
                },
            }
        }
        if !online.outcome.sends_only {
            online.outcome.login = began.elapsed();
            let security = online.stream().await?.security;
            online.is_secured(security)?;
        }
        Ok(online)
    }

    /// How xbosh has to say that the stream is secured.
    fn claim(&self) -> &str {
        match self.security {
            "default" => &self.driver.default,
            other => other,
        }
    }
}

impl Online<'_> {
    /// The one stream that it has.
    async fn stream(&self) -> Result<Stream, String> {
        let ends = Instant::now() + ARRIVAL;
        loop {
            let streams = streams_of(self.trial.stage.xbosh, &self.home)?;
            match &streams[..] {
                [one] if one.state == "online" => return Ok(one.clone()),
                _ if Instant::now() > ends => {
                    return Err(format!("xbosh has these streams of it: {streams:?}"));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    fn is_secured(&mut self, security: &'static str) -> Result<(), String> {
        let claim = self.trial.claim();
        if security != claim {
            return Err(format!("xbosh says that it is {security}, not {claim}"));
        }
        self.outcome.secured = security;
        Ok(())
    }

    /// One message each way, with characters that need care; the client's own first.
    ///
    /// # Errors
    /// One did not arrive, or not as it was sent.
    pub async fn exchange(&mut self) -> Result<(), String> {
        if self.outcome.sends_only {
            return self.send_and_look().await;
        }
        self.texts += 1;
        self.send_up().await?;
        let stanza = message(&mut self.peer).await;
        self.arrived_up(stanza?)?;
        self.send_down().await?;
        self.arrived_down(ARRIVAL).await
    }

    /// One message of a program that logs in for it. Its stream is short: where it was not seen, there is another one.
    async fn send_and_look(&mut self) -> Result<(), String> {
        for _ in 0..LOOKS {
            self.texts += 1;
            let began = Instant::now();
            self.send_up().await?;
            let mut seen = None;
            let stanza = tokio::select! {
                stanza = message(&mut self.peer) => stanza,
                () = secured_meanwhile(self.trial.stage.xbosh, &self.home, &mut seen) => {
                    Err("nobody looks any more".into())
                }
            };
            self.arrived_up(stanza?)?;
            self.outcome.login = began.elapsed();
            if let Some(security) = seen {
                return self.is_secured(security);
            }
        }
        Err("xbosh was never seen to have a stream of it".into())
    }

    /// Whether it has a stream that an outage can hit.
    #[must_use]
    pub fn stays(&self) -> bool {
        !self.outcome.sends_only
    }

    /// Looks at the stream before the network goes away.
    ///
    /// # Errors
    /// It has none.
    pub async fn before_outage(&mut self, network: &FaultyProxy) -> Result<(), String> {
        if self.stays() {
            self.before = Some(self.stream().await?);
            self.outcome.outage = Some(Outage {
                cut: network.cut_requests(&self.trial.mark()),
                repeats: 0,
            });
        }
        Ok(())
    }

    /// Sends one message each way while the network is away. A program that logs in for each message sends none.
    ///
    /// # Errors
    /// It is gone.
    pub async fn speak_in_outage(&mut self) -> Result<(), String> {
        self.texts += 1;
        if !self.trial.driver.is_one_shot() {
            self.send_up().await?;
        }
        if self.stays() {
            self.send_down().await?;
        }
        Ok(())
    }

    /// What was sent arrives, by the same stream, which the outage has hit.
    ///
    /// # Errors
    /// What is otherwise.
    pub async fn after_outage(&mut self, network: &FaultyProxy) -> Result<(), String> {
        let Some(before) = self.before.take() else {
            return Ok(());
        };
        if !self.trial.driver.is_one_shot() {
            self.peer.set_deadline(LATE_ARRIVAL);
            let stanza = message(&mut self.peer).await;
            self.peer.set_deadline(ARRIVAL);
            self.arrived_up(stanza?)?;
        }
        self.arrived_down(LATE_ARRIVAL).await?;
        let after = self.stream().await?;
        if after.id != before.id {
            return Err(format!("its stream was {before:?} and is {after:?}"));
        }
        let cut_before = self.outcome.outage.unwrap_or_default().cut;
        let outage = Outage {
            cut: network
                .cut_requests(&self.trial.mark())
                .saturating_sub(cut_before),
            repeats: after.repeats.saturating_sub(before.repeats),
        };
        self.outcome.outage = Some(outage);
        if outage.cut == 0 || outage.repeats == 0 {
            return Err(format!("the outage did not hit it: {outage:?}"));
        }
        Ok(())
    }

    fn text(&self, way: &str) -> String {
        format!("{way} {} <b>&amp; \u{e4}\u{20ac}\u{1f600}", self.texts)
    }

    async fn send_up(&mut self) -> Result<(), String> {
        self.outcome.sent += 1;
        let order = format!("send {}", self.text("up"));
        self.running.order(&order).await
    }

    fn arrived_up(&mut self, stanza: Stanza) -> Result<(), String> {
        let up = self.text("up");
        let body = stanza.child_text("body").unwrap_or_default();
        if body.trim_end() != up {
            return Err(format!("it sent {up:?}, and {body:?} arrived"));
        }
        if !self.listens {
            self.full_jid = stanza.attribute("from");
        }
        Ok(())
    }

    async fn send_down(&mut self) -> Result<(), String> {
        self.outcome.sent += 1;
        let to = self.full_jid.clone().unwrap_or_default();
        self.peer
            .message(&to, &self.text("down"))
            .await
            .map_err(|error| error.to_string())
    }

    async fn arrived_down(&mut self, limit: Duration) -> Result<(), String> {
        let down = self.text("down");
        let deadline = Instant::now() + limit;
        while !self.got.contains(&down) {
            match tokio::time::timeout_at(deadline, self.running.event()).await {
                Err(_) => {
                    self.outcome.lost += 1;
                    return Err(format!("{down:?} was not shown, but {:?}", self.got));
                }
                Ok(None) => return Err("the driver ended".into()),
                Ok(Some(event)) => self.note(event),
            }
        }
        Ok(())
    }

    /// Once, however often the driver tells it.
    fn use_of(&mut self, used: Used) {
        if !self.outcome.used.contains(&used) {
            self.outcome.used.push(used);
        }
    }

    fn note(&mut self, (name, rest): (String, String)) {
        match name.as_str() {
            "got" => {
                if self.got.contains(&rest) {
                    self.outcome.doubled += 1;
                }
                self.got.push(rest);
            }
            "lost" => self.outcome.interruptions.push(rest),
            "jid" => {
                self.listens = true;
                self.full_jid = Some(rest);
            }
            "ran" => self.use_of(Used::command(&self.names.hidden(&rest))),
            "file" => {
                if let Ok(text) = fs::read_to_string(&rest) {
                    let (name, text) = (self.names.hidden(&rest), self.names.hidden(&text));
                    self.use_of(Used::file(&name, &text));
                }
            }
            "code" => {
                if let Some((name, text)) = excerpt(Path::new(&rest)) {
                    self.use_of(Used::file(&name, &text));
                }
            }
            "wrote" => {
                if let Some((name, text)) = rest.split_once(": ") {
                    let (name, text) = (self.names.hidden(name), self.names.hidden(text));
                    self.use_of(Used::file(&name, &text));
                }
            }
            _ => {}
        }
    }

    /// Stays for a while; what it tells meanwhile counts.
    pub async fn stay(&mut self, until: Instant) {
        while let Ok(Some(event)) = tokio::time::timeout_at(until, self.running.event()).await {
            self.note(event);
        }
    }

    /// A picture of what is to be seen.
    ///
    /// # Errors
    /// The driver is gone.
    pub async fn shot(&mut self) -> Result<(), String> {
        self.running.order("shot").await
    }

    /// Logs out; afterwards the server knows no session of it.
    ///
    /// # Errors
    /// What failed.
    pub async fn logout(mut self) -> Result<Outcome, String> {
        self.running.order("quit").await?;
        let ends = Instant::now() + LOGOUT;
        loop {
            match tokio::time::timeout_at(ends, self.running.event()).await {
                Err(_) => return Err("it does not log out".into()),
                Ok(None) => return Err("the driver ended without logging out".into()),
                Ok(Some((name, _))) if name == "offline" => break,
                Ok(Some(event)) => self.note(event),
            }
        }
        self.running.end().await?;
        // Nobody is there to answer any more; the server does so in its place. A client that leaves without a word
        // is waited for first, in case it comes back.
        // Asked again: a question that meets a session just as it ends may stay unanswered.
        self.peer.set_deadline(ASK_AGAIN);
        let Some(jid) = self.full_jid else {
            return Ok(self.outcome);
        };
        let ends = Instant::now() + RESUME_WINDOW + ARRIVAL;
        loop {
            let ping =
                format!("<iq type='get' id='gone' to='{jid}'><ping xmlns='urn:xmpp:ping'/></iq>");
            let ghost = |error| format!("its session is still there: {error}");
            self.peer.send(&ping).await.map_err(ghost)?;
            let answer = self
                .peer
                .wait_for(|s| s.is("iq", "error") && s.attribute("id").as_deref() == Some("gone"))
                .await;
            match answer {
                Ok(_) => return Ok(self.outcome),
                Err(error) if Instant::now() > ends => return Err(ghost(error)),
                Err(_) => {}
            }
        }
    }
}

/// The next message that comes to the peer.
async fn message(peer: &mut Client) -> Result<Stanza, String> {
    peer.wait_for(|s| s.name() == "message" && s.child_text("body").is_some())
        .await
        .map_err(|error| format!("its message did not arrive: {error}"))
}

/// What security the streams of a client have that comes for each message anew; looks until it is dropped.
async fn secured_meanwhile(xbosh: &Sidecar, home: &Path, seen: &mut Option<&'static str>) {
    loop {
        for stream in streams_of(xbosh, home).unwrap_or_default() {
            // Every stream by STARTTLS is plain before it is not.
            if stream.security != "plain" || seen.is_none() {
                *seen = Some(stream.security);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
