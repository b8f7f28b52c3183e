//! Finds where the pieces of an XML stream begin and end, without reading what they hold.
//!
//! Light on purpose: benchmarks push tens of thousands of stanzas a second through it. It trusts the
//! server to send well-formed XML; a test that cares about the content parses the whole piece.

/// One piece of the stream, as a range of the buffer given to [`Scanner::scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    /// First byte, at `<`. What is before it belongs to no piece: blanks and the XML declaration.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
}

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The opening `<stream:stream …>`.
    Header,
    /// A whole first-level element.
    Element,
    /// `</stream:stream>`.
    End,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between tags.
    Text,
    /// Just behind `<`.
    Open,
    /// Inside a tag; `slash`: the last byte was `/`.
    Tag { closing: bool, slash: bool },
    /// Inside an attribute's value.
    Quoted { quote: u8 },
    /// Inside `<?…?>`, a comment or a CDATA section, up to the given last bytes.
    Until(&'static [u8]),
    /// Behind `<!`: a comment or a CDATA section.
    Bang,
}

/// Incremental scanner; remembers how far it has come.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    depth: usize,
    start: usize,
    at: usize,
}

impl Scanner {
    pub(crate) const fn new() -> Self {
        Self {
            state: State::Text,
            depth: 0,
            start: 0,
            at: 0,
        }
    }

    /// Looks at the bytes that were appended since the last call. After a piece, the caller takes
    /// everything up to its end out of the buffer before it calls again.
    pub(crate) fn scan(&mut self, buffer: &[u8]) -> Option<Piece> {
        while self.at < buffer.len() {
            let rest = &buffer[self.at..];
            match self.state {
                State::Text => {
                    let Some(found) = memchr::memchr(b'<', rest) else {
                        self.at = buffer.len();
                        break;
                    };
                    self.at += found + 1;
                    if self.depth <= 1 {
                        self.start = self.at - 1;
                    }
                    self.state = State::Open;
                }
                State::Open => match rest[0] {
                    b'!' => {
                        self.at += 1;
                        self.state = State::Bang;
                    }
                    b'?' => self.state = State::Until(b"?>"),
                    first => {
                        self.at += 1;
                        self.state = State::Tag {
                            closing: first == b'/',
                            slash: false,
                        };
                    }
                },
                State::Bang => {
                    self.state = State::Until(if rest[0] == b'[' { b"]]>" } else { b"-->" });
                }
                State::Until(last) => {
                    // The last bytes may have come in two reads: look again from the piece's start.
                    let from = self.at.saturating_sub(last.len() - 1);
                    let Some(found) = memchr::memmem::find(&buffer[from..], last) else {
                        self.at = buffer.len();
                        break;
                    };
                    self.at = from + found + last.len();
                    self.state = State::Text;
                }
                State::Quoted { quote } => {
                    let Some(found) = memchr::memchr(quote, rest) else {
                        self.at = buffer.len();
                        break;
                    };
                    self.at += found + 1;
                    self.state = State::Tag {
                        closing: false,
                        slash: false,
                    };
                }
                State::Tag { closing, slash } => {
                    let byte = rest[0];
                    self.at += 1;
                    match byte {
                        b'>' => {
                            self.state = State::Text;
                            if let Some(kind) = self.tag_ended(closing, slash) {
                                let piece = Piece {
                                    kind,
                                    start: self.start,
                                    end: self.at,
                                };
                                self.at = 0;
                                self.start = 0;
                                return Some(piece);
                            }
                        }
                        quote @ (b'"' | b'\'') => self.state = State::Quoted { quote },
                        other => {
                            self.state = State::Tag {
                                closing,
                                slash: other == b'/',
                            };
                        }
                    }
                }
            }
        }
        None
    }

    const fn tag_ended(&mut self, closing: bool, slash: bool) -> Option<Kind> {
        if closing {
            self.depth = self.depth.saturating_sub(1);
            return match self.depth {
                0 => Some(Kind::End),
                1 => Some(Kind::Element),
                _ => None,
            };
        }
        if slash {
            return if self.depth == 1 {
                Some(Kind::Element)
            } else {
                None
            };
        }
        self.depth += 1;
        if self.depth == 1 {
            Some(Kind::Header)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "<?xml version='1.0'?>\n<s:stream a='>' b=\"'/\">  <a/><b x='/>'><c/>t<d>u</d></b>\
                          <e><![CDATA[<x>]]]><!-- </e> --></e>\n<f g='1'/></s:stream>";

    fn pieces(chunks: &[&[u8]]) -> Vec<(Kind, String)> {
        let mut scanner = Scanner::new();
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some(piece) = scanner.scan(&buffer) {
                let text = String::from_utf8_lossy(&buffer[piece.start..piece.end]).into_owned();
                found.push((piece.kind, text));
                buffer.drain(..piece.end);
            }
        }
        found
    }

    #[test]
    fn finds_the_same_pieces_however_the_bytes_are_split() {
        let whole = pieces(&[STREAM.as_bytes()]);
        let expected = [
            (Kind::Header, "<s:stream a='>' b=\"'/\">"),
            (Kind::Element, "<a/>"),
            (Kind::Element, "<b x='/>'><c/>t<d>u</d></b>"),
            (Kind::Element, "<e><![CDATA[<x>]]]><!-- </e> --></e>"),
            (Kind::Element, "<f g='1'/>"),
            (Kind::End, "</s:stream>"),
        ];
        assert_eq!(
            whole,
            expected
                .map(|(kind, text)| (kind, text.to_owned()))
                .to_vec()
        );
        for at in 0..STREAM.len() {
            let (first, second) = STREAM.as_bytes().split_at(at);
            assert_eq!(pieces(&[first, second]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(pieces(&bytes), whole);
    }
}
