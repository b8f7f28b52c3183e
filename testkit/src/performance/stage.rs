//! A server, with all ways to it.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;

use tokio::sync::oneshot;

use crate::client::Account;
use crate::cm::{Cm, Profile};
use crate::proxy::{HttpProxy, HttpTrick, ProxyOptions, Socks5Proxy, SocksTrick};
use crate::real::available::Program;
use crate::real::{Dante, PROXY_PASSWORD, PROXY_USER, Prosody, Server, Squid};
use crate::tls::Authority;
use crate::xmpp;

/// Prosody's own cost grows with archives, and with old log-ins unless its collector is generational.
const LIGHT: &str = r#"default_archive_policy = false; gc = { mode = "generational" }"#;

const HOST: &str = "127.0.0.1";
const EMBEDDED_DOMAIN: &str = "localhost";

/// A way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// XMPP over TCP.
    Tcp,
    /// BOSH over http.
    Http,
    /// BOSH over https.
    Https,
    /// BOSH over http through an HTTP proxy, in absolute form.
    HttpProxied,
    /// BOSH over https through an HTTP proxy, by CONNECT.
    HttpsConnect,
    /// BOSH over https through a SOCKS5 proxy.
    HttpsSocks,
}

impl Path {
    /// All of BOSH's.
    pub const BOSH: [Self; 5] = [
        Self::Http,
        Self::Https,
        Self::HttpProxied,
        Self::HttpsConnect,
        Self::HttpsSocks,
    ];

    /// Whether TLS is spoken with the connection manager.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::HttpsConnect | Self::HttpsSocks)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Http => "http",
            Self::Https => "https",
            Self::HttpProxied => "http, HTTP proxy",
            Self::HttpsConnect => "https, CONNECT",
            Self::HttpsSocks => "https, SOCKS5",
        })
    }
}

/// A proxy on the way.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `http` or `socks5`.
    pub scheme: &'static str,
    /// Where it listens.
    pub addr: SocketAddr,
    /// User and password that it wants.
    pub credentials: Option<(String, String)>,
}

/// Real proxies that serve all rounds.
#[derive(Debug)]
pub struct Proxies {
    squid: Option<Squid>,
    dante: Option<Dante>,
}

impl Proxies {
    /// Starts those that are installed.
    ///
    /// # Errors
    /// One is installed and does not start.
    pub fn start() -> Result<Self, String> {
        let squid = Program::Squid.available().is_ok().then(Squid::start);
        let dante = Program::Dante.available().is_ok().then(Dante::start);
        Ok(Self {
            squid: squid.transpose()?,
            dante: dante.transpose()?,
        })
    }

    fn upstreams(&self) -> (Option<Upstream>, Option<Upstream>) {
        let http = self.squid.as_ref().map(|squid| Upstream {
            scheme: "http",
            addr: squid.addr(),
            credentials: Some((PROXY_USER.to_owned(), PROXY_PASSWORD.to_owned())),
        });
        let socks = self.dante.as_ref().map(|dante| Upstream {
            scheme: "socks5",
            addr: dante.addr(),
            credentials: None,
        });
        (http, socks)
    }
}

/// A running server.
pub struct Stage {
    /// What a person calls it.
    pub name: &'static str,
    /// The XMPP domain.
    pub domain: String,
    /// Client connections on plain TCP.
    pub c2s: SocketAddr,
    /// BOSH over http.
    http: String,
    /// BOSH over https.
    https: String,
    /// The authority behind the certificate.
    pub ca_file: PathBuf,
    /// HTTP and SOCKS5.
    upstreams: (Option<Upstream>, Option<Upstream>),
    accounts: Vec<Account>,
    /// Ends when dropped.
    _keep: Box<dyn Any>,
}

impl Stage {
    /// A fresh Prosody with so many accounts.
    ///
    /// # Errors
    /// It is not there or does not start.
    pub fn prosody(proxies: &Proxies, accounts: usize) -> Result<Self, String> {
        Program::Prosody.available()?;
        let prosody = Prosody::start_with(LIGHT)?;
        let accounts = (0..accounts)
            .map(|number| prosody.add_cheap_account(&format!("user{number}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: "Prosody",
            domain: prosody.domain().to_owned(),
            c2s: prosody.c2s(),
            http: prosody.bosh_url(false, HOST),
            https: prosody.bosh_url(true, HOST),
            ca_file: prosody.ca_file().to_owned(),
            upstreams: proxies.upstreams(),
            accounts,
            _keep: Box::new(prosody),
        })
    }

    /// The embedded server and proxies, on a thread of their own.
    ///
    /// # Errors
    /// No thread, no folder.
    pub fn embedded(accounts: usize) -> Result<Self, String> {
        let said = |error: std::io::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(said)?;
        let ca_file = folder.path().join("ca.pem");
        let authority = Authority::new();
        std::fs::write(&ca_file, authority.pem()).map_err(said)?;
        let accounts: Vec<Account> = (0..accounts)
            .map(|number| Account::new(&format!("user{number}"), EMBEDDED_DOMAIN, "password"))
            .collect();
        let server = xmpp::Server::new(EMBEDDED_DOMAIN);
        server.configure(|options| options.recording = false);
        for account in &accounts {
            server.add_user(&account.user, &account.password);
        }
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(said)?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let direct = server.listen().await;
                let http = Cm::start(&server, Profile::strict(), None).await;
                let acceptor = authority.acceptor(&[HOST]);
                let https = Cm::start(&server, Profile::strict(), Some(acceptor)).await;
                http.keep_no_posts();
                https.keep_no_posts();
                let options = ProxyOptions::with_credentials(PROXY_USER, PROXY_PASSWORD);
                let proxy = HttpProxy::start(options, HttpTrick::None).await;
                let socks = Socks5Proxy::start(ProxyOptions::default(), SocksTrick::None).await;
                let places = (
                    [direct.addr(), proxy.addr(), socks.addr()],
                    [http.url(HOST), https.url(HOST)],
                );
                if tell.send(places).is_ok() {
                    // Either way it is over.
                    let _ = stopped.await;
                }
            });
        });
        let ([c2s, proxy, socks], [http, https]) = told.recv().map_err(|e| e.to_string())?;
        let credentials = Some((PROXY_USER.to_owned(), PROXY_PASSWORD.to_owned()));
        let upstream = |scheme, addr, credentials| {
            Some(Upstream {
                scheme,
                addr,
                credentials,
            })
        };
        Ok(Self {
            name: "embedded",
            domain: EMBEDDED_DOMAIN.to_owned(),
            c2s,
            http,
            https,
            ca_file,
            upstreams: (
                upstream("http", proxy, credentials),
                upstream("socks5", socks, None),
            ),
            accounts,
            _keep: Box::new((stop, folder)),
        })
    }

    /// The ways that there are.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let (http, socks) = &self.upstreams;
        Path::BOSH
            .into_iter()
            .filter(|path| match path {
                Path::Tcp | Path::Http | Path::Https => true,
                Path::HttpProxied | Path::HttpsConnect => http.is_some(),
                Path::HttpsSocks => socks.is_some(),
            })
            .collect()
    }

    /// The connection manager's address on this way.
    #[must_use]
    pub fn url(&self, path: Path) -> &str {
        if path.is_tls() {
            &self.https
        } else {
            &self.http
        }
    }

    /// The proxy on this way.
    #[must_use]
    pub const fn upstream(&self, path: Path) -> Option<&Upstream> {
        match path {
            Path::Tcp | Path::Http | Path::Https => None,
            Path::HttpProxied | Path::HttpsConnect => self.upstreams.0.as_ref(),
            Path::HttpsSocks => self.upstreams.1.as_ref(),
        }
    }

    /// Its accounts; the last is the peer's.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }
}
