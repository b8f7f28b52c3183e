use super::*;

fn table() -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for reason in FaultReason::ALL {
        let condition = reason.condition().map_or("-", StreamCondition::as_str);
        let app = reason
            .app()
            .map_or_else(|| "-".to_owned(), |app| app.to_string());
        writeln!(
            out,
            "{} {condition} {app}\n     {}",
            reason.row(),
            reason.default_text()
        )
        .unwrap();
    }
    out
}

/// E-01 to E-67, C-01 to C-14, X-19: the whole table, so that a change is seen in review.
#[test]
fn the_table() {
    insta::assert_snapshot!(table(), @r"
    E-01 invalid-namespace -
         This is not a client's stream. xbosh serves XMPP clients only, not servers or components.
    E-02 bad-format -
         This is not an XMPP stream. Check that the program on this port is an XMPP client.
    E-03 improper-addressing -
         The client did not say which XMPP domain it wants. Set default_domain in xbosh's configuration.
    E-04 improper-addressing -
         The client asked for something that is not a domain name. Check the account's address in the client.
    E-05 host-unknown -
         xbosh is not set up for this domain. Add it to allowed_domains, or correct the account's address.
    E-05 host-unknown -
         The client changed the domain in the middle of a stream. Connect again.
    S-37 host-unknown -
         The client asked for one domain when it began TLS and for another in its stream. Check the account's address.
    S-37 policy-violation tls-required
         xbosh is set to serve clients over TLS only. Switch on STARTTLS or direct TLS in the client, or set local_tls.mode.
    S-01 policy-violation tls-required
         xbosh serves clients on other machines over TLS only, and serves none here. Set local_tls.mode, or run xbosh on the client's machine.
    S-45 policy-violation no-usable-mechanism
         The server offers only PLAIN, which xbosh hides without TLS. Switch on TLS in the client, or set features.plain_without_tls.
    E-06 unsupported-version -
         The client asked for a version of XMPP that xbosh does not speak. It speaks 1.0.
    E-07 unsupported-encoding -
         The client sent something that is not UTF-8.
    E-08 restricted-xml -
         The client sent XML that XMPP forbids: a comment, processing instruction, DTD or entity.
    E-09 not-well-formed -
         The client sent XML that is not well-formed.
    E-10 bad-format -
         The client sent text where only XML elements may be.
    E-11 bad-namespace-prefix -
         The client sent a stanza with a namespace prefix that xbosh does not support.
    E-12 unsupported-stanza-type -
         The client sent an element that has no place here.
    E-13 policy-violation stanza-too-big urn:xmpp:errors
         The client sent an element that is too large or too deep. Send something smaller, or raise limits.max_stanza_bytes.
    E-14 resource-constraint -
         xbosh serves as many connections as it may. Close one, or raise limits.max_streams.
    E-14 resource-constraint -
         Clients ask for new sessions with this domain faster than xbosh lets them through. Wait a moment, or raise limits.session_rate.
    E-14 resource-constraint -
         xbosh has no more memory for this connection. Connect again, or raise limits.buffer_bytes.
    E-15 policy-violation header-timeout
         The client connected but did not start a stream in time. Connect again.
    E-16 policy-violation slow-reader
         The client did not read what was sent to it. Connect again.
    S-48 policy-violation -
         The client enabled stream management twice on one stream. Connect again.
    S-49 conflict -
         The client resumed this stream on another connection.
    E-17 system-shutdown -
         xbosh is shutting down. Connect again when it runs.
    E-18 internal-server-error configuration
         xbosh cannot go on because of its configuration or a bug of its own. Its log says which.
    E-20 remote-connection-failed discovery-failed
         Could not ask the domain for its BOSH address. Check the network, or set the address (url) of this domain.
    E-21 host-unknown no-bosh-endpoint
         The domain names no BOSH address. If you know it, set it as url of this domain.
    E-30 remote-connection-failed proxy-unreachable
         The proxy cannot be reached. Check proxy.url and the network.
    E-31 remote-connection-failed proxy-auth-failed
         The proxy did not let xbosh in. Check proxy.username and proxy.password.
    E-32 remote-connection-failed proxy-refused
         The proxy refuses to connect to the BOSH server. It may allow certain hosts and ports only, often 443.
    E-33 remote-connection-failed proxy-upstream-failed
         The proxy could not reach the BOSH server. Check the url of this domain, or try again later.
    E-34 remote-connection-failed proxy-protocol-error
         The proxy gave an answer that makes no sense. Check the kind of proxy and the port in proxy.url.
    E-40 remote-connection-failed tls-certificate-invalid
         The certificate of the BOSH server is not trusted. If your network inspects TLS, set tls.ca_file.
    E-41 remote-connection-failed tls-failed
         No secure connection to the BOSH server could be made. Check that its url and port speak TLS.
    E-42 remote-connection-failed tls-certificate-changed
         The BOSH server showed another certificate than before. Connect again if that was expected.
    E-50 remote-connection-failed cm-unreachable
         The BOSH server cannot be reached. Check the network and the url of this domain.
    E-51 remote-connection-failed cm-timeout
         The BOSH server gave no complete answer in time. Check the network and connect again.
    E-52 remote-connection-failed not-a-bosh-endpoint
         What answered is not a BOSH server, perhaps the login page of a network. Open a web page, or check the url.
    E-53 remote-connection-failed unexpected-redirect
         xbosh was sent elsewhere in a way it must not follow. If a network's login page is there, log in; else set the final address as url of this domain.
    E-54 internal-server-error cm-bad-request
         The BOSH server did not understand xbosh. Connect again; if it comes back, report it with the log.
    E-55 remote-connection-failed cm-auth-required
         The BOSH server wants a web login that xbosh cannot give. Check the url of this domain.
    E-56 policy-violation -
         The BOSH server refused the request. Connect again later, or send something smaller.
    E-57 remote-connection-failed not-a-bosh-endpoint
         There is no BOSH service at this address. Check the url of this domain.
    E-57 connection-timeout session-lost
         The BOSH server no longer knows this session. Connect again.
    E-58 remote-connection-failed cm-http-error
         The web server in front of BOSH refused the request. Check the url of this domain.
    E-59 policy-violation stanza-too-big
         The BOSH server refused a request as too large. Send something smaller, or lower bosh.max_body_bytes.
    E-60 remote-connection-failed cm-http-error
         The BOSH server, or a proxy before it, is failing. Try again later.
    E-62 remote-connection-failed cm-protocol-error
         The BOSH server opened a session that makes no sense. Check the url of this domain, or tell its operator.
    E-63 remote-connection-failed cm-protocol-error
         The BOSH server sent broken XML. Connect again; if it comes back, tell its operator.
    E-64 reset -
         The session has reached its last request number. Connect again.
    E-65 remote-connection-failed no-features
         The XMPP server behind BOSH did not say in time how to log in. Try again later.
    E-66 policy-violation no-usable-mechanism
         The server offers only logins bound to its own TLS connection, which BOSH rules out. Ask its operator for SCRAM without PLUS.
    E-67 remote-connection-failed cm-protocol-error
         The BOSH server sent more than xbosh accepts. Raise limits.max_response_bytes if that is expected.
    C-01 internal-server-error -
         The BOSH server did not understand xbosh. Connect again; if it comes back, report it with the log.
    C-02 host-gone -
         The server no longer serves this domain. Ask its operator for the new address.
    C-03 host-unknown -
         The BOSH server does not know this domain. Check the account's address and the url of this domain.
    C-04 host-unknown -
         The BOSH server does not know this domain. Check the account's address and the url of this domain.
    C-05 internal-server-error -
         The BOSH server has a problem of its own. Try again later.
    C-06 connection-timeout -
         The BOSH server no longer knows this session. Connect again.
    C-07 undefined-condition -
         The BOSH server ended the session without saying why. Connect again.
    C-08 policy-violation -
         The BOSH server ended the session because its rules were broken. Connect again in a while.
    C-09 remote-connection-failed -
         The BOSH server has lost, or cannot reach, the XMPP server. Try again later.
    C-10 - -
         The server closed the stream.
    C-11 reset -
         The BOSH server has moved. Connect again.
    C-12 system-shutdown -
         The BOSH server is shutting down. Try again later.
    C-13 undefined-condition cm-condition
         The BOSH server ended the session for a reason that xbosh does not know. Connect again.
    C-14 - -
         The server closed the stream.
    X-19 reset -
         The server asks to use another of its hosts. Connect again; if it comes back, set the url of this domain.
    ");
}

/// Every row of the failure table that ends a stream has an entry. E-61 is the C rows; E-68 ends nothing.
#[test]
fn no_row_is_missing() {
    let e = (1..=18)
        .chain(20..=21)
        .chain(30..=34)
        .chain(40..=42)
        .chain(50..=60)
        .chain(62..=67);
    let rows = e
        .map(|n| format!("E-{n:02}"))
        .chain((1..=14).map(|n| format!("C-{n:02}")));
    for row in rows {
        assert!(
            FaultReason::ALL.iter().any(|reason| reason.row() == row),
            "{row}"
        );
    }
}

/// Texts fit a chat program: one line, a sentence or two, room left for a detail.
#[test]
fn texts_are_short() {
    for reason in FaultReason::ALL {
        let text = reason.default_text();
        assert!(
            text.len() <= 160 && text.ends_with('.') && !text.contains('\n'),
            "{reason:?}"
        );
    }
}

/// E-30 to E-51, E-67, E-18: each failure of the shell has its row.
#[test]
fn failure_kinds() {
    use FailureKind as Kind;
    let rows = [
        (Kind::ProxyUnreachable, "E-30"),
        (Kind::ProxyAuth, "E-31"),
        (Kind::ProxyRefused, "E-32"),
        (Kind::ProxyUpstream, "E-33"),
        (Kind::ProxyProtocol, "E-34"),
        (Kind::TlsCertificate, "E-40"),
        (Kind::TlsCertificateChanged, "E-42"),
        (Kind::Tls, "E-41"),
        (Kind::CmUnreachable, "E-50"),
        (Kind::NoReply, "E-51"),
        (Kind::ReplyTooLarge, "E-67"),
        (Kind::Internal, "E-18"),
    ];
    for (kind, row) in rows {
        assert_eq!(FaultReason::from(kind).row(), row);
    }
}

/// C-01 to C-13: each terminal binding condition has its row, in order.
#[test]
fn binding_conditions() {
    for (number, condition) in (1..).zip(BindingCondition::ALL) {
        assert_eq!(
            FaultReason::from(condition).row(),
            format!("C-{number:02}"),
            "{condition}"
        );
    }
}

/// E-53 to E-60: HTTP statuses, before and after creation.
#[test]
fn http_statuses() {
    let rows = [
        (301, "E-53"),
        (308, "E-53"),
        (400, "E-54"),
        (401, "E-55"),
        (403, "E-56"),
        (404, "E-57"),
        (410, "E-57"),
        (405, "E-58"),
        (411, "E-58"),
        (415, "E-58"),
        (417, "E-58"),
        (418, "E-58"),
        (426, "E-58"),
        (431, "E-58"),
        (501, "E-58"),
        (505, "E-58"),
        (407, "E-31"),
        (413, "E-59"),
        (408, "E-60"),
        (425, "E-60"),
        (429, "E-60"),
        (500, "E-60"),
        (502, "E-60"),
        (503, "E-60"),
        (504, "E-60"),
    ];
    for (status, row) in rows {
        assert_eq!(
            FaultReason::from_http_status(status, false).row(),
            row,
            "{status}"
        );
        assert_eq!(
            FaultReason::from_http_status(status, true).row(),
            row,
            "{status}"
        );
    }
    let at_creation = FaultReason::from_http_status(404, false);
    assert_eq!(
        at_creation.condition(),
        Some(StreamCondition::RemoteConnectionFailed)
    );
    let later = FaultReason::from_http_status(404, true);
    assert_eq!(later.condition(), Some(StreamCondition::ConnectionTimeout));
}

/// The detail follows the row's text; an orderly end has none.
#[test]
fn details() {
    let with = fault(
        FaultReason::ProxyAuth,
        Some(" proxy corp:3128 answered 407 "),
    );
    assert_eq!(
        with.text.as_deref(),
        Some(
            "The proxy did not let xbosh in. Check proxy.username and proxy.password. \
             (proxy corp:3128 answered 407)"
        )
    );
    for nothing in [None, Some(""), Some("  ")] {
        let text = fault(FaultReason::ProxyAuth, nothing).text.unwrap();
        assert_eq!(text, FaultReason::ProxyAuth.default_text());
    }
    assert_eq!(fault(FaultReason::OrderlyEnd, Some("x")).text, None);
    assert_eq!(
        fault(FaultReason::ElementTooLarge, None).to_string(),
        format!(
            "E-13 policy-violation (stanza-too-big urn:xmpp:errors): {}",
            FaultReason::ElementTooLarge.default_text()
        )
    );
}
