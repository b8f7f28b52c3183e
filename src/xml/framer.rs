//! [`Framer`]: bytes split anywhere to root tag, first-level elements and end.
//!
//! The scanner looks at each byte once: it remembers where in the current token it stopped. A tag is judged
//! as one slice when its `>` is there, text as it arrives. A finished element is split off the buffer, not
//! copied.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use super::element::{Element, Facts};
use super::header::Header;
use super::scope::Scope;
use super::{Limits, XmlError, token};

mod document;
mod namespaces;
mod nesting;

pub(super) const NS_XML: &str = "http://www.w3.org/XML/1998/namespace";
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
