//! The async shell: accept, run, drain.

mod client;
pub mod clock;
mod connection;
mod endpoint;
mod habits;
mod listener;
mod resume;
#[cfg(test)]
mod tests;
mod watch;

pub use listener::{RunError, Sidecar, run};
