//! Stanzas both ways, backpressure, languages, namespaces.

use super::*;

/// S-21: blanks between stanzas are no request; S-23: nor does a client that says nothing time out.
#[test]
fn s21_whitespace_makes_no_request() {
    let (mut rig, mut poll) = Rig::online();
    for _ in 0..1000 {
        rig.client(" \n");
    }
    rig.no_request();
    for _ in 0..12 {
        rig.pass(Duration::from_secs(55));
        rig.payload(&poll, "");
        poll = rig.request();
    }
    assert_eq!(rig.output(), "");
    assert!(!rig.bridge.is_client_closed());
}

/// X-02, S-31, S-33: stanzas go up with their own namespace and the stream's language.
#[test]
fn s33_language_goes_up_with_stanzas() {
    let mut rig = Rig::new();
    rig.client(&HEADER.replace(" to=", " xml:lang='de' to="));
    let creation = rig.request();
    rig.reply(&creation, GRANT, SASL_FEATURES);
    rig.client("<message id='1'/><message id='2' xml:lang='fr'/>");
    let sent = text(&rig.request());
    let document = roxmltree::Document::parse(&sent).unwrap();
    let lang = ("http://www.w3.org/XML/1998/namespace", "lang");
    let langs: Vec<_> = document
        .root_element()
        .children()
        .map(|m| (m.tag_name().namespace(), m.attribute(lang)))
        .collect();
    assert_eq!(
        langs,
        [
            (Some("jabber:client"), Some("de")),
            (Some("jabber:client"), Some("fr"))
        ]
    );
}

/// S-33: a body's language is copied to its stanzas where it differs from the stream's.
#[test]
fn s33_language_comes_down() {
    let (mut rig, poll) = Rig::online();
    rig.reply(
        &poll,
        "xml:lang='de'",
        "<message xmlns='jabber:client' id='1'/>",
    );
    assert_eq!(rig.output(), "<message xml:lang='de' id='1'/>");
    let poll = rig.request();
    rig.reply(
        &poll,
        "xml:lang='en'",
        "<message xmlns='jabber:client' id='1'/>",
    );
    assert_eq!(rig.output(), "<message id='1'/>");
}

/// X-03, T-22: a stanza without namespace falls into jabber:client with everything inside it.
#[test]
fn x03_missing_namespace() {
    let (mut rig, poll) = Rig::online();
    rig.payload(&poll, "<message id='1'><body>hi</body></message>");
    assert_eq!(rig.output(), "<message id='1'><body>hi</body></message>");
}

/// S-24: stanzas split at any byte reach the manager whole and in order.
#[test]
fn s24_split_anywhere() {
    let script = "<message id='1'><body>a&amp;b</body></message> <presence/><iq id='2'/>";
    for cut in 1..script.len() {
        let (mut rig, poll) = Rig::online();
        rig.client(&script[..cut]);
        rig.client(&script[cut..]);
        let mut sent = text(&rig.request());
        rig.payload(&poll, "");
        if !sent.contains("<iq") {
            sent += &text(&rig.request());
        }
        let at = |needle: &str| {
            sent.find(needle)
                .unwrap_or_else(|| panic!("{cut}: {needle} in {sent}"))
        };
        assert!(at("<message") < at("<presence") && at("<presence") < at("<iq"));
    }
}

/// E-08 to E-13: bad XML in mid-stream gets its error; the session is ended.
#[test]
fn e08_to_e13_bad_xml_in_stream() {
    let deep = "<a>".repeat(40);
    let big = format!("<message><body>{}</body></message>", "x".repeat(20_000));
    let wide: String = (0..20).map(|n| format!(" a{n}=''")).collect();
    for (bad, condition) in [
        ("<!-- x -->", "restricted-xml"),
        ("<message>&nbsp;</message>", "restricted-xml"),
        ("<?php ?>", "restricted-xml"),
        ("<message></iq>", "not-well-formed"),
        ("<foo:body/>", "not-well-formed"),
        ("hello", "bad-format"),
        (deep.as_str(), "policy-violation"),
        (big.as_str(), "policy-violation"),
        (&format!("<message{wide}/>"), "policy-violation"),
        (
            "<c:message xmlns:c='jabber:client'/>",
            "bad-namespace-prefix",
        ),
        ("<stream:other/>", "unsupported-stanza-type"),
        (
            "<db:result xmlns:db='jabber:server:dialback'/>",
            "unsupported-stanza-type",
        ),
        (HEADER, "unsupported-stanza-type"),
    ] {
        let (mut rig, _poll) = Rig::online();
        rig.client(bad);
        let output = rig.output();
        let (got, _, app) = stream_error(&output);
        assert_eq!(got, condition, "{bad}");
        if condition == "policy-violation" {
            assert_eq!(app.as_deref(), Some("stanza-too-big"), "S-29");
        }
        let terminate = text(&rig.request());
        assert!(
            terminate.contains("type='terminate'/>"),
            "S-20, {bad}: {terminate}"
        );
    }
}

/// S-29: the element limit is exact.
#[test]
fn s29_element_limit() {
    for (extra, fits) in [(0, true), (1, false)] {
        let (mut rig, _poll) = Rig::online();
        let frame = "<message><body></body></message>".len();
        rig.client(&format!(
            "<message><body>{}</body></message>",
            "x".repeat(20_000 - frame + extra)
        ));
        assert_eq!(rig.fault().is_none(), fits);
    }
}

/// S-30: an unknown first-level element goes to the server, which judges.
#[test]
fn s30_unknown_elements_pass() {
    let (mut rig, _poll) = Rig::online();
    rig.client("<inactive xmlns='urn:xmpp:csi:0'/>");
    assert!(text(&rig.request()).contains("<inactive xmlns='urn:xmpp:csi:0'/>"));
    let (mut rig, _poll) = Rig::online();
    rig.client("<thing xmlns='urn:example'/>");
    assert!(text(&rig.request()).contains("<thing xmlns='urn:example'/>"));
}

/// S-25, E-16: a client that does not read delays polls, and is told off before the session dies of it.
#[test]
fn s25_slow_reader() {
    let (mut rig, poll) = Rig::online();
    let stanza = format!(
        "<message xmlns='jabber:client'><body>{}</body></message>",
        "x".repeat(10_000)
    );
    rig.payload(&poll, &stanza.repeat(11));
    rig.no_request();
    assert!(!rig.bridge.wants_client_bytes());
    rig.pass(Duration::from_secs(29));
    assert_eq!(rig.fault(), None);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.fault(), Some(FaultReason::SlowReader));

    let (mut rig, poll) = Rig::online();
    rig.payload(&poll, &stanza.repeat(11));
    rig.no_request();
    rig.output();
    // It reads again: the next poll goes out, and nothing was lost.
    rig.request();
    rig.pass(Duration::from_secs(40));
    assert_eq!(rig.fault(), None);
}

/// S-25: a full queue upstream stops reading the client.
#[test]
fn s25_full_queue_stops_reading() {
    let (mut rig, _poll) = Rig::online();
    rig.client("<message id='0'/>");
    rig.request();
    let stanza = format!("<message><body>{}</body></message>", "x".repeat(15_000));
    let mut sent = 0;
    while rig.bridge.wants_client_bytes() {
        rig.client(&stanza);
        sent += 1;
        assert!(sent < 20, "no end");
    }
    assert!((6..=9).contains(&sent), "{sent}");
}

/// S-25, E-13: an unfinished element of exactly the limit is read on, so that it is refused and not waited for.
#[test]
fn e13_unfinished_element_at_the_limit() {
    let (mut rig, _poll) = Rig::online();
    let start = "<message><body>";
    rig.client(&format!("{start}{}", "x".repeat(20_000 - start.len())));
    assert!(rig.fault().is_none());
    assert!(rig.bridge.wants_client_bytes());
    rig.client("x");
    assert_eq!(rig.fault(), Some(FaultReason::ElementTooLarge));
}
