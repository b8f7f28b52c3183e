//! The async shell: accept, run, drain.

mod activation;
mod ask;
mod client;
pub mod clock;
mod connection;
mod endpoint;
mod habits;
mod listener;
mod pace;
mod resume;
mod sockets;
#[cfg(test)]
mod tests;
mod tls;
mod told;
mod unix;
mod watch;

pub use activation::Activated;
pub(crate) use connection::{element_limits, features_filter, plain, random};
pub(crate) use endpoint::{Ways, in_detail, no_address, redirect_target, way_out};
pub use listener::{Reread, RunError, Sidecar, run};
