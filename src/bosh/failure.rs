//! What can go wrong with one HTTP exchange, as the session core sees it.
//!
//! The shell ([`crate::http`], [`crate::connect`]) translates its own errors into these values; the core
//! decides what to repeat and what to give up. Each kind is one row of the failure table in
//! `docs/conformance.md` (E-30 to E-67).

use std::fmt;

/// Which hop failed and how. One variant per row of the failure table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// E-30: the proxy's name does not resolve, or it cannot be reached, or does not answer in time.
    ProxyUnreachable,
    /// E-31: the proxy refused our credentials, or asks for a scheme that we do not speak.
    ProxyAuth,
    /// E-32: the proxy refuses this destination (CONNECT 403 and the like, SOCKS reply 2).
    ProxyRefused,
    /// E-33: the proxy could not reach the destination (CONNECT 5xx, SOCKS replies 1, 3, 4, 5, 6).
    ProxyUpstream,
    /// E-34: what answered does not speak the proxy protocol.
    ProxyProtocol,
    /// E-40: the certificate is untrusted, expired or for another name.
    TlsCertificate,
    /// E-42: another certificate than the session began with.
    TlsCertificateChanged,
    /// E-41: TLS failed otherwise: alert, no common version, bytes that are not TLS.
    Tls,
    /// E-50: the connection manager's name, connection, or a reset before the request was written.
    CmUnreachable,
    /// E-51: no whole reply: deadline, reset, truncation, bad compression, broken HTTP.
    NoReply,
    /// E-67: the reply is larger than `limits.max_response_bytes`, or has too many headers.
    ReplyTooLarge,
    /// E-18: our own configuration or a bug.
    Internal,
}

/// One failed attempt of one request.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which hop, and how.
    pub kind: FailureKind,
    /// One sentence that names the hop and what it said. No secrets; shown to the user.
    pub text: String,
    /// Whether any byte of the request may have reached the other side.
    pub sent: bool,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?}, sent: {})", self.kind, self.text, self.sent)
    }
}

/// A whole HTTP answer, of whatever status, already decompressed and bounded in size.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The decoded body.
    pub body: bytes::Bytes,
    /// The `Location` header, for 3xx answers.
    pub location: Option<String>,
    /// `Retry-After` in seconds, if the answer had one as a number.
    pub retry_after: Option<std::time::Duration>,
}

impl fmt::Debug for HttpReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body may hold stanzas or SASL text: only its size is shown (B-73).
        write!(f, "HttpReply({}, {} bytes)", self.status, self.body.len())
    }
}
