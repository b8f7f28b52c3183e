//! A quick second look into an element that the framer has found right: its tokens, with no checks.

use memchr::{memchr, memchr2, memmem};

use super::chars::is_space;
use super::tag::Span;

/// One token; text as written. Spans are within the element's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token<'a> {
    Start {
        name: &'a str,
        tag: Tag<'a>,
    },
    /// `span` is the whole tag.
    End {
        name: &'a str,
        span: Span,
    },
    Text {
        raw: &'a str,
        span: Span,
    },
    Cdata {
        raw: &'a str,
        span: Span,
    },
}

/// A start tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag<'a> {
    bytes: &'a [u8],
    /// From `<` to behind `>`.
    pub(super) span: Span,
    name_end: usize,
    /// It is closed by `/>`.
    pub(super) empty: bool,
}

/// One attribute of a start tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawAttr<'a> {
    pub(super) name: &'a str,
    pub(super) raw: &'a str,
    /// From behind what comes before, blanks included, to the closing quote.
    pub(super) span: Span,
}

/// Goes through an element's tokens in order.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn text(&self, start: usize, end: usize) -> &'a str {
        Span { start, end }.text(self.bytes)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let start = self.at;
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let find = |byte, from: usize| memchr(byte, &rest[from..]).map_or(rest.len(), |n| from + n);
        if rest[0] != b'<' {
            self.at = start + find(b'<', 0);
            let span = Span {
                start,
                end: self.at,
            };
            return Some(Token::Text {
                raw: self.text(start, self.at),
                span,
            });
        }
        if rest.starts_with(b"<![CDATA[") {
            let end = memmem::find(rest, b"]]>").unwrap_or(rest.len());
            self.at = (start + end + 3).min(self.bytes.len());
            return Some(Token::Cdata {
                raw: self.text(start + 9, start + end),
                span: Span {
                    start,
                    end: self.at,
                },
            });
        }
        if rest.starts_with(b"</") {
            let end = find(b'>', 0);
            self.at = (start + end + 1).min(self.bytes.len());
            let name = self.text(start + 2, start + end).trim_ascii_end();
            return Some(Token::End {
                name,
                span: Span {
                    start,
                    end: self.at,
                },
            });
        }
        let name_end = rest
            .iter()
            .position(|b| is_space(*b) || matches!(b, b'/' | b'>'))
            .unwrap_or(rest.len());
        let mut end = name_end;
        while let Some(byte) = rest.get(end).filter(|byte| **byte != b'>') {
            end = if matches!(byte, b'"' | b'\'') {
                find(*byte, end + 1) + 1
            } else {
                end + 1
            };
        }
        self.at = (start + end + 1).min(self.bytes.len());
        let tag = Tag {
            bytes: self.bytes,
            span: Span {
                start,
                end: self.at,
            },
            name_end: start + name_end,
            empty: end > 0 && rest.get(end - 1) == Some(&b'/'),
        };
        Some(Token::Start {
            name: self.text(start + 1, start + name_end),
            tag,
        })
    }
}

impl<'a> Tag<'a> {
    /// Its attributes in the order written, namespace declarations included.
    pub(super) fn attributes(self) -> impl Iterator<Item = RawAttr<'a>> {
        let mut at = self.name_end;
        std::iter::from_fn(move || {
            let rest = self.bytes.get(at..self.span.end)?;
            let equals = memchr2(b'=', b'>', rest).filter(|i| rest[*i] == b'=')?;
            let quote = memchr2(b'"', b'\'', &rest[equals..])? + equals;
            let close = memchr(rest[quote], &rest[quote + 1..])? + quote + 1;
            let text = |start: usize, end: usize| {
                Span {
                    start: at + start,
                    end: at + end,
                }
                .text(self.bytes)
            };
            let attribute = RawAttr {
                name: text(0, equals).trim_ascii(),
                raw: text(quote + 1, close),
                span: Span {
                    start: at,
                    end: at + close + 1,
                },
            };
            at += close + 1;
            Some(attribute)
        })
    }

    /// What stands behind the last attribute.
    pub(super) fn tail(self) -> Span {
        let start = self
            .attributes()
            .last()
            .map_or(self.name_end, |a| a.span.end);
        Span {
            start,
            end: self.span.end,
        }
    }
}

/// Splits a qualified name at its colon; the prefix is empty without one.
pub(super) fn split_name(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or(("", name))
}
