//! The embedded server, manager and proxies themselves, tried by clients that share no code with them.

mod bosh;
mod faults;
mod faulty;
mod judge;
mod proxies;
mod quirks;
mod sessions;
mod xmpp;
