//! The sidecar end to end against the embedded connection manager and fake proxies, with faults on command.

mod exchange;
mod faults;
mod limits;
mod proxies;
mod support;
