//! Escaping for the text and attributes we write, and the way back.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::chars;

/// Appends `text` as character data.
pub fn write_text(text: &str, out: &mut BytesMut) {
    write(text, out, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        // A bare one would be read back as a line feed.
        b'\r' => Some("&#xD;"),
        _ => None,
    });
}

/// Appends `value` as the inside of an attribute in quotes of either kind.
pub fn write_attribute(value: &str, out: &mut BytesMut) {
    write(value, out, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'\'' => Some("&apos;"),
        b'"' => Some("&quot;"),
        b'\t' => Some("&#x9;"),
        b'\n' => Some("&#xA;"),
        b'\r' => Some("&#xD;"),
        _ => None,
    });
}

/// `text` as character data.
#[must_use]
pub fn text(text: &str) -> Cow<'_, str> {
    written(text, write_text)
}

/// `value` as the inside of an attribute in quotes of either kind.
#[must_use]
pub fn attribute(value: &str) -> Cow<'_, str> {
    written(value, write_attribute)
}

/// What the raw character data `raw` means: references replaced, line ends as line feeds (XML section 2.11).
///
/// `raw` must be well-formed; what is not stays as it is.
#[must_use]
pub fn unescape_text(raw: &str) -> Cow<'_, str> {
    unescape(raw, false)
}

/// What the raw attribute value `raw` means: references replaced, blanks as spaces (XML section 3.3.3).
///
/// `raw` must be well-formed; what is not stays as it is.
#[must_use]
pub fn unescape_attribute(raw: &str) -> Cow<'_, str> {
    unescape(raw, true)
}

fn write(text: &str, out: &mut BytesMut, escape: fn(u8) -> Option<&'static str>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if let Some(escaped) = escape(*byte) {
            out.put_slice(&bytes[from..i]);
            out.put_slice(escaped.as_bytes());
            from = i + 1;
        }
    }
    out.put_slice(&bytes[from..]);
}

fn written(text: &str, write: fn(&str, &mut BytesMut)) -> Cow<'_, str> {
    let mut out = BytesMut::new();
    write(text, &mut out);
    if out.as_ref() == text.as_bytes() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(String::from_utf8(out.into()).unwrap_or_default())
}

fn unescape(raw: &str, attribute: bool) -> Cow<'_, str> {
    let special =
        |byte: &u8| matches!(byte, b'&' | b'\r') || attribute && matches!(byte, b'\n' | b'\t');
    if !raw.as_bytes().iter().any(special) {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(i) = rest.as_bytes().iter().position(special) {
        let (before, at) = rest.split_at(i);
        out.push_str(before);
        let (c, len) = match at.as_bytes() {
            [b'&', ..] => chars::reference(at.as_bytes())
                .ok()
                .flatten()
                .unwrap_or(('&', 1)),
            [b'\r', b'\n', ..] => (if attribute { ' ' } else { '\n' }, 2),
            [b'\r', ..] if !attribute => ('\n', 1),
            _ => (' ', 1),
        };
        out.push(c);
        rest = at.get(len..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attribute_keeps_line_ends_and_tabs_as_references() {
        assert_eq!(
            attribute("a'b\"<&>\t\n\r"),
            "a&apos;b&quot;&lt;&amp;&gt;&#x9;&#xA;&#xD;"
        );
        assert!(matches!(attribute("juliet@example.org"), Cow::Borrowed(_)));
    }

    #[test]
    fn unescaping_normalises_blanks_as_the_specification_says() {
        assert_eq!(unescape_text("a\r\nb\rc\td&#13;"), "a\nb\nc\td\r");
        assert_eq!(unescape_attribute("a\r\nb\rc\td&#9;&lt;"), "a b c d\t<");
    }

    proptest! {
        #![proptest_config(crate::xml::tests::same_cases(256))]

        #[test]
        fn whatever_is_escaped_reads_back(value in ".*") {
            let escaped = attribute(&value);
            prop_assert_eq!(unescape_attribute(&escaped), value.as_str());
            let escaped = text(&value);
            prop_assert_eq!(unescape_text(&escaped), value.as_str());
        }
    }
}
