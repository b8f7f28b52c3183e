//! What can end a client's stream.

use std::io;
use std::time::Duration;

use super::stanza::Stanza;

const ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";

/// A stream error as the server sent it (RFC 6120 section 4.9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition's name.
    pub condition: String,
    /// The text for people.
    pub text: Option<String>,
    /// The first application-specific condition: namespace and name.
    pub app: Option<(String, String)>,
}

impl StreamError {
    /// Reads a `<stream:error/>`; `None` if the element is something else.
    pub fn read(stanza: &Stanza) -> Option<Self> {
        if stanza.name().rsplit(':').next() != Some("error") {
            return None;
        }
        stanza.read(|element| {
            if !element.has_tag_name(("http://etherx.jabber.org/streams", "error")) {
                return None;
            }
            let mut error = Self::default();
            for child in element.children().filter(roxmltree::Node::is_element) {
                let name = child.tag_name();
                if name.namespace() != Some(ERRORS) {
                    let namespace = name.namespace().unwrap_or_default().to_owned();
                    error.app.get_or_insert((namespace, name.name().to_owned()));
                } else if name.name() == "text" {
                    error.text = child.text().map(str::to_owned);
                } else {
                    name.name().clone_into(&mut error.condition);
                }
            }
            Some(error)
        })
    }
}

/// Why a client could not go on.
#[derive(Debug)]
pub enum ClientError {
    /// The socket failed.
    Io(io::Error),
    /// Nothing came within the client's deadline while it waited for the thing named.
    Timeout(&'static str, Duration),
    /// The connection was closed without `</stream:stream>`.
    Disconnected,
    /// The server closed the stream with `</stream:stream>`.
    Ended,
    /// The server sent a stream error.
    Stream(StreamError),
    /// SASL failed with this condition.
    Refused(String),
    /// Something else than what the protocol has at this place.
    Unexpected(&'static str, String),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the socket failed: {error}"),
            Self::Timeout(what, limit) => write!(f, "no {what} within {limit:?}"),
            Self::Disconnected => f.write_str("the connection was closed in mid-stream"),
            Self::Ended => f.write_str("the server closed the stream"),
            Self::Stream(error) => write!(f, "stream error {error:?}"),
            Self::Refused(condition) => write!(f, "login refused: {condition}"),
            Self::Unexpected(wanted, got) => write!(f, "wanted {wanted}, got {got}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
