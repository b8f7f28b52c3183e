//! The load program, seen from the one that measures.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::load::Pace;
use crate::client::Account;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(180);

/// A running load program; ends with this value.
#[derive(Debug)]
pub struct Loader {
    process: Child,
    pid: u32,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Loader {
    /// Starts `program load ARGUMENTS`, where `program` hands the arguments to [`super::loader::run`].
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        // Thousands of sessions are as many open files.
        let mut process = Command::new("/bin/sh")
            .args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "load"])
            .arg(program)
            .arg("load")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.id());
        let (Some(commands), Some(answers), Some(pid)) = pipes else {
            return Err("the load program has no pipes".to_owned());
        };
        Ok(Self {
            process,
            pid,
            commands,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Logs in; milliseconds and the JID.
    pub(super) async fn login(&mut self, account: &Account) -> Result<(f64, String), String> {
        let Account {
            user,
            domain,
            password,
        } = account;
        let answer = self
            .ask(&format!("login {user} {domain} {password}"))
            .await?;
        let parts = answer.split_once(' ');
        parts
            .and_then(|(took, jid)| Some((took.parse().ok()?, jid.to_owned())))
            .ok_or(answer)
    }

    pub(super) async fn logout(&mut self) -> Result<(), String> {
        self.ask("logout").await.map(drop)
    }

    /// Microseconds of each ping.
    pub(super) async fn ping(&mut self, count: usize) -> Result<Vec<f64>, String> {
        let answer = self.ask(&format!("ping {count}")).await?;
        let took: Result<Vec<f64>, _> = answer.split(' ').map(str::parse).collect();
        took.map_err(|_| answer)
    }

    pub(super) async fn send(&mut self, to: &str, count: usize) -> Result<(), String> {
        self.ask(&format!("send {to} {count}")).await.map(drop)
    }

    pub(super) async fn receive(&mut self, count: usize) -> Result<(), String> {
        self.ask(&format!("receive {count}")).await.map(drop)
    }

    pub(super) async fn echo(
        &mut self,
        to: &str,
        count: usize,
        in_flight: usize,
    ) -> Result<(), String> {
        self.ask(&format!("echo {to} {count} {in_flight}"))
            .await
            .map(drop)
    }

    pub(super) async fn paced(&mut self, to: &str, pace: Pace) -> Result<(), String> {
        let (burst, bursts, every) = (pace.burst, pace.bursts, pace.every.as_micros());
        self.ask(&format!("paced {to} {burst} {bursts} {every}"))
            .await
            .map(drop)
    }

    /// Brings the number of idle sessions up to `total`, over these accounts in turn.
    pub(super) async fn idle(&mut self, total: usize, accounts: &[Account]) -> Result<(), String> {
        let domain = accounts.first().map_or("", |account| &account.domain);
        let list: Vec<String> = accounts
            .iter()
            .map(|account| format!("{}:{}", account.user, account.password))
            .collect();
        self.ask(&format!("idle {total} {domain} {}", list.join(",")))
            .await
            .map(drop)
    }

    /// Whether all idle sessions are still there.
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        self.ask("ended").await.map(drop)
    }

    async fn ask(&mut self, command: &str) -> Result<String, String> {
        let line = format!("{command}\n");
        self.commands
            .write_all(line.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let answer = timeout(PATIENCE, self.answers.next_line()).await;
        match answer {
            Ok(Ok(Some(line))) => match line.split_once(' ') {
                Some(("ok", answer)) => Ok(answer.to_owned()),
                Some(("failed", why)) => Err(why.to_owned()),
                _ => Err(line),
            },
            Ok(Ok(None)) => Err(format!("the load program is gone: {:?}", self.end())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer to {command} in {PATIENCE:?}")),
        }
    }

    fn end(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }
}
