//! One start tag, checked byte by byte as it arrives: names, attributes, quoting. No namespaces yet.

use super::chars::{self, Text, is_space, visit};
use super::{Limits, XmlError};

/// A stretch of the bytes of the frame being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    /// Its bytes.
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Its text; the bytes have been checked before.
    pub(super) fn text(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.of(bytes)).unwrap_or_default()
    }
}

/// A qualified name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Name {
    pub(super) span: Span,
    /// Index of the colon, if it has one.
    pub(super) colon: Option<usize>,
}

impl Name {
    /// What stands before the colon; empty without one.
    pub(super) fn prefix(self) -> Span {
        Span {
            start: self.span.start,
            end: self.colon.unwrap_or(self.span.start),
        }
    }

    /// What stands after the colon, or all of it.
    pub(super) fn local(self) -> Span {
        Span {
            start: self.colon.map_or(self.span.start, |colon| colon + 1),
            end: self.span.end,
        }
    }
}

/// An attribute as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawAttribute {
    pub(super) name: Name,
    /// Between the quotes.
    pub(super) value: Span,
    /// The value reads as it is written: no references, tabs or line ends in it.
    pub(super) plain: bool,
}

/// What [`TagScan::run`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// The element's name is known (said once).
    Named,
    /// The tag ended; `empty` if by `/>`.
    Done { empty: bool },
}

#[derive(Clone, Copy, Debug)]
enum State {
    Name,
    /// Behind the name or a value: a blank or the end must follow.
    Gap,
    /// Behind a blank: an attribute or the end.
    Blank,
    AttributeName,
    BeforeEquals,
    BeforeValue,
    Value {
        quote: u8,
    },
    Slash,
}

/// Reads one start tag; reused for the next.
#[derive(Debug)]
pub(super) struct TagScan {
    state: State,
    /// Start of the name or value being read.
    from: usize,
    colon: Option<usize>,
    plain: bool,
    attribute: Name,
    pub(super) name: Name,
    pub(super) attributes: Vec<RawAttribute>,
}

impl TagScan {
    pub(super) fn new() -> Self {
        Self {
            state: State::Name,
            from: 0,
            colon: None,
            plain: true,
            attribute: Name::default(),
            name: Name::default(),
            attributes: Vec::new(),
        }
    }

    /// Starts over for the tag whose name begins at `at`, just behind its `<`.
    pub(super) fn begin(&mut self, at: usize) {
        self.state = State::Name;
        self.begin_name(at);
        self.attributes.clear();
    }

    fn begin_name(&mut self, at: usize) {
        self.from = at;
        self.colon = None;
    }

    /// Goes on at `at`, which it moves to the first byte not used up.
    pub(super) fn run(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        limits: &Limits,
    ) -> Result<Step, XmlError> {
        loop {
            let Some(byte) = bytes.get(*at).copied() else {
                return Ok(Step::More);
            };
            visit(1);
            match self.state {
                State::Name => {
                    let Some(name) = self.run_name(bytes, at)? else {
                        return Ok(Step::More);
                    };
                    self.name = name;
                    self.state = State::Gap;
                    return Ok(Step::Named);
                }
                State::Gap | State::Blank => match byte {
                    b'>' => {
                        *at += 1;
                        return Ok(Step::Done { empty: false });
                    }
                    b'/' => self.step(at, State::Slash),
                    _ if is_space(byte) => self.step(at, State::Blank),
                    _ if matches!(self.state, State::Blank) => {
                        if self.attributes.len() >= limits.max_attributes {
                            return Err(XmlError::TooManyAttributes);
                        }
                        self.begin_name(*at);
                        self.state = State::AttributeName;
                    }
                    _ => return Err(XmlError::NotWellFormed("no blank before an attribute")),
                },
                State::AttributeName => {
                    let Some(name) = self.run_name(bytes, at)? else {
                        return Ok(Step::More);
                    };
                    self.attribute = name;
                    self.state = State::BeforeEquals;
                }
                State::BeforeEquals => match byte {
                    b'=' => self.step(at, State::BeforeValue),
                    _ if is_space(byte) => *at += 1,
                    _ => return Err(XmlError::NotWellFormed("attribute without a value")),
                },
                State::BeforeValue => match byte {
                    b'"' | b'\'' => {
                        self.step(at, State::Value { quote: byte });
                        self.from = *at;
                        self.plain = true;
                    }
                    _ if is_space(byte) => *at += 1,
                    _ => return Err(XmlError::NotWellFormed("attribute value without quotes")),
                },
                State::Value { quote } => {
                    match chars::scan_value(bytes, *at, quote, &mut self.plain)? {
                        Text::More(seen) => {
                            *at = seen;
                            return Ok(Step::More);
                        }
                        Text::End(end) => {
                            let value = Span {
                                start: self.from,
                                end,
                            };
                            self.attributes.push(RawAttribute {
                                name: self.attribute,
                                value,
                                plain: self.plain,
                            });
                            *at = end;
                            self.step(at, State::Gap);
                        }
                    }
                }
                State::Slash => {
                    if byte != b'>' {
                        return Err(XmlError::NotWellFormed("'/' inside a tag"));
                    }
                    *at += 1;
                    return Ok(Step::Done { empty: true });
                }
            }
        }
    }

    fn step(&mut self, at: &mut usize, next: State) {
        *at += 1;
        self.state = next;
    }

    /// Reads on in a name up to its end: the first byte that can be no part of it.
    fn run_name(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Name>, XmlError> {
        const BAD_NAME: XmlError = XmlError::NotWellFormed("bad name");
        loop {
            let part_starts = *at == self.from || self.colon.is_some_and(|colon| colon + 1 == *at);
            if !part_starts {
                // Most of a name is of the plainest kind.
                let rest = bytes.get(*at..).unwrap_or_default();
                let run = rest.iter().position(|b| !is_name_byte(*b));
                let run = run.unwrap_or(rest.len());
                visit(run);
                *at += run;
            }
            let Some(byte) = bytes.get(*at).copied() else {
                return Ok(None);
            };
            visit(1);
            if byte.is_ascii() {
                let c = char::from(byte);
                if is_name_byte(byte) {
                    if part_starts && !chars::is_name_start(c) {
                        return Err(BAD_NAME);
                    }
                } else if part_starts {
                    return Err(BAD_NAME);
                } else if byte == b':' {
                    if self.colon.is_some() {
                        return Err(XmlError::NotWellFormed("two colons in a name"));
                    }
                    self.colon = Some(*at);
                } else {
                    return Ok(Some(Name {
                        span: Span {
                            start: self.from,
                            end: *at,
                        },
                        colon: self.colon,
                    }));
                }
                *at += 1;
            } else {
                let Some((c, len)) = chars::wide_char(&bytes[*at..])? else {
                    return Ok(None);
                };
                if !(chars::is_name_start(c) || !part_starts && chars::is_name_char(c)) {
                    return Err(BAD_NAME);
                }
                *at += len;
            }
        }
    }
}

static NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] =
            matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        byte += 1;
    }
    table
};

fn is_name_byte(byte: u8) -> bool {
    NAME[usize::from(byte)]
}
