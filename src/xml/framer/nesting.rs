//! Inside a first-level element: text, CDATA, tags, and the element when it is whole.

use std::ops::Range;
use std::sync::Arc;

use super::super::XmlError;
use super::super::element::{Element, Facts, Namespace};
use super::super::token::{self, StartTag};
use super::{Declaration, Frame, Framer, Open, Place, Scan};

impl Framer {
    pub(super) fn inside(&mut self) -> Result<Option<Frame>, XmlError> {
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
    pub(super) fn cdata(&mut self) -> Result<bool, XmlError> {
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

    /// Takes in a start tag of `length` bytes at the settled position.
    pub(super) fn open_element(
        &mut self,
        mut tag: StartTag,
        length: usize,
    ) -> Result<(), XmlError> {
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

    pub(super) fn close_element(&mut self, length: usize) -> Result<(), XmlError> {
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
    pub(super) fn finish(&mut self) -> Result<Frame, XmlError> {
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
