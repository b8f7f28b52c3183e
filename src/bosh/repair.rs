//! A second, lenient look at a reply whose root tag is not well-formed.
//!
//! ejabberd writes `type` and `condition` twice when a stream error meets the stream's end, and `polling`
//! twice in some releases; node-xmpp-bosh leaves `xmlns:stream` out. Nothing but the root tag is touched:
//! what is inside must still pass the strict parser.

use bytes::{Bytes, BytesMut};

/// Prefixes that managers use without declaring them.
const USUAL_PREFIXES: [(&str, &str); 2] = [
    ("stream", "http://etherx.jabber.org/streams"),
    ("xmpp", "urn:xmpp:xbosh"),
];

/// The reply with a repeated attribute of `<body>` dropped (the first stays) and a usual prefix declared.
/// `None` when there is nothing of that to mend.
#[must_use]
pub fn root_tag(bytes: &[u8]) -> Option<Bytes> {
    let start = memchr::memmem::find(bytes, b"<body")?;
    let name_end = start + b"<body".len();
    let mut kept: Vec<(&[u8], &[u8])> = Vec::new();
    let mut mended = false;
    let mut at = name_end;
    let tag_end = loop {
        at += bytes[at..]
            .iter()
            .take_while(|b| b.is_ascii_whitespace())
            .count();
        match bytes.get(at)? {
            b'>' | b'/' => break at,
            _ => {}
        }
        let equals = at + memchr::memchr(b'=', &bytes[at..])?;
        let name = bytes[at..equals].trim_ascii();
        let quote_at = equals
            + 1
            + bytes[equals + 1..]
                .iter()
                .take_while(|b| b.is_ascii_whitespace())
                .count();
        let quote = *bytes
            .get(quote_at)
            .filter(|q| matches!(**q, b'"' | b'\''))?;
        let end = quote_at + 1 + memchr::memchr(quote, &bytes[quote_at + 1..])?;
        if kept.iter().any(|(seen, _)| *seen == name) {
            mended = true;
        } else {
            kept.push((name, &bytes[quote_at..=end]));
        }
        at = end + 1;
        // Bounds the quadratic look-up above.
        if kept.len() > 64 {
            return None;
        }
    };
    let missing: Vec<_> = USUAL_PREFIXES
        .into_iter()
        .filter(|(prefix, _)| {
            let declaration = format!("xmlns:{prefix}");
            let used = format!("{prefix}:");
            memchr::memmem::find(&bytes[start..], used.as_bytes()).is_some()
                && !kept.iter().any(|(name, _)| *name == declaration.as_bytes())
        })
        .collect();
    if !mended && missing.is_empty() {
        return None;
    }
    let mut out = BytesMut::with_capacity(bytes.len() + 128);
    out.extend_from_slice(&bytes[..name_end]);
    for (name, value) in kept {
        out.extend_from_slice(b" ");
        out.extend_from_slice(name);
        out.extend_from_slice(b"=");
        out.extend_from_slice(value);
    }
    for (prefix, uri) in missing {
        out.extend_from_slice(format!(" xmlns:{prefix}='{uri}'").as_bytes());
    }
    out.extend_from_slice(&bytes[tag_end..]);
    Some(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cm-quirks section 6: ejabberd's doubled terminate attributes.
    #[test]
    fn drops_repeated_attributes_and_keeps_the_first() {
        let reply = b"<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition=\"remote-stream-error\" type='terminate' condition='x'><a/></body>";
        assert_eq!(
            root_tag(reply).as_deref(),
            Some(&b"<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition=\"remote-stream-error\"><a/></body>"[..])
        );
    }

    /// cm-quirks section 11: node-xmpp-bosh leaves the stream prefix undeclared.
    #[test]
    fn declares_the_stream_prefix() {
        let reply = b"<body xmlns='http://jabber.org/protocol/httpbind'><stream:features/></body>";
        assert_eq!(
            root_tag(reply).as_deref(),
            Some(&b"<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams'><stream:features/></body>"[..])
        );
    }

    #[test]
    fn leaves_everything_else_alone() {
        for reply in [
            &b"<body xmlns='http://jabber.org/protocol/httpbind'/>"[..],
            b"<body",
            b"<body a",
            b"<body a='",
            b"<html><body bgcolor=white></html>",
            b"",
            b"<body \xff='\xff'>",
        ] {
            assert_eq!(root_tag(reply), None, "{}", String::from_utf8_lossy(reply));
        }
    }
}
