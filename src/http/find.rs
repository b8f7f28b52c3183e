//! How a request comes to a connection: a kept one, a stream of a shared one, or a new one.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Peer;
use super::live::Live;
use super::lock;
use super::multiplex::{Multiplexed, Room, Slot, settled};
use super::pool::Pool;
use super::sharing::{Made, Making, Opened, Step, Want};
use crate::bosh::failure::Failure;
use crate::connect::{self, Protocol};

/// Openings of others that are waited for; then one opens its own.
const ROUNDS: usize = 16;
/// How long the peer may take to say how many streams it allows.
const SETTLING: Duration = Duration::from_secs(5);
/// Most connections remembered on which an exchange went wrong.
const MAX_DISTRUSTED: usize = 8;

/// What a request goes out on.
pub(super) enum Found {
    /// One that has carried others, idle since then.
    Kept(Live, Instant),
    New(Live),
    Stream(Slot),
}

impl Pool {
    /// What a request can go out on: a connection of its own that is kept, unless `new`; a stream of a shared
    /// one, but not of `not`; a new one.
    pub(super) async fn find(
        self: &Arc<Self>,
        new: bool,
        since: Option<Instant>,
        not: Option<Weak<Multiplexed>>,
    ) -> Result<Found, Failure> {
        if !new && let Some((connection, idle)) = self.kept.checkout() {
            return Ok(Found::Kept(connection, idle));
        }
        let Some(group) = &self.group else {
            return self.take(self.open().await?).map(Found::New);
        };
        let mut avoid: Vec<_> = not.into_iter().collect();
        if since.is_some() {
            avoid.extend(lock(&self.distrusted).iter().map(|(c, _)| c.clone()));
        }
        let mut want = Want {
            rule: self.connector.rule(),
            usual: lock(&self.usual).upgrade(),
            avoid,
            since,
        };
        for _ in 0..ROUNDS {
            let accepts = |c: &Multiplexed| self.identity.accepts(c.certificate.as_deref());
            let open = || {
                let opening = self.opening();
                Box::pin(async move { opening.await.map(Opened::from) }) as _
            };
            match group.step(&want, accepts, open) {
                Step::Take(slot) => return self.take_stream(slot).map(Found::Stream),
                Step::Settle(connection, most) => {
                    if !settled(most, SETTLING).await {
                        want.avoid.push(Arc::downgrade(&connection));
                    }
                }
                Step::Join(opening, ours) => match opening.await {
                    Ok(Opened::Many(connection)) => {
                        group.add(&connection);
                        if ours {
                            self.allow(&connection)?;
                        }
                        want.usual = Some(connection);
                    }
                    Ok(Opened::One(live)) => {
                        group.note_alone();
                        let live = lock(&live).take();
                        if let Some(live) = live {
                            return self.take(live).map(Found::New);
                        }
                    }
                    Err(failure) => {
                        group.note_failed();
                        if ours {
                            return Err(failure);
                        }
                        break;
                    }
                },
                Step::Alone => break,
            }
        }
        match self.opening().await? {
            Made::One(live) => {
                group.note_alone();
                self.take(live).map(Found::New)
            }
            Made::Many(connection) => {
                let room = connection.room();
                group.add(&connection);
                match room {
                    Room::Yes(slot) => self.take_stream(slot).map(Found::Stream),
                    Room::Full | Room::Soon(_) | Room::Gone => Err(self.peer(None).no_room()),
                }
            }
        }
    }

    /// A connection of its own, if its certificate is the session's.
    pub(super) fn take(&self, mut live: Live) -> Result<Live, Failure> {
        self.check(live.about.certificate.take().as_deref())?;
        Ok(live)
    }

    /// The same for a shared one; its certificate is the session's once it has answered.
    fn take_stream(&self, slot: Slot) -> Result<Slot, Failure> {
        self.allow(&slot.connection)?;
        *lock(&self.usual) = Arc::downgrade(&slot.connection);
        Ok(slot)
    }

    fn allow(&self, connection: &Multiplexed) -> Result<(), Failure> {
        let certificate = connection.certificate.as_deref();
        match self.identity.accepts(certificate) {
            true => Ok(()),
            false => self.check(certificate),
        }
    }

    /// A shared connection has answered: its certificate is compared with what follows.
    pub(super) fn pin(&self, connection: &Multiplexed) {
        // It was allowed, and the session has used no other meanwhile that could forbid it.
        let _ = self.check(connection.certificate.as_deref());
    }

    fn check(&self, certificate: Option<&[u8]>) -> Result<(), Failure> {
        self.identity
            .check(certificate, &self.authority)
            .map_err(connect::ConnectError::into_failure)
    }

    /// A repeat: what failed may be the path, so the others on it are not trusted either (T-08). Shared ones
    /// from which nothing was heard since an exchange of ours began carry no further request of anybody's.
    /// Returns since when a connection must have been heard.
    pub(super) fn doubt(&self) -> Option<Instant> {
        self.drop_own();
        let distrusted = lock(&self.distrusted);
        for (connection, began) in distrusted.iter() {
            if let Some(connection) = connection.upgrade()
                && connection.traffic.heard() <= *began
            {
                connection.place.lose();
            }
        }
        distrusted.iter().map(|(_, began)| *began).max()
    }

    /// An exchange on this shared connection came to no good end.
    pub(super) fn distrust(&self, connection: &Arc<Multiplexed>, began: Instant) {
        let mut distrusted = lock(&self.distrusted);
        distrusted.retain(|(other, _)| {
            other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(connection))
        });
        if distrusted.len() == MAX_DISTRUSTED {
            distrusted.remove(0);
        }
        distrusted.push((Arc::downgrade(connection), began));
    }

    /// One came to a good end.
    pub(super) fn trust(&self, connection: &Arc<Multiplexed>) {
        lock(&self.distrusted)
            .retain(|(other, _)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(connection)));
    }

    async fn open(&self) -> Result<Live, Failure> {
        match self.opening().await? {
            Made::One(live) => Ok(live),
            Made::Many(_) => Err(self.peer(None).no_room()),
        }
    }

    /// A new connection, which need not outlive the session that it is opened for. Boxed, since what a request waits for
    /// mostly is its reply.
    pub(super) fn opening(&self) -> Making {
        let connector = self.connector.clone();
        let url = self.target.url.clone();
        let authority = self.authority.clone();
        let answered = self.answered();
        Box::pin(async move {
            let made = connector.connect(&url).await;
            let made = made.map_err(connect::ConnectError::into_failure)?;
            let peer = Peer {
                upstream: None,
                target: &authority,
                answered,
            };
            match made.protocol.clone() {
                Protocol::Http1 => Ok(Made::One(Live::new(made))),
                Protocol::Http2(proven) => Multiplexed::new(made, proven)
                    .await
                    .map(Made::Many)
                    .map_err(|error| peer.reset(&error, false)),
            }
        })
    }
}
