//! One complete first-level element, as the bytes it came in.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::nest::Facts;
use super::tag::Span;
use super::walk::{Token, Walk, split_name};
use super::{Frame, Framer, Limits, Namespace, RootText, Scope, XmlError, escape, ns};

/// A complete first-level element: its bytes untouched, and what was learned while checking them.
///
/// Cheap to clone: bytes and scope are shared.
#[derive(Clone)]
pub struct Element {
    bytes: Bytes,
    facts: Facts,
    scope: Arc<Scope>,
}

impl Element {
    pub(super) fn new(bytes: Bytes, facts: Facts, scope: Arc<Scope>) -> Self {
        Self {
            bytes,
            facts,
            scope,
        }
    }

    /// Reads an element that we made ourselves, as it would stand in a client's stream (default namespace `jabber:client`,
    /// prefix `stream` declared).
    ///
    /// # Errors
    /// Not exactly one well-formed element, or one beyond 1 MiB.
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        const LIMITS: Limits = Limits {
            max_element_bytes: 1 << 20,
            max_header_bytes: 1 << 10,
            max_depth: 128,
            max_attributes: 256,
        };
        let mut framer = Framer::new(LIMITS, RootText::Refuse);
        framer.push(b"<r xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
        framer.next_frame()?;
        framer.push(text.as_bytes());
        match framer.next_frame()? {
            Some(Frame::Element(element)) if framer.is_idle() => Ok(element),
            _ => Err(XmlError::NotWellFormed("not exactly one element")),
        }
    }

    /// The element exactly as it arrived; namespaces declared outside are not in it.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its length in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an element is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The name without prefix.
    #[must_use]
    pub fn local(&self) -> &str {
        self.facts.name.local().text(&self.bytes)
    }

    /// The prefix as written.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.facts
            .name
            .colon
            .map(|_| self.facts.name.prefix().text(&self.bytes))
    }

    /// The namespace the name is in; empty for none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.facts.namespace.as_ref().map_or("", Namespace::as_str)
    }

    /// Whether the element has this name.
    #[must_use]
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        self.local() == local && self.namespace() == namespace
    }

    /// Whether it is a message, presence or iq of `jabber:client`; also one that a connection manager left in the namespace of
    /// its `<body/>`, or in none, by not declaring any.
    #[must_use]
    pub fn is_stanza(&self) -> bool {
        let inherited = self.prefix().is_none() && self.facts.xmlns.is_none();
        let namespace = self.namespace();
        matches!(self.local(), "message" | "presence" | "iq")
            && (namespace == ns::CLIENT
                || inherited && (namespace == ns::HTTPBIND || namespace.is_empty()))
    }

    /// A stanza whose name has a prefix: E-11 towards a client, since many managers look at the bare text (S-31).
    #[must_use]
    pub fn is_prefixed_stanza(&self) -> bool {
        self.prefix().is_some() && self.is_stanza()
    }

    /// The value of an attribute without prefix on the element itself.
    #[must_use]
    pub fn attr(&self, local: &str) -> Option<Cow<'_, str>> {
        if local == "xmlns" {
            None
        } else {
            self.raw_attr(local)
        }
    }

    /// Its own `xml:lang`.
    #[must_use]
    pub fn lang(&self) -> Option<Cow<'_, str>> {
        if self.has_own_lang() {
            self.raw_attr("xml:lang")
        } else {
            None
        }
    }

    /// The direct children, as pairs of namespace and local name. Reads the whole element.
    #[must_use]
    pub fn child_names(&self) -> Vec<(String, String)> {
        let mut names = Vec::new();
        let mut resolver = Resolver::new(&self.scope);
        for token in Walk::new(&self.bytes) {
            if let Some((namespace, name)) = resolver.step(&token)
                && resolver.depth() == 2
            {
                names.push((namespace.into_owned(), split_name(name).1.to_owned()));
            }
            resolver.settle(&token);
        }
        names
    }

    /// The text directly inside, CDATA included; `None` if there are child elements. For small elements: it is copied.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        for token in Walk::new(&self.bytes).skip(1) {
            match token {
                Token::Text { raw, .. } => text.push_str(&escape::unescape_text(raw)),
                Token::Cdata { raw, .. } => {
                    text.push_str(&raw.replace("\r\n", "\n").replace('\r', "\n"))
                }
                Token::Start { .. } => return None,
                Token::End { .. } => {}
            }
        }
        Some(text)
    }

    pub(super) fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    pub(super) fn uses_outer_default(&self) -> bool {
        self.facts.uses_outer_default
    }

    pub(super) fn has_stream_elements(&self) -> bool {
        self.facts.has_stream_elements
    }

    pub(super) fn has_own_lang(&self) -> bool {
        self.facts.has_own_lang
    }

    /// The prefixes it takes from outside, with what they stand for.
    pub(super) fn outer_prefixes(&self) -> impl Iterator<Item = (&str, &Namespace)> {
        let used = self.facts.outer_prefixes.as_deref().unwrap_or_default();
        used.iter().filter_map(|i| self.scope.prefix(*i))
    }

    /// The bytes up to the end of the top tag's name, and the rest.
    pub(super) fn split_at_name(&self) -> (&[u8], &[u8]) {
        self.bytes
            .split_at(self.facts.name.span.end.min(self.bytes.len()))
    }

    /// Where in `rest`, the second part of [`Self::split_at_name`], the top tag declares `jabber:client` again.
    pub(super) fn redundant_declaration(&self, rest: &[u8]) -> Option<(usize, usize)> {
        let Span { start, end } = self.facts.xmlns?;
        let offset = self.bytes.len() - rest.len();
        let (quote, declared) = self.bytes.get(start..end)?.split_last()?;
        let value = memchr::memchr(*quote, declared)? + 1;
        let raw = std::str::from_utf8(&declared[value..]).ok()?;
        (escape::unescape_attribute(raw) == ns::CLIENT).then(|| (start - offset, end - offset))
    }

    /// As [`Self::attr`], for several at once.
    #[must_use]
    pub fn attrs<const N: usize>(&self, locals: [&str; N]) -> [Option<Cow<'_, str>>; N] {
        let mut values = [const { None }; N];
        let Some(Token::Start { tag, .. }) = Walk::new(&self.bytes).next() else {
            return values;
        };
        for attribute in tag.attributes().filter(|a| a.name != "xmlns") {
            let found = locals.iter().position(|local| attribute.name == *local);
            if let Some(value) = found.and_then(|at| values.get_mut(at)) {
                *value = Some(escape::unescape_attribute(attribute.raw));
            }
        }
        values
    }

    fn raw_attr(&self, name: &str) -> Option<Cow<'_, str>> {
        let Token::Start { tag, .. } = Walk::new(&self.bytes).next()? else {
            return None;
        };
        tag.attributes()
            .find(|a| a.name == name)
            .map(|a| escape::unescape_attribute(a.raw))
    }
}

impl PartialEq for Element {
    /// Same bytes in the same scope.
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.scope == other.scope
    }
}

impl Eq for Element {}

/// Name and length only: the content may be a password.
impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Element({}, {} bytes)", self.local(), self.len())
    }
}

/// Namespaces in force while walking through an element.
pub(super) struct Resolver<'a> {
    scope: &'a Scope,
    /// Depth, prefix, namespace.
    declarations: Vec<(usize, &'a str, Cow<'a, str>)>,
    depth: usize,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(scope: &'a Scope) -> Self {
        Self {
            scope,
            declarations: Vec::new(),
            depth: 0,
        }
    }

    /// Number of open elements, the one just started included.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Takes the next token in; for a start tag, the element's namespace and name. [`Self::settle`] must follow.
    pub(super) fn step(&mut self, token: &Token<'a>) -> Option<(Cow<'a, str>, &'a str)> {
        let Token::Start { name, tag } = *token else {
            return None;
        };
        self.depth += 1;
        for attribute in tag.attributes() {
            let prefix = match split_name(attribute.name) {
                ("", "xmlns") => "",
                ("xmlns", prefix) => prefix,
                _ => continue,
            };
            self.declarations.push((
                self.depth,
                prefix,
                escape::unescape_attribute(attribute.raw),
            ));
        }
        Some((self.resolve(split_name(name).0), name))
    }

    /// Forgets what the token, already given to [`Self::step`], ends.
    pub(super) fn settle(&mut self, token: &Token<'a>) {
        let ends = match token {
            Token::Start { tag, .. } => tag.empty,
            Token::End { .. } => true,
            Token::Text { .. } | Token::Cdata { .. } => false,
        };
        if ends {
            self.declarations.retain(|(depth, ..)| *depth < self.depth);
            self.depth = self.depth.saturating_sub(1);
        }
    }

    /// What the prefix stands for here; the empty one for the default namespace.
    pub(super) fn resolve(&self, prefix: &str) -> Cow<'a, str> {
        match self.declared(prefix) {
            Some(namespace) => namespace,
            None => Cow::Borrowed(self.scope.resolve(prefix).unwrap_or_default()),
        }
    }

    /// The same, if it is declared inside the element.
    pub(super) fn declared(&self, prefix: &str) -> Option<Cow<'a, str>> {
        self.declarations
            .iter()
            .rfind(|(_, known, _)| *known == prefix)
            .map(|(.., namespace)| namespace.clone())
    }
}
