//! Who may have a new session when: pure bookkeeping, time is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{TooMany, Visitor};

/// Domains kept apart; what comes on top shares one pace.
pub(super) const MAX_DOMAINS: usize = 64;
/// Visitors of one domain kept apart; those on top share one lane.
pub(super) const MAX_LANES: usize = 128;
/// Sessions of a domain that pass at once before there is a pace.
const BURST: u32 = 30;
/// Who would have to wait longer than about this long for the pace of the domain is refused.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Who ended badly and is not back after this is not expected any more.
const RETURN_WITHIN: Duration = Duration::from_secs(10);
/// So many are expected back, at most.
const MAX_RETURNS: u32 = 256;
/// At any pace so many may wait.
const MIN_PLACES: usize = 8;
/// In a lane with so many strikes those who come back are slowed.
const FREE_STRIKES: u32 = 10;
const MAX_STRIKES: u32 = 16;
/// One strike is forgiven each time this has passed.
const FORGIVE: Duration = Duration::from_secs(3);
/// They move this much slower than a domain, within limits.
const SLOWER: u32 = 10;
const SLOWEST: Duration = Duration::from_millis(500);
/// Longest time for which nobody who comes back is let through.
const MAX_CLOSED: Duration = Duration::from_secs(10);

/// Tells one who waits that it is its turn, or that it will not be.
type Waiter = oneshot::Sender<Result<(), TooMany>>;

/// How a visit ended, where that speaks against the visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There was a session, and nobody was online.
    Unbound,
    /// Somebody was online for moments only: slows, and shuts nobody out.
    Brief,
    /// There was no session, since there had been too many.
    Refused,
}

/// Everybody who asks for sessions.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Of a domain.
    interval: Duration,
    /// Of those who come back, in a lane with too many strikes.
    slow: Duration,
    domains: HashMap<String, Domain>,
}

#[derive(Debug)]
struct Domain {
    /// When, at the steady pace, all that was let through would be.
    due: Instant,
    lanes: HashMap<Visitor, Lane>,
    /// Lines in which somebody waits, the next one first.
    turns: VecDeque<(Visitor, Kind)>,
}

/// Who stands in a line. Several visitors may look the same; one that loops must not hold up another that comes for
/// the first time. So for each visit that ended badly one that comes is taken for the same one, back again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    New,
    Back,
}

#[derive(Debug)]
struct Line {
    /// Not before this one passes.
    due: Instant,
    waiting: VecDeque<Waiter>,
}

impl Line {
    fn new(now: Instant) -> Self {
        Self {
            due: now,
            waiting: VecDeque::new(),
        }
    }

    fn is_blank(&self, now: Instant) -> bool {
        self.waiting.is_empty() && self.due <= now
    }

    fn refuse_beyond(&mut self, places: usize) {
        for waiter in self.waiting.drain(places.min(self.waiting.len())..) {
            // It may have gone.
            let _ = waiter.send(Err(TooMany));
        }
    }
}

/// What is known of visitors that look the same.
#[derive(Debug)]
struct Lane {
    unbound: u32,
    brief: u32,
    /// Up to when strikes have been forgiven.
    forgiven: Instant,
    /// Visits that ended badly, whose visitors are expected back, and when the last one did.
    returns: u32,
    returns_at: Instant,
    new: Line,
    back: Line,
}

impl Lane {
    fn new(now: Instant) -> Self {
        Self {
            unbound: 0,
            brief: 0,
            forgiven: now,
            returns: 0,
            returns_at: now,
            new: Line::new(now),
            back: Line::new(now),
        }
    }

    fn line(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::New => &mut self.new,
            Kind::Back => &mut self.back,
        }
    }

    fn waiting(&self) -> usize {
        self.new.waiting.len() + self.back.waiting.len()
    }

    /// Who comes now; with too many strikes it makes a difference.
    fn arrival(&mut self) -> Kind {
        let back = self.returns > 0;
        self.returns = self.returns.saturating_sub(1);
        if back && self.is_slowed() {
            Kind::Back
        } else {
            Kind::New
        }
    }

    fn forgive(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.forgiven);
        let count = passed.as_secs() / FORGIVE.as_secs();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let rest = count.saturating_sub(self.unbound);
        self.unbound = self.unbound.saturating_sub(count);
        self.brief = self.brief.saturating_sub(rest);
        self.forgiven += FORGIVE.saturating_mul(count);
        if now.saturating_duration_since(self.returns_at) > RETURN_WITHIN {
            self.returns = 0;
        }
    }

    fn ended(&mut self, ending: Ending, now: Instant) {
        match ending {
            Ending::Unbound => self.unbound = (self.unbound + 1).min(MAX_STRIKES),
            Ending::Brief => self.brief = (self.brief + 1).min(MAX_STRIKES),
            Ending::Refused => {}
        }
        self.returns = (self.returns + 1).min(MAX_RETURNS);
        self.returns_at = now;
    }

    fn is_slowed(&self) -> bool {
        self.unbound + self.brief >= FREE_STRIKES
    }

    /// Who comes back is let through rarely, and does not wait. Only with a name: without one it may be somebody else.
    fn is_closed(&self, visitor: Visitor) -> bool {
        visitor.named && self.unbound >= FREE_STRIKES
    }

    /// Nothing is lost if it is forgotten.
    fn is_blank(&self, now: Instant) -> bool {
        self.unbound + self.brief + self.returns == 0
            && self.new.is_blank(now)
            && self.back.is_blank(now)
    }
}

impl Domain {
    fn waiting(&self) -> usize {
        self.lanes.values().map(Lane::waiting).sum()
    }

    /// Makes room by refusing the last one of the longest line, if that is longer than a newcomer's.
    fn make_room(&mut self, newcomer: usize) -> Result<(), TooMany> {
        let lines = self.lanes.values_mut();
        let lines = lines.flat_map(|lane| [&mut lane.new, &mut lane.back]);
        match lines.max_by_key(|line| line.waiting.len()) {
            Some(line) if line.waiting.len() > newcomer + 1 => {
                line.refuse_beyond(line.waiting.len() - 1);
                Ok(())
            }
            _ => Err(TooMany),
        }
    }
}

impl Lanes {
    /// `rate` sessions a second for each domain.
    pub(super) fn new(rate: usize) -> Self {
        let rate = u32::try_from(rate).unwrap_or(u32::MAX);
        let interval = Duration::from_secs(1) / rate.max(1);
        Self {
            interval,
            slow: (interval * SLOWER).min(SLOWEST).max(interval),
            domains: HashMap::new(),
        }
    }

    /// How many wait at a time where they go so far apart.
    fn places(interval: Duration) -> usize {
        let places = MAX_WAIT.as_nanos() / interval.as_nanos().max(1);
        usize::try_from(places)
            .unwrap_or(usize::MAX)
            .max(MIN_PLACES)
    }

    /// How far apart a line's sessions are.
    fn apart(&self, lane: &Lane, visitor: Visitor, kind: Kind) -> Duration {
        if kind == Kind::New {
            Duration::ZERO
        } else if lane.is_closed(visitor) {
            let doublings = lane.unbound - FREE_STRIKES + 1;
            self.slow
                .saturating_mul(1 << doublings.min(16))
                .min(MAX_CLOSED)
        } else if lane.is_slowed() {
            self.slow
        } else {
            Duration::ZERO
        }
    }

    /// The domain's and the lane's place in the maps, which are bounded: names come from clients.
    fn known(&mut self, domain: &str, visitor: Visitor, now: Instant) -> (String, Visitor) {
        if self.domains.len() >= MAX_DOMAINS && !self.domains.contains_key(domain) {
            self.domains.retain(|_, domain| {
                domain.lanes.retain(|_, lane| {
                    lane.forgive(now);
                    !lane.is_blank(now)
                });
                domain.due > now || !domain.lanes.is_empty()
            });
        }
        let full = self.domains.len() >= MAX_DOMAINS && !self.domains.contains_key(domain);
        let name = if full { "" } else { domain };
        let domain = self
            .domains
            .entry(name.to_owned())
            .or_insert_with(|| Domain {
                due: now,
                lanes: HashMap::new(),
                turns: VecDeque::new(),
            });
        if domain.lanes.len() >= MAX_LANES && !domain.lanes.contains_key(&visitor) {
            domain.lanes.retain(|_, lane| {
                lane.forgive(now);
                !lane.is_blank(now)
            });
        }
        let full = domain.lanes.len() >= MAX_LANES && !domain.lanes.contains_key(&visitor);
        let visitor = if full { Visitor::CROWD } else { visitor };
        let lane = domain
            .lanes
            .entry(visitor)
            .or_insert_with(|| Lane::new(now));
        lane.forgive(now);
        (name.to_owned(), visitor)
    }

    /// A visitor asks for a session: `None` if it may have one at once, else where it hears of its turn.
    pub(super) fn ask(
        &mut self,
        domain: &str,
        visitor: Visitor,
        now: Instant,
    ) -> Result<Option<oneshot::Receiver<Result<(), TooMany>>>, TooMany> {
        let ahead = self.interval.saturating_mul(BURST);
        let (places, slow_places) = (Self::places(self.interval), Self::places(self.slow));
        let (name, visitor) = self.known(domain, visitor, now);
        let Some(domain) = self.domains.get_mut(&name) else {
            return Err(TooMany);
        };
        let ready = domain.due.saturating_duration_since(now) <= ahead;
        let waiting = domain.waiting();
        let Some(lane) = domain.lanes.get_mut(&visitor) else {
            return Err(TooMany);
        };
        let kind = lane.arrival();
        let shut = kind == Kind::Back && lane.is_closed(visitor);
        let line = lane.line(kind);
        if shut && line.due > now {
            // Whoever hammers at a closed door keeps it closed.
            lane.unbound = (lane.unbound + 1).min(MAX_STRIKES);
            return Err(TooMany);
        }
        if ready && line.is_blank(now) {
            self.admit(&name, visitor, kind, now);
            return Ok(None);
        }
        let newcomer = line.waiting.len();
        if kind == Kind::Back && newcomer >= slow_places {
            return Err(TooMany);
        }
        if waiting >= places {
            domain.make_room(newcomer)?;
        }
        let (waiter, turn) = oneshot::channel();
        if let Some(lane) = domain.lanes.get_mut(&visitor) {
            lane.line(kind).waiting.push_back(waiter);
        }
        if !domain.turns.contains(&(visitor, kind)) {
            domain.turns.push_back((visitor, kind));
        }
        Ok(Some(turn))
    }

    fn admit(&mut self, domain: &str, visitor: Visitor, kind: Kind, now: Instant) {
        let Some(known) = self.domains.get(domain) else {
            return;
        };
        let lane = known.lanes.get(&visitor);
        let apart = lane.map_or(Duration::ZERO, |lane| self.apart(lane, visitor, kind));
        let interval = self.interval;
        if let Some(known) = self.domains.get_mut(domain) {
            known.due = known.due.max(now) + interval;
            if let Some(lane) = known.lanes.get_mut(&visitor) {
                lane.line(kind).due = now + apart;
            }
        }
    }

    /// Lets through whose turn it is, one of each line after another, and returns when the next one is due; `None` if
    /// nobody waits.
    pub(super) fn grant(&mut self, now: Instant) -> Option<Instant> {
        let names: Vec<String> = self.domains.keys().cloned().collect();
        let next = names.iter().filter_map(|name| self.grant_in(name, now));
        // All of them, not up to the first.
        next.collect::<Vec<_>>().into_iter().min()
    }

    fn grant_in(&mut self, name: &str, now: Instant) -> Option<Instant> {
        let ahead = self.interval.saturating_mul(BURST);
        loop {
            let domain = self.domains.get_mut(name)?;
            let Domain { due, lanes, turns } = domain;
            let line = |(visitor, kind): &(Visitor, Kind)| {
                lanes.get(visitor).map(|lane| match kind {
                    Kind::New => &lane.new,
                    Kind::Back => &lane.back,
                })
            };
            turns.retain(|turn| line(turn).is_some_and(|line| !line.waiting.is_empty()));
            let first = turns.iter().filter_map(line).map(|line| line.due).min()?;
            let early = due.saturating_duration_since(now);
            if early > ahead {
                return Some((now + (early - ahead)).max(first));
            }
            if first > now {
                return Some(first);
            }
            let ready = |turn: &(Visitor, Kind)| line(turn).is_some_and(|line| line.due <= now);
            let at = turns.iter().position(ready)?;
            let turn = turns.remove(at)?;
            turns.push_back(turn);
            let (visitor, kind) = turn;
            let line = lanes.get_mut(&visitor)?.line(kind);
            if line.waiting.pop_front()?.send(Ok(())).is_ok() {
                self.admit(name, visitor, kind, now);
            }
        }
    }

    /// A visit ended in a way that speaks against the visitor. Of those who are back, the ones that would wait too long
    /// are refused.
    pub(super) fn ended(&mut self, domain: &str, visitor: Visitor, ending: Ending, now: Instant) {
        let slow_places = Self::places(self.slow);
        let (name, visitor) = self.known(domain, visitor, now);
        let domain = self.domains.get_mut(&name);
        if let Some(lane) = domain.and_then(|domain| domain.lanes.get_mut(&visitor)) {
            lane.ended(ending, now);
            if lane.is_closed(visitor) {
                lane.back.refuse_beyond(0);
            } else {
                lane.back.refuse_beyond(slow_places);
            }
        }
    }

    /// Domains and lanes that are known.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let lanes = self.domains.values().map(|domain| domain.lanes.len());
        (self.domains.len(), lanes.sum())
    }
}
