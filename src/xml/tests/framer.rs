//! Errors, limits, restarts and cost.

use std::mem::discriminant;

use super::*;

const NWF: XmlError = XmlError::NotWellFormed("");
const RESTRICTED: XmlError = XmlError::Restricted("");
const ENCODING: XmlError = XmlError::UnsupportedEncoding;
const TEXT: XmlError = XmlError::TextBetweenElements;

/// Each text ends with the very byte that makes it wrong: not before it, and not later either.
fn check(header: &str, cases: &[(&[u8], XmlError)]) {
    for (case, expected) in cases {
        let text = [header.as_bytes(), case].concat();
        let shown = String::from_utf8_lossy(case);
        let verdict = |parts: Vec<&[u8]>| {
            let mut framer = client();
            let (seen, error) = feed(&mut framer, parts);
            if error.is_some() {
                assert_eq!(framer.next_frame().err(), error, "the same again: {shown}");
                framer.push(b"<a/>");
                assert_eq!(framer.next_frame().err(), error, "for ever: {shown}");
            }
            (seen, error)
        };
        let (frames, error) = verdict(vec![&text[..]]);
        let error = error.unwrap_or_else(|| panic!("no error: {shown}"));
        assert_eq!(
            discriminant(&error),
            discriminant(expected),
            "{error}: {shown}"
        );
        for cut in 0..text.len() {
            let (early, late) = text.split_at(cut);
            assert_eq!(verdict(vec![early]).1, None, "too early, at {cut}: {shown}");
            let (seen, error) = verdict(vec![early, late]);
            assert_eq!(seen, frames, "cut at {cut}: {shown}");
            let error = error.unwrap_or_else(|| panic!("no error, cut at {cut}: {shown}"));
            assert_eq!(
                discriminant(&error),
                discriminant(expected),
                "cut at {cut}: {shown}"
            );
        }
        let (seen, error) = verdict(text.chunks(1).collect());
        assert_eq!(seen, frames, "byte by byte: {shown}");
        let error = error.unwrap_or_else(|| panic!("no error byte by byte: {shown}"));
        assert_eq!(
            discriminant(&error),
            discriminant(expected),
            "byte by byte: {shown}"
        );
    }
}

/// S-26, E-08: comment, processing instruction, document type and entity, wherever they stand.
#[test]
fn s26_restricted() {
    check(
        "",
        &[
            (b"<!", RESTRICTED),
            (b"<?xml-", RESTRICTED),
            (b"<?p", RESTRICTED),
            (b"<?xml version='1.0'?><?", RESTRICTED),
            (b"<?xml version='1.0'?> \n<?", RESTRICTED),
            (b"<?xml version='1.0'?><!", RESTRICTED),
        ],
    );
    check(
        HEADER,
        &[
            (b"<!-", RESTRICTED),
            (b"<!D", RESTRICTED),
            (b"<?p", RESTRICTED),
            (b"<?xml-", RESTRICTED),
            (b"<a><!-", RESTRICTED),
            (b"<a>text<!D", RESTRICTED),
            (b"<a><![CDATE", RESTRICTED),
            (b"<a><?", RESTRICTED),
            (b"<a>&foo;", RESTRICTED),
            (b"<a>b &lt; c &ent1;", RESTRICTED),
            (b"<a>]]&nbsp;", RESTRICTED),
            (b"<a>&a_very_long_enti", RESTRICTED),
            (b"<a b='&foo;'>", RESTRICTED),
            (b"<a b='&a_very_long_entity_name;'>", RESTRICTED),
            ("<a>&é;".as_bytes(), RESTRICTED),
        ],
    );
}

/// S-27, E-09: not well-formed before the root tag, or in it.
#[test]
fn s27_malformed_header() {
    check(
        "",
        &[
            (b"x", NWF),
            (b"G", NWF),
            (b" </", NWF),
            ("\u{feff}".as_bytes(), NWF),
            (b"<?xml version='1.0'/?>", NWF),
            (b"<?xml version='1.'?>", NWF),
            (b"<?xml version='2.0'?>", NWF),
            (b"<?xml encoding='UTF-8'?>", NWF),
            (b"<?xml version='1.0' version='1.0'?>", NWF),
            (b"<?xml version='1.0' standalone='maybe'?>", NWF),
            (b"<?xml version='1.0' a='' b='' c='' d=''?>", NWF),
            (
                b"<?xml version='1.0' encoding='UTF-8'standalone='yes'?>",
                NWF,
            ),
            (b"<s:stream>", NWF),
            (b"<s x:to='a'>", NWF),
            (b"<s xmlns:a='u' xmlns:b='u' a:x='1' b:x='2'>", NWF),
            (b"<s to='a' to='a'>", NWF),
            (b"<xmlns:s>", NWF),
            (b"< s>", NWF),
        ],
    );
}

/// S-27, E-09: not well-formed, or not namespace-well-formed, inside the stream.
#[test]
fn s27_malformed_element() {
    check(
        HEADER,
        &[
            (b"<a>]]>", NWF),
            (b"<a>x]]]>", NWF),
            (b"<a></b>", NWF),
            (b"<a><b></a>", NWF),
            (b"</b>", NWF),
            (b"</stream>", NWF),
            (b"<foo:body/>", NWF),
            (b"<a foo:b=''/>", NWF),
            (b"<a><b xmlns:x='u'/><x:c/>", NWF),
            (b"<a b='' b=''>", NWF),
            (b"<a xmlns:x='u' xmlns:y='u' x:b='' y:b=''>", NWF),
            (b"<a xmlns:x='u' xmlns:y='&#117;' x:b='' y:b=''>", NWF),
            (b"<a xmlns='u' xmlns='u'>", NWF),
            (b"<a b='<", NWF),
            (b"<a <", NWF),
            (b"<1a>", NWF),
            (b"<-a>", NWF),
            (b"<a 1='1'>", NWF),
            (b"<a:b:c>", NWF),
            (b"<:a>", NWF),
            (b"<a:>", NWF),
            (b"<a b:c:d=''>", NWF),
            ("<a\u{d7}>".as_bytes(), NWF),
            ("<\u{b7}a>".as_bytes(), NWF),
            (b"<>", NWF),
            (b"< a>", NWF),
            (b"<a / >", NWF),
            (b"<a b>", NWF),
            (b"<a b=c>", NWF),
            (b"<a b=''c=''>", NWF),
            (b"</stream:stream x=''>", NWF),
            (b"<a></ a>", NWF),
            (b"<a></a/>", NWF),
            (b"<a xmlns:x=''>", NWF),
            (b"<a xmlns:xmlns='u'>", NWF),
            (b"<a xmlns:xml='u'>", NWF),
            (b"<a xmlns:x='http://www.w3.org/XML/1998/namespace'>", NWF),
            (b"<a xmlns:x='http://www.w3.org/2000/xmlns/'>", NWF),
            (b"<a xmlns='http://www.w3.org/2000/xmlns/'>", NWF),
            (b"<xmlns:a>", NWF),
        ],
    );
}

/// S-27: characters that XML cannot carry, and ampersands that begin no reference.
#[test]
fn s27_bad_characters() {
    check(
        HEADER,
        &[
            (b"<a>\0", NWF),
            (b"<a>text\x1b", NWF),
            (b"<a b='\x01'>", NWF),
            (b"<a><![CDATA[\x02]]>", NWF),
            (b"<a>x\xef\xbf\xbe", NWF),
            (b"<a>\xef\xbf\xbf", NWF),
            (b"<a b='\xef\xbf\xbf'>", NWF),
            (b"<a>&#0;", NWF),
            (b"<a>&#xD800;", NWF),
            (b"<a>&#xFFFE;", NWF),
            (b"<a>&#x110000;", NWF),
            (b"<a>&#;", NWF),
            (b"<a>&#x;", NWF),
            (b"<a>&#X", NWF),
            (b"<a>&#12a", NWF),
            (b"<a>&;", NWF),
            (b"<a>R& ", NWF),
            (b"<a>R&D<", NWF),
            (b"<a>&1", NWF),
            (b"<a>&&", NWF),
            (b"<a b='&'>", NWF),
            (b"<a b='&lt'>", NWF),
        ],
    );
}

/// S-28, E-07: UTF-8 and nothing else.
#[test]
fn s28_encoding() {
    check(
        "",
        &[
            (b"\xff", ENCODING),
            (b"\xfe", ENCODING),
            (b"\0", ENCODING),
            (b"<\0", ENCODING),
            (b"<?xml version='1.0' encoding='UTF-16'?>", ENCODING),
            (
                b"<?xml version='1.0' encoding='iso-8859-1' standalone='yes'?>",
                ENCODING,
            ),
        ],
    );
    check(
        HEADER,
        &[
            (b"<a>\xff", ENCODING),
            (b"<a>caf\xe9!", ENCODING),
            (b"<a>\x80", ENCODING),
            (b"<a>\xc0", ENCODING),
            (b"<a>\xe0\x80", ENCODING),
            (b"<a>\xf0\x80", ENCODING),
            (b"<a>\xed\xa0", ENCODING),
            (b"<a>\xf4\x90", ENCODING),
            (b"<a>\xf5", ENCODING),
            (b"<a>&\xff", ENCODING),
            (b"<a>\xc3<", ENCODING),
            (b"<a b='\xff'>", ENCODING),
            (b"<a><b></\xff>", ENCODING),
            (b"<a><![CDATA[\xc0\xaf]]>", ENCODING),
        ],
    );
}

/// E-10: text between elements, CDATA too.
#[test]
fn e10_text_between() {
    check(
        HEADER,
        &[
            (b"x", TEXT),
            (b" \r\n\tx", TEXT),
            (b"&", TEXT),
            (b"<a/>]", TEXT),
            (b"<a/> <b></b>\n.", TEXT),
            (b"<![", TEXT),
            ("\u{feff}".as_bytes(), TEXT),
            ("<a/>\u{a0}".as_bytes(), TEXT),
        ],
    );
}
