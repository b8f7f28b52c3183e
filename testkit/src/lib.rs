//! Test support for xbosh.

pub mod client;
