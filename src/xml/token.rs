//! What one tag or one piece of text may look like. Each is validated as one contiguous slice.

use std::ops::Range;

use super::XmlError;
use super::escape::reference;

/// Longest reference, `&#x10FFFF;` and some leading zeros.
const MAX_REFERENCE: usize = 16;

/// A name with its optional prefix, as ranges of the tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Empty without a prefix.
    pub(super) prefix: Range<usize>,
    pub(super) local: Range<usize>,
}

impl Name {
    /// Prefix, colon and local name.
    pub(super) fn qualified(&self) -> Range<usize> {
        let start = if self.prefix.is_empty() {
            self.local.start
        } else {
            self.prefix.start
        };
        start..self.local.end
    }
}

/// One attribute, as ranges of the tag.
#[derive(Clone, Debug)]
pub(super) struct RawAttribute {
    pub(super) name: Name,
    pub(super) value: Range<usize>,
    /// The attribute with the white space before it.
    pub(super) whole: Range<usize>,
}

/// A parsed start tag.
#[derive(Clone, Debug)]
pub(super) struct StartTag {
    pub(super) name: Name,
    pub(super) attributes: Vec<RawAttribute>,
    pub(super) self_closing: bool,
}

/// UTF-8 whose every character XML can carry.
pub(super) fn check_chars(bytes: &[u8]) -> Result<&str, XmlError> {
    let text = std::str::from_utf8(bytes).map_err(|_| XmlError::UnsupportedEncoding)?;
    let control = |b: &u8| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r');
    if bytes.iter().any(control) {
        return Err(XmlError::NotWellFormed("a control character"));
    }
    // U+FFFE and U+FFFF.
    let non_character = |at: usize| matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf]));
    if memchr::memchr_iter(0xef, bytes).any(non_character) {
        return Err(XmlError::NotWellFormed("a character that XML cannot carry"));
    }
    Ok(text)
}

/// References in text or an attribute value: the five and characters only (S-26).
pub(super) fn check_references(text: &str) -> Result<(), XmlError> {
    for at in memchr::memchr_iter(b'&', text.as_bytes()) {
        let rest = &text.as_bytes()[at + 1..];
        let Some(end) = memchr::memchr(b';', &rest[..rest.len().min(MAX_REFERENCE)]) else {
            check_open_reference(rest)?;
            return Err(XmlError::NotWellFormed("a bare ampersand"));
        };
        check_reference(&text[at + 1..at + 1 + end])?;
    }
    Ok(())
}

/// What stands behind an ampersand whose semicolon is not there yet.
fn check_open_reference(name: &[u8]) -> Result<(), XmlError> {
    if let Some(digits) = name.strip_prefix(b"#") {
        let good = match digits.strip_prefix(b"x") {
            Some(hex) => hex.iter().all(u8::is_ascii_hexdigit),
            None => digits.iter().all(u8::is_ascii_digit),
        };
        return if good && name.len() < MAX_REFERENCE {
            Ok(())
        } else {
            Err(XmlError::NotWellFormed("a reference to no character"))
        };
    }
    let name = &name[..name.len().min(MAX_REFERENCE)];
    let valid = match std::str::from_utf8(name) {
        Ok(_) => name,
        Err(error) if error.error_len().is_none() => &name[..error.valid_up_to()],
        Err(_) => return Err(XmlError::UnsupportedEncoding),
    };
    if !valid.is_empty() && scan_name(valid) != Ok(valid.len()) {
        return Err(XmlError::NotWellFormed("a bare ampersand"));
    }
    if name.len() == MAX_REFERENCE {
        return Err(XmlError::Restricted("an entity"));
    }
    Ok(())
}

fn check_reference(name: &str) -> Result<(), XmlError> {
    if reference(name).is_some() {
        return Ok(());
    }
    if name.starts_with('#') {
        return Err(XmlError::NotWellFormed("a reference to no character"));
    }
    match scan_name(name.as_bytes()) {
        Ok(length) if length == name.len() => Err(XmlError::Restricted("an entity")),
        Ok(_) | Err(_) => Err(XmlError::NotWellFormed("a bare ampersand")),
    }
}

/// Checks character data as it arrives: `bytes` may end anywhere. Returns how many bytes are settled; the
/// rest waits for more unless `complete`.
pub(super) fn check_text(bytes: &[u8], complete: bool) -> Result<usize, XmlError> {
    let mut settled = bytes.len();
    let mut open = None;
    if !complete {
        // What may still grow: a cut character, an open reference, the beginning of `]]>`.
        let tail = bytes.len() - bytes.len().min(MAX_REFERENCE);
        if let Some(at) = memchr::memrchr(b'&', &bytes[tail..])
            && memchr::memchr(b';', &bytes[tail + at..]).is_none()
        {
            settled = tail + at;
            open = Some(settled + 1);
        }
        if let Err(error) = std::str::from_utf8(&bytes[..settled])
            && error.error_len().is_none()
        {
            settled = error.valid_up_to();
        }
        let brackets = bytes[..settled]
            .iter()
            .rev()
            .take(2)
            .take_while(|b| **b == b']')
            .count();
        settled -= brackets;
        // A cut U+FFFE or U+FFFF is a cut character and waits already.
    }
    let text = check_chars(&bytes[..settled])?;
    check_references(text)?;
    if memchr::memmem::find(text.as_bytes(), b"]]>").is_some() {
        return Err(XmlError::NotWellFormed("]]> in text"));
    }
    if let Some(name) = open {
        check_open_reference(&bytes[name..])?;
    }
    Ok(settled)
}

/// Whether the first character is whole.
pub(super) fn first_char(bytes: &[u8]) -> Result<bool, XmlError> {
    match std::str::from_utf8(&bytes[..bytes.len().min(4)]) {
        Err(error) if error.valid_up_to() == 0 => match error.error_len() {
            Some(_) => Err(XmlError::UnsupportedEncoding),
            None => Ok(false),
        },
        Ok(_) | Err(_) => Ok(true),
    }
}

/// Parses `<name attr="value" …>` or `<name …/>`, whole.
pub(super) fn parse_start_tag(tag: &[u8], max_attributes: usize) -> Result<StartTag, XmlError> {
    check_chars(tag)?;
    let self_closing = tag.ends_with(b"/>");
    let end = tag.len() - if self_closing { 2 } else { 1 };
    let (name, mut at) = parse_name(tag, 1, end)?;
    let mut attributes: Vec<RawAttribute> = Vec::new();
    loop {
        let before = at;
        at = skip_blanks(tag, at, end);
        if at == end {
            break;
        }
        if at == before {
            return Err(XmlError::NotWellFormed("no space before an attribute"));
        }
        let (name, after) = parse_name(tag, at, end)?;
        at = skip_blanks(tag, after, end);
        if tag.get(at) != Some(&b'=') || at >= end {
            return Err(XmlError::NotWellFormed("an attribute without a value"));
        }
        at = skip_blanks(tag, at + 1, end);
        let quote = *tag[..end].get(at).unwrap_or(&0);
        if !matches!(quote, b'"' | b'\'') {
            return Err(XmlError::NotWellFormed("an attribute value without quotes"));
        }
        let length = memchr::memchr(quote, &tag[at + 1..end]).ok_or(XmlError::NotWellFormed(
            "an attribute value without its end",
        ))?;
        let value = at + 1..at + 1 + length;
        if memchr::memchr(b'<', &tag[value.clone()]).is_some() {
            return Err(XmlError::NotWellFormed("< in an attribute value"));
        }
        // Cannot fail: the tag is UTF-8 and quotes are ASCII.
        check_references(std::str::from_utf8(&tag[value.clone()]).unwrap_or("&"))?;
        at = value.end + 1;
        if attributes.len() >= max_attributes {
            return Err(XmlError::TooManyAttributes);
        }
        attributes.push(RawAttribute {
            name,
            value,
            whole: before..at,
        });
    }
    Ok(StartTag {
        name,
        attributes,
        self_closing,
    })
}

/// Parses `</name>`, whole; the range of the qualified name.
pub(super) fn parse_end_tag(tag: &[u8]) -> Result<Range<usize>, XmlError> {
    check_chars(tag)?;
    let end = tag.len() - 1;
    let (name, at) = parse_name(tag, 2, end)?;
    if skip_blanks(tag, at, end) != end {
        return Err(XmlError::NotWellFormed(
            "something behind the name of an end tag",
        ));
    }
    Ok(name.qualified())
}

/// Length of the tag at the start of what was accepted before.
pub(super) fn tag_length(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    let end = bytes.iter().position(|byte| match quote {
        Some(open) => {
            if *byte == open {
                quote = None;
            }
            false
        }
        None => {
            if matches!(byte, b'"' | b'\'') {
                quote = Some(*byte);
            }
            *byte == b'>'
        }
    });
    end.map(|end| end + 1)
}

fn skip_blanks(tag: &[u8], from: usize, end: usize) -> usize {
    from + tag[from..end].iter().take_while(|b| is_blank(**b)).count()
}

/// XML white space.
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn parse_name(tag: &[u8], from: usize, end: usize) -> Result<(Name, usize), XmlError> {
    let first = scan_name(&tag[from..end])?;
    let after = from + first;
    if tag[..end].get(after) != Some(&b':') {
        return Ok((
            Name {
                prefix: from..from,
                local: from..after,
            },
            after,
        ));
    }
    let second = scan_name(&tag[after + 1..end])?;
    let local = after + 1..after + 1 + second;
    if tag[..end].get(local.end) == Some(&b':') {
        return Err(XmlError::NotWellFormed("two colons in a name"));
    }
    let at = local.end;
    Ok((
        Name {
            prefix: from..after,
            local,
        },
        at,
    ))
}

/// Length of the NCName at the start.
fn scan_name(bytes: &[u8]) -> Result<usize, XmlError> {
    let candidate = bytes
        .iter()
        .take_while(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.') || !b.is_ascii()
        })
        .count();
    let text =
        std::str::from_utf8(&bytes[..candidate]).map_err(|_| XmlError::UnsupportedEncoding)?;
    match text.chars().next() {
        Some(first) if is_name_start(first) => {
            Ok(text.find(|c: char| !is_name_char(c)).unwrap_or(text.len()))
        }
        Some(_) | None => Err(XmlError::NotWellFormed("a name that is none")),
    }
}

/// XML 1.0 (fifth edition) `NameStartChar` without the colon.
const fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | '_' | 'a'..='z' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}'
        | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

const fn is_name_char(c: char) -> bool {
    is_name_start(c)
        || matches!(c, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// Checks `<?xml … ?>`, whole (XML 1.0 section 2.8).
pub(super) fn check_declaration(declaration: &[u8]) -> Result<(), XmlError> {
    let text = check_chars(declaration)?;
    let inner = text
        .strip_prefix("<?xml")
        .and_then(|t| t.strip_suffix("?>"))
        .unwrap_or_default();
    let as_tag = format!("<xml{inner}>");
    let tag = parse_start_tag(as_tag.as_bytes(), usize::MAX)?;
    if tag.self_closing {
        return Err(XmlError::NotWellFormed("a slash in an XML declaration"));
    }
    let mut expected = ["version", "encoding", "standalone"].iter();
    for attribute in &tag.attributes {
        let name = &as_tag[attribute.whole.start..attribute.value.start - 1];
        let name = name.trim_matches(|c: char| c.is_ascii_whitespace() || c == '=');
        if !expected.any(|known| *known == name) {
            return Err(XmlError::NotWellFormed(
                "an XML declaration with odd attributes",
            ));
        }
        let value = &as_tag[attribute.value.clone()];
        match name {
            "version" if !is_version_1(value) => {
                return Err(XmlError::NotWellFormed("an XML version other than 1"));
            }
            "encoding" if !value.eq_ignore_ascii_case("utf-8") => {
                return Err(XmlError::UnsupportedEncoding);
            }
            "standalone" if !matches!(value, "yes" | "no") => {
                return Err(XmlError::NotWellFormed(
                    "standalone that is neither yes nor no",
                ));
            }
            _ => {}
        }
    }
    let first = tag
        .attributes
        .first()
        .map(|a| &as_tag[a.name.local.clone()]);
    if first != Some("version") {
        return Err(XmlError::NotWellFormed(
            "an XML declaration without version",
        ));
    }
    Ok(())
}

fn is_version_1(value: &str) -> bool {
    let minor = value.strip_prefix("1.").unwrap_or_default();
    !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit())
}
