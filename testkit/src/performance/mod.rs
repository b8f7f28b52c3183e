//! What xbosh costs, against the least that BOSH costs, in one run.
//!
//! The same load program ([`loader`], a process of its own) is put in front of three targets: the server's plain TCP
//! port, xbosh, and, speaking BOSH by hand, nothing: the floor. [`Stage`] is a server with its ways in,
//! [`Subject`] one target on one way, [`Results`] what was measured round by round, [`idle`] many sessions at rest,
//! [`report`] what a person reads of it. Every receiver checks that each message came once, in order and unchanged.

pub mod binary;
pub mod document;
mod floor;
pub mod goals;
pub mod idle;
mod link;
mod load;
pub mod loader;
pub mod long;
pub mod machine;
mod measure;
mod message;
pub mod process;
mod remote;
pub mod report;
mod results;
mod stage;
pub mod stats;
pub mod svg;

pub use load::Pace;
pub use measure::{Amounts, Programs, Subject};
pub use remote::Loader;
pub use results::{Delays, Key, Metric, Results, Target};
pub use stage::{Path, Proxies, Stage, Upstream};
