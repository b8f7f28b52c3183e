//! The way of the bytes: [`World`]'s side of the network.

use bytes::Bytes;
use xbosh::bosh::{FailureKind, HttpReply, Request};

use crate::manager::Kind;
use crate::network::{Conn, Event, Fate, Flight, failure, fate};
use crate::plan::Fault;
use crate::request;
use crate::world::{Outcome, World};
use crate::{MILLI, SECOND, Time};

impl World {
    /// A request leaves the client.
    pub(crate) fn send(&mut self, out: &Request) -> Outcome {
        let key = out.key;
        let request = request::Request::read(&out.body)?;
        self.log(|_| {
            let body = String::from_utf8_lossy(&out.body);
            format!(
                "session: sends {}/{} {}",
                key.rid,
                key.attempt,
                short(&body)
            )
        });
        self.oracle.sends(&out.body, &request, self.now)?;
        let fault = self.draw_fault();
        let flight = self.flights.len();
        self.flights.push(Flight {
            key,
            body: out.body.clone(),
            sent: self.now,
            ended: None,
            spoilt: fault.is_some(),
            stuck: false,
            restart: request.restart,
        });
        if let Some(fault) = fault {
            self.log(|_| format!("network: {}/{} will meet {fault:?}", key.rid, key.attempt));
        }
        let written = self.now + self.random.range(0, self.plan.write);
        self.launch(flight, fault, written);
        Ok(())
    }

    fn draw_fault(&mut self) -> Option<Fault> {
        if self.now >= self.plan.faults_end {
            return None;
        }
        if self.in_outage() {
            return Some(self.random.pick(&[
                Fault::Refused,
                Fault::Refused,
                Fault::RequestLost,
                Fault::Stuck,
            ]));
        }
        let rate = self.plan.fault_rate;
        (!self.plan.faults.is_empty() && self.random.chance(rate))
            .then(|| self.random.pick(&self.plan.faults))
    }

    fn in_outage(&self) -> bool {
        let now = self.now;
        let outages = &self.plan.outages;
        outages.iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    fn travel(&mut self) -> Time {
        self.plan.latency + self.random.range(0, self.plan.jitter)
    }

    fn open(&mut self, flight: usize, fate: Fate, hidden: bool) -> usize {
        self.conns.push(Conn {
            flight,
            fate,
            alive: true,
            arrived: false,
            answered: false,
            hidden,
        });
        self.conns.len() - 1
    }

    /// The attempt sets out; what happens to it is decided here.
    fn launch(&mut self, flight: usize, fault: Option<Fault>, written: Time) {
        let travel = self.travel();
        let arrival = written + travel;
        let soon = arrival + self.random.range(0, 300) * MILLI;
        let later = arrival + self.random.range(0, 20) * SECOND;
        let conn = self.open(flight, fate(fault), fault == Some(Fault::Late));
        let no_reply = FailureKind::NoReply;
        match fault {
            Some(Fault::Refused) => {
                let kind = self.random.pick(&[
                    FailureKind::CmUnreachable,
                    FailureKind::ProxyUnreachable,
                    FailureKind::ProxyUpstream,
                ]);
                self.at(soon, Event::Fails(flight, kind, false));
                return;
            }
            Some(Fault::Stuck) => {
                self.flights[flight].stuck = true;
                if self.random.chance(900) {
                    let at = self.now + 10 * SECOND;
                    self.at(at, Event::Fails(flight, FailureKind::CmUnreachable, false));
                }
                return;
            }
            _ => {}
        }
        self.at(written, Event::Written(flight));
        match fault {
            Some(Fault::RequestLost) => {
                let at = self.random.pick(&[soon, later]);
                self.at(at, Event::Fails(flight, no_reply, true));
            }
            Some(Fault::RequestSwallowed) => {}
            Some(Fault::GatewayBefore) => {
                let status = self.random.pick(&[502, 503, 504]);
                self.at(soon, Event::Gateway(flight, status));
            }
            Some(Fault::Late) => {
                self.at(written, Event::Fails(flight, no_reply, true));
                self.at(later, Event::Arrives(conn));
            }
            Some(Fault::ShellRepeats) => {
                let rid = self.flights[flight].key.rid;
                self.repeated_by_shell.insert(rid.0);
                self.conns[conn].fate = Fate::Vanishes;
                if self.random.chance(500) {
                    self.at(arrival, Event::Arrives(conn));
                }
                self.at(arrival, Event::Repeated(flight));
                let second = self.open(flight, Fate::Comes, false);
                self.at(soon.max(arrival + 1), Event::Arrives(second));
            }
            Some(Fault::BoxRepeats) => {
                self.conns[conn].fate = Fate::Vanishes;
                self.at(arrival, Event::Arrives(conn));
                let second = self.open(flight, Fate::Comes, true);
                self.at(soon.max(arrival + 1), Event::Arrives(second));
            }
            Some(Fault::DiesHeld | Fault::DeadHeld | Fault::GatewayAfter) => {
                let at = self.random.pick(&[soon, later]);
                self.at(arrival, Event::Arrives(conn));
                let noticed = self.random.chance(500);
                if fault == Some(Fault::GatewayAfter) {
                    let status = self.random.pick(&[502, 504]);
                    self.at(at, Event::Gateway(flight, status));
                    if noticed {
                        self.at(at, Event::CloseSeen(conn));
                    }
                } else {
                    let told = fault == Some(Fault::DiesHeld);
                    self.at(at, Event::Breaks(conn, told, told && noticed));
                }
            }
            _ => self.at(arrival, Event::Arrives(conn)),
        }
    }

    /// The bytes reach the manager.
    pub(crate) fn arrives(&mut self, conn: usize) -> Outcome {
        let flight = self.conns[conn].flight;
        let key = self.flights[flight].key;
        let late = self.conns[conn].hidden;
        if self.in_outage() || (!self.conns[conn].alive && !late) {
            self.lose_on_the_way(conn);
            return Ok(());
        }
        self.log(|_| format!("manager: gets {}/{} on #{conn}", key.rid, key.attempt));
        self.conns[conn].arrived = true;
        let copies = self
            .conns
            .iter()
            .filter(|c| c.arrived && self.flights[c.flight].key.rid == key.rid);
        let (count, hidden) = copies.fold((0, false), |(n, hidden), c| (n + 1, hidden | c.hidden));
        if count > 1 && hidden {
            self.excuse_hidden_copy();
        }
        let body = self.flights[flight].body.clone();
        let request = request::Request::read(&body)?;
        self.manager.request(conn, &request, self.now);
        if let Some(cut) = self.plan.cut {
            self.at(self.now + cut, Event::Cut(conn));
        }
        Ok(())
    }

    /// A request came twice or more, and its sender knows nothing of it. Prosody repeats its answer or lets the newer
    /// copy have it, and Tigase takes the second for a poll: neither is an excuse.
    fn excuse_hidden_copy(&mut self) {
        match self.plan.kind {
            Kind::Prosody | Kind::Tigase => {}
            // cm-quirks 4.1: a copy of what is put aside, or one that comes when its rid is long past, ends the session.
            Kind::Ejabberd | Kind::MongooseIm => self.excuses.death = true,
            // The 4.2 family: the first copy's empty answer stands for what the second was given.
            Kind::Openfire => self.excuses.loss = true,
        }
    }

    fn lose_on_the_way(&mut self, conn: usize) {
        let flight = self.conns[conn].flight;
        self.log(|_| format!("network: #{conn} does not arrive"));
        self.flights[flight].spoilt = true;
        if self.random.chance(700) {
            let at = self.now + self.plan.latency;
            self.at(at, Event::Fails(flight, FailureKind::NoReply, true));
        }
    }

    pub(crate) fn fails(&mut self, flight: usize, kind: FailureKind, sent: bool) {
        if self.flights[flight].ended.is_some() {
            return;
        }
        self.flights[flight].ended = Some(self.now);
        let key = self.flights[flight].key;
        self.log(|_| format!("network: {}/{} fails: {kind:?}", key.rid, key.attempt));
        if !sent {
            self.oracle.never_sent(key.rid.0);
        }
        let now = self.instant();
        self.session.handle_failure(key, failure(kind, sent), now);
    }

    /// A whole HTTP answer reaches the client.
    pub(crate) fn reply(&mut self, flight: usize, status: u16, body: String, managers: bool) {
        if self.flights[flight].ended.is_some() {
            return;
        }
        self.flights[flight].ended = Some(self.now);
        let key = self.flights[flight].key;
        self.log(|_| {
            format!(
                "network: {}/{} answered {status} {}",
                key.rid,
                key.attempt,
                short(&body)
            )
        });
        if managers {
            let empty = !body.contains("</body>");
            self.oracle.answered(key.rid.0, empty, self.now);
            self.last_answer = self.now;
        }
        let reply = HttpReply {
            status,
            body: Bytes::from(body),
            location: None,
            retry_after: None,
        };
        let now = self.instant();
        self.session.handle_response(key, &reply, now);
    }

    pub(crate) fn answer(&mut self, conn: usize, status: u16, body: String) {
        let flight = self.conns[conn].flight;
        if !self.conns[conn].alive || self.flights[flight].ended.is_some() {
            self.lost(conn, &body);
            return;
        }
        let whole = self.conns[conn].fate == Fate::Comes && status == 200;
        self.reply(flight, status, body, whole);
    }

    /// What the manager has answered sets out for the client.
    pub(crate) fn collect_answers(&mut self) {
        for answer in self.manager.take_answers() {
            let conn = answer.conn;
            self.conns[conn].answered = true;
            let flight = self.conns[conn].flight;
            self.log(|_| format!("manager: answers #{conn}: {}", short(&answer.body)));
            if self.in_outage() && self.conns[conn].fate == Fate::Comes {
                self.flights[flight].spoilt = true;
                self.conns[conn].fate = self.random.pick(&[Fate::Breaks, Fate::Vanishes]);
            }
            let at = self.now + self.travel();
            match self.conns[conn].fate {
                _ if !self.conns[conn].alive => self.lost(conn, &answer.body),
                Fate::Comes => self.at(at, Event::Answer(conn, answer.status, answer.body)),
                Fate::Breaks => {
                    self.lost(conn, &answer.body);
                    self.at(at, Event::Fails(flight, FailureKind::NoReply, true));
                }
                Fate::Vanishes => self.lost(conn, &answer.body),
                Fate::BreaksOff => {
                    self.lost(conn, &answer.body);
                    let mut part = answer.body;
                    // Enough is left to tell a body of BOSH.
                    let less = self.random.range(1, 2) as usize;
                    part.truncate(part.len().saturating_sub(less));
                    self.at(at, Event::Answer(conn, answer.status, part));
                }
            }
        }
    }

    /// An answer is lost for good unless the manager keeps it.
    fn lost(&mut self, conn: usize, body: &str) {
        let flight = &self.flights[self.conns[conn].flight];
        let (kind, restart, key) = (self.plan.kind, flight.restart, flight.key);
        self.log(|_| {
            format!(
                "network: the answer on #{conn} ({}/{}) is lost",
                key.rid, key.attempt
            )
        });
        let something = body.contains("</body>");
        if kind == Kind::Tigase && something {
            self.excuses.loss = true;
            self.excuses.death |= restart;
        }
        if kind == Kind::Openfire && restart {
            self.client.never_comes(body);
        }
        // What is stored for a request is final once the next one has come (cm-quirks 4.2). If that is lost on its way
        // without a sign, the client asks too early, and an older copy is given the stanzas after all.
        let stores = kind == Kind::Ejabberd;
        let rid = key.rid.0;
        if something && stores && self.oracle.has_answer(rid) && self.is_missing(rid + 1) {
            self.excuses.loss = true;
        }
    }

    /// Whether this request was lost, and never came so far.
    fn is_missing(&self, rid: u64) -> bool {
        let of = |flight: &Flight| flight.key.rid.0 == rid;
        let spoilt = self.flights.iter().any(|f| of(f) && f.spoilt);
        let came = |conn: &Conn| conn.arrived && of(&self.flights[conn.flight]);
        spoilt && !self.conns.iter().any(came)
    }

    pub(crate) fn breaks(&mut self, conn: usize, told: bool, noticed: bool) {
        let flight = self.conns[conn].flight;
        if self.flights[flight].ended.is_some() {
            return;
        }
        self.log(|_| format!("network: #{conn} breaks, told {told}, noticed {noticed}"));
        self.conns[conn].alive = false;
        if noticed {
            self.at(self.now, Event::CloseSeen(conn));
        }
        if told {
            self.fails(flight, FailureKind::NoReply, true);
        }
    }

    /// A middle box has waited long enough.
    pub(crate) fn cut(&mut self, conn: usize) {
        let flight = self.conns[conn].flight;
        if self.conns[conn].answered || !self.conns[conn].alive {
            return;
        }
        self.log(|_| format!("network: #{conn} is cut"));
        self.conns[conn].alive = false;
        self.flights[flight].spoilt = true;
        let at = self.now + self.plan.latency;
        self.at(at, Event::CloseSeen(conn));
        match self.plan.cut_answers {
            true => self.at(at, Event::Gateway(flight, 504)),
            false => self.at(at, Event::Fails(flight, FailureKind::NoReply, true)),
        }
    }
}

/// A body without what is the same everywhere.
fn short(body: &str) -> String {
    let text = body
        .replace("xmlns='http://jabber.org/protocol/httpbind'", "")
        .replace("xmlns:stream='http://etherx.jabber.org/streams'", "")
        .replace(" xmlns='jabber:client'", "")
        .replace("  ", " ");
    match text.char_indices().nth(220) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
