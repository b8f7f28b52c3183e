//! The configuration as a user meets it: what each setting does, and the exact sentence for each mistake.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod defaults;
mod layers;
mod mistakes;
mod proxy;
mod support;
