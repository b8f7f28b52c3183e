//! How long what a host said stays true (D-15, RFC 9111 section 4.2).

use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap};

const SHORTEST: Duration = Duration::from_secs(5 * 60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// For an answer that says nothing about it.
const USUAL: Duration = Duration::from_secs(3600);

/// The time from now for which an answer with these headers may be used: never less than five minutes, never
/// more than a day. `now` is the clock's time, for answers that name a date and no length.
#[must_use]
pub(super) fn freshness(headers: &HeaderMap, now: SystemTime) -> Duration {
    let said = from_cache_control(headers).or_else(|| from_expires(headers, now));
    within_bounds(said.unwrap_or(USUAL))
}

/// As long as was said, but no less and no more than makes sense.
pub(super) fn within_bounds(said: Duration) -> Duration {
    said.clamp(SHORTEST, LONGEST)
}

fn from_cache_control(headers: &HeaderMap) -> Option<Duration> {
    let age = headers
        .get(header::AGE)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .unwrap_or(0_u64);
    let mut lifetime = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" | "no-cache" => return Some(Duration::ZERO),
                "max-age" => lifetime = value.trim().trim_matches('"').parse::<u64>().ok(),
                _ => {}
            }
        }
    }
    lifetime.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

fn from_expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    // A date that cannot be read is one that is past.
    let value = headers.get(header::EXPIRES)?;
    let expires = value
        .to_str()
        .ok()
        .and_then(|v| httpdate::parse_http_date(v).ok());
    let from = date(header::DATE).unwrap_or(now);
    Some(
        expires
            .and_then(|at| at.duration_since(from).ok())
            .unwrap_or(Duration::ZERO),
    )
}
