//! Bytes split anywhere → root tag, first-level elements, end.

mod steps;

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::chars::is_space;
use super::nest::Nest;
use super::tag::TagScan;
use super::{Element, Header, Limits, Scope, XmlError};

/// What the framer found next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The root tag.
    Header(Header),
    /// A complete first-level element.
    Element(Element),
    /// Where a first-level element could start there is an XML declaration or a tag named `stream`: the next document (S-16).
    /// Not used up; [`Framer::next_frame`] says it again until [`Framer::restart`].
    NewDocument,
    /// The root's end tag.
    End,
}

/// What to do with text between first-level elements. Blanks there are always swallowed (S-21).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootText {
    /// Refuse it: [`XmlError::TextBetweenElements`] (E-10).
    Refuse,
    /// Keep its first KiB for [`Framer::root_text`]: some managers explain a terminate body in plain text.
    Collect,
}

/// The strict incremental reader of one document after another.
///
/// Give it bytes with [`Self::push`] or [`Self::buffer_mut`], then call [`Self::next_frame`] until it says `None`. Each byte
/// is looked at once, however the input is split, and an error is reported as soon as the byte that proves it is there.
pub struct Framer {
    /// Bytes not handed out yet; starts with the frame being read.
    buffer: BytesMut,
    /// First byte of `buffer` not checked yet.
    at: usize,
    place: Place,
    limits: Limits,
    root_text: RootText,
    lenient: bool,
    text: String,
    tag: TagScan,
    nest: Nest,
    scope: Arc<Scope>,
    /// The root's name as written, while it is open.
    root: Option<Bytes>,
    /// The name of the root before the restart.
    former_root: Option<Bytes>,
    declared: bool,
    trailing_junk: bool,
    /// Longest frame since the buffer was last let go.
    longest: usize,
    failed: Option<XmlError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the root: blanks, one declaration, the root tag.
    Prolog,
    /// In the declaration.
    Declaration,
    /// In the text of an element, or between first-level elements.
    Content,
    /// At a `<`.
    Markup,
    StartTag,
    /// In an end tag, of whose name this many bytes have been compared.
    EndTag {
        compared: usize,
    },
    Cdata,
    /// At the start of the next document.
    NewDocument,
    /// Behind a root that was closed by its own tag.
    RootEnd,
    /// Behind the document.
    Epilog,
}

/// What one step came to.
enum Next {
    Again,
    More,
    Frame(Frame),
}

/// Kept of the text between elements.
const MAX_ROOT_TEXT: usize = 1024;
/// A buffer that held more than this is let go when it is empty: an idle stream stays small.
const KEPT_BUFFER: usize = 16 * 1024;

impl Framer {
    /// A framer at the start of a document.
    #[must_use]
    pub fn new(limits: Limits, root_text: RootText) -> Self {
        Self {
            buffer: BytesMut::new(),
            at: 0,
            place: Place::Prolog,
            limits,
            root_text,
            lenient: false,
            text: String::new(),
            tag: TagScan::new(),
            nest: Nest::default(),
            scope: Arc::default(),
            root: None,
            former_root: None,
            declared: false,
            trailing_junk: false,
            longest: 0,
            failed: None,
        }
    }

    /// Overlooks what real managers get wrong in a `<body>` tag: the prefixes `stream` and `xmpp` not declared, and
    /// attributes given twice (all are listed in [`Header::attributes`]).
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.lenient = true;
        self
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer, to read into without a copy. Only append to it.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next frame, or `None` when more bytes are needed, and always behind [`Frame::End`].
    ///
    /// # Errors
    /// What is wrong with the document; from then on always the same.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, XmlError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.run();
        if let Err(error) = result {
            self.failed = Some(error);
        }
        result
    }

    /// Starts a new document with the bytes behind the last frame (S-16, T-25). A framer that has failed stays failed.
    pub fn restart(&mut self) {
        self.former_root = self.root.take().or(self.former_root.take());
        self.nest.clear();
        self.scope = Arc::default();
        self.text.clear();
        self.declared = false;
        self.go(0, Place::Prolog);
    }

    /// Takes the bytes behind the last frame away.
    pub fn take_rest(&mut self) -> BytesMut {
        self.nest.clear();
        if !matches!(self.place, Place::Epilog | Place::RootEnd) {
            let place = if self.root.is_some() {
                Place::Content
            } else {
                Place::Prolog
            };
            self.go(0, place);
        }
        std::mem::take(&mut self.buffer)
    }

    /// Number of bytes behind the last frame.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Text found between first-level elements, without blanks around it; always empty with [`RootText::Refuse`].
    #[must_use]
    pub fn root_text(&self) -> &str {
        self.text.trim()
    }

    /// The first byte behind the last frame that is no blank.
    #[must_use]
    pub fn first_byte(&self) -> Option<u8> {
        self.buffer.iter().copied().find(|byte| !is_space(*byte))
    }

    /// Whether nothing but blanks is behind the last frame.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.buffer.iter().copied().all(is_space)
    }

    /// Whether the root tag of the document has not been read yet.
    #[must_use]
    pub fn at_document_start(&self) -> bool {
        matches!(self.place, Place::Prolog | Place::Declaration)
            || self.root.is_none() && matches!(self.place, Place::Markup | Place::StartTag)
    }

    /// Whether only blanks have followed [`Frame::End`] so far.
    #[must_use]
    pub fn trailing_is_blank(&self) -> bool {
        !self.trailing_junk && self.is_idle()
    }

    fn go(&mut self, at: usize, place: Place) {
        self.at = at;
        self.place = place;
    }

    /// Goes on step by step until there is a frame or no byte left.
    fn run(&mut self) -> Result<Option<Frame>, XmlError> {
        loop {
            let limit = match self.root {
                Some(_) => self.limits.max_element_bytes,
                None => self.limits.max_header_bytes,
            };
            let window = self.buffer.len().min(limit);
            let next = match self.place {
                Place::Prolog => self.on_prolog(),
                Place::Declaration => self.on_declaration(window)?,
                Place::Content if self.nest.depth() == 0 => self.on_root_content(window)?,
                Place::Content => self.on_content(window)?,
                Place::Markup => self.on_markup(window)?,
                Place::StartTag => self.on_start_tag(window)?,
                Place::EndTag { compared } => self.on_end_tag(window, compared)?,
                Place::Cdata => self.on_cdata(window)?,
                Place::NewDocument => Next::Frame(Frame::NewDocument),
                Place::RootEnd => {
                    self.place = Place::Epilog;
                    Next::Frame(Frame::End)
                }
                Place::Epilog => {
                    self.trailing_junk |= !self.is_idle();
                    self.buffer.clear();
                    Next::More
                }
            };
            match next {
                Next::Again => {}
                Next::Frame(frame) => return Ok(Some(frame)),
                Next::More if self.buffer.len() > window => return Err(XmlError::TooLarge),
                Next::More => {
                    if self.buffer.is_empty() && self.longest > KEPT_BUFFER {
                        self.buffer = BytesMut::new();
                        self.longest = 0;
                    }
                    return Ok(None);
                }
            }
        }
    }
}

/// Never the bytes: they may hold a password.
impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer")
            .field("place", &self.place)
            .field("buffered", &self.buffer.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
