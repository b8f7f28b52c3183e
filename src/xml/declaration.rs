//! The XML declaration.

use super::XmlError;
use super::chars::is_space;

const BAD: XmlError = XmlError::NotWellFormed("bad XML declaration");

/// Checks a whole declaration, from `<?xml` to `?>`: version 1.x, encoding UTF-8 or none named (S-28).
pub(super) fn check(bytes: &[u8]) -> Result<(), XmlError> {
    let inside = bytes
        .strip_prefix(b"<?xml")
        .and_then(|rest| rest.strip_suffix(b"?>"))
        .ok_or(BAD)?;
    let mut rest = inside;
    let (name, version) = pseudo_attribute(&mut rest)?.ok_or(BAD)?;
    let minor = version.strip_prefix(b"1.").ok_or(BAD)?;
    if name != b"version" || minor.is_empty() || !minor.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    let mut next = pseudo_attribute(&mut rest)?;
    if let Some((b"encoding", encoding)) = next {
        if !encoding.eq_ignore_ascii_case(b"utf-8") {
            return Err(XmlError::UnsupportedEncoding);
        }
        next = pseudo_attribute(&mut rest)?;
    }
    if let Some((b"standalone", b"yes" | b"no")) = next {
        next = pseudo_attribute(&mut rest)?;
    }
    if next.is_some() { Err(BAD) } else { Ok(()) }
}

/// Takes ` name = "value"` off the front of `rest`, or nothing when only blanks are left.
#[allow(clippy::type_complexity, reason = "a pair of slices of the input")]
fn pseudo_attribute<'a>(rest: &mut &'a [u8]) -> Result<Option<(&'a [u8], &'a [u8])>, XmlError> {
    let bytes = trim_start(rest);
    if bytes.is_empty() {
        return Ok(None);
    }
    if !rest.first().copied().is_some_and(is_space) {
        return Err(BAD);
    }
    let end = bytes
        .iter()
        .position(|b| !b.is_ascii_lowercase())
        .ok_or(BAD)?;
    let (name, after) = bytes.split_at(end);
    let value = trim_start(trim_start(after).strip_prefix(b"=").ok_or(BAD)?);
    let (quote, value) = value
        .split_first()
        .filter(|(quote, _)| matches!(quote, b'"' | b'\''))
        .ok_or(BAD)?;
    let end = value.iter().position(|b| b == quote).ok_or(BAD)?;
    *rest = &value[end + 1..];
    Ok(Some((name, &value[..end])))
}

/// Without the blanks in front: XML's, which a form feed is not.
fn trim_start(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|b| is_space(**b)).count();
    bytes.get(blanks..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-28: only UTF-8, whatever its case; E-07 otherwise.
    #[test]
    fn encoding_is_utf8_or_unnamed() {
        for good in [
            "<?xml version='1.0'?>",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
            "<?xml\tversion = '1.1'  encoding='UTF-8' standalone='yes' ?>",
            "<?xml version='1.0' standalone='no'?>",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for encoding in ["UTF-16", "iso-8859-1", "utf8", ""] {
            let text = format!("<?xml version='1.0' encoding='{encoding}'?>");
            assert_eq!(
                check(text.as_bytes()),
                Err(XmlError::UnsupportedEncoding),
                "{text}"
            );
        }
    }

    /// S-27: anything else is not well-formed.
    #[test]
    fn other_declarations_are_refused() {
        for bad in [
            "<?xml ?>",
            "<?xml encoding='UTF-8'?>",
            "<?xml version='2.0'?>",
            "<?xml version='1.'?>",
            "<?xml version='1.0'encoding='UTF-8'?>",
            "<?xml version='1.0' encoding='UTF-8' encoding='UTF-8'?>",
            "<?xml version='1.0' standalone='maybe'?>",
            "<?xml version='1.0' standalone='yes' encoding='UTF-8'?>",
            "<?xml version='1.0'>",
            "<?xml version=1.0?>",
            "<?xml version='1.0'\x0c?>",
            "<?xml version=\x0c'1.0'?>",
        ] {
            assert_eq!(check(bad.as_bytes()), Err(BAD), "{bad}");
        }
    }
}
