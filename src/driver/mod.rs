//! The async shell: accept, run, drain.

pub mod clock;
mod connection;
mod endpoint;
mod listener;
#[allow(dead_code, reason = "not connected to the listener yet")]
mod watch;

pub use listener::{RunError, Sidecar, run};
