//! XMPP client libraries that know nothing of xbosh, in front of it.
//!
//! Their scripts log in, send numbered messages to an echo on direct TCP, wait for each echo, and log out.
//! `./test` installs the libraries into the target folder; `XBOSH_TEST_VENV` and `XBOSH_TEST_NODE` name other places.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use xbosh_testkit::client::Client;
use xbosh_testkit::real::Sidecar;
use xbosh_testkit::real::available::{find, skipped};

use crate::support::{Scheme, Site, Way, xbosh_to};
use crate::walk;

const MESSAGES: usize = 20;
const WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Library {
    Slixmpp,
    XmppJs,
}

impl Library {
    /// The interpreter and its arguments, or what is missing.
    fn command(self) -> Result<Command, String> {
        match self {
            Self::Slixmpp => python("slixmpp", "slixmpp_chat.py"),
            Self::XmppJs => {
                let node = find("node").ok_or("node not installed")?;
                let module = place("XBOSH_TEST_NODE", "test-node")
                    .join("node_modules/@xmpp/client/index.js");
                if !module.is_file() {
                    return Err(format!("@xmpp/client not installed ({})", module.display()));
                }
                let mut command = Command::new(node);
                command.arg(script("xmpp_js_chat.mjs"));
                command.env("XMPP_CLIENT", module);
                Ok(command)
            }
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/real/clients")
        .join(name)
}

/// A Python script that needs this package, or what is missing.
pub(crate) fn python(package: &str, name: &str) -> Result<Command, String> {
    let venv = place("XBOSH_TEST_VENV", "test-venv");
    let versions = venv.join("lib").read_dir().into_iter().flatten().flatten();
    let mut packages = versions.map(|version| version.path().join("site-packages").join(package));
    if !packages.any(|package| package.is_dir()) {
        return Err(format!("{package} not installed ({})", venv.display()));
    }
    let mut command = Command::new(venv.join("bin/python"));
    command.arg(script(name));
    Ok(command)
}

fn place(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| build_folder().join(default), PathBuf::from)
}

/// Cargo's target folder, wherever it is: two above the program.
fn build_folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_xbosh"))
        .ancestors()
        .nth(2)
        .unwrap()
}

async fn chat(library: Library, site: Site, name: &str) {
    if !Way::Squid.available(site) {
        return;
    }
    match library.command() {
        Ok(command) => {
            let xbosh = xbosh_to(site, Scheme::Https, Way::Squid);
            converse(command, site, &xbosh, name).await;
        }
        Err(why) => skipped(&why),
    }
}

/// slixmpp, on direct TCP.
pub(crate) async fn slixmpp(site: Site, xbosh: &Sidecar, name: &str) {
    match Library::Slixmpp.command() {
        Ok(command) => converse(command, site, xbosh, name).await,
        Err(why) => skipped(&why),
    }
}

/// slixmpp, through xbosh's Unix socket.
pub(crate) async fn slixmpp_on(socket: &Path, site: Site, xbosh: &Sidecar, name: &str) {
    match Library::Slixmpp.command() {
        Ok(mut command) => {
            command.env("XMPP_SOCKET", socket);
            converse(command, site, xbosh, name).await;
        }
        Err(why) => skipped(&why),
    }
}

/// A library that trusts the authority in this file; `tls` is `starttls` or `direct`.
pub(crate) async fn over_tls(
    slixmpp: bool,
    tls: &str,
    authority: &Path,
    (site, xbosh): (Site, &Sidecar),
    name: &str,
) {
    let library = if slixmpp {
        Library::Slixmpp
    } else {
        Library::XmppJs
    };
    match library.command() {
        Ok(mut command) => {
            command
                .env("XMPP_TLS", tls)
                .env("XMPP_CA", authority)
                .env("NODE_EXTRA_CA_CERTS", authority);
            converse(command, site, xbosh, name).await;
        }
        Err(why) => skipped(&why),
    }
}

/// Runs the script against an echo on direct TCP.
async fn converse(mut command: Command, site: Site, xbosh: &Sidecar, name: &str) {
    let (account, mut peer) = walk::pair(site.server(), name).await;
    let script = command
        .env("XMPP_HOST", xbosh.addr().ip().to_string())
        .env("XMPP_PORT", xbosh.addr().port().to_string())
        .env("XMPP_JID", account.jid())
        .env("XMPP_PASSWORD", &account.password)
        .env("XMPP_PEER", peer.jid())
        .env("XMPP_MESSAGES", MESSAGES.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    peer.set_deadline(WITHIN);
    let jid = account.jid();
    let both = async { tokio::join!(script.wait_with_output(), echo(&mut peer, &jid)) };
    let Ok((done, echoed)) = tokio::time::timeout(WITHIN, both).await else {
        panic!("not done within {WITHIN:?}; xbosh's log:\n{}", xbosh.log());
    };
    let done = done.unwrap();
    let output = String::from_utf8_lossy(&done.stdout);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "{}: {output}{errors}\nxbosh's log:\n{}",
        done.status,
        xbosh.log()
    );
    let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(echoed, expected);
    assert_eq!(output.trim(), format!("{MESSAGES} echoes in order"));
}

/// Sends every message back until its sender has gone; gives the bodies.
async fn echo(peer: &mut Client, from: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let stanza = peer.next_stanza().await.unwrap();
        let sender = stanza.attribute("from").unwrap_or_default();
        if sender.split('/').next() != Some(from) {
            continue;
        }
        if walk::is_presence(&stanza, &sender, "unavailable") {
            return bodies;
        }
        if stanza.name() == "message"
            && let Some(body) = stanza.child_text("body")
        {
            peer.message(&sender, &format!("echo {body}"))
                .await
                .unwrap();
            bodies.push(body);
        }
    }
}

#[tokio::test]
async fn slixmpp_prosody_https_squid() {
    chat(Library::Slixmpp, Site::Prosody, "slixmpp-p").await;
}

#[tokio::test]
async fn slixmpp_ejabberd_https_squid() {
    chat(Library::Slixmpp, Site::Ejabberd, "slixmpp-e").await;
}

#[tokio::test]
async fn xmpp_js_prosody_https_squid() {
    chat(Library::XmppJs, Site::Prosody, "xmppjs-p").await;
}

#[tokio::test]
async fn xmpp_js_ejabberd_https_squid() {
    chat(Library::XmppJs, Site::Ejabberd, "xmppjs-e").await;
}
