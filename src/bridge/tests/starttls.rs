//! STARTTLS as the stream sees it (S-37).

use super::*;
use crate::bridge::TlsOptions;

pub(super) const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const REFUSED: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";

pub(super) fn options(advertised: bool) -> TlsOptions {
    TlsOptions {
        served: true,
        required: false,
        advertised: Box::new(move |domain| {
            assert_eq!(domain, "example.org");
            advertised
        }),
        hide_plain: false,
    }
}

pub(super) fn rig(tls: TlsOptions) -> Rig {
    Rig::with_tls(HeaderRules::default(), tls)
}

pub(super) fn advertising() -> Rig {
    rig(options(true))
}

impl Rig {
    /// The shell was asked for TLS since the last call; the bytes that it starts with.
    pub(super) fn turns(&mut self) -> Option<Vec<u8>> {
        let at = self
            .events
            .iter()
            .position(|event| matches!(event, Event::Tls { .. }))?;
        match self.events.remove(at) {
            Event::Tls { received } => Some(received.to_vec()),
            _ => None,
        }
    }

    pub(super) fn secured(&mut self, sni: Option<&str>) {
        self.bridge.handle_secured(sni.map(str::to_owned), self.now);
        self.settle();
    }

    /// `<starttls/>` was sent, `<proceed/>` comes, TLS is there.
    pub(super) fn starttls(&mut self) {
        self.client(STARTTLS);
        assert_eq!(self.output(), PROCEED);
        assert_eq!(self.turns(), Some(Vec::new()));
        assert!(!self.bridge.wants_client_bytes());
        self.secured(None);
    }

    pub(super) fn features(&mut self) -> String {
        let output = self.output();
        let at = output.find("<stream:features").expect("features");
        output[at..].to_owned()
    }

    pub(super) fn resolved(&self) -> usize {
        let asked = |event: &&Event| matches!(event, Event::Resolve { .. });
        self.events.iter().filter(asked).count()
    }
}

/// S-37: offered where it is to be; served whether or not it was offered.
#[test]
fn s37_offered_or_not() {
    for advertised in [true, false] {
        let mut rig = rig(options(advertised)).granted(GRANT, SASL_FEATURES);
        let output = rig.output();
        assert_eq!(output.contains(STARTTLS), advertised, "{output}");
        assert!(output.contains("<mechanism>PLAIN</mechanism>"));
        rig.starttls();
    }
}

/// S-37: the session of the plain header serves the TLS stream: features once more without starttls, a new id, no
/// request; then login goes on as ever.
#[test]
fn s37_the_session_serves_on() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    let plain = rig.output();
    rig.starttls();
    rig.client(HEADER);
    let output = rig.output();
    assert!(output.starts_with("<?xml version='1.0'?><stream:stream "));
    assert!(output.ends_with(SASL_FEATURES), "{output}");
    assert!(!output.contains("starttls"));
    let id = |text: &str| text.split(" id='").nth(1).map(|rest| rest[..32].to_owned());
    assert_ne!(id(&plain), id(&output), "S-06");
    rig.no_request();
    assert_eq!(rig.resolved(), 1);
    assert!(rig.bridge.is_secure() && !rig.bridge.is_secure_from_the_start());
    rig.client(AUTH);
    let auth = rig.request();
    assert!(text(&auth).contains("sid='s1'") && text(&auth).contains("<auth"));
    rig.payload(&auth, SUCCESS);
    rig.client(HEADER);
    let restart = rig.request();
    rig.payload(&restart, BIND_FEATURES);
    assert!(rig.output().ends_with(BIND_OFFER));
}

/// S-37: wherever the client's bytes are split.
#[test]
fn s37_split_at_every_byte() {
    let said = format!("{HEADER}{STARTTLS}");
    for at in 1..said.len() {
        let mut rig = advertising();
        rig.client(&said[..at]);
        rig.client(&said[at..]);
        let creation = rig.request();
        rig.reply(&creation, GRANT, SASL_FEATURES);
        assert!(rig.output().ends_with(PROCEED), "{at}");
        assert_eq!(rig.turns(), Some(Vec::new()), "{at}");
        rig.secured(None);
        for byte in HEADER.chars() {
            rig.client(&byte.to_string());
        }
        assert!(rig.output().ends_with(SASL_FEATURES), "{at}");
    }
}

/// S-37, CVE-2011-0411: what follows `<starttls/>` in the clear is never taken for what was said inside TLS.
#[test]
fn s37_injection() {
    let said = format!("{STARTTLS}{AUTH}");
    for at in STARTTLS.len() + 1..=said.len() {
        let mut rig = advertising().granted(GRANT, SASL_FEATURES);
        rig.output();
        rig.client(&said[..at]);
        rig.client(&said[at..]);
        assert_eq!(rig.output(), REFUSED, "{at}");
        assert_eq!(rig.turns(), None);
        let terminate = text(&rig.request());
        assert!(terminate.contains("type='terminate'/>"), "{terminate}");
    }
    // In a segment of its own it is for TLS to refuse: nothing reaches the stream.
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.client(STARTTLS);
    rig.client(AUTH);
    assert_eq!(rig.output(), PROCEED);
    rig.secured(None);
    rig.client(HEADER);
    assert!(rig.output().ends_with(SASL_FEATURES));
    rig.no_request();
}

/// S-37: too late once a login was asked for, inside TLS, and where TLS is off; the exact bytes.
#[test]
fn s37_refused() {
    let late = |rig: &mut Rig| {
        rig.output();
        rig.client(STARTTLS);
        assert_eq!(rig.output(), REFUSED);
        assert_eq!(rig.turns(), None);
        assert!(rig.bridge.is_client_closed());
    };
    late(&mut Rig::negotiating(SASL_FEATURES));
    late(&mut advertising().authenticated(GRANT, AUTH));
    late(&mut advertising().log_in(GRANT, AUTH).0);
    let mut asked = advertising().granted(GRANT, SASL_FEATURES);
    asked.client(AUTH);
    late(&mut asked);
    let mut secure = advertising().granted(GRANT, SASL_FEATURES);
    secure.output();
    secure.starttls();
    secure.client(HEADER);
    late(&mut secure);
}

/// S-37: no more of it after login: the features behind the restart do not offer it.
#[test]
fn s37_not_offered_after_login() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.client(AUTH);
    let auth = rig.request();
    rig.payload(&auth, SUCCESS);
    rig.output();
    rig.client(HEADER);
    let restart = rig.request();
    rig.payload(&restart, BIND_FEATURES);
    assert!(rig.output().ends_with(BIND_OFFER));
}

/// S-37, S-16: a header inside TLS that says something else: another domain is refused, another `from`, language or
/// version gets a session of its own, and the first one is ended.
#[test]
fn s37_another_header_inside_tls() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.starttls();
    rig.client(&HEADER.replace("example.org", "example.net"));
    assert_eq!(stream_error(&rig.output()).0, "host-unknown");

    for header in [
        HEADER.replace(" to=", " from='a@example.org' to="),
        HEADER.replace(" to=", " xml:lang='de' to="),
        HEADER.replace("org' version='1.0'", "org'"),
    ] {
        let mut rig = advertising().granted(GRANT, SASL_FEATURES);
        rig.output();
        rig.starttls();
        rig.client(&header);
        let terminate = rig.request();
        assert!(text(&terminate).contains("type='terminate'"));
        assert!(text(&terminate).contains("sid='s1'"));
        rig.reply(&terminate, "type='terminate'", "");
        let creation = rig.request();
        assert!(!text(&creation).contains("sid="), "{}", text(&creation));
        assert_eq!(
            text(&creation).contains(" from='a@example.org'"),
            header.contains("from=")
        );
        assert_eq!(
            text(&creation).contains("xml:lang='de'"),
            header.contains("lang=")
        );
        rig.reply(&creation, &GRANT.replace("s1", "s2"), SASL_FEATURES);
        assert_eq!(
            rig.output().ends_with(SASL_FEATURES),
            header.contains("org' version=")
        );
        rig.client(AUTH);
        assert!(text(&rig.request()).contains("sid='s2'"));
    }
}

/// The manager never answers the end of the first session: the second one does not wait for that.
#[test]
fn s37_the_first_session_does_not_end() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.starttls();
    rig.client(&HEADER.replace(" to=", " from='a@example.org' to="));
    rig.request();
    rig.pass(Duration::from_millis(2100));
    let creation = loop {
        let request = rig.request();
        if !text(&request).contains("sid=") {
            break request;
        }
    };
    rig.reply(&creation, GRANT, SASL_FEATURES);
    assert!(rig.output().ends_with(SASL_FEATURES));
}

/// The session is lost during the handshake: there is another one for the header inside TLS.
#[test]
fn s37_session_lost_in_the_handshake() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.client(STARTTLS);
    assert_eq!(rig.output(), PROCEED);
    // No poll is held during negotiation; the next one learns of it.
    rig.pass(Duration::from_secs(25));
    let poll = rig.request();
    rig.reply(&poll, "type='terminate' condition='system-shutdown'", "");
    assert_eq!(rig.output(), "");
    rig.secured(None);
    rig.client(HEADER);
    let creation = rig.request();
    assert!(!text(&creation).contains("sid="));
    rig.reply(&creation, &GRANT.replace("s1", "s2"), SASL_FEATURES);
    assert!(rig.output().ends_with(SASL_FEATURES));
}

/// RFC 6120 section 5.4.3.3: what the manager answers to words in the clear does not come inside TLS.
#[test]
fn s37_answers_to_the_clear_are_dropped() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.client("<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>");
    let asked = rig.request();
    rig.starttls();
    rig.payload(
        &asked,
        "<iq xmlns='jabber:client' type='result' id='1'><query xmlns='jabber:iq:register'/></iq>",
    );
    rig.client(HEADER);
    let output = rig.output();
    assert!(output.ends_with(SASL_FEATURES) && !output.contains("<iq"));
}

/// S-37: `header_timeout` covers the handshake, and the header behind it; in the handshake nothing is said.
#[test]
fn s37_time_for_the_handshake() {
    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.pass(Duration::from_secs(50));
    rig.client(STARTTLS);
    rig.output();
    rig.pass(Duration::from_millis(29_900));
    assert!(!rig.bridge.is_client_closed());
    rig.pass(Duration::from_millis(200));
    assert!(rig.bridge.is_client_closed());
    assert_eq!((rig.output().as_str(), rig.fault()), ("", None));

    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.starttls();
    rig.pass(Duration::from_secs(31));
    assert_eq!(
        stream_error(&rig.output()).2.as_deref(),
        Some("header-timeout")
    );
}

/// Whatever ends the stream in the middle of the handshake says nothing there, and ends the session.
#[test]
fn s37_ends_in_the_handshake() {
    let ends: [fn(&mut Rig); 2] = [
        |rig| rig.bridge.shutdown(rig.now),
        |rig| rig.bridge.handle_client_gone(rig.now),
    ];
    for end in ends {
        let mut rig = advertising().granted(GRANT, SASL_FEATURES);
        rig.output();
        rig.client(STARTTLS);
        end(&mut rig);
        rig.settle();
        assert_eq!(rig.output(), "");
        assert!(text(&rig.request()).contains("type='terminate'"));
    }
}

/// S-37, mode required: the plain header is answered here, with nothing but starttls; no session before TLS.
#[test]
fn s37_required() {
    let required = || {
        rig(TlsOptions {
            required: true,
            ..options(true)
        })
    };
    let mut rig = required();
    rig.client(HEADER);
    assert_eq!(
        rig.features(),
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
    );
    rig.no_request();
    assert_eq!(rig.resolved(), 0);
    rig.starttls();
    rig.no_request();
    rig.client(HEADER);
    let creation = rig.request();
    rig.reply(&creation, GRANT, SASL_FEATURES);
    assert!(rig.output().ends_with(SASL_FEATURES));

    for element in [
        AUTH,
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<presence/>",
        "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>",
        "<enable xmlns='urn:xmpp:sm:3'/>",
    ] {
        let mut rig = required();
        rig.client(&format!("{HEADER}{element}"));
        let (condition, _, app) = stream_error(&rig.output());
        assert_eq!(
            (condition.as_str(), app.as_deref()),
            ("policy-violation", Some("tls-required")),
            "{element}"
        );
        assert_eq!(rig.resolved(), 0);
    }
    // It leaves, or says nothing more.
    let mut rig = required();
    rig.client(&format!("{HEADER}</stream:stream>"));
    assert!(rig.output().ends_with("</stream:features></stream:stream>"));
    let mut rig = required();
    rig.client(HEADER);
    rig.pass(Duration::from_secs(31));
    assert_eq!(
        stream_error(&rig.output()).2.as_deref(),
        Some("header-timeout")
    );
    // Too late once inside.
    let mut rig = required();
    rig.client(&format!("{HEADER}{STARTTLS}{AUTH}"));
    assert!(rig.output().ends_with(REFUSED));
}

/// S-40: a client of before 1.0 gets no features, but may still ask for TLS.
#[test]
fn s37_versionless() {
    let header = HEADER.replace("org' version='1.0'", "org'");
    let mut rig = advertising();
    rig.client(&header);
    let creation = rig.request();
    rig.reply(&creation, &format!("{GRANT} authid='a1'"), "");
    rig.output();
    rig.starttls();
    rig.client(&header);
    let output = rig.output();
    assert!(output.contains(" id='a1'"), "X-12: the server hashes it");
    assert!(output.ends_with('>') && !output.contains("features"));
    rig.client("<iq type='get' id='1'><query xmlns='jabber:iq:auth'/></iq>");
    assert!(text(&rig.request()).contains("jabber:iq:auth"));
}
