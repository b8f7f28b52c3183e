//! Examples of the specifications, as they stand there.

use super::*;
use crate::xml::ns;
use bytes::BytesMut;

/// What a client would see of a manager's reply.
fn down(body: &str) -> (Header, Vec<String>) {
    let (frames, error) =
        read_every_split(body.as_bytes(), || Framer::new(LIMITS, RootText::Collect));
    assert_eq!(error, None);
    assert_eq!(frames.last(), Some(&Frame::End));
    let elements = frames[1..frames.len() - 1].iter().map(|frame| {
        let mut out = BytesMut::new();
        element(frame).write_for_stream(None, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    });
    (header(&frames[0]).clone(), elements.collect())
}

/// XEP-0206, "Session creation response with stream features".
#[test]
fn session_creation_response() {
    let (header, elements) = down(
        "<?xml version='1.0' encoding='utf-8'?>\n<body wait='60'
      inactivity='30'
      polling='5'
      requests='2'
      hold='1'
      from='example.com'
      accept='deflate,gzip'
      sid='SomeSID'
      charsets='ISO_8859-1 ISO-2022-JP'
      xmpp:restartlogic='true'
      xmpp:version='1.0'
      authid='ServerStreamID'
      xmlns='http://jabber.org/protocol/httpbind'
      xmlns:xmpp='urn:xmpp:xbosh'
      xmlns:stream='http://etherx.jabber.org/streams'>
  <stream:features>
    <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
      <mechanism>SCRAM-SHA-1</mechanism>
      <mechanism>PLAIN</mechanism>
    </mechanisms>
  </stream:features>
</body>\n",
    );
    assert!(header.is(ns::HTTPBIND, "body"));
    assert_eq!(
        (header.attr("wait"), header.attr("sid")),
        (Some("60"), Some("SomeSID"))
    );
    assert_eq!(header.attr_ns(ns::XBOSH, "version"), Some("1.0"));
    assert_eq!(header.attr("version"), None);
    assert_eq!(header.attributes[9].prefix.as_deref(), Some("xmpp"));
    assert_eq!(elements.len(), 1);
    assert!(elements[0].starts_with(
        "<stream:features>\n    <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\n"
    ));
}

/// XEP-0124, "Response with queued stanza": a prefix declared on the body and used by a payload (S-32).
#[test]
fn response_with_queued_stanzas() {
    let (_, elements) = down(
        "<body xmlns='http://jabber.org/protocol/httpbind'
      xmlns:json='http://json.org/'>
  <message from='contact@example.com'
           to='user@example.com'
           xmlns='jabber:client'>
    <body>Good morning to you!</body>
  </message>
  <json:json>
  [ { \"precision\": \"zip\" } ]
  </json:json>
</body>",
    );
    let message = "<message from='contact@example.com'\n           to='user@example.com'>\n    <body>Good morning to you!</body>\n  </message>";
    let json = "<json:json xmlns:json='http://json.org/'>\n  [ { \"precision\": \"zip\" } ]\n  </json:json>";
    assert_eq!(elements, [message, json]);
}

/// XEP-0124, "Remote error".
#[test]
fn remote_error() {
    let error = "<stream:error>
    <xml-not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>
    <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'
          xml:lang='en'>
      Some special application diagnostic information!
    </text>
    <escape-your-data xmlns='application-ns'/>
  </stream:error>";
    let (header, elements) = down(&format!(
        "<body condition='remote-stream-error'
      type='terminate'
      xmlns='http://jabber.org/protocol/httpbind'
      xmlns:stream='http://etherx.jabber.org/streams'>
  {error}
</body>"
    ));
    assert_eq!(header.attr("condition"), Some("remote-stream-error"));
    assert_eq!(elements, [error]);
}

/// RFC 6120 section 9.1.3, binding on the way up (S-31, X-02, B-10): blanks between elements stay behind.
#[test]
fn resource_binding_on_the_way_up() {
    let input = format!(
        "{HEADER}\n\n<iq id='yhc13a95' type='set'>
        <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>
          <resource>balcony</resource>
        </bind>
      </iq>\n\n<presence/>\n"
    );
    let (frames, error) =
        read_every_split(input.as_bytes(), || Framer::new(LIMITS, RootText::Refuse));
    assert_eq!((frames.len(), error), (3, None));
    let mut out = BytesMut::new();
    frames[1..]
        .iter()
        .for_each(|frame| element(frame).write_for_body(None, &mut out));
    let out = String::from_utf8(out.to_vec()).unwrap();
    assert!(out.starts_with("<iq xmlns='jabber:client' id='yhc13a95' type='set'>\n"));
    assert!(out.ends_with("</iq><presence xmlns='jabber:client'/>"));
    let parsed =
        roxmltree::Document::parse(&input.replace("<presence/>\n", "<presence/></stream:stream>"))
            .map(|_| ());
    assert_eq!(parsed, Ok(()));
}

/// B-11: an entity bomb in a reply is refused at its first declaration, nothing expanded, nothing kept.
#[test]
fn entity_bomb() {
    let bomb = "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;&lol;'>]>\
        <body xmlns='http://jabber.org/protocol/httpbind'>&lol2;</body>";
    let (frames, error) =
        read_every_split(bomb.as_bytes(), || Framer::new(LIMITS, RootText::Collect));
    assert!(frames.is_empty());
    assert_eq!(
        error,
        Some(XmlError::Restricted("document type declaration"))
    );
}

/// A manager that declares no prefix `stream`: the client sees the usual features (S-32).
#[test]
fn undeclared_stream_prefix() {
    let mut framer = Framer::new(LIMITS, RootText::Collect).lenient();
    let (frames, error) =
        read(&mut framer, [&b"<body xmlns='http://jabber.org/protocol/httpbind'><stream:features><a xmlns='urn:a'/></stream:features>"[..]]);
    assert_eq!(error, None);
    let mut out = BytesMut::new();
    element(&frames[1]).write_for_stream(None, &mut out);
    assert_eq!(
        out.as_ref(),
        b"<stream:features><a xmlns='urn:a'/></stream:features>"
    );
}
