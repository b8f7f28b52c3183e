//! The XML we accept (RFC 6120 section 11) and its limits.
//!
//! One strict incremental engine, [`Framer`], reads both the client's stream (bytes split anywhere) and a connection
//! manager's whole reply: the same shape, a root tag, first-level elements, an end tag. It checks everything
//! once, as the bytes arrive, and hands out each first-level element as the bytes it came in plus the few facts
//! needed to move it: [`Element::write_for_body`] and [`Element::write_for_stream`].
//!
//! It knows nothing of XMPP's states or of BOSH: which root, which namespace and which element is welcome when,
//! is decided by [`crate::stream`] and [`crate::bosh`].
//!
//! Read [`Framer`] first, then [`Element`].

mod chars;
mod declaration;
mod element;
pub mod escape;
mod framer;
mod header;
mod nest;
pub mod ns;
mod scope;
mod streams;
mod tag;
#[cfg(test)]
mod tests;
mod walk;

pub use element::Element;
pub use framer::{Frame, Framer, RootText};
pub use header::{Attribute, Header};
pub use ns::Namespace;
pub use scope::Scope;

/// What one document may cost. Enforced before the memory is taken: the buffer never outgrows the limit in force by more
/// than one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest first-level element, in bytes as they arrive (S-29).
    pub max_element_bytes: usize,
    /// Longest XML declaration, and longest root tag, in bytes; blanks around them are free (S-03).
    pub max_header_bytes: usize,
    /// Deepest nesting; a first-level element has depth 1.
    pub max_depth: usize,
    /// Most attributes on one tag, namespace declarations included. As many declarations, plus one for each level of
    /// `max_depth`, may be in force at one place.
    pub max_attributes: usize,
}

/// Why a document is refused. Every variant is final for its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not well-formed, or not namespace-well-formed (S-27): E-09, `not-well-formed`.
    #[error("XML is not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// Well-formed XML that RFC 6120 section 11.1 forbids (S-26): E-08, `restricted-xml`.
    #[error("XML has a feature that XMPP forbids: {0}")]
    Restricted(&'static str),
    /// Bytes that are not UTF-8, or another encoding declared (S-28): E-07, `unsupported-encoding`.
    #[error("XML is not encoded in UTF-8")]
    UnsupportedEncoding,
    /// Characters other than blanks between first-level elements: E-10, `bad-format`.
    #[error("text between elements")]
    TextBetweenElements,
    /// Over [`Limits::max_element_bytes`] or [`Limits::max_header_bytes`]: E-13, `policy-violation`.
    #[error("element is too large")]
    TooLarge,
    /// Over [`Limits::max_depth`]: E-13, `policy-violation`.
    #[error("elements are nested too deeply")]
    TooDeep,
    /// Over [`Limits::max_attributes`]: E-13, `policy-violation`.
    #[error("element has too many attributes")]
    TooManyAttributes,
}
