//! A tiny XMPP server in memory: login, binding, roster, ping, messages between its users, and `echo`, who
//! sends every message back. One [`Stream`] is one client, whatever carries it: [`crate::cm`] or plain TCP
//! ([`Server::listen`]).

mod c2s;
mod iq;
mod login;
mod sasl;
mod stream;
mod tag;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::Service;
use sasl::Hash;
pub use stream::Stream;

/// Elements that [`Server::received`] keeps at most.
const KEPT: usize = 200_000;

/// What a stream gets from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// One element for the client, standalone but for `jabber:client` and the `stream` prefix.
    Element(String),
    /// The stream's end.
    Close,
}

/// What the server offers and does.
#[derive(Clone, Debug)]
pub struct Options {
    /// SASL mechanisms, the best first: SCRAM-SHA-256, SCRAM-SHA-1, PLAIN; ANONYMOUS can be added, and others
    /// that are offered and refused.
    pub mechanisms: Vec<&'static str>,
    /// More children for the features before login.
    pub before_login: String,
    /// More children for the features after login.
    pub after_login: String,
    /// `jabber:iq:auth` (XEP-0078), plain and digest.
    pub legacy_auth: bool,
    /// In-band registration (XEP-0077) before login.
    pub registration: bool,
    /// SASL2 with Bind 2 (XEP-0388, XEP-0386).
    pub sasl2: bool,
    /// Messages for a user without a session wait for the next one; otherwise they come back as errors.
    pub offline: bool,
    /// What clients send is kept for [`Server::received`].
    pub recording: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mechanisms: vec!["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"],
            before_login: String::new(),
            after_login: String::new(),
            legacy_auth: false,
            registration: false,
            sasl2: false,
            offline: false,
            recording: true,
        }
    }
}

/// The server. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Server {
    domain: Arc<str>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Online {
    sink: UnboundedSender<Out>,
    /// Which stream it is; a JID may pass to another.
    stream: u64,
    available: bool,
}

#[derive(Debug, Default)]
struct Shared {
    users: HashMap<String, String>,
    salted: HashMap<(String, Hash), Vec<u8>>,
    /// Full JID to client; ordered, so that the resources of an account stand together.
    online: BTreeMap<String, Online>,
    /// Messages that wait, by bare JID.
    waiting: HashMap<String, Vec<String>>,
    received: Vec<(String, String)>,
    counter: u64,
    options: Options,
}

impl Server {
    /// A server of one domain; users are added by [`Self::add_user`].
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.into(),
            shared: Arc::default(),
        }
    }

    /// Its domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Adds an account.
    pub fn add_user(&self, user: &str, password: &str) {
        let mut shared = self.lock();
        shared.salted.retain(|(known, _), _| known != user);
        shared.users.insert(user.to_owned(), password.to_owned());
    }

    /// Changes what it offers and does, for streams from now on.
    pub fn configure(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.lock().options);
    }

    /// More children for the features before login.
    pub fn set_extra_features(&self, xml: &str) {
        self.configure(|options| xml.clone_into(&mut options.before_login));
    }

    /// Sends an element to a full JID, as it stands; false if nobody has it.
    #[must_use]
    pub fn inject(&self, jid: &str, element: &str) -> bool {
        let shared = self.lock();
        let found = shared.online.get(jid);
        found.is_some_and(|client| client.sink.send(Out::Element(element.to_owned())).is_ok())
    }

    /// Ends the stream of a full JID with this stream error condition; false if nobody has it.
    #[must_use]
    pub fn kick(&self, jid: &str, condition: &str) -> bool {
        let found = self.lock().online.remove(jid);
        found.is_some_and(|client| {
            // It may be ending already.
            let _ = client.sink.send(Out::Element(stream_error(condition)));
            client.sink.send(Out::Close).is_ok()
        })
    }

    /// Full JIDs that are online.
    #[must_use]
    pub fn online(&self) -> Vec<String> {
        self.lock().online.keys().cloned().collect()
    }

    /// Everything that came from this full JID, or from any resource of this bare JID, since it was bound,
    /// in order. At most the first 200,000 elements of all clients are kept.
    #[must_use]
    pub fn received(&self, jid: &str) -> Vec<String> {
        let is_from = |from: &str| from == jid || bare(from) == jid;
        let shared = self.lock();
        let log = shared.received.iter().filter(|(from, _)| is_from(from));
        log.map(|(_, element)| element.clone()).collect()
    }

    /// A new client; what it is sent comes out of the receiver.
    #[must_use]
    pub fn connect(&self) -> (Stream, UnboundedReceiver<Out>) {
        let id = format!("{:x}", self.fresh());
        self.connect_as(&id)
    }

    /// As [`Self::connect`], with this stream id, which digest logins hash.
    #[must_use]
    pub fn connect_as(&self, id: &str) -> (Stream, UnboundedReceiver<Out>) {
        let (sink, out) = mpsc::unbounded_channel();
        (Stream::new(self.clone(), id, self.fresh(), sink), out)
    }

    /// Serves plain XMPP over TCP: the way without a sidecar, for comparison.
    pub async fn listen(&self) -> Service {
        let server = self.clone();
        Service::start(move |stream| c2s::serve(server.clone(), stream)).await
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> u64 {
        let mut shared = self.lock();
        shared.counter += 1;
        shared.counter
    }

    fn options(&self) -> Options {
        self.lock().options.clone()
    }

    fn has_password(&self, user: &str, password: &str) -> bool {
        self.lock()
            .users
            .get(user)
            .is_some_and(|known| known == password)
    }

    /// The salted password of an account; worked out once.
    fn salted(&self, user: &str, hash: Hash) -> Option<Vec<u8>> {
        let key = (user.to_owned(), hash);
        if let Some(known) = self.lock().salted.get(&key) {
            return Some(known.clone());
        }
        let password = self.lock().users.get(user).cloned()?;
        let salted = hash.salted(&password, user.as_bytes());
        self.lock().salted.insert(key, salted.clone());
        Some(salted)
    }
}

impl Shared {
    fn record(&mut self, jid: &str, element: &str) {
        if self.options.recording && self.received.len() < KEPT {
            self.received.push((jid.to_owned(), element.to_owned()));
        }
    }

    /// The client that a stanza to this JID goes to: that resource, or any available one of the account.
    fn target(&self, to: &str) -> Option<&Online> {
        self.online.get(to).or_else(|| {
            let first = format!("{}/", bare(to));
            let mut resources = self
                .online
                .range(first.clone()..)
                .take_while(|(jid, _)| jid.starts_with(&first));
            resources
                .clone()
                .find(|(_, o)| o.available)
                .or_else(|| resources.next())
                .map(|(_, online)| online)
        })
    }
}

fn bare(jid: &str) -> &str {
    jid.split_once('/').map_or(jid, |(bare, _)| bare)
}

fn stream_error(condition: &str) -> String {
    format!(
        "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>\
         <{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    )
}
