//! What a client may do, judged from what came and what was answered; knows nothing of the manager's own state.
//!
//! It never blames a client for what the wire may have done: an answer counts as received from the moment it is
//! written, and one that was spoiled on purpose counts as received too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::fault::Kind;
use super::profile::Profile;
use super::request::Request;

/// Bodies kept to compare repeats with.
const KEPT: usize = 4096;

/// What the oracle thinks of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    /// More at once, or faster, than allowed (XEP-0124 section 11, section 12).
    pub(super) overactive: bool,
    /// Its rid less that of the creation request.
    pub(super) offset: Option<u64>,
}

#[derive(Debug)]
struct Track {
    first: u64,
    highest: u64,
    /// Requests as they first came.
    bodies: BTreeMap<u64, Bytes>,
    /// Requests that are not answered.
    open: BTreeMap<u64, ()>,
    /// The client said that it acknowledges.
    acks: bool,
    last_ack: u64,
    last_new: Instant,
    /// The last empty answer, if it was to an empty request.
    idle_answer: bool,
    /// SASL success was written; a restart has to follow.
    success: bool,
    key: Option<String>,
}

/// The judge of all sessions.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    tracks: HashMap<String, Track>,
    pub(super) violations: Vec<String>,
}

impl Oracle {
    /// A session began with this request.
    pub(super) fn created(&mut self, sid: &str, request: &Request, raw: &Bytes) {
        let track = Track {
            first: request.rid,
            highest: request.rid,
            bodies: BTreeMap::from([(request.rid, raw.clone())]),
            open: BTreeMap::from([(request.rid, ())]),
            acks: request.ack.is_some(),
            last_ack: request.rid,
            last_new: Instant::now(),
            idle_answer: false,
            success: false,
            key: request.new_key.clone(),
        };
        self.tracks.insert(sid.to_owned(), track);
    }

    /// A request of a session came.
    pub(super) fn request(&mut self, request: &Request, raw: &Bytes, profile: &Profile) -> Verdict {
        let Some(track) = request
            .sid
            .as_ref()
            .and_then(|sid| self.tracks.get_mut(sid))
        else {
            return Verdict::default();
        };
        let offset = request.rid.checked_sub(track.first);
        let mut wrong = Vec::new();
        if let Some(known) = track.bodies.get(&request.rid) {
            if known != raw {
                wrong.push(format!(
                    "B-50: the repeat of +{} differs",
                    offset.unwrap_or(0)
                ));
            }
            self.violations.append(&mut wrong);
            return Verdict {
                overactive: false,
                offset,
            };
        }
        let overactive = track.judge_new(request, profile, &mut wrong);
        let at = offset.unwrap_or(0);
        self.violations
            .extend(wrong.into_iter().map(|w| format!("{w} (+{at})")));
        track.remember(request, raw);
        Verdict { overactive, offset }
    }

    /// The answer to this request goes out.
    pub(super) fn answered(&mut self, sid: &str, rid: u64, body: &str, was: Kind) {
        let Some(track) = self.tracks.get_mut(sid) else {
            return;
        };
        track.open.remove(&rid);
        track.idle_answer = was == Kind::Empty && !body.contains("</body>");
        if body.contains("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'") {
            track.success = true;
        }
    }
}

impl Track {
    fn judge_new(&self, request: &Request, profile: &Profile, wrong: &mut Vec<String>) -> bool {
        let kind = request.kind();
        if request.rid < self.first {
            wrong.push("B-33: rid below the first".to_owned());
        }
        if request.rid > self.highest + profile.requests as u64 + 1 {
            wrong.push(format!("B-33: rid jumps by {}", request.rid - self.highest));
        }
        let open = self.open.len();
        let spare = usize::from(kind == Kind::Terminate || request.pause.is_some());
        let too_many = open >= profile.requests + spare;
        if too_many {
            wrong.push(format!(
                "B-38: {open} unanswered, {} allowed",
                profile.requests
            ));
        }
        let polling = Duration::from_secs(profile.polling);
        let soon = self.last_new.elapsed() < polling;
        let plain_empty = kind == Kind::Empty && request.pause.is_none();
        let window = open + 1 >= profile.requests && open > 0;
        let too_fast = plain_empty && soon && (window || profile.requests == 1 && self.idle_answer);
        if too_fast {
            wrong.push("B-39, B-40: an empty request too early".to_owned());
        }
        self.judge_ack(request, wrong);
        if self.success && kind != Kind::Restart && kind != Kind::Terminate {
            wrong.push("X-14: something other than the restart after success".to_owned());
        }
        if kind == Kind::Restart && !self.success {
            wrong.push("X-15: a restart without SASL success".to_owned());
        }
        if request.pause.is_some() && !profile.creation.contains("maxpause") {
            wrong.push("B-43: pause without maxpause".to_owned());
        }
        if self.key.is_some() && request.key.is_none() {
            wrong.push("B-66: no key".to_owned());
        }
        too_many || too_fast
    }

    /// B-45: the highest rid up to which every answer came; left out when that is the one before.
    fn judge_ack(&self, request: &Request, wrong: &mut Vec<String>) {
        let oldest_open = self.open.keys().next().copied();
        // A request that overtook its predecessor: that one is open too.
        let missing = (self.highest + 1 < request.rid).then_some(self.highest + 1);
        let oldest = match (oldest_open, missing) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match (request.ack, oldest) {
            (Some(_), _) if !self.acks => wrong.push("B-45: ack, but none at creation".to_owned()),
            (Some(ack), _) if ack + 1 >= request.rid => {
                wrong.push("B-45: ack where none belongs".to_owned())
            }
            (Some(ack), _) if ack < self.last_ack => wrong.push("B-45: ack goes back".to_owned()),
            (Some(ack), Some(open)) if ack >= open && request.rid > open => {
                wrong.push(format!(
                    "B-45: ack +{} of an answer that was never written",
                    ack - self.first
                ));
            }
            (None, Some(open)) if self.acks && open < request.rid => {
                wrong.push("B-45: no ack, though an answer is missing".to_owned());
            }
            _ => {}
        }
    }

    fn remember(&mut self, request: &Request, raw: &Bytes) {
        self.bodies.insert(request.rid, raw.clone());
        if self.bodies.len() > KEPT {
            self.bodies.pop_first();
        }
        self.open.insert(request.rid, ());
        self.highest = self.highest.max(request.rid);
        self.last_ack = self.last_ack.max(request.ack.unwrap_or(0));
        self.last_new = Instant::now();
        self.success &= request.kind() != Kind::Restart;
        if request.key.is_some() {
            self.key.clone_from(if request.new_key.is_some() {
                &request.new_key
            } else {
                &request.key
            });
        }
    }
}
