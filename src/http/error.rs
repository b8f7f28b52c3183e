//! What a broken exchange means: E-34, E-50, E-51, E-67 with the hop's name.

use std::error::Error;

use crate::bosh::failure::{Failure, FailureKind};
use crate::connect::{self, Upstream};

/// Why a reply's body could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection or its HTTP broke.
    #[error("the reply broke off")]
    Broken(#[source] hyper::Error),
    /// The same on a stream of HTTP/2.
    #[error("the reply broke off")]
    Reset(#[source] h2::Error),
    /// More bytes than allowed came over the wire.
    #[error("the reply is too large")]
    TooLarge,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
pub(super) struct Peer<'a> {
    /// The proxy that takes absolute-form requests, if there is one.
    pub(super) upstream: Option<&'a Upstream>,
    /// host:port of the manager.
    pub(super) target: &'a str,
    /// The manager has answered before.
    pub(super) answered: bool,
}

impl Peer<'_> {
    /// For a sentence.
    pub(super) fn name(&self) -> String {
        match self.upstream {
            Some(upstream) => format!("the proxy {}", upstream.authority()),
            None => format!("the BOSH server {}", self.target),
        }
    }

    /// A failure of the HTTP connection. `sent`: bytes of the request have been written.
    pub(super) fn broken(&self, error: &hyper::Error, sent: bool) -> Failure {
        if is_too_large(error) {
            return self.failure(
                FailureKind::ReplyTooLarge,
                "answered with too many or too large headers",
                sent,
            );
        }
        if error.is_parse() {
            return match self.upstream {
                // E-34: nothing that speaks HTTP was ever seen there.
                Some(upstream) if !self.answered => Failure {
                    sent,
                    ..connect::not_http(upstream).into_failure()
                },
                _ => self.failure(
                    FailureKind::NoReply,
                    "answered with something that is not HTTP; check the url of this domain",
                    sent,
                ),
            };
        }
        let kind = match (sent, self.upstream) {
            (true, _) => FailureKind::NoReply,
            (false, Some(_)) => FailureKind::ProxyUnreachable,
            (false, None) => FailureKind::CmUnreachable,
        };
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return self.failure(kind, "closed the connection without a whole reply", sent);
        }
        let said = io_error(error)
            .map_or_else(|| "the connection broke".to_owned(), connect::error::plain);
        self.failure(kind, &format!("gave no whole reply: {said}"), sent)
    }

    /// A failure of an HTTP/2 stream or its connection. `sent`: the request may have been processed.
    pub(super) fn reset(&self, error: &h2::Error, sent: bool) -> Failure {
        let kind = match sent {
            true => FailureKind::NoReply,
            false => FailureKind::CmUnreachable,
        };
        // RFC 9113 section 7 has the names.
        let reason = error.reason().map(|reason| format!("{reason:?}"));
        let what = match (reason, error.get_io()) {
            (Some(reason), _) if error.is_library() => {
                format!("answered with something that is not HTTP/2 ({reason})")
            }
            (Some(reason), _) if error.is_go_away() => {
                format!("closes the connection and did not take the request (HTTP/2 {reason})")
            }
            (Some(reason), _) => format!("gave no whole reply (HTTP/2 {reason})"),
            (None, Some(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                "closed the connection without a whole reply".to_owned()
            }
            (None, Some(error)) => {
                format!("gave no whole reply: {}", connect::error::plain(error))
            }
            (None, None) => "gave no whole reply".to_owned(),
        };
        self.failure(kind, &what, sent)
    }

    /// A failure while the body was read.
    pub(super) fn body(&self, error: &(dyn Error + 'static)) -> Failure {
        let mut source = Some(error);
        while let Some(error) = source {
            if error.is::<http_body_util::LengthLimitError>() {
                return self.too_large();
            }
            match error.downcast_ref::<BodyError>() {
                Some(BodyError::TooLarge) => return self.too_large(),
                Some(BodyError::Broken(error)) => return self.broken(error, true),
                Some(BodyError::Reset(error)) => return self.reset(error, true),
                None => source = error.source(),
            }
        }
        self.failure(
            FailureKind::NoReply,
            "gave a reply that cannot be decompressed",
            true,
        )
    }

    /// The peer allows no stream at all.
    pub(super) fn no_room(&self) -> Failure {
        let what = "takes no request on a new HTTP/2 connection";
        self.failure(FailureKind::CmUnreachable, what, false)
    }

    fn too_large(&self) -> Failure {
        self.failure(
            FailureKind::ReplyTooLarge,
            "answered with more than limits.max_response_bytes",
            true,
        )
    }

    /// P-14: the request was not taken in time.
    pub(super) fn stuck(&self, sent: bool) -> Failure {
        let text = format!("the request could not be sent to {} in time", self.name());
        Failure {
            kind: FailureKind::NoReply,
            text,
            sent,
        }
    }

    fn failure(&self, kind: FailureKind, what: &str, sent: bool) -> Failure {
        Failure {
            kind,
            text: format!("{} {what}", self.name()),
            sent,
        }
    }
}

/// hyper has a method for this, but only in builds with its server side.
fn is_too_large(error: &hyper::Error) -> bool {
    error.is_parse() && error.to_string().contains("too large")
}

fn io_error(error: &hyper::Error) -> Option<&std::io::Error> {
    error.source().and_then(|source| source.downcast_ref())
}
