//! One complete first-level element: its bytes as they came, and what was learnt while reading it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quick_xml::events::Event;

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

    pub(super) fn raw_attribute(&self, name: &str) -> Option<&str> {
        raw_attribute(self.bytes.get(..self.facts.tag_end)?, name)
    }

    /// Namespace and local name of each direct child; for the few elements that must be looked into.
    #[must_use]
    pub fn child_names(&self) -> Vec<(String, String)> {
        let mut names = Vec::new();
        let Some(own) = self.bytes.get(..self.facts.tag_end) else {
            return names;
        };
        let mut depth = u32::from(!own.ends_with(b"/>"));
        let mut rest = &self.bytes[own.len()..];
        while depth > 0
            && let Some(at) = memchr::memchr(b'<', rest)
        {
            rest = &rest[at..];
            let end = match rest.get(1) {
                Some(b'!') => memchr::memmem::find(rest, b"]]>").map(|at| at + 3),
                _ => token::tag_length(rest),
            };
            let Some((tag, after)) = end.and_then(|end| rest.split_at_checked(end)) else {
                break;
            };
            rest = after;
            match tag.get(1) {
                Some(b'!') => {}
                Some(b'/') => depth -= 1,
                _ => {
                    if depth == 1 {
                        names.extend(self.name_of_child(own, tag));
                    }
                    depth += u32::from(!tag.ends_with(b"/>"));
                }
            }
        }
        names
    }

    /// Namespace and local name of a child with this start tag; `own` is that of the element.
    fn name_of_child(&self, own: &[u8], tag: &[u8]) -> Option<(String, String)> {
        let text = std::str::from_utf8(tag).ok()?;
        let name = token::parse_start_tag(tag, usize::MAX).ok()?.name;
        let prefix = &text[name.prefix];
        let declares = if prefix.is_empty() {
            "xmlns".to_owned()
        } else {
            format!("xmlns:{prefix}")
        };
        let declared = raw_attribute(tag, &declares).or_else(|| raw_attribute(own, &declares));
        let namespace = match (declared, prefix) {
            (Some(uri), _) => escape::attribute_value(uri).into_owned(),
            (None, "") => self.scope.default_namespace().unwrap_or_default().into(),
            (None, _) => self.scope.prefix(prefix).unwrap_or_default().into(),
        };
        Some((namespace, text[name.local].to_owned()))
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
                Event::Text(text) if depth == 1 => out.push_str(&unix_lines(&text)),
                Event::CData(text) if depth == 1 => out.push_str(&unix_lines(&text)),
                Event::GeneralRef(name) if depth == 1 => {
                    out.push(escape::reference(&name)?);
                }
                Event::Eof => break,
                Event::Empty(_)
                | Event::Text(_)
                | Event::CData(_)
                | Event::GeneralRef(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

/// The attribute of a start tag, by its name as written. The tag was accepted once, so it parses.
fn raw_attribute<'a>(tag: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(tag).ok()?;
    let parts = token::parse_start_tag(tag, usize::MAX).ok()?;
    let found = parts
        .attributes
        .into_iter()
        .find(|attribute| &text[attribute.name.qualified()] == name)?;
    Some(&text[found.value])
}

/// Line ends as XML 1.0 section 2.11 wants them read.
fn unix_lines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    }
}
