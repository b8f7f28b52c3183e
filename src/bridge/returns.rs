//! What came down for a client that will never get it: sent back, kept for its return, or let go (S-50, S-51).

use crate::stream::look::{Look, look};
use crate::xml::escape;

/// Most that is sent back in one go; whoever floods a dead client hears nothing.
pub(super) const MAX_RETURNS: usize = 1000;

/// The answer to the sender of an undelivered stanza, or nothing where nobody waits for one (S-50).
/// `account`: our own bare JID.
pub(super) fn answer(stanza: &[u8], account: &str) -> Option<String> {
    let seen = look(stanza).ok()?;
    let from = seen
        .from
        .as_deref()
        .filter(|from| is_foreign(from, account))?;
    let (kind, condition) = match seen.name.as_str() {
        "message" if is_message_for_a_person(&seen) && !is_archived(&seen, account) => {
            ("wait", "recipient-unavailable")
        }
        "iq" if matches!(seen.kind.as_deref(), Some("get" | "set")) => {
            ("cancel", "service-unavailable")
        }
        _ => return None,
    };
    let mut out = format!(
        "<{} xmlns='jabber:client' type='error' to='{}'",
        seen.name,
        escape::attribute(from)
    );
    if let Some(id) = &seen.id {
        out.push_str(&format!(" id='{}'", escape::attribute(id)));
    }
    out.push_str(&format!(
        "><error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></{}>",
        seen.name
    ));
    Some(out)
}

/// S-51: whether an unacknowledged stanza is worth keeping for the client's next stream.
pub(super) fn is_worth_keeping(stanza: &[u8], account: &str) -> bool {
    look(stanza).is_ok_and(|seen| {
        seen.name == "message"
            && seen.has_body
            && seen.kind.as_deref() != Some("error")
            && !is_archived(&seen, account)
    })
}

/// The stanza with a note of when it came (XEP-0203), before its end tag. As it is if it has no end tag.
pub(super) fn delayed(stanza: &[u8], domain: &str, stamp: &str) -> Vec<u8> {
    let mut out = stanza.to_vec();
    if let Some(at) = memchr::memmem::rfind(stanza, b"</").filter(|_| stanza.ends_with(b">")) {
        let delay = format!(
            "<delay xmlns='urn:xmpp:delay' from='{}' stamp='{stamp}'/>",
            escape::attribute(domain)
        );
        out.splice(at..at, delay.into_bytes());
    }
    out
}

fn is_message_for_a_person(seen: &Look) -> bool {
    let kind = seen.kind.as_deref().unwrap_or("normal");
    matches!(kind, "chat" | "normal") && (seen.has_body || seen.wants_receipt)
}

/// XEP-0359: the account's own server has it in the archive.
fn is_archived(seen: &Look, account: &str) -> bool {
    seen.archived_by
        .iter()
        .any(|by| by.eq_ignore_ascii_case(account))
}

/// Neither the account itself nor its server.
fn is_foreign(from: &str, account: &str) -> bool {
    let bare = from.split('/').next().unwrap_or_default();
    let domain = account.split('@').next_back().unwrap_or_default();
    !bare.eq_ignore_ascii_case(account) && !bare.eq_ignore_ascii_case(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "me@example.org";

    fn answered(stanza: &str) -> Option<(String, String)> {
        let error = answer(stanza.as_bytes(), ACCOUNT)?;
        let document = roxmltree::Document::parse(&error).unwrap();
        let root = document.root_element();
        assert_eq!(root.attribute("type"), Some("error"));
        assert_eq!(root.tag_name().namespace(), Some("jabber:client"));
        let condition = root.first_element_child()?.first_element_child()?;
        Some((
            format!(
                "{} {}",
                root.attribute("to")?,
                root.attribute("id").unwrap_or("-")
            ),
            condition.tag_name().name().to_owned(),
        ))
    }

    /// S-50: which stanzas of a vanished client are sent back, and how.
    #[test]
    fn s50_each_kind() {
        let unavailable = |who: &str| Some((who.to_owned(), "recipient-unavailable".to_owned()));
        for (stanza, expected) in [
            (
                "<message from='a@x/r' id='1' type='chat'><body>hi</body></message>",
                unavailable("a@x/r 1"),
            ),
            (
                "<message from='a@x'><body>hi</body></message>",
                unavailable("a@x -"),
            ),
            (
                "<message from='a@x' id='2' type='normal'><request xmlns='urn:xmpp:receipts'/></message>",
                unavailable("a@x 2"),
            ),
            (
                "<iq from='a@x/r' id='3' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
                Some(("a@x/r 3".to_owned(), "service-unavailable".to_owned())),
            ),
            // Someone else's archive is not ours.
            (
                "<message from='a@x' id='4'><body/><stanza-id xmlns='urn:xmpp:sid:0' by='a@x' id='9'/></message>",
                unavailable("a@x 4"),
            ),
            (
                "<message from='a@x'><body>hi</body><stanza-id xmlns='urn:xmpp:sid:0' by='me@example.org' id='9'/></message>",
                None,
            ),
            (
                "<message from='a@x' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>",
                None,
            ),
            (
                "<message from='room@x/nick' type='groupchat'><body>hi</body></message>",
                None,
            ),
            (
                "<message from='a@x' type='headline'><body>hi</body></message>",
                None,
            ),
            (
                "<message from='a@x' type='error'><body>hi</body></message>",
                None,
            ),
            (
                "<message from='me@example.org/other'><body>hi</body></message>",
                None,
            ),
            (
                "<message from='example.org'><body>hi</body></message>",
                None,
            ),
            ("<message><body>hi</body></message>", None),
            ("<iq from='a@x' id='5' type='result'/>", None),
            ("<iq from='a@x' id='5' type='error'/>", None),
            ("<iq from='me@example.org' id='5' type='set'/>", None),
            ("<presence from='a@x'/>", None),
        ] {
            assert_eq!(answered(stanza), expected, "{stanza}");
        }
    }

    /// S-51: messages with a body that no archive has.
    #[test]
    fn s51_what_is_kept() {
        for (stanza, kept) in [
            ("<message from='a@x'><body>hi</body></message>", true),
            (
                "<message from='room@x/n' type='groupchat'><body>hi</body></message>",
                true,
            ),
            (
                "<message from='a@x' type='error'><body>hi</body></message>",
                false,
            ),
            ("<message from='a@x'><x xmlns='urn:x'/></message>", false),
            (
                "<message from='a@x'><body/><stanza-id xmlns='urn:xmpp:sid:0' by='me@example.org' id='1'/></message>",
                false,
            ),
            ("<iq type='get' id='1'/>", false),
            ("<presence/>", false),
        ] {
            assert_eq!(
                is_worth_keeping(stanza.as_bytes(), ACCOUNT),
                kept,
                "{stanza}"
            );
        }
    }

    /// XEP-0203: the stamp stands inside, by the server's name.
    #[test]
    fn s51_delay_stamp() {
        let stamped = delayed(
            b"<message><body>x</body></message>",
            "example.org",
            "2026-01-02T03:04:05Z",
        );
        assert_eq!(
            String::from_utf8(stamped).unwrap(),
            "<message><body>x</body><delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-01-02T03:04:05Z'/></message>"
        );
    }
}
