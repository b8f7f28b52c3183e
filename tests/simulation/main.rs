//! The real session core against model connection managers, over a model network, on a clock of its own.
//!
//! A seed decides everything, so a failure can be looked at again:
//! `XBOSH_SIM_SEED=prosody-losses-123 cargo test --test simulation`. A failure names its seeds, and a seed that stands for
//! nothing is an error.
//! `XBOSH_SIM_SECONDS=600 cargo test --test simulation` runs fresh seeds for so long, each test by itself.
//! `XBOSH_SIM_RUNS=20000` sets how many seeds an ordinary run takes.
//!
//! Checked: every stanza goes through once and in order in both directions, whatever the network does; the session
//! ends, and for a reason; the requests are what the protocol allows (`oracle`). Where a manager makes this
//! impossible (it loses what was lost on the way, or breaks), nothing may be doubled or swapped all the same. Next to
//! nothing excuses a stanza that is confirmed before the server has it (`World::on_confirmed`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod bites;
mod client;
mod manager;
mod network;
mod oracle;
mod plan;
mod random;
mod request;
mod runner;
mod verdict;
mod wire;
mod world;

use manager::Kind;
use plan::Scenario;

/// Virtual time since the start, in microseconds.
type Time = u64;

const MILLI: Time = 1_000;
const SECOND: Time = 1_000_000;

/// Prosody: two answers kept, one early request put aside.
#[test]
fn prosody() {
    runner::many(Kind::Prosody, Scenario::Losses);
}

/// ejabberd: stalls on an overtaken pair, sends the client's own stanzas back.
#[test]
fn ejabberd() {
    runner::many(Kind::Ejabberd, Scenario::Losses);
}

/// MongooseIM: keeps answers until they are acknowledged, ends held requests with no byte.
#[test]
fn mongooseim() {
    runner::many(Kind::MongooseIm, Scenario::Losses);
}

/// Openfire: ends the session on a request too many.
#[test]
fn openfire() {
    runner::many(Kind::Openfire, Scenario::Losses);
}

/// Tigase: keeps no answers and no order.
#[test]
fn tigase() {
    runner::many(Kind::Tigase, Scenario::Losses);
}

/// A middle box cuts long polls before `wait` is over.
#[test]
fn cut_polls() {
    for kind in manager::KINDS {
        runner::many(kind, Scenario::Cuts);
    }
}

/// Nothing goes wrong.
#[test]
fn calm() {
    for kind in manager::KINDS {
        runner::many(kind, Scenario::Calm);
    }
}
