//! The root tag of a document: a stream header, or the start tag of `<body/>`.

use std::fmt;
use std::sync::Arc;

use super::nest::Nest;
use super::tag::TagScan;
use super::{Scope, escape};

/// A root tag, read completely.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// What the root's name has before its colon.
    pub prefix: Option<String>,
    /// The root's name without prefix.
    pub local: String,
    /// The root's namespace; empty for none (S-13).
    pub namespace: String,
    /// All attributes but namespace declarations, in the order written.
    pub attributes: Vec<Attribute>,
    /// The namespace declarations, in force for everything inside.
    pub scope: Arc<Scope>,
}

/// One attribute of a root tag.
#[derive(Clone, PartialEq, Eq)]
pub struct Attribute {
    /// What the name has before its colon, as written; some managers look at nothing else.
    pub prefix: Option<String>,
    /// The name without prefix.
    pub local: String,
    /// The namespace the prefix stands for.
    pub namespace: Option<String>,
    /// References replaced, blanks normalised.
    pub value: String,
}

impl Header {
    /// Whether the root has this name.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.local == local && self.namespace == namespace
    }

    /// The value of an attribute without prefix.
    #[must_use]
    pub fn attr(&self, local: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|a| a.namespace.is_none() && a.local == local)
            .map(|a| a.value.as_str())
    }

    /// The value of an attribute in a namespace.
    #[must_use]
    pub fn attr_ns(&self, namespace: &str, local: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|a| a.local == local && a.namespace.as_deref() == Some(namespace))
            .map(|a| a.value.as_str())
    }

    /// The value of `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<&str> {
        self.attr_ns(super::ns::XML, "lang")
    }

    /// Takes the facts of a tag that `nest` has just entered and found right.
    pub(super) fn read(bytes: &[u8], tag: &TagScan, nest: &Nest, known: &Scope) -> Self {
        let scope = nest.root_scope(bytes, known);
        let owned = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let prefix = tag.name.prefix().text(bytes);
        let attributes = tag
            .attributes
            .iter()
            .filter(|a| a.name.span.of(bytes) != b"xmlns" && a.name.prefix().of(bytes) != b"xmlns")
            .map(|a| {
                let prefix = a.name.prefix().text(bytes);
                let namespace = if prefix.is_empty() {
                    None
                } else {
                    scope.resolve(prefix)
                };
                Attribute {
                    prefix: owned(prefix),
                    local: a.name.local().text(bytes).to_owned(),
                    namespace: namespace.map(str::to_owned),
                    value: escape::unescape_attribute(a.value.text(bytes)).into_owned(),
                }
            })
            .collect();
        Self {
            prefix: owned(prefix),
            local: tag.name.local().text(bytes).to_owned(),
            namespace: scope.resolve(prefix).unwrap_or_default().to_owned(),
            attributes,
            scope: Arc::new(scope),
        }
    }
}

/// Names only: the values hold session ids and keys.
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("local", &self.local)
            .field("namespace", &self.namespace)
            .field("attributes", &self.attributes)
            .finish_non_exhaustive()
    }
}

/// The name only.
impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{prefix}:{}", self.local),
            None => f.write_str(&self.local),
        }
    }
}
