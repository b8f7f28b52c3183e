//! Reads one small, complete element of the server's: namespaces resolved, positions kept, limits enforced.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, NamespaceError, PrefixDeclaration, ResolveResult};
use quick_xml::reader::NsReader;
use quick_xml::{Error, XmlVersion};

use super::ns;

/// Largest element that is read; real features are about 2 KiB.
pub(super) const MAX_BYTES: usize = 256 * 1024;
const MAX_DEPTH: usize = 64;
const MAX_ATTRIBUTES: usize = 64;

/// Why an element cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not well-formed, a prefix not declared, or bytes that are not UTF-8.
    #[error("are not well-formed XML")]
    Malformed,
    /// Comment, processing instruction, declaration, DTD or entity.
    #[error("hold XML that XMPP forbids")]
    Restricted,
    /// Over the limit of size, depth, attributes or namespaces.
    #[error("are too large or too deep")]
    TooLarge,
}

/// A start tag.
#[derive(Debug)]
pub(super) struct Tag<'i> {
    pub(super) namespace: String,
    start: BytesStart<'i>,
    /// Where the tag stands.
    pub(super) span: Range<usize>,
}

impl Tag<'_> {
    pub(super) fn local(&self) -> &str {
        self.start.local_name().into_inner()
    }

    pub(super) fn is(&self, namespace: &str, local: &str) -> bool {
        self.namespace == namespace && self.local() == local
    }

    /// The name as written, with its prefix.
    pub(super) fn name(&self) -> &str {
        self.start.name().into_inner()
    }

    /// The value of an attribute without a prefix.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let attribute = self
            .start
            .attributes()
            .flatten()
            .find(|found| found.key.into_inner() == name)?;
        attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .ok()
            .map(Cow::into_owned)
    }

    /// The tag written anew without an attribute; `None` if it has none of that name.
    pub(super) fn without(&self, name: &str, empty: bool) -> Option<String> {
        self.attribute(name)?;
        let mut out = format!("<{}", self.name());
        for found in self.start.attributes().flatten() {
            let key = found.key.into_inner();
            if key != name {
                let quote = if found.value.contains('\'') {
                    '"'
                } else {
                    '\''
                };
                out.push_str(&format!(" {key}={quote}{}{quote}", found.value));
            }
        }
        out.push_str(if empty { "/>" } else { ">" });
        Some(out)
    }

    /// Whether the tag declares `prefix` to be something else than `namespace`.
    pub(super) fn rebinds(&self, prefix: &str, namespace: &str) -> bool {
        self.start.attributes().flatten().any(|found| {
            found.key.as_namespace_binding() == Some(PrefixDeclaration::Named(prefix))
                && found.value != namespace
        })
    }
}

/// One piece of the element.
#[derive(Debug)]
pub(super) enum Token<'i> {
    /// A start tag; an empty element gives a start and an end.
    Open(Tag<'i>),
    /// An end tag and where it stands: nowhere (an empty range) for an empty element.
    Close(Range<usize>),
    /// A piece of text, references resolved; texts may come in several pieces.
    Text(Cow<'i, str>),
}

/// Walks over the pieces of one element.
pub(super) struct Scanner<'i> {
    reader: NsReader<&'i [u8]>,
    depth: usize,
    started: bool,
}

impl<'i> Scanner<'i> {
    pub(super) fn new(input: &'i [u8]) -> Result<Self, ScanError> {
        if input.len() > MAX_BYTES {
            return Err(ScanError::TooLarge);
        }
        let text = str::from_utf8(input).map_err(|_| ScanError::Malformed)?;
        if !text.chars().all(super::is_xml) {
            return Err(ScanError::Malformed);
        }
        let mut reader = NsReader::from_str(text);
        let config = reader.config_mut();
        // Not set by default: every element then ends with an end event.
        config.expand_empty_elements = true;
        reader
            .resolver_mut()
            .add(PrefixDeclaration::Named("stream"), Namespace(ns::STREAM))
            .map_err(|_| ScanError::Malformed)?;
        Ok(Self {
            reader,
            depth: 0,
            started: false,
        })
    }

    /// The next piece; `None` behind the element's end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'i>>, ScanError> {
        let before = self.position();
        let event = self.reader.read_event().map_err(|error| {
            // Anything but the reader's own limit is the text's fault.
            if matches!(error, Error::Namespace(NamespaceError::TooManyBindings(_))) {
                ScanError::TooLarge
            } else {
                ScanError::Malformed
            }
        })?;
        let span = before..self.position();
        if !matches!(event, Event::Eof | Event::Start(_)) && self.depth == 0 {
            return Err(ScanError::Malformed);
        }
        match event {
            Event::Start(start) => self.open(start, span).map(Some),
            Event::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(Some(Token::Close(span)))
            }
            Event::Text(text) => Ok(Some(Token::Text(text.into_inner()))),
            Event::CData(text) => Ok(Some(Token::Text(text.into_inner()))),
            Event::GeneralRef(reference) => resolve(&reference).map(|text| Some(Token::Text(text))),
            Event::Eof if self.depth == 0 && self.started => Ok(None),
            Event::Eof | Event::Empty(_) => Err(ScanError::Malformed),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {
                Err(ScanError::Restricted)
            }
        }
    }

    fn open(&mut self, start: BytesStart<'i>, span: Range<usize>) -> Result<Token<'i>, ScanError> {
        if self.depth == 0 && self.started {
            return Err(ScanError::Malformed);
        }
        self.started = true;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ScanError::TooLarge);
        }
        let resolver = self.reader.resolver();
        for (index, attribute) in start.attributes().enumerate() {
            let attribute = attribute.map_err(|_| ScanError::Malformed)?;
            if index == MAX_ATTRIBUTES {
                return Err(ScanError::TooLarge);
            }
            attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|_| ScanError::Malformed)?;
            let declares = attribute.key.as_namespace_binding().is_some();
            // The resolver compares namespaces as written: a reference in one could hide it from us.
            if attribute.value.contains('<') || (declares && attribute.value.contains('&')) {
                return Err(ScanError::Malformed);
            }
            let (resolved, _) = resolver.resolve_attribute(attribute.key);
            if !declares && matches!(resolved, ResolveResult::Unknown(_)) {
                return Err(ScanError::Malformed);
            }
        }
        let namespace = match resolver.resolve_element(start.name()).0 {
            ResolveResult::Bound(Namespace(namespace)) => namespace.to_owned(),
            ResolveResult::Unbound => String::new(),
            ResolveResult::Unknown(_) => return Err(ScanError::Malformed),
        };
        Ok(Token::Open(Tag {
            namespace,
            start,
            span,
        }))
    }

    fn position(&self) -> usize {
        // Inputs are below MAX_BYTES.
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }
}

/// The text of a character reference or of one of the five entities (RFC 6120 section 11.1).
fn resolve<'i>(reference: &quick_xml::events::BytesRef<'i>) -> Result<Cow<'i, str>, ScanError> {
    match reference.resolve_char_ref() {
        Ok(Some(character)) if super::is_xml(character) => Ok(Cow::Owned(character.to_string())),
        Ok(Some(_)) | Err(_) => Err(ScanError::Malformed),
        Ok(None) => quick_xml::escape::resolve_predefined_entity(&reference.xml10_content())
            .map(Cow::Borrowed)
            .ok_or(ScanError::Restricted),
    }
}
