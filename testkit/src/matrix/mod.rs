//! Real clients, each run without a person by a driver of `tests/clients.d`, in front of xbosh and a real server.
//!
//! A driver says in its head what it drives; `install` gets that, `run` obeys lines on standard input (`send TEXT`,
//! `shot`, `quit`) and tells events on standard output: `version`; `file PATH` and `ran WORDS` for what a user would
//! write and type; `online`, or `ready` for a program that only sends; `jid` where it listens under another address
//! than it sends from; `got TEXT`, `lost`, `offline`.

mod driver;
mod streams;
mod trial;
mod used;

pub use driver::{Driver, drivers};
pub use streams::Stream;
pub use trial::{Online, Outage, Outcome, Stage, Trial};
pub use used::Used;
