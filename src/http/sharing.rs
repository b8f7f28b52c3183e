//! Which sessions share which connections (P-11), and that connections are opened once for all who wait.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};

use futures_util::future::{FutureExt as _, Shared, WeakShared};
use tokio::sync::watch;
use tokio::time::Instant;
use url::{Origin, Url};

use super::live::Live;
use super::lock;
use super::multiplex::{Multiplexed, Room, Slot};
use crate::bosh::failure::Failure;
use crate::connect::{CertificateName, Connector};

/// A connection, before it is known what it is good for.
pub(super) enum Made {
    /// HTTP/1.1: for one session.
    One(Live),
    /// HTTP/2.
    Many(Arc<Multiplexed>),
}

/// A connection being made.
pub(super) type Making = Pin<Box<dyn Future<Output = Result<Made, Failure>> + Send>>;

/// What an opening that several wait for came to.
#[derive(Clone)]
pub(super) enum Opened {
    /// Who comes first takes it.
    One(Arc<Mutex<Option<Live>>>),
    Many(Arc<Multiplexed>),
}

impl From<Made> for Opened {
    fn from(made: Made) -> Self {
        match made {
            Made::One(live) => Self::One(Arc::new(Mutex::new(Some(live)))),
            Made::Many(connection) => Self::Many(connection),
        }
    }
}

type Opens = Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send>>;
/// Under way as long as somebody waits for it.
pub(super) type Opening = Shared<Opens>;

/// Connections over HTTP/2 to one origin by one way.
#[derive(Default)]
pub(super) struct Group {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: Vec<Arc<Multiplexed>>,
    /// By the rule that it judges certificates by.
    opening: Option<(CertificateName, WeakShared<Opens>)>,
    /// The last connection came to HTTP/1.1, so that there is nothing to wait for.
    alone: bool,
}

/// What a session wants of a connection.
pub(super) struct Want<'a> {
    /// By which its certificate must be good.
    pub(super) rule: &'a CertificateName,
    /// Used before, and preferred: streams of one connection keep their order on the wire.
    pub(super) usual: Option<Arc<Multiplexed>>,
    /// Not these.
    pub(super) avoid: Vec<Weak<Multiplexed>>,
    /// One that has been heard since then (T-08).
    pub(super) since: Option<Instant>,
}

impl Want<'_> {
    fn allows(&self, connection: &Arc<Multiplexed>) -> bool {
        let avoided = |other: &Weak<_>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(connection));
        connection.suits(self.rule)
            && !self.avoid.iter().any(avoided)
            && self
                .since
                .is_none_or(|since| connection.traffic.heard() >= since)
    }
}

/// How a session comes to a connection.
pub(super) enum Step {
    /// Here is a stream on one.
    Take(Slot),
    /// One may have room soon.
    Settle(Arc<Multiplexed>, watch::Receiver<usize>),
    /// One is being opened; whether by the own rule.
    Join(Opening, bool),
    /// By opening one itself.
    Alone,
}

impl Group {
    /// What to do for a connection; `open` is called to open one for all who want one.
    pub(super) fn step(
        &self,
        want: &Want<'_>,
        accepts: impl Fn(&Multiplexed) -> bool,
        open: impl FnOnce() -> Opens,
    ) -> Step {
        let mut state = lock(&self.state);
        state.tidy();
        let fits = |c: &&Arc<Multiplexed>| want.allows(c) && accepts(c);
        let mut settling = None;
        let known = state.connections.iter();
        for connection in want.usual.iter().chain(known).filter(fits) {
            match connection.room() {
                Room::Yes(slot) => return Step::Take(slot),
                Room::Soon(most) => settling = Some((Arc::clone(connection), most)),
                Room::Full | Room::Gone => {}
            }
        }
        if let Some((connection, most)) = settling {
            return Step::Settle(connection, most);
        }
        if state.alone {
            return Step::Alone;
        }
        let under_way = state
            .opening
            .as_ref()
            .and_then(|(rule, opening)| Some((opening.upgrade()?, rule == want.rule)));
        let (opening, ours) = under_way.unwrap_or_else(|| (open().shared(), true));
        if let Some(weak) = opening.downgrade()
            && ours
        {
            state.opening = Some((want.rule.clone(), weak));
        }
        Step::Join(opening, ours)
    }

    /// A connection came to HTTP/2: whoever suits may use it.
    pub(super) fn add(&self, connection: &Arc<Multiplexed>) {
        let mut state = lock(&self.state);
        state.alone = false;
        state.forget_opening();
        let known = |other: &Arc<_>| Arc::ptr_eq(other, connection);
        if !state.connections.iter().any(known) {
            state.connections.push(Arc::clone(connection));
        }
    }

    /// A connection came to HTTP/1.1: each session opens its own from now on.
    pub(super) fn note_alone(&self) {
        let mut state = lock(&self.state);
        state.alone = true;
        state.forget_opening();
    }

    /// No connection came about: the next one who wants one tries again.
    pub(super) fn note_failed(&self) {
        lock(&self.state).forget_opening();
    }

    /// Whether there is a connection that may be used, or will be.
    pub(super) fn has_any(&self, want: &Want<'_>) -> bool {
        let mut state = lock(&self.state);
        state.tidy();
        let opening = state.opening.as_ref();
        opening.is_some_and(|(_, opening)| opening.upgrade().is_some())
            || state.connections.iter().any(|c| want.allows(c))
    }

    /// Closes those without an exchange.
    pub(super) fn drop_idle(&self) {
        let mut state = lock(&self.state);
        state.opening = None;
        state.connections.retain(|c| c.streams() > 0);
    }

    /// Lets those whose local address is `lost` carry no further request. Returns whether there was any.
    pub(super) fn renew(&self, lost: impl Fn(Option<IpAddr>) -> bool) -> bool {
        let mut state = lock(&self.state);
        let mut found = false;
        for connection in state.connections.iter().filter(|c| lost(c.place.local)) {
            connection.place.lose();
            found = true;
        }
        if found {
            // One being opened goes the same way.
            state.opening = None;
            state.tidy();
        }
        found
    }
}

impl State {
    /// What came of it is known to all who waited.
    fn forget_opening(&mut self) {
        let under_way = |(_, opening): &(_, WeakShared<Opens>)| {
            opening.upgrade().is_some_and(|o| o.peek().is_none())
        };
        self.opening = self.opening.take().filter(under_way);
    }

    /// Forgets connections that carry no further request; those with streams live on by them. Of the others
    /// the newest is enough.
    fn tidy(&mut self) {
        self.connections.retain(|connection| !connection.is_gone());
        let is_idle = |c: &Arc<Multiplexed>| c.streams() == 0;
        let newest = self.connections.iter().rposition(is_idle);
        let mut index = 0;
        self.connections.retain(|connection| {
            index += 1;
            !is_idle(connection) || newest == Some(index - 1)
        });
    }
}

/// All groups of connections.
#[derive(Clone, Default)]
pub struct Sharing {
    groups: Arc<Mutex<Vec<Known>>>,
}

struct Known {
    origin: Origin,
    connector: Connector,
    group: Weak<Group>,
}

impl std::fmt::Debug for Sharing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sharing({} groups)", lock(&self.groups).len())
    }
}

impl Sharing {
    /// The group for sessions with `target` by this way; one of its own where nothing may be shared.
    pub(super) fn group(&self, target: &Url, connector: &Connector) -> Arc<Group> {
        let origin = target.origin();
        let mut groups = lock(&self.groups);
        groups.retain(|known| known.group.strong_count() > 0);
        let same = |known: &&Known| {
            known.origin == origin && known.connector.goes_the_way_of(connector, target)
        };
        if let Some(group) = groups.iter().find(same).and_then(|k| k.group.upgrade()) {
            return group;
        }
        let group = Arc::new(Group::default());
        groups.push(Known {
            origin,
            connector: connector.clone(),
            group: Arc::downgrade(&group),
        });
        group
    }
}
