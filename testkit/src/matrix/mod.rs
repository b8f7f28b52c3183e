//! Real clients, each run without a person by a driver of `tests/clients.d`, in front of xbosh and a real server.
//!
//! A driver says in its head what it drives; `install` gets that, `run` obeys lines on standard input (`send TEXT`,
//! `shot`, `quit`) and tells events on standard output (`version`, `online`, `got TEXT`, `lost`, `offline`).

mod driver;
mod trial;

pub use driver::{Driver, drivers};
pub use trial::{Online, Outcome, Stage, Trial};
