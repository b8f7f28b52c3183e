//! xbosh between real clients and real servers, through real proxies.
//!
//! Every server is a private instance, started once for the whole binary and shared by its tests, which is why
//! these run fastest under `cargo test --test real` (one process). Without a program that a test needs, the test
//! says so by name and does nothing, unless `XBOSH_REQUIRE_REAL=1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

mod check;
mod clients;
mod deaths;
mod ends;
mod failures;
mod faults;
mod fifty;
mod ghost;
mod haproxy;
mod harness;
mod http2;
mod keys;
mod libraries;
mod local_tls;
mod managed;
mod matrix;
mod no_settings;
mod passthrough;
mod proxy_auth;
mod resume_libraries;
mod sasl2;
mod support;
mod unix;
mod walk;
