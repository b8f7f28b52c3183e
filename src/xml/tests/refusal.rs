//! What is refused, as what, and how early. Every input is also cut at every byte.

use super::*;

/// Asserts that `input` fails as `expected` says, at its last byte and not before, however it is split.
fn fails_at_last_byte(input: &[u8], expected: impl Fn(&XmlError) -> bool) {
    let strict = || Framer::new(LIMITS, RootText::Refuse);
    let shown = String::from_utf8_lossy(input);
    let (_, error) = read_every_split(input, strict);
    let error = error.unwrap_or_else(|| panic!("{shown} is let pass"));
    assert!(expected(&error), "{shown} fails with {error:?}");
    let (_, early) = read(&mut strict(), [&input[..input.len() - 1]]);
    assert_eq!(early, None, "{shown} fails before its last byte");
    let mut framer = strict();
    read(&mut framer, [input]);
    framer.push(b"</stream:stream>");
    assert_eq!(framer.next_frame(), Err(error), "it keeps failing");
}

fn in_stream(xml: &str) -> Vec<u8> {
    format!("{HEADER}{xml}").into_bytes()
}

fn restricted(error: &XmlError) -> bool {
    matches!(error, XmlError::Restricted(_))
}

fn ill_formed(error: &XmlError) -> bool {
    matches!(error, XmlError::NotWellFormed(_))
}

/// S-26, E-08: comments, processing instructions, DTDs and entities, at every place they could stand.
#[test]
fn restricted_features_are_refused_at_once() {
    let declared = "<?xml version='1.0'?>";
    let (inside, behind_child) = (format!("{HEADER}<a>"), format!("{HEADER}<a>x<b/>"));
    for place in ["", declared, HEADER, &inside, &behind_child] {
        for markup in ["<!-", "<!D"] {
            fails_at_last_byte(format!("{place}{markup}").as_bytes(), restricted);
        }
    }
    // Where a declaration may stand, the target decides; elsewhere the `?` does.
    for place in ["", HEADER] {
        for markup in ["<?p", "<?xp", "<?xml-", "<?xml?", "<?X"] {
            fails_at_last_byte(format!("{place}{markup}").as_bytes(), restricted);
        }
    }
    for place in [declared, &inside, &behind_child] {
        fails_at_last_byte(format!("{place}<?").as_bytes(), restricted);
    }
    for entity in ["&n", "&lo", "&ltx", "&amp1", "&l;", "&\u{e9}"] {
        for place in ["<a>", "<a b='", "<a>x", ""] {
            let mut input = in_stream(&format!("{place}{entity}"));
            if !entity.is_ascii() {
                input.pop();
            }
            fails_at_last_byte(&input, restricted);
        }
    }
}

/// S-27, E-09: ill-formed XML, as soon as the byte that proves it is there.
#[test]
fn ill_formed_xml_is_refused_at_once() {
    for xml in [
        "</strea:",
        "</stream:streamx",
        "<a></b",
        "<a></ ",
        "<a></a b",
        "<a></a/",
        "<a><b></a",
        "<1",
        "<-",
        "<:",
        "<a:>",
        "<a:1",
        "<a:b:",
        "< ",
        "<>",
        "<=",
        "<a&",
        "<a<",
        "<a b<",
        "<a b>",
        "<a b/",
        "<a b=c",
        "<a b='<",
        "<a b=\"'<",
        "<a b='c'd",
        "<a b='c'\"",
        "<a / ",
        "<a /a",
        "<a 1",
        "<a =",
        "<a b ='' =",
        "<a b c",
        "<a \u{b7}",
        "<a b='' b=''>",
        "<a b='' c='' b=\"\"/>",
        "<a>]]>",
        "<a>x]]]>",
        "<!C",
        "<!x",
        "<a><![CDATA<",
        "<a><![x",
        "<a>&;",
        "<a>& ",
        "<a>&&",
        "<a>&<",
        "<a>&amp ",
        "<a>&#;",
        "<a>&#x;",
        "<a>&#a",
        "<a>&#xg",
        "<a>&#0;",
        "<a>&#x1;",
        "<a>&#xD800;",
        "<a>&#xFFFE;",
        "<a>&#x110000",
        "<a>&#X",
        "<a b='&#8;",
        "<a>&#-",
        "<a>\u{1}",
        "<a>\u{fffe}",
        "<a>\u{ffff}",
        "<a>\u{0}",
        "<a b='\u{1f}",
        "<a><![CDATA[\u{b}",
    ] {
        fails_at_last_byte(&in_stream(xml), ill_formed);
    }
    for document in [
        &b"x"[..],
        b"\xC3",
        b"\x01",
        b"<?xml version='1.0'?>\n<a b=''<",
        b"<a><b></c",
        b"</",
        b"<?xml version='2.0'?>",
        b"<![",
        b"<!E",
    ] {
        fails_at_last_byte(document, ill_formed);
    }
}

/// S-27: names follow the fifth edition, not only ASCII.
#[test]
fn names_beyond_ascii() {
    for good in [
        "\u{e9}",
        "\u{3b1}\u{b7}",
        "a\u{300}",
        "\u{10000}",
        "\u{200c}x",
        "_",
        "a-b.c",
        "\u{4e2d}:\u{6587}",
    ] {
        let xml = format!("<{good} xmlns:\u{4e2d}='urn:z'/>");
        let (frames, error) =
            read_every_split(&in_stream(&xml), || Framer::new(LIMITS, RootText::Refuse));
        assert_eq!((frames.len(), error), (2, None), "{xml}");
    }
    for bad in [
        "\u{d7}",
        "\u{b7}",
        "\u{300}",
        "\u{2190}",
        "a\u{37e}",
        "\u{f0000}",
        "x:\u{b7}",
        "\u{fdd0}",
    ] {
        fails_at_last_byte(&in_stream(&format!("<{bad}")), ill_formed);
    }
}

/// S-27: namespaces. These show when the tag is complete.
#[test]
fn namespace_errors_are_refused() {
    for tag in [
        "<foo:body/>",
        "<foo:body>",
        "<a foo:b=''/>",
        "<a><b xmlns:c='urn:c'/><c:d/>",
        "<xmlns:a/>",
        "<a xmlns:b=''/>",
        "<a xmlns:xml='urn:x'/>",
        "<a xmlns:xmlns='urn:x'/>",
        "<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns:b='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns:b='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns:b='urn:b' xmlns:c='urn:b' b:d='' c:d=''/>",
        "<a xmlns:b='urn:&amp;' xmlns:c='urn:&#38;' b:d='' c:d=''/>",
        "<a xmlns='urn:a' xmlns='urn:b'/>",
        "<a xmlns:b='urn:a' xmlns:b='urn:a'/>",
        "<a a01='' a02='' a03='' a04='' a05='' a06='' a07='' a08='' a09='' a10='' a11='' a01=''/>",
    ] {
        fails_at_last_byte(&in_stream(tag), ill_formed);
    }
    for root in [
        "<x:stream>",
        "<stream x:y=''>",
        "<stream xmlns:x=''>",
        "<a b='' b=''>",
    ] {
        fails_at_last_byte(root.as_bytes(), ill_formed);
    }
    for good in [
        "<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:lang='en'/>",
        "<a xmlns=''/>",
        "<a xmlns='urn:b' xmlns:b='urn:b' b:d='' d=''/>",
        "<a xmlns:b='urn:b'><b:a xmlns:b='urn:c' b:c=''/></a>",
    ] {
        assert_eq!(read_whole(&format!("{HEADER}{good}")).1, None, "{good}");
    }
}

/// S-28, E-07: other encodings and bytes that are not UTF-8: overlong forms, surrogates, stray and cut characters.
#[test]
fn other_encodings_are_refused() {
    let encoding = |error: &XmlError| *error == XmlError::UnsupportedEncoding;
    for start in [
        &b"\xFF"[..],
        b"\xFE",
        b"<\0",
        b"\0",
        b" \x80",
        b"<?xml version='1.0' encoding='UTF-16'?>",
    ] {
        fails_at_last_byte(start, encoding);
    }
    for bad in [
        &b"\xFF"[..],
        b"\x80",
        b"\xC0",
        b"\xC1",
        b"\xE0\x80",
        b"\xED\xA0",
        b"\xF0\x8F",
        b"\xF4\x90",
        b"\xF5",
        b"\xC3x",
        b"\xE2\x98x",
        b"\xE2\x98<",
        b"\xE2\x98&",
        b"\xF0\x9F\x8C\xC3",
    ] {
        for place in ["<a>", "<a>\u{e4}", "<a b='", "<a><![CDATA[", "<a\u{e4}"] {
            fails_at_last_byte(&[&in_stream(place), bad].concat(), encoding);
        }
    }
    fails_at_last_byte(&[&in_stream(""), &b"\xFF"[..]].concat(), encoding);
}

/// S-28: U+FEFF is no byte order mark but text where none may be.
#[test]
fn a_byte_order_mark_is_refused() {
    let (frames, error) = read_every_split("\u{feff}<a/>".as_bytes(), || {
        Framer::new(LIMITS, RootText::Refuse)
    });
    assert!(frames.is_empty());
    assert!(matches!(error, Some(XmlError::NotWellFormed(_))));
}

/// S-28: UTF-8 is the only encoding that may be named; a declaration comes once, before everything but blanks.
#[test]
fn declarations() {
    for good in [
        "<?xml version='1.0' encoding='utf-8'?><a/>",
        " \r\n<?xml version='1.0'?>\n<a/>",
        "<?xml version='1.1'?><a/>",
    ] {
        assert_eq!(
            read_every_split(good.as_bytes(), || Framer::new(LIMITS, RootText::Refuse)).1,
            None,
            "{good}"
        );
    }
    fails_at_last_byte(b"<?xml version='1.0'?><?", restricted);
    fails_at_last_byte(b"<?xml version='1.0' <", ill_formed);
    fails_at_last_byte(b"<?xml version='1.0' >", ill_formed);
}

/// E-10: text between first-level elements.
#[test]
fn text_between_elements_is_refused() {
    for text in [
        "x",
        "]",
        ">",
        "&lt;",
        "&#32;",
        "\u{e4}",
        "<a/>\n x",
        "<![CDATA[",
    ] {
        fails_at_last_byte(&in_stream(text), |error| {
            *error == XmlError::TextBetweenElements
        });
    }
    fails_at_last_byte(&in_stream("\u{1}"), ill_formed);
    fails_at_last_byte(&in_stream("\u{fffe}"), ill_formed);
}
