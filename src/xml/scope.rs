//! Namespace declarations in force, and moving an element from one document into another.

use bytes::{BufMut, BytesMut};

use super::{Element, Namespace, escape, ns, streams};

/// The namespace declarations of a root tag, in force for every first-level element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    default: Namespace,
    prefixes: Vec<(Box<str>, Namespace)>,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            default: Namespace::NONE,
            prefixes: Vec::new(),
        }
    }
}

impl Scope {
    /// The scope of the streams that we write ourselves: default `jabber:client`, prefix `stream`.
    #[must_use]
    pub fn of_client_stream() -> Self {
        Self {
            default: Namespace::Known(ns::CLIENT),
            prefixes: vec![("stream".into(), Namespace::Known(ns::STREAMS))],
        }
    }

    /// What a manager's `<body>` means without declaring it.
    pub(super) fn of_manager() -> Self {
        Self {
            default: Namespace::NONE,
            prefixes: vec![
                ("stream".into(), Namespace::Known(ns::STREAMS)),
                ("xmpp".into(), Namespace::Known(ns::XBOSH)),
            ],
        }
    }

    /// Builds one; `prefixes` must not have doubles.
    pub(super) fn new(default: Namespace, prefixes: Vec<(Box<str>, Namespace)>) -> Self {
        Self { default, prefixes }
    }

    /// The default namespace; empty if none is declared.
    #[must_use]
    pub fn default_namespace(&self) -> &str {
        self.default.as_str()
    }

    /// What `prefix` stands for; the empty prefix for the default namespace. `xml` is always known.
    #[must_use]
    pub fn resolve(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "" => Some(self.default.as_str()),
            "xml" => Some(ns::XML),
            _ => self
                .find(prefix.as_bytes())
                .and_then(|i| self.prefix(i))
                .map(|(_, name)| name.as_str()),
        }
    }

    pub(super) fn default_handle(&self) -> &Namespace {
        &self.default
    }

    /// Position of a declared prefix, for [`Self::prefix`].
    pub(super) fn find(&self, prefix: &[u8]) -> Option<usize> {
        self.prefixes
            .iter()
            .position(|(known, _)| known.as_bytes() == prefix)
    }

    pub(super) fn prefixes(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        self.prefixes.iter().map(|(prefix, name)| (&**prefix, name))
    }

    pub(super) fn prefix(&self, index: usize) -> Option<(&str, &Namespace)> {
        self.prefixes
            .get(index)
            .map(|(prefix, name)| (&**prefix, name))
    }
}

impl Element {
    /// Writes the element into a `<body/>`: every declaration that it used from the stream header stands on it
    /// afterwards (S-31, X-02), and `lang`, the stream's, on a stanza without its own `xml:lang` (S-33).
    ///
    /// The name of a prefixed stanza is not changed: see [`Self::is_prefixed_stanza`].
    pub fn write_for_body(&self, lang: Option<&str>, out: &mut BytesMut) {
        let (name, rest) = self.split_at_name();
        out.reserve(self.len() + 64);
        out.put_slice(name);
        if self.uses_outer_default() {
            write_declaration("", self.scope().default_namespace(), out);
        }
        for (prefix, name) in self.outer_prefixes() {
            write_declaration(prefix, name.as_str(), out);
        }
        self.write_lang(lang, out);
        out.put_slice(rest);
    }

    /// Writes the element of a `<body/>` into the client's stream, whose default namespace is `jabber:client` and whose
    /// prefix `stream` stands for the streams namespace (S-32).
    ///
    /// What inherited the httpbind namespace falls into `jabber:client`; an own `xmlns='jabber:client'` goes;
    /// elements of the streams namespace get the prefix `stream`. `lang` is for a stanza without its own (S-33).
    pub fn write_for_stream(&self, lang: Option<&str>, out: &mut BytesMut) {
        out.reserve(self.len() + 64);
        if self.has_stream_elements() && streams::write(self, lang, out) {
            return;
        }
        let (name, rest) = self.split_at_name();
        out.put_slice(name);
        self.write_stream_default(out);
        for (prefix, name) in self.outer_prefixes() {
            if !(prefix == "stream" && name.as_str() == ns::STREAMS) {
                write_declaration(prefix, name.as_str(), out);
            }
        }
        self.write_lang(lang, out);
        match self.redundant_declaration(rest) {
            Some((start, end)) => {
                out.put_slice(&rest[..start]);
                out.put_slice(&rest[end..]);
            }
            None => out.put_slice(rest),
        }
    }

    /// Declares an inherited default namespace that the client's stream does not have.
    pub(super) fn write_stream_default(&self, out: &mut BytesMut) {
        let inherited = self.scope().default_namespace();
        // A manager that left the namespace out altogether means the same as one that left httpbind in force.
        let means_client = matches!(inherited, ns::CLIENT | ns::HTTPBIND)
            || inherited.is_empty() && self.is_stanza();
        if self.uses_outer_default() && !means_client {
            write_declaration("", inherited, out);
        }
    }

    /// Adds `xml:lang` to a stanza that has none.
    pub(super) fn write_lang(&self, lang: Option<&str>, out: &mut BytesMut) {
        if let Some(lang) = lang
            && self.is_stanza()
            && !self.has_own_lang()
        {
            out.put_slice(b" xml:lang='");
            escape::write_attribute(lang, out);
            out.put_u8(b'\'');
        }
    }
}

/// Appends ` xmlns:prefix='name'`, or the default's declaration for an empty prefix.
pub(super) fn write_declaration(prefix: &str, name: &str, out: &mut BytesMut) {
    out.put_slice(b" xmlns");
    if !prefix.is_empty() {
        out.put_u8(b':');
        out.put_slice(prefix.as_bytes());
    }
    out.put_slice(b"='");
    escape::write_attribute(name, out);
    out.put_u8(b'\'');
}
