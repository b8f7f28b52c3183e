//! A BOSH connection manager in memory (XEP-0124, XEP-0206), strict about what clients send and able to play
//! the oddities of real ones. What a client does wrong is collected in [`Cm::violations`]; what goes wrong on
//! the way is scripted by [`Fault`]s.

mod fault;
mod profile;
mod serve;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use fault::{Fault, Rule, When};
pub use profile::Profile;
use session::Session;

use crate::Service;
use crate::tls::Acceptor;
use crate::xmpp::Server;

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
pub(crate) struct State {
    pub(crate) posts: Vec<Post>,
    pub(crate) violations: Vec<String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) sessions: HashMap<String, Arc<Mutex<Session>>>,
    /// Bodies by sid and rid, to see that repeats are byte-identical.
    pub(crate) bodies: HashMap<(String, u64), String>,
    pub(crate) connections: u64,
    pub(crate) opened: u64,
    /// Sessions demand this cookie, set at creation.
    pub(crate) cookie: bool,
}

pub(crate) struct Shared {
    pub(crate) server: Server,
    pub(crate) profile: Profile,
    pub(crate) state: Mutex<State>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn violation(&self, text: impl Into<String>) {
        self.lock().violations.push(text.into());
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

    /// Every request so far.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        self.shared.lock().posts.clone()
    }

    /// What clients did against the specification.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
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

    /// Waits until every session has a request held that carried nothing.
    pub async fn poll_is_held(&self) {
        loop {
            let sessions: Vec<_> = self.shared.lock().sessions.values().cloned().collect();
            let held = |session: &Arc<Mutex<Session>>| {
                session
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .unanswered()
                    > 0
            };
            if !sessions.is_empty() && sessions.iter().all(held) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends every session with this condition, as a reply to what is held.
    pub fn terminate_all(&self, condition: &str, inner: &str) {
        let sessions: Vec<_> = self
            .shared
            .lock()
            .sessions
            .drain()
            .map(|(_, s)| s)
            .collect();
        for session in sessions {
            session
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .end(Some(condition), inner);
        }
    }
}
