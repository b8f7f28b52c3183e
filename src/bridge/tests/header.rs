//! The client's header, what ours says, and what bad ones get.

use super::*;

fn root(output: &str) -> roxmltree::Document<'_> {
    roxmltree::Document::parse(output).unwrap()
}

/// S-04 to S-11: one declaration, one header with the manager's `from`, then features.
#[test]
fn s04_to_s11_header_and_features() {
    let mut rig = Rig::new();
    rig.client(
        "<?xml version='1.0'?>\n<stream:stream from='juliet@example.org/balcony' to='Example.ORG' version='1.7' \
         xml:lang='de-CH' id='mine' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    assert_eq!(
        rig.output(),
        "",
        "S-11: the header waits for the creation reply"
    );
    let creation = rig.request();
    assert!(text(&creation).contains(" to='example.org' from='juliet@example.org' "));
    assert!(text(&creation).contains("xml:lang='de-CH'"));
    rig.reply(
        &creation,
        "sid='s1' requests='2' from='im.example.org'",
        SASL_FEATURES,
    );
    let output = rig.output();
    assert!(
        output.starts_with("<?xml version='1.0'?><stream:stream "),
        "{output}"
    );
    assert!(output.ends_with(SASL_FEATURES), "{output}");
    let closed = format!("{output}</stream:stream>");
    let document = root(&closed);
    let header = document.root_element();
    assert_eq!(header.attribute("from"), Some("im.example.org"));
    assert_eq!(header.attribute("to"), Some("juliet@example.org"));
    assert_eq!(header.attribute("version"), Some("1.0"));
    assert_eq!(
        header.attribute(("http://www.w3.org/XML/1998/namespace", "lang")),
        Some("de-CH")
    );
    assert!(
        header
            .attribute("id")
            .is_some_and(|id| id.len() >= 16 && id != "mine")
    );
}

/// S-11: a slow manager; the header goes out after 20 s, a later failure comes inside the stream.
#[test]
fn s11_header_after_twenty_seconds() {
    let mut rig = Rig::new();
    rig.client(HEADER);
    let creation = rig.request();
    rig.pass(Duration::from_millis(19_900));
    assert_eq!(rig.output(), "");
    rig.pass(Duration::from_millis(200));
    assert!(rig.output().contains("<stream:stream"));
    rig.reply(&creation, "type='terminate' condition='host-unknown'", "");
    let output = rig.output();
    assert!(output.starts_with("<stream:error>"), "{output}");
    assert_eq!(stream_error(&output).0, "host-unknown");
}

/// S-02: an HTTP request from a browser page, TLS, or anything that is not XML gets silence.
#[test]
fn s02_what_is_not_xml_gets_silence() {
    for first in [
        "POST / HTTP/1.1\r\n\r\n<stream:stream>",
        "\x16\x03\x01",
        "  \nGET",
        "\u{feff}<stream:stream>",
        "</x",
    ] {
        let mut rig = Rig::new();
        rig.client(first);
        if first == "</x" {
            continue;
        }
        assert_eq!(rig.output(), "", "{first:?}");
        assert!(rig.bridge.is_finished(), "{first:?}");
    }
}

/// S-03, E-15: a header that does not come in time. Whoever says nothing is told nothing.
#[test]
fn e15_header_timeout() {
    let mut rig = Rig::new();
    rig.client("<stream:str");
    rig.pass(Duration::from_millis(29_900));
    assert!(!rig.bridge.is_finished());
    rig.pass(Duration::from_millis(200));
    let (condition, _, app) = stream_error(&rig.output());
    assert_eq!(
        (condition.as_str(), app.as_deref()),
        ("policy-violation", Some("header-timeout"))
    );
    let mut rig = Rig::new();
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.output(), "");
    assert!(rig.bridge.is_finished());
}

/// S-12, E-01 to E-09, E-13: each bad header gets a declaration, a header and its error, and no session.
#[test]
fn e01_to_e13_bad_headers() {
    let stream = "xmlns:stream='http://etherx.jabber.org/streams'";
    let big = "x".repeat(17_000);
    for (header, condition) in [
        (
            format!("<stream:stream to='a' version='1.0' xmlns='jabber:server' {stream}>"),
            "invalid-namespace",
        ),
        (
            format!(
                "<stream:stream to='a' version='1.0' xmlns='jabber:component:accept' {stream}>"
            ),
            "invalid-namespace",
        ),
        (
            "<stream:stream to='a' version='1.0' xmlns='jabber:client' xmlns:stream='x'>".into(),
            "invalid-namespace",
        ),
        (
            format!("<stream:flow to='a' xmlns='jabber:client' {stream}>"),
            "bad-format",
        ),
        (
            format!("<stream:stream version='1.0' xmlns='jabber:client' {stream}>"),
            "improper-addressing",
        ),
        (
            format!("<stream:stream to='a@b' version='1.0' xmlns='jabber:client' {stream}>"),
            "improper-addressing",
        ),
        (
            format!("<stream:stream to='a/b' version='1.0' xmlns='jabber:client' {stream}>"),
            "improper-addressing",
        ),
        (
            format!("<stream:stream to='a' version='2.0' xmlns='jabber:client' {stream}>"),
            "unsupported-version",
        ),
        (
            format!(
                "<?xml version='1.0' encoding='UTF-16'?><stream:stream to='a' xmlns='jabber:client' {stream}>"
            ),
            "unsupported-encoding",
        ),
        (
            format!("<!-- hi --><stream:stream to='a' xmlns='jabber:client' {stream}>"),
            "restricted-xml",
        ),
        (
            format!("<!DOCTYPE x><stream:stream to='a' xmlns='jabber:client' {stream}>"),
            "restricted-xml",
        ),
        (
            format!("<stream:stream to='&x;' xmlns='jabber:client' {stream}>"),
            "restricted-xml",
        ),
        (
            "<stream:stream to='a' xmlns='jabber:client'>".into(),
            "not-well-formed",
        ),
        (
            format!("<stream:stream to='a' to='b' xmlns='jabber:client' {stream}>"),
            "not-well-formed",
        ),
        (
            format!("<stream:stream to='{big}' xmlns='jabber:client' {stream}>"),
            "policy-violation",
        ),
    ] {
        let mut rig = Rig::new();
        rig.client(&header);
        let output = rig.output();
        assert!(
            output.starts_with("<?xml version='1.0'?><stream:stream "),
            "{header}: {output}"
        );
        root(&output);
        assert_eq!(stream_error(&output).0, condition, "{header}");
        assert!(rig.bridge.is_finished(), "{header}");
        rig.no_request();
    }
}

/// S-14: any prefix, and the prefix-free style.
#[test]
fn s14_header_styles() {
    for (header, iq) in [
        (
            "<s:stream to='example.org' version='1.0' xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>",
            "<iq id='1'/>",
        ),
        (
            "<stream to='example.org' version='1.0' xmlns='http://etherx.jabber.org/streams'>",
            "<iq xmlns='jabber:client' id='1'/>",
        ),
        (
            "<stream:stream to='example.org' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
            "<iq id='1'/>",
        ),
    ] {
        let mut rig = Rig::new();
        rig.client(header);
        let creation = rig.request();
        rig.reply(&creation, GRANT, SASL_FEATURES);
        assert!(rig.output().contains("<stream:stream "), "{header}");
        rig.client(iq);
        let sent = text(&rig.request());
        assert!(
            sent.contains("xmlns='jabber:client'") && sent.contains("id='1'"),
            "{header}: {sent}"
        );
    }
}

/// E-05, S-15: allowed domains and the default one.
#[test]
fn e05_domains() {
    let rules = HeaderRules {
        default_domain: Some("b.example".into()),
        allowed_domains: vec!["b.example".into()],
    };
    let mut rig = Rig::with(rules.clone());
    rig.client(HEADER);
    assert_eq!(stream_error(&rig.output()).0, "host-unknown");
    let mut rig = Rig::with(rules);
    rig.client("<stream:stream version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    assert!(text(&rig.request()).contains(" to='b.example' "));
}

/// E-21: no address known for the domain.
#[test]
fn e21_no_endpoint() {
    let mut rig = Rig::new();
    rig.endpoint = Err((
        FaultReason::NoBoshEndpoint,
        "no BOSH address is known for example.org".into(),
    ));
    rig.client(HEADER);
    let error = stream_error(&rig.output());
    assert_eq!(
        error,
        (
            "host-unknown".into(),
            "no BOSH address is known for example.org".into(),
            Some("no-bosh-endpoint".into())
        )
    );
    assert!(rig.bridge.is_finished());
}

/// S-40: a header without version is answered without version and features; the id is the authid.
#[test]
fn s40_old_client() {
    let mut rig = Rig::new();
    rig.client("<stream:stream to='example.org' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
    let creation = rig.request();
    assert!(!text(&creation).contains("xmpp:version"));
    rig.reply(&creation, &format!("{GRANT} authid='auth-1'"), "");
    let output = rig.output();
    assert!(
        output.contains("id='auth-1'")
            && !output.contains("version='1.0' ")
            && !output.contains("features"),
        "{output}"
    );
    rig.client(
        "<iq type='set' id='l'><query xmlns='jabber:iq:auth'><username>a</username></query></iq>",
    );
    let login = rig.request();
    rig.payload(&login, "<iq xmlns='jabber:client' type='result' id='l'/>");
    assert!(rig.output().contains("id='l'"));
    // T-17: that bound the client: a poll is held from now on.
    assert!(!text(&rig.request()).contains("restart"));
}
