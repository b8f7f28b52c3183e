use super::*;

const OFF: Filter = Filter {
    channel_binding: ChannelBinding::Filter,
    remove_sm: true,
    hide_plain: false,
    max_stanza_bytes: 1_048_576,
};

fn filtered(input: &str, filter: &Filter) -> (String, Vec<String>, FeatureFacts) {
    let Filtered {
        bytes,
        removed,
        facts,
    } = filter_features(input.as_bytes(), filter).unwrap();
    (String::from_utf8(bytes).unwrap(), removed, facts)
}

/// The input without the marked parts: `⟦gone⟧`. One text shows input and result.
fn check(marked: &str, filter: &Filter) -> (Vec<String>, FeatureFacts) {
    let input: String = marked.chars().filter(|c| !"⟦⟧".contains(*c)).collect();
    let mut expected = String::new();
    for (index, piece) in marked.split('⟦').enumerate() {
        expected += if index == 0 {
            piece
        } else {
            piece.split_once('⟧').unwrap().1
        };
    }
    let (bytes, removed, facts) = filtered(&input, filter);
    assert_eq!(bytes, expected);
    // What was cut is gone for good: a second run finds nothing more.
    let again = filtered(&bytes, filter);
    assert_eq!((again.0, again.1), (bytes, Vec::new()));
    (removed, facts)
}

/// S-35: Prosody 0.12 over plain http, before login.
#[test]
fn prosody_before_login() {
    let (removed, facts) = check(
        "<stream:features xmlns='jabber:client'>\
         ⟦<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>⟧\
         <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>\
         <mechanism>SCRAM-SHA-256</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
         <register xmlns='http://jabber.org/features/iq-register'/>\
         <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes><idle-seconds>120</idle-seconds></limits>\
         <auth xmlns='http://jabber.org/features/iq-auth'/></stream:features>",
        &OFF,
    );
    assert_eq!(removed, ["starttls"]);
    assert_eq!(
        facts,
        FeatureFacts {
            sasl1_mechanisms: vec!["SCRAM-SHA-1".into(), "SCRAM-SHA-256".into(), "PLAIN".into()],
            sasl2: false,
            plain_hidden: false,
            mechanisms_left: true,
            had_mechanisms: true,
            iq_auth: true,
            register: true,
            bind: false,
        }
    );
}

/// S-35: ejabberd over https behind a proxy that hands on the exporter: binding, PLUS, compression, caps.
#[test]
fn ejabberd_before_login() {
    let (removed, facts) = check(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         ⟦<mechanism>SCRAM-SHA-512-PLUS</mechanism>⟧<mechanism>SCRAM-SHA-512</mechanism>\
         ⟦<mechanism>SCRAM-SHA-1-PLUS</mechanism>⟧<mechanism>X-OAUTH2</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
         ⟦<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
         <channel-binding type='tls-server-end-point'/></sasl-channel-binding>⟧\
         ⟦<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>⟧\
         <register xmlns='http://jabber.org/features/iq-register'/>\
         <c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://www.process-one.net/en/ejabberd/' \
         ver='Q2VfbF/oQ4OC6aj3dBQTIHRWqg8='/></stream:features>",
        &OFF,
    );
    assert_eq!(
        removed,
        [
            "SCRAM-SHA-512-PLUS",
            "SCRAM-SHA-1-PLUS",
            "sasl-channel-binding",
            "compression"
        ]
    );
    assert_eq!(
        facts.sasl1_mechanisms,
        ["SCRAM-SHA-512", "X-OAUTH2", "PLAIN"]
    );
    assert!(facts.register && !facts.filtered_out() && !facts.no_login_offered());
}

/// S-35, S-46: after login, csi, rosterver and both stream managements; sm goes only if asked.
#[test]
fn after_login() {
    let text = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><required/></bind>\
         <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
         <c hash='sha-1' node='http://prosody.im' ver='x' xmlns='http://jabber.org/protocol/caps'/>\
         ⟦<sm xmlns='urn:xmpp:sm:2'><optional/></sm>⟧⟦<sm xmlns='urn:xmpp:sm:3'><optional/></sm>⟧\
         <ver xmlns='urn:xmpp:features:rosterver'/><csi xmlns='urn:xmpp:csi:0'/></stream:features>";
    let (removed, facts) = check(text, &OFF);
    assert_eq!(removed, ["sm", "sm"]);
    assert!(facts.bind && !facts.had_mechanisms);

    let kept = text.replace(['⟦', '⟧'], "");
    let (removed, _) = check(
        &kept,
        &Filter {
            remove_sm: false,
            ..OFF
        },
    );
    assert!(removed.is_empty());
}

/// S-35: SASL2 with Bind 2, stream management in both inline places, FAST and pipelining; indentation,
/// comments apart, stays (XEP-0388, 0386, 0484, 0305).
#[test]
fn sasl2_inline() {
    let (removed, facts) = check(
        "<stream:features>
  <authentication xmlns='urn:xmpp:sasl:2'>
    <mechanism>SCRAM-SHA-1</mechanism>
    ⟦<mechanism>SCRAM-SHA-1-PLUS</mechanism>⟧
    <inline>
      <bind xmlns='urn:xmpp:bind:0'>
        <inline>
          <feature var=\"urn:xmpp:carbons:2\" />
          ⟦<feature var=\"urn:xmpp:sm:3\" />⟧
        </inline>
      </bind>
      ⟦<sm xmlns='urn:xmpp:sm:3'/>⟧
      <fast xmlns='urn:xmpp:fast:0' tls-0rtt='true'>
        ⟦<mechanism>HT-SHA-256-ENDP</mechanism>⟧
        ⟦<mechanism>HT-SHA-256-EXPR</mechanism>⟧
        <mechanism>HT-SHA-256-NONE</mechanism>
      </fast>
    </inline>
  </authentication>
  ⟦<pipelining xmlns='urn:xmpp:features:pipelining'/>⟧
</stream:features>",
        &OFF,
    );
    assert_eq!(
        removed,
        [
            "SCRAM-SHA-1-PLUS",
            ns::SM,
            "sm",
            "HT-SHA-256-ENDP",
            "HT-SHA-256-EXPR",
            "pipelining"
        ]
    );
    assert!(facts.sasl2 && facts.mechanisms_left && facts.sasl1_mechanisms.is_empty());
}

/// T-26: a FAST list that the filter empties goes as a whole.
#[test]
fn emptied_fast_list_goes() {
    let (removed, facts) = check(
        "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism><inline>\
         ⟦<fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-ENDP</mechanism></fast>⟧</inline></authentication>\
         </stream:features>",
        &OFF,
    );
    assert_eq!(removed, ["HT-SHA-256-ENDP", "fast"]);
    assert!(facts.mechanisms_left);
    // One that the server sent empty is not ours to judge.
    check(
        "<stream:features><fast xmlns='urn:xmpp:fast:0'/></stream:features>",
        &OFF,
    );
}

/// S-36: the switch that passes channel binding passes mechanisms, tokens and types together.
#[test]
fn channel_binding_passes_when_told() {
    let text = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>SCRAM-SHA-1-PLUS</mechanism></mechanisms>\
         <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/></sasl-channel-binding>\
         <fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-ENDP</mechanism></fast>\
         ⟦<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>⟧</stream:features>";
    let pass = Filter {
        channel_binding: ChannelBinding::Pass,
        ..OFF
    };
    let (_, facts) = check(text, &pass);
    assert_eq!(facts.sasl1_mechanisms, ["SCRAM-SHA-1-PLUS"]);
}

/// E-66: the list stays, empty, and the facts say that it was the filter.
#[test]
fn emptied_lists_are_reported() {
    let (_, facts) = check(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         ⟦<mechanism>SCRAM-SHA-256-PLUS</mechanism>⟧</mechanisms></stream:features>",
        &OFF,
    );
    assert!(facts.filtered_out() && !facts.no_login_offered());
    // One of the two lists is enough.
    let (_, facts) = check(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         ⟦<mechanism>SCRAM-SHA-256-PLUS</mechanism>⟧</mechanisms><authentication xmlns='urn:xmpp:sasl:2'>\
         <mechanism>PLAIN</mechanism></authentication></stream:features>",
        &OFF,
    );
    assert!(!facts.filtered_out());
}

/// E-68: Prosody that does not hold http for secure offers TLS and nothing else.
#[test]
fn no_login_is_reported() {
    let (_, facts) = check(
        "<stream:features>⟦<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>⟧</stream:features>",
        &OFF,
    );
    assert!(facts.no_login_offered() && !facts.filtered_out());
    assert!(check("<stream:features/>", &OFF).1.no_login_offered());
}

/// S-46: a limit above ours is lowered, one below stays, one that is no number is not ours to repair.
#[test]
fn limits_are_lowered() {
    let features = |inner: &str| {
        format!(
            "<stream:features><limits xmlns='urn:xmpp:stream-limits:0'>{inner}</limits></stream:features>"
        )
    };
    let ours = Filter {
        max_stanza_bytes: 65_536,
        ..OFF
    };
    for (theirs, expected) in [
        (
            "<max-bytes>262144</max-bytes>",
            "<max-bytes>65536</max-bytes>",
        ),
        (
            "<max-bytes>\n 6<![CDATA[55]]>3&#55; </max-bytes>",
            "<max-bytes>65536</max-bytes>",
        ),
        (
            "<max-bytes>99999999999999999999999999</max-bytes><idle-seconds>60</idle-seconds>",
            "<max-bytes>65536</max-bytes><idle-seconds>60</idle-seconds>",
        ),
        (
            "<max-bytes>65536</max-bytes>",
            "<max-bytes>65536</max-bytes>",
        ),
        (
            "<max-bytes>10000</max-bytes>",
            "<max-bytes>10000</max-bytes>",
        ),
        ("<max-bytes/>", "<max-bytes/>"),
        ("<max-bytes>many</max-bytes>", "<max-bytes>many</max-bytes>"),
        (
            "<idle-seconds>99999999</idle-seconds>",
            "<idle-seconds>99999999</idle-seconds>",
        ),
    ] {
        let (bytes, removed, _) = filtered(&features(theirs), &ours);
        assert_eq!(bytes, features(expected));
        assert!(removed.is_empty());
    }
}

/// S-32, S-35: prefixes of any kind, quotes, references and CDATA do not hide anything from the filter.
#[test]
fn disguises_are_seen_through() {
    check(
        "<s:features xmlns:s=\"http://etherx.jabber.org/streams\" xmlns:t='urn:ietf:params:xml:ns:xmpp-tls' \
         xmlns:m='urn:ietf:params:xml:ns:xmpp-sasl'><m:mechanisms>\
         ⟦<m:mechanism a='>'>SCRAM-SHA-1-PLU&#83;</m:mechanism>⟧⟦<m:mechanism>\n SCRAM-SHA-1<![CDATA[-PLUS]]>\n</m:mechanism >⟧\
         ⟦<m:mechanism>scram-sha-1-plus</m:mechanism>⟧<m:mechanism>PLUS</m:mechanism></m:mechanisms>\
         ⟦<t:starttls><t:required/></t:starttls >⟧<x xmlns='urn:x'>⟦<t:starttls />⟧</x></s:features>",
        &OFF,
    );
    // The same names elsewhere mean something else.
    check(
        "<features xmlns='http://etherx.jabber.org/streams'><starttls/><sm xmlns='urn:x'/>\
         <mechanism xmlns='urn:x'>A-PLUS</mechanism><feature xmlns='urn:x' var='urn:xmpp:sm:3'/></features>",
        &OFF,
    );
    // A namespace written with a reference could not be compared: refused, not passed.
    let hidden = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tl&#115;'/></stream:features>";
    assert_eq!(
        filter_features(hidden.as_bytes(), &OFF),
        Err(FeaturesError::Xml(ScanError::Malformed))
    );
}

/// E-63: what is not one whole `<stream:features/>` is an error, whatever it is.
#[test]
fn bad_input_is_refused() {
    let deep = format!("<stream:features>{}", "<a xmlns='b'>".repeat(100_000 / 13));
    let wide = format!(
        "<stream:features{}/>",
        (0..65).map(|n| format!(" a{n}=''")).collect::<String>()
    );
    let bound = format!(
        "<stream:features>{}",
        (0..60)
            .map(|n| format!(
                "<a{}>",
                (0..9)
                    .map(|m| format!(" xmlns:p{n}x{m}='u'"))
                    .collect::<String>()
            ))
            .collect::<String>()
    );
    let huge = format!(
        "<stream:features>{}</stream:features>",
        " ".repeat(300 * 1024)
    );
    for text in [&deep, &wide, &bound, &huge] {
        assert_eq!(
            filter_features(text.as_bytes(), &OFF),
            Err(FeaturesError::Xml(ScanError::TooLarge))
        );
    }
    for text in [
        "<stream:error/>",
        "<features/>",
        "<stream:features xmlns:stream='urn:x'/>",
    ] {
        assert_eq!(
            filter_features(text.as_bytes(), &OFF),
            Err(FeaturesError::NotFeatures),
            "{text}"
        );
    }
    for text in [
        "<?xml version='1.0'?><stream:features/>",
        "<!DOCTYPE a><stream:features/>",
        "<stream:features><!-- a --></stream:features>",
        "<stream:features><?a b?></stream:features>",
        "<stream:features>&bomb;</stream:features>",
    ] {
        let error = filter_features(text.as_bytes(), &OFF).unwrap_err();
        assert!(matches!(error, FeaturesError::Xml(_)), "{text}: {error}");
    }
    for text in [
        "",
        " ",
        "features",
        " <stream:features/>",
        "<stream:features/> ",
        "<stream:features/><stream:features/>",
        "<stream:features>",
        "<stream:features",
        "<stream:features></stream:feature>",
        "</stream:features>",
        "<stream:features><a></stream:features></a>",
        "<stream:features><x:a/></stream:features>",
        "<stream:features><a x:b=''/></stream:features>",
        "<stream:features><a b='' b=''/></stream:features>",
        "<stream:features><a b=c/></stream:features>",
        "<stream:features><a b='<'/></stream:features>",
        "<stream:features><a b='&'/></stream:features>",
        "<stream:features>&</stream:features>",
        "<stream:features>&#0;</stream:features>",
        "<stream:features>\u{1}</stream:features>",
    ] {
        assert_eq!(
            filter_features(text.as_bytes(), &OFF),
            Err(FeaturesError::Xml(ScanError::Malformed)),
            "{text}"
        );
    }
    assert!(filter_features(b"<stream:features>\xff</stream:features>", &OFF).is_err());
}

/// Names for the log are few, short and printable, however many the server invents.
#[test]
fn names_are_bounded() {
    let list = format!("<mechanism>\u{202e}{}-PLUS</mechanism>", "Ä\tX".repeat(200)).repeat(100);
    let text = format!(
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{list}</mechanisms></stream:features>"
    );
    let (bytes, removed, _) = filtered(&text, &OFF);
    assert!(!bytes.contains("PLUS"));
    assert_eq!(removed.len(), MAX_NAMES);
    assert!(
        removed
            .iter()
            .all(|name| *name == "X".repeat(MAX_NAME_CHARS))
    );
}

proptest::proptest! {
    /// S-35, E-63: no input panics; what an independent parser can read comes out readable, and filtered.
    #[test]
    fn any_sequence_of_pieces(pieces in proptest::collection::vec(proptest::sample::select(vec![
        "<stream:features>", "</stream:features>", "<mechanism xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>", "</mechanism>",
        "<fast xmlns='urn:xmpp:fast:0'>", "</fast>", "<sm xmlns='urn:xmpp:sm:3'/>", "<max-bytes>", "</max-bytes>",
        "<limits xmlns='urn:xmpp:stream-limits:0'>", "</limits>", "9999999", "A-PLUS", "HT-X", "<![CDATA[", "]]>",
        "&amp;", "<", ">", "é", "'",
    ]), 0..24)) {
        let pieces = pieces.concat();
        for input in [pieces.clone(), format!("<stream:features>{pieces}</stream:features>")] {
            let result = filter_features(input.as_bytes(), &OFF);
            let parsed = format!("<r xmlns:stream='{}'>{input}</r>", ns::STREAM);
            if roxmltree::Document::parse(&parsed).is_err() {
                continue;
            }
            let Ok(Filtered { bytes, .. }) = result else { continue };
            let output = format!("<r xmlns:stream='{}'>{}</r>", ns::STREAM, str::from_utf8(&bytes).unwrap());
            let output = roxmltree::Document::parse(&output).unwrap();
            for node in output.descendants() {
                proptest::prop_assert!(!node.has_tag_name((ns::SM, "sm")));
                let mechanism = node.has_tag_name((ns::SASL, "mechanism"));
                proptest::prop_assert!(!mechanism || !node.text().unwrap_or_default().trim().ends_with("-PLUS"));
            }
        }
    }
}
