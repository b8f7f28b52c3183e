//! Agreement with rxml, an independent strict parser, on what is a document.

use super::*;
use proptest::prelude::*;
use rxml::{Parse as _, WithOptions as _};

/// Whether rxml reads `input` as one complete document.
fn rxml_accepts(input: &[u8]) -> bool {
    let options = rxml::Options {
        max_token_length: 1 << 20,
        ..rxml::Options::default()
    };
    let mut parser = rxml::Parser::with_options(options);
    let mut rest = input;
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Whether the framer does.
fn framer_accepts(input: &[u8]) -> bool {
    let mut framer = Framer::new(LIMITS, RootText::Collect);
    framer.push(input);
    let mut ended = false;
    loop {
        match framer.next_frame() {
            Ok(Some(Frame::NewDocument)) | Err(_) => return false,
            Ok(Some(frame)) => ended = frame == Frame::End,
            Ok(None) => return ended && framer.trailing_is_blank(),
        }
    }
}

/// Asserts that the framer agrees with rxml, or, where rxml is known to err (characters allowed in names, `]` behind a
/// carriage return in a value), with roxmltree. Neither minds a default namespace declared twice on one tag; we do.
fn assert_agreement(input: &[u8]) -> Result<(), TestCaseError> {
    // We allow blanks before the declaration (T-25).
    let blanks = input.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let (ours, theirs) = (framer_accepts(input), rxml_accepts(&input[blanks..]));
    let doubled =
        !ours && read(&mut Framer::new(LIMITS, RootText::Collect), [input]).1 == Some(DOUBLED);
    if ours != theirs && !doubled {
        let judge = std::str::from_utf8(&input[blanks..])
            .is_ok_and(|text| roxmltree::Document::parse(text).is_ok());
        prop_assert_eq!(ours, judge, "{}", String::from_utf8_lossy(input));
    }
    Ok(())
}

const DOUBLED: XmlError = XmlError::NotWellFormed("attribute given twice");

const PIECES: &[&str] = &[
    "<",
    ">",
    "/",
    "\"",
    "'",
    "=",
    " ",
    "&",
    ";",
    "]]>",
    "<![CDATA[",
    "&#x41;",
    "&#0;",
    "&lt;",
    "&x;",
    "<a>",
    "</a>",
    "<a/>",
    ":",
    "p:",
    "xmlns",
    " xmlns:p='urn:p'",
    " xml:lang=''",
    "\u{e9}",
    "\u{fffe}",
    "\u{1}",
    "1",
    "-",
    "<!--x-->",
    "<?x?>",
    "<!DOCTYPE a>",
    "<?xml version='1.0'?>",
    "\u{feff}",
    " a=''",
];

proptest! {
    #![proptest_config(same_cases(1000))]

    #[test]
    fn agrees_on_generated_documents(tape in generate::tape()) {
        let input = generate::document(&tape);
        prop_assert!(rxml_accepts(input.as_bytes()), "rxml: {}", input);
        prop_assert!(framer_accepts(input.as_bytes()), "framer: {}", input);
    }

    #[test]
    fn agrees_on_mutated_documents(
        tape in generate::tape(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(PIECES), 0_usize..3), 1..3),
    ) {
        let mut input = generate::document(&tape).into_bytes();
        for (at, piece, cut) in edits {
            let at = at.index(input.len());
            let end = (at + cut).min(input.len());
            input.splice(at..end, piece.bytes());
        }
        assert_agreement(&input)?;
    }

    #[test]
    fn agrees_on_small_soup(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..8)) {
        let input = format!("<a xmlns:q='urn:q'>{}</a>", pieces.concat());
        assert_agreement(input.as_bytes())?;
    }
}
