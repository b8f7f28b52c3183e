//! What a first-level element is, and what may travel with it.
//!
//! The answer depends on namespace and local name alone. Whether it is legal at this moment is for the
//! bridge to judge.

use super::ns;

/// What a first-level element of either direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `<message/>`, `<presence/>` or `<iq/>` in jabber:client, or in the BOSH namespace, where some
    /// managers leave them (X-03).
    Stanza,
    /// An element of RFC 6120 SASL.
    Sasl1(Sasl1),
    /// An element of XEP-0388.
    Sasl2(Sasl2),
    /// `<starttls/>`, which never goes upstream (X-06).
    StartTls,
    /// Anything else in the TLS namespace.
    TlsOther,
    /// `<compress/>`, answered with [`COMPRESS_FAILURE`] (S-38).
    Compress,
    /// Stream management (XEP-0198) in either namespace that servers use.
    StreamManagement,
    /// Client state indication (XEP-0352).
    Csi,
    /// `<stream:error/>`.
    StreamError,
    /// A child of `<stream:error/>` standing alone, as old managers send it (X-18).
    StreamErrorPart,
    /// `<stream:features/>`.
    StreamFeatures,
    /// Anything else in the stream namespace; from a client, E-12.
    StreamOther,
    /// Server dialback; never forwarded (S-13, E-12).
    Dialback,
    /// Anything else: passed on, the server judges (S-30).
    Other,
}

/// Elements of `urn:ietf:params:xml:ns:xmpp-sasl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the element of that name")]
pub enum Sasl1 {
    Auth,
    Response,
    Abort,
    Challenge,
    Success,
    Failure,
    /// Not defined by RFC 6120.
    Other,
}

/// Elements of `urn:xmpp:sasl:2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each variant is the element of that name")]
pub enum Sasl2 {
    Authenticate,
    Challenge,
    Response,
    Success,
    Failure,
    Continue,
    Abort,
    /// `<next/>`, `<task-data/>`, `<parameters/>` and whatever comes.
    Other,
}

/// Whether an element may share a `<body/>` (X-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Batch {
    /// May travel with others of this sort, in order.
    Stanzas,
    /// Gets a `<body/>` of its own.
    Alone,
}

impl Kind {
    /// Classifies the element `{namespace}local`; no namespace is the empty string.
    #[must_use]
    pub fn of(namespace: &str, local: &str) -> Self {
        match (namespace, local) {
            (ns::CLIENT | ns::HTTPBIND, "message" | "presence" | "iq") => Self::Stanza,
            (ns::SASL, _) => Self::Sasl1(match local {
                "auth" => Sasl1::Auth,
                "response" => Sasl1::Response,
                "abort" => Sasl1::Abort,
                "challenge" => Sasl1::Challenge,
                "success" => Sasl1::Success,
                "failure" => Sasl1::Failure,
                _ => Sasl1::Other,
            }),
            (ns::SASL_2, _) => Self::Sasl2(match local {
                "authenticate" => Sasl2::Authenticate,
                "challenge" => Sasl2::Challenge,
                "response" => Sasl2::Response,
                "success" => Sasl2::Success,
                "failure" => Sasl2::Failure,
                "continue" => Sasl2::Continue,
                "abort" => Sasl2::Abort,
                _ => Sasl2::Other,
            }),
            (ns::TLS, "starttls") => Self::StartTls,
            (ns::TLS, _) => Self::TlsOther,
            (ns::COMPRESS, "compress") => Self::Compress,
            (ns::SM | ns::SM_2, _) => Self::StreamManagement,
            (ns::CSI, _) => Self::Csi,
            (ns::STREAM, "error") => Self::StreamError,
            (ns::STREAM, "features") => Self::StreamFeatures,
            (ns::STREAM, _) => Self::StreamOther,
            (ns::STREAM_ERROR, _) => Self::StreamErrorPart,
            (ns::DIALBACK, _) => Self::Dialback,
            _ => Self::Other,
        }
    }

    /// X-01: stanzas, stream management and CSI may share a body; everything else goes alone, SASL above all.
    #[must_use]
    pub const fn batch(self) -> Batch {
        match self {
            Self::Stanza | Self::StreamManagement | Self::Csi => Batch::Stanzas,
            Self::Sasl1(_)
            | Self::Sasl2(_)
            | Self::StartTls
            | Self::TlsOther
            | Self::Compress
            | Self::StreamError
            | Self::StreamErrorPart
            | Self::StreamFeatures
            | Self::StreamOther
            | Self::Dialback
            | Self::Other => Batch::Alone,
        }
    }
}

/// S-38: what `<compress/>` is answered with; the stream goes on (XEP-0138 section 3.1).
pub const COMPRESS_FAILURE: &[u8] =
    b"<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>";

/// S-37: the feature.
pub const STARTTLS: &[u8] = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// S-37: all that is offered where TLS must come first (RFC 6120 section 5.4.1).
pub const STARTTLS_ALONE: &[u8] =
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";

/// S-37: TLS may begin (RFC 6120 section 5.4.2.3).
pub const TLS_PROCEED: &[u8] = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// S-37: what a `<starttls/>` that has no place is answered with; then `</stream:stream>` and the connection's end
/// (RFC 6120 section 5.4.2.2).
pub const TLS_FAILURE: &[u8] = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

#[cfg(test)]
mod tests {
    use super::*;

    /// X-01, X-03, S-13, S-30: one line for each kind, with the company it may keep.
    #[test]
    fn kinds_and_batches() {
        use Batch::{Alone, Stanzas};
        let cases = [
            (ns::CLIENT, "message", Kind::Stanza, Stanzas),
            (ns::CLIENT, "presence", Kind::Stanza, Stanzas),
            (ns::CLIENT, "iq", Kind::Stanza, Stanzas),
            (ns::HTTPBIND, "iq", Kind::Stanza, Stanzas),
            (ns::CLIENT, "query", Kind::Other, Alone),
            ("", "message", Kind::Other, Alone),
            ("jabber:server", "message", Kind::Other, Alone),
            (ns::SASL, "auth", Kind::Sasl1(Sasl1::Auth), Alone),
            (ns::SASL, "response", Kind::Sasl1(Sasl1::Response), Alone),
            (ns::SASL, "abort", Kind::Sasl1(Sasl1::Abort), Alone),
            (ns::SASL, "challenge", Kind::Sasl1(Sasl1::Challenge), Alone),
            (ns::SASL, "success", Kind::Sasl1(Sasl1::Success), Alone),
            (ns::SASL, "failure", Kind::Sasl1(Sasl1::Failure), Alone),
            (ns::SASL, "mechanisms", Kind::Sasl1(Sasl1::Other), Alone),
            (
                ns::SASL_2,
                "authenticate",
                Kind::Sasl2(Sasl2::Authenticate),
                Alone,
            ),
            (
                ns::SASL_2,
                "challenge",
                Kind::Sasl2(Sasl2::Challenge),
                Alone,
            ),
            (ns::SASL_2, "response", Kind::Sasl2(Sasl2::Response), Alone),
            (ns::SASL_2, "success", Kind::Sasl2(Sasl2::Success), Alone),
            (ns::SASL_2, "failure", Kind::Sasl2(Sasl2::Failure), Alone),
            (ns::SASL_2, "continue", Kind::Sasl2(Sasl2::Continue), Alone),
            (ns::SASL_2, "abort", Kind::Sasl2(Sasl2::Abort), Alone),
            (ns::SASL_2, "next", Kind::Sasl2(Sasl2::Other), Alone),
            (ns::TLS, "starttls", Kind::StartTls, Alone),
            (ns::TLS, "proceed", Kind::TlsOther, Alone),
            (ns::COMPRESS, "compress", Kind::Compress, Alone),
            (ns::COMPRESS, "compressed", Kind::Other, Alone),
            (ns::SM, "enable", Kind::StreamManagement, Stanzas),
            (ns::SM_2, "r", Kind::StreamManagement, Stanzas),
            (ns::CSI, "inactive", Kind::Csi, Stanzas),
            (ns::STREAM, "error", Kind::StreamError, Alone),
            (ns::STREAM, "features", Kind::StreamFeatures, Alone),
            (ns::STREAM, "stream", Kind::StreamOther, Alone),
            (ns::STREAM_ERROR, "conflict", Kind::StreamErrorPart, Alone),
            (ns::DIALBACK, "result", Kind::Dialback, Alone),
            ("urn:example", "thing", Kind::Other, Alone),
        ];
        for (namespace, local, kind, batch) in cases {
            assert_eq!(Kind::of(namespace, local), kind, "{{{namespace}}}{local}");
            assert_eq!(kind.batch(), batch, "{kind:?}");
        }
    }

    /// S-37, S-38: the bytes are one well-formed element in the namespace the client waits for.
    #[test]
    fn failures_are_well_formed() {
        let compress =
            roxmltree::Document::parse(str::from_utf8(COMPRESS_FAILURE).unwrap()).unwrap();
        let root = compress.root_element();
        assert!(root.has_tag_name((ns::COMPRESS, "failure")));
        assert!(
            root.first_element_child()
                .unwrap()
                .has_tag_name((ns::COMPRESS, "setup-failed"))
        );
        let tls = roxmltree::Document::parse(str::from_utf8(TLS_FAILURE).unwrap()).unwrap();
        assert!(tls.root_element().has_tag_name((ns::TLS, "failure")));
    }
}
