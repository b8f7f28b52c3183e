//! The oracle sees what clients do wrong; what they do right, it leaves alone.

use xbosh_testkit::cm::{Fault, Profile, Rule, When};

use crate::bosh::{Bosh, HTTPBIND, creation, manager, message, post, post_with};

/// Each of these bodies, sent after creation, is one violation of that rule.
#[tokio::test]
async fn bodies_against_the_rules() {
    let plain = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AAAA</auth>";
    for (rule, attributes, inner) in [
        ("B-10", "", "\n".to_owned()),
        ("B-10", "", "<!-- hello -->".to_owned()),
        ("B-20", "wait='60'", String::new()),
        ("B-20", "secure='true'", String::new()),
        ("X-02", "", "<message to='a'/>".to_owned()),
        (
            "X-01",
            "",
            format!("{plain}<iq xmlns='jabber:client' type='get' id='1'/>"),
        ),
        (
            "X-06",
            "",
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_owned(),
        ),
        (
            "X-07",
            "",
            "<compress xmlns='http://jabber.org/protocol/compress'/>".to_owned(),
        ),
        (
            "S-20",
            "",
            "<error xmlns='http://etherx.jabber.org/streams'/>".to_owned(),
        ),
        (
            "X-15",
            "xmlns:xmpp='urn:xmpp:xbosh' to='localhost' xml:lang='en' xmpp:restart='true'",
            String::new(),
        ),
        (
            "X-04",
            "xmlns:x='urn:xmpp:xbosh' to='localhost' xml:lang='en' x:restart='true'",
            String::new(),
        ),
        ("B-45", "ack='1000'", String::new()),
        ("B-43", "pause='30'", String::new()),
    ] {
        let (_server, cm) = manager(Profile::strict()).await;
        let (mut client, _) = Bosh::create_with(&cm, "wait='0' hold='0'").await;
        let before = cm.violations();
        assert_eq!(before, Vec::<String>::new());
        let _ = client.send(attributes, &inner).await;
        let found = cm.violations();
        assert!(
            found.iter().any(|v| v.contains(rule)),
            "{rule} for {attributes} {inner}: {found:?}"
        );
    }
}

#[tokio::test]
async fn creation_against_the_rules() {
    for (rule, from, to) in [
        ("B-14", "ver='1.6'", "ver='2'"),
        ("B-15", "hold='1'", ""),
        ("B-13", "xml:lang='en'", ""),
        ("B-18", "ver='1.6'", "ver='1.6' ack='7'"),
        ("X-04", "<body", "<?xml version='1.0'?><body"),
        (
            "B-22",
            "/>",
            "><iq xmlns='jabber:client' type='get' id='1'/></body>",
        ),
    ] {
        let (_server, cm) = manager(Profile::strict()).await;
        let _ = post(cm.addr(), creation(1000).replacen(from, to, 1))
            .await
            .unwrap();
        let found = cm.violations();
        assert!(found.iter().any(|v| v.contains(rule)), "{rule}: {found:?}");
    }
}

/// B-02 to B-07, P-05: what must not stand in the head.
#[tokio::test]
async fn heads_against_the_rules() {
    for (rule, name, value) in [
        ("B-07", "Expect", "100-continue"),
        ("B-04", "Content-Encoding", "gzip"),
        ("P-05", "Proxy-Authorization", "Basic eDp5"),
        ("B-02", "Content-Type", "text/plain"),
    ] {
        let (_server, cm) = manager(Profile::strict()).await;
        let _ = post_with(cm.addr(), creation(1000), &[(name, value)]).await;
        let found = cm.violations();
        assert!(found.iter().any(|v| v.contains(rule)), "{rule}: {found:?}");
    }
}

/// B-38: a third request while two are not answered; the strict manager ends the session.
#[tokio::test]
async fn a_third_request_is_seen() {
    let (_server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    cm.script(Rule::times(When::Payload, 2, Fault::SilenceAfter));
    let _first = client.start(&cm, "", &message("echo@localhost", "1")).await;
    let _second = client.start(&cm, "", &message("echo@localhost", "2")).await;
    assert_eq!(cm.violations(), Vec::<String>::new());
    client
        .send("", &message("echo@localhost", "3"))
        .await
        .assert_terminated("policy-violation");
    assert!(cm.violations()[0].contains("B-38"), "{:?}", cm.violations());
}

/// B-39: an empty request beside a held one, too early.
#[tokio::test]
async fn a_needless_poll_is_seen() {
    let (_server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let _poll = client.start(&cm, "", "").await;
    cm.poll_is_held().await;
    client.send("", "").await;
    assert!(cm.violations()[0].contains("B-39"), "{:?}", cm.violations());
}

/// B-50: a repeat that is not the same.
#[tokio::test]
async fn a_changed_repeat_is_seen() {
    let (_server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let body = client.next("", &message("echo@localhost", "x"));
    post(cm.addr(), body.clone()).await.unwrap();
    post(cm.addr(), body.replace("sid='", "sid= '"))
        .await
        .unwrap();
    assert!(cm.violations()[0].contains("B-50"), "{:?}", cm.violations());
}

/// B-45: an ack for an answer that never came, none where one is missing, and the right one.
#[tokio::test]
async fn wrong_acks_are_seen() {
    for (ack, expected) in [
        ("ack='1001'", Some("where none belongs")),
        ("", Some("no ack")),
        ("ack='1000'", None),
    ] {
        let (_server, cm) = manager(Profile::strict()).await;
        let (mut client, _) = Bosh::create_with(&cm, "wait='60' hold='1' ack='1'").await;
        cm.script(Rule::once(When::Payload, Fault::SilenceAfter));
        let iq = "<iq xmlns='jabber:client' type='get' id='1'/>";
        let _lost = client.start(&cm, "", iq).await;
        client.send(ack, iq).await;
        let told = cm.violations();
        match expected {
            Some(text) => assert!(
                told[0].contains("B-45") && told[0].contains(text),
                "{told:?}"
            ),
            None => assert_eq!(told, Vec::<String>::new()),
        }
    }
}

/// B-05: a second request on a connection that still owes an answer.
#[tokio::test]
async fn pipelining_is_seen() {
    use tokio::io::AsyncWriteExt as _;
    let (_server, cm) = manager(Profile::strict()).await;
    let client = Bosh::bound(&cm, "user").await;
    let mut raw = tokio::net::TcpStream::connect(cm.addr()).await.unwrap();
    for rid in [client.rid + 1, client.rid + 2] {
        let body = format!(
            "<body xmlns='{HTTPBIND}' rid='{rid}' sid='{}'/>",
            client.sid
        );
        let request = format!(
            "POST /http-bind HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw.write_all(request.as_bytes()).await.unwrap();
        cm.poll_is_held().await;
    }
    crate::bosh::until(|| !cm.violations().is_empty()).await;
    assert!(cm.violations()[0].contains("B-05"), "{:?}", cm.violations());
}
