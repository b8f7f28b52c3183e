//! One complete first-level element: its bytes as they came, and what was learnt while reading it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;

use super::scope::Scope;
use super::{escape, token};

/// A namespace; the usual ones cost no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// That of the root's default.
    OuterDefault,
    /// Bound by the root to the prefix at this index.
    OuterPrefix(u16),
    /// jabber:client, declared on the element itself.
    Client,
    /// Another one declared on the element itself.
    Own(Arc<str>),
    /// None at all.
    None,
}

/// What the framer found out about an element. Ranges are offsets into its bytes.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) prefix: Range<usize>,
    pub(super) local: Range<usize>,
    /// Just behind the tag's name.
    pub(super) name_end: usize,
    /// End of the start tag.
    pub(super) tag_end: usize,
    pub(super) namespace: Namespace,
    /// Its own `xmlns="…"`, with the blanks before it.
    pub(super) own_default: Option<Range<usize>>,
    pub(super) has_lang: bool,
    /// Some name in it is in the root's default namespace.
    pub(super) uses_outer_default: bool,
    /// Prefixes of the root that it uses.
    pub(super) outer_prefixes: Vec<u16>,
}

/// One complete element. Cheap to clone.
#[derive(Clone)]
pub struct Element {
    bytes: Bytes,
    facts: Facts,
    scope: Arc<Scope>,
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its content may be a password or a private message (B-73).
        write!(f, "Element({}, {} bytes)", self.local(), self.bytes.len())
    }
}

impl Element {
    pub(super) fn new(bytes: Bytes, facts: Facts, scope: Arc<Scope>) -> Self {
        Self {
            bytes,
            facts,
            scope,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    fn str(&self, range: &Range<usize>) -> &str {
        // The framer has checked that the bytes are UTF-8; ranges end at ASCII characters.
        self.bytes
            .get(range.clone())
            .and_then(|b| std::str::from_utf8(b).ok())
            .unwrap_or_default()
    }

    /// The bytes as they came.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true: an element has at least its tag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Local name.
    #[must_use]
    pub fn local(&self) -> &str {
        self.str(&self.facts.local)
    }

    /// Prefix, if it has one.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        Some(self.str(&self.facts.prefix)).filter(|prefix| !prefix.is_empty())
    }

    /// Namespace; empty for none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match &self.facts.namespace {
            Namespace::OuterDefault => self.scope.default_namespace().unwrap_or_default(),
            Namespace::OuterPrefix(index) => self
                .scope
                .prefixes
                .get(usize::from(*index))
                .map_or("", |(_, uri)| uri.as_str()),
            Namespace::Client => "jabber:client",
            Namespace::Own(uri) => uri,
            Namespace::None => "",
        }
    }

    /// Whether it is `{namespace}local`.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.local() == local && self.namespace() == namespace
    }

    /// Whether it is a stanza: message, presence or iq in jabber:client, or where a manager left that out
    /// and it fell into the wrapper's namespace.
    #[must_use]
    pub fn is_stanza(&self) -> bool {
        matches!(self.local(), "message" | "presence" | "iq")
            && matches!(
                self.namespace(),
                "jabber:client" | "http://jabber.org/protocol/httpbind"
            )
    }

    /// A stanza of jabber:client written with a prefix (E-11).
    #[must_use]
    pub fn is_prefixed_stanza(&self) -> bool {
        self.prefix().is_some() && self.namespace() == "jabber:client"
    }

    /// An attribute of the top tag that has no prefix.
    #[must_use]
    pub fn attr(&self, name: &str) -> Option<Cow<'_, str>> {
        self.raw_attribute(name).map(escape::attribute_value)
    }

    /// `xml:lang` of the top tag.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        self.attr("xml:lang")
    }

    pub(super) fn own_default_value(&self) -> &str {
        self.raw_attribute("xmlns").unwrap_or_default()
    }

    fn raw_attribute(&self, name: &str) -> Option<&str> {
        let tag = self.bytes.get(..self.facts.tag_end)?;
        // It was accepted once, so it parses.
        let tag_parts = token::parse_start_tag(tag, usize::MAX).ok()?;
        tag_parts.attributes.iter().find_map(|attribute| {
            let start = if attribute.name.prefix.is_empty() {
                &attribute.name.local
            } else {
                &attribute.name.prefix
            };
            (self.str(&(start.start..attribute.name.local.end)) == name)
                .then(|| self.str(&attribute.value))
        })
    }

    /// Namespace and local name of each direct child; for the few elements that must be looked into.
    #[must_use]
    pub fn child_names(&self) -> Vec<(String, String)> {
        let mut names = Vec::new();
        self.walk(|depth, namespace, local| {
            if depth == 1 {
                names.push((namespace.to_owned(), local.to_owned()));
            }
        });
        names
    }

    /// The text directly inside, references resolved; `None` if there is none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut out = String::new();
        let mut depth = 0_u32;
        let mut reader = quick_xml::Reader::from_reader(&self.bytes[..]);
        loop {
            match reader.read_event().ok()? {
                Event::Start(_) => depth += 1,
                Event::End(_) => depth = depth.saturating_sub(1),
                Event::Text(text) if depth == 1 => out.push_str(&text),
                Event::CData(text) if depth == 1 => out.push_str(&text),
                Event::GeneralRef(name) if depth == 1 => {
                    out.push(escape::reference(&name)?);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        (!out.is_empty()).then_some(out)
    }

    fn walk(&self, mut visit: impl FnMut(u32, &str, &str)) {
        let mut reader = NsReader::from_reader(&self.bytes[..]);
        let mut depth = 0;
        loop {
            let Ok((namespace, event)) = reader.read_resolved_event() else {
                return;
            };
            let opens = matches!(event, Event::Start(_));
            match event {
                Event::Start(tag) | Event::Empty(tag) => {
                    let uri = match namespace {
                        ResolveResult::Bound(uri) => uri.0.to_owned(),
                        ResolveResult::Unbound => self
                            .scope
                            .default_namespace()
                            .unwrap_or_default()
                            .to_owned(),
                        ResolveResult::Unknown(prefix) => {
                            self.scope.prefix(&prefix).unwrap_or_default().to_owned()
                        }
                    };
                    let local = tag.local_name();
                    visit(depth, &uri, local.as_ref());
                    depth += u32::from(opens);
                }
                Event::End(_) => depth = depth.saturating_sub(1),
                Event::Eof => return,
                _ => {}
            }
        }
    }
}
