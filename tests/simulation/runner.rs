//! Many runs, and what to show of those that fail.

use std::time::{Duration, Instant};

use crate::manager::{KINDS, Kind};
use crate::plan::{Plan, Scenario};
use crate::world::World;

/// Steps shown of a run that failed.
const SHOWN: usize = 60;
/// Failures that are named.
const NAMED: usize = 10;
/// One run in so many, at most, may end by what nobody could know.
const MOST_GAMBLES: usize = 100;
/// One run in so many, at most, may end because ejabberd has put a request aside for good (cm-quirks 4.1). Nothing
/// that a client does releases that, so these are no gambles; but a client that sends less beside a request that may
/// be missing meets it less often.
const MOST_STALLS: usize = 25;

/// Sessions that a repeat has ended.
#[derive(Default)]
struct Lost {
    gambles: usize,
    /// The manager had stalled before.
    stalls: usize,
}

struct Failed {
    seed: u64,
    steps: usize,
    what: String,
}

/// One run. The error says what went wrong and in how many steps.
fn one(kind: Kind, scenario: Scenario, seed: u64, lost: &mut Lost) -> Option<Failed> {
    let mut world = World::new(Plan::draw(kind, scenario, seed), false);
    let outcome = world.run();
    match world.stalled {
        true => lost.stalls += usize::from(world.gambled),
        false => lost.gambles += usize::from(world.gambled),
    }
    let what = outcome.err()?;
    Some(Failed {
        seed,
        steps: world.steps(),
        what,
    })
}

/// Runs this many seeds, or the one that the environment asks for, or for as long as it asks for.
///
/// # Panics
/// If one of them fails.
pub(crate) fn many(kind: Kind, scenario: Scenario) {
    let var = |name: &str| std::env::var(name).ok();
    if let Some(name) = var("XBOSH_SIM_SEED") {
        match parse(&name) {
            Ok((wanted, of, seed)) if (wanted, of) == (kind, scenario) => {
                replay(kind, scenario, seed);
            }
            // Another test's.
            Ok(_) => {}
            Err(what) => panic!("XBOSH_SIM_SEED={name}: {what}"),
        }
        return;
    }
    let mut failed = Vec::new();
    let (mut lost, mut all) = (Lost::default(), 0);
    if let Some(seconds) = var("XBOSH_SIM_SECONDS") {
        let seconds = seconds.parse().expect("the time is a number of seconds");
        for seed in fresh(Duration::from_secs(seconds)) {
            all += 1;
            failed.extend(one(kind, scenario, seed, &mut lost));
        }
    } else {
        let runs = match var("XBOSH_SIM_RUNS") {
            Some(runs) => runs.parse().expect("a number of runs"),
            None if scenario == Scenario::Losses => 2000,
            None => 200,
        };
        all = runs as usize;
        failed.extend((0..runs).filter_map(|seed| one(kind, scenario, seed, &mut lost)));
    }
    let (gambles, stalls) = (lost.gambles, lost.stalls);
    assert!(
        gambles * MOST_GAMBLES <= all && stalls * MOST_STALLS <= all,
        "{}-{}: of {all} sessions {gambles} ended by a repeat that the manager did not like, and {stalls} after a stall",
        kind.name(),
        scenario.name()
    );
    report(kind, scenario, failed);
}

/// What a name like `prosody-losses-123` stands for.
pub(crate) fn parse(name: &str) -> Result<(Kind, Scenario, u64), String> {
    let usage = "it is MANAGER-SCENARIO-NUMBER, like prosody-losses-123";
    let mut parts = name.split('-');
    let (Some(manager), Some(scenario), Some(number), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(usage.into());
    };
    let kind = KINDS.into_iter().find(|kind| kind.name() == manager);
    let scenarios = [Scenario::Losses, Scenario::Cuts, Scenario::Calm];
    let of = scenarios.into_iter().find(|of| of.name() == scenario);
    let seed = number.parse().ok();
    let kind = kind.ok_or_else(|| format!("there is no manager {manager}; {usage}"))?;
    let of = of.ok_or_else(|| format!("there is no scenario {scenario}; {usage}"))?;
    let seed = seed.ok_or_else(|| format!("{number} is not a number; {usage}"))?;
    Ok((kind, of, seed))
}

/// Random seeds until the time is over.
fn fresh(time: Duration) -> impl Iterator<Item = u64> {
    #[allow(clippy::disallowed_methods, reason = "this is about real time")]
    let start = Instant::now();
    std::iter::from_fn(move || {
        (start.elapsed() < time).then(|| getrandom::u64().expect("random bytes") >> 16)
    })
}

fn replay(kind: Kind, scenario: Scenario, seed: u64) {
    let mut world = World::new(Plan::draw(kind, scenario, seed), true);
    let plan = format!("{:?}", world.plan);
    let outcome = world.run();
    let trace = world.trace().join("\n");
    assert!(outcome.is_ok(), "{plan}\n{trace}\n{outcome:?}");
}

fn report(kind: Kind, scenario: Scenario, mut failed: Vec<Failed>) {
    if failed.is_empty() {
        return;
    }
    // The shortest is the easiest to read.
    failed.sort_by_key(|f| f.steps);
    let name = |seed: u64| format!("{}-{}-{seed}", kind.name(), scenario.name());
    let list: Vec<_> = failed
        .iter()
        .take(NAMED)
        .map(|f| format!("  {}: {} ({} steps)", name(f.seed), f.what, f.steps))
        .collect();
    let mut world = World::new(Plan::draw(kind, scenario, failed[0].seed), true);
    let outcome = world.run();
    let trace = world.trace();
    let last = &trace[trace.len().saturating_sub(SHOWN)..];
    panic!(
        "{} runs failed:\n{}\nThe shortest, its last steps:\n{}\n{outcome:?}\n\
         Again: XBOSH_SIM_SEED={} cargo test --test simulation",
        failed.len(),
        list.join("\n"),
        last.join("\n"),
        name(failed[0].seed),
    );
}
