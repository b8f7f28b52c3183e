//! Stream management served by xbosh to client libraries that know nothing of it: slixmpp and aioxmpp lose their
//! connections and resume, and aioxmpp's session is lost altogether.
//!
//! Their scripts send numbered messages to an echo on direct TCP, which sees each of them once.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use xbosh_testkit::client::{Account, Client, Mechanism};
use xbosh_testkit::real::Sidecar;
use xbosh_testkit::real::available::skipped;

use crate::libraries::python;
use crate::support::{Scheme, Site, Way, xbosh_to};
use crate::walk;

const MESSAGES: usize = 60;
/// How often the connection dies.
const DEATHS: usize = 5;
const WITHIN: Duration = Duration::from_secs(28);
/// The name that the library's session has.
const RESOURCE: &str = "here";

/// A library's script behind xbosh, and the echo that it talks to.
struct Stage {
    account: Account,
    peer: Client,
    xbosh: Sidecar,
    script: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Stage {
    /// `None` if something is not installed; it is named.
    async fn set(site: Site, command: Result<Command, String>, name: &str) -> Option<Self> {
        if !Way::Squid.available(site) {
            return None;
        }
        let mut command = match command {
            Ok(command) => command,
            Err(why) => {
                skipped(&why);
                return None;
            }
        };
        let (account, mut peer) = walk::pair(site.server(), name).await;
        peer.set_deadline(WITHIN);
        let xbosh = xbosh_to(site, Scheme::Https, Way::Squid);
        let mut script = command
            .env("XMPP_HOST", xbosh.addr().ip().to_string())
            .env("XMPP_PORT", xbosh.addr().port().to_string())
            .env("XMPP_JID", format!("{}/{RESOURCE}", account.jid()))
            .env("XMPP_PASSWORD", &account.password)
            .env("XMPP_PEER", peer.jid())
            .env("XMPP_MESSAGES", MESSAGES.to_string())
            .env("XMPP_DEATHS", DEATHS.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(script.stdout.take().unwrap()).lines();
        Some(Self {
            account,
            peer,
            xbosh,
            script,
            output,
        })
    }

    /// Sends every message back until its sender has gone `ends` times; gives the bodies.
    async fn echo(
        peer: &mut Client,
        from: &str,
        ends: usize,
        gone: &watch::Sender<usize>,
    ) -> Vec<String> {
        let mut bodies = Vec::new();
        while *gone.borrow() < ends {
            let stanza = peer.next_stanza().await.unwrap();
            let sender = stanza.attribute("from").unwrap_or_default();
            if sender.split('/').next() != Some(from) {
                continue;
            }
            if walk::is_presence(&stanza, &sender, "unavailable") {
                gone.send_modify(|count| *count += 1);
            }
            if stanza.name() == "message"
                && let Some(body) = stanza.child_text("body")
            {
                let echo = format!("echo {body}");
                peer.message(&sender, &echo).await.unwrap();
                bodies.push(body);
            }
        }
        bodies
    }

    /// Waits until the script has ended and its session too. Gives what the echo got, and the script's last lines.
    async fn play(mut self, ends: usize, site: Site) -> (Vec<String>, Vec<String>) {
        let jid = self.account.jid();
        let mut errors = self.script.stderr.take().unwrap();
        let mut input = self.script.stdin.take().unwrap();
        let mut trouble = String::new();
        let (gone, mut told) = watch::channel(0);
        let output = async {
            let mut lines = Vec::new();
            while let Some(line) = self.output.next_line().await.unwrap() {
                if line == "suspended" {
                    usurp(site, &self.account).await;
                    told.wait_for(|count| *count == 1).await.unwrap();
                    input.write_all(b"go\n").await.unwrap();
                }
                lines.push(line);
            }
            lines
        };
        let xbosh = &self.xbosh;
        let script = async {
            let (lines, read) = tokio::join!(output, errors.read_to_string(&mut trouble));
            read.unwrap();
            let status = self.script.wait().await.unwrap();
            assert!(
                status.success(),
                "{status}: {lines:?} {trouble}\nxbosh's log:\n{}",
                xbosh.log()
            );
            lines
        };
        let echo = Self::echo(&mut self.peer, &jid, ends, &gone);
        let all = tokio::time::timeout(WITHIN, async { tokio::join!(script, echo) }).await;
        let Ok((lines, bodies)) = all else {
            panic!("not done within {WITHIN:?}; xbosh's log:\n{}", xbosh.log());
        };
        (bodies, lines)
    }
}

/// Another login takes the resource, which ends the session, and goes.
async fn usurp(site: Site, account: &Account) {
    let mut usurper = Client::connect(site.server().c2s(), &account.domain)
        .await
        .unwrap();
    usurper.open().await.unwrap();
    usurper
        .authenticate(account, Mechanism::Plain)
        .await
        .unwrap();
    usurper.open().await.unwrap();
    usurper.bind(Some(RESOURCE)).await.unwrap();
    usurper.logout().await.unwrap();
}

fn numbers(last: usize) -> Vec<String> {
    (0..=last).map(|number| number.to_string()).collect()
}

/// S-43, S-49: slixmpp resumes: each message arrives once and in order, and so does each echo.
async fn slixmpp_resumes(site: Site, name: &str) {
    let command = python("slixmpp", "slixmpp_resume.py");
    let Some(stage) = Stage::set(site, command, name).await else {
        return;
    };
    let (mut bodies, lines) = stage.play(1, site).await;
    assert_eq!(bodies.pop().as_deref(), Some("end"));
    assert_eq!(bodies, numbers(MESSAGES - 1));
    let expected = format!("{MESSAGES} echoes in order, {DEATHS} times resumed");
    assert_eq!(lines, [expected]);
}

fn aioxmpp(plan: &str) -> Result<Command, String> {
    let mut command = python("aioxmpp", "aioxmpp_h.py")?;
    command.arg(plan);
    Ok(command)
}

/// The echoes as the script got them.
fn echoes(bodies: &[String]) -> String {
    let echoes: Vec<String> = bodies.iter().map(|body| format!("echo {body}")).collect();
    echoes.join(" ")
}

/// S-43, S-49: aioxmpp resumes: each message arrives once; its echoes come in their peer's order.
async fn aioxmpp_resumes(site: Site, name: &str) {
    let Some(stage) = Stage::set(site, aioxmpp("resume"), name).await else {
        return;
    };
    let (mut bodies, lines) = stage.play(1, site).await;
    assert_eq!(lines, [echoes(&bodies), "resume done".to_owned()]);
    // What it has to send again it sends from the newest to the oldest.
    bodies.sort_by_key(|body| body.parse::<usize>().unwrap());
    assert_eq!(bodies, numbers(MESSAGES));
}

/// S-43: the session is lost: `<failed h=…/>` tells aioxmpp what had arrived, and it goes on with a new session;
/// the rest, sent again, arrives once.
async fn aioxmpp_loses(site: Site, name: &str) {
    let Some(stage) = Stage::set(site, aioxmpp("lose"), name).await else {
        return;
    };
    let (bodies, lines) = stage.play(2, site).await;
    assert_eq!(bodies, numbers(MESSAGES));
    let expected = [
        "suspended".to_owned(),
        echoes(&bodies),
        "lose done".to_owned(),
    ];
    assert_eq!(lines, expected);
}

macro_rules! on_both {
    ($($run:ident: $prosody:ident $ejabberd:ident;)*) => {$(
        #[tokio::test]
        async fn $prosody() {
            $run(Site::Prosody, concat!(stringify!($run), "-p")).await;
        }

        #[tokio::test]
        async fn $ejabberd() {
            $run(Site::Ejabberd, concat!(stringify!($run), "-e")).await;
        }
    )*};
}

on_both! {
    slixmpp_resumes: s49_slixmpp_resumes_prosody s49_slixmpp_resumes_ejabberd;
    aioxmpp_resumes: s49_aioxmpp_resumes_prosody s49_aioxmpp_resumes_ejabberd;
    aioxmpp_loses: s43_aioxmpp_loses_session_prosody s43_aioxmpp_loses_session_ejabberd;
}
