//! Whose login it is, as far as the client's SASL text shows it (S-49).

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::explain::on_stream;
use crate::xml::Element;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads user names out of a client's side of SASL.
#[derive(Debug, Default)]
pub(super) struct Identity {
    mechanism: String,
    user: Option<String>,
}

impl Identity {
    /// The user name, lower case, without a domain; `None` if the mechanism does not show it.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A client's `<auth/>`, `<response/>` or `<authenticate/>`.
    pub(super) fn note(&mut self, element: &Element) {
        if let Some(mechanism) = element.attr("mechanism") {
            self.mechanism = mechanism.to_ascii_uppercase();
            self.user = None;
        }
        let text: Option<String> = match element.local() {
            "authenticate" => crate::stream::look::initial_response(&on_stream(element)),
            _ => element.text(),
        };
        if self.user.is_none()
            && let Some(text) = text.map(Zeroizing::new)
            && let Ok(plain) = BASE64.decode(text.trim())
        {
            let plain = Zeroizing::new(plain);
            self.user = read(&self.mechanism, &plain).map(|user| normal(&user));
        }
    }
}

fn read(mechanism: &str, plain: &[u8]) -> Option<String> {
    let text = str::from_utf8(plain).ok()?;
    if mechanism == "PLAIN" {
        // RFC 4616: [authzid] NUL authcid NUL passwd
        let mut parts = text.split('\0');
        let (authzid, authcid) = (parts.next()?, parts.next()?);
        let user = if authzid.is_empty() { authcid } else { authzid };
        return (!user.is_empty()).then(|| user.to_owned());
    }
    if mechanism.starts_with("SCRAM-") {
        // RFC 5802 section 7: n,a=authzid,n=user,r=nonce
        let user = text.split(',').find_map(|part| part.strip_prefix("n="))?;
        return Some(user.replace("=2C", ",").replace("=3D", "="));
    }
    if mechanism == "DIGEST-MD5" {
        let rest = text.split_once("username=\"")?.1;
        return Some(rest.split('"').next()?.to_owned());
    }
    None
}

fn normal(user: &str) -> String {
    user.split('@').next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(mechanism: &str, text: &str) -> Identity {
        let mut identity = Identity::default();
        identity.note(&element("auth", &format!(" mechanism='{mechanism}'"), text));
        identity
    }

    fn element(name: &str, attributes: &str, text: &str) -> Element {
        let text = BASE64.encode(text);
        Element::parse(&format!(
            "<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'{attributes}>{text}</{name}>"
        ))
        .unwrap()
    }

    /// S-49: names show in PLAIN, SCRAM and DIGEST-MD5.
    #[test]
    fn s49_names_that_show() {
        for (mechanism, text, user) in [
            ("PLAIN", "\0Alice\0secret", Some("alice")),
            ("PLAIN", "bob@example.org\0admin\0secret", Some("bob")),
            ("PLAIN", "\0\0x", None),
            ("SCRAM-SHA-1", "n,,n=alice=2Cb=3D,r=fyko", Some("alice,b=")),
            (
                "SCRAM-SHA-256-PLUS",
                "p=tls-exporter,a=x,n=Carol,r=1",
                Some("carol"),
            ),
            ("EXTERNAL", "alice@example.org", None),
            ("X-OAUTH2", "\0alice\0token", None),
        ] {
            assert_eq!(auth(mechanism, text).user(), user, "{mechanism} {text:?}");
        }
        let mut digest = auth("DIGEST-MD5", "");
        assert_eq!(digest.user(), None);
        digest.note(&element(
            "response",
            "",
            "charset=utf-8,username=\"alice\",realm=\"x\"",
        ));
        assert_eq!(digest.user(), Some("alice"));
    }

    /// A second attempt may be another user's.
    #[test]
    fn s49_the_last_attempt_counts() {
        let mut identity = auth("PLAIN", "\0alice\0wrong");
        identity.note(&element("auth", " mechanism='PLAIN'", "\0bob\0right"));
        assert_eq!(identity.user(), Some("bob"));
    }

    /// SASL2 carries the same text one level down.
    #[test]
    fn s49_sasl2() {
        let text = BASE64.encode("\0alice\0secret");
        let mut identity = Identity::default();
        identity.note(
            &Element::parse(&format!(
                "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>{text}</initial-response></authenticate>"
            ))
            .unwrap(),
        );
        assert_eq!(identity.user(), Some("alice"));
    }

    /// Not base64, or not text: nothing.
    #[test]
    fn s49_nonsense_is_nobody() {
        let mut identity = Identity::default();
        identity.note(
            &Element::parse(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>***</auth>",
            )
            .unwrap(),
        );
        assert_eq!(identity.user(), None);
        identity.note(
            &Element::parse(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>=</auth>",
            )
            .unwrap(),
        );
        assert_eq!(identity.user(), None);
    }
}
