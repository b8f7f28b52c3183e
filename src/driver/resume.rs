//! Streams that can be resumed, and what is left of those that cannot any more (S-49, S-51).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::client::{Client, Peer};
use super::clock;
use crate::bridge::{ClientSide, Kept, Remains, SmId};

/// How long it is known how far a lost stream had come.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Most lost streams remembered.
const MAX_GONE: usize = 1024;
/// How long messages of a lost stream are kept for its client.
const KEPT: Duration = Duration::from_secs(600);

/// A client that comes to resume a stream.
pub(super) struct Attachment {
    pub(super) client: Client,
    pub(super) peer: Peer,
    pub(super) side: ClientSide,
    /// Stanzas of the stream that the client has.
    pub(super) h: u32,
    /// Where client and half go back if the stream cannot be resumed any more; dropped if it was.
    pub(super) back: oneshot::Sender<Returned>,
}

/// A client that could not be taken.
pub(super) struct Returned {
    pub(super) client: Client,
    pub(super) side: ClientSide,
}

impl Attachment {
    /// The stream is over: the client stays where it was.
    pub(super) fn decline(self) {
        let Self {
            client, side, back, ..
        } = self;
        // Whoever waited for it may be gone too; then the client sees its connection close.
        let _ = back.send(Returned { client, side });
    }
}

/// How the stream of that name stands.
pub(super) enum Found {
    /// It waits.
    Live(mpsc::UnboundedSender<Attachment>),
    /// It is over; how far it had come, and what it left, with the time of each.
    Gone(u32, Vec<(Kept, String)>),
    /// There is none, or it is somebody else's.
    Unknown,
}

/// Whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) domain: String,
    /// User name, where login showed it.
    pub(super) user: Option<String>,
}

impl Owner {
    fn may_be(&self, other: &Self) -> bool {
        let users = self.user.as_ref().zip(other.user.as_ref());
        self.domain == other.domain && users.is_none_or(|(a, b)| a == b)
    }
}

struct Gone {
    owner: Owner,
    remains: Remains,
    at: Instant,
}

#[derive(Default)]
struct Streams {
    live: HashMap<SmId, (Owner, mpsc::UnboundedSender<Attachment>)>,
    gone: HashMap<SmId, Gone>,
    /// Names in `gone`, oldest first.
    order: VecDeque<SmId>,
    /// Messages kept in `gone`, in bytes.
    kept: usize,
}

/// All streams of a sidecar that have a name.
pub(super) struct Registry {
    streams: Mutex<Streams>,
    /// Most bytes of messages kept for all lost streams together.
    keep_bytes: usize,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let streams = self.lock();
        write!(
            f,
            "Registry({} live, {} gone)",
            streams.live.len(),
            streams.gone.len()
        )
    }
}

impl Registry {
    pub(super) fn new(keep_bytes: usize) -> Self {
        Self {
            streams: Mutex::default(),
            keep_bytes,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream can be resumed; clients come through `door`.
    pub(super) fn add(&self, id: SmId, owner: Owner, door: mpsc::UnboundedSender<Attachment>) {
        self.lock().live.insert(id, (owner, door));
    }

    /// The stream is over.
    pub(super) fn remove(self: &Arc<Self>, id: SmId, remains: Option<Remains>, now: Instant) {
        let mut streams = self.lock();
        let Some((owner, _)) = streams.live.remove(&id) else {
            return;
        };
        let Some(mut remains) = remains else { return };
        if streams.kept + remains.bytes() > self.keep_bytes {
            remains.dropped += remains.kept.len();
            remains.kept.clear();
        }
        if remains.dropped > 0 {
            tracing::info!(
                domain = owner.domain,
                stanzas = remains.dropped,
                "gone with their session: stanzas that the client had not acknowledged, and that are no messages, in \
                 the server's archive, or too many to keep"
            );
        }
        if streams.order.len() >= MAX_GONE
            && let Some(oldest) = streams.order.pop_front()
        {
            streams.forget(&oldest);
        }
        let keeps = !remains.kept.is_empty();
        streams.kept += remains.bytes();
        streams.order.push_back(id.clone());
        streams.gone.insert(
            id,
            Gone {
                owner,
                remains,
                at: now,
            },
        );
        drop(streams);
        if keeps {
            let weak = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep(KEPT).await;
                if let Some(registry) = weak.upgrade() {
                    registry.expire(clock::now());
                }
            });
        }
    }

    /// Looks for the stream that a client of `owner`, which has `h` of its stanzas, names. What a lost one left
    /// is taken out; [`Self::put_back`] if it does not reach the client.
    pub(super) fn find(&self, id: &SmId, owner: &Owner, h: u32, now: Instant) -> Found {
        self.expire(now);
        let mut streams = self.lock();
        if let Some((theirs, door)) = streams.live.get(id) {
            return if theirs.may_be(owner) {
                Found::Live(door.clone())
            } else {
                tracing::warn!(
                    domain = owner.domain,
                    "refused to resume the stream of another user"
                );
                Found::Unknown
            };
        }
        let Some(gone) = streams.gone.get_mut(id).filter(|g| g.owner.may_be(owner)) else {
            return Found::Unknown;
        };
        let before = gone.remains.bytes();
        gone.remains.seen_up_to(h);
        let kept = std::mem::take(&mut gone.remains.kept);
        let h = gone.remains.h;
        streams.kept -= before;
        Found::Gone(h, kept.into_iter().map(|k| stamped(k, now)).collect())
    }

    /// What [`Self::find`] gave did not reach the client.
    pub(super) fn put_back(&self, id: &SmId, kept: Vec<Kept>) {
        let mut streams = self.lock();
        let bytes: usize = kept.iter().map(|k| k.bytes.len()).sum();
        if let Some(gone) = streams.gone.get_mut(id) {
            gone.remains.kept = kept;
            streams.kept += bytes;
        }
    }

    /// Forgets what is too old.
    fn expire(&self, now: Instant) {
        let mut streams = self.lock();
        let mut freed = 0;
        for gone in streams.gone.values_mut() {
            let age = now.saturating_duration_since(gone.at);
            if age >= KEPT && !gone.remains.kept.is_empty() {
                freed += gone.remains.bytes();
                gone.lost();
            }
        }
        streams.kept -= freed;
        while let Some(oldest) = streams.order.front().cloned()
            && streams
                .gone
                .get(&oldest)
                .is_none_or(|gone| now.saturating_duration_since(gone.at) >= REMEMBERED)
        {
            streams.order.pop_front();
            streams.forget(&oldest);
        }
    }

    /// The sidecar stops: what is still kept is lost, and that is said.
    pub(super) fn close(&self) {
        for gone in self.lock().gone.values_mut() {
            gone.lost();
        }
    }
}

impl Streams {
    fn forget(&mut self, id: &SmId) {
        if let Some(mut gone) = self.gone.remove(id) {
            self.kept -= gone.remains.bytes();
            gone.lost();
        }
    }
}

impl Gone {
    fn lost(&mut self) {
        let count = std::mem::take(&mut self.remains.kept).len();
        if count > 0 {
            tracing::warn!(
                domain = self.owner.domain,
                messages = count,
                "lost: the client did not come back for what its lost session had left"
            );
        }
    }
}

/// When it came, as XEP-0082 writes it.
fn stamped(kept: Kept, now: Instant) -> (Kept, String) {
    use time::format_description::well_known::Rfc3339;
    let ago = now.saturating_duration_since(kept.at);
    let at = SystemTime::now()
        .checked_sub(ago)
        .unwrap_or(SystemTime::UNIX_EPOCH);
    let at = time::OffsetDateTime::from(at);
    let at = at.replace_nanosecond(0).unwrap_or(at);
    let stamp = at.format(&Rfc3339).unwrap_or_default();
    (kept, stamp)
}
