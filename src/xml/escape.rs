//! Escaping for the text and attributes we write, and back.

use std::borrow::Cow;
use std::fmt;

/// An attribute value, safe inside quotes of either kind.
#[must_use]
pub fn attribute(value: &str) -> impl fmt::Display + '_ {
    Escaped(value)
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '\'', '"', '\t', '\n', '\r']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'\'' => "&apos;",
                b'"' => "&quot;",
                // Attribute normalisation would turn them into spaces.
                b'\t' => "&#9;",
                b'\n' => "&#10;",
                _ => "&#13;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// Replaces references that the tokenizer has accepted. What is no reference stays as it is.
#[must_use]
pub fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';') else { break };
        match reference(&rest[1..end]) {
            Some(character) => out.push(character),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// An attribute value after normalisation (XML 1.0 section 3.3.3).
pub(super) fn attribute_value(raw: &str) -> Cow<'_, str> {
    if raw.contains(['\t', '\n', '\r']) {
        let spaced = raw.replace("\r\n", " ").replace(['\t', '\n', '\r'], " ");
        Cow::Owned(unescape(&spaced).into_owned())
    } else {
        unescape(raw)
    }
}

/// The character that `&name;` stands for; `None` for anything but the five and character references.
pub(super) fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let digits = name.strip_prefix('#')?;
            let code = match digits.strip_prefix('x') {
                Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    u32::from_str_radix(hex, 16).ok()?
                }
                None if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
                Some(_) | None => return None,
            };
            char::from_u32(code).filter(|c| is_char(*c))
        }
    }
}

/// XML 1.0 section 2.2, `Char`.
const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}
