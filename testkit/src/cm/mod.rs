//! A BOSH connection manager in memory (XEP-0124, XEP-0206), strict about what clients send and able to play
//! the oddities of real ones. What a client does wrong is collected in [`Cm::violations`]; what goes wrong on
//! the way is scripted by [`Fault`]s.

mod fault;
mod oracle;
mod process;
mod profile;
mod reply;
mod request;
mod serve;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use fault::{Fault, Kind, Rule, When};
use oracle::Oracle;
use process::Handle;
pub use profile::{AtEnd, Errors, Pause, Profile, Superseded, WrongRid};
use session::Command;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::Service;
use crate::tls::Acceptor;
use crate::xmpp::Server;

/// Requests that are kept at most.
const KEPT: usize = 100_000;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Post {
    /// Which connection carried it; counted from 0.
    pub connection: u64,
    /// Request line.
    pub line: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: String,
    /// When it was read.
    pub at: tokio::time::Instant,
}

impl Post {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// An attribute of `<body/>`, by its written name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        let document = roxmltree::Document::parse(&self.body).ok()?;
        let local = name.rsplit(':').next().unwrap_or(name);
        let wants_prefix = name.contains(':');
        let found = document
            .root_element()
            .attributes()
            .find(|a| a.name() == local && a.namespace().is_some() == wants_prefix);
        found.map(|a| a.value().to_owned())
    }
}

#[derive(Default)]
struct State {
    posts: Vec<Post>,
    oracle: Oracle,
    rules: Vec<Rule>,
    sessions: HashMap<String, Handle>,
    connections: u64,
    exchanges: usize,
    /// Requests are not kept.
    forgetful: bool,
    /// Sessions demand this cookie, set at creation.
    cookie: bool,
}

struct Shared {
    server: Server,
    profile: Profile,
    state: Mutex<State>,
    /// Answers written so far.
    written: watch::Sender<u64>,
    /// A request has come, or an answer was written.
    news: watch::Sender<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, sid: &str) -> Option<UnboundedSender<Command>> {
        self.lock()
            .sessions
            .get(sid)
            .map(|handle| handle.commands.clone())
    }

    fn violation(&self, text: &str) {
        self.lock().oracle.violations.push(text.to_owned());
    }
}

/// A running connection manager.
pub struct Cm {
    service: Service,
    shared: Arc<Shared>,
    scheme: &'static str,
}

impl Cm {
    /// Serves `server` over BOSH as `profile` does, over TLS if there is an acceptor.
    pub async fn start(server: &Server, profile: Profile, tls: Option<Acceptor>) -> Self {
        let shared = Arc::new(Shared {
            server: server.clone(),
            profile,
            state: Mutex::default(),
            written: watch::Sender::new(0),
            news: watch::Sender::new(()),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serving = Arc::clone(&shared);
        let service = Service::start(move |stream| {
            serve::connection(Arc::clone(&serving), stream, tls.clone())
        })
        .await;
        Self {
            service,
            shared,
            scheme,
        }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    /// Its BOSH URL by host name.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("{}://{host}:{}/http-bind", self.scheme, self.addr().port())
    }

    /// Adds a fault; rules are tried in order, the first that matches acts.
    pub fn script(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// From now on sessions get a cookie at creation and are unknown without it.
    pub fn demand_cookie(&self) {
        self.shared.lock().cookie = true;
    }

    /// Waits until this holds of the requests so far; looked at whenever one has come or was answered.
    pub async fn until(&self, holds: impl Fn(&[Post]) -> bool) {
        let mut news = self.shared.news.subscribe();
        while !holds(&self.shared.lock().posts) {
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// From now on requests are judged, but not kept for [`Self::posts`]: for benchmarks.
    pub fn keep_no_posts(&self) {
        self.shared.lock().forgetful = true;
    }

    /// Every request so far; the first 100,000 are kept.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        self.shared.lock().posts.clone()
    }

    /// What clients did against the specification.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().oracle.violations.clone()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// Cuts every connection.
    pub async fn cut(&self) {
        self.service.cut().await;
    }

    /// Sessions that live.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.lock().sessions.len()
    }

    /// Waits until every session, and there is one, has a request that is not answered.
    pub async fn poll_is_held(&self) {
        loop {
            let held = {
                let state = self.shared.lock();
                // One that was asked for and left never holds anything.
                let used = |s: &&Handle| s.used.load(Ordering::Acquire);
                let mut sessions = state.sessions.values().filter(used).peekable();
                sessions.peek().is_some()
                    && sessions.all(|s| s.unanswered.load(Ordering::Acquire) > 0)
            };
            if held {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends every session with this condition, as a reply to what is held.
    pub fn terminate_all(&self, condition: &str, inner: &str) {
        for session in self.shared.lock().sessions.values() {
            // It may be ending already.
            let _ = session.commands.send(Command::End {
                condition: condition.to_owned(),
                inner: inner.to_owned(),
            });
        }
    }
}
