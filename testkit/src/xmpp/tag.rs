//! Editing the first tag of an element by its text, so that stanzas are passed on without being parsed.

use std::ops::Range;

/// Where the first tag ends, past `>`; quotes are respected.
pub(super) fn tag_end(element: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let found = at
            + element
                .get(at..)?
                .iter()
                .position(|b| matches!(b, b'>' | b'"' | b'\''))?;
        if element[found] == b'>' {
            return Some(found + 1);
        }
        at = found + 2 + memchr::memchr(element[found], element.get(found + 1..)?)?;
    }
}

/// The name of the first tag, as written.
pub(super) fn name(element: &str) -> &str {
    let rest = element.strip_prefix('<').unwrap_or_default();
    let end = rest
        .find(|c: char| c.is_ascii_whitespace() || matches!(c, '>' | '/'))
        .unwrap_or(rest.len());
    &rest[..end]
}

/// One attribute: all of it with the blank before, and its value.
fn find(element: &str, wanted: &str) -> Option<(Range<usize>, Range<usize>)> {
    let end = tag_end(element.as_bytes())?;
    let tag = &element[..end];
    let mut at = 1 + name(element).len();
    loop {
        let equals = at + tag[at..].find('=')?;
        let name = tag[at..equals].trim();
        let open = equals + 1 + tag[equals + 1..].find(['"', '\''])?;
        let close = open + 1 + tag[open + 1..].find(char::from(tag.as_bytes()[open]))?;
        if name == wanted {
            return Some((at..close + 1, open + 1..close));
        }
        at = close + 1;
    }
}

/// An attribute's value, as written.
pub(super) fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    find(element, name).map(|(_, value)| &element[value])
}

/// The element with this attribute, in place of one that it may have.
pub(super) fn with_attribute(element: &str, attribute: &str, value: &str) -> String {
    let quote = if value.contains('\'') { '"' } else { '\'' };
    let (before, after) = match find(element, attribute) {
        Some((whole, _)) => (whole.start, whole.end),
        None => {
            let at = 1 + name(element).len();
            (at, at)
        }
    };
    let mut out = String::with_capacity(element.len() + attribute.len() + value.len() + 4);
    out.push_str(&element[..before]);
    out.push(' ');
    out.push_str(attribute);
    out.push('=');
    out.push(quote);
    out.push_str(value);
    out.push(quote);
    out.push_str(&element[after..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_replaced_by_name_alone() {
        let element = "<message id='a>b' xto=\"no\"\n to='it' ><body to='inner'/></message>";
        assert_eq!(name(element), "message");
        assert_eq!(attribute(element, "to"), Some("it"));
        assert_eq!(attribute(element, "id"), Some("a>b"));
        assert_eq!(attribute(element, "from"), None);
        assert_eq!(
            with_attribute(element, "to", "o'x"),
            "<message id='a>b' xto=\"no\" to=\"o'x\" ><body to='inner'/></message>"
        );
        assert_eq!(with_attribute("<iq/>", "from", "me"), "<iq from='me'/>");
        let tag = "<message id='a>b' xto=\"no\"\n to='it' >";
        assert_eq!(tag_end(element.as_bytes()), Some(tag.len()));
    }
}
