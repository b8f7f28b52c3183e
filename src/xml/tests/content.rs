//! What is read out of elements and roots.

use proptest::prelude::*;
use roxmltree::Document;

use super::oracle::{element, root};
use super::*;

proptest! {
    /// The few elements that are looked into are understood like another parser does.
    #[test]
    fn accessors(root in root(vec!["", "jabber:client", "urn:d"]), element in element()) {
        // roxmltree keeps a carriage return in front of a reference.
        let text = format!("<s{root}>{element}</s>").replace('\r', "\n");
        let document = Document::parse(&text).unwrap();
        let node = document.root_element().first_element_child().unwrap();
        let ours = &elements(&text)[0];
        let name = node.tag_name();
        prop_assert!(ours.is(name.namespace().unwrap_or_default(), name.name()));
        for attribute in node.attributes().filter(|a| a.namespace().is_none()) {
            let value = ours.attr(attribute.name());
            prop_assert_eq!(value.as_deref(), Some(attribute.value()));
        }
        prop_assert_eq!(ours.attr("b"), None);
        let lang = ours.lang();
        let expected = node.attribute(("http://www.w3.org/XML/1998/namespace", "lang"));
        prop_assert_eq!(lang.as_deref(), expected);
        let children: Vec<_> = node
            .children()
            .filter(|n| n.is_element())
            .map(|n| {
                let name = n.tag_name();
                (name.namespace().unwrap_or_default().to_owned(), name.name().to_owned())
            })
            .collect();
        prop_assert_eq!(ours.child_names(), children);
        let content: String = node.children().filter(|n| n.is_text()).filter_map(|n| n.text()).collect();
        prop_assert_eq!(ours.text().unwrap_or_default(), content);
    }
}

/// XML 1.0 section 2.11: line ends are read as one line feed, except where a reference made them.
#[test]
fn line_ends() {
    let element = "<a>\r\n1\r2\n&#13;3<![CDATA[\r\n]]><b>no</b></a>";
    let text = elements(&format!("{HEADER}{element}"))[0].text();
    assert_eq!(text.as_deref(), Some("\n1\n2\n\r3\n"));
}

/// B-10, B-11: text in a manager's body is kept up to a bound, and what it may not hold is refused.
#[test]
fn b11_root_text() {
    let run = |text: &str, size: usize| {
        let mut framer = Framer::new(LIMITS, RootText::Collect);
        let (seen, error) = feed(&mut framer, text.as_bytes().chunks(size));
        (seen, error, framer.root_text().to_owned())
    };
    let long = "漢a".repeat(2000);
    for (inside, expected) in [
        (
            "  host &lt;a&gt; is\n gone <a/> for good\n",
            "host <a> is\n gone  for good\n",
        ),
        (" \n<a/>\t", ""),
        (&long, &long[..1024]),
    ] {
        let text = format!("<body>{inside}</body>");
        let all = run(&text, text.len());
        assert_eq!((&all.1, all.2.as_str()), (&None, expected));
        assert_eq!(all.0.last(), Some(&Seen::End));
        for size in 1..9 {
            assert_eq!(run(&text, size), all);
        }
    }
    for bad in [
        "a &foo; ",
        "&foo;",
        "<!-- -->",
        "<?p?>",
        "]]>",
        "a \u{1}",
        "<![CDATA[a]]>",
        "& ",
    ] {
        for size in [1, 3, 100] {
            let (_, error, _) = run(&format!("<body>{bad}</body>"), size);
            assert!(error.is_some(), "{bad}");
        }
    }
}

/// B-11: the root's own end is told however it is written, once, and what follows it can be seen.
#[test]
fn b11_empty_root() {
    for text in [
        "<body/>",
        "<body></body>",
        "<body  />\n",
        "<?xml version='1.0'?>\n<body > </body\n> ",
    ] {
        let mut framer = Framer::new(LIMITS, RootText::Collect);
        let (seen, error) = feed(&mut framer, text.as_bytes().chunks(1));
        assert_eq!((seen.len(), error), (2, None), "{text}");
        assert_eq!(seen[1], Seen::End);
        assert!(framer.trailing_is_blank());
        framer.push(b" x");
        assert!(matches!(framer.next_frame(), Ok(None)));
        assert_eq!(framer.first_byte(), Some(b'x'));
    }
}

/// The header's names and attributes are resolved, references and all.
#[test]
fn s14_header_styles() {
    for (text, prefix) in [
        (
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' to='a&apos;b' xml:lang='en'>",
            Some("stream"),
        ),
        (
            "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client' to='a&#39;b' xml:lang='en'>",
            None,
        ),
        (
            "<s:stream to=\"a'b\" xml:lang=\"en\" xmlns:s=\"http://etherx.jabber.org/stream&#115;\">",
            Some("s"),
        ),
    ] {
        let mut framer = client();
        framer.push(text.as_bytes());
        let Ok(Some(Frame::Header(header))) = framer.next_frame() else {
            panic!("no header: {text}");
        };
        assert_eq!(header.prefix.as_deref(), prefix);
        assert_eq!(
            (header.local.as_str(), header.namespace.as_str()),
            ("stream", "http://etherx.jabber.org/streams")
        );
        assert_eq!(
            (header.attr("to"), header.lang()),
            (Some("a'b"), Some("en"))
        );
        assert_eq!(header.attr("lang"), None);
    }
}
