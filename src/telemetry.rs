//! Logging set-up. Everything goes to stderr; stdout carries the ready lines alone.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::{Log, LogFormat};

/// Starts logging. A second call changes nothing.
pub fn start(log: &Log) {
    // The configuration has checked the filter.
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false);
    let result = match log.format {
        LogFormat::Json => builder.json().with_timer(SystemTime).try_init(),
        LogFormat::Auto if io::stderr().is_terminal() => {
            builder.with_ansi(true).compact().try_init()
        }
        // The journal and most supervisors stamp the lines themselves.
        LogFormat::Auto => builder.with_ansi(false).without_time().compact().try_init(),
    };
    // Only a second start fails, which tests do.
    drop(result);
}
