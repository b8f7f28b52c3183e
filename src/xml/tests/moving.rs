//! Elements moved between stream and body: what they mean stays, and so do their bytes but for the rules.

use super::*;
use crate::xml::ns;
use bytes::BytesMut;
use proptest::prelude::*;
use roxmltree::{Document, Node};

const BODY: &str = "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams' \
                    xmlns:json='urn:json' xmlns:s='http://etherx.jabber.org/streams'>";

fn for_body(element: &Element, lang: Option<&str>) -> String {
    let mut out = BytesMut::new();
    element.write_for_body(lang, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn for_stream(element: &Element, lang: Option<&str>) -> String {
    let mut out = BytesMut::new();
    element.write_for_stream(lang, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn up(xml: &str) -> String {
    for_body(&element_in(HEADER, xml), None)
}

fn down(xml: &str) -> String {
    for_stream(&element_in(BODY, xml), None)
}

/// X-02, S-31: whatever an element took from the stream header stands on it.
#[test]
fn up_declares_what_came_from_the_header() {
    assert_eq!(up("<presence/>"), "<presence xmlns='jabber:client'/>");
    assert_eq!(
        up("<iq  id='1'><q xmlns='urn:q'/></iq>"),
        "<iq xmlns='jabber:client'  id='1'><q xmlns='urn:q'/></iq>"
    );
    assert_eq!(
        up("<message xmlns='jabber:client'/>"),
        "<message xmlns='jabber:client'/>"
    );
    assert_eq!(
        up("<a to='b' xmlns=\"urn:a\"><c/></a>"),
        "<a to='b' xmlns=\"urn:a\"><c/></a>"
    );
    assert_eq!(up("<p:a xmlns:p='urn:p'/>"), "<p:a xmlns:p='urn:p'/>");
    assert_eq!(
        up("<p:a xmlns:p='urn:p'><b/></p:a>"),
        "<p:a xmlns='jabber:client' xmlns:p='urn:p'><b/></p:a>"
    );
    let root = "<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams' xmlns:x='urn:&amp;&apos;' xmlns:y='urn:y'>";
    let moved = |xml| for_body(&element_in(root, xml), None);
    assert_eq!(
        moved("<iq><x:y/></iq>"),
        "<iq xmlns='jabber:client' xmlns:x='urn:&amp;&apos;'><x:y/></iq>"
    );
    assert_eq!(
        moved("<iq x:a='' xml:lang=''/>"),
        "<iq xmlns='jabber:client' xmlns:x='urn:&amp;&apos;' x:a='' xml:lang=''/>"
    );
    assert_eq!(
        moved("<iq><x:a xmlns:x='urn:in'/></iq>"),
        "<iq xmlns='jabber:client'><x:a xmlns:x='urn:in'/></iq>"
    );
    assert_eq!(
        moved("<iq><x:a xmlns:x='urn:in'/><y:b><y:c/></y:b></iq>"),
        "<iq xmlns='jabber:client' xmlns:y='urn:y'><x:a xmlns:x='urn:in'/><y:b><y:c/></y:b></iq>"
    );
    // No default namespace at all: httpbind must not take its place.
    let bare = element_in(
        "<s:stream xmlns:s='http://etherx.jabber.org/streams'>",
        "<a/>",
    );
    assert_eq!(for_body(&bare, None), "<a xmlns=''/>");
}

/// S-31, E-11: a prefixed stanza is recognised.
#[test]
fn prefixed_stanzas_are_known() {
    let root = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>";
    assert!(element_in(root, "<c:message/>").is_prefixed_stanza());
    assert!(!element_in(root, "<c:query/>").is_prefixed_stanza());
    assert!(!element_in(HEADER, "<message/>").is_prefixed_stanza());
    assert!(!element_in(HEADER, "<message xmlns='urn:x'/>").is_stanza());
    assert!(!element_in(HEADER, "<p:message xmlns:p='urn:x'/>").is_stanza());
}

/// S-33: stanzas without their own language get the stream's; nothing else does.
#[test]
fn language_is_added_to_stanzas_only() {
    let moved = |xml| for_body(&element_in(HEADER, xml), Some("de'"));
    assert_eq!(
        moved("<message><body/></message>"),
        "<message xmlns='jabber:client' xml:lang='de&apos;'><body/></message>"
    );
    assert_eq!(
        moved("<message xml:lang='en'/>"),
        "<message xmlns='jabber:client' xml:lang='en'/>"
    );
    assert_eq!(
        moved("<message xml:lang=''/>"),
        "<message xmlns='jabber:client' xml:lang=''/>"
    );
    assert_eq!(moved("<auth xmlns='urn:a'/>"), "<auth xmlns='urn:a'/>");
    let moved = |xml| for_stream(&element_in(BODY, xml), Some("de"));
    assert_eq!(
        moved("<message xmlns='jabber:client'/>"),
        "<message xml:lang='de'/>"
    );
    assert_eq!(moved("<message/>"), "<message xml:lang='de'/>");
    assert_eq!(moved("<stream:features/>"), "<stream:features/>");
    assert_eq!(
        element_in(HEADER, "<iq xml:lang='a&amp;b'/>")
            .lang()
            .as_deref(),
        Some("a&b")
    );
}

/// X-03, T-22: a stanza left in the httpbind namespace falls into jabber:client with all that inherited it.
#[test]
fn down_httpbind_becomes_client() {
    let xml = "<message from='a'><body>x</body><x xmlns='urn:x'><y/></x></message>";
    assert_eq!(down(xml), xml);
    assert!(element_in(BODY, xml).is_stanza());
    let bare = element_in(
        "<b:body xmlns:b='http://jabber.org/protocol/httpbind'>",
        xml,
    );
    assert!(bare.is_stanza());
    assert_eq!(for_stream(&bare, None), xml);
    let explicit = "<message xmlns='http://jabber.org/protocol/httpbind'/>";
    assert!(!element_in(BODY, explicit).is_stanza());
    assert_eq!(down(explicit), explicit);
}

/// S-32: the redundant declaration goes, others stay, those of the body come along.
#[test]
fn down_declarations() {
    assert_eq!(
        down("<iq xmlns='jabber:client' id='1'><q xmlns='urn:q'/></iq>"),
        "<iq id='1'><q xmlns='urn:q'/></iq>"
    );
    assert_eq!(
        down("<iq id=\"1\"\n xmlns=\"jabber:client\"/>"),
        "<iq id=\"1\"/>"
    );
    assert_eq!(down("<iq xmlns='jabber:client'\n/>"), "<iq\n/>");
    assert_eq!(
        down("<iq xmlns='jabber:client'><a xmlns='jabber:client'/></iq>"),
        "<iq><a xmlns='jabber:client'/></iq>"
    );
    assert_eq!(
        down("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    );
    assert_eq!(
        down("<iq xmlns='jabber:client'><json:a/></iq>"),
        "<iq xmlns:json='urn:json'><json:a/></iq>"
    );
    let other = element_in(
        "<b:body xmlns:b='http://jabber.org/protocol/httpbind' xmlns='urn:d'>",
        "<b:a><c/></b:a>",
    );
    assert_eq!(
        for_stream(&other, None),
        "<b:a xmlns='urn:d' xmlns:b='http://jabber.org/protocol/httpbind'><c/></b:a>"
    );
    let client = element_in(
        "<b:body xmlns:b='http://jabber.org/protocol/httpbind' xmlns='jabber:client'>",
        "<iq><c/></iq>",
    );
    assert_eq!(for_stream(&client, None), "<iq><c/></iq>");
}

/// S-32: elements of the streams namespace always get the prefix `stream`.
#[test]
fn down_stream_elements_get_their_prefix() {
    let inside = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
    let wanted = format!("<stream:features>{inside}</stream:features>");
    assert_eq!(down(&wanted), wanted);
    assert_eq!(down(&format!("<s:features>{inside}</s:features >")), wanted);
    assert_eq!(
        down(&format!(
            "<features xmlns='http://etherx.jabber.org/streams'>{inside}</features>"
        )),
        wanted
    );
    assert_eq!(
        down(&format!(
            "<t:features a='1' xmlns:t='http://etherx.jabber.org/streams'>{inside}</t:features>"
        )),
        format!(
            "<stream:features a='1' xmlns:t='http://etherx.jabber.org/streams'>{inside}</stream:features>"
        ),
    );
    let own = "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><x xmlns='urn:x'/></stream:error>";
    assert_eq!(down(own), own);
    assert_eq!(down("<s:error s:a='' json:b=''/>"), "<stream:error xmlns:json='urn:json' xmlns:s='http://etherx.jabber.org/streams' s:a='' json:b=''/>".replace("xmlns:json='urn:json' xmlns:s='http://etherx.jabber.org/streams'", "xmlns:s='http://etherx.jabber.org/streams' xmlns:json='urn:json'"));
    assert_eq!(
        down("<iq xmlns='jabber:client'><s:a><b/><![CDATA[<]]></s:a></iq>"),
        "<iq><stream:a><b/><![CDATA[<]]></stream:a></iq>"
    );
    // The prefix stands for something else: then it keeps its own.
    let taken =
        "<s:a xmlns:stream='urn:x' xmlns:s='http://etherx.jabber.org/streams'><stream:b/></s:a>";
    assert_eq!(down(taken), taken);
}

#[test]
fn elements_of_our_own_can_be_read_back() {
    let iq = Element::parse("<iq type='result' id='a&amp;b'>x<![CDATA[<y>]]>&#33;</iq>").unwrap();
    assert!(iq.is(ns::CLIENT, "iq"));
    assert_eq!(iq.attr("id").as_deref(), Some("a&b"));
    assert_eq!(
        (iq.attr("none"), iq.attr("xmlns"), iq.lang()),
        (None, None, None)
    );
    let [none, id, xmlns, kind] = iq.attrs(["none", "id", "xmlns", "type"]);
    assert_eq!((none, id.as_deref()), (None, Some("a&b")));
    assert_eq!((xmlns, kind.as_deref()), (None, Some("result")));
    assert_eq!(iq.text().as_deref(), Some("x<y>!"));
    assert!(
        Element::parse("<a/><b/>").is_err()
            && Element::parse("<a>").is_err()
            && Element::parse("").is_err()
    );
}

/// Elements, attributes and text as roxmltree understands them, with the namespace `from` read as `to`.
fn infoset(node: Node<'_, '_>, from: &str, to: &str, out: &mut String) {
    if let Some(text) = node.text().filter(|_| node.is_text()) {
        out.push_str(&format!("{text:?}"));
        return;
    }
    let name = node.tag_name();
    let namespace = name.namespace().unwrap_or_default();
    out.push_str(&format!(
        "({{{}}}{}",
        if namespace == from { to } else { namespace },
        name.name()
    ));
    let mut attributes: Vec<_> = node
        .attributes()
        .map(|a| (a.namespace(), a.name(), a.value()))
        .collect();
    attributes.sort_unstable();
    out.push_str(&format!("{attributes:?}"));
    node.children()
        .for_each(|child| infoset(child, from, to, out));
    out.push(')');
}

/// The infoset of the only element under `root`.
fn infoset_of(root: &str, xml: &str, end: &str, from: &str, to: &str) -> String {
    let document = format!("{root}{xml}{end}");
    let parsed = Document::parse(&document).unwrap_or_else(|e| panic!("{document}: {e}"));
    let mut out = String::new();
    infoset(
        parsed.root_element().first_element_child().unwrap(),
        from,
        to,
        &mut out,
    );
    out
}

proptest! {
    #![proptest_config(same_cases(600))]

    /// S-34, S-31: infoset in = infoset out, from the stream into a body.
    #[test]
    fn up_keeps_the_infoset(tape in generate::tape(), default in prop::sample::select(&["jabber:client", "urn:other", ""][..])) {
        let root = format!("<r:stream xmlns:r='urn:r' xmlns='{default}' xmlns:p='urn:p' xmlns:stream='{}' xmlns:q='urn:q&amp;'>", ns::STREAMS);
        let mut writer = generate::Writer::new(&tape, &[("p", "urn:p"), ("stream", ns::STREAMS), ("q", "urn:q&")]);
        writer.element(0);
        let element = element_in(&root, &writer.out);
        let out = for_body(&element, None);
        let wrapper = "<body xmlns='http://jabber.org/protocol/httpbind'>";
        prop_assert_eq!(
            infoset_of(&root, &writer.out, "</r:stream>", "-", "-"),
            infoset_of(wrapper, &out, "</body>", "-", "-"),
            "{}", out
        );
        // Nothing but declarations behind the name was added.
        let (name, rest) = element.split_at_name();
        prop_assert!(out.as_bytes().starts_with(name) && out.as_bytes().ends_with(rest));
    }

    /// S-34, S-32, X-03: the same from a body into the stream, httpbind read as jabber:client.
    #[test]
    fn down_keeps_the_infoset(tape in generate::tape(), default in prop::sample::select(&[ns::HTTPBIND, ns::CLIENT, "urn:other"][..])) {
        let root = format!("<r:body xmlns:r='urn:r' xmlns='{default}' xmlns:p='{}' xmlns:stream='{}' xmlns:q='urn:q&amp;'>", ns::STREAMS, ns::STREAMS);
        let mut writer = generate::Writer::new(&tape, &[("p", ns::STREAMS), ("stream", ns::STREAMS), ("q", "urn:q&")]);
        writer.element(0);
        let element = element_in(&root, &writer.out);
        let out = for_stream(&element, None);
        prop_assert_eq!(
            infoset_of(&root, &writer.out, "</r:body>", ns::HTTPBIND, ns::CLIENT),
            infoset_of(HEADER, &out, "</stream:stream>", "-", "-"),
            "{}", out
        );
        if !writer.out.contains("xmlns:stream") {
            let again = element_in(HEADER, &out);
            let mut resolver = crate::xml::element::Resolver::new(again.scope());
            for token in crate::xml::walk::Walk::new(again.bytes()) {
                if let Some((namespace, name)) = resolver.step(&token) {
                    prop_assert_eq!(namespace == ns::STREAMS, name.starts_with("stream:"), "{}", out);
                }
                resolver.settle(&token);
            }
        }
    }
}
