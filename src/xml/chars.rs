//! Character classes of XML 1.0 (5th edition), and scanning runs of them in bytes that may end anywhere.
//!
//! Every scanner stops before a character or reference that is not wholly there yet, and never waits for more when
//! the bytes at hand already decide.

use memchr::memchr_iter;

use super::XmlError;

/// XML's blanks (`S`).
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// XML's `Char`: what may stand in a document at all.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// `NameStartChar` without the colon.
pub(super) const fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}'..='\u{200D}'
        | '\u{2070}'..='\u{218F}' | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}'
        | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}' | '\u{10000}'..='\u{EFFFF}')
}

/// `NameChar` without the colon.
pub(super) const fn is_name_char(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}'..='\u{2040}')
}

const PLAIN: u8 = 0;
const LOOK: u8 = 1;
const CONTROL: u8 = 2;
const WIDE: u8 = 3;

/// Which bytes end a plain run of character data or CDATA.
static TEXT: [u8; 256] = classes(b"<&]");
/// Which bytes end a plain run of an attribute value. Blanks too: they are replaced on reading.
static VALUE: [u8; 256] = classes(b"<&\"'\t\r\n");

const fn classes(look: &[u8]) -> [u8; 256] {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte >= 0x80 {
            table[byte] = WIDE;
        } else if byte < 0x20 && !is_space(byte as u8) {
            table[byte] = CONTROL;
        }
        byte += 1;
    }
    let mut i = 0;
    while i < look.len() {
        table[look[i] as usize] = LOOK;
        i += 1;
    }
    table
}

const BAD_CHAR: XmlError = XmlError::NotWellFormed("a character that XML does not allow");

/// First index from `at` on whose class is not plain, or the length.
fn plain_end(table: &[u8; 256], bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    // Eight at a time: one branch for the common case.
    let mut done = 0;
    for chunk in rest.chunks_exact(8) {
        let any = chunk
            .iter()
            .fold(0, |seen, b| seen | table[usize::from(*b)]);
        if any != PLAIN {
            break;
        }
        done += 8;
    }
    let end = rest[done..]
        .iter()
        .position(|b| table[usize::from(*b)] != PLAIN)
        .map_or(rest.len(), |n| done + n);
    visit(end);
    at + end
}

/// The character at the start of `bytes` (non-empty), which must not be ASCII; `None` if it is not complete.
pub(super) fn wide_char(bytes: &[u8]) -> Result<Option<(char, usize)>, XmlError> {
    let head = &bytes[..bytes.len().min(4)];
    visit(head.len());
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.valid_up_to() > 0 => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(e) if e.error_len().is_none() => return Ok(None),
        Err(_) => return Err(XmlError::UnsupportedEncoding),
    };
    match valid.chars().next() {
        Some(c) if is_char(c) => Ok(Some((c, c.len_utf8()))),
        Some(_) => Err(BAD_CHAR),
        None => Ok(None),
    }
}

/// Skips the run of characters beyond ASCII at `at`. Stops early, at an incomplete character, only at the end of `bytes`.
fn wide_end(bytes: &[u8], at: usize) -> Result<usize, XmlError> {
    let rest = &bytes[at..];
    let run = &rest[..rest.iter().position(u8::is_ascii).unwrap_or(rest.len())];
    visit(run.len());
    let (valid, error) = match std::str::from_utf8(run) {
        Ok(_) => (run.len(), None),
        Err(e) => (e.valid_up_to(), Some(e.error_len())),
    };
    // U+FFFE and U+FFFF are the only characters beyond ASCII that UTF-8 can carry and XML cannot.
    let forbidden =
        memchr_iter(0xEF, &run[..valid]).any(|i| run[i + 1] == 0xBF && run[i + 2] >= 0xBE);
    if forbidden {
        return Err(BAD_CHAR);
    }
    match error {
        None => Ok(at + valid),
        Some(None) if run.len() == rest.len() => Ok(at + valid),
        Some(_) => Err(XmlError::UnsupportedEncoding),
    }
}

/// Where a scan of character data stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// More bytes are needed from this index on.
    More(usize),
    /// The index of the delimiter that ends the text.
    End(usize),
}

/// Checks character data from `at` up to the next `<`.
pub(super) fn scan_text(bytes: &[u8], mut at: usize) -> Result<Text, XmlError> {
    loop {
        at = plain_end(&TEXT, bytes, at);
        match bytes.get(at) {
            None => return Ok(Text::More(at)),
            Some(b'<') => return Ok(Text::End(at)),
            Some(b'&') => match reference(&bytes[at..])? {
                Some((_, len)) => at += len,
                None => return Ok(Text::More(at)),
            },
            Some(b']') => match closes_cdata(&bytes[at..]) {
                Some(true) => return Err(XmlError::NotWellFormed("']]>' in text")),
                Some(false) => at += 1,
                None => return Ok(Text::More(at)),
            },
            Some(byte) => match wide_or_control(bytes, at, *byte)? {
                end if end == at => return Ok(Text::More(at)),
                end => at = end,
            },
        }
    }
}

/// Checks the inside of a CDATA section from `at` up to its `]]>`.
pub(super) fn scan_cdata(bytes: &[u8], mut at: usize) -> Result<Text, XmlError> {
    loop {
        at = plain_end(&TEXT, bytes, at);
        match bytes.get(at) {
            None => return Ok(Text::More(at)),
            Some(b'<' | b'&') => at += 1,
            Some(b']') => match closes_cdata(&bytes[at..]) {
                Some(true) => return Ok(Text::End(at)),
                Some(false) => at += 1,
                None => return Ok(Text::More(at)),
            },
            Some(byte) => match wide_or_control(bytes, at, *byte)? {
                end if end == at => return Ok(Text::More(at)),
                end => at = end,
            },
        }
    }
}

/// Checks an attribute value from `at` up to its closing `quote`. `plain` becomes false when reading the value takes more
/// than copying it.
pub(super) fn scan_value(
    bytes: &[u8],
    mut at: usize,
    quote: u8,
    plain: &mut bool,
) -> Result<Text, XmlError> {
    loop {
        at = plain_end(&VALUE, bytes, at);
        match bytes.get(at) {
            None => return Ok(Text::More(at)),
            Some(b'<') => return Err(XmlError::NotWellFormed("'<' in an attribute value")),
            Some(b'&') => {
                *plain = false;
                match reference(&bytes[at..])? {
                    Some((_, len)) => at += len,
                    None => return Ok(Text::More(at)),
                }
            }
            Some(byte @ (b'"' | b'\'')) => {
                if *byte == quote {
                    return Ok(Text::End(at));
                }
                at += 1;
            }
            Some(b'\t' | b'\r' | b'\n') => {
                *plain = false;
                at += 1;
            }
            Some(byte) => match wide_or_control(bytes, at, *byte)? {
                end if end == at => return Ok(Text::More(at)),
                end => at = end,
            },
        }
    }
}

/// Skips what `byte`, the one at `at`, begins; returns `at` itself when it is not complete.
fn wide_or_control(bytes: &[u8], at: usize, byte: u8) -> Result<usize, XmlError> {
    if byte.is_ascii() {
        Err(BAD_CHAR)
    } else {
        wide_end(bytes, at)
    }
}

/// Whether `bytes`, which start with `]`, start with `]]>`; `None` if that is still open.
pub(super) fn closes_cdata(bytes: &[u8]) -> Option<bool> {
    visit(3);
    if bytes.starts_with(b"]]>") {
        Some(true)
    } else if b"]]>".starts_with(bytes) {
        None
    } else {
        Some(false)
    }
}

/// Longest reference we read: far beyond any sensible number of leading zeros.
const MAX_REFERENCE: usize = 32;

/// The reference at the start of `bytes` (an `&`): its character and length, or `None` if it is not complete.
///
/// # Errors
/// Restricted for any named entity but the five of XML, which are never expanded (RFC 6120 section 11.1).
pub(super) fn reference(bytes: &[u8]) -> Result<Option<(char, usize)>, XmlError> {
    const NAMES: [(&[u8], char); 5] = [
        (b"amp;", '&'),
        (b"lt;", '<'),
        (b"gt;", '>'),
        (b"quot;", '"'),
        (b"apos;", '\''),
    ];
    let rest = &bytes[1..];
    let Some(first) = rest.first() else {
        return Ok(None);
    };
    if *first == b'#' {
        return numeric_reference(rest);
    }
    let mut matched = 0;
    for (name, c) in NAMES {
        if rest.starts_with(name) {
            return Ok(Some((c, name.len() + 1)));
        }
        let common = name.iter().zip(rest).take_while(|(a, b)| a == b).count();
        if common == rest.len() {
            return Ok(None);
        }
        matched = matched.max(common);
    }
    let next = rest[matched];
    let c = char::from(next);
    let names_an_entity = !next.is_ascii()
        || if matched == 0 {
            is_name_start(c)
        } else {
            is_name_char(c) || matches!(next, b';' | b':')
        };
    if names_an_entity {
        Err(XmlError::Restricted("entity reference"))
    } else {
        Err(XmlError::NotWellFormed("'&' that begins no reference"))
    }
}

/// The same for what follows the `&` of a character reference.
fn numeric_reference(rest: &[u8]) -> Result<Option<(char, usize)>, XmlError> {
    const BAD: XmlError = XmlError::NotWellFormed("bad character reference");
    let (radix, start) = match rest.get(1) {
        None => return Ok(None),
        Some(b'x') => (16, 2),
        Some(_) => (10, 1),
    };
    let mut value = 0_u32;
    for (i, byte) in rest.iter().enumerate().skip(start) {
        visit(1);
        if i >= MAX_REFERENCE {
            return Err(BAD);
        }
        if *byte == b';' {
            let c = char::from_u32(value)
                .filter(|c| i > start && is_char(*c))
                .ok_or(BAD)?;
            return Ok(Some((c, i + 2)));
        }
        let digit = char::from(*byte).to_digit(radix).ok_or(BAD)?;
        value = value.saturating_mul(radix).saturating_add(digit);
        // No later digit makes it a character again.
        if value > u32::from(char::MAX) {
            return Err(BAD);
        }
    }
    Ok(None)
}

#[cfg(test)]
thread_local! {
    /// Bytes looked at by this thread: the cost of scanning, free of clocks.
    pub(super) static VISITED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that `count` bytes were looked at; nothing outside tests.
#[inline]
pub(super) fn visit(count: usize) {
    #[cfg(test)]
    VISITED.set(VISITED.get() + count);
    #[cfg(not(test))]
    let _ = count;
}
