//! The XML we accept (RFC 6120 section 11), its limits, and moving elements between documents.
//!
//! One strict incremental engine serves a client's stream, split anywhere by TCP, and a manager's whole
//! `<body/>` reply: both are a root tag, first-level elements and an end tag. Comments, processing
//! instructions, document types and entities other than the five are refused, never expanded.
//!
//! - [`framer`]: bytes to [`Frame`]s, zero-copy.
//! - `token`: what one tag or text may look like.
//! - [`element`]: one complete element, its bytes as they came and what is known of it.
//! - [`scope`]: the root's namespace declarations, and what an element takes along when it moves.

pub mod element;
pub mod escape;
pub mod framer;
pub mod header;
pub mod scope;
#[cfg(test)]
mod tests;
mod token;

pub use element::Element;
pub use framer::{Frame, Framer, RootText};
pub use header::{Attribute, Header};
pub use scope::Scope;

/// Bounds on what either side may send. Checked before memory is taken: a buffer never grows past its limit
/// by more than one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest first-level element, in bytes.
    pub max_element_bytes: usize,
    /// Largest root tag with what precedes it, in bytes.
    pub max_header_bytes: usize,
    /// Deepest nesting inside a first-level element, itself included.
    pub max_depth: usize,
    /// Most attributes on one tag, namespace declarations included.
    pub max_attributes: usize,
}

/// Why XML is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// E-09: not well-formed, or not namespace-well-formed.
    #[error("XML that is not well-formed: {0}")]
    NotWellFormed(&'static str),
    /// E-08: a comment, processing instruction, document type or entity reference.
    #[error("XML that XMPP forbids: {0}")]
    Restricted(&'static str),
    /// E-07: not UTF-8.
    #[error("an encoding other than UTF-8")]
    UnsupportedEncoding,
    /// E-10: text between first-level elements.
    #[error("text between elements")]
    TextBetweenElements,
    /// E-13: larger than the limit.
    #[error("an element over the size limit")]
    TooLarge,
    /// E-13: deeper than the limit.
    #[error("an element nested too deep")]
    TooDeep,
    /// E-13: more attributes than the limit.
    #[error("an element with too many attributes")]
    TooManyAttributes,
}
