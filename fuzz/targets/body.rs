//! `xbosh::bosh::body`: what is decoded is XML, says what another parser reads in it, and survives being encoded.
//!
//! Input: the bytes of a reply.

use bytes::{Bytes, BytesMut};
use roxmltree::Document;
use std::time::Duration;
use xbosh::bosh::body::{self, Head, Response, ResponseType};
use xbosh::bosh::keys::RequestKeys;
use xbosh::bosh::params::RID_LIMIT;
use xbosh::bosh::verdict::judge;
use xbosh::bosh::{HttpReply, Requested, Rid, Sid, repair};
use xbosh::xml::Limits;

use super::oracle;

const LIMITS: Limits = Limits {
    max_element_bytes: 1 << 20,
    max_header_bytes: 16 << 10,
    max_depth: 128,
    max_attributes: 256,
};

pub fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    for status in [200, 302, 404, 503] {
        let reply = HttpReply {
            status,
            body: bytes.clone(),
            location: None,
            retry_after: None,
        };
        let _ = judge(&reply, LIMITS);
    }
    match body::decode(&bytes, LIMITS) {
        Ok(response) => {
            let document = source(&bytes);
            if let Ok(text) = std::str::from_utf8(&document)
                // roxmltree takes that attribute for a declaration.
                && !text.contains("xml:xmlns")
                && let Ok(parsed) = Document::parse(text)
            {
                compare(&response, &parsed);
            }
            encode_again(&response, data.len());
        }
        Err(error) => assert!(error.to_string().len() < 200),
    }
    encode_creation(data);
}

/// The text that was decoded, without blanks before it: the reply, or the reply with its root tag mended.
fn source(bytes: &Bytes) -> Bytes {
    let trimmed = |bytes: &Bytes| {
        let blanks = bytes
            .iter()
            .take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'))
            .count();
        bytes.slice(blanks..)
    };
    let document = trimmed(bytes);
    if oracle::some_accept(&document) {
        return document;
    }
    let mended = repair::root_tag(bytes).map(|mended| trimmed(&mended));
    mended
        .filter(|mended| oracle::some_accept(mended))
        .unwrap_or_else(|| {
            panic!(
                "decoded, and is no XML: {}",
                String::from_utf8_lossy(&document)
            )
        })
}

fn compare(response: &Response, document: &Document<'_>) {
    let root = document.root_element();
    // Both parsers read a doubled attribute's first value only after repair, which the caller has done.
    assert!(root.has_tag_name((body::NS_HTTPBIND, "body")));
    let attribute = |name: &str| {
        let mut plain = root.attributes().filter(|a| a.namespace().is_none());
        plain.find(|a| a.name() == name).map(|a| a.value())
    };
    let kind = match attribute("type") {
        None => ResponseType::Normal,
        Some("error") => ResponseType::Error,
        Some(_) => ResponseType::Terminate,
    };
    assert_eq!(response.kind, kind);
    assert_eq!(
        response.condition.is_some(),
        attribute("condition").is_some()
    );
    let ours = &response.attributes;
    let text = |name| attribute(name).filter(|v: &&str| !v.is_empty());
    assert_eq!(ours.sid.as_ref().map(Sid::as_str), text("sid"));
    assert_eq!(ours.authid.as_ref().map(Sid::as_str), text("authid"));
    assert_eq!(ours.from.as_deref(), text("from"));
    let seconds = |duration: Option<Duration>| duration.map(|d| d.as_secs());
    let mut all_numbers = true;
    for (name, value) in [
        ("rid", ours.rid),
        ("hold", ours.hold),
        ("requests", ours.requests),
        ("ack", ours.ack),
        ("report", ours.report),
        ("wait", seconds(ours.wait)),
        ("inactivity", seconds(ours.inactivity)),
        ("polling", seconds(ours.polling)),
        ("maxpause", seconds(ours.maxpause)),
    ] {
        let written = attribute(name);
        let number = written.and_then(|text| text.trim().parse::<u64>().ok());
        all_numbers &= written.is_some() == number.is_some();
        assert_eq!(value, number, "{name}");
    }
    assert_eq!(ours.bad_number.is_none(), all_numbers);
    let nodes = root.children().filter(roxmltree::Node::is_element);
    assert_eq!(response.elements.len(), nodes.clone().count());
    for (element, node) in response.elements.iter().zip(nodes) {
        let name = node.tag_name();
        assert!(element.is(name.namespace().unwrap_or_default(), name.name()));
    }
    assert!(response.text.len() <= 1024);
    let _ = response.other_uri();
}

/// decode(encode(elements)) = elements.
fn encode_again(response: &Response, number: usize) {
    let moved: Vec<BytesMut> = response
        .elements
        .iter()
        .map(|element| {
            let mut out = BytesMut::new();
            element.write_for_body(response.lang.as_deref(), &mut out);
            out
        })
        .collect();
    let sid = response
        .attributes
        .sid
        .clone()
        .unwrap_or_else(|| Sid::new("s".into()));
    let rid = Rid(response.attributes.rid.unwrap_or(RID_LIMIT).min(RID_LIMIT));
    let ack = response.attributes.ack.map(Rid);
    let terminate = response.kind == ResponseType::Terminate;
    let head = Head {
        sid: &sid,
        rid,
        ack,
        keys: RequestKeys::default(),
    };
    let encoded = body::encode(&head, terminate, moved.iter().map(|part| &part[..]));
    let shown = || String::from_utf8_lossy(&encoded);
    let again = body::decode(&encoded, LIMITS)
        .unwrap_or_else(|error| panic!("{number} bytes, {error}: {}", shown()));
    let wanted = if terminate {
        ResponseType::Terminate
    } else {
        ResponseType::Normal
    };
    assert_eq!(again.kind, wanted, "{}", shown());
    assert_eq!(again.attributes.sid, Some(sid), "{}", shown());
    assert_eq!(again.attributes.rid, Some(rid.0), "{}", shown());
    assert_eq!(again.attributes.ack, ack.map(|ack| ack.0), "{}", shown());
    assert_eq!(again.elements.len(), response.elements.len(), "{}", shown());
    for (before, after) in response.elements.iter().zip(&again.elements) {
        assert!(after.is(before.namespace(), before.local()), "{}", shown());
        assert_eq!(after.child_names(), before.child_names(), "{}", shown());
        assert_eq!(after.text(), before.text(), "{}", shown());
    }
    assert!(oracle::some_accept(&encoded), "{}", shown());
}

/// Any text in a creation or restart request comes out as it went in.
fn encode_creation(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let allowed = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    let text: String = text.chars().filter(allowed).take(100).collect();
    let requested = Requested {
        to: text.clone(),
        from: Some(text.clone()),
        lang: text.clone(),
        ver: text.clone(),
        wait: Duration::from_secs(data.len() as u64),
        hold: 1,
        route: Some(text.clone()),
        xmpp_version: data.len().is_multiple_of(2),
    };
    let rid = Rid(7);
    let check = |encoded: &Bytes| {
        let decoded = body::decode(encoded, LIMITS)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(encoded)));
        assert_eq!(decoded.attributes.rid, Some(7));
        assert_eq!(decoded.lang.as_deref(), Some(text.as_str()));
        assert_eq!(decoded.attributes.from.unwrap_or_default(), text);
        let document = std::str::from_utf8(encoded).expect("UTF-8");
        let document = Document::parse(document).expect("XML");
        assert_eq!(document.root_element().attribute("to"), Some(text.as_str()));
        decoded.attributes.ver
    };
    let creation = body::encode_creation(&requested, rid, &RequestKeys::default());
    assert_eq!(check(&creation).as_deref(), Some(text.as_str()));
    let sid = Sid::new(text.clone());
    let head = Head {
        sid: &sid,
        rid,
        ack: None,
        keys: RequestKeys::default(),
    };
    check(&body::encode_restart(&requested, &head));
}
