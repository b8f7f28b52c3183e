//! Tests of the XML engine: whatever it is fed, split anywhere.

mod content;
mod framer;
mod limits;
mod moving;
mod oracle;

use super::{Element, Frame, Framer, Limits, RootText, XmlError};

const HEADER: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.example'>";

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 20,
    max_header_bytes: 1 << 16,
    max_depth: 64,
    max_attributes: 32,
};

/// A frame, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Header {
        name: (Option<String>, String, String),
        attributes: Vec<super::Attribute>,
    },
    Element {
        bytes: Vec<u8>,
        local: String,
        namespace: String,
    },
    NewDocument,
    End,
}

impl From<Frame> for Seen {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::Header(header) => Self::Header {
                name: (header.prefix, header.local, header.namespace),
                attributes: header.attributes,
            },
            Frame::Element(element) => Self::Element {
                local: element.local().to_owned(),
                namespace: element.namespace().to_owned(),
                bytes: element.bytes().to_vec(),
            },
            Frame::NewDocument => Self::NewDocument,
            Frame::End => Self::End,
        }
    }
}

/// Pushes the parts one after the other, taking all frames after each; ends with the first error or the
/// first new document.
fn feed<'a>(
    framer: &mut Framer,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Option<XmlError>) {
    let mut seen = Vec::new();
    for part in parts {
        framer.push(part);
        loop {
            match framer.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    seen.push(Seen::from(frame));
                    if seen.last() == Some(&Seen::NewDocument) {
                        return (seen, None);
                    }
                }
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fn client() -> Framer {
    Framer::new(LIMITS, RootText::Refuse)
}

fn whole(text: &[u8]) -> (Vec<Seen>, Option<XmlError>) {
    feed(&mut client(), [text])
}

fn byte_wise(text: &[u8]) -> (Vec<Seen>, Option<XmlError>) {
    feed(&mut client(), text.chunks(1))
}

/// The elements of a root tag followed by elements.
fn elements(text: &str) -> Vec<Element> {
    let mut framer = Framer::new(LIMITS, RootText::Refuse);
    framer.push(text.as_bytes());
    let mut out = Vec::new();
    loop {
        match framer.next_frame() {
            Ok(Some(Frame::Element(element))) => out.push(element),
            Ok(Some(Frame::Header(_))) => {}
            Ok(Some(Frame::End | Frame::NewDocument) | None) => return out,
            Err(error) => panic!("{error} in {text}"),
        }
    }
}
