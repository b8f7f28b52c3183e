//! Limits, restarts and cost.

use super::*;

const SMALL: Limits = Limits {
    max_element_bytes: 10_000,
    max_header_bytes: 1000,
    max_depth: 8,
    max_attributes: 6,
};

/// The verdict on a text, which must not depend on how it is split.
fn verdict(text: &str) -> Result<usize, XmlError> {
    let run = |size: usize| {
        let mut framer = Framer::new(SMALL, RootText::Refuse);
        let (seen, error) = feed(&mut framer, text.as_bytes().chunks(size));
        error.map_or(Ok(seen.len()), Err)
    };
    let whole = run(text.len());
    for size in [1, 7, 4096] {
        assert_eq!(run(size), whole, "in pieces of {size}");
    }
    whole
}

/// S-29, E-13: the largest element is taken, one byte more is not.
#[test]
fn s29_element_bytes() {
    let of = |length: usize| format!("<a>{}</a>", "x".repeat(length - 7));
    let tag = |length: usize| format!("<a b='{}'/>", "x".repeat(length - 9));
    for element in [of, tag] {
        let fits = format!("{HEADER}{0}{0}", element(10_000));
        assert_eq!(verdict(&fits), Ok(3));
        let over = format!("{HEADER}{}", element(10_001));
        assert_eq!(verdict(&over), Err(XmlError::TooLarge));
    }
}

/// E-13: the XML declaration counts as part of the root tag.
#[test]
fn e13_header_bytes() {
    for declaration in ["", "<?xml version='1.0'?>"] {
        let header = |length: usize| {
            let fill = length - declaration.len() - "<a b=''>".len();
            format!("{declaration}<a b='{}'>", "x".repeat(fill))
        };
        assert_eq!(verdict(&header(1000)), Ok(1));
        assert_eq!(verdict(&header(1001)), Err(XmlError::TooLarge));
    }
    let blanks = format!("<?xml version='1.0'{}?>", " ".repeat(1000));
    assert_eq!(verdict(&blanks), Err(XmlError::TooLarge));
}

/// E-13: depth and attributes, on the last level and one further.
#[test]
fn e13_depth_and_attributes() {
    let nested = |depth: usize| format!("{HEADER}{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(verdict(&nested(8)), Ok(2));
    assert_eq!(verdict(&nested(9)), Err(XmlError::TooDeep));
    let leaf = format!("{HEADER}{}<a/>", "<a>".repeat(8));
    assert_eq!(verdict(&leaf), Err(XmlError::TooDeep));

    let attributes = |count: usize| -> String { (0..count).map(|i| format!(" a{i}=''")).collect() };
    for (before, after) in [("", ">"), (HEADER, "/>"), (HEADER, "></a>")] {
        let tag = |count| format!("{before}<a{}{after}", attributes(count));
        assert!(verdict(&tag(6)).is_ok());
        assert_eq!(verdict(&tag(7)), Err(XmlError::TooManyAttributes));
    }
}

/// E-13: namespace declarations in force are bounded too; each name is looked up among them, so thousands
/// of them spread over the levels made one stanza cost seconds.
#[test]
fn e13_declarations_in_force() {
    let levels = |count: usize| -> String {
        (0..count)
            .map(|i| format!("<a xmlns:x{i}='u' xmlns:y{i}='u'>"))
            .collect()
    };
    assert_eq!(verdict(&format!("{HEADER}{}<b/>", levels(3))), Ok(1));
    assert_eq!(
        verdict(&format!("{HEADER}{}", levels(4))),
        Err(XmlError::TooManyAttributes)
    );
    let siblings = "<b xmlns:x='u' xmlns:y='u'/>".repeat(20);
    assert_eq!(verdict(&format!("{HEADER}<a>{siblings}</a>")), Ok(2));
}

/// E-13: whatever never ends is refused before more than the limit and one push is held.
#[test]
fn e13_bounded_memory() {
    let open = |inside: &str| format!("{HEADER}{inside}");
    for (start, filler, limit) in [
        ("<?xml ".to_owned(), " ", 1000),
        ("<?xml version='".to_owned(), "1", 1000),
        ("<".to_owned(), "a", 1000),
        ("<a b='".to_owned(), "x", 1000),
        ("<a ".to_owned(), " ", 1000),
        (open("<"), "a", 10_000),
        (open("</"), "a", 10_000),
        (open("<a b=\""), ">", 10_000),
        (open("<a>"), "x", 10_000),
        (open("<a>"), " ", 10_000),
        (open("<a>"), "&lt;", 10_000),
        (open("<a>"), "]", 10_000),
        (open("<a><![CDATA["), "]", 10_000),
        (open("<a>"), "<b/>", 10_000),
    ] {
        for push in [1, 100, 3000] {
            let mut framer = Framer::new(SMALL, RootText::Refuse);
            let (_, error) = feed(&mut framer, [start.as_bytes()]);
            assert_eq!(error, None);
            let endless = filler.repeat(2 * limit + push);
            let mut refused = None;
            for part in endless.as_bytes().chunks(push) {
                framer.push(part);
                assert!(framer.buffered() <= limit + push, "{start} {filler}");
                if let Err(error) = framer.next_frame() {
                    refused = Some(error);
                }
            }
            assert_eq!(refused, Some(XmlError::TooLarge), "{start} {filler}");
            assert_eq!(framer.buffered(), 0, "nothing is held after an error");
        }
    }
}

/// S-21: blanks between elements and before the root are swallowed, however many.
#[test]
fn s21_blanks() {
    let blanks = " \r\n\t".repeat(5000);
    let text = format!("{blanks}{HEADER}{blanks}<a/>{blanks}</stream:stream>{blanks}");
    assert_eq!(verdict(&text), Ok(3));
    let mut framer = client();
    feed(&mut framer, [HEADER.as_bytes(), blanks.as_bytes()]);
    assert_eq!(framer.buffered(), 0);
}

const SECOND: &str =
    "<stream:stream xmlns='urn:second' xmlns:stream='http://etherx.jabber.org/streams'>";

/// S-16, T-25: the bytes behind the last element are a new document; its declaration, after blanks or not,
/// is no forbidden instruction, and nothing of it is consumed before the restart.
#[test]
fn s16_t25_restart() {
    for between in ["", "\n", " \r\n\t "] {
        for declaration in [
            "",
            "<?xml version='1.0'?>",
            "<?xml version=\"1.0\" encoding='utf-8' ?>\n",
        ] {
            let second = format!("{declaration}{SECOND}<b/></stream:stream>");
            let text = format!("{HEADER}<success/>{between}{second}");
            let mut framer = client();
            let (seen, error) = feed(&mut framer, [text.as_bytes()]);
            assert_eq!((seen.len(), error), (3, None));
            assert_eq!(seen.last(), Some(&Seen::NewDocument));
            assert_eq!(framer.buffered(), second.len());
            assert!(matches!(framer.next_frame(), Ok(Some(Frame::NewDocument))));
            assert_eq!(framer.buffered(), second.len());
            framer.restart();
            let expected = whole(second.as_bytes());
            assert_eq!(expected.1, None);
            assert_eq!(feed(&mut framer, [&b""[..]]), expected);
            for cut in 0..=text.len() {
                assert_restart(&text, cut, &expected.0);
            }
        }
    }
}

/// Restarts as soon as the success is there, which may be before the rest has come.
fn assert_restart(text: &str, cut: usize, expected: &[Seen]) {
    let mut framer = client();
    let mut seen = Vec::new();
    for part in [&text.as_bytes()[..cut], &text.as_bytes()[cut..]] {
        framer.push(part);
        while let Some(frame) = framer.next_frame().unwrap() {
            seen.push(Seen::from(frame));
            if seen.len() == 2 {
                framer.restart();
            }
        }
    }
    assert_eq!(seen[2..], *expected, "cut at {cut}");
}

/// S-16: a client may close its stream instead of opening a new one.
#[test]
fn s16_end_after_restart() {
    let restarted = |text: &str| {
        let mut framer = client();
        assert_eq!(
            feed(&mut framer, [HEADER.as_bytes(), b"<success/>"]).1,
            None
        );
        framer.restart();
        feed(&mut framer, text.as_bytes().chunks(1))
    };
    assert_eq!(restarted(" </stream:stream>"), (vec![Seen::End], None));
    assert!(restarted("</stream>").1.is_some(), "another name");
    let declared = restarted("<?xml version='1.0'?></stream:stream>");
    assert!(
        declared.1.is_some(),
        "a document with nothing but an end tag"
    );
    let forgotten = restarted("<a><stream:b/>");
    assert!(forgotten.1.is_some(), "the old header's prefixes are gone");
}

/// A `stream` tag behind an element is a new document too, and waits for its whole tag.
#[test]
fn new_document_without_declaration() {
    let (seen, error) = byte_wise(format!("{HEADER}<a/>{SECOND}").as_bytes());
    assert_eq!((seen.len(), error), (3, None));
    assert_eq!(seen[2], Seen::NewDocument);
}

/// Bytes come one at a time on a bad day: each must not be looked at more than a few times.
#[test]
fn linear_cost() {
    let fill = |piece: &str| piece.repeat((1 << 18) / piece.len());
    let declarations: String = (0..30).map(|i| format!(" xmlns:p{i}='u'")).collect();
    for (what, text) in [
        ("text", format!("<a>{}</a>", fill("lorem ipsum "))),
        ("blanks", format!("<a>{}</a>", fill(" "))),
        ("non-ASCII", format!("<a>{}</a>", fill("漢é"))),
        ("brackets", format!("<a>{}</a>", fill("] "))),
        ("attribute", format!("<a b='{}'/>", fill("value>"))),
        ("elements", fill("<message/>")),
        ("children", format!("<a>{}</a>", fill("<b c='d'>e</b>"))),
        ("CDATA", format!("<a><![CDATA[{}]]></a>", fill("]>x"))),
        ("tag", format!("<a{}/>", fill(" "))),
        ("name", format!("<{}/>", fill("é"))),
        (
            "declarations",
            format!("<a{declarations}>{}</a>", fill("<p29:b/>")),
        ),
        ("blanks between", fill(" ")),
    ] {
        for size in [1, 2, 1000, text.len()] {
            let mut framer = client();
            feed(&mut framer, [HEADER.as_bytes()]);
            framer.scanned = 0;
            let (_, error) = feed(&mut framer, text.as_bytes().chunks(size));
            assert_eq!(error, None, "{what}");
            assert!(
                framer.scanned <= 4 * text.len(),
                "{what} in pieces of {size}: {} of {} bytes",
                framer.scanned,
                text.len()
            );
        }
    }
}
