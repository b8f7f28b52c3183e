//! The root tag, as the framer hands it out.

use std::sync::Arc;

use super::scope::Scope;

/// One attribute of the root tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Local name.
    pub local: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Value, references resolved.
    pub value: String,
}

/// The root tag.
#[derive(Clone, Debug)]
pub struct Header {
    /// Prefix of the root element, if any.
    pub prefix: Option<String>,
    /// Local name.
    pub local: String,
    /// Namespace; empty for none.
    pub namespace: String,
    /// Its attributes, namespace declarations left out.
    pub attributes: Vec<Attribute>,
    /// Its namespace declarations.
    pub scope: Arc<Scope>,
}

impl Header {
    /// An attribute without namespace.
    #[must_use]
    pub fn attr(&self, local: &str) -> Option<&str> {
        self.attr_ns("", local)
    }

    /// An attribute by namespace.
    #[must_use]
    pub fn attr_ns(&self, namespace: &str, local: &str) -> Option<&str> {
        let mut all = self.attributes.iter();
        all.find(|a| a.local == local && a.namespace == namespace)
            .map(|a| a.value.as_str())
    }

    /// `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<&str> {
        self.attr_ns(super::framer::NS_XML, "lang")
    }
}
