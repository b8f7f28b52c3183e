use super::*;
use crate::stream::error::StreamCondition;

fn header(to: &str) -> ClientHeader {
    ClientHeader {
        local: "stream".into(),
        namespace: ns::STREAM.into(),
        content_namespace: Some(ns::CLIENT.into()),
        to: Some(to.into()),
        from: None,
        version: Some("1.0".into()),
        lang: None,
    }
}

fn rejected(header: &ClientHeader, rules: &HeaderRules) -> Rejected {
    *header.accept(rules).unwrap_err()
}

fn written(header: &ServerHeader<'_>) -> String {
    let mut out = Vec::new();
    header.write(&mut out);
    String::from_utf8(out).unwrap()
}

/// S-04, S-05, S-07, S-08: declaration and one header in the usual style, byte for byte.
#[test]
fn our_header() {
    let mut ours = ServerHeader {
        from: "example.org",
        id: "a'<&>\"b",
        to: Some("romeo@example.org"),
        lang: "de-CH",
        version: Some(Version::V1_0),
    };
    assert_eq!(
        written(&ours),
        "<?xml version='1.0'?><stream:stream from='example.org' id='a&apos;&lt;&amp;&gt;&quot;b' \
         to='romeo@example.org' version='1.0' xml:lang='de-CH' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    ours.from = "";
    ours.to = None;
    ours.version = None;
    ours.id = "1\n\u{1}";
    assert_eq!(
        written(&ours),
        "<?xml version='1.0'?><stream:stream from='' id='1&#10;' xml:lang='de-CH' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    assert!(
        !format!("{ours:?}").contains('1'),
        "the id may be the sid (T-34)"
    );
}

/// S-13, E-01, E-02: the root and its namespaces.
#[test]
fn root_and_namespaces() {
    let rules = HeaderRules::default();
    let cases = [
        ("stream", ns::STREAM, Some("jabber:server"), "E-01"),
        (
            "stream",
            ns::STREAM,
            Some("jabber:component:accept"),
            "E-01",
        ),
        ("stream", ns::STREAM, Some("urn:example"), "E-01"),
        ("stream", "urn:example", Some(ns::CLIENT), "E-01"),
        ("stream", "", Some(ns::CLIENT), "E-01"),
        ("open", ns::STREAM, Some(ns::CLIENT), "E-02"),
        ("message", "jabber:client", None, "E-02"),
    ];
    for (local, namespace, content, row) in cases {
        let bad = ClientHeader {
            local: local.into(),
            namespace: namespace.into(),
            content_namespace: content.map(str::to_owned),
            ..header("example.org")
        };
        let rejected = rejected(&bad, &rules);
        assert_eq!(
            rejected.fault.reason.row(),
            row,
            "{local} {namespace} {content:?}"
        );
        // S-12: what was readable still serves the header before the error.
        assert_eq!(rejected.domain.as_deref(), Some("example.org"));
        let condition = if row == "E-01" {
            StreamCondition::InvalidNamespace
        } else {
            StreamCondition::BadFormat
        };
        assert_eq!(rejected.fault.condition, Some(condition));
    }
}

/// S-14: prefixed, prefix-free, and prefixed without a default namespace.
#[test]
fn header_styles() {
    for content in [Some(ns::CLIENT), Some(ns::STREAM), Some(""), None] {
        let style = ClientHeader {
            content_namespace: content.map(str::to_owned),
            ..header("example.org")
        };
        assert_eq!(
            style.accept(&HeaderRules::default()).unwrap().domain,
            "example.org"
        );
    }
}

/// S-15, E-03: no `to` means the default domain, or an error with `from=''`.
#[test]
fn default_domain() {
    for to in [None, Some(String::new())] {
        let silent = ClientHeader { to, ..header("") };
        let rules = HeaderRules {
            default_domain: Some("default.example".into()),
            ..HeaderRules::default()
        };
        assert_eq!(silent.accept(&rules).unwrap().domain, "default.example");
        let rejected = rejected(&silent, &HeaderRules::default());
        assert_eq!(rejected.fault.reason, FaultReason::NoDomain);
        assert_eq!(
            rejected.fault.condition,
            Some(StreamCondition::ImproperAddressing)
        );
        assert_eq!(rejected.domain, None);
    }
}

/// S-05, B-13: the domain is compared and sent as a lower-case A-label.
#[test]
fn domains_are_normalised() {
    let long = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
    for (to, domain) in [
        ("example.org", "example.org"),
        ("Example.ORG.", "example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("my_host", "my_host"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        (&long, &long),
    ] {
        assert_eq!(normalise_domain(to).as_deref(), Some(domain), "{to}");
        assert_eq!(
            header(to).accept(&HeaderRules::default()).unwrap().domain,
            domain
        );
    }
}

/// E-04: local parts, resources, ports and bad IDNs are no domains.
#[test]
fn bad_domains() {
    let label = format!("{}.example", "a".repeat(64));
    let whole = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
    let huge = "ü".repeat(100_000);
    for to in [
        "romeo@example.org",
        "example.org/orchard",
        "romeo@example.org/orchard",
        "example.org:5222",
        "exa mple.org",
        "example..org",
        ".example.org",
        ".",
        "example.org..",
        "a'b.example",
        "a\"b.example",
        "a&b.example",
        "a<b.example",
        "[::1",
        "::1",
        "[example.org]",
        "xn--a.example",
        "xn--\u{fc}.example",
        "a\u{200d}b.example",
        "\u{fffd}.example",
        "a\0b.example",
        &label,
        &whole,
        &huge,
    ] {
        let rejected = rejected(&header(to), &HeaderRules::default());
        assert_eq!(rejected.fault.reason, FaultReason::BadDomain, "{to}");
        assert_eq!(
            rejected.fault.condition,
            Some(StreamCondition::ImproperAddressing)
        );
        assert_eq!(rejected.domain, None);
        assert!(rejected.fault.text.unwrap().len() < 400);
    }
}

/// E-05: only configured domains, compared in normal form; an unknown one is not claimed in `from` (S-05).
#[test]
fn allowed_domains() {
    let rules = HeaderRules {
        allowed_domains: vec!["xn--bcher-kva.example".into()],
        ..HeaderRules::default()
    };
    assert!(header("Bücher.example.").accept(&rules).is_ok());
    let rejected = rejected(&header("example.org"), &rules);
    assert_eq!(rejected.fault.reason, FaultReason::DomainNotAllowed);
    assert_eq!(rejected.fault.condition, Some(StreamCondition::HostUnknown));
    assert_eq!(rejected.domain, None);
}

/// S-16, E-05: a restart keeps its domain, said or unsaid.
#[test]
fn restart_keeps_the_domain() {
    let rules = HeaderRules {
        default_domain: Some("default.example".into()),
        ..HeaderRules::default()
    };
    let first = header("bücher.example").accept(&rules).unwrap();
    let same = header("BÜCHER.example")
        .accept_restart(&rules, &first)
        .unwrap();
    assert_eq!(same, first);
    let unsaid = ClientHeader {
        to: None,
        from: Some("romeo@bücher.example/x".into()),
        ..header("")
    };
    let again = unsaid.accept_restart(&rules, &first).unwrap();
    assert_eq!(again.domain, first.domain);
    assert_eq!(again.from.as_deref(), Some("romeo@bücher.example"));

    let changed = *header("example.org")
        .accept_restart(&rules, &first)
        .unwrap_err();
    assert_eq!(changed.fault.reason, FaultReason::DomainChanged);
    assert_eq!(changed.fault.reason.row(), "E-05");
    assert_eq!(changed.domain.as_deref(), Some("xn--bcher-kva.example"));
    let bad = *header("a@b").accept_restart(&rules, &first).unwrap_err();
    assert_eq!(bad.fault.reason, FaultReason::BadDomain);
}

/// S-09, S-40, E-06: the lower of two numbers, none for none, no second major, no nonsense.
#[test]
fn versions() {
    let version = |text: Option<&str>| {
        let header = ClientHeader {
            version: text.map(str::to_owned),
            ..header("example.org")
        };
        header
            .accept(&HeaderRules::default())
            .map(|accepted| accepted.version)
    };
    let v = |major, minor| Some(Version { major, minor });
    for (text, expected) in [
        (None, None),
        (Some("1.0"), v(1, 0)),
        (Some("1.7"), v(1, 0)),
        (Some("1.10"), v(1, 0)),
        (Some("01.00"), v(1, 0)),
        (Some("1"), v(1, 0)),
        (Some("1.99999999999999999999"), v(1, 0)),
        (Some("0.9"), v(0, 9)),
        (Some("0.10"), v(0, 10)),
    ] {
        assert_eq!(version(text).unwrap(), expected, "{text:?}");
    }
    for text in [
        "2.0",
        "12.3",
        "2",
        "99999999999999999999.0",
        "",
        ".",
        "1.",
        ".0",
        "-1.0",
        "+1.0",
        "1.0 ",
        "1.0.0",
        "one",
        "１.0",
    ] {
        let rejected = version(Some(text)).unwrap_err();
        assert_eq!(
            rejected.fault.reason,
            FaultReason::UnsupportedVersion,
            "{text}"
        );
        assert_eq!(
            rejected.fault.condition,
            Some(StreamCondition::UnsupportedVersion)
        );
        // The header before the error says what we do speak.
        assert_eq!(rejected.version, Some(Version::V1_0));
        assert_eq!(rejected.domain.as_deref(), Some("example.org"));
    }
    assert!(Version::V1_0.has_features());
    assert!(
        !Version {
            major: 0,
            minor: 10
        }
        .has_features()
    );
    assert!(
        Version {
            major: 0,
            minor: 10
        } > Version { major: 0, minor: 9 }
    );
}

/// S-08: the language is echoed if it is one.
#[test]
fn languages() {
    let lang = |text: &str| {
        let header = ClientHeader {
            lang: Some(text.into()),
            ..header("example.org")
        };
        header.accept(&HeaderRules::default()).unwrap().lang
    };
    for text in ["de-CH", "en", "sr-Latn-RS", "x-klingon"] {
        assert_eq!(lang(text).as_deref(), Some(text));
    }
    for text in ["", "-", "de-", "de CH", "de'", "1", "ü", &"a".repeat(65)] {
        assert_eq!(lang(text), None, "{text}");
    }
}

/// S-07, B-17: full JID in, bare JID out; nothing for what is no account.
#[test]
fn bare_jids() {
    for (jid, bare) in [
        ("romeo@example.org", "romeo@example.org"),
        ("romeo@example.org/orchard", "romeo@example.org"),
        ("romeo@example.org/a@b/c", "romeo@example.org"),
        ("Röméo@Bücher.example/x", "Röméo@Bücher.example"),
        ("a#b@[::1]/", "a#b@[::1]"),
    ] {
        assert_eq!(bare_jid(jid).as_deref(), Some(bare));
        let header = ClientHeader {
            from: Some(jid.into()),
            ..header("example.org")
        };
        assert_eq!(
            header
                .accept(&HeaderRules::default())
                .unwrap()
                .from
                .as_deref(),
            Some(bare)
        );
    }
    let long = format!("{}@example.org", "a".repeat(1024));
    for jid in [
        "",
        "example.org",
        "@example.org",
        "romeo@",
        "romeo@/x",
        "a b@example.org",
        "a'b@example.org",
        "a@b@example.org",
        "example.org/a@b",
        "romeo@exa mple",
        "a\n@example.org",
        &long,
    ] {
        assert_eq!(bare_jid(jid), None, "{jid}");
    }
}
