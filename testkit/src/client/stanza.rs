//! One first-level element as it came over the wire.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

/// A whole first-level element. Cheap to clone; parsed only when its content is asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Stanza {
    pub(super) bytes: Bytes,
    /// The stream header it came under, whose namespace declarations hold here too.
    pub(super) header: Arc<str>,
}

impl std::fmt::Debug for Stanza {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

impl Stanza {
    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The element as text.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The qualified name, prefix included.
    pub fn name(&self) -> &str {
        let tag = self.tag();
        let end = tag
            .find(|c: char| c.is_ascii_whitespace() || c == '/')
            .unwrap_or(tag.len());
        &tag[..end]
    }

    /// An attribute of the element itself, found without parsing the rest.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = &self.tag()[self.name().len()..];
        loop {
            let equals = rest.find('=')?;
            let key = rest[..equals].trim();
            let value = rest[equals + 1..].trim_start();
            let quote = value.chars().next()?;
            let value = &value[1..];
            let end = value.find(quote)?;
            if key == name {
                return Some(unescape(&value[..end]));
            }
            rest = &value[end + 1..];
        }
    }

    /// Whether this is an element of the given name and `type`; an empty `kind` means no type.
    pub fn is(&self, name: &str, kind: &str) -> bool {
        self.name() == name && self.attribute("type").unwrap_or_default() == kind
    }

    /// Parses the element with the stream's namespaces in force and hands its root to `read`.
    ///
    /// # Panics
    /// If the element is not well-formed: what is under test must not send that.
    pub fn read<T>(&self, read: impl FnOnce(roxmltree::Node<'_, '_>) -> T) -> T {
        let text = self.text();
        let root = self.header.trim_start_matches('<');
        let end = root
            .find(|c: char| c.is_ascii_whitespace() || c == '>')
            .unwrap_or(root.len());
        let document = format!("{}{text}</{}>", self.header, &root[..end]);
        let parsed = match roxmltree::Document::parse(&document) {
            Ok(parsed) => parsed,
            Err(error) => panic!("a stanza is not well-formed: {error}: {text}"),
        };
        let element = parsed
            .root_element()
            .first_element_child()
            .unwrap_or_else(|| panic!("no element in {text}"));
        read(element)
    }

    /// The text of the child `name` in the element's own namespace.
    pub fn child_text(&self, name: &str) -> Option<String> {
        self.read(|element| {
            element
                .children()
                .find(|child| {
                    child.tag_name().name() == name
                        && child.tag_name().namespace() == element.tag_name().namespace()
                })
                .map(|child| child.text().unwrap_or_default().to_owned())
        })
    }

    /// Whether any descendant, or the element itself, has this namespace and name.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.read(|element| {
            element
                .descendants()
                .any(|node| node.has_tag_name((namespace, name)))
        })
    }

    /// What stands between `<` and the first `>` outside quotes.
    fn tag(&self) -> &str {
        let mut quote = None;
        let end = self.bytes.iter().position(|&byte| match quote {
            Some(open) => {
                if byte == open {
                    quote = None;
                }
                false
            }
            None => {
                if byte == b'"' || byte == b'\'' {
                    quote = Some(byte);
                }
                byte == b'>'
            }
        });
        std::str::from_utf8(&self.bytes[1..end.unwrap_or(self.bytes.len())]).unwrap_or_default()
    }
}

/// Escapes text for an element or an attribute in either kind of quotes.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&apos;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(text: &str) -> Stanza {
        Stanza {
            bytes: Bytes::copy_from_slice(text.as_bytes()),
            header: "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
                .into(),
        }
    }

    #[test]
    fn reads_names_and_attributes_without_parsing() {
        let stanza = stanza("<iq id='a>b' from = \"x&amp;y\" type='result'/>");
        assert_eq!(stanza.name(), "iq");
        assert_eq!(stanza.attribute("id").as_deref(), Some("a>b"));
        assert_eq!(stanza.attribute("from").as_deref(), Some("x&y"));
        assert_eq!(stanza.attribute("to"), None);
        assert!(stanza.is("iq", "result"));
        assert!(!stanza.is("iq", ""));
    }

    #[test]
    fn parses_with_the_namespaces_of_the_header() {
        let message = stanza("<message><body>1 &lt; 2</body><x xmlns='u'><body/></x></message>");
        assert_eq!(message.child_text("body").as_deref(), Some("1 < 2"));
        assert!(message.has("u", "x"));
        assert!(!message.has("u", "y"));
        let features = stanza("<stream:features><a xmlns='b'/></stream:features>");
        assert_eq!(features.name(), "stream:features");
        assert!(features.has("http://etherx.jabber.org/streams", "features"));
    }
}
