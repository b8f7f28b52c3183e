//! Random streams, compared with two other parsers and with themselves split.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rxml::{Options, Parse as _, Parser, WithOptions as _};

use super::*;

/// Namespaces that roots bind to `p0:` to `p2:`.
const URIS: [&str; 6] = [
    "urn:a",
    "urn:b?x=1&amp;y",
    "jabber:client",
    "http://etherx.jabber.org/streams",
    "urn:\u{e9}",
    "urn:a",
];

fn quoted(value: &str, double: bool) -> String {
    if double {
        format!("\"{}\"", value.replace('"', "&quot;"))
    } else {
        format!("'{}'", value.replace('\'', "&apos;"))
    }
}

fn reference() -> impl Strategy<Value = String> {
    select(vec![
        "&lt;",
        "&gt;",
        "&amp;",
        "&apos;",
        "&quot;",
        "&#65;",
        "&#x1F600;",
        "&#xa;",
        "&#09;",
        "&#13;",
    ])
    .prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = String> {
    let piece = prop_oneof!["[ a-z>'\"\\]\t\né漢]{0,6}", reference()];
    vec(piece, 0..3).prop_map(|pieces| pieces.concat())
}

fn blank() -> impl Strategy<Value = String> {
    "[ \n\t\r]{1,3}"
}

fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ a-z>'\"\n\r\té漢😀]{1,12}",
        2 => reference(),
        1 => Just("]] ".to_owned()),
        1 => "[a-z<&>\\] é]{0,10}".prop_filter_map("CDATA's end", |text| {
            (!text.contains("]]>")).then(|| format!("<![CDATA[{text}]]>"))
        }),
    ]
}

prop_compose! {
    /// A tag's name, its attributes and declarations; `p0:` to `p2:` are bound outside, `q:` right here.
    fn tag()(
        prefix in select(vec!["", "", "", "p0:", "p1:", "p2:", "q:"]),
        local in "[a-zé_][a-z0-9.é-]{0,4}",
        attributes in vec((select(vec!["", "", "p0:", "q:"]), value(), any::<bool>(), blank(), blank()), 0..4),
        default in prop::option::weighted(0.3, select(vec!["", "urn:a", "urn:own", "jabber:client"])),
        shadow in prop::option::weighted(0.1, select(URIS.to_vec())),
        lang in prop::bool::weighted(0.1),
        end in "[ \n]{0,1}",
    ) -> (String, String) {
        let mut name = format!("{prefix}{local}");
        if name == "stream" {
            name.push('s');
        }
        let mut text = name.clone();
        for (index, (prefix, value, double, before, around)) in attributes.iter().enumerate() {
            let space = if *double { around } else { "" };
            text += &format!("{before}{prefix}a{index}{space}={space}{}", quoted(value, *double));
        }
        text += " xmlns:q='urn:q'";
        for (declares, uri) in [("xmlns", default), ("xmlns:p1", shadow)] {
            if let Some(uri) = uri {
                text += &format!(" {declares}=\"{uri}\"");
            }
        }
        if lang {
            text += " xml:lang='de'";
        }
        (name, text + &end)
    }
}

/// An element whose prefixes `p0:` to `p2:` are bound outside.
pub(super) fn element() -> impl Strategy<Value = String> {
    let leaf = tag().prop_map(|(_, tag)| format!("<{tag}/>"));
    leaf.prop_recursive(4, 24, 4, |inner| {
        let child = prop_oneof![inner, content()];
        (tag(), vec(child, 0..5), "[ \n]{0,1}").prop_map(|((name, tag), children, end)| {
            format!("<{tag}>{}</{name}{end}>", children.concat())
        })
    })
}

prop_compose! {
    /// The attributes of a root: a default namespace or none, and `p0:` to `p2:`.
    pub(super) fn root(default: Vec<&'static str>)(
        default in select(default),
        uris in vec(select(URIS.to_vec()), 3),
        double in any::<bool>(),
        before in blank(),
    ) -> String {
        let mut out = String::new();
        if !default.is_empty() {
            out += &format!("{before}xmlns={}", quoted(default, double));
        }
        for (index, uri) in uris.iter().enumerate() {
            out += &format!("{before}xmlns:p{index}={}", quoted(uri, !double));
        }
        out
    }
}

prop_compose! {
    /// A whole stream, and its elements.
    fn stream()(
        declaration in select(vec!["", "<?xml version='1.0'?>", "<?xml version=\"1.0\" encoding='UTF-8' ?>\n"]),
        root in root(vec!["", "jabber:client", "urn:d"]),
        elements in vec((element(), "[ \n\r\t]{0,2}"), 0..4),
        closed in prop::bool::weighted(0.9),
    ) -> (String, Vec<String>) {
        let mut text = format!("{declaration}<p0:stream{root}");
        if !closed {
            return (text + "/>", Vec::new());
        }
        text += ">";
        for (element, blanks) in &elements {
            text += &format!("{blanks}{element}");
        }
        text += "</p0:stream>\n";
        (text, elements.into_iter().map(|(element, _)| element).collect())
    }
}

/// Whether these are the frames of a whole document.
fn complete(framer: &Framer, (seen, error): &(Vec<Seen>, Option<XmlError>)) -> bool {
    error.is_none() && seen.last() == Some(&Seen::End) && framer.trailing_is_blank()
}

fn rxml_accepts(text: &[u8]) -> Result<(), rxml::Error> {
    let mut parser = Parser::with_options(Options {
        max_token_length: 1 << 20,
        ..Options::default()
    });
    let mut rest = text;
    loop {
        match parser.parse(&mut rest, true) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(rxml::error::EndOrError::Error(error)) => return Err(error),
            Err(rxml::error::EndOrError::NeedMoreData) => panic!("at the end there is no more"),
        }
    }
}

proptest! {
    /// S-24, S-34: the elements come out verbatim and named alike, however TCP splits the stream.
    #[test]
    fn s24_any_split((text, elements) in stream(), cuts in vec(any::<Index>(), 0..6)) {
        let mut framer = client();
        let all = feed(&mut framer, [text.as_bytes()]);
        prop_assert!(complete(&framer, &all), "{:?}", all.1);
        prop_assert!(rxml_accepts(text.as_bytes()).is_ok());
        let document = roxmltree::Document::parse(&text).unwrap();
        let mut children = document.root_element().children().filter(|node| node.is_element());
        let mut expected = elements.iter();
        for seen in &all.0 {
            if let Seen::Element { bytes, local, namespace } = seen {
                prop_assert_eq!(Some(std::str::from_utf8(bytes).unwrap()), expected.next().map(String::as_str));
                let name = children.next().unwrap().tag_name();
                prop_assert_eq!(name.name(), local);
                prop_assert_eq!(name.namespace().unwrap_or_default(), namespace);
            }
        }
        prop_assert_eq!(expected.next(), None);

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]);
        prop_assert_eq!(&feed(&mut client(), parts), &all);
        prop_assert_eq!(&byte_wise(text.as_bytes()), &all);
    }

    /// S-26, S-27, S-28: a stream with random damage is refused exactly when rxml refuses it.
    ///
    /// Deliberate differences: text between elements and another `stream` tag end a stream of ours (E-10,
    /// S-16); blanks may precede the declaration (T-25), which may name any version 1.x; a reference has at
    /// most 16 bytes. Comments, instructions, document types and entities both refuse.
    #[test]
    fn s27_damage(
        (text, _) in stream(),
        edits in vec((any::<Index>(), 0..3_u8, select(b"<>&;'\"=/:!?[]-# xaq0p1\t\0\x80\xc3\xef\xff".to_vec())), 1..3),
    ) {
        let mut text = text.into_bytes();
        for (at, kind, byte) in edits {
            let at = at.index(text.len());
            match kind {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => { text.remove(at); }
            }
        }
        let shown = String::from_utf8_lossy(&text);
        let mut framer = client();
        let all = feed(&mut framer, [&text[..]]);
        let ours = complete(&framer, &all);

        let mut again = client();
        let split = feed(&mut again, text.chunks(1));
        prop_assert_eq!(complete(&again, &split), ours, "byte by byte: {}", &shown);
        if ours {
            prop_assert_eq!(&split, &all);
        }

        let theirs = rxml_accepts(&text);
        let blank_first = text.first().is_some_and(u8::is_ascii_whitespace);
        let version = shown.contains("version='1.0'") || shown.contains("version=\"1.0\"") || !shown.contains("<?xml");
        let deliberate = all.1 == Some(XmlError::TextBetweenElements)
            || all.0.last() == Some(&Seen::NewDocument)
            || blank_first
            || !version;
        if !deliberate {
            prop_assert_eq!(ours, theirs.is_ok(), "{:?} against {:?}: {}", all.1, theirs, &shown);
        }
    }
}
