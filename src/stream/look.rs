//! A look into one stanza: what is needed to answer for it.

use super::ns;
use super::scan::{ScanError, Scanner, Token};

/// Most archive marks that are looked at.
const MAX_MARKS: usize = 8;

/// What a stanza says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Local name.
    pub name: String,
    /// `from`.
    pub from: Option<String>,
    /// `id`.
    pub id: Option<String>,
    /// `type`.
    pub kind: Option<String>,
    /// It has a `<body/>`.
    pub has_body: bool,
    /// It asks for a receipt (XEP-0184).
    pub wants_receipt: bool,
    /// `by` of each `<stanza-id/>` (XEP-0359).
    pub archived_by: Vec<String>,
    /// The full JID in the result of resource binding (RFC 6120 section 7.6.1, XEP-0386).
    pub bound_jid: Option<String>,
}

/// Looks into one complete element.
///
/// # Errors
/// [`ScanError`] if it cannot be read.
pub fn look(stanza: &[u8]) -> Result<Look, ScanError> {
    let mut scanner = Scanner::new(stanza)?;
    let mut seen = Look::default();
    let mut depth = 0;
    let mut in_jid = false;
    while let Some(token) = scanner.next()? {
        match token {
            Token::Open(tag) => {
                depth += 1;
                match depth {
                    1 => {
                        tag.local().clone_into(&mut seen.name);
                        seen.from = tag.attribute("from");
                        seen.id = tag.attribute("id");
                        seen.kind = tag.attribute("type");
                    }
                    2 => match (tag.namespace.as_str(), tag.local()) {
                        (ns::CLIENT | "", "body") => seen.has_body = true,
                        (ns::RECEIPTS, "request") => seen.wants_receipt = true,
                        (ns::STANZA_ID, "stanza-id") if seen.archived_by.len() < MAX_MARKS => {
                            seen.archived_by.extend(tag.attribute("by"));
                        }
                        (ns::SASL_2, "authorization-identifier") => in_jid = true,
                        _ => {}
                    },
                    3 => in_jid = tag.is(ns::BIND, "jid"),
                    _ => {}
                }
                if in_jid {
                    seen.bound_jid = Some(String::new());
                }
            }
            Token::Text(text) => {
                if in_jid && let Some(jid) = &mut seen.bound_jid {
                    jid.push_str(&text);
                }
            }
            Token::Close(_) => {
                depth -= 1;
                in_jid = false;
            }
        }
    }
    Ok(seen)
}

/// The text of `<initial-response/>` in SASL2's `<authenticate/>`.
#[must_use]
pub fn initial_response(authenticate: &[u8]) -> Option<String> {
    let mut scanner = Scanner::new(authenticate).ok()?;
    let mut depth = 0;
    let mut inside = false;
    let mut out = String::new();
    while let Some(token) = scanner.next().ok()? {
        match token {
            Token::Open(tag) => {
                depth += 1;
                inside = depth == 2 && tag.is(ns::SASL_2, "initial-response");
            }
            Token::Text(text) if inside => out.push_str(&text),
            Token::Text(_) => {}
            Token::Close(_) => {
                depth -= 1;
                if inside {
                    return Some(out);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message() {
        let seen = look(
            b"<message xmlns='jabber:client' from='a@x/r' id='1' type='chat'><body>hi</body>\
              <request xmlns='urn:xmpp:receipts'/><stanza-id xmlns='urn:xmpp:sid:0' by='me@x' id='7'/></message>",
        )
        .unwrap();
        let expected = Look {
            name: "message".into(),
            from: Some("a@x/r".into()),
            id: Some("1".into()),
            kind: Some("chat".into()),
            has_body: true,
            wants_receipt: true,
            archived_by: vec!["me@x".into()],
            bound_jid: None,
        };
        assert_eq!(seen, expected);
    }

    /// On the client's stream the content namespace is the stream's and not written on the stanza.
    #[test]
    fn a_message_as_the_client_sees_it() {
        let seen =
            look(b"<message><body>hi</body><x><body xmlns='urn:other'/></x></message>").unwrap();
        assert!(seen.has_body);
        assert!(
            !look(b"<message><html xmlns='urn:h'><body/></html></message>")
                .unwrap()
                .has_body
        );
    }

    /// RFC 6120 section 7.6.1, and XEP-0388's success.
    #[test]
    fn the_bound_jid() {
        let iq = b"<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>a&amp;b@x/r</jid></bind></iq>";
        assert_eq!(look(iq).unwrap().bound_jid.as_deref(), Some("a&b@x/r"));
        let success = b"<success xmlns='urn:xmpp:sasl:2'><additional-data>x</additional-data><authorization-identifier>a@x/r</authorization-identifier></success>";
        assert_eq!(look(success).unwrap().bound_jid.as_deref(), Some("a@x/r"));
        assert_eq!(look(b"<iq type='result'/>").unwrap().bound_jid, None);
    }

    #[test]
    fn what_cannot_be_read() {
        assert!(look(b"<message>").is_err());
        assert!(look(b"").is_err());
    }
}
