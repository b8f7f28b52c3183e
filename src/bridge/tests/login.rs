//! SASL, restart, pipelining, SASL2, refusals before login.

use super::*;

/// S-16, X-13, X-14: success, restart at once, new header with a new id, then features once.
#[test]
fn s16_restart() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    let first = rig.output();
    rig.client(AUTH);
    let auth = rig.request();
    assert!(text(&auth).ends_with(&format!("{AUTH}</body>")));
    rig.payload(&auth, SUCCESS);
    assert_eq!(rig.output(), SUCCESS);
    let restart = rig.request();
    assert!(text(&restart).contains("xmpp:restart='true'"));
    // features before the client's header are kept for it.
    rig.payload(&restart, BIND_FEATURES);
    assert_eq!(rig.output(), "");
    rig.client(HEADER);
    let second = rig.output();
    assert!(
        second.starts_with("<?xml version='1.0'?><stream:stream ") && second.ends_with(BIND_OFFER),
        "{second}"
    );
    let id = |output: &str| {
        output
            .split("id='")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_ne!(id(&first), id(&second), "S-06");
    rig.no_request();
}

/// S-16: the same with the client's header before the features.
#[test]
fn s16_header_before_features() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.client(AUTH);
    let auth = rig.request();
    rig.payload(&auth, SUCCESS);
    rig.output();
    rig.client(HEADER);
    let header = rig.output();
    assert!(header.ends_with('>') && !header.contains("features"));
    let restart = rig.request();
    rig.payload(&restart, BIND_FEATURES);
    assert_eq!(rig.output(), BIND_OFFER);
}

/// T-25: leftover bytes behind SASL, split anywhere, belong to the new document.
#[test]
fn t25_restart_split_anywhere() {
    let script = format!("{AUTH}\n {HEADER}<iq id='1'/>");
    for cut in 0..script.len() {
        let mut rig = Rig::negotiating(SASL_FEATURES);
        rig.output();
        rig.client(&script[..cut]);
        if cut < AUTH.len() {
            rig.client(&script[cut..]);
        }
        let auth = rig.request();
        rig.no_request();
        if cut >= AUTH.len() && cut % 2 == 0 {
            // Half of the time the rest comes before the outcome.
            rig.client(&script[cut..]);
        }
        rig.payload(&auth, SUCCESS);
        if cut >= AUTH.len() && cut % 2 == 1 {
            rig.client(&script[cut..]);
        }
        let restart = rig.request();
        assert!(text(&restart).contains("restart"), "{cut}");
        rig.payload(&restart, BIND_FEATURES);
        let output = rig.output();
        assert!(
            output.starts_with(SUCCESS) && output.ends_with(BIND_OFFER),
            "{cut}: {output}"
        );
        assert!(
            text(&rig.request()).contains("<iq xmlns='jabber:client' id='1'/>"),
            "{cut}"
        );
    }
}

/// S-41: header, auth, header and bind in one write.
#[test]
fn s41_everything_in_one_write() {
    let mut rig = Rig::new();
    rig.client(&format!("{HEADER}{AUTH}{HEADER}<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"));
    let creation = rig.request();
    rig.no_request();
    rig.reply(&creation, GRANT, SASL_FEATURES);
    let auth = rig.request();
    rig.no_request();
    rig.payload(&auth, SUCCESS);
    let restart = rig.request();
    rig.no_request();
    rig.payload(&restart, BIND_FEATURES);
    assert!(text(&rig.request()).contains("urn:ietf:params:xml:ns:xmpp-bind"));
    let output = rig.output();
    assert_eq!(output.matches("<stream:stream").count(), 2);
}

/// S-41, E-12: a pipelined header whose login failed has no place.
#[test]
fn s41_pipelined_header_after_failure() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client(&format!("{AUTH}{HEADER}"));
    let auth = rig.request();
    rig.payload(
        &auth,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>",
    );
    let output = rig.output();
    assert!(output.starts_with("<failure"));
    assert_eq!(stream_error(&output).0, "unsupported-stanza-type");
}

/// S-39, X-15, B-60: failure, abort and a second try change nothing else, and start no restart.
#[test]
fn s39_failure_and_retry() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    for answer in ["<not-authorized/>", "<aborted/>"] {
        rig.client(AUTH);
        let auth = rig.request();
        let failure =
            format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{answer}</failure>");
        rig.payload(&auth, &failure);
        assert_eq!(rig.output(), failure);
        rig.no_request();
    }
    rig.client("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    rig.request();
    rig.client("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>=</auth>");
    assert!(text(&rig.request()).contains(">=</auth>"));
}

/// S-42, X-15: SASL2 success is followed by features in the same stream, with no restart; Bind2 binds.
#[test]
fn s42_sasl2_and_bind2() {
    let mut rig = Rig::negotiating(
        "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism></authentication></stream:features>",
    );
    rig.output();
    rig.client("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>x</initial-response><bind xmlns='urn:xmpp:bind:0'/></authenticate>");
    let authenticate = rig.request();
    rig.payload(
        &authenticate,
        "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>a@b</authorization-identifier><bound xmlns='urn:xmpp:bind:0'/></success>",
    );
    let poll = rig.request();
    assert!(!text(&poll).contains("restart"));
    rig.payload(&poll, "<stream:features/>");
    let output = rig.output();
    assert!(
        output.contains("</success>")
            && output.ends_with("<stream:features><sm xmlns='urn:xmpp:sm:3'/></stream:features>"),
        "{output}"
    );
    assert!(!output.contains("<stream:stream"));
    // Bound: one request is held from now on.
    let held = rig.request();
    rig.payload(&held, "<message xmlns='jabber:client' id='m'/>");
    assert_eq!(rig.output(), "<message id='m'/>");
}

/// S-46: registration before login passes, on the same stream.
#[test]
fn s46_registration_before_login() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>a</username></query></iq>");
    let register = rig.request();
    rig.payload(
        &register,
        "<iq xmlns='jabber:client' type='result' id='r'/>",
    );
    assert_eq!(rig.output(), "<iq type='result' id='r'/>");
    rig.no_request();
    rig.client(AUTH);
    rig.request();
}

/// E-05: the domain may not change at the restart.
#[test]
fn e05_domain_changed_at_restart() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.client(AUTH);
    let auth = rig.request();
    rig.payload(&auth, SUCCESS);
    rig.output();
    rig.client(&HEADER.replace("example.org", "example.net"));
    assert_eq!(stream_error(&rig.output()).0, "host-unknown");
}

/// S-37, off: an unasked `<starttls/>` gets a TLS failure and the stream's end, and nothing goes upstream.
#[test]
fn s37_starttls_is_refused() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(
        rig.output(),
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>"
    );
    assert!(rig.bridge.is_client_closed());
    assert!(text(&rig.request()).contains("type='terminate'/>"));
}

/// S-38: compression is refused, the stream goes on.
#[test]
fn s38_compression_is_refused() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client(
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    );
    assert_eq!(
        rig.output(),
        "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>"
    );
    rig.client(AUTH);
    assert!(text(&rig.request()).contains("<auth"));
}

/// S-35, X-06, X-07: what cannot work through BOSH is taken out; E-66: nothing usable is left.
#[test]
fn s35_features_are_filtered() {
    let mut rig = Rig::negotiating(
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>\
         <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
         <sm xmlns='urn:xmpp:sm:3'/></stream:features>",
    );
    assert!(rig.output().ends_with(SASL_FEATURES));
    assert!(
        rig.events
            .iter()
            .any(|event| matches!(event, Event::Filtered(removed) if removed.len() == 4))
    );
    let mut rig = Rig::negotiating(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism></mechanisms></stream:features>",
    );
    let error = stream_error(&rig.output());
    assert_eq!(
        (error.0.as_str(), error.2.as_deref()),
        ("policy-violation", Some("no-usable-mechanism"))
    );
}

/// T-29: stream management that was not offered never goes upstream.
#[test]
fn t29_unoffered_stream_management() {
    let (mut rig, _poll) = Rig::in_mode(Mode::Off).log_in(GRANT, AUTH);
    rig.client("<enable xmlns='urn:xmpp:sm:3' resume='true'/><r xmlns='urn:xmpp:sm:3'/>");
    assert!(rig.output().starts_with("<failed xmlns='urn:xmpp:sm:3'>"));
    rig.no_request();
}

/// E-65: features that never come.
#[test]
fn e65_no_features() {
    let mut rig = Rig::new();
    rig.client(HEADER);
    let creation = rig.request();
    rig.reply(&creation, GRANT, "");
    rig.pass(Duration::from_secs(61));
    let error = stream_error(&rig.output());
    assert_eq!(
        (error.0.as_str(), error.2.as_deref()),
        ("remote-connection-failed", Some("no-features"))
    );
}

/// E-65, X-10: the same for the features behind SASL, after 30 s.
#[test]
fn e65_no_features_after_the_restart() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.client(AUTH);
    let auth = rig.request();
    rig.payload(&auth, SUCCESS);
    rig.output();
    rig.client(HEADER);
    let restart = rig.request();
    rig.payload(&restart, "");
    rig.pass(Duration::from_secs(29));
    assert!(!rig.output().contains("<stream:error>"));
    rig.pass(Duration::from_secs(2));
    let error = stream_error(&rig.output());
    assert_eq!(
        (error.0.as_str(), error.2.as_deref()),
        ("remote-connection-failed", Some("no-features"))
    );
}

/// S-22: nothing is written to a client that is logging in, however long it takes.
#[test]
fn s22_silence_during_login() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client(AUTH);
    let mut held = rig.request();
    for _ in 0..5 {
        rig.pass(Duration::from_secs(50));
        rig.payload(&held, "");
        held = rig.request();
    }
    assert_eq!(rig.output(), "");
    assert!(!rig.bridge.is_client_closed());
}

/// X-05, S-21: neither header nor end of the client's stream goes upstream, nor any blank between elements.
#[test]
fn x05_only_whole_elements_go_upstream() {
    let (mut rig, poll) = Rig::online();
    rig.client(" \n<message id='1'/> \n <presence/>\n</stream:stream>\n");
    let mut sent = text(&rig.request());
    rig.payload(&poll, "");
    if !sent.contains("terminate") {
        sent += &text(&rig.request());
    }
    assert!(
        !sent.contains("stream:stream") && !sent.contains("> "),
        "{sent}"
    );
    assert!(sent.contains("type='terminate'"), "{sent}");
}

/// X-17, B-17: the client's bare JID goes with creation and restart, over https only.
#[test]
fn x17_from_on_the_restart() {
    for https in [true, false] {
        let mut rig = Rig::new();
        rig.endpoint = Ok(Endpoint {
            https,
            ..endpoint()
        });
        rig.client(&HEADER.replace(" to=", " from='juliet@example.org/balcony' to="));
        let creation = rig.request();
        rig.reply(&creation, GRANT, SASL_FEATURES);
        rig.client(AUTH);
        let auth = rig.request();
        rig.payload(&auth, SUCCESS);
        let restart = rig.request();
        for request in [creation, restart] {
            assert_eq!(text(&request).contains(" from='juliet@example.org'"), https);
        }
        assert!(!text(&auth).contains("from="));
    }
}

/// a second set of features on the same stream is not passed on.
#[test]
fn x16_features_once() {
    let mut rig = Rig::new().authenticated(GRANT, AUTH);
    rig.client("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    let bind = rig.request();
    rig.payload(&bind, BIND_FEATURES);
    assert_eq!(rig.output(), "");
}

/// B-29: the server's domain came after the creation reply: the header behind the restart has it.
#[test]
fn b29_late_from() {
    let mut rig = Rig::new();
    rig.client(HEADER);
    let creation = rig.request();
    rig.reply(
        &creation,
        "sid='s1' wait='55' requests='2' hold='1' inactivity='60'",
        SASL_FEATURES,
    );
    assert!(rig.output().contains(" from='example.org'"));
    rig.client(AUTH);
    let auth = rig.request();
    rig.reply(&auth, "from='chat.example.org'", SUCCESS);
    rig.output();
    rig.client(HEADER);
    assert!(rig.output().contains(" from='chat.example.org'"));
}

/// S-08: without a language of the client's, the header names the one that was asked of the manager.
#[test]
fn s08_the_domains_language() {
    let mut rig = Rig::new();
    if let Ok(endpoint) = &mut rig.endpoint {
        endpoint.bosh.lang = "fr".into();
    }
    rig.client(HEADER);
    let creation = rig.request();
    assert!(text(&creation).contains("xml:lang='fr'"));
    rig.reply(&creation, GRANT, SASL_FEATURES);
    assert!(rig.output().contains(" xml:lang='fr'"));
}

/// B-64: keys over http, where configured; never over https.
#[test]
fn b64_keys_over_http_alone() {
    for (https, wanted) in [(true, false), (false, true)] {
        let mut rig = Rig::new();
        if let Ok(endpoint) = &mut rig.endpoint {
            endpoint.key_sequence = true;
            endpoint.https = https;
        }
        rig.client(HEADER);
        assert_eq!(text(&rig.request()).contains(" newkey='"), wanted);
    }
}
