//! One run: a real session, a model manager, the network between them, and a clock that jumps from event to event.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use xbosh::bosh::session::Phase;
use xbosh::bosh::{
    CloseReason, Event as Told, KeySeed, Options, PayloadClass, RequestKey, Requested, Rid,
    Session, Way,
};
use xbosh::xml::Limits;

use crate::client::{Client, Step};
use crate::manager::Manager;
use crate::network::{Conn, Event, Flight};
use crate::oracle::Oracle;
use crate::plan::{Act, Ending, Fault, Plan};
use crate::random::Random;
use crate::{MILLI, SECOND, Time};

/// Longest time after the last fault until everything has gone through.
const PATIENCE: Time = 600 * SECOND;
/// More steps than this are a loop.
const MOST_STEPS: usize = 60_000;
/// Steps at the same moment.
const MOST_AT_ONCE: usize = 2_000;

/// How a run went.
pub(crate) type Outcome = Result<(), String>;

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    base: Instant,
    pub(crate) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    order: u64,
    pub(crate) session: Session,
    pub(crate) manager: Manager,
    pub(crate) flights: Vec<Flight>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) oracle: Oracle,
    pub(crate) client: Client,
    pub(crate) sid: Option<String>,
    pub(crate) closed: Option<CloseReason>,
    /// Acts are over.
    idle: bool,
    pub(crate) ending: bool,
    pub(crate) bound_at: Option<Time>,
    last_act: Time,
    pub(crate) excuses: Excuses,
    /// Stanzas of the client whose order was judged.
    pub(crate) judged: usize,
    /// When the last whole answer came.
    pub(crate) last_answer: Time,
    /// When something went missing in a session that was not ending.
    pub(crate) gap_since: Option<Time>,
    /// Requests that the sender wrote again by itself.
    pub(crate) repeated_by_shell: HashSet<u64>,
    /// Stanzas of the client that the session says have arrived.
    pub(crate) confirmed: u32,
    /// The client waits to hear of them.
    confirming: bool,
    /// Time that the client's clock has missed.
    slept: Time,
    /// When the machine wakes up.
    asleep_until: Time,
    /// All its sleeps, from when to when.
    pub(crate) sleeps: Vec<(Time, Time)>,
    /// The session ended because of something that the client could not know.
    pub(crate) gambled: bool,
    /// The manager has put a request aside that it looks at no more, unless it has something to say.
    pub(crate) stalled: bool,
    /// The server's last words had somebody to hear them.
    pub(crate) heard: bool,
    trace: Option<Vec<String>>,
    steps: usize,
}

/// What no client can make good again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Excuses {
    /// Stanzas may be lost, though not doubled or swapped.
    pub(crate) loss: bool,
    /// The session may end by itself.
    pub(crate) death: bool,
    /// Prosody may have passed over a request, and then calls it unknown like one that it has worked on.
    pub(crate) false_refusal: bool,
    /// The client's stanzas may be swapped.
    pub(crate) disorder_up: bool,
    /// The server's stanzas may be swapped.
    pub(crate) disorder_down: bool,
}

impl World {
    pub(crate) fn new(plan: Plan, traced: bool) -> Self {
        #[allow(clippy::disallowed_methods, reason = "any moment will do as the first")]
        let base = Instant::now();
        let random = Random::new(plan.seed.wrapping_mul(31) ^ plan.kind as u64);
        let options = Options {
            // Otherwise nobody could tell that an empty answer was not meant for us.
            way: Way {
                repeats: plan.faults.contains(&Fault::BoxRepeats),
                swallows: false,
            },
            key_seed: plan.keys.then(|| KeySeed::new([plan.seed as u8; 32])),
            requested: Requested {
                to: "example.org".into(),
                from: None,
                lang: "en".into(),
                ver: "1.6".into(),
                wait: Duration::from_secs(plan.wait),
                hold: 1,
                route: None,
                xmpp_version: true,
            },
            max_body_bytes: plan.max_body,
            https: false,
            buffer_bytes: 4 << 20,
            limits: Limits {
                max_element_bytes: 1 << 20,
                max_header_bytes: 16 * 1024,
                max_depth: 128,
                max_attributes: 256,
            },
            first_rid: Rid(1000),
            seed: plan.seed,
        };
        let mut world = Self {
            random,
            base,
            now: 0,
            events: BTreeMap::new(),
            order: 0,
            session: Session::new(options, base),
            manager: Manager::new(&plan),
            flights: Vec::new(),
            conns: Vec::new(),
            oracle: Oracle::new(&plan),
            client: Client::new(),
            sid: None,
            closed: None,
            idle: false,
            ending: false,
            bound_at: None,
            last_act: 0,
            excuses: Excuses::default(),
            judged: 0,
            last_answer: 0,
            gap_since: None,
            repeated_by_shell: HashSet::new(),
            confirmed: 0,
            confirming: false,
            slept: 0,
            asleep_until: 0,
            sleeps: Vec::new(),
            gambled: false,
            stalled: false,
            heard: false,
            trace: traced.then(Vec::new),
            steps: 0,
            plan,
        };
        let end = world.plan.faults_end + PATIENCE;
        world.at(end, Event::GiveUp);
        world
    }

    /// Runs to the end. The error says what went wrong.
    pub(crate) fn run(&mut self) -> Outcome {
        let mut here = 0;
        while self.closed.is_none() {
            self.steps += 1;
            here += 1;
            if self.steps > MOST_STEPS || here > MOST_AT_ONCE {
                return Err(format!("a busy loop: {} steps", self.steps));
            }
            self.drain()?;
            if self.closed.is_some() {
                break;
            }
            self.look_for_gap()?;
            self.look_for_rest();
            let now = self.now;
            self.step()?;
            if self.now != now {
                here = 0;
            }
        }
        self.verdict()
    }

    pub(crate) fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps
    }

    pub(crate) fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>9.3}  {}", self.now as f64 / SECOND as f64, line(self));
            if let Some(trace) = &mut self.trace {
                trace.push(line);
            }
        }
    }

    pub(crate) fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.insert((time, self.order), event);
    }

    /// The client's clock, which stands still while the machine sleeps.
    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now - self.slept)
    }

    fn session_due(&self) -> Option<Time> {
        if self.asleep() {
            return None;
        }
        let due = self.session.poll_timeout()?;
        let past = due.saturating_duration_since(self.base);
        // Rounded up: a timer never fires early.
        let past = past.as_nanos().div_ceil(1000) as Time;
        Some((past + self.slept).max(self.now))
    }

    /// The next thing that happens, whatever it is.
    fn step(&mut self) -> Outcome {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let session = self.session_due();
        let manager = self.manager.due();
        let next = event.into_iter().chain(session).chain(manager).min();
        let Some(next) = next else {
            return Err("nothing will ever happen again".into());
        };
        self.now = self.now.max(next);
        if event == Some(next) {
            if let Some((_, event)) = self.events.pop_first() {
                match self.asleep() && event.needs_the_client() {
                    true => self.at(self.asleep_until, event),
                    false => self.handle(event)?,
                }
            }
        } else if manager == Some(next) {
            self.manager.expire(self.now);
        } else {
            self.session.handle_timeout(self.instant());
        }
        self.collect_answers();
        self.notes()
    }

    fn asleep(&self) -> bool {
        self.now < self.asleep_until
    }

    /// Everything the session has to say, in the order that its documentation asks for.
    fn drain(&mut self) -> Outcome {
        if self.asleep() {
            return Ok(());
        }
        while let Some(told) = self.session.poll_event() {
            self.told(told)?;
        }
        while let Some(key) = self.session.poll_abort() {
            self.abort(key);
        }
        let now = self.instant();
        while let Some(request) = self.session.poll_request(now) {
            self.send(&request)?;
        }
        Ok(())
    }

    pub(crate) fn told(&mut self, told: Told) -> Outcome {
        match told {
            Told::Opened => {
                let sid = self.session.granted().map(|g| g.sid.as_str().to_owned());
                self.log(|_| format!("session: opened {sid:?}"));
                self.sid = sid;
                self.oracle.opened();
            }
            Told::Payload { element, .. } => {
                self.log(|_| format!("session: {} {:?}", element.local(), element.attr("id")));
                let excuses = self.excuses;
                match self.client.receive(&element, &mut self.session, excuses)? {
                    Some(Step::Bound) => self.bound(),
                    Some(step) => {
                        let pause = self.random.pick(&[0, MILLI, SECOND, 8 * SECOND]);
                        self.at(self.now + pause, Event::Say(step));
                    }
                    None => {}
                }
            }
            Told::Closed(reason) => {
                self.log(|_| format!("session: closed {reason:?}"));
                self.closed = Some(reason);
            }
            Told::Confirmed(count) => {
                self.log(|_| format!("session: {count} confirmed"));
                self.on_confirmed(count)?;
            }
            Told::Cut(_) => {}
            Told::Moved(_) | Told::Redirect { .. } => {
                return Err(format!("{told:?}, which nobody said"));
            }
        }
        Ok(())
    }

    /// What is confirmed must be on the server: a client forgets it. Nothing excuses a mistake here but a hidden copy
    /// out of turn, for which Prosody has passed over what was missing.
    fn on_confirmed(&mut self, count: usize) -> Outcome {
        if count == 0 {
            return Err("nothing was confirmed".into());
        }
        let before = self.confirmed;
        self.confirmed += (count as u32).saturating_add_signed(self.plan.misread);
        let sid = self.sid.as_ref();
        let session = sid.and_then(|sid| self.manager.session(sid));
        let processed = session.map_or(&[][..], |s| &s.look().server.processed[..]);
        match (before..self.confirmed).find(|number| !processed.contains(number)) {
            None => Ok(()),
            Some(_) if self.excuses.false_refusal => Ok(()),
            Some(number) => Err(format!("u{number} is confirmed and was never processed")),
        }
    }

    fn bound(&mut self) {
        self.log(|_| "client: bound".into());
        self.oracle.bound();
        self.bound_at = Some(self.now);
        let acts = std::mem::take(&mut self.plan.acts);
        for (after, act) in acts {
            self.last_act = self.now + after;
            self.at(self.now + after, Event::Act(act));
        }
        if self.plan.ending != Ending::Settled {
            self.at(self.now + self.plan.end_at, Event::Finish);
        }
    }

    fn abort(&mut self, key: RequestKey) {
        self.log(|_| format!("session: aborts {}/{}", key.rid, key.attempt));
        let Some(flight) = self.flights.iter().rposition(|f| f.key == key) else {
            return;
        };
        self.flights[flight].ended.get_or_insert(self.now);
        for conn in 0..self.conns.len() {
            if self.conns[conn].flight == flight && self.conns[conn].alive {
                self.conns[conn].alive = false;
                self.at(self.now + self.plan.latency, Event::CloseSeen(conn));
            }
        }
    }

    fn handle(&mut self, event: Event) -> Outcome {
        let now = self.instant();
        match event {
            Event::Written(flight) => {
                let key = self.flights[flight].key;
                self.session.handle_written(key, now);
            }
            Event::Repeated(flight) => {
                let key = self.flights[flight].key;
                self.log(|_| format!("network: {}/{} written again", key.rid, key.attempt));
                self.session.handle_repeated(key);
            }
            Event::Arrives(conn) => self.arrives(conn)?,
            Event::Fails(flight, kind, sent) => self.fails(flight, kind, sent),
            Event::Gateway(flight, status) => {
                self.reply(flight, status, "<html>middle box</html>".into(), false);
            }
            Event::Answer(conn, status, body) => self.answer(conn, status, body),
            Event::Breaks(conn, told, noticed) => self.breaks(conn, told, noticed),
            Event::Cut(conn) => self.cut(conn),
            Event::CloseSeen(conn) => self.manager.closed(conn, self.now),
            Event::Say(step) => self.say(step),
            Event::Server(at, later) => {
                let session = &mut self.manager.sessions[at];
                if !session.look().over {
                    session.common().server.say(Some(later));
                    session.push(self.now);
                }
            }
            Event::Act(act) => self.act(act),
            Event::Finish => self.finish(),
            Event::Wake(time) => {
                self.log(|_| format!("client: slept {} s", time / SECOND));
                self.slept += time;
                let now = self.instant();
                self.session.renew(Duration::from_micros(time), now);
            }
            Event::GiveUp => self.give_up()?,
        }
        Ok(())
    }

    fn say(&mut self, step: Step) {
        let name = if step == Step::Auth { "auth" } else { "iq" };
        self.log(|_| format!("client: {name}"));
        self.client
            .say(&mut self.session, name, 0, PayloadClass::Alone);
    }

    fn act(&mut self, act: Act) {
        self.log(|w| format!("act: {act:?} (said {})", w.client.said));
        if self.ending && act != Act::Room {
            return;
        }
        match act {
            Act::Say(count) => {
                for _ in 0..count {
                    let name = if self.random.chance(200) {
                        "iq"
                    } else {
                        "message"
                    };
                    let filler = self.random.pick(&[0, 30, 200]);
                    self.client
                        .say(&mut self.session, name, filler, PayloadClass::Together);
                }
            }
            Act::SayAlone => {
                self.client
                    .say(&mut self.session, "message", 0, PayloadClass::Alone);
            }
            Act::Push(count) => self.push(count),
            Act::Full => self.session.set_receiving(false),
            Act::Room => self.session.set_receiving(true),
            Act::Confirm(wanted) => {
                self.confirming = wanted;
                self.session.set_confirming(wanted);
            }
            Act::Inactive => self.session.client_is_inactive(),
            Act::Hurry => self.session.hurry(self.instant()),
            Act::Renew => {
                self.lose_connections();
                self.session.renew(Duration::ZERO, self.instant());
            }
            Act::Sleep(time) => self.sleep(time),
        }
    }

    /// What is under way comes to nothing.
    fn lose_connections(&mut self) {
        for conn in &mut self.conns {
            let flight = &mut self.flights[conn.flight];
            if flight.ended.is_none() && conn.alive {
                conn.alive = false;
                flight.spoilt = true;
            }
        }
    }

    /// Connections die while nobody is there to see it.
    fn sleep(&mut self, time: Time) {
        self.lose_connections();
        self.asleep_until = self.now + time;
        self.sleeps.push((self.now, self.asleep_until));
        self.at(self.asleep_until, Event::Wake(time));
    }

    fn push(&mut self, count: u64) {
        let now = self.now;
        let Some(sid) = &self.sid else { return };
        if let Some(session) = self.manager.session(sid).filter(|s| !s.look().over) {
            for _ in 0..count {
                session.common().server.say(None);
                session.push(now);
            }
        }
    }

    /// A session that ends gives out what it has, even if something before it never came; one that goes on must not.
    fn look_for_gap(&mut self) -> Outcome {
        if self.ending || self.excuses.loss {
            return Ok(());
        }
        match &self.client.gap {
            Some(gap) => {
                let since = *self.gap_since.get_or_insert(self.now);
                let over = self.now > since + 3 * SECOND;
                if over { Err(gap.clone()) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    /// Once all is said and done, the end is planned.
    fn look_for_rest(&mut self) {
        let over = self.bound_at.is_some() && self.now >= self.last_act;
        if self.idle || self.ending || !over || self.now < self.plan.faults_end {
            return;
        }
        let Some(sid) = self.sid.clone() else { return };
        let said = self.client.said;
        let expected = self.client.expected;
        // One who waits to hear of it hears of everything.
        if self.confirming && self.confirmed < said {
            return;
        }
        let Some(session) = self.manager.session(&sid) else {
            return;
        };
        let server = &session.look().server;
        if server.processed.len() == said as usize && server.pushed == expected {
            self.idle = true;
            let pause = self.random.pick(&[0, MILLI, 100 * MILLI, 90 * SECOND]);
            self.at(self.now + pause, Event::Finish);
        }
    }

    fn finish(&mut self) {
        if self.ending {
            return;
        }
        self.ending = true;
        if self.plan.ending == Ending::Server {
            self.push(1);
            self.log(|_| "server: ends the session".into());
            let now = self.now;
            if let Some(sid) = &self.sid
                && let Some(session) = self.manager.session(sid).filter(|s| !s.look().over)
            {
                self.heard = session.held() > 0 && !session.look().server.has_pending();
                session.end(now);
            }
            return;
        }
        self.log(|_| "client: goes".into());
        if self.session.phase() == Phase::Open && self.random.chance(800) {
            self.client
                .say(&mut self.session, "presence", 0, PayloadClass::Together);
        }
        self.oracle.ending(self.now);
        let now = self.instant();
        self.session.set_receiving(true);
        self.session.terminate(Duration::from_secs(5), now);
    }

    /// Time is up.
    fn give_up(&mut self) -> Outcome {
        if self.ending {
            return Err("the session does not end".into());
        }
        if self.excuses.loss || self.excuses.death {
            // What is missing may never come: login steps, or the last stanzas.
            self.plan.ending = Ending::Abrupt;
            self.finish();
            self.at(self.now + 300 * SECOND, Event::GiveUp);
            return Ok(());
        }
        let (processed, pushed) = self.account();
        Err(format!(
            "no rest in {} s: said {}, processed {processed}, confirmed {} (waits: {}); pushed {pushed}, delivered {}; stage {:?}",
            PATIENCE / SECOND,
            self.client.said,
            self.confirmed,
            self.confirming,
            self.client.expected,
            self.client.stage,
        ))
    }

    pub(crate) fn account(&mut self) -> (usize, u32) {
        let Some(sid) = &self.sid else { return (0, 0) };
        self.manager.session(sid).map_or((0, 0), |session| {
            let server = &session.look().server;
            (server.processed.len(), server.pushed)
        })
    }

    /// What the manager says it did, and what the server behind it will say.
    fn notes(&mut self) -> Outcome {
        let mut owed = Vec::new();
        let mut notes = Vec::new();
        for (at, session) in self.manager.sessions.iter_mut().enumerate() {
            let common = session.common();
            owed.extend(
                common
                    .server
                    .take_owed()
                    .into_iter()
                    .map(|later| (at, later)),
            );
            notes.append(&mut common.notes);
        }
        for (at, later) in owed {
            let pause = self.random.pick(&[0, MILLI, 20 * MILLI, 200 * MILLI]);
            self.at(self.now + pause, Event::Server(at, later));
        }
        for note in notes {
            self.log(|_| format!("manager: {note:?}"));
            self.note(note);
        }
        self.judge_order()
    }
}
