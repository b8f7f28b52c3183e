//! The end of a stream, from the client, from the manager, from us.

use super::*;

/// S-17, B-61, T-06: the client closes; its last stanza goes up, what still comes is delivered, then ours.
#[test]
fn s17_client_closes() {
    let (mut rig, poll) = Rig::online();
    rig.client("<presence type='unavailable'/></stream:stream>");
    let terminate = rig.request();
    assert!(
        text(&terminate)
            .contains("type='terminate'><presence xmlns='jabber:client' type='unavailable'/>")
    );
    rig.payload(&terminate, "");
    assert_eq!(rig.output(), "");
    rig.reply(
        &poll,
        "type='terminate'",
        "<message xmlns='jabber:client' id='last'/>",
    );
    assert_eq!(rig.output(), "<message id='last'/></stream:stream>");
    assert!(rig.bridge.is_finished());
}

/// The client leaves while the session is being made.
#[test]
fn s17_client_closes_during_set_up() {
    let mut rig = Rig::new();
    rig.client(HEADER);
    rig.request();
    rig.client("</stream:stream>");
    // Not read yet: nothing more is taken from the client until there is a session.
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    assert!(rig.bridge.is_finished());
}

/// C-01 to C-13: what each condition tells the client.
#[test]
fn c01_to_c13_conditions() {
    for (condition, expected, app) in [
        ("bad-request", "internal-server-error", None),
        ("host-gone", "host-gone", None),
        ("host-unknown", "host-unknown", None),
        ("improper-addressing", "host-unknown", None),
        ("internal-server-error", "internal-server-error", None),
        ("item-not-found", "connection-timeout", None),
        ("other-request", "undefined-condition", None),
        ("policy-violation", "policy-violation", None),
        ("remote-connection-failed", "remote-connection-failed", None),
        ("see-other-uri", "reset", None),
        ("system-shutdown", "system-shutdown", None),
        (
            "undefined-condition",
            "undefined-condition",
            Some("cm-condition"),
        ),
        ("weather", "undefined-condition", Some("cm-condition")),
    ] {
        let (mut rig, poll) = Rig::online();
        rig.reply(
            &poll,
            &format!("type='terminate' condition='{condition}'"),
            "",
        );
        let error = stream_error(&rig.output());
        assert_eq!(
            (error.0.as_str(), error.2.as_deref()),
            (expected, app),
            "{condition}"
        );
        assert!(rig.bridge.is_finished(), "{condition}");
        rig.no_request();
    }
}

/// C-10, C-14, T-24: an end without an error is only the stream's end.
#[test]
fn c14_orderly_ends() {
    for attributes in [
        "type='terminate'",
        "type='terminate' condition='remote-stream-error'",
    ] {
        let (mut rig, poll) = Rig::online();
        rig.reply(&poll, attributes, "");
        assert_eq!(rig.output(), "</stream:stream>", "{attributes}");
        assert!(rig.bridge.is_finished());
    }
}

/// the server's own error, once, behind the stanzas that came with it; the old form is wrapped.
#[test]
fn x18_remote_stream_errors() {
    let conflict = "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>";
    for inner in [
        format!("<stream:error>{conflict}</stream:error>"),
        conflict.to_owned(),
    ] {
        let (mut rig, poll) = Rig::online();
        rig.reply(
            &poll,
            "type='terminate' condition='remote-stream-error'",
            &format!("<message xmlns='jabber:client' id='a'/>{inner}"),
        );
        let output = rig.output();
        assert!(
            output.starts_with("<message id='a'/><stream:error>"),
            "{output}"
        );
        assert_eq!(output.matches("<stream:error>").count(), 1);
        assert_eq!(stream_error(&output).0, "conflict");
    }
}

/// X-19, T-27: the client is never sent past us.
#[test]
fn x19_see_other_host() {
    let (mut rig, poll) = Rig::online();
    rig.reply(
        &poll,
        "type='terminate' condition='remote-stream-error'",
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>evil.example</see-other-host></stream:error>",
    );
    let output = rig.output();
    assert_eq!(stream_error(&output).0, "reset");
    assert!(!output.contains("evil.example"));
}

/// E-30 to E-60: the hop's own sentence reaches the client.
#[test]
fn e30_to_e60_hop_failures_at_setup() {
    for (kind, app) in [
        (FailureKind::ProxyAuth, "proxy-auth-failed"),
        (FailureKind::ProxyRefused, "proxy-refused"),
        (FailureKind::ProxyProtocol, "proxy-protocol-error"),
        (FailureKind::TlsCertificate, "tls-certificate-invalid"),
    ] {
        let mut rig = Rig::new();
        rig.client(HEADER);
        let creation = rig.request();
        rig.fail(&creation, kind);
        let output = rig.output();
        assert!(output.starts_with("<?xml"), "S-12");
        assert_eq!(
            stream_error(&output),
            (
                "remote-connection-failed".into(),
                "the hop said no: do this".into(),
                Some(app.into())
            )
        );
        assert!(rig.bridge.is_finished());
    }
    for (kind, app) in [
        (FailureKind::ProxyUnreachable, "proxy-unreachable"),
        (FailureKind::ProxyUpstream, "proxy-upstream-failed"),
        (FailureKind::CmUnreachable, "cm-unreachable"),
        (FailureKind::NoReply, "cm-timeout"),
    ] {
        let mut rig = Rig::new();
        rig.client(HEADER);
        for attempt in 1..=3 {
            let creation = rig.request();
            assert_eq!(rig.fault(), None, "{attempt}");
            rig.fail(&creation, kind);
            rig.pass(Duration::from_secs(5));
        }
        assert_eq!(stream_error(&rig.output()).2.as_deref(), Some(app));
    }
}

/// S-20: the client's own error is not passed on; the session ends plainly.
#[test]
fn s20_client_sends_an_error() {
    let (mut rig, _poll) = Rig::online();
    rig.client("<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>");
    assert!(text(&rig.request()).contains("type='terminate'/>"));
}

/// S-47, E-17: on shutdown the client is told and the session ended.
#[test]
fn s47_shutdown() {
    let (mut rig, _poll) = Rig::online();
    rig.bridge.shutdown(rig.now);
    rig.settle();
    assert_eq!(stream_error(&rig.output()).0, "system-shutdown");
    let terminate = rig.request();
    assert!(text(&terminate).contains("type='terminate'/>"));
    rig.pass(Duration::from_millis(2100));
    assert!(rig.bridge.is_finished());
}

/// T-29: nothing follows `</stream:stream>`, whatever still comes.
#[test]
fn t29_nothing_after_the_end() {
    let (mut rig, poll) = Rig::online();
    rig.client("hello");
    let output = rig.output();
    assert!(output.ends_with("</stream:stream>"));
    rig.payload(&poll, "<message xmlns='jabber:client' id='late'/>");
    rig.client("<message/>");
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.output(), "");
}
