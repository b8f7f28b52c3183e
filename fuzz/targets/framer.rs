//! [`xbosh::xml::Framer`] against other parsers, and against itself with the input split otherwise.
//!
//! Input: a byte of options, a byte that says how to split, the document.

use bytes::BytesMut;
use roxmltree::Document;
use xbosh::xml::{Element, Frame, Framer, Limits, RootText, XmlError};

use super::oracle;

const WIDE: Limits = Limits {
    max_element_bytes: 1 << 20,
    max_header_bytes: 1 << 20,
    max_depth: 10_000,
    max_attributes: 10_000,
};
const NARROW: Limits = Limits {
    max_element_bytes: 64,
    max_header_bytes: 80,
    max_depth: 3,
    max_attributes: 3,
};

const COLLECT: u8 = 1;
const NARROWED: u8 = 2;
const LENIENT: u8 = 4;

type Outcome = (Vec<Frame>, Option<XmlError>, Facts);

/// What a framer says of itself at the end.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    /// Without blanks, and empty if it might have been cut.
    text: String,
    buffered: usize,
    blank: bool,
}

pub fn run(data: &[u8]) {
    let [options, split, input @ ..] = data else {
        return;
    };
    let framer = || {
        let limits = if options & NARROWED == 0 {
            WIDE
        } else {
            NARROW
        };
        let root_text = if options & COLLECT == 0 {
            RootText::Refuse
        } else {
            RootText::Collect
        };
        let framer = Framer::new(limits, root_text);
        if options & LENIENT == 0 {
            framer
        } else {
            framer.lenient()
        }
    };
    let whole = read(framer(), std::iter::once(input));
    for size in [1, 2 + usize::from(split % 62)] {
        assert_eq!(
            read(framer(), input.chunks(size)),
            whole,
            "in pieces of {size}"
        );
    }
    let cut = usize::from(*split) * input.len() / 256;
    let (a, b) = input.split_at(cut);
    assert_eq!(
        read(framer(), [a, b].into_iter()),
        whole,
        "cut in two at {cut}"
    );
    check_places(&whole.0, input);
    if options & (NARROWED | LENIENT) == 0 {
        judge(&whole, input);
    }
}

/// Reads with a restart at each new document.
fn read<'a>(mut framer: Framer, chunks: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut frames = Vec::new();
    let mut error = None;
    let mut length = 0;
    'input: for chunk in chunks {
        length += chunk.len();
        framer.push(chunk);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => {
                    let restart = frame == Frame::NewDocument;
                    frames.push(frame);
                    if restart {
                        framer.restart();
                    }
                }
                Ok(None) => break,
                Err(found) => {
                    assert_eq!(framer.next_frame(), Err(found), "it keeps failing");
                    error = Some(found);
                    break 'input;
                }
            }
        }
    }
    // What is behind an error, and how much of it was pushed, is nobody's business.
    let facts = Facts {
        text: if error.is_none() && length < 1024 {
            framer.root_text().split_whitespace().collect()
        } else {
            String::new()
        },
        buffered: error.map_or(framer.buffered(), |_| 0),
        blank: error.is_some() || framer.trailing_is_blank(),
    };
    (frames, error, facts)
}

/// Elements are pieces of the input, in order and untouched.
fn check_places(frames: &[Frame], input: &[u8]) {
    let mut rest = input;
    for frame in frames {
        if let Frame::Element(element) = frame {
            let bytes = element.bytes();
            let at = rest
                .windows(bytes.len())
                .position(|window| window == &bytes[..]);
            rest = &rest[at.expect("an element is a piece of the input") + bytes.len()..];
        }
    }
}

fn names_another_version(document: &[u8]) -> bool {
    let declaration = document.strip_prefix(b"<?xml").unwrap_or_default();
    let value = declaration
        .iter()
        .position(|b| matches!(b, b'\'' | b'"'))
        .map_or(&[][..], |at| &declaration[at + 1..]);
    value.starts_with(b"1.") && !value.starts_with(b"1.0'") && !value.starts_with(b"1.0\"")
}

fn judge((frames, error, facts): &Outcome, input: &[u8]) {
    let several = frames.contains(&Frame::NewDocument);
    if several {
        // A child named `stream` is good XML, and only a stream's next header to us.
        return;
    }
    // Blanks before the declaration are let pass (T-25).
    let blanks = input
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
        .count();
    let document = &input[blanks..];
    if names_another_version(document) {
        // A reader of XML 1.0 may take 1.1 for an error or not (XML 1.0, section 2.8); we read on.
        return;
    }
    let shown = || String::from_utf8_lossy(document);
    match error {
        None if frames.last() == Some(&Frame::End) && facts.blank => {
            assert!(
                oracle::some_accept(document),
                "accepted, and is no XML: {}",
                shown()
            );
            if let Ok(text) = std::str::from_utf8(document)
                // roxmltree takes an attribute of that local name for a declaration.
                && !text.contains(":xmlns")
                && let Ok(parsed) = Document::parse(text)
            {
                compare(frames, text, &parsed);
            }
        }
        None => assert!(
            oracle::some_refuse(document),
            "held for incomplete: {}",
            shown()
        ),
        Some(XmlError::NotWellFormed("attribute given twice")) => {
            // Neither oracle minds a default namespace declared twice on one tag.
        }
        Some(XmlError::NotWellFormed(_) | XmlError::UnsupportedEncoding) => {
            assert!(
                oracle::some_refuse(document),
                "refused ({error:?}), and is XML: {}",
                shown()
            );
        }
        // Ours to refuse.
        Some(
            XmlError::Restricted(_)
            | XmlError::TextBetweenElements
            | XmlError::TooLarge
            | XmlError::TooDeep
            | XmlError::TooManyAttributes,
        ) => {}
    }
}

/// What the frames say is what the document says, and an element moved elsewhere still means the same.
fn compare(frames: &[Frame], text: &str, document: &Document<'_>) {
    let root = document.root_element();
    let [Frame::Header(header), rest @ ..] = frames else {
        panic!("no header first: {text}")
    };
    assert_eq!(header.local, root.tag_name().name(), "{text}");
    assert_eq!(
        header.namespace,
        root.tag_name().namespace().unwrap_or_default(),
        "{text}"
    );
    let theirs: Vec<_> = root
        .attributes()
        .map(|a| (a.namespace(), a.name(), a.value()))
        .collect();
    let ours: Vec<_> = header
        .attributes
        .iter()
        .map(|a| (a.namespace.as_deref(), a.local.as_str(), a.value.as_str()))
        .collect();
    assert_eq!(ours, theirs, "{text}");
    let nodes = root.children().filter(roxmltree::Node::is_element);
    let elements = rest.iter().filter_map(|frame| match frame {
        Frame::Element(element) => Some(element),
        _ => None,
    });
    assert_eq!(
        nodes.clone().count(),
        elements.clone().count(),
        "elements of {text}"
    );
    for (node, element) in nodes.zip(elements) {
        assert!(
            element.is(
                node.tag_name().namespace().unwrap_or_default(),
                node.tag_name().name()
            ),
            "{text}"
        );
        // By name alone roxmltree finds xml:id as well.
        let id = node
            .attributes()
            .find(|a| a.namespace().is_none() && a.name() == "id");
        assert_eq!(
            element.attr("id").as_deref(),
            id.map(|id| id.value()),
            "id in {text}"
        );
        assert_eq!(
            element.child_names().len(),
            node.children().filter(roxmltree::Node::is_element).count(),
            "children in {text}"
        );
        compare_moved(element, node);
    }
}

const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
const BODY: &str = "<body xmlns='http://jabber.org/protocol/httpbind'>";
const STREAM: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

fn compare_moved(element: &Element, node: roxmltree::Node<'_, '_>) {
    let mut up = BytesMut::new();
    element.write_for_body(None, &mut up);
    check_moved(BODY, &up, "</body>", node, &[]);
    let mut down = BytesMut::new();
    element.write_for_stream(None, &mut down);
    // what inherited the namespace of the body, or none at all, falls into jabber:client.
    check_moved(STREAM, &down, "</stream:stream>", node, &["", HTTPBIND]);
}

fn check_moved(start: &str, moved: &[u8], end: &str, node: roxmltree::Node<'_, '_>, from: &[&str]) {
    let moved = std::str::from_utf8(moved).expect("UTF-8 stays UTF-8");
    let text = format!("{start}{moved}{end}");
    let parsed = Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut children = parsed.root_element().children();
    let (Some(child), None) = (children.next(), children.next()) else {
        panic!("not one element: {text}")
    };
    assert_eq!(
        oracle::infoset(child, from, "jabber:client"),
        oracle::infoset(node, from, "jabber:client"),
        "{text}"
    );
}
