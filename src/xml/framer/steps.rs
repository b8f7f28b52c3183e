//! What the framer does at each place of a document.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use memchr::memchr2;

use super::{Frame, Framer, MAX_ROOT_TEXT, Next, Place, RootText};
use crate::xml::chars::{self, Text, is_space, visit};
use crate::xml::tag::{Span, Step};
use crate::xml::{Element, Header, Scope, XmlError, declaration};

impl Framer {
    /// Drops blanks at the front of the buffer and says whether anything is left.
    fn skip_blanks(&mut self) -> Option<u8> {
        let blanks = self
            .buffer
            .iter()
            .position(|b| !is_space(*b))
            .unwrap_or(self.buffer.len());
        visit(blanks);
        self.buffer.advance(blanks);
        self.buffer.first().copied()
    }

    pub(super) fn on_prolog(&mut self) -> Next {
        // The first character that is no blank must be a `<`; what else it is, is for `on_markup` to say.
        match self.skip_blanks() {
            Some(_) => {
                self.go(0, Place::Markup);
                Next::Again
            }
            None => Next::More,
        }
    }

    pub(super) fn on_declaration(&mut self, window: usize) -> Result<Next, XmlError> {
        let bytes = &self.buffer[..window];
        let Some(found) = memchr2(b'>', b'<', &bytes[self.at..]) else {
            visit(window - self.at);
            self.at = window;
            return Ok(Next::More);
        };
        visit(found);
        let end = self.at + found + 1;
        declaration::check(&bytes[..end])?;
        self.declared = true;
        self.buffer.advance(end);
        self.go(0, Place::Prolog);
        Ok(Next::Again)
    }

    /// Between first-level elements.
    pub(super) fn on_root_content(&mut self, window: usize) -> Result<Next, XmlError> {
        let bytes = &self.buffer[..window];
        let Some(first) = bytes.first().copied() else {
            return Ok(Next::More);
        };
        if is_space(first) {
            self.skip_blanks();
            self.collect(' ');
            return Ok(Next::Again);
        }
        if first == b'<' {
            self.go(0, Place::Markup);
            return Ok(Next::Again);
        }
        let found = match first {
            b'&' => chars::reference(bytes)?,
            // The same whatever follows, so that it is the same however the bytes are split.
            b']' if self.root_text == RootText::Refuse => {
                return Err(XmlError::TextBetweenElements);
            }
            b']' => match chars::closes_cdata(bytes) {
                Some(true) => return Err(XmlError::NotWellFormed("']]>' in text")),
                Some(false) => Some((']', 1)),
                None => None,
            },
            0x20..=0x7F => Some((char::from(first), 1)),
            0..0x20 => {
                return Err(XmlError::NotWellFormed(
                    "a character that XML does not allow",
                ));
            }
            0x80.. => chars::wide_char(bytes)?,
        };
        let Some((c, len)) = found else {
            return Ok(Next::More);
        };
        if self.root_text == RootText::Refuse {
            return Err(XmlError::TextBetweenElements);
        }
        visit(len);
        self.collect(c);
        self.buffer.advance(len);
        Ok(Next::Again)
    }

    /// Keeps a character of the text between elements, while there is room.
    fn collect(&mut self, c: char) {
        let starts = self.text.is_empty() && c == ' ';
        if self.root_text == RootText::Collect
            && !starts
            && self.text.len() + c.len_utf8() <= MAX_ROOT_TEXT
        {
            self.text.push(c);
        }
    }

    /// In the text of an element.
    pub(super) fn on_content(&mut self, window: usize) -> Result<Next, XmlError> {
        Ok(match chars::scan_text(&self.buffer[..window], self.at)? {
            Text::More(at) => {
                self.at = at;
                Next::More
            }
            Text::End(at) => {
                self.go(at, Place::Markup);
                Next::Again
            }
        })
    }

    /// At what should be a `<`; the byte behind it says what it begins.
    pub(super) fn on_markup(&mut self, window: usize) -> Result<Next, XmlError> {
        let rest = &self.buffer[self.at..window];
        visit(rest.len().min(CDATA.len()));
        let in_prolog = self.root.is_none();
        match rest {
            [] => return Ok(Next::More),
            [b'<'] => return Ok(Next::More),
            [b'<', b'/', ..] => {
                if in_prolog && (self.former_root.is_none() || self.declared) {
                    return Err(XmlError::NotWellFormed("end tag before a start tag"));
                }
                self.go(self.at + 2, Place::EndTag { compared: 0 });
            }
            [b'<', b'!', inside @ ..] => match inside {
                [] => return Ok(Next::More),
                [b'-', ..] => return Err(XmlError::Restricted("comment")),
                [b'D', ..] => return Err(XmlError::Restricted("document type declaration")),
                _ if in_prolog || !(rest.starts_with(CDATA) || CDATA.starts_with(rest)) => {
                    return Err(XmlError::NotWellFormed("bad '<!'"));
                }
                _ if rest.len() < CDATA.len() => return Ok(Next::More),
                _ if self.nest.depth() == 0 && self.root_text == RootText::Refuse => {
                    return Err(XmlError::TextBetweenElements);
                }
                _ => self.go(self.at + CDATA.len(), Place::Cdata),
            },
            [b'<', b'?', ..] => {
                let may_declare = self.nest.depth() == 0 && !(in_prolog && self.declared);
                let common = rest
                    .iter()
                    .zip(DECLARATION)
                    .take_while(|(a, b)| a == b)
                    .count();
                match rest.get(common) {
                    _ if !may_declare => {
                        return Err(XmlError::Restricted("processing instruction"));
                    }
                    None => return Ok(Next::More),
                    Some(next) if common == DECLARATION.len() && is_space(*next) => {
                        if in_prolog {
                            self.go(DECLARATION.len(), Place::Declaration);
                        } else {
                            self.go(0, Place::NewDocument);
                        }
                    }
                    Some(_) => return Err(XmlError::Restricted("processing instruction")),
                }
            }
            // What UTF-16 looks like here, and bytes that begin no character.
            [0, ..] | [b'<', 0, ..] | [0x80..=0xC1 | 0xF5.., ..] if in_prolog => {
                return Err(XmlError::UnsupportedEncoding);
            }
            [b'<', ..] => {
                if self.root.is_some() && self.nest.depth() >= self.limits.max_depth {
                    return Err(XmlError::TooDeep);
                }
                self.tag.begin(self.at + 1);
                self.go(self.at + 1, Place::StartTag);
            }
            _ => return Err(XmlError::NotWellFormed("text before the root")),
        }
        Ok(Next::Again)
    }

    pub(super) fn on_start_tag(&mut self, window: usize) -> Result<Next, XmlError> {
        let bytes = &self.buffer[..window];
        let is_root = self.root.is_none();
        let empty = match self.tag.run(bytes, &mut self.at, &self.limits)? {
            Step::More => return Ok(Next::More),
            Step::Named => {
                if !is_root
                    && self.nest.depth() == 0
                    && self.tag.name.local().of(bytes) == b"stream"
                {
                    self.go(0, Place::NewDocument);
                }
                return Ok(Next::Again);
            }
            Step::Done { empty } => empty,
        };
        if is_root {
            return self.open_root(window, empty).map(Next::Frame);
        }
        self.nest
            .enter(bytes, &self.tag, &self.scope, &self.limits, false)?;
        self.place = Place::Content;
        if empty {
            self.nest.leave();
            if self.nest.depth() == 0 {
                return Ok(Next::Frame(self.take_element()));
            }
        }
        Ok(Next::Again)
    }

    fn open_root(&mut self, window: usize, empty: bool) -> Result<Frame, XmlError> {
        let bytes = &self.buffer[..window];
        let known = if self.lenient {
            Scope::of_manager()
        } else {
            Scope::default()
        };
        self.nest
            .enter(bytes, &self.tag, &known, &self.limits, self.lenient)?;
        let header = Header::read(bytes, &self.tag, &self.nest, &known);
        self.nest.clear();
        self.scope = Arc::clone(&header.scope);
        self.root = Some(Bytes::copy_from_slice(self.tag.name.span.of(bytes)));
        self.former_root = None;
        self.buffer.advance(self.at);
        self.go(
            0,
            if empty {
                Place::RootEnd
            } else {
                Place::Content
            },
        );
        Ok(Frame::Header(header))
    }

    pub(super) fn on_end_tag(
        &mut self,
        window: usize,
        mut compared: usize,
    ) -> Result<Next, XmlError> {
        let bytes = &self.buffer[..window];
        let depth = self.nest.depth();
        let expected: &[u8] = match self.nest.innermost() {
            Some(name) => name.of(bytes),
            None => self
                .root
                .as_ref()
                .or(self.former_root.as_ref())
                .map_or(b"", |name| name),
        };
        let wanted = expected.get(compared..).unwrap_or_default();
        let there = bytes.get(self.at..).unwrap_or_default();
        let both = wanted.len().min(there.len());
        visit(both);
        if wanted[..both] != there[..both] {
            return Err(XmlError::NotWellFormed(
                "end tag does not match its start tag",
            ));
        }
        compared += both;
        self.at += both;
        let mut done = false;
        while let Some(byte) = bytes.get(self.at).copied().filter(|_| !done) {
            visit(1);
            match byte {
                b'>' => done = true,
                _ if is_space(byte) => {}
                _ => {
                    return Err(XmlError::NotWellFormed(
                        "end tag does not match its start tag",
                    ));
                }
            }
            self.at += 1;
        }
        if !done {
            self.place = Place::EndTag { compared };
            return Ok(Next::More);
        }
        if depth == 0 {
            self.buffer.advance(self.at);
            self.go(0, Place::Epilog);
            return Ok(Next::Frame(Frame::End));
        }
        self.nest.leave();
        self.place = Place::Content;
        if depth == 1 {
            return Ok(Next::Frame(self.take_element()));
        }
        Ok(Next::Again)
    }

    pub(super) fn on_cdata(&mut self, window: usize) -> Result<Next, XmlError> {
        match chars::scan_cdata(&self.buffer[..window], self.at)? {
            Text::More(at) => {
                self.at = at;
                return Ok(Next::More);
            }
            Text::End(end) if self.nest.depth() == 0 => {
                let raw = self.buffer.split_to(end + CDATA_END.len());
                for c in (Span {
                    start: CDATA.len(),
                    end,
                })
                .text(&raw)
                .chars()
                {
                    self.collect(c);
                }
                self.go(0, Place::Content);
            }
            Text::End(end) => self.go(end + CDATA_END.len(), Place::Content),
        }
        Ok(Next::Again)
    }

    /// Cuts the element that just ended off the buffer.
    fn take_element(&mut self) -> Frame {
        let bytes = self.buffer.split_to(self.at).freeze();
        self.longest = self.longest.max(bytes.len());
        self.at = 0;
        Frame::Element(Element::new(
            bytes,
            self.nest.take_facts(),
            Arc::clone(&self.scope),
        ))
    }
}

const CDATA: &[u8] = b"<![CDATA[";
const CDATA_END: &[u8] = b"]]>";
const DECLARATION: &[u8] = b"<?xml";
