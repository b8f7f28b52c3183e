//! The checks bite: what is wrong on purpose is reported, and the runs are about something.

use bytes::Bytes;

use crate::manager::{KINDS, Kind, Mutation};
use crate::oracle::Oracle;
use crate::plan::{Act, Ending, Fault, Plan, Scenario};
use crate::request::Request;
use crate::runner;
use crate::world::World;
use crate::{SECOND, Time};

/// A run in which nothing goes wrong but this.
fn spoilt(kind: Kind, seed: u64, mutation: Mutation) -> (World, Result<(), String>) {
    let mut plan = Plan::draw(kind, Scenario::Calm, seed);
    plan.mutation = Some(mutation);
    plan.ending = Ending::Settled;
    let mut world = World::new(plan, false);
    let outcome = world.run();
    (world, outcome)
}

/// A stanza that is lost, doubled or swapped is reported, whoever does it.
#[test]
fn spoilt_stanzas_are_reported() {
    for kind in KINDS {
        for mutation in [
            Mutation::DropDown,
            Mutation::DoubleDown,
            Mutation::SwapDown,
            Mutation::DropUp,
            Mutation::DoubleUp,
        ] {
            let mut met = 0;
            for seed in 0..40 {
                let (mut world, outcome) = spoilt(kind, seed, mutation);
                let up = matches!(mutation, Mutation::DropUp | Mutation::DoubleUp);
                let (_, pushed) = world.account();
                let reached = if up { world.client.said } else { pushed };
                if reached > 6 {
                    met += 1;
                    assert!(outcome.is_err(), "{kind:?} {mutation:?} {seed}");
                }
            }
            assert!(met >= 10, "{kind:?} {mutation:?}: {met}");
        }
    }
}

/// A session that never comes to rest is reported.
#[test]
fn a_loop_is_reported() {
    for kind in KINDS {
        let mut plan = Plan::draw(kind, Scenario::Calm, 1);
        plan.mutation = Some(Mutation::Hasty);
        plan.polling = false;
        (plan.latency, plan.write) = (0, 0);
        let outcome = World::new(plan, false).run();
        assert!(
            outcome
                .as_ref()
                .is_err_and(|what| what.contains("busy loop")),
            "{kind:?}: {outcome:?}"
        );
    }
}

/// A stanza that is confirmed before the server has it would be lost in silence.
#[test]
fn early_confirms_are_reported() {
    for kind in KINDS {
        let mut met = 0;
        for seed in 0..20 {
            let mut plan = Plan::draw(kind, Scenario::Losses, seed);
            plan.misread = 1;
            let mut world = World::new(plan, false);
            let outcome = world.run();
            if world.confirmed > 0 {
                met += 1;
                assert!(
                    outcome
                        .as_ref()
                        .is_err_and(|what| what.contains("is confirmed and was never")),
                    "{kind:?} {seed}: {outcome:?}"
                );
            }
        }
        assert!(met >= 10, "{kind:?}: {met}");
    }
}

/// A client that waits to hear what has arrived, and never hears, is reported.
#[test]
fn missing_confirms_are_reported() {
    for kind in KINDS {
        let mut plan = Plan::draw(kind, Scenario::Calm, 1);
        plan.misread = -1;
        plan.ending = Ending::Settled;
        plan.acts = vec![(0, Act::Confirm(true)), (SECOND, Act::Say(1))];
        let outcome = World::new(plan, false).run();
        assert!(
            outcome.as_ref().is_err_and(|what| what.contains("no rest")),
            "{kind:?}: {outcome:?}"
        );
    }
}

/// A lone stanza of a client that waits for it is confirmed, by a polling manager too, with keys or without.
#[test]
fn a_lone_stanza_is_confirmed() {
    for kind in KINDS {
        for (polling, keys) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut plan = Plan::draw(kind, Scenario::Calm, 1);
            (plan.polling, plan.keys) = (polling, keys);
            plan.ending = Ending::Settled;
            plan.acts = vec![(0, Act::Confirm(true)), (SECOND, Act::Say(1))];
            let mut world = World::new(plan, false);
            let outcome = world.run();
            assert!(outcome.is_ok(), "{kind:?} {polling} {keys}: {outcome:?}");
            assert!(world.confirmed >= 3, "{kind:?}: {}", world.confirmed);
            let requests = world.session.granted().map(|g| g.requests.get());
            assert_eq!(requests, Some(if polling { 1 } else { 2 }), "{kind:?}");
        }
    }
}

/// Sleep kills what is under way: it is asked for again, and a session whose time is not over goes on.
#[test]
fn sleep_and_renewal_repeat_what_is_under_way() {
    for kind in KINDS {
        for act in [Act::Renew, Act::Sleep(4 * SECOND)] {
            let mut plan = Plan::draw(kind, Scenario::Calm, 1);
            plan.polling = false;
            plan.ending = Ending::Settled;
            plan.faults_end = 0;
            plan.acts = vec![
                (SECOND, Act::Say(1)),
                (3 * SECOND, act),
                (9 * SECOND, Act::Say(2)),
            ];
            let mut world = World::new(plan, false);
            let outcome = world.run();
            assert!(outcome.is_ok(), "{kind:?} {act:?}: {outcome:?}");
            let again = world.flights.iter().any(|flight| flight.key.attempt == 2);
            assert!(again, "{kind:?} {act:?}: nothing was repeated");
        }
    }
}

/// A session that slept longer than the manager waits ends, and that is no mistake; a shorter sleep excuses nothing.
#[test]
fn only_long_sleeps_excuse_an_end() {
    for kind in KINDS {
        let inactivity = kind.inactivity() * SECOND;
        for (time, excused) in [
            (inactivity / 4, false),
            (inactivity * 2 + 70 * SECOND, true),
        ] {
            let mut plan = Plan::draw(kind, Scenario::Calm, 1);
            plan.polling = false;
            plan.ending = Ending::Settled;
            plan.acts = vec![(SECOND, Act::Sleep(time))];
            let mut world = World::new(plan, false);
            let outcome = world.run();
            assert!(outcome.is_ok(), "{kind:?} {time}: {outcome:?}");
            assert_eq!(world.excuses.death, excused, "{kind:?} {time}");
        }
    }
}

/// A mistyped seed is no silent success.
#[test]
fn a_mistyped_seed_is_an_error() {
    assert_eq!(
        runner::parse("tigase-cuts-17"),
        Ok((Kind::Tigase, Scenario::Cuts, 17))
    );
    for (wrong, what) in [
        ("", "MANAGER-SCENARIO-NUMBER"),
        ("prosody-losses", "MANAGER-SCENARIO-NUMBER"),
        ("prosody-losses-1-2", "MANAGER-SCENARIO-NUMBER"),
        ("prosodi-losses-1", "no manager prosodi"),
        ("prosody-loses-1", "no scenario loses"),
        ("prosody-losses-x1", "x1 is not a number"),
    ] {
        let error = runner::parse(wrong).unwrap_err();
        assert!(error.contains(what), "{wrong}: {error}");
    }
}

/// An end that the plan does not excuse is reported.
#[test]
fn an_end_by_itself_is_reported() {
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Tigase) {
        let mut plan = Plan::draw(kind, Scenario::Calm, 1);
        plan.ending = Ending::Settled;
        plan.faults_end = 3000 * SECOND;
        plan.outages = vec![(40 * SECOND, 3000 * SECOND)];
        let outcome = World::new(plan, false).run();
        assert!(
            outcome.as_ref().is_err_and(|what| what.contains("gave up")),
            "{kind:?}: {outcome:?}"
        );
    }
}

/// The same seed is the same run.
#[test]
fn runs_repeat() {
    for kind in KINDS {
        for seed in 0..20 {
            let trace = || {
                let mut world = World::new(Plan::draw(kind, Scenario::Losses, seed), true);
                let outcome = world.run();
                (world.trace().to_vec(), outcome)
            };
            assert_eq!(trace(), trace(), "{kind:?} {seed}");
        }
    }
}

/// Most runs are judged without excuse, and every kind of trouble is met.
#[test]
fn runs_are_about_something() {
    for kind in KINDS {
        let (mut strict, mut repeats, mut bound) = (0, 0, 0);
        let (mut slept, mut polling, mut keyed, mut confirmed) = (0, 0, 0, 0);
        let mut drawn: Vec<Fault> = Vec::new();
        for seed in 0..200 {
            let plan = Plan::draw(kind, Scenario::Losses, seed);
            drawn.extend(plan.faults.iter().filter(|_| plan.fault_rate > 0));
            let mut world = World::new(plan, false);
            let _ = world.run();
            strict += usize::from(!world.excuses.loss && !world.excuses.death);
            repeats += world.flights.iter().filter(|f| f.key.attempt > 1).count();
            bound += usize::from(world.bound_at.is_some());
            slept += world.sleeps.len();
            polling += usize::from(world.plan.polling);
            keyed += usize::from(world.plan.keys);
            confirmed += world.confirmed;
        }
        drawn.sort_by_key(|fault| *fault as usize);
        drawn.dedup();
        let least = if kind == Kind::Tigase { 80 } else { 120 };
        assert!(strict >= least, "{kind:?}: {strict} of 200 without excuse");
        assert!(bound >= 150, "{kind:?}: {bound} of 200 bound");
        assert!(repeats >= 300, "{kind:?}: {repeats} repeats");
        assert!(slept >= 10, "{kind:?}: {slept} sleeps");
        assert!(
            polling >= 10 || kind == Kind::Tigase,
            "{kind:?}: {polling} poll"
        );
        assert!(keyed >= 20, "{kind:?}: {keyed} with keys");
        assert!(confirmed >= 1000, "{kind:?}: {confirmed} confirmed");
        assert!(drawn.len() >= 13, "{kind:?}: {drawn:?}");
    }
}

/// One client of the oracle, with a session that has rid 1000 behind it.
struct Judged {
    oracle: Oracle,
    now: Time,
}

/// Two requests, no keys.
fn judged_plan(kind: Kind) -> Plan {
    let mut plan = Plan::draw(kind, Scenario::Calm, 1);
    (plan.polling, plan.keys) = (false, false);
    plan
}

impl Judged {
    /// The request had an empty answer.
    fn answered(&mut self, rid: u64) {
        self.oracle.answered(rid, true, self.now);
    }

    fn new(kind: Kind) -> Self {
        Self::of(&judged_plan(kind))
    }

    fn of(plan: &Plan) -> Self {
        let mut judged = Self {
            oracle: Oracle::new(plan),
            now: 0,
        };
        judged.sends(1000, "creation").unwrap();
        judged.answered(1000);
        judged.oracle.opened();
        judged.now = 100 * SECOND;
        judged
    }

    fn sends(&mut self, rid: u64, what: &str) -> Result<(), String> {
        let xmlns = "xmlns='http://jabber.org/protocol/httpbind'";
        let text = match what {
            _ if what.starts_with("creation") => {
                let more = what.trim_start_matches("creation");
                format!("<body {xmlns} rid='{rid}' to='example.org' ack='1'{more}/>")
            }
            _ if what.starts_with('<') => {
                format!("<body {xmlns} rid='{rid}' sid='s0'>{what}</body>")
            }
            _ => format!("<body {xmlns} rid='{rid}' sid='s0' {what}/>"),
        };
        let body = Bytes::from(text);
        let request = Request::read(&body).unwrap();
        self.oracle.sends(&body, &request, self.now)
    }
}

const MESSAGE: &str = "<message xmlns='jabber:client' id='u1'/>";

/// Rids go up by one, and a repeat is the same to the byte.
#[test]
fn the_oracle_counts_rids() {
    let mut judged = Judged::new(Kind::Prosody);
    assert!(judged.sends(1002, "").unwrap_err().contains("after"));
    judged.sends(1001, MESSAGE).unwrap();
    judged.sends(1001, MESSAGE).unwrap();
    assert!(judged.sends(1001, "").unwrap_err().contains("differs"));
    assert!(judged.sends(1000, "").unwrap_err().contains("differs"));
}

/// No more unanswered than allowed; terminate may be one more after two seconds; nothing follows it.
#[test]
fn the_oracle_counts_the_window() {
    let mut judged = Judged::new(Kind::Prosody);
    judged.sends(1001, "").unwrap();
    judged.sends(1002, "ack='1000' type='x'").unwrap_err();
    judged
        .sends(1002, "ack='1000' xmpp:restart='true'")
        .unwrap();
    let third = "ack='1000' type='terminate'";
    assert!(judged.sends(1003, third).unwrap_err().contains("beside 2"));
    judged.oracle.ending(judged.now);
    judged.now += SECOND;
    assert!(judged.sends(1003, third).unwrap_err().contains("beside 2"));
    judged.now += SECOND;
    judged.sends(1003, third).unwrap();
    assert!(judged.oracle.squeezed());
    for rid in 1001..=1003 {
        judged.answered(rid);
    }
    assert!(judged.sends(1004, "").unwrap_err().contains("terminate"));
}

/// An empty request beside another keeps its distance.
#[test]
fn the_oracle_knows_polling() {
    let mut judged = Judged::new(Kind::Prosody);
    judged.oracle.bound();
    judged.sends(1001, "").unwrap();
    judged.now += 5 * SECOND;
    assert!(
        judged
            .sends(1002, "ack='1000'")
            .unwrap_err()
            .contains("empty")
    );
    judged.now += 6 * SECOND;
    judged.sends(1002, "ack='1000'").unwrap();
}

/// XEP-0124 section 12: a session with one request at a time polls no sooner than it may.
#[test]
fn the_oracle_knows_polling_sessions() {
    let mut plan = judged_plan(Kind::Prosody);
    plan.polling = true;
    let mut judged = Judged::of(&plan);
    judged.sends(1001, MESSAGE).unwrap();
    assert!(
        judged
            .sends(1002, "ack='1000'")
            .unwrap_err()
            .contains("beside 1")
    );
    judged.answered(1001);
    judged.now += 4 * SECOND;
    assert!(judged.sends(1002, "").unwrap_err().contains("too soon"));
    judged.now += 5 * SECOND;
    judged.sends(1002, "").unwrap();
}

/// XEP-0124 section 15: the hash of a key is the key before it.
#[test]
fn the_oracle_knows_keys() {
    let mut plan = judged_plan(Kind::Ejabberd);
    plan.keys = true;
    // Of "abc" (FIPS 180).
    let newkey = "newkey='a9993e364706816aba3e25717850c26c9cd0d89d'";
    let judged = |first: &str, second: &str| {
        let mut judged = Judged {
            oracle: Oracle::new(&plan),
            now: 0,
        };
        judged.sends(1000, &format!("creation {first}"))?;
        judged.answered(1000);
        judged.oracle.opened();
        judged.sends(1001, second)
    };
    judged(newkey, "key='abc'").unwrap();
    for (first, second) in [
        ("", "key='abc'"),
        (newkey, ""),
        (newkey, "key='abd'"),
        (newkey, "newkey='abc'"),
    ] {
        assert!(
            judged(first, second).unwrap_err().contains("wrong key"),
            "{second}"
        );
    }
}

/// `ack` is the last rid without a gap before it, and left out when nothing is missing.
#[test]
fn the_oracle_reads_acks() {
    let mut judged = Judged::new(Kind::Openfire);
    let restart = "xmpp:restart='true'";
    assert!(
        judged
            .sends(1001, &format!("{restart} ack='1000'"))
            .is_err()
    );
    judged.sends(1001, restart).unwrap();
    for wrong in ["", "ack='1001'", "ack='999'"] {
        let sent = judged.sends(1002, &format!("{restart} {wrong}"));
        assert!(sent.unwrap_err().contains("acknowledges"), "{wrong}");
    }
    judged
        .sends(1002, &format!("{restart} ack='1000'"))
        .unwrap();
    judged.answered(1002);
    judged
        .sends(1003, &format!("{restart} ack='1000'"))
        .unwrap();
    judged.answered(1001);
    judged
        .sends(1004, &format!("{restart} ack='1002'"))
        .unwrap();
}

/// No pause, no key, nothing that was not asked for.
#[test]
fn the_oracle_knows_the_attributes() {
    for strange in [
        "pause='60'",
        "key='x'",
        "type='error'",
        "wait='60' stream='x'",
    ] {
        let mut judged = Judged::new(Kind::Prosody);
        assert!(judged.sends(1001, strange).is_err(), "{strange}");
    }
}
