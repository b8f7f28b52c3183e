//! The async shell: accept, run, drain.

pub mod clock;
mod connection;
mod endpoint;
mod listener;

pub use listener::{RunError, Sidecar, run};
