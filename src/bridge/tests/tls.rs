//! TLS from the first byte (S-02), what is hidden without it (S-45), and who needs it (S-01).

use super::starttls::{STARTTLS, advertising, options, rig};
use super::*;
use crate::bridge::TlsOptions;

/// S-01: a client on another machine, and no TLS to be had.
#[test]
fn s01_remote_without_tls() {
    let mut rig = rig(TlsOptions {
        served: false,
        required: true,
        ..options(false)
    });
    rig.client(HEADER);
    let (condition, text, app) = stream_error(&rig.output());
    assert_eq!(
        (condition.as_str(), app.as_deref()),
        ("policy-violation", Some("tls-required"))
    );
    assert!(text.contains("local_tls.mode"), "{text}");
    assert_eq!(
        (rig.resolved(), rig.fault()),
        (0, Some(FaultReason::RemoteWithoutTls))
    );
}

/// S-45: PLAIN shows inside TLS only.
#[test]
fn s45_plain_is_hidden() {
    let features = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
         <mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
         <authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism>\
         <mechanism>SCRAM-SHA-1</mechanism></authentication></stream:features>";
    for hide_plain in [true, false] {
        let mut rig = rig(TlsOptions {
            hide_plain,
            ..options(false)
        })
        .granted(GRANT, features);
        let plain = rig.features();
        assert_eq!(
            plain.matches("PLAIN").count(),
            if hide_plain { 0 } else { 2 }
        );
        assert_eq!(plain.matches("SCRAM-SHA-1").count(), 2);
        rig.starttls();
        rig.client(HEADER);
        assert_eq!(rig.features(), features);
    }
}

/// S-45: a server with nothing but PLAIN: the error says what to do, unless TLS is offered beside it.
#[test]
fn s45_nothing_but_plain() {
    for advertised in [true, false] {
        let mut rig = rig(TlsOptions {
            hide_plain: true,
            ..options(advertised)
        })
        .granted(GRANT, SASL_FEATURES);
        if advertised {
            assert!(rig.features().contains(STARTTLS));
            rig.starttls();
            rig.client(HEADER);
            assert_eq!(rig.features(), SASL_FEATURES);
        } else {
            let (condition, text, _) = stream_error(&rig.output());
            assert_eq!(condition, "policy-violation");
            assert!(text.contains("features.plain_without_tls"), "{text}");
        }
    }
}

/// S-02: TLS from the first byte, blanks before it or not; then the stream as ever, without starttls.
#[test]
fn s02_direct_tls() {
    for hello in ["\x16\x03\x01", " \r\n\x16\x03\x01"] {
        let mut rig = advertising();
        rig.client(hello);
        assert_eq!(rig.turns(), Some(b"\x16\x03\x01".to_vec()));
        assert_eq!(rig.output(), "");
        rig.secured(None);
        rig.client(HEADER);
        let creation = rig.request();
        rig.reply(&creation, GRANT, SASL_FEATURES);
        assert!(rig.output().ends_with(SASL_FEATURES));
        assert!(rig.bridge.is_secure_from_the_start());
    }
    // Inside TLS neither TLS nor HTTP is served.
    for first in ["\x16\x03\x01", "GET / HTTP/1.1\r\n\r\n"] {
        let mut rig = advertising();
        rig.client("\x16");
        rig.secured(None);
        assert_eq!(rig.turns(), Some(vec![0x16]));
        rig.client(first);
        assert_eq!((rig.output().as_str(), rig.turns()), ("", None));
        assert!(rig.bridge.is_finished());
    }
    // It stalls.
    let mut rig = advertising();
    rig.client("\x16");
    rig.pass(Duration::from_secs(31));
    assert!(rig.bridge.is_finished());
    assert_eq!((rig.output().as_str(), rig.fault()), ("", None));
}

/// S-37: the name in TLS and the domain of the stream are one; without `to` the name counts.
#[test]
fn s37_name_in_tls() {
    let direct = |header: &str| {
        let mut rig = advertising();
        rig.client("\x16");
        rig.secured(Some("example.org"));
        rig.client(header);
        rig
    };
    let mut same = direct(HEADER);
    assert!(text(&same.request()).contains(" to='example.org'"));
    let mut unsaid = direct(&HEADER.replace("to='example.org' ", ""));
    assert!(text(&unsaid.request()).contains(" to='example.org'"));
    let mut other = direct(&HEADER.replace("example.org", "example.net"));
    let (condition, text, _) = stream_error(&other.output());
    assert_eq!(condition, "host-unknown");
    assert!(text.contains("example.org") && text.contains("example.net"));
    assert_eq!(other.resolved(), 0);

    let mut rig = advertising().granted(GRANT, SASL_FEATURES);
    rig.output();
    rig.client(STARTTLS);
    rig.output();
    rig.secured(Some("example.net"));
    rig.client(HEADER);
    assert_eq!(stream_error(&rig.output()).0, "host-unknown");
}

/// S-49: a stream inside TLS is resumed by a client inside TLS, or outside.
#[test]
fn s49_resumed_inside_tls() {
    for secure in [true, false] {
        let (mut old, _poll) = Rig::online();
        old.client("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let output = old.output();
        let id = output.split(" id='").nth(1).unwrap();
        let id = id[..id.find('\'').unwrap()].to_owned();
        old.bridge.handle_client_gone(old.now);
        old.settle();
        let mut new = advertising();
        if secure {
            new.client("\x16");
            new.secured(None);
        }
        let mut new = new.authenticated(GRANT, AUTH);
        new.client(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ));
        let side = new.bridge.detach();
        old.bridge.attach(side, 0, old.now);
        assert_eq!(old.bridge.is_secure(), secure);
        assert_eq!(old.bridge.is_secure_from_the_start(), secure);
        assert!(old.output().contains("<resumed "));
        new.bridge.given_away(new.now);
    }
}
