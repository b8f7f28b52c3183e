//! Namespace declarations of a root tag, and what an element takes along when it moves to another document.

use bytes::{BufMut as _, BytesMut};

use super::element::Element;
use super::escape;

const CLIENT: &str = "jabber:client";
const STREAM: &str = "http://etherx.jabber.org/streams";
const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";

/// The declarations that first-level elements inherit from the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub(super) default: Option<String>,
    pub(super) prefixes: Vec<(String, String)>,
}

impl Scope {
    /// The default namespace, if one is declared.
    #[must_use]
    pub fn default_namespace(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// The namespace bound to a prefix.
    #[must_use]
    pub fn prefix(&self, prefix: &str) -> Option<&str> {
        self.prefixes
            .iter()
            .find(|(known, _)| known == prefix)
            .map(|(_, uri)| uri.as_str())
    }

    pub(super) fn index_of(&self, prefix: &[u8]) -> Option<usize> {
        self.prefixes
            .iter()
            .position(|(known, _)| known.as_bytes() == prefix)
    }
}

impl Element {
    /// Appends the element as a child of `<body/>` (TCP to BOSH): its namespace is always spelt out,
    /// prefixes that it used from the stream header are declared again (S-31), a stanza without `xml:lang`
    /// gets `lang` (S-33). Nothing else changes (S-34).
    pub fn write_for_body(&self, lang: Option<&str>, out: &mut BytesMut) {
        let bytes = self.bytes();
        out.reserve(bytes.len() + 64);
        out.put_slice(&bytes[..self.facts().name_end]);
        if self.facts().own_default.is_none() && self.facts().uses_outer_default {
            declare(
                out,
                "xmlns",
                self.scope().default_namespace().unwrap_or_default(),
            );
        }
        self.declare_outer_prefixes(out, None);
        self.add_lang(lang, out);
        out.put_slice(&bytes[self.facts().name_end..]);
    }

    /// Appends the element as it stands on a client's stream (BOSH to TCP), where jabber:client is the
    /// default and `stream` is bound: what inherited the wrapper's namespace falls into jabber:client with
    /// all that is inside (X-03, T-22), a redundant declaration goes, other inherited ones are spelt out,
    /// stream elements get the prefix `stream` (S-32). Nothing else changes (S-34).
    pub fn write_for_stream(&self, lang: Option<&str>, out: &mut BytesMut) {
        let bytes = self.bytes();
        let facts = self.facts();
        out.reserve(bytes.len() + 64);
        let rename = self.namespace() == STREAM
            && self.prefix() != Some("stream")
            && self.stream_prefix_is_free();
        let name_end = facts.name_end;
        if rename {
            out.put_slice(b"<stream:");
            out.put_slice(self.local().as_bytes());
        } else {
            out.put_slice(&bytes[..name_end]);
        }
        if facts.own_default.is_none() && facts.uses_outer_default {
            let outer = self.scope().default_namespace().unwrap_or_default();
            // A stream element that is renamed needs the default only for what is inside.
            if !matches!(outer, CLIENT | HTTPBIND) {
                declare(out, "xmlns", outer);
            }
        }
        self.declare_outer_prefixes(out, Some("stream"));
        self.add_lang(lang, out);
        let rest = match &facts.own_default {
            // Inside a prefixed element the declaration is there for its children.
            Some(own) if self.prefix().is_none() && !rename && self.falls_into_client() => {
                out.put_slice(&bytes[name_end..own.start]);
                own.end
            }
            Some(_) | None => name_end,
        };
        if rename && !bytes.ends_with(b"/>") {
            let close = memchr::memmem::rfind(bytes, b"</").unwrap_or(bytes.len());
            out.put_slice(&bytes[rest..close]);
            out.put_slice(b"</stream:");
            out.put_slice(self.local().as_bytes());
            out.put_slice(b">");
        } else {
            out.put_slice(&bytes[rest..]);
        }
    }

    /// Whether its own default declaration says no more than the stream does, or names the wrapper's
    /// namespace where a stanza cannot mean it.
    fn falls_into_client(&self) -> bool {
        match self.own_default_value() {
            CLIENT => true,
            HTTPBIND => self.is_stanza(),
            _ => false,
        }
    }

    /// Whether the prefix `stream` means nothing else on this element.
    fn stream_prefix_is_free(&self) -> bool {
        let outer = self.facts().outer_prefixes.iter();
        let mut outer = outer.filter_map(|index| self.scope().prefixes.get(usize::from(*index)));
        self.raw_attribute("xmlns:stream")
            .is_none_or(|uri| uri == STREAM)
            && outer.all(|(prefix, uri)| prefix != "stream" || uri == STREAM)
    }

    /// Declares the outer prefixes in use; not `except` where the new document binds it alike.
    fn declare_outer_prefixes(&self, out: &mut BytesMut, except: Option<&str>) {
        for index in &self.facts().outer_prefixes {
            if let Some((prefix, uri)) = self.scope().prefixes.get(usize::from(*index)) {
                let bound_alike = except == Some(prefix) && uri == STREAM;
                if !bound_alike {
                    declare(out, &format!("xmlns:{prefix}"), uri);
                }
            }
        }
    }

    fn add_lang(&self, lang: Option<&str>, out: &mut BytesMut) {
        if let Some(lang) = lang
            && !self.facts().has_lang
            && self.is_stanza()
        {
            declare(out, "xml:lang", lang);
        }
    }
}

fn declare(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(format!(" {name}='{}'", escape::attribute(value)).as_bytes());
}
