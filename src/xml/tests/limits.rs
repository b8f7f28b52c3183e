//! Limits hold to the byte, whatever the split, and before memory is taken.

use super::*;

fn outcome(limits: Limits, input: &str) -> (usize, Option<XmlError>) {
    let (frames, error) =
        read_every_split(input.as_bytes(), || Framer::new(limits, RootText::Refuse));
    (frames.len(), error)
}

/// S-29, E-13: the size of an element, ±1; blanks around it do not count.
#[test]
fn element_size() {
    let xml = "<message to='juliet'>  <body>Art thou not Romeo?</body></message>";
    let input = format!("<r>\n\n{xml}  <a/>");
    let with = |max| Limits {
        max_element_bytes: max,
        ..LIMITS
    };
    assert_eq!(outcome(with(xml.len()), &input), (3, None));
    assert_eq!(outcome(with(xml.len() + 1), &input), (3, None));
    assert_eq!(
        outcome(with(xml.len() - 1), &input),
        (1, Some(XmlError::TooLarge))
    );
    // An error beyond the limit is not seen, one before it is.
    assert_eq!(outcome(with(3), "<r><a><1"), (1, Some(XmlError::TooLarge)));
    assert!(matches!(
        outcome(with(5), "<r><a><1"),
        (1, Some(XmlError::NotWellFormed(_)))
    ));
}

/// S-29: an element that never ends takes no more memory than the limit and one read.
#[test]
fn the_buffer_stays_bounded() {
    let limits = Limits {
        max_element_bytes: 10_000,
        ..LIMITS
    };
    for start in ["<a>", "<a b='", "<a", "<a>&#", "<a><![CDATA["] {
        let mut framer = Framer::new(limits, RootText::Refuse);
        framer.push(format!("<r>{start}").as_bytes());
        let mut most = 0;
        let error = loop {
            framer.push(&[b'0'; 1000]);
            most = most.max(framer.buffered());
            match framer.next_frame() {
                Ok(frame) => assert!(!matches!(frame, Some(Frame::Element(_)))),
                Err(error) => break error,
            }
            assert!(framer.buffered() <= limits.max_element_bytes);
        };
        assert!(most <= limits.max_element_bytes + 1000);
        assert!(start == "<a>&#" || error == XmlError::TooLarge, "{start}");
    }
}

/// S-03: the size of the root tag and of the declaration, ±1.
#[test]
fn header_size() {
    let with = |max| Limits {
        max_header_bytes: max,
        ..LIMITS
    };
    let root = "<stream to='example.org' from='juliet@example.org'>";
    let input = format!(" \n{root}<x>{}</x>", "y".repeat(100));
    assert_eq!(outcome(with(root.len()), &input), (2, None));
    assert_eq!(
        outcome(with(root.len() - 1), &input),
        (0, Some(XmlError::TooLarge))
    );
    let declaration = "<?xml version='1.0' encoding='UTF-8'?>";
    let input = format!("{declaration}<a/>");
    assert_eq!(outcome(with(declaration.len()), &input), (2, None));
    assert_eq!(
        outcome(with(declaration.len() - 1), &input),
        (0, Some(XmlError::TooLarge))
    );
}

/// E-13: depth, ±1; the first-level element is at depth 1.
#[test]
fn depth() {
    let with = |max| Limits {
        max_depth: max,
        ..LIMITS
    };
    assert_eq!(outcome(with(3), "<r><a><b><c/><c></c></b></a>"), (2, None));
    assert_eq!(
        outcome(with(2), "<r><a><b><c/></b></a>"),
        (1, Some(XmlError::TooDeep))
    );
    assert_eq!(outcome(with(1), "<r><a/><a>x</a>"), (3, None));
    assert_eq!(outcome(with(0), "<r><a/>"), (1, Some(XmlError::TooDeep)));
}

/// E-13: attributes of one tag, ±1, declarations included.
#[test]
fn attributes() {
    let with = |max| Limits {
        max_attributes: max,
        ..LIMITS
    };
    assert_eq!(
        outcome(with(2), "<r a='' b=''><a b='' xmlns='urn:a'/>"),
        (2, None)
    );
    assert_eq!(
        outcome(with(2), "<r><a b='' xmlns='urn:a' c=''/>"),
        (1, Some(XmlError::TooManyAttributes))
    );
    assert_eq!(
        outcome(with(2), "<r a='' b='' c=''>"),
        (0, Some(XmlError::TooManyAttributes))
    );
}

/// E-13: declarations piled up over many levels are bounded too, so that looking one up stays cheap.
#[test]
fn declarations_in_force() {
    let limits = Limits {
        max_attributes: 4,
        max_depth: 4,
        ..LIMITS
    };
    let tag = |n: usize, count: usize| {
        let declarations: String = (0..count)
            .map(|i| format!(" xmlns:p{n}{i}='urn:p'"))
            .collect();
        format!("<a{declarations}>")
    };
    assert_eq!(
        outcome(limits, &format!("<r>{}{}", tag(1, 4), tag(2, 4))),
        (1, None)
    );
    assert_eq!(
        outcome(
            limits,
            &format!("<r>{}{}{}", tag(1, 4), tag(2, 4), tag(3, 1))
        ),
        (1, Some(XmlError::TooManyAttributes))
    );
}
