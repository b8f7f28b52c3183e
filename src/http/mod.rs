//! One HTTP exchange: POST one body, get one body (XEP-0124 section 5).
//!
//! [`SessionClient`] serves one BOSH session: a small pool of HTTP/1.1 connections, one request in flight on
//! each, never pipelined; cookies of the session; nothing repeated but what a dead idle connection swallowed
//! (T-31). Redirects are not followed, nothing is cached, there is no reply limit: the session core owns
//! those decisions.
//!
//! Layers in the order bytes pass: [`SessionClient`] collects and bounds, tower-http inflates, `pool` picks a
//! connection, `attempt` makes the request on it, `wire` tells when a request is written, [`crate::connect`] has made the stream.

mod attempt;
mod client;
mod cookies;
mod error;

mod identity;
mod pool;
mod target;
mod wire;

#[cfg(test)]
pub(crate) mod tests;

pub use client::{ClientOptions, ExchangeRequest, SessionClient};
pub use target::Target;
