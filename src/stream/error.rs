//! Stream errors as the client gets them (RFC 6120 section 4.9).
//!
//! [`FaultReason`] is the one table from "what went wrong" to condition, detail element and text;
//! [`remote`] copies the server's own errors. Every way out ends here: make a [`StreamFault`], write it,
//! then [`super::STREAM_CLOSE`].

mod reason;
pub mod remote;

use std::fmt;

use bytes::BufMut;

use super::ns;
pub use reason::{FaultReason, fault};

/// Most characters of `<text/>` that are sent.
pub const MAX_TEXT_CHARS: usize = 500;

macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// The conditions of RFC 6120 section 4.9.3.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum StreamCondition {
            $($(#[$doc])* $variant,)*
        }

        impl StreamCondition {
            /// Every condition, in the order of the spec.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The local name of the condition's element.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

conditions! {
    /// XML that cannot be processed as a stream.
    BadFormat "bad-format",
    /// A stanza's namespace prefix is unsupported.
    BadNamespacePrefix "bad-namespace-prefix",
    /// A newer stream took this one's place.
    Conflict "conflict",
    /// One party believes that the other is gone for good.
    ConnectionTimeout "connection-timeout",
    /// The domain is no longer served here.
    HostGone "host-gone",
    /// The domain is not served here.
    HostUnknown "host-unknown",
    /// An address that is missing or cannot be one.
    ImproperAddressing "improper-addressing",
    /// Our own misconfiguration or bug.
    InternalServerError "internal-server-error",
    /// A `from` that does not match what was negotiated.
    InvalidFrom "invalid-from",
    /// Wrong stream or content namespace.
    InvalidNamespace "invalid-namespace",
    /// Invalid XML sent to a validating party.
    InvalidXml "invalid-xml",
    /// Something sent before it was authorised.
    NotAuthorized "not-authorized",
    /// Not (namespace-)well-formed.
    NotWellFormed "not-well-formed",
    /// A local policy is violated.
    PolicyViolation "policy-violation",
    /// What lies behind us cannot be reached.
    RemoteConnectionFailed "remote-connection-failed",
    /// The stream must be opened anew.
    Reset "reset",
    /// Not enough resources.
    ResourceConstraint "resource-constraint",
    /// XML that XMPP forbids: comment, PI, DTD, entity.
    RestrictedXml "restricted-xml",
    /// Another host should be used; never sent by us.
    SeeOtherHost "see-other-host",
    /// We are going down.
    SystemShutdown "system-shutdown",
    /// None of the others.
    UndefinedCondition "undefined-condition",
    /// Not UTF-8.
    UnsupportedEncoding "unsupported-encoding",
    /// A required feature is not supported.
    UnsupportedFeature "unsupported-feature",
    /// A first-level element that is not supported.
    UnsupportedStanzaType "unsupported-stanza-type",
    /// A stream version that is not supported.
    UnsupportedVersion "unsupported-version",
}

impl StreamCondition {
    /// Reads an element's local name; also the name that RFC 3920 had for not-well-formed.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "xml-not-well-formed" {
            return Some(Self::NotWellFormed);
        }
        Self::ALL
            .iter()
            .copied()
            .find(|condition| condition.as_str() == name)
    }
}

impl fmt::Display for StreamCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The application-specific element of a stream error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppElement {
    /// An empty element of this name in `urn:xbosh:errors:0`.
    Ours(&'static str),
    /// `<stanza-too-big xmlns='urn:xmpp:errors'/>` (RFC 6120 section 13.12, S-29).
    StanzaTooBig,
}

impl fmt::Display for AppElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(name) => f.write_str(name),
            Self::StanzaTooBig => write!(f, "stanza-too-big {}", ns::XMPP_ERRORS),
        }
    }
}

/// How a stream ends: the error to write, or none for an orderly end.
///
/// At most one is sent, and nothing but [`super::STREAM_CLOSE`] follows it (S-19).
#[derive(Clone, PartialEq, Eq)]
pub struct StreamFault {
    /// Why; names the row for the log.
    pub reason: FaultReason,
    /// The defined condition; `None` writes no error at all (C-10 without an error inside, C-14).
    pub condition: Option<StreamCondition>,
    /// What the user is told.
    pub text: Option<String>,
    /// The detail element.
    pub app: Option<AppElement>,
    /// The server's own `<stream:error/>`, written in place of ours. Made by [`remote`] only.
    pub copied: Option<Vec<u8>>,
}

impl StreamFault {
    /// Appends the error, or nothing if this is an orderly end.
    ///
    /// The text is cut at [`MAX_TEXT_CHARS`] characters and loses its control characters.
    pub fn write(&self, out: &mut impl BufMut) {
        if let Some(copied) = &self.copied {
            out.put_slice(copied);
            return;
        }
        let Some(condition) = self.condition else {
            return;
        };
        // RFC 6120 section 4.9.2: the condition first, then the text, then the detail.
        out.put_slice(b"<stream:error><");
        out.put_slice(condition.as_str().as_bytes());
        out.put_slice(b" xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>");
        if let Some(text) = self
            .text
            .as_deref()
            .map(bounded)
            .filter(|text| !text.is_empty())
        {
            out.put_slice(b"<text xml:lang='en' xmlns='urn:ietf:params:xml:ns:xmpp-streams'>");
            super::put_escaped(out, &text);
            out.put_slice(b"</text>");
        }
        if let Some(app) = self.app {
            let (name, namespace) = match app {
                AppElement::Ours(name) => (name, ns::XBOSH_ERRORS),
                AppElement::StanzaTooBig => ("stanza-too-big", ns::XMPP_ERRORS),
            };
            out.put_slice(b"<");
            out.put_slice(name.as_bytes());
            out.put_slice(b" xmlns='");
            out.put_slice(namespace.as_bytes());
            out.put_slice(b"'/>");
        }
        out.put_slice(b"</stream:error>");
    }
}

impl fmt::Debug for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server's error is its own text: only its size is shown.
        let copied = self.copied.as_ref().map(Vec::len);
        write!(
            f,
            "StreamFault({:?}, {:?}, copied: {copied:?} bytes)",
            self.reason, self.text
        )
    }
}

impl fmt::Display for StreamFault {
    /// One line for the log: row, condition, detail, text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.row())?;
        if let Some(condition) = self.condition {
            write!(f, " {condition}")?;
        }
        if let Some(app) = self.app {
            write!(f, " ({app})")?;
        }
        if let Some(text) = &self.text {
            write!(f, ": {text}")?;
        }
        Ok(())
    }
}

/// One line of bounded length: runs of blanks and control characters become one space.
fn bounded(text: &str) -> String {
    let mut out = String::new();
    let mut left = MAX_TEXT_CHARS;
    let mut gap = false;
    for character in text.chars() {
        if character.is_whitespace() || character.is_control() {
            gap = !out.is_empty();
            continue;
        }
        if !super::is_xml(character) {
            continue;
        }
        let needed = if gap { 2 } else { 1 };
        // One character is kept back for the ellipsis.
        if left <= needed {
            out.push('…');
            return out;
        }
        if gap {
            out.push(' ');
        }
        out.push(character);
        left -= needed;
        gap = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fault: &StreamFault) -> String {
        let mut out = Vec::new();
        fault.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// S-19: condition first, then the text in English, then our detail.
    #[test]
    fn order_of_children() {
        let mut fault = fault(FaultReason::ProxyAuth, None);
        fault.text = Some("a <b> & 'c'".to_owned());
        assert_eq!(
            written(&fault),
            "<stream:error><remote-connection-failed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xml:lang='en' xmlns='urn:ietf:params:xml:ns:xmpp-streams'>a &lt;b&gt; &amp; &apos;c&apos;</text>\
             <proxy-auth-failed xmlns='urn:xbosh:errors:0'/></stream:error>"
        );
    }

    /// E-13: the detail is the one that RFC 6120 section 13.12 names.
    #[test]
    fn stanza_too_big() {
        assert!(
            written(&fault(FaultReason::ElementTooLarge, None))
                .ends_with("</text><stanza-too-big xmlns='urn:xmpp:errors'/></stream:error>")
        );
    }

    /// C-14: an orderly end writes no error.
    #[test]
    fn orderly_end_is_silent() {
        assert_eq!(written(&fault(FaultReason::OrderlyEnd, None)), "");
    }

    /// S-19: a hostile text is cut, on one line, and stays well-formed.
    #[test]
    fn text_is_bounded_and_clean() {
        let detail = format!("\u{1b}[31mred\0\r\n\ttwo  \u{fffe}{}", "ß&".repeat(2000));
        let fault = fault(FaultReason::CmUndefined, Some(&detail));
        let xml = format!("<r xmlns:stream='{}'>{}</r>", ns::STREAM, written(&fault));
        let document = roxmltree::Document::parse(&xml).unwrap();
        let text = document
            .descendants()
            .find(|node| node.has_tag_name((ns::STREAM_ERROR, "text")))
            .and_then(|node| node.text())
            .unwrap();
        assert_eq!(text.chars().count(), MAX_TEXT_CHARS);
        assert!(text.contains("[31mred two ß&ß&"), "{text}");
        assert!(text.ends_with('…'));
        assert!(!text.chars().any(char::is_control));
    }

    /// A text of nothing but blanks is left out.
    #[test]
    fn blank_text_is_left_out() {
        let mut fault = fault(FaultReason::Shutdown, None);
        fault.text = Some(" \n\u{7}".to_owned());
        assert_eq!(
            written(&fault),
            "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
        );
    }

    /// All 25 conditions of RFC 6120 section 4.9.3 read back as themselves.
    #[test]
    fn conditions_round_trip() {
        assert_eq!(StreamCondition::ALL.len(), 25);
        for condition in StreamCondition::ALL {
            assert_eq!(StreamCondition::parse(condition.as_str()), Some(*condition));
        }
        assert_eq!(StreamCondition::parse("text"), None);
    }
}
