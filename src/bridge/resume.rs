//! Streams that outlive a client's connection: away, resumed, given away, and what is left of them (S-49, S-51).

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::managed::wrapped;
use super::{Bridge, CLOSE_LIMIT, Event, Mode, Peer, Stage, returns};
use crate::stream::STREAM_CLOSE;
use crate::stream::error::{FaultReason, fault};
use crate::stream::ns;
use crate::xml::{Framer, RootText};

/// The client's half of a stream, on its way to the session that it resumes.
pub struct ClientSide {
    framer: Framer,
    peer: Option<Peer>,
    secure: bool,
    direct: bool,
    /// What is not yet written to it.
    output: BytesMut,
}

impl std::fmt::Debug for ClientSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSide")
    }
}

/// A message that outlived its stream.
#[derive(Clone)]
pub struct Kept {
    /// Its number among the stanzas for the client; `None` for one that the client cannot have seen.
    number: Option<u64>,
    /// When it came.
    pub at: Instant,
    /// As it stands on a client's stream.
    pub bytes: Bytes,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kept({} bytes)", self.bytes.len())
    }
}

/// What is left of a stream that cannot be resumed any more.
#[derive(Clone, Debug, Default)]
pub struct Remains {
    /// The last stanza of the client's that is known to have arrived (XEP-0198 section 5).
    pub h: u32,
    /// Messages that may not have reached the client.
    pub kept: Vec<Kept>,
    /// How many more there were that are not worth keeping, or too many.
    pub dropped: usize,
}

impl Remains {
    /// Leaves only what a client that has `h` stanzas has not seen.
    pub fn seen_up_to(&mut self, h: u32) {
        // Numbers and `h` are both modulo 2^32, and never more than a buffer apart.
        self.kept.retain(|kept| {
            kept.number
                .is_none_or(|n| wrapped(n).wrapping_sub(h) <= u32::MAX / 2 && wrapped(n) != h)
        });
    }

    /// Bytes of what is kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.bytes.len()).sum()
    }
}

impl Bridge {
    /// The stream can still be resumed.
    pub(super) fn is_resumable(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Away)
            && self.managed.as_ref().is_some_and(|m| m.id.is_some())
            && self.session.as_ref().is_some_and(|s| s.is_alive())
    }

    /// The client is gone, its stream waits for it (S-50).
    pub(super) fn wait_for_return(&mut self, now: Instant) {
        let Mode::Local { resume_window } = self.options.mode else {
            return;
        };
        self.stage = Stage::Away;
        self.away_until = Some(now + resume_window);
        self.forget_question();
        self.framer = Framer::new(self.options.limits, RootText::Refuse);
    }

    /// The client waits on another connection; its stream is kept meanwhile.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.stage == Stage::Away
    }

    /// Whether a client may take this stream up again now.
    #[must_use]
    pub fn can_attach(&self) -> bool {
        self.is_resumable()
    }

    /// Takes the client's half out, to hand it to the stream that it resumes.
    /// [`Self::given_away`] or [`Self::take_back`] must follow.
    pub fn detach(&mut self) -> ClientSide {
        let framer = Framer::new(self.options.limits, RootText::Refuse);
        let output = BytesMut::from(self.outbox.unwritten());
        self.outbox.clear();
        ClientSide {
            framer: std::mem::replace(&mut self.framer, framer),
            peer: self.peer.clone(),
            secure: self.secure,
            direct: self.direct,
            output,
        }
    }

    /// The stream to be resumed has gone in the meantime: the client stays here.
    /// [`Self::refuse_resume`] must follow.
    pub fn take_back(&mut self, side: ClientSide) {
        self.framer = side.framer;
        let later = self.outbox.unwritten().to_vec();
        self.outbox.clear();
        self.outbox.push(&side.output);
        self.outbox.push(&later);
    }

    /// The client now belongs to the stream that it resumed: this session is not needed (S-49).
    pub fn given_away(&mut self, now: Instant) {
        self.close_client();
        self.end_session(CLOSE_LIMIT, now);
    }

    /// There is no such stream: the client may bind here. `h`: how far the lost one had come; `kept`: what
    /// it is given once it is bound (S-51), with the time of each.
    pub fn refuse_resume(&mut self, h: Option<u32>, kept: Vec<(Kept, String)>, now: Instant) {
        if self.stage != Stage::Resuming {
            return;
        }
        let h = h.map(|h| format!(" h='{h}'")).unwrap_or_default();
        let failed = format!(
            "<failed xmlns='{}'{h}><item-not-found xmlns='{}'/></failed>",
            ns::SM,
            ns::STANZA_ERROR
        );
        self.outbox.push(failed.as_bytes());
        self.kept.extend(kept);
        self.stage = Stage::Open;
        self.pump(now);
        self.flow(now);
    }

    /// A client takes this stream up again (S-49): `h` stanzas have reached it. Returns what the old
    /// connection, if there still is one, must be sent before it is closed.
    pub fn attach(&mut self, side: ClientSide, h: u32, now: Instant) -> Vec<u8> {
        let mut farewell = Vec::new();
        if self.stage == Stage::Open {
            farewell.extend_from_slice(self.outbox.rest_of_partial());
            fault(FaultReason::Replaced, None).write(&mut farewell);
            farewell.extend_from_slice(STREAM_CLOSE);
        }
        // A wrong `h` takes the name away, the client is resumed all the same (S-48).
        let id = self.managed.as_ref().and_then(|m| m.id.clone());
        self.on_ack(h);
        self.forget_question();
        let mut first = side.output;
        if let Some(managed) = &mut self.managed
            && let Some(id) = id
        {
            // Everything received is held and will be delivered: nothing is to be sent twice.
            managed.told = managed.received;
            let resumed = format!(
                "<resumed xmlns='{}' previd='{}' h='{}'/>",
                ns::SM,
                id.as_str(),
                wrapped(managed.received)
            );
            first.extend_from_slice(resumed.as_bytes());
        }
        self.outbox.start_over(&first);
        self.framer = side.framer;
        self.secure = side.secure;
        self.direct = side.direct;
        if let Some(peer) = side.peer {
            self.peer = Some(peer);
        }
        self.stage = Stage::Open;
        self.away_until = None;
        self.stalled_until = None;
        if let Some(session) = &mut self.session {
            session.set_receiving(true);
        }
        if std::mem::take(&mut self.csi_inactive) {
            // XEP-0352 section 5: a resumed stream is active.
            self.send_own("<active xmlns='urn:xmpp:csi:0'/>");
        }
        self.pump(now);
        self.flow(now);
        farewell
    }

    /// The session is over; tells the shell what is left of a stream that had a name.
    pub(super) fn leave_remains(
        &mut self,
        clean: bool,
        keep: bool,
        errors: Vec<String>,
        now: Instant,
    ) {
        let Some(managed) = &mut self.managed else {
            return;
        };
        let Some(id) = managed.id.take() else { return };
        if clean {
            return self.events.push_back(Event::Over { id, remains: None });
        }
        let mut remains = Remains {
            h: managed.h(),
            ..Remains::default()
        };
        let first = managed.acked + 1;
        let account = self.account.clone().unwrap_or_default();
        if keep {
            for (n, (record, bytes)) in (first..).zip(self.outbox.undelivered()) {
                if returns::is_worth_keeping(bytes, &account) {
                    remains.kept.push(Kept {
                        number: Some(n),
                        at: record.at,
                        bytes: Bytes::copy_from_slice(bytes),
                    });
                } else {
                    remains.dropped += 1;
                }
            }
        }
        for error in errors {
            remains.kept.push(Kept {
                number: None,
                at: now,
                bytes: Bytes::from(error),
            });
        }
        self.events.push_back(Event::Over {
            id,
            remains: Some(remains),
        });
    }

    /// S-51: what an earlier stream left, now that the client is bound.
    pub(super) fn deliver_kept(&mut self, now: Instant) {
        let domain = self.domain().unwrap_or_default().to_owned();
        for (kept, stamp) in std::mem::take(&mut self.kept) {
            let bytes = match kept.number {
                Some(_) => returns::delayed(&kept.bytes, &domain, &stamp),
                None => kept.bytes.to_vec(),
            };
            self.push_stanza(now, |out| out.extend_from_slice(&bytes));
        }
    }

    /// What an earlier stream left and the client did not get, because it never bound.
    #[must_use]
    pub fn take_kept(&mut self) -> Vec<Kept> {
        let kept = std::mem::take(&mut self.kept);
        kept.into_iter().map(|(kept, _)| kept).collect()
    }

    /// How long a stream without a client waits, at most.
    pub(super) fn away_is_over(&mut self, now: Instant) {
        self.away_until = None;
        self.part(CLOSE_LIMIT, now);
    }
}

/// Longest collecting of what still comes for a vanished client (S-50).
pub(super) const COLLECT_LIMIT: Duration = Duration::from_secs(2);
