//! What xbosh knows of one client's streams: those whose other end a process of its driver holds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::real::Sidecar;

/// One stream in `xbosh status --json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its number.
    pub id: u64,
    /// `plain`, `starttls` or `direct`.
    pub security: &'static str,
    /// `login`, `online` and so on.
    pub state: String,
    /// Requests that were repeated.
    pub repeats: u64,
}

/// The streams whose clients run with `XB_HOME=home`.
///
/// # Errors
/// xbosh does not answer.
pub(super) fn streams_of(xbosh: &Sidecar, home: &Path) -> Result<Vec<Stream>, String> {
    // Asked first: a client that goes meanwhile is left out, none is taken for another.
    let ports = ports_of(home, xbosh.addr().port());
    let told = xbosh.command(&["status", "--json"])?;
    let report: serde_json::Value =
        serde_json::from_str(&told).map_err(|error| format!("xbosh status: {error}: {told}"))?;
    let streams = report["streams"].as_array().map_or(&[][..], Vec::as_slice);
    let own = streams.iter().filter(|stream| {
        let port = stream["client"].as_str().and_then(|client| {
            let (_, port) = client.rsplit_once(':')?;
            port.parse().ok()
        });
        port.is_some_and(|port| ports.contains(&port))
    });
    Ok(own
        .map(|stream| Stream {
            id: stream["id"].as_u64().unwrap_or_default(),
            security: match (&stream["tls"], &stream["direct_tls"]) {
                (serde_json::Value::Bool(true), serde_json::Value::Bool(true)) => "direct",
                (serde_json::Value::Bool(true), _) => "starttls",
                _ => "plain",
            },
            state: stream["state"].as_str().unwrap_or_default().to_owned(),
            repeats: stream["repeats"].as_u64().unwrap_or_default(),
        })
        .collect())
}

/// Local ports of connections to this port, of all processes that run with `XB_HOME=home`.
fn ports_of(home: &Path, to: u16) -> BTreeSet<u16> {
    let sockets = sockets_of(home);
    let mut ports = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(remote), Some(inode)) =
                (fields.get(1), fields.get(2), fields.get(9))
            else {
                continue;
            };
            if port_of(remote) == Some(to) && sockets.contains(&format!("socket:[{inode}]")) {
                ports.extend(port_of(local));
            }
        }
    }
    ports
}

/// Of `0100007F:1466`.
fn port_of(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
}

/// What the descriptors of these processes lead to.
fn sockets_of(home: &Path) -> BTreeSet<String> {
    let mark = format!("XB_HOME={}", home.display());
    let mut sockets = BTreeSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        if !environment
            .split(|byte| *byte == 0)
            .any(|setting| setting == mark.as_bytes())
        {
            continue;
        }
        let descriptors = fs::read_dir(process.path().join("fd"));
        for descriptor in descriptors.into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(descriptor.path()) {
                sockets.insert(target.display().to_string());
            }
        }
    }
    sockets
}
