//! One HTTP exchange: POST one body, get one body (XEP-0124 section 5).
//!
//! [`SessionClient`] serves one BOSH session: a small pool of HTTP/1.1 connections, one request in flight on
//! each, never pipelined; or, where the manager speaks HTTP/2, streams of connections that sessions share by
//! the rules of [`Sharing`]; cookies of the session; nothing repeated but what a dead idle connection
//! swallowed (T-31), or what the peer says it has not looked at. Redirects are not followed, nothing is cached, there is no reply limit: the session core owns
//! those decisions.
//!
//! Layers in the order bytes pass: [`SessionClient`] collects and bounds, tower-http inflates, `pool` picks a
//! connection, `attempt` makes the request on it, `wire` tells when a request is written, [`crate::connect`] has
//! made the stream. For HTTP/2 `stream` and `frames` are what `attempt` and `wire` are for HTTP/1.1.

mod attempt;
mod client;
mod cookies;
mod error;
mod find;
mod frames;
mod identity;
mod kept;
mod live;
mod multiplex;
mod pool;
mod reply;
mod sharing;
mod stream;
mod target;
mod turn;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

pub use client::{ClientOptions, ExchangeRequest, SessionClient};
pub use sharing::Sharing;
pub use target::Target;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nothing that is done under these locks leaves half of it behind.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
