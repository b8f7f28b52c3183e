//! Outside first-level elements: declaration, root tag, text between elements, the end.

use std::sync::Arc;

use bytes::Buf as _;

use super::super::header::{Attribute, Header};
use super::super::scope::Scope;
use super::super::token::{self, Name};
use super::super::{XmlError, escape};
use super::{Frame, Framer, MAX_ROOT_TEXT, NS_XML, Place, RootText, Scan};

impl Framer {
    pub(super) fn start(&mut self) -> Result<Option<Frame>, XmlError> {
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
    pub(super) fn declaration_end(&mut self) -> Result<Option<usize>, XmlError> {
        let head = &self.buf[..self.buf.len().min(5)];
        if !b"<?xml".starts_with(head) || self.buf.get(5).is_some_and(|b| !token::is_blank(*b)) {
            return Err(XmlError::Restricted("a processing instruction"));
        }
        let from = self.scan.at.saturating_sub(1);
        let found = memchr::memmem::find(&self.buf[from..], b"?>").map(|at| from + at + 2);
        self.scan.at = self.buf.len();
        Ok(found)
    }

    pub(super) fn root_tag(&mut self, end: usize) -> Result<Frame, XmlError> {
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

    pub(super) fn root(&mut self) -> Result<Option<Frame>, XmlError> {
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
    pub(super) fn root_end(&mut self, limit: usize) -> Result<Option<Frame>, XmlError> {
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
    pub(super) fn take_root_text(&mut self) -> Result<(), XmlError> {
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
}
