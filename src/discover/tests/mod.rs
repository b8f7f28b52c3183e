//! Documents, ages, and asking a scripted web server through a proxy.

mod asking;
#[cfg(feature = "dns")]
pub(crate) mod dns;

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use proptest::prelude::*;

use super::freshness::freshness;
use super::host_meta::{Link, Transport, Unreadable, in_order, read_jrd, read_xrd};

const XRD: &str = "http://docs.oasis-open.org/ns/xri/xrd-1.0";

fn hrefs(links: &[Link]) -> Vec<&str> {
    links.iter().map(|link| link.href.as_str()).collect()
}

/// D-04: the example of XEP-0156 section 3, among other links, with any prefix.
#[test]
fn d04_xrd() {
    let document = format!(
        "\u{feff}<?xml version='1.0' encoding='utf-8'?>
        <!-- a comment -->
        <x:XRD xmlns:x='{XRD}' xmlns='urn:other'>
          <x:Subject>acct:&lt;me&#x3e;</x:Subject>
          <x:Link rel=\"urn:xmpp:alt-connections:xbosh\" href=\"https://web.example.com:5280/bosh?a=1&amp;b=2\"/>
          <x:Link rel='urn:xmpp:alt-connections:xbosh' template='https://t.example/{{uri}}'/>
          <x:Link rel='urn:xmpp:alt-connections:websocket' href='wss://web.example.com:443/ws'><x:Title>no</x:Title></x:Link>
          <x:Link rel='lrdd' href='https://web.example.com/lrdd'/>
          <Link rel='urn:xmpp:alt-connections:xbosh' href='https://other-namespace.example/'/>
          <x:Property><x:Link rel='urn:xmpp:alt-connections:xbosh' href='https://nested.example/'/></x:Property>
        </x:XRD>"
    );
    let links = read_xrd(document.as_bytes()).unwrap();
    assert_eq!(
        hrefs(&links),
        [
            "https://web.example.com:5280/bosh?a=1&b=2",
            "wss://web.example.com:443/ws"
        ]
    );
    assert_eq!(links[1].transport, Transport::WebSocket);
}

/// D-04: the same in JSON, with members that say nothing to us.
#[test]
fn d04_jrd() {
    let document = r#"{"subject":"x","properties":{"a":null},"links":[
        {"rel":"urn:xmpp:alt-connections:xbosh","href":"https://a.example/bosh","titles":{"en":"x"}},
        {"rel":"urn:xmpp:alt-connections:xbosh","template":"https://t.example/"},
        {"rel":"lrdd","href":"https://a.example/lrdd"},
        {"href":"https://a.example/nothing"}]}"#;
    assert_eq!(
        hrefs(&read_jrd(document.as_bytes()).unwrap()),
        ["https://a.example/bosh"]
    );
    assert_eq!(read_jrd(b"{}"), Ok(vec![]));
    for bad in ["", "[]", "<XRD/>", "{\"links\":{}}", &"[".repeat(100_000)] {
        assert_eq!(read_jrd(bad.as_bytes()), Err(Unreadable::NotJrd));
    }
}

/// D-14: no DTD, no entities; and what is no XRD is none.
#[test]
fn d14_xrd_refused() {
    let xrd = |inside: &str| format!("<XRD xmlns='{XRD}'>{inside}</XRD>");
    let bomb = format!(
        "<!DOCTYPE XRD [<!ENTITY a 'https://evil.example/'>]>{}",
        xrd("<Link rel='urn:xmpp:alt-connections:xbosh' href='&a;'/>")
    );
    for bad in [
        bomb.as_str(),
        &xrd("<Link rel='urn:xmpp:alt-connections:xbosh' href='&a;'/>"),
        &xrd("&a;"),
        &xrd("<Link rel='a' rel='b'/>"),
        &xrd("</Link>"),
        "<XRD xmlns='a'",
    ] {
        assert_eq!(read_xrd(bad.as_bytes()), Err(Unreadable::Xml), "{bad}");
    }
    assert_eq!(read_xrd(&[0xff, 0xfe]), Err(Unreadable::Xml));
    for other in [
        "",
        "<html><p>hi</p></html>",
        "<XRD/>",
        &format!("<XRD xmlns='{XRD}'>"),
    ] {
        assert_eq!(
            read_xrd(other.as_bytes()),
            Err(Unreadable::NotXrd),
            "{other}"
        );
    }
    let two = format!("{}{}", xrd(""), xrd(""));
    assert_eq!(read_xrd(two.as_bytes()), Err(Unreadable::NotXrd));
}

/// D-05, D-06: https only, without user names; the domain's own hosts first, the rest in their order.
#[test]
fn d06_order() {
    let links: Vec<Link> = [
        "https://b.other/bosh",
        "http://plain.example.org/bosh",
        "https://notexample.org/bosh",
        "https://user:pw@example.org/bosh",
        "https://b.other/bosh",
        "https://example.org/bosh",
        "no url",
        "https://cm.example.org:5281/bosh",
    ]
    .map(|href| Link {
        transport: Transport::Bosh,
        href: href.into(),
    })
    .into();
    let urls: Vec<String> = in_order(&links, "example.org")
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        urls,
        [
            "https://example.org/bosh",
            "https://cm.example.org:5281/bosh",
            "https://b.other/bosh",
            "https://notexample.org/bosh",
        ]
    );
}

/// D-15: freshness of HTTP, clamped to five minutes and a day.
#[test]
fn d15_freshness() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let seconds = |lines: &[(&'static str, &'static str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        freshness(&headers, now).as_secs()
    };
    assert_eq!(seconds(&[]), 3600);
    assert_eq!(seconds(&[("cache-control", "public, max-age=7200")]), 7200);
    assert_eq!(
        seconds(&[("cache-control", "max-age=7200"), ("age", "200")]),
        7000
    );
    assert_eq!(seconds(&[("cache-control", "max-age=1")]), 300);
    assert_eq!(seconds(&[("cache-control", "max-age=31536000")]), 86400);
    assert_eq!(seconds(&[("cache-control", "no-store")]), 300);
    assert_eq!(
        seconds(&[
            ("cache-control", "max-age=7200"),
            ("cache-control", "no-cache")
        ]),
        300
    );
    // One hour and ten minutes behind the answer's own date, or our clock.
    let expires = ("expires", "Sun, 06 Nov 1994 09:59:37 GMT");
    assert_eq!(
        seconds(&[expires, ("date", "Sun, 06 Nov 1994 08:59:37 GMT")]),
        3600
    );
    assert_eq!(seconds(&[expires]), 4200);
    assert_eq!(seconds(&[("expires", "0")]), 300);
}

proptest! {
    /// Whatever a web server sends, reading it ends and finds nothing that is not there.
    #[test]
    fn any_document_is_survived(text in "(<|>|/|&|;|'|=|XRD|Link|rel|href|urn:xmpp:alt-connections:xbosh|https://a/| |!DOCTYPE|\\PC){0,60}") {
        let _ = read_xrd(text.as_bytes());
        let _ = read_jrd(text.as_bytes());
        let wrapped = format!("<XRD xmlns='{XRD}'>{text}</XRD>");
        for link in read_xrd(wrapped.as_bytes()).unwrap_or_default() {
            prop_assert!(wrapped.contains("xbosh") && !link.href.contains('<'));
        }
    }
}
