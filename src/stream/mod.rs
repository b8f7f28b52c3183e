//! The XMPP stream as the client sees it.
