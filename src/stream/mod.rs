//! The XMPP stream as the client sees it: headers, features, errors, and what an element is.
//!
//! Everything here is a pure function of its arguments. Cutting the client's bytes into elements is the
//! work of [`crate::xml`]; deciding when to send what is that of [`crate::bridge`].
//!
//! - [`header`]: read the client's stream header, write ours.
//! - [`features`]: what is taken out of the server's `<stream:features/>`, and why.
//! - [`classify`]: what a first-level element is, and what may travel beside it in one `<body/>`.
//! - [`inline`]: stream management inside SASL2, cut out and answered by us.
//! - [`look`]: what a stanza says of itself.
//! - [`error`]: stream errors, and the one table from reasons to conditions and texts.

pub mod classify;
pub mod error;
pub mod features;
pub mod header;
pub mod inline;
pub mod look;
pub mod ns;

mod scan;

use bytes::BufMut;

/// Ends our side of a stream (RFC 6120 section 4.4).
pub const STREAM_CLOSE: &[u8] = b"</stream:stream>";

/// Appends `text` so that it is safe between tags and inside an attribute of either quote.
///
/// Characters that XML 1.0 cannot carry are left out: a text made of foreign words must not break the stream.
fn put_escaped(out: &mut impl BufMut, text: &str) {
    let mut buffer = [0; 4];
    for character in text.chars() {
        match character {
            '&' => out.put_slice(b"&amp;"),
            '<' => out.put_slice(b"&lt;"),
            '>' => out.put_slice(b"&gt;"),
            '\'' => out.put_slice(b"&apos;"),
            '"' => out.put_slice(b"&quot;"),
            // An attribute would lose them to normalisation (XML 1.0 section 3.3.3).
            '\t' => out.put_slice(b"&#9;"),
            '\n' => out.put_slice(b"&#10;"),
            '\r' => out.put_slice(b"&#13;"),
            character if is_xml(character) => {
                out.put_slice(character.encode_utf8(&mut buffer).as_bytes())
            }
            _ => {}
        }
    }
}

/// Whether XML 1.0 can carry the character at all (section 2.2).
const fn is_xml(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}
