//! Namespaces we meet all the time, and a cheap handle for any other.

use std::fmt;
use std::sync::Arc;

/// Stanzas between client and server.
pub const CLIENT: &str = "jabber:client";
/// The stream's own elements: header, features, error.
pub const STREAMS: &str = "http://etherx.jabber.org/streams";
/// BOSH's `<body/>`.
pub const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
/// XMPP over BOSH: the `xmpp:` attributes of `<body/>`.
pub const XBOSH: &str = "urn:xmpp:xbosh";
/// STARTTLS (RFC 6120 section 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 section 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Extensible SASL Profile (XEP-0388).
pub const SASL2: &str = "urn:xmpp:sasl:2";
/// Resource binding (RFC 6120 section 7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// Stream management (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";
/// Client state indication (XEP-0352).
pub const CSI: &str = "urn:xmpp:csi:0";
/// Stream compression (XEP-0138).
pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// Conditions of stream errors.
pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// Bound to the prefix `xml` everywhere.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// Bound to the prefix `xmlns` everywhere; nobody may declare it.
pub const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

const KNOWN: [&str; 13] = [
    CLIENT,
    STREAMS,
    HTTPBIND,
    XBOSH,
    TLS,
    SASL,
    SASL2,
    BIND,
    SM,
    CSI,
    COMPRESS,
    STREAM_ERRORS,
    XML,
];

/// A namespace name; empty for "in no namespace". Cloning never copies the text.
#[derive(Clone)]
pub enum Namespace {
    /// One of this module's constants, or the empty name.
    Known(&'static str),
    /// Any other.
    Other(Arc<str>),
}

impl Namespace {
    /// In no namespace.
    pub const NONE: Self = Self::Known("");

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Namespace {
    fn from(name: &str) -> Self {
        if name.is_empty() {
            return Self::NONE;
        }
        KNOWN
            .iter()
            .find(|known| **known == name)
            .map_or_else(|| Self::Other(Arc::from(name)), |known| Self::Known(known))
    }
}

impl PartialEq for Namespace {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Namespace {}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
