//! The only place that asks the time.

use std::time::Instant;

/// Now, by tokio's clock, so that a paused test clock reaches the core.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
