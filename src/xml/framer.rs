//! [`Framer`]: bytes split anywhere to root tag, first-level elements and end.
//!
//! The scanner looks at each byte once: it remembers where in the current token it stopped. A tag is judged
//! as one slice when its `>` is there, text as it arrives. A finished element is split off the buffer, not
//! copied.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use super::element::{Element, Facts, Namespace};
use super::scope::Scope;
use super::token::{self, Name, RawAttribute, StartTag};
use super::{Limits, XmlError, escape};

const NS_XML: &str = "http://www.w3.org/XML/1998/namespace";
const NS_XMLNS: &str = "http://www.w3.org/2000/xmlns/";
/// Root text that is kept for [`RootText::Collect`].
const MAX_ROOT_TEXT: usize = 1024;

/// What becomes of text between first-level elements. White space is always swallowed (S-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootText {
    /// It is an error (E-10).
    Refuse,
    /// Some of it is kept: a manager's terminate may hold an explanation.
    Collect,
}

/// What the bytes turn into.
#[derive(Clone, Debug)]
pub enum Frame {
    /// The root tag.
    Header(Header),
    /// A complete first-level element.
    Element(Element),
    /// Behind an element, a new XML declaration or another `stream` tag begins. It is not consumed: the
    /// caller restarts, waits, or refuses.
    NewDocument,
    /// The root's end tag.
    End,
}

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
        self.attr_ns(NS_XML, "lang")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the root tag.
    Start,
    /// Between first-level elements.
    Root,
    /// Inside a first-level element.
    Inside,
    /// The root was closed by its own tag; its end is still to be told.
    EmptyRoot,
    /// Behind the root.
    After,
}

/// An element that is open inside the current first-level one.
#[derive(Debug)]
struct Open {
    /// Qualified name, as offsets into the element.
    name: Range<usize>,
    /// Declarations in force before it.
    declarations: usize,
}

/// A namespace declaration inside the current first-level element, as offsets into it.
#[derive(Debug)]
struct Declaration {
    prefix: Range<usize>,
    uri: Range<usize>,
}

/// Where the scan of the current token stands.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    /// Bytes of the token that were looked at.
    at: usize,
    /// Inside an attribute value: its quote.
    quote: Option<u8>,
}

/// The incremental parser. See the [module](self).
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    root_text: RootText,
    text: String,
    /// Starts at the current element, or at the current token between elements.
    buf: BytesMut,
    /// Bytes of the current element that are settled.
    settled: usize,
    scan: Scan,
    place: Place,
    restarted: bool,
    /// Bytes of the XML declaration, if there was one.
    declared: usize,
    root: Vec<u8>,
    scope: Arc<Scope>,
    open: Vec<Open>,
    declarations: Vec<Declaration>,
    facts: Option<Facts>,
    error: Option<XmlError>,
    /// Bytes looked at: the cost must stay linear.
    #[cfg(test)]
    pub(super) scanned: usize,
}

impl Framer {
    /// A parser at the start of a document.
    #[must_use]
    pub fn new(limits: Limits, root_text: RootText) -> Self {
        Self {
            limits,
            root_text,
            text: String::new(),
            buf: BytesMut::new(),
            settled: 0,
            scan: Scan::default(),
            place: Place::Start,
            restarted: false,
            declared: 0,
            root: Vec::new(),
            scope: Arc::default(),
            open: Vec::new(),
            declarations: Vec::new(),
            facts: None,
            error: None,
            #[cfg(test)]
            scanned: 0,
        }
    }

    #[cfg(test)]
    fn count(&mut self, bytes: usize) {
        self.scanned += bytes;
    }

    #[cfg(not(test))]
    fn count(&mut self, _: usize) {}

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// The buffer, to read into without a copy. Only to be appended to.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buf
    }

    /// Bytes held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buf.len()
    }

    /// Text found between elements, with [`RootText::Collect`].
    #[must_use]
    pub fn root_text(&self) -> &str {
        &self.text
    }

    /// The first byte held that is not white space.
    #[must_use]
    pub fn first_byte(&self) -> Option<u8> {
        self.buf.iter().copied().find(|b| !token::is_blank(*b))
    }

    /// Whether nothing but white space is held.
    #[must_use]
    pub fn trailing_is_blank(&self) -> bool {
        self.first_byte().is_none()
    }

    /// The bytes behind the last frame start a new document (S-16).
    pub fn restart(&mut self) {
        self.place = Place::Start;
        self.restarted = true;
        self.declared = 0;
        self.scan = Scan::default();
        self.settled = 0;
        self.text.clear();
        self.scope = Arc::default();
    }

    /// The next frame; `None` needs more bytes.
    ///
    /// # Errors
    /// [`XmlError`] as soon as its bytes are here; the same again from then on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, XmlError> {
        if let Some(error) = &self.error {
            self.buf = BytesMut::new();
            return Err(error.clone());
        }
        let result = self.step();
        if let Err(error) = &result {
            self.error = Some(error.clone());
            self.buf = BytesMut::new();
        }
        result
    }

    fn step(&mut self) -> Result<Option<Frame>, XmlError> {
        match self.place {
            Place::Start => self.start(),
            Place::Root => self.root(),
            Place::Inside => self.inside(),
            Place::EmptyRoot => {
                self.place = Place::After;
                Ok(Some(Frame::End))
            }
            Place::After => Ok(None),
        }
    }

    fn start(&mut self) -> Result<Option<Frame>, XmlError> {
        loop {
            if self.scan.at == 0 {
                // T-25: blanks before a declaration are tolerated.
                self.skip_blanks();
            }
            if self.buf.is_empty() {
                return Ok(None);
            }
            if self.buf[0] != b'<' {
                // UTF-16 without a mark.
                if self.buf[0] == 0 {
                    return Err(XmlError::UnsupportedEncoding);
                }
                if !token::first_char(&self.buf)? {
                    return Ok(None);
                }
                return Err(XmlError::NotWellFormed("text before the root element"));
            }
            let room = self.limits.max_header_bytes.saturating_sub(self.declared);
            match self.buf.get(1) {
                None => return Ok(None),
                Some(0) => return Err(XmlError::UnsupportedEncoding),
                Some(b'?') if self.declared > 0 => {
                    return Err(XmlError::Restricted("a processing instruction"));
                }
                Some(b'?') => {
                    let Some(end) = self.declaration_end()? else {
                        return self.more(room);
                    };
                    if end > room {
                        return Err(XmlError::TooLarge);
                    }
                    token::check_declaration(&self.buf[..end])?;
                    self.advance(end);
                    self.declared = end;
                }
                Some(b'!') => return Err(XmlError::Restricted("a comment or document type")),
                Some(b'/') if self.restarted && self.declared == 0 => return self.root_end(room),
                Some(b'/') => return Err(XmlError::NotWellFormed("an end tag without its start")),
                Some(_) => {
                    let Some(end) = self.tag_end()? else {
                        return self.more(room);
                    };
                    if end > room {
                        return Err(XmlError::TooLarge);
                    }
                    return self.root_tag(end).map(Some);
                }
            }
        }
    }

    /// End of `<?xml … ?>` at the start of the buffer; other instructions are refused as soon as they show.
    fn declaration_end(&mut self) -> Result<Option<usize>, XmlError> {
        let head = &self.buf[..self.buf.len().min(5)];
        if !b"<?xml".starts_with(head) || self.buf.get(5).is_some_and(|b| !token::is_blank(*b)) {
            return Err(XmlError::Restricted("a processing instruction"));
        }
        let from = self.scan.at.saturating_sub(1);
        let found = memchr::memmem::find(&self.buf[from..], b"?>").map(|at| from + at + 2);
        self.scan.at = self.buf.len();
        Ok(found)
    }

    fn root_tag(&mut self, end: usize) -> Result<Frame, XmlError> {
        self.count(end);
        let tag = token::parse_start_tag(&self.buf[..end], self.limits.max_attributes)?;
        let mut scope = Scope::default();
        for attribute in &tag.attributes {
            let uri = || escape::attribute_value(self.str(&attribute.value)).into_owned();
            if let Some(prefix) = self.declared_prefix(attribute)? {
                if prefix.is_empty() {
                    scope.default = Some(uri()).filter(|uri| !uri.is_empty());
                } else {
                    scope.prefixes.push((self.str(&prefix).to_owned(), uri()));
                }
            }
        }
        let resolve = |name: &Name, attribute: bool| -> Result<String, XmlError> {
            match self.str(&name.prefix) {
                "" if attribute => Ok(String::new()),
                "" => Ok(scope.default.clone().unwrap_or_default()),
                "xml" => Ok(NS_XML.to_owned()),
                prefix => scope
                    .prefix(prefix)
                    .map(str::to_owned)
                    .ok_or(XmlError::NotWellFormed("an undeclared prefix")),
            }
        };
        let mut attributes: Vec<Attribute> = Vec::new();
        for raw in &tag.attributes {
            if self.declared_prefix(raw)?.is_some() {
                continue;
            }
            attributes.push(Attribute {
                local: self.str(&raw.name.local).to_owned(),
                namespace: resolve(&raw.name, true)?,
                value: escape::attribute_value(self.str(&raw.value)).into_owned(),
            });
        }
        self.check_unique(&tag, |name| resolve(name, true))?;
        let header = Header {
            prefix: Some(self.str(&tag.name.prefix).to_owned()).filter(|p| !p.is_empty()),
            local: self.str(&tag.name.local).to_owned(),
            namespace: resolve(&tag.name, false)?,
            attributes,
            scope: Arc::new(scope),
        };
        self.root = self.buf[tag.name.qualified()].to_vec();
        self.scope = Arc::clone(&header.scope);
        self.place = if tag.self_closing {
            Place::EmptyRoot
        } else {
            Place::Root
        };
        self.advance(end);
        Ok(Frame::Header(header))
    }

    fn root(&mut self) -> Result<Option<Frame>, XmlError> {
        loop {
            if self.scan.at == 0 && self.text.is_empty() {
                self.skip_blanks();
            }
            if self.buf.is_empty() {
                return Ok(None);
            }
            if self.buf[0] != b'<' {
                self.take_root_text()?;
                if self.buf.first() != Some(&b'<') {
                    return Ok(None);
                }
                continue;
            }
            match self.buf.get(1) {
                None => return Ok(None),
                Some(b'!') => {
                    return match self.buf.get(2) {
                        None => Ok(None),
                        Some(b'[') => Err(XmlError::TextBetweenElements),
                        Some(_) => Err(XmlError::Restricted("a comment or document type")),
                    };
                }
                Some(b'?') => {
                    let head = &self.buf[..self.buf.len().min(6)];
                    return if head.len() == 6
                        && head.starts_with(b"<?xml")
                        && token::is_blank(head[5])
                    {
                        Ok(Some(Frame::NewDocument))
                    } else if head.len() < 6 && b"<?xml".starts_with(&head[..head.len().min(5)]) {
                        Ok(None)
                    } else {
                        Err(XmlError::Restricted("a processing instruction"))
                    };
                }
                Some(b'/') => return self.root_end(self.limits.max_element_bytes),
                Some(_) => {
                    let Some(end) = self.tag_end()? else {
                        return self.more(self.limits.max_element_bytes);
                    };
                    self.count(end);
                    let tag = token::parse_start_tag(&self.buf[..end], self.limits.max_attributes)?;
                    if self.str(&tag.name.local) == "stream" {
                        self.scan = Scan::default();
                        return Ok(Some(Frame::NewDocument));
                    }
                    self.place = Place::Inside;
                    self.open_element(tag, end)?;
                    return self.inside();
                }
            }
        }
    }

    /// The end tag of the root.
    fn root_end(&mut self, limit: usize) -> Result<Option<Frame>, XmlError> {
        let Some(end) = self.tag_end()? else {
            return self.more(limit);
        };
        let name = token::parse_end_tag(&self.buf[..end])?;
        if self.buf[name] != self.root[..] {
            return Err(XmlError::NotWellFormed("an end tag that does not match"));
        }
        self.advance(end);
        self.place = Place::After;
        Ok(Some(Frame::End))
    }

    /// Text between elements: refused, or swallowed up to the next tag.
    fn take_root_text(&mut self) -> Result<(), XmlError> {
        if self.root_text == RootText::Refuse {
            return match token::first_char(&self.buf)? {
                true => Err(XmlError::TextBetweenElements),
                false => Ok(()),
            };
        }
        let end = memchr::memchr(b'<', &self.buf);
        let settled = token::check_text(&self.buf[..end.unwrap_or(self.buf.len())], end.is_some())?;
        let text = escape::unescape(self.str(&(0..settled))).into_owned();
        for character in text.chars() {
            if self.text.len() + character.len_utf8() <= MAX_ROOT_TEXT {
                self.text.push(character);
            }
        }
        self.buf.advance(settled);
        Ok(())
    }

    fn inside(&mut self) -> Result<Option<Frame>, XmlError> {
        loop {
            if self.open.is_empty() {
                return Ok(Some(self.finish()?));
            }
            let rest = &self.buf[self.settled..];
            if rest.is_empty() {
                return self.more(self.limits.max_element_bytes);
            }
            if rest[0] != b'<' {
                let end = memchr::memchr(b'<', &rest[self.scan.at..]).map(|at| self.scan.at + at);
                let text = end.unwrap_or(rest.len());
                let settled = token::check_text(&rest[..text], end.is_some())?;
                self.count(2 * text);
                self.settled += settled;
                if end.is_none() {
                    return self.more(self.limits.max_element_bytes);
                }
                continue;
            }
            match rest.get(1) {
                None => return self.more(self.limits.max_element_bytes),
                Some(b'?') => return Err(XmlError::Restricted("a processing instruction")),
                Some(b'!') => {
                    if !self.cdata()? {
                        return self.more(self.limits.max_element_bytes);
                    }
                }
                Some(b'/') => {
                    let Some(end) = self.tag_end()? else {
                        return self.more(self.limits.max_element_bytes);
                    };
                    self.close_element(end)?;
                }
                Some(_) => {
                    let Some(end) = self.tag_end()? else {
                        return self.more(self.limits.max_element_bytes);
                    };
                    self.count(end);
                    let tag = token::parse_start_tag(
                        &self.buf[self.settled..self.settled + end],
                        self.limits.max_attributes,
                    )?;
                    self.open_element(tag, end)?;
                }
            }
        }
    }

    /// `<![CDATA[…]]>`; true when it is whole.
    fn cdata(&mut self) -> Result<bool, XmlError> {
        const OPEN: &[u8] = b"<![CDATA[";
        let rest = &self.buf[self.settled..];
        let head = &rest[..rest.len().min(OPEN.len())];
        if !OPEN.starts_with(head) {
            return Err(XmlError::Restricted("a comment or document type"));
        }
        let from = self.scan.at.max(OPEN.len()).min(rest.len());
        let found = memchr::memmem::find(&rest[from..], b"]]>").map(|at| from + at);
        match found {
            Some(end) => {
                token::check_chars(&rest[OPEN.len()..end])?;
                self.count(2 * end - from);
                self.settled += end + 3;
                self.scan = Scan::default();
                Ok(true)
            }
            None => {
                let length = rest.len();
                self.count(length - from);
                self.scan.at = length.saturating_sub(2);
                Ok(false)
            }
        }
    }

    /// Length of the tag that starts at the settled position, quotes respected; `None` if it is not whole.
    fn tag_end(&mut self) -> Result<Option<usize>, XmlError> {
        let mut scan = self.scan;
        scan.at = scan.at.max(1);
        let from = scan.at;
        let rest = &self.buf[self.settled..];
        loop {
            let tail = &rest[scan.at.min(rest.len())..];
            let found = match scan.quote {
                Some(quote) => memchr::memchr2(quote, b'<', tail),
                None => tail
                    .iter()
                    .position(|b| matches!(b, b'>' | b'<' | b'"' | b'\'')),
            };
            let Some(offset) = found else {
                scan.at = rest.len();
                self.scan = scan;
                self.count(scan.at.saturating_sub(from));
                return Ok(None);
            };
            let byte = tail[offset];
            scan.at += offset + 1;
            match byte {
                b'<' => return Err(XmlError::NotWellFormed("< inside a tag")),
                b'>' if scan.quote.is_none() => {
                    self.scan = Scan::default();
                    self.count(scan.at - from);
                    return Ok(Some(scan.at));
                }
                quote => {
                    scan.quote = if scan.quote.is_some() {
                        None
                    } else {
                        Some(quote)
                    }
                }
            }
        }
    }

    /// More bytes are needed; what is here already may be too much.
    fn more(&self, limit: usize) -> Result<Option<Frame>, XmlError> {
        if self.buf.len() > limit {
            Err(XmlError::TooLarge)
        } else {
            Ok(None)
        }
    }

    /// Takes in a start tag of `length` bytes at the settled position.
    fn open_element(&mut self, mut tag: StartTag, length: usize) -> Result<(), XmlError> {
        let base = self.settled;
        shift(&mut tag, base);
        if self.open.len() >= self.limits.max_depth {
            return Err(XmlError::TooDeep);
        }
        let before = self.declarations.len();
        let top = self.open.is_empty();
        let mut own_default = None;
        let mut has_lang = false;
        for attribute in &tag.attributes {
            if let Some(prefix) = self.declared_prefix(attribute)? {
                if prefix.is_empty() {
                    own_default = Some(attribute.whole.clone());
                }
                self.declarations.push(Declaration {
                    prefix,
                    uri: attribute.value.clone(),
                });
            } else if &self.buf[attribute.name.qualified()] == b"xml:lang" {
                has_lang = true;
            }
        }
        // Each name is looked up among them: what is in force is bounded like a single tag.
        if self.declarations.len() > self.limits.max_attributes {
            return Err(XmlError::TooManyAttributes);
        }
        if top {
            let name_end = tag.name.local.end;
            self.facts = Some(Facts {
                prefix: tag.name.prefix.clone(),
                local: tag.name.local.clone(),
                name_end,
                tag_end: base + length,
                namespace: Namespace::None,
                own_default,
                has_lang,
                uses_outer_default: false,
                outer_prefixes: Vec::new(),
            });
        }
        let namespace = self.resolve_element(&tag.name)?;
        if top && let Some(facts) = &mut self.facts {
            facts.namespace = namespace;
        }
        for attribute in &tag.attributes {
            if !attribute.name.prefix.is_empty() && self.declared_prefix(attribute)?.is_none() {
                self.resolve_prefix(&attribute.name.prefix)?;
            }
        }
        self.check_unique(&tag, |name| self.attribute_namespace(name))?;
        self.settled += length;
        if tag.self_closing {
            self.declarations.truncate(before);
            if self.open.is_empty() {
                self.place = Place::Inside;
            }
        } else {
            self.open.push(Open {
                name: tag.name.qualified(),
                declarations: before,
            });
        }
        Ok(())
    }

    fn close_element(&mut self, length: usize) -> Result<(), XmlError> {
        self.count(length);
        let tag = &self.buf[self.settled..self.settled + length];
        let name = token::parse_end_tag(tag)?;
        let Some(open) = self.open.pop() else {
            return Err(XmlError::NotWellFormed("an end tag without its start"));
        };
        if tag[name] != self.buf[open.name.clone()] {
            return Err(XmlError::NotWellFormed("an end tag that does not match"));
        }
        self.declarations.truncate(open.declarations);
        self.settled += length;
        Ok(())
    }

    /// The first-level element is whole: splits it off.
    fn finish(&mut self) -> Result<Frame, XmlError> {
        if self.settled > self.limits.max_element_bytes {
            return Err(XmlError::TooLarge);
        }
        let bytes = self.buf.split_to(self.settled).freeze();
        self.settled = 0;
        self.scan = Scan::default();
        self.place = Place::Root;
        self.declarations.clear();
        let facts = self
            .facts
            .take()
            .ok_or(XmlError::NotWellFormed("no element"))?;
        Ok(Frame::Element(Element::new(
            bytes,
            facts,
            Arc::clone(&self.scope),
        )))
    }

    /// The prefix that this attribute declares, empty for the default; `None` for an ordinary attribute.
    fn declared_prefix(&self, attribute: &RawAttribute) -> Result<Option<Range<usize>>, XmlError> {
        let prefix = self.str(&attribute.name.prefix);
        let local = self.str(&attribute.name.local);
        let declares_default = prefix.is_empty() && local == "xmlns";
        if !declares_default && prefix != "xmlns" {
            return Ok(None);
        }
        let uri = escape::attribute_value(self.str(&attribute.value));
        let allowed = if declares_default {
            uri != NS_XML && uri != NS_XMLNS
        } else {
            local != "xmlns"
                && !uri.is_empty()
                && uri != NS_XMLNS
                && (local == "xml") == (uri == NS_XML)
        };
        if !allowed {
            return Err(XmlError::NotWellFormed(
                "a namespace declaration that is not allowed",
            ));
        }
        let range = if declares_default {
            attribute.name.prefix.clone()
        } else {
            attribute.name.local.clone()
        };
        Ok(Some(range))
    }

    fn declaration(&self, prefix: &[u8]) -> Option<&Declaration> {
        self.declarations
            .iter()
            .rev()
            .find(|d| &self.buf[d.prefix.clone()] == prefix)
    }

    fn resolve_element(&mut self, name: &Name) -> Result<Namespace, XmlError> {
        if !name.prefix.is_empty() {
            return self.resolve_prefix(&name.prefix.clone());
        }
        match self.declaration(b"") {
            Some(declaration) => Ok(own(self.str(&declaration.uri))),
            None => {
                if let Some(facts) = &mut self.facts {
                    facts.uses_outer_default = true;
                }
                Ok(Namespace::OuterDefault)
            }
        }
    }

    /// The namespace of a prefix (S-27); notes the use of one that the root declares.
    fn resolve_prefix(&mut self, prefix: &Range<usize>) -> Result<Namespace, XmlError> {
        let name = &self.buf[prefix.clone()];
        if name == b"xml" {
            return Ok(own(NS_XML));
        }
        if name == b"xmlns" {
            return Err(XmlError::NotWellFormed("an element with prefix xmlns"));
        }
        if let Some(declaration) = self.declaration(name) {
            return Ok(own(self.str(&declaration.uri)));
        }
        let index = self
            .scope
            .index_of(name)
            .and_then(|index| u16::try_from(index).ok());
        let Some(index) = index else {
            return Err(XmlError::NotWellFormed("an undeclared prefix"));
        };
        if let Some(facts) = &mut self.facts
            && !facts.outer_prefixes.contains(&index)
        {
            facts.outer_prefixes.push(index);
        }
        Ok(Namespace::OuterPrefix(index))
    }

    /// The namespace of an attribute whose prefix is known to be declared.
    fn attribute_namespace(&self, name: &Name) -> Result<String, XmlError> {
        match self.str(&name.prefix) {
            "" => Ok(String::new()),
            "xml" => Ok(NS_XML.to_owned()),
            prefix => Ok(match self.declaration(prefix.as_bytes()) {
                Some(declaration) => {
                    escape::attribute_value(self.str(&declaration.uri)).into_owned()
                }
                None => self.scope.prefix(prefix).unwrap_or_default().to_owned(),
            }),
        }
    }

    /// No attribute twice, neither by name nor by namespace and local name.
    fn check_unique(
        &self,
        tag: &StartTag,
        namespace: impl Fn(&Name) -> Result<String, XmlError>,
    ) -> Result<(), XmlError> {
        let mut seen: Vec<(&[u8], &[u8], Option<String>)> = Vec::new();
        for attribute in &tag.attributes {
            let prefix = &self.buf[attribute.name.prefix.clone()];
            let local = &self.buf[attribute.name.local.clone()];
            let uri = match prefix {
                b"" | b"xmlns" => None,
                _ => Some(namespace(&attribute.name)?),
            };
            let again = |(other, name, bound): &(&[u8], &[u8], Option<String>)| {
                *name == local && (*other == prefix || uri.is_some() && *bound == uri)
            };
            if seen.iter().any(again) {
                return Err(XmlError::NotWellFormed("an attribute that stands twice"));
            }
            seen.push((prefix, local, uri));
        }
        Ok(())
    }

    fn str(&self, range: &Range<usize>) -> &str {
        // Every slice asked for has been checked to be UTF-8.
        self.buf
            .get(range.clone())
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    fn advance(&mut self, count: usize) {
        self.buf.advance(count);
        self.scan = Scan::default();
    }

    fn skip_blanks(&mut self) {
        let blanks = self.buf.iter().take_while(|b| token::is_blank(**b)).count();
        self.buf.advance(blanks);
    }
}

fn own(uri: &str) -> Namespace {
    match escape::attribute_value(uri).as_ref() {
        "" => Namespace::None,
        "jabber:client" => Namespace::Client,
        uri => Namespace::Own(uri.into()),
    }
}

/// Makes the ranges of a tag offsets into the element.
fn shift(tag: &mut StartTag, base: usize) {
    let by = |range: &mut Range<usize>| *range = range.start + base..range.end + base;
    by(&mut tag.name.prefix);
    by(&mut tag.name.local);
    for attribute in &mut tag.attributes {
        by(&mut attribute.name.prefix);
        by(&mut attribute.name.local);
        by(&mut attribute.value);
        by(&mut attribute.whole);
    }
}
