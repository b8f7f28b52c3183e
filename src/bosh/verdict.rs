//! What one HTTP reply means: a BOSH response, something to repeat, or the end.
//!
//! Judged by a complete parse of a httpbind body, never by the content type or the reason phrase (T-12).

use std::time::Duration;

use super::body::{self, BodyError, Response, ResponseType};
use super::close::Cause;
use super::failure::HttpReply;
use crate::xml::Limits;

/// The meaning of one reply.
#[derive(Debug)]
pub enum Verdict {
    /// A BOSH response.
    Response(Box<Response>),
    /// HTTP success with no byte at all: MongooseIM ends held requests so.
    ZeroBytes,
    /// Repeat the same request; after `tries` such answers to it, give up with the cause.
    Repeat {
        /// What was seen.
        cause: Cause,
        /// How often this cause is repeated; `None`: until the session's time is spent.
        tries: Option<u32>,
        /// The server's wish.
        retry_after: Option<Duration>,
    },
    /// HTTP 400, 403, 404, 410: final from the manager, to be repeated if only an intermediary said it (B-58).
    LegacyError(u16),
    /// A redirect with its target (E-53).
    Redirect {
        /// Status code.
        status: u16,
        /// `Location`.
        location: Option<String>,
    },
    /// No use in repeating.
    Fatal(Cause),
}

/// Judges a whole reply.
#[must_use]
pub fn judge(reply: &HttpReply, limits: Limits) -> Verdict {
    let success = (200..300).contains(&reply.status);
    // Tigase and others put a real body behind an error status: what it says counts.
    match body::decode(&reply.body, limits) {
        Ok(response) if success || response.kind != ResponseType::Normal => {
            return Verdict::Response(Box::new(response));
        }
        Ok(_) => {}
        Err(_) if !success => {}
        Err(BodyError::NotBosh) if reply.body.is_empty() => return Verdict::ZeroBytes,
        Err(BodyError::NotBosh) => return repeat(Cause::NotBosh, Some(2)),
        // A cut body is a broken connection (B-49).
        Err(BodyError::Truncated) => return repeat(Cause::NoReply, None),
        Err(BodyError::Xml(error)) => return repeat(Cause::BadXml(error.to_string()), Some(2)),
    }
    match reply.status {
        300..=399 => Verdict::Redirect {
            status: reply.status,
            location: reply.location.clone(),
        },
        400 | 403 | 404 | 410 => Verdict::LegacyError(reply.status),
        408 | 425 | 429 | 500 | 502 | 503 | 504 => Verdict::Repeat {
            cause: Cause::Status(reply.status),
            tries: None,
            retry_after: reply.retry_after,
        },
        status => Verdict::Fatal(Cause::Status(status)),
    }
}

fn repeat(cause: Cause, tries: Option<u32>) -> Verdict {
    Verdict::Repeat {
        cause,
        tries,
        retry_after: None,
    }
}
