//! Namespaces that the stream part knows, under the names of their specs.

/// The stream itself (RFC 6120 section 4.8.1).
pub const STREAM: &str = "http://etherx.jabber.org/streams";
/// Content of a client's stream (RFC 6120 section 4.8.3).
pub const CLIENT: &str = "jabber:client";
/// Server dialback (XEP-0220).
pub const DIALBACK: &str = "jabber:server:dialback";
/// Conditions inside `<stream:error/>` (RFC 6120 section 4.9.2).
pub const STREAM_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-streams";
/// STARTTLS (RFC 6120 section 5).
pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// SASL (RFC 6120 section 6).
pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
/// Resource binding (RFC 6120 section 7).
pub const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
/// The BOSH wrapper (XEP-0124).
pub const HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
/// Compression as a stream feature (XEP-0138).
pub const COMPRESS_FEATURE: &str = "http://jabber.org/features/compress";
/// Compression negotiation (XEP-0138).
pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
/// Login by jabber:iq:auth as a stream feature (XEP-0078).
pub const IQ_AUTH_FEATURE: &str = "http://jabber.org/features/iq-auth";
/// In-band registration as a stream feature (XEP-0077).
pub const REGISTER_FEATURE: &str = "http://jabber.org/features/iq-register";
/// Stream management (XEP-0198).
pub const SM: &str = "urn:xmpp:sm:3";
/// Stream management, the version before.
pub const SM_2: &str = "urn:xmpp:sm:2";
/// Delivery receipts (XEP-0184).
pub const RECEIPTS: &str = "urn:xmpp:receipts";
/// Stanza ids (XEP-0359).
pub const STANZA_ID: &str = "urn:xmpp:sid:0";
/// Conditions of stanza errors (RFC 6120 section 8.3.3).
pub const STANZA_ERROR: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Pipelining (XEP-0305).
pub const PIPELINING: &str = "urn:xmpp:features:pipelining";
/// Client state indication (XEP-0352).
pub const CSI: &str = "urn:xmpp:csi:0";
/// Bind 2 (XEP-0386).
pub const BIND_2: &str = "urn:xmpp:bind:0";
/// Extensible SASL profile (XEP-0388).
pub const SASL_2: &str = "urn:xmpp:sasl:2";
/// Channel-binding types (XEP-0440).
pub const CHANNEL_BINDING: &str = "urn:xmpp:sasl-cb:0";
/// Stream limits (XEP-0478).
pub const LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Fast authentication tokens (XEP-0484).
pub const FAST: &str = "urn:xmpp:fast:0";
/// General XMPP error elements (RFC 6120 section 13.12 names `<stanza-too-big/>`).
pub const XMPP_ERRORS: &str = "urn:xmpp:errors";
/// Our own error details.
pub const XBOSH_ERRORS: &str = "urn:xbosh:errors:0";
