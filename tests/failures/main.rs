//! What people read when something fails: what `xbosh check` says, the log, and the stream error of the client, each for the
//! same failure, from the program itself. `docs/troubleshooting.md` quotes these snapshots.
//!
//! Nothing here leaves loopback: names lead where the proxies of the test say.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod discovery;
mod managers;
mod network;
mod proxies;
mod settings;
mod support;
