//! The shared servers and proxies, and what xbosh's configuration says of them.

use std::path::Path;
use std::sync::LazyLock;

use xbosh_testkit::real::available::{self, Program};
use xbosh_testkit::real::{
    Dante, Ejabberd, Microsocks, PROXY_PASSWORD, PROXY_USER, Prosody, Server, Sidecar, Squid,
    Tinyproxy,
};

/// Which server a test is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    Prosody,
    Ejabberd,
}

/// How the connection manager is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// The way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Squid,
    Tinyproxy,
    Microsocks,
    Dante,
}

static PROSODY: LazyLock<Result<Prosody, String>> = LazyLock::new(Prosody::start);
static EJABBERD: LazyLock<Result<Ejabberd, String>> = LazyLock::new(Ejabberd::start);
static SQUID: LazyLock<Result<Squid, String>> = LazyLock::new(Squid::start);
static TINYPROXY: LazyLock<Result<Tinyproxy, String>> = LazyLock::new(Tinyproxy::start);
static MICROSOCKS: LazyLock<Result<Microsocks, String>> = LazyLock::new(Microsocks::start);
static DANTE: LazyLock<Result<Dante, String>> = LazyLock::new(Dante::start);

fn started<T>(instance: &'static LazyLock<Result<T, String>>) -> &'static T {
    match LazyLock::force(instance) {
        Ok(running) => running,
        Err(why) => panic!("{why}"),
    }
}

impl Site {
    pub(crate) const fn program(self) -> Program {
        match self {
            Self::Prosody => Program::Prosody,
            Self::Ejabberd => Program::Ejabberd,
        }
    }

    pub(crate) fn server(self) -> &'static dyn Server {
        match self {
            Self::Prosody => started::<Prosody>(&PROSODY),
            Self::Ejabberd => started::<Ejabberd>(&EJABBERD),
        }
    }
}

impl Way {
    const fn program(self) -> Option<Program> {
        match self {
            Self::Direct => None,
            Self::Squid => Some(Program::Squid),
            Self::Tinyproxy => Some(Program::Tinyproxy),
            Self::Microsocks => Some(Program::Microsocks),
            Self::Dante => Some(Program::Dante),
        }
    }

    /// Whether all is installed for a test of this server by this way.
    pub(crate) fn available(self, site: Site) -> bool {
        let needed: Vec<Program> = self.program().into_iter().chain([site.program()]).collect();
        available::all(&needed)
    }

    /// Whether all is installed for a test of this way without a server.
    pub(crate) fn available_alone(self) -> bool {
        available::all(self.program().as_slice())
    }

    /// The proxy's URL, and whether it wants the credentials.
    pub(crate) fn proxy(self) -> Option<(String, bool)> {
        match self {
            Self::Direct => None,
            Self::Squid => Some((format!("http://{}", squid().addr()), true)),
            Self::Tinyproxy => Some((format!("http://{}", started(&TINYPROXY).addr()), true)),
            Self::Microsocks => Some((format!("socks5h://{}", started(&MICROSOCKS).addr()), true)),
            Self::Dante => Some((format!("socks5h://{}", started(&DANTE).addr()), false)),
        }
    }

    /// The host in the connection manager's URL: a name that the proxy has to resolve, if there is one.
    pub(crate) fn cm_host(self) -> &'static str {
        match self {
            Self::Direct => "127.0.0.1",
            Self::Squid | Self::Tinyproxy | Self::Microsocks | Self::Dante => "localhost",
        }
    }

    /// `[proxy]` as in config.toml.
    pub(crate) fn config(self) -> String {
        match self.proxy() {
            None => "[proxy]\nurl = \"none\"\n".to_owned(),
            Some((url, true)) => proxy_config(&url, PROXY_PASSWORD),
            Some((url, false)) => format!("[proxy]\nurl = \"{url}\"\n"),
        }
    }
}

pub(crate) fn squid() -> &'static Squid {
    started(&SQUID)
}

/// `[proxy]` with a password.
pub(crate) fn proxy_config(url: &str, password: &str) -> String {
    format!("[proxy]\nurl = \"{url}\"\nusername = \"{PROXY_USER}\"\npassword = \"{password}\"\n")
}

/// `[tls]` that trusts the server's authority.
pub(crate) fn trust_config(server: &dyn Server) -> String {
    format!("[tls]\nca_file = \"{}\"\n", server.ca_file().display())
}

/// The connection manager's URL for one domain.
pub(crate) fn domain_config(domain: &str, url: &str) -> String {
    format!("[domains.\"{domain}\"]\nurl = \"{url}\"\n")
}

/// Starts the real program with this configuration.
pub(crate) fn xbosh(config: &str) -> Sidecar {
    Sidecar::start(Path::new(env!("CARGO_BIN_EXE_xbosh")), config).unwrap()
}

/// xbosh in front of this server, by this way.
pub(crate) fn xbosh_to(site: Site, scheme: Scheme, way: Way) -> Sidecar {
    xbosh(&config_to(site, scheme, way))
}

/// The configuration for that.
pub(crate) fn config_to(site: Site, scheme: Scheme, way: Way) -> String {
    let server = site.server();
    let url = server.bosh_url(scheme == Scheme::Https, way.cm_host());
    [
        way.config(),
        trust_config(server),
        domain_config(server.domain(), &url),
    ]
    .concat()
}

/// xbosh in front of a server of the test's own.
pub(crate) fn xbosh_before(server: &dyn Server) -> Sidecar {
    let url = server.bosh_url(false, "127.0.0.1");
    xbosh(&[Way::Direct.config(), domain_config(server.domain(), &url)].concat())
}
