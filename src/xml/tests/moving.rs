//! Elements on their way from one document to another keep their meaning.

use bytes::BytesMut;
use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::oracle::{element, root};
use super::*;

const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
const STREAM: &str = "http://etherx.jabber.org/streams";
const BODY: &str = "<body xmlns='http://jabber.org/protocol/httpbind'>";

/// Namespaces, names, attributes and text of an element; with `rename`, as if one namespace were another.
fn infoset(node: Node<'_, '_>, rename: Option<(&str, &str)>) -> String {
    if node.is_text() {
        return node.text().unwrap_or_default().to_owned();
    }
    let namespace = node.tag_name().namespace().unwrap_or_default();
    let namespace = rename.map_or(
        namespace,
        |(from, to)| if namespace == from { to } else { namespace },
    );
    let mut attributes: Vec<String> = node
        .attributes()
        .map(|a| {
            format!(
                " {{{}}}{}={:?}",
                a.namespace().unwrap_or_default(),
                a.name(),
                a.value()
            )
        })
        .collect();
    attributes.sort();
    let children: String = node
        .children()
        .map(|child| infoset(child, rename))
        .collect();
    let name = node.tag_name().name();
    format!(
        "<{{{namespace}}}{name}{}>{children}</>",
        attributes.concat()
    )
}

fn only_child(text: &str, rename: Option<(&str, &str)>) -> String {
    let document = Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let root = document.root_element();
    assert_eq!(root.children().count(), 1, "{text}");
    infoset(root.first_element_child().unwrap(), rename)
}

fn moved(element: &Element, write: impl Fn(&Element, &mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(element, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// The only element behind this root tag, as it stands in a body.
fn up(root: &str, element: &str, lang: Option<&str>) -> String {
    let all = elements(&format!("{root}{element}"));
    assert_eq!(all.len(), 1);
    moved(&all[0], |e, out| e.write_for_body(lang, out))
}

/// The only element behind this root tag, as it stands on a client's stream.
fn down(root: &str, element: &str, lang: Option<&str>) -> String {
    let all = elements(&format!("{root}{element}"));
    assert_eq!(all.len(), 1);
    moved(&all[0], |e, out| e.write_for_stream(lang, out))
}

/// Moves up, and compares what it means in all three places: the stream, the body, and alone.
fn check_up(root: &str, name: &str, element: &str) -> String {
    let original = only_child(&format!("{root}{element}</{name}>"), None);
    let out = up(root, element, None);
    assert_eq!(
        only_child(&format!("{BODY}{out}</body>"), None),
        original,
        "{out}"
    );
    assert_eq!(
        only_child(&format!("<alone>{out}</alone>"), None),
        original,
        "{out}"
    );
    out
}

/// Moves down, and compares; what inherited the wrapper's namespace is in jabber:client.
fn check_down(root: &str, name: &str, element: &str) -> String {
    let original = only_child(
        &format!("{root}{element}</{name}>"),
        Some((HTTPBIND, "jabber:client")),
    );
    let out = down(root, element, None);
    assert_eq!(
        only_child(&format!("{HEADER}{out}</stream:stream>"), None),
        original,
        "{out}"
    );
    out
}

proptest! {
    /// S-31, S-34, X-02: whatever the stream header declared, an element means the same in a body, and
    /// needs nothing from it.
    #[test]
    fn s31_up(
        root in root(vec!["", "jabber:client", "urn:d", "http://etherx.jabber.org/streams"]),
        element in element(),
    ) {
        check_up(&format!("<s{root}>"), "s", &element);
    }

    /// S-32, S-34, X-03: whatever the body declared, an element means the same on the stream.
    #[test]
    fn s32_down(
        root in root(vec![HTTPBIND, HTTPBIND, "", "jabber:client", "urn:d", STREAM]),
        element in element(),
    ) {
        let out = check_down(&format!("<b{root}>"), "b", &element);
        let text = format!("{HEADER}{out}</stream:stream>");
        let document = Document::parse(&text).unwrap();
        let top = document.root_element().first_element_child().unwrap();
        if top.tag_name().namespace() == Some(STREAM) {
            prop_assert!(out.starts_with("<stream:"), "{}", out);
        }
    }

    /// S-34: up and down again, the same; both ways the result is accepted once more.
    #[test]
    fn s34_there_and_back(root in root(vec!["", "jabber:client", "urn:d"]), element in element()) {
        let root = format!("<s{root}>");
        let in_body = check_up(&root, "s", &element);
        check_down(BODY, "body", &in_body);
    }
}

/// S-31, X-02: what an element used of the header is declared on it, and nothing else.
#[test]
fn s31_golden() {
    let usual = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:x='urn:x'>";
    let prefix_free = "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>";
    for (root, name, element, expected) in [
        (
            usual,
            "stream:stream",
            "<message/>",
            "<message xmlns='jabber:client'/>",
        ),
        (
            usual,
            "stream:stream",
            "<message />",
            "<message xmlns='jabber:client' />",
        ),
        (
            usual,
            "stream:stream",
            "<iq\nid='1'></iq >",
            "<iq xmlns='jabber:client'\nid='1'></iq >",
        ),
        // An own declaration stays where and as it is.
        (
            usual,
            "stream:stream",
            "<iq id='1' xmlns = \"jabber:client\"/>",
            "<iq id='1' xmlns = \"jabber:client\"/>",
        ),
        (
            usual,
            "stream:stream",
            "<r xmlns='urn:xmpp:sm:3'/>",
            "<r xmlns='urn:xmpp:sm:3'/>",
        ),
        (
            usual,
            "stream:stream",
            "<a xmlns=''><b/></a>",
            "<a xmlns=''><b/></a>",
        ),
        // S-31: `x:y` in a stanza, on it, and as an attribute.
        (
            usual,
            "stream:stream",
            "<message><x:y/></message>",
            "<message xmlns='jabber:client' xmlns:x='urn:x'><x:y/></message>",
        ),
        (
            usual,
            "stream:stream",
            "<message x:a=''/>",
            "<message xmlns='jabber:client' xmlns:x='urn:x' x:a=''/>",
        ),
        // Rebound inside before its use: nothing of the header is needed.
        (
            usual,
            "stream:stream",
            "<message><a xmlns:x='urn:other'><x:y/></a></message>",
            "<message xmlns='jabber:client'><a xmlns:x='urn:other'><x:y/></a></message>",
        ),
        // The unprefixed children of a prefixed element inherit the header's default.
        (
            usual,
            "stream:stream",
            "<x:y><z/></x:y>",
            "<x:y xmlns='jabber:client' xmlns:x='urn:x'><z/></x:y>",
        ),
        (
            usual,
            "stream:stream",
            "<x:y xmlns='urn:z'><z/></x:y>",
            "<x:y xmlns:x='urn:x' xmlns='urn:z'><z/></x:y>",
        ),
        (usual, "stream:stream", "<x:y/>", "<x:y xmlns:x='urn:x'/>"),
        // The prefix-free header style: its default is that of the stream.
        (
            prefix_free,
            "stream",
            "<c:message><c:body/></c:message>",
            "<c:message xmlns:c='jabber:client'><c:body/></c:message>",
        ),
        (
            prefix_free,
            "stream",
            "<error/>",
            "<error xmlns='http://etherx.jabber.org/streams'/>",
        ),
        ("<s:s xmlns:s='urn:s'>", "s:s", "<a/>", "<a xmlns=''/>"),
        (
            "<s xmlns='a&amp;b&apos;'>",
            "s",
            "<a/>",
            "<a xmlns='a&amp;b&apos;'/>",
        ),
    ] {
        assert_eq!(check_up(root, name, element), expected);
    }
}

/// S-32, X-03, T-22: what a manager's body declares, and what it forgets to.
#[test]
fn s32_golden() {
    let json = "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:json='urn:json' xmlns:stream='http://etherx.jabber.org/streams' xmlns:s='http://etherx.jabber.org/streams'>";
    let other = "<b:body xmlns:b='http://jabber.org/protocol/httpbind' xmlns='jabber:client' xmlns:stream='urn:not-streams'>";
    for (root, element, expected) in [
        // T-22: the whole subtree is in jabber:client.
        (
            json,
            "<message><body>a</body></message>",
            "<message><body>a</body></message>",
        ),
        // A redundant declaration goes, wherever and however it is written.
        (json, "<iq xmlns='jabber:client' id='1'/>", "<iq id='1'/>"),
        (
            json,
            "<iq id='1' xmlns=\"jabber:client\" to='a'><q xmlns='u'/></iq>",
            "<iq id='1' to='a'><q xmlns='u'/></iq>",
        ),
        (
            json,
            "<iq id='1'\n\txmlns\n=\n'jabber:client'\n/>",
            "<iq id='1'\n/>",
        ),
        // What inherits it inside a prefixed element needs it.
        (
            json,
            "<json:a xmlns='jabber:client'><b/></json:a>",
            "<json:a xmlns:json='urn:json' xmlns='jabber:client'><b/></json:a>",
        ),
        (
            json,
            "<message><json:a/></message>",
            "<message xmlns:json='urn:json'><json:a/></message>",
        ),
        (
            json,
            "<a xmlns='urn:a'><json:b/></a>",
            "<a xmlns:json='urn:json' xmlns='urn:a'><json:b/></a>",
        ),
        // Stream elements.
        (json, "<stream:features/>", "<stream:features/>"),
        (
            json,
            "<s:features/>",
            "<stream:features xmlns:s='http://etherx.jabber.org/streams'/>",
        ),
        (
            json,
            "<s:error><text xmlns='urn:t'>no</text></s:error >",
            "<stream:error xmlns:s='http://etherx.jabber.org/streams'><text xmlns='urn:t'>no</text></stream:error>",
        ),
        (
            json,
            "<features xmlns='http://etherx.jabber.org/streams'><sub/></features>",
            "<stream:features xmlns='http://etherx.jabber.org/streams'><sub/></stream:features>",
        ),
        (
            json,
            "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>",
            "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>",
        ),
        // A wrapper with a prefix.
        (other, "<message/>", "<message/>"),
        (
            other,
            "<stream:a/>",
            "<stream:a xmlns:stream='urn:not-streams'/>",
        ),
        // The prefix `stream` already means something else on the element: it cannot be used.
        (
            json,
            "<s:error xmlns:stream='urn:x'><stream:y/></s:error>",
            "<s:error xmlns:s='http://etherx.jabber.org/streams' xmlns:stream='urn:x'><stream:y/></s:error>",
        ),
        (
            other,
            "<error xmlns='http://etherx.jabber.org/streams'><stream:y/></error>",
            "<error xmlns:stream='urn:not-streams' xmlns='http://etherx.jabber.org/streams'><stream:y/></error>",
        ),
    ] {
        let name = if root.starts_with("<b:") {
            "b:body"
        } else {
            "body"
        };
        assert_eq!(check_down(root, name, element), expected);
    }
}

/// a manager that moves nodes between documents may spell the wrong namespace out.
#[test]
fn x03_wrapper_namespace_spelt_out() {
    let stanza = format!("<message a='' xmlns='{HTTPBIND}'><body>a</body></message>");
    assert_eq!(
        check_down(BODY, "body", &stanza),
        "<message a=''><body>a</body></message>"
    );
}

/// S-33: a stanza without `xml:lang` gets the stream's; one that has it, and what is no stanza, does not.
#[test]
fn s33_lang() {
    let of = |element: &str| {
        (
            up(HEADER, element, Some("d'e")),
            down(BODY, element, Some("d'e")),
        )
    };
    assert_eq!(
        of("<message/>"),
        (
            "<message xmlns='jabber:client' xml:lang='d&apos;e'/>".to_owned(),
            "<message xml:lang='d&apos;e'/>".to_owned()
        )
    );
    for stanza in ["presence", "iq"] {
        let (up, down) = of(&format!("<{stanza} id='1'/>"));
        assert!(up.contains(" xml:lang=") && down.contains(" xml:lang="));
    }
    for own in [
        "<message xml:lang='fr'/>",
        "<message id='1' xml:lang=\"\" />",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<message xmlns='urn:other'/>",
    ] {
        let (up, down) = of(own);
        assert!(!up.contains("d&apos;e"), "{up}");
        assert!(!down.contains("d&apos;e"), "{down}");
    }
    let (up, down) = of("<message><body xml:lang='fr'/></message>");
    assert!(
        up.contains("d&apos;e") && down.contains("d&apos;e"),
        "a child's does not count"
    );
}

/// S-34: CDATA, references and odd white space go through as they came.
#[test]
fn s34_verbatim() {
    let inside = " id = \"a'&#10;b&lt;\"\r\n>\r\n<![CDATA[<&]]]]>&#x1F600; ]] &gt;\t<b></b  ><c />";
    let element = format!("<message{inside}</message\n>");
    assert_eq!(
        check_up(HEADER, "stream:stream", &element),
        format!("<message xmlns='jabber:client'{inside}</message\n>")
    );
    assert_eq!(check_down(BODY, "body", &element), element);
}
