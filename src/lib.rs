//! xbosh carries XMPP clients, with TLS or without, through networks that let only web traffic out.
//!
//! ```text
//! client TCP ─▶ xml ─▶ bridge ─▶ bosh ─▶ http ─▶ connect ─▶ wire   (stanza → <body/> → POST → CONNECT/SOCKS5/TLS)
//! client TCP ◀─ stream ◀─ bridge ◀─ bosh ◀─ http ◀─ connect ◀─ wire
//! ```
//!
//! [`xml`], [`stream`], [`bosh`] and [`bridge`] are the core: no sockets, no clock, no randomness,
//! no environment; bytes and facts go in, bytes and requests come out, the time is an argument.
//! [`connect`], [`http`] and [`driver`] are the shell around it. The core never imports the shell.
//!
//! Terms are those of the specs: `rid`, `sid`, `wait`, `hold`, `requests`, `inactivity`, stream header,
//! stanza (message, presence or iq), payload (any child of `<body/>`), connection manager ("CM").
//! "Proxy" alone is the upstream proxy; the program on the user's desk is the client.
//!
//! Start reading at [`bosh::session`] for the protocol, at `driver/connection.rs` for the event loop.

pub mod bosh;
pub mod bridge;
pub mod check;
pub mod cli;
pub mod config;
pub mod connect;
pub mod discover;
pub mod driver;
pub mod http;
pub mod local_tls;
pub mod status;
pub mod stream;
pub mod systemd;
pub mod telemetry;
pub mod xml;
