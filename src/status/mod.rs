//! What a running sidecar says of itself: to `xbosh status`, and to Prometheus.
//!
//! Connections keep their own numbers here as they go; nothing is asked of them and nothing wakes up. No user name,
//! no stanza and no secret is in it.

mod board;
mod metrics;
mod serve;

use serde::{Deserialize, Serialize};

pub(crate) use board::{Board, Seat};
pub(crate) use serve::{serve_http, serve_socket};

/// The format of [`Report`]; raised when something is taken away or means something else.
pub const FORMAT: u32 = 1;

/// A sidecar and its streams.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the program.
    pub version: String,
    /// Seconds since its start.
    pub uptime: u64,
    /// Where it listens.
    pub listening: Vec<String>,
    /// Clients that came since the start.
    pub clients: u64,
    /// Streams that ended with an error since the start.
    pub failed: u64,
    /// The way out for domains without one of their own, no passwords; a version that does not tell has none.
    #[serde(default)]
    pub way: Option<String>,
    /// What all streams since the start did, ended ones too.
    #[serde(default)]
    pub total: Traffic,
    /// What is open now, the oldest first.
    pub streams: Vec<Stream>,
}

/// What streams did together.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Stanzas from clients.
    pub stanzas_up: u64,
    /// Stanzas for clients.
    pub stanzas_down: u64,
    /// Bytes from clients.
    pub bytes_up: u64,
    /// Bytes for clients.
    pub bytes_down: u64,
    /// Requests to managers.
    pub exchanges: u64,
    /// Those of them that were repeats.
    pub repeats: u64,
}

impl Traffic {
    /// Counts one stream in.
    pub(crate) fn add(&mut self, stream: &Stream) {
        self.stanzas_up += stream.stanzas_up;
        self.stanzas_down += stream.stanzas_down;
        self.bytes_up += stream.bytes_up;
        self.bytes_down += stream.bytes_down;
        self.exchanges += stream.exchanges;
        self.repeats += stream.repeats;
    }
}

/// One client's stream.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Stream {
    /// Counted from 1 since the start.
    pub id: u64,
    /// The client's address.
    pub client: String,
    /// Seconds since it came.
    pub age: u64,
    /// `connecting`, `login`, `online`, `away` (it waits for its client) or `closing`.
    pub state: String,
    /// Whether the client speaks TLS.
    pub tls: bool,
    /// Whether it has done so from its first byte, and not by STARTTLS.
    #[serde(default)]
    pub direct_tls: bool,
    /// XMPP domain, once known.
    pub domain: Option<String>,
    /// The connection manager's address, without its query.
    pub url: Option<String>,
    /// Direct, or through which proxy.
    pub way: Option<String>,
    /// HTTP version spoken with the manager, `1.1` or `2`, once it has answered.
    #[serde(default)]
    pub http: Option<String>,
    /// Stanzas from the client.
    pub stanzas_up: u64,
    /// Stanzas for the client.
    pub stanzas_down: u64,
    /// Bytes from the client.
    pub bytes_up: u64,
    /// Bytes for the client.
    pub bytes_down: u64,
    /// Requests to the manager.
    pub exchanges: u64,
    /// Those of them that were repeats.
    pub repeats: u64,
    /// Milliseconds from a request to the answer that it brings about: of the last one.
    pub round_trip: Option<f64>,
    /// Its median over the last ones.
    pub round_trip_p50: Option<f64>,
    /// What one in a hundred of the last ones exceeded.
    pub round_trip_p99: Option<f64>,
    /// The last exchange that failed, in words.
    pub last_error: Option<String>,
}
