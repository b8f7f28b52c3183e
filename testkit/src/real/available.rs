//! Which of the foreign programs this machine has, and what a test does without one.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::daemon::is_root;

/// Where Debian's prosody-modules puts the one that the tests need most.
const PROSODY_MODULES: &str = "/usr/lib/prosody/modules/mod_sasl2";

/// A foreign program that some test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The XMPP server.
    Prosody,
    /// Community modules for Prosody, among them SASL2.
    ProsodyModules,
    /// The XMPP server; its script wants to be started by root.
    Ejabberd,
    /// The HTTP proxy.
    Squid,
    /// The HTTP proxy.
    Tinyproxy,
    /// The proxy that speaks NTLM to another.
    Cntlm,
    /// The SOCKS5 proxy.
    Microsocks,
    /// The SOCKS5 proxy.
    Dante,
    /// The reverse proxy.
    Nginx,
    /// The TCP load balancer.
    Haproxy,
    /// The command-line HTTP client.
    Curl,
    /// The command-line TLS client.
    Openssl,
}

impl Program {
    /// What a person calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prosody => "prosody",
            Self::ProsodyModules => "prosody-modules",
            Self::Ejabberd => "ejabberd",
            Self::Squid => "squid",
            Self::Tinyproxy => "tinyproxy",
            Self::Cntlm => "cntlm",
            Self::Microsocks => "microsocks",
            Self::Dante => "dante",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Curl => "curl",
            Self::Openssl => "openssl",
        }
    }

    const fn binary(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberdctl",
            Self::Dante => "danted",
            Self::Prosody
            | Self::ProsodyModules
            | Self::Squid
            | Self::Tinyproxy
            | Self::Cntlm
            | Self::Microsocks
            | Self::Nginx
            | Self::Haproxy
            | Self::Curl
            | Self::Openssl => self.name(),
        }
    }

    /// Whether it can be started here.
    ///
    /// # Errors
    /// What is missing.
    pub fn available(self) -> Result<(), String> {
        let name = self.name();
        let found = match self {
            Self::ProsodyModules => Path::new(PROSODY_MODULES).is_dir(),
            _ => find(self.binary()).is_some(),
        };
        if !found {
            return Err(format!("{name} not installed"));
        }
        if self == Self::Ejabberd && !is_root() {
            return Err(format!("{name} can only be started by root"));
        }
        Ok(())
    }
}

/// Whether all of these can be started. If not, says by name what the test leaves out, past the test
/// runner's capture, and gives `false`.
///
/// # Panics
/// If something is missing though `XBOSH_REQUIRE_REAL=1` says that nothing may be.
pub fn all(programs: &[Program]) -> bool {
    let missing: Vec<String> = programs
        .iter()
        .filter_map(|program| program.available().err())
        .collect();
    if missing.is_empty() {
        return true;
    }
    skipped(&missing.join(", "));
    false
}

/// Says that the running test does nothing, and why.
///
/// # Panics
/// If `XBOSH_REQUIRE_REAL=1` says that nothing may be left out.
pub fn skipped(why: &str) {
    let required = env::var("XBOSH_REQUIRE_REAL").is_ok_and(|value| value == "1");
    assert!(!required, "{why}, and XBOSH_REQUIRE_REAL=1");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not eprintln: libtest would show it only for failed tests.
    let _shown = writeln!(std::io::stderr().lock(), "skipped: {why} ({test})");
}

/// The program's path. Debian keeps daemons in sbin, which may not be on a user's PATH.
pub fn find(binary: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(binary))
        .find(|candidate| Path::is_file(candidate))
}

/// The program's path as text for a command line; the bare name if it is not installed.
pub(super) fn path_of(binary: &str) -> String {
    find(binary).map_or_else(|| binary.to_owned(), |path| path.display().to_string())
}
