//! The bodies of the fuzz targets: each has `run`, which takes any bytes and panics when a promise is broken.
//!
//! The fuzzers and the replay of their corpora (`tests/fuzz_corpus.rs`) share these files.

pub mod body;
pub mod config;
pub mod framer;
mod oracle;
pub mod proxy_replies;
pub mod session;
