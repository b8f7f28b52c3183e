//! What a client has to do, and what came of it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::driver::{Driver, Running};
use crate::client::{Client, Mechanism};
use crate::real::Server;

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

/// Where clients are tried.
pub struct Stage<'a> {
    /// The server.
    pub server: &'a dyn Server,
    /// Where xbosh listens.
    pub xbosh: SocketAddr,
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
    /// Messages sent each way.
    pub sent: usize,
    /// Messages that did not arrive.
    pub lost: usize,
    /// Messages that arrived again.
    pub doubled: usize,
    /// What the client said each time that its stream was gone.
    pub interruptions: Vec<String>,
}

/// A client that is online, and its peer on the server.
pub struct Online {
    running: Running,
    peer: Client,
    one_shot: bool,
    full_jid: Option<String>,
    outcome: Outcome,
    /// Texts the client has shown.
    got: Vec<String>,
    texts: usize,
}

impl Trial<'_> {
    fn name(&self) -> String {
        format!(
            "{}-{}-{}",
            self.driver.name,
            self.stage.server.name(),
            self.security
        )
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
    pub async fn login(&self, home: &Path) -> Result<Online, String> {
        let Self { driver, stage, .. } = self;
        let server = stage.server;
        let user = self.name().replace(['@', '/', ' ', '.'], "-");
        let account = server.add_account(&user)?;
        let other = server.add_account(&format!("peer-of-{user}"))?;
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
            ("XB_HOST", stage.xbosh.ip().to_string()),
            ("XB_PORT", stage.xbosh.port().to_string()),
            ("XB_CA", stage.ca.display().to_string()),
            ("XB_TLS", self.security.to_owned()),
            ("XB_PEER", other.jid()),
            ("XB_HOME", home.display().to_string()),
            ("XB_OUT", stage.out.display().to_string()),
            ("XB_SERVER", server.name().to_owned()),
        ]);
        let began = Instant::now();
        let mut running = driver.run(&environment, log)?;
        let mut outcome = Outcome::default();
        loop {
            match timeout(LOGIN, running.event()).await {
                Err(_) => return Err("not online in time".into()),
                Ok(None) => return Err("the driver ended before it was online".into()),
                Ok(Some((name, rest))) => match name.as_str() {
                    "version" => outcome.version = rest,
                    "online" => break,
                    "lost" => return Err(format!("login failed: {rest}")),
                    _ => {}
                },
            }
        }
        outcome.login = began.elapsed();
        Ok(Online {
            running,
            peer,
            one_shot: driver.is_one_shot(),
            full_jid: None,
            outcome,
            got: Vec::new(),
            texts: 0,
        })
    }
}

impl Online {
    /// One message each way, with characters that need care; the client's own first.
    ///
    /// # Errors
    /// One did not arrive, or not as it was sent.
    pub async fn exchange(&mut self) -> Result<(), String> {
        self.texts += 1;
        self.outcome.sent += 1;
        let up = format!("up {} <b>&amp; \u{e4}\u{20ac}\u{1f600}", self.texts);
        self.running.order(&format!("send {up}")).await?;
        let stanza = self
            .peer
            .wait_for(|s| s.name() == "message" && s.child_text("body").is_some())
            .await
            .map_err(|error| format!("its message did not arrive: {error}"))?;
        let body = stanza.child_text("body").unwrap_or_default();
        if body.trim_end() != up {
            return Err(format!("it sent {up:?}, and {body:?} arrived"));
        }
        let from = stanza.attribute("from").unwrap_or_default();
        self.full_jid = Some(from.clone());
        if self.one_shot {
            return Ok(());
        }
        self.outcome.sent += 1;
        let down = format!("down {} <b>&amp; \u{e4}\u{20ac}\u{1f600}", self.texts);
        self.peer
            .message(&from, &down)
            .await
            .map_err(|error| error.to_string())?;
        let deadline = Instant::now() + ARRIVAL;
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

    fn note(&mut self, (name, rest): (String, String)) {
        match name.as_str() {
            "got" => {
                if self.got.contains(&rest) {
                    self.outcome.doubled += 1;
                }
                self.got.push(rest);
            }
            "lost" => self.outcome.interruptions.push(rest),
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
        let Some(jid) = self.full_jid.filter(|_| !self.one_shot) else {
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
