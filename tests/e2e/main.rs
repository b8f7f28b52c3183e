//! The sidecar end to end against the embedded connection manager and fake proxies, with faults on command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bad_proxies;
mod certificates;
mod check;
mod discovery;
mod exchange;
mod faults;
mod fifty;
mod filtering;
mod http2;
mod keys;
mod limits;
mod local_tls;
mod odd_clients;
mod proxies;
mod quirks;
mod support;
mod unix;
