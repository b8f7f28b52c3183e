//! The BOSH session (XEP-0124, XEP-0206) as a state machine without I/O.
//!
//! A BOSH session is a pair of HTTP requests kept moving: the connection manager holds one until it has
//! something to say (or `wait` has passed), the next request makes it let go. Each request has a `rid`, one
//! higher than the last; replies count in rid order whatever order they come in.
//!
//! How to drive [`Session`]:
//! 1. Give it one input: `send`, `restart`, `terminate`, `handle_written`, `handle_response`,
//!    `handle_failure`, `handle_timeout`.
//! 2. Drain [`Session::poll_event`], then [`Session::poll_abort`], then [`Session::poll_request`] until each
//!    is empty. Events first: one of them may call for a restart, which must be the very next request.
//! 3. Wait until [`Session::poll_timeout`] or the next input, and start over.
//!
//! Next: [`session`] for the machine, [`body`] for the wire format.

pub mod body;
pub mod close;
pub mod condition;
mod creation;
mod cuts;
mod doubt;
mod ending;
mod failing;
pub mod failure;
pub mod keys;
pub mod params;
mod queue;
mod receive;
mod refusal;
pub mod repair;
mod schedule;
pub mod session;
pub mod verdict;
mod window;

#[cfg(test)]
mod tests;

pub use close::{Cause, CloseReason};
pub use failure::{Failure, FailureKind, HttpReply};
pub use keys::KeySeed;
pub use params::{Granted, Manager, Requested, Rid, Sid, Way};
pub use session::{Event, Options, PayloadClass, Request, Session};
pub use window::RequestKey;
