//! Elements open at the moment, the namespaces in force there, and the facts collected about a first-level element.

use std::borrow::Cow;
use std::sync::Arc;

use super::tag::{Name, RawAttribute, Span, TagScan};
use super::{Limits, Namespace, Scope, XmlError, escape, ns};

/// What the framer learned about one first-level element; spans are within its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) name: Name,
    pub(super) namespace: Option<Namespace>,
    /// Its own `xmlns="…"`, from the first blank before it to the closing quote.
    pub(super) xmlns: Option<Span>,
    pub(super) has_own_lang: bool,
    /// Some element in it, or it, is in the default namespace declared outside.
    pub(super) uses_outer_default: bool,
    /// Positions in the [`Scope`] of the prefixes used in it and declared outside.
    pub(super) outer_prefixes: Option<Arc<[usize]>>,
    /// Some element in it, or it, is in the streams namespace.
    pub(super) has_stream_elements: bool,
}

#[derive(Debug)]
struct Open {
    name: Span,
    /// Length of `declarations` before this element's own.
    outer_declarations: usize,
    /// The default namespace's declaration in force.
    default: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Declaration {
    /// Empty for the default namespace.
    prefix: Span,
    value: Span,
    plain: bool,
    streams: bool,
}

impl Declaration {
    fn namespace(self, bytes: &[u8]) -> Cow<'_, str> {
        value(bytes, self.value, self.plain)
    }
}

/// The elements open in the frame being read.
#[derive(Debug, Default)]
pub(super) struct Nest {
    open: Vec<Open>,
    declarations: Vec<Declaration>,
    facts: Facts,
    outer_prefixes: Vec<usize>,
}

impl Nest {
    /// Number of open elements.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// The name that the next end tag must have.
    pub(super) fn innermost(&self) -> Option<Span> {
        self.open.last().map(|open| open.name)
    }

    /// Opens the element of a tag read completely. `scope` is what the root declared. With `lenient` (a manager's root tag),
    /// an attribute may stand twice.
    pub(super) fn enter(
        &mut self,
        bytes: &[u8],
        tag: &TagScan,
        scope: &Scope,
        limits: &Limits,
        lenient: bool,
    ) -> Result<(), XmlError> {
        let outer_declarations = self.declarations.len();
        let mut default = self.open.last().and_then(|open| open.default);
        let first = self.open.is_empty();
        let mut prefixed = 0;
        if !lenient {
            refuse_doubles(bytes, &tag.attributes)?;
        }
        for attribute in &tag.attributes {
            let name = attribute.name.span.of(bytes);
            let prefix = attribute.name.prefix().of(bytes);
            if name == b"xmlns" {
                default = Some(self.declarations.len());
                self.declare(bytes, attribute, Span::default(), limits)?;
            } else if prefix == b"xmlns" {
                self.declare(bytes, attribute, attribute.name.local(), limits)?;
            } else if !prefix.is_empty() {
                prefixed += 1;
            }
        }
        if first {
            self.begin_facts(bytes, tag);
        }
        let streams = self.element_is_in_streams(bytes, tag.name, default, scope)?;
        self.facts.has_stream_elements |= streams;
        if prefixed > 0 {
            self.check_prefixed(bytes, &tag.attributes, scope, prefixed > 1 && !lenient)?;
        }
        if first {
            self.facts.namespace = Some(match default {
                _ if tag.name.colon.is_some() => {
                    Namespace::from(&*self.resolve(bytes, tag.name.prefix().of(bytes), scope)?)
                }
                Some(i) => Namespace::from(&*self.declarations[i].namespace(bytes)),
                None => scope.default_handle().clone(),
            });
        }
        self.open.push(Open {
            name: tag.name.span,
            outer_declarations,
            default,
        });
        Ok(())
    }

    /// Closes the innermost element.
    pub(super) fn leave(&mut self) {
        if let Some(open) = self.open.pop() {
            self.declarations.truncate(open.outer_declarations);
        }
    }

    /// Gives away what was learned about the first-level element just closed.
    pub(super) fn take_facts(&mut self) -> Facts {
        if !self.outer_prefixes.is_empty() {
            self.facts.outer_prefixes = Some(self.outer_prefixes.as_slice().into());
        }
        std::mem::take(&mut self.facts)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.declarations.clear();
        self.facts = Facts::default();
    }

    /// The declarations of the element just opened, as the scope of a whole document, and the prefixes of `outer`.
    pub(super) fn root_scope(&self, bytes: &[u8], outer: &Scope) -> Scope {
        let mut default = Namespace::NONE;
        let mut prefixes: Vec<(Box<str>, Namespace)> = Vec::new();
        for declaration in &self.declarations {
            let namespace = Namespace::from(&*declaration.namespace(bytes));
            match declaration.prefix.text(bytes) {
                "" => default = namespace,
                "xml" => {}
                prefix if prefixes.iter().all(|(known, _)| **known != *prefix) => {
                    prefixes.push((prefix.into(), namespace));
                }
                _ => {}
            }
        }
        for (prefix, name) in outer.prefixes() {
            if prefixes.iter().all(|(known, _)| **known != *prefix) {
                prefixes.push((prefix.into(), name.clone()));
            }
        }
        Scope::new(default, prefixes)
    }

    fn begin_facts(&mut self, bytes: &[u8], tag: &TagScan) {
        self.outer_prefixes.clear();
        let named = |name: &[u8]| {
            tag.attributes
                .iter()
                .find(|a| a.name.span.of(bytes) == name)
        };
        let xmlns = named(b"xmlns").map(|a| {
            let before = &bytes[..a.name.span.start];
            Span {
                start: before.trim_ascii_end().len(),
                end: a.value.end + 1,
            }
        });
        let has_own_lang = named(b"xml:lang").is_some();
        self.facts = Facts {
            name: tag.name,
            xmlns,
            has_own_lang,
            ..Facts::default()
        };
    }

    fn declare(
        &mut self,
        bytes: &[u8],
        attribute: &RawAttribute,
        prefix: Span,
        limits: &Limits,
    ) -> Result<(), XmlError> {
        const RESERVED: XmlError = XmlError::NotWellFormed("reserved namespace or prefix declared");
        if self.declarations.len() >= limits.max_attributes.saturating_add(limits.max_depth) {
            return Err(XmlError::TooManyAttributes);
        }
        let unescaped;
        let namespace = if attribute.plain {
            attribute.value.of(bytes)
        } else {
            unescaped = value(bytes, attribute.value, false);
            unescaped.as_bytes()
        };
        let is = |name: &str| namespace == name.as_bytes();
        match prefix.of(bytes) {
            b"xml" if is(ns::XML) => {}
            b"xml" | b"xmlns" => return Err(RESERVED),
            _ if is(ns::XML) || is(ns::XMLNS) => return Err(RESERVED),
            b"" => {}
            _ if namespace.is_empty() => {
                return Err(XmlError::NotWellFormed("prefix declared empty"));
            }
            _ => {}
        }
        let streams = is(ns::STREAMS);
        self.declarations.push(Declaration {
            prefix,
            value: attribute.value,
            plain: attribute.plain,
            streams,
        });
        Ok(())
    }

    /// Looks the element's namespace up, noting what it takes from outside, and says whether it is the streams namespace.
    fn element_is_in_streams(
        &mut self,
        bytes: &[u8],
        name: Name,
        default: Option<usize>,
        scope: &Scope,
    ) -> Result<bool, XmlError> {
        if name.colon.is_some() {
            return Ok(match self.find(bytes, name.prefix().of(bytes), scope)? {
                Found::Inner(i) => self.declarations[i].streams,
                Found::Outer(i) => {
                    self.note_outer(i);
                    scope
                        .prefix(i)
                        .is_some_and(|(_, name)| name.as_str() == ns::STREAMS)
                }
                Found::Xml => false,
            });
        }
        Ok(match default {
            Some(i) => self.declarations[i].streams,
            None => {
                self.facts.uses_outer_default = true;
                scope.default_namespace() == ns::STREAMS
            }
        })
    }

    /// Looks the namespaces of prefixed attributes up; with `compare`, no two may have the same expanded name.
    fn check_prefixed(
        &mut self,
        bytes: &[u8],
        attributes: &[RawAttribute],
        scope: &Scope,
        compare: bool,
    ) -> Result<(), XmlError> {
        let prefixed = || {
            attributes
                .iter()
                .map(|a| a.name)
                .filter(|name| name.colon.is_some())
        };
        let prefixed = || prefixed().filter(|name| name.prefix().of(bytes) != b"xmlns");
        for name in prefixed() {
            if let Found::Outer(i) = self.find(bytes, name.prefix().of(bytes), scope)? {
                self.note_outer(i);
            }
        }
        if compare {
            let mut names = Vec::new();
            for name in prefixed() {
                names.push((
                    name.local().of(bytes),
                    self.resolve(bytes, name.prefix().of(bytes), scope)?,
                ));
            }
            names.sort_unstable();
            if names.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(DOUBLE);
            }
        }
        Ok(())
    }

    fn resolve<'a>(
        &self,
        bytes: &'a [u8],
        prefix: &[u8],
        scope: &'a Scope,
    ) -> Result<Cow<'a, str>, XmlError> {
        Ok(match self.find(bytes, prefix, scope)? {
            Found::Inner(i) => self.declarations[i].namespace(bytes),
            Found::Outer(i) => scope.prefix(i).map_or("", |(_, name)| name.as_str()).into(),
            Found::Xml => ns::XML.into(),
        })
    }

    fn find(&self, bytes: &[u8], prefix: &[u8], scope: &Scope) -> Result<Found, XmlError> {
        if prefix == b"xml" {
            return Ok(Found::Xml);
        }
        if let Some(i) = self
            .declarations
            .iter()
            .rposition(|d| d.prefix.of(bytes) == prefix)
        {
            return Ok(Found::Inner(i));
        }
        scope
            .find(prefix)
            .map(Found::Outer)
            .ok_or(XmlError::NotWellFormed("prefix not declared"))
    }

    fn note_outer(&mut self, index: usize) {
        if !self.outer_prefixes.contains(&index) {
            self.outer_prefixes.push(index);
        }
    }
}

enum Found {
    /// In the frame being read.
    Inner(usize),
    /// On the root.
    Outer(usize),
    /// The prefix `xml`, which nobody need declare.
    Xml,
}

const DOUBLE: XmlError = XmlError::NotWellFormed("attribute given twice");

/// No two attributes may be spelt the same.
fn refuse_doubles(bytes: &[u8], attributes: &[RawAttribute]) -> Result<(), XmlError> {
    /// Up to here, comparing all pairs is cheaper than sorting.
    const FEW: usize = 10;
    let name = |a: &RawAttribute| a.name.span;
    let double = if attributes.len() <= FEW {
        attributes.iter().enumerate().any(|(i, a)| {
            attributes[..i]
                .iter()
                .any(|b| name(b).of(bytes) == name(a).of(bytes))
        })
    } else {
        let mut names: Vec<&[u8]> = attributes.iter().map(|a| name(a).of(bytes)).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    };
    if double { Err(DOUBLE) } else { Ok(()) }
}

fn value(bytes: &[u8], span: Span, plain: bool) -> Cow<'_, str> {
    let raw = span.text(bytes);
    if plain {
        Cow::Borrowed(raw)
    } else {
        escape::unescape_attribute(raw)
    }
}
