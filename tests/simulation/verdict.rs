//! What a run is judged by.

use xbosh::bosh::{Cause, CloseReason};

use crate::manager::{Kind, Note};
use crate::network::Flight;
use crate::plan::{Ending, Scenario};
use crate::world::{Outcome, World};
use crate::{MILLI, SECOND, Time};

impl World {
    pub(crate) fn note(&mut self, note: Note) {
        match note {
            // Only jitter above the gap that the client leaves, or a loss, puts one request before another.
            Note::Stalled => {
                self.stalled = true;
                self.excuses.death |= self.plan.jitter > 25 * MILLI || self.was_troubled();
            }
            Note::Unkept => self.excuses.death |= self.was_troubled(),
            // Nobody can know what a manager has put aside: `runner` sees to it that this stays rare.
            Note::ParkedAgain(rid) => {
                self.gambled |= !self.repeated_by_shell.contains(&rid);
                self.excuses.death |= self.was_troubled();
            }
            // A middle box closed the connection of a held request, which Openfire takes for the client's will.
            Note::Forgotten if self.plan.kind == Kind::Openfire => {
                self.gambled = true;
                self.excuses.death = true;
            }
            Note::Masked => self.excuses.loss = true,
            Note::Inactive => self.excuses.death |= self.was_cut_off() || self.overslept(),
            Note::Overtaken => {
                self.excuses.disorder_up = true;
                self.excuses.disorder_down = true;
            }
            Note::Reordered => self.excuses.disorder_down = true,
            // A request out of turn makes Prosody take in what it has put aside: the end that exceeds the window, or a
            // copy that nobody knows of.
            Note::Skipped => {
                let hidden = self.conns.iter().any(|c| c.hidden && c.arrived);
                self.excuses.loss |= hidden || self.oracle.squeezed();
                self.excuses.false_refusal |= hidden;
            }
            Note::Forgotten | Note::Overactive => {}
        }
    }

    /// Whether anything went wrong on the way so far.
    fn was_troubled(&self) -> bool {
        self.flights.iter().any(|flight| flight.spoilt)
    }

    /// Whether the client slept for most of `inactivity`.
    fn overslept(&self) -> bool {
        let silence = self.plan.kind.inactivity() * SECOND;
        let start = self.now.saturating_sub(silence);
        let within =
            |(from, to): &(Time, Time)| to.min(&self.now).saturating_sub(*from.max(&start));
        self.sleeps.iter().map(within).sum::<Time>() * 2 >= silence
    }

    /// Whether the network kept the client from being heard for most of `inactivity`, and not by one attempt alone:
    /// the repeat of that has to come in time. Tigase's `inactivity` leaves no time for one.
    fn was_cut_off(&self) -> bool {
        if self.plan.scenario != Scenario::Losses {
            return false;
        }
        let silence = self.plan.kind.inactivity() * SECOND;
        let start = self.now.saturating_sub(silence);
        let since = |flight: &&Flight| flight.ended.is_none_or(|at| at > start);
        let spoilt = self.flights.iter().filter(|f| f.spoilt).filter(since);
        let stuck = spoilt.clone().any(|f| f.stuck);
        let repeated = stuck || spoilt.count() > 1 || self.plan.kind == Kind::Tigase;
        repeated && self.spoilt_since(start) * 2 >= silence || self.was_unheard()
    }

    /// Whether all that the client sent in the last third of `inactivity`, or of that before it fell asleep, was lost,
    /// repeats included.
    fn was_unheard(&self) -> bool {
        let asleep = self.sleeps.last().filter(|(_, to)| *to > self.now);
        let end = asleep.map_or(self.now, |(from, _)| *from);
        let silence = self.plan.kind.inactivity() * SECOND;
        let start = end.saturating_sub(silence / 3);
        let since = |flight: &&Flight| flight.ended.is_none_or(|at| at > start);
        // The last one may be too late.
        let early = |flight: &&Flight| flight.sent + SECOND < end;
        let late = self.flights.iter().filter(since).filter(early);
        let repeated = late.clone().count() > 1 || late.clone().any(|f| f.stuck);
        repeated && late.clone().all(|f| f.spoilt)
    }

    /// How much of the time since then an attempt was under way that the network has spoilt.
    fn spoilt_since(&self, start: Time) -> Time {
        let mut covered = 0;
        let mut reached = start;
        for flight in self.flights.iter().filter(|f| f.spoilt) {
            // Repeats keep a distance of some seconds.
            let end = flight.ended.map_or(self.now, |at| at + 3 * SECOND);
            let end = end.min(self.now);
            covered += end.saturating_sub(flight.sent.max(reached));
            reached = reached.max(end);
        }
        covered
    }

    /// The client's stanzas reach the server once each, in order.
    pub(crate) fn judge_order(&mut self) -> Outcome {
        let Some(sid) = &self.sid else { return Ok(()) };
        let (judged, excuses) = (self.judged, self.excuses);
        let Some(session) = self.manager.session(sid) else {
            return Ok(());
        };
        let processed = &session.look().server.processed;
        for at in judged..processed.len() {
            let number = processed[at];
            if processed[..at].contains(&number) {
                return Err(format!("u{number} was processed again"));
            }
            if excuses.disorder_up {
                continue;
            }
            let expected = at.checked_sub(1).map_or(0, |before| processed[before] + 1);
            if number < expected {
                return Err(format!(
                    "u{number} was processed late: u{expected} was next"
                ));
            }
            if number > expected && !excuses.loss {
                return Err(format!("u{number} was processed, u{expected} never was"));
            }
        }
        self.judged = processed.len();
        Ok(())
    }

    /// The session is over: was that right, and did everything go through?
    pub(crate) fn verdict(&mut self) -> Outcome {
        let now = self.instant();
        if self.session.poll_request(now).is_some() || self.session.poll_timeout().is_some() {
            return Err("a closed session goes on".into());
        }
        self.judge_order()?;
        let Some(reason) = self.closed.clone() else {
            return Err("no reason".into());
        };
        let server_ends = self.plan.ending == Ending::Server;
        match (&reason, self.ending) {
            (CloseReason::Terminated { confirmed }, true) if !server_ends => {
                self.judge_own_end(*confirmed)
            }
            (CloseReason::Condition { .. } | CloseReason::Ended, true) if server_ends => {
                self.judge_servers_end()
            }
            (CloseReason::Failed(cause), _) => self.judge_giving_up(cause),
            _ => self.excused(match &self.client.gap {
                Some(gap) => format!("{gap}, and it ended by itself: {reason:?}"),
                None => format!("it ended by itself: {reason:?}"),
            }),
        }
    }

    fn excused(&self, what: String) -> Outcome {
        match self.excuses.death {
            true => Ok(()),
            false => Err(what),
        }
    }

    fn judge_own_end(&mut self, confirmed: bool) -> Outcome {
        let (processed, pushed) = self.account();
        let excused = self.excuses.loss || self.excuses.death;
        let said = self.client.said as usize;
        if excused || self.sid.is_none() {
            return Ok(());
        }
        if let (Some(gap), Some(_)) = (&self.client.gap, self.gap_since) {
            return Err(gap.clone());
        }
        // One request too many at the very end makes some managers drop everything.
        if confirmed && processed != said && !self.oracle.squeezed() {
            return Err(format!(
                "an end, but {processed} of {said} stanzas processed"
            ));
        }
        let troubled = self.spoilt_since(self.now.saturating_sub(10 * SECOND)) > 0;
        if !confirmed && !troubled {
            return Err("the end was never confirmed".into());
        }
        if self.plan.ending == Ending::Settled && self.client.expected != pushed {
            return Err(format!(
                "an end, but {} of {pushed} stanzas delivered",
                self.client.expected
            ));
        }
        Ok(())
    }

    fn judge_servers_end(&mut self) -> Outcome {
        let (_, pushed) = self.account();
        let troubled = self.flights.iter().any(|f| f.spoilt) || self.excuses.loss;
        if self.heard && !troubled && self.client.expected != pushed {
            return Err(format!(
                "the server's end came, but {} of {pushed} stanzas",
                self.client.expected
            ));
        }
        Ok(())
    }

    /// B-54: not before `inactivity` has passed without an answer, and only if the network was to blame.
    fn judge_giving_up(&mut self, cause: &Cause) -> Outcome {
        let what = format!("it gave up: {cause:?}");
        if self.sid.is_none() {
            // A session whose manager is too impatient for the first `wait` is asked for a second time.
            return match self.flights.iter().rev().take(3).all(|f| f.spoilt) {
                true => Ok(()),
                false => Err(what),
            };
        }
        if self.excuses.death {
            return Ok(());
        }
        let silence = self.now - self.last_answer;
        if silence < self.plan.kind.inactivity() * SECOND {
            return Err(format!("{what} {} s after an answer", silence / SECOND));
        }
        // Tigase gives ten seconds, and takes an empty request for nothing sooner than after eleven (B-39): a
        // session whose polls are cut or lost twice before that cannot be asked whether it lives.
        let hopeless = self.plan.kind == Kind::Tigase && self.was_troubled();
        match hopeless || self.was_cut_off() || self.overslept() {
            true => Ok(()),
            false => Err(what),
        }
    }
}
