//! Test support for xbosh.

pub mod client;
pub mod real;
