//! The one table from reasons to conditions, details and texts.
//!
//! Texts are read by a person in a chat program: what failed, then what to do. The row ids are those of
//! `docs/conformance.md`.

use super::{AppElement, StreamCondition, StreamFault};
use crate::bosh::condition::BindingCondition;
use crate::bosh::failure::FailureKind;

struct Entry {
    row: &'static str,
    condition: Option<StreamCondition>,
    app: Option<AppElement>,
    text: &'static str,
}

macro_rules! app {
    (-) => {
        None
    };
    (stanza_too_big) => {
        Some(AppElement::StanzaTooBig)
    };
    ($name:literal) => {
        Some(AppElement::Ours($name))
    };
}

macro_rules! condition {
    (-) => {
        None
    };
    ($name:ident) => {
        Some(StreamCondition::$name)
    };
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $row:literal $condition:tt $app:tt $text:literal;)*) => {
        /// Why a client's stream ends; one variant for each row (or part of a row) of the failure table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultReason {
            $($(#[$doc])* $variant,)*
        }

        impl FaultReason {
            /// Every reason, in the order of the rows.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        row: $row,
                        condition: condition!($condition),
                        app: app!($app),
                        text: $text,
                    },)*
                }
            }
        }
    };
}

reasons! {
    // What the client did.
    /// The stream or content namespace is not a client's.
    WrongNamespace = "E-01" InvalidNamespace -
        "This is not a client's stream. xbosh serves XMPP clients only, not servers or components.";
    /// The root element is not `stream`.
    NotAStream = "E-02" BadFormat -
        "This is not an XMPP stream. Check that the program on this port is an XMPP client.";
    /// No `to`, and no default domain.
    NoDomain = "E-03" ImproperAddressing -
        "The client did not say which XMPP domain it wants. Set default_domain in xbosh's configuration.";
    /// `to` is not a domain.
    BadDomain = "E-04" ImproperAddressing -
        "The client asked for something that is not a domain name. Check the account's address in the client.";
    /// Configuration does not allow this domain.
    DomainNotAllowed = "E-05" HostUnknown -
        "xbosh is not set up for this domain. Add it to allowed_domains, or correct the account's address.";
    /// `to` is another domain than before the restart.
    DomainChanged = "E-05" HostUnknown -
        "The client changed the domain in the middle of a stream. Connect again.";
    /// The name in TLS is not the domain of the stream.
    TlsNameDiffers = "S-37" HostUnknown -
        "The client asked for one domain when it began TLS and for another in its stream. Check the account's address.";
    /// Something other than `<starttls/>` where TLS must come first.
    TlsRequired = "S-37" PolicyViolation "tls-required"
        "xbosh is set to serve clients over TLS only. Switch on STARTTLS or direct TLS in the client, or set local_tls.mode.";
    /// A client on another machine, and no TLS to protect what it sends.
    RemoteWithoutTls = "S-01" PolicyViolation "tls-required"
        "xbosh serves clients on other machines over TLS only, and serves none here. Set local_tls.mode, or run xbosh on the client's machine.";
    /// PLAIN is all there is, and hidden.
    PlainHidden = "S-45" PolicyViolation "no-usable-mechanism"
        "The server offers only PLAIN, which xbosh hides without TLS. Switch on TLS in the client, or set features.plain_without_tls.";
    /// A stream version of 2 or higher, or one that is no version.
    UnsupportedVersion = "E-06" UnsupportedVersion -
        "The client asked for a version of XMPP that xbosh does not speak. It speaks 1.0.";
    /// Not UTF-8.
    BadEncoding = "E-07" UnsupportedEncoding -
        "The client sent something that is not UTF-8.";
    /// Comment, processing instruction, DTD or entity.
    RestrictedXml = "E-08" RestrictedXml -
        "The client sent XML that XMPP forbids: a comment, processing instruction, DTD or entity.";
    /// Not (namespace-)well-formed.
    NotWellFormed = "E-09" NotWellFormed -
        "The client sent XML that is not well-formed.";
    /// Text between first-level elements.
    TextBetweenElements = "E-10" BadFormat -
        "The client sent text where only XML elements may be.";
    /// A stanza with a prefix that is not rewritten.
    PrefixedStanza = "E-11" BadNamespacePrefix -
        "The client sent a stanza with a namespace prefix that xbosh does not support.";
    /// A header where none may be, an unknown stream element, or dialback.
    UnsupportedElement = "E-12" UnsupportedStanzaType -
        "The client sent an element that has no place here.";
    /// An element over the size, depth or attribute limit.
    ElementTooLarge = "E-13" PolicyViolation stanza_too_big
        "The client sent an element that is too large or too deep. Send something smaller, or raise limits.max_stanza_bytes.";
    /// Too many client connections.
    TooManyStreams = "E-14" ResourceConstraint -
        "xbosh serves as many connections as it may. Close one, or raise limits.max_streams.";
    /// New sessions are asked for faster than they may be.
    TooManySessions = "E-14" ResourceConstraint -
        "Clients ask for new sessions with this domain faster than xbosh lets them through. Wait a moment, or raise limits.session_rate.";
    /// A memory limit is reached.
    OutOfMemory = "E-14" ResourceConstraint -
        "xbosh has no more memory for this connection. Connect again, or raise limits.buffer_bytes.";
    /// No stream header in time.
    HeaderTimeout = "E-15" PolicyViolation "header-timeout"
        "The client connected but did not start a stream in time. Connect again.";
    /// The client does not read what comes for it.
    SlowReader = "E-16" PolicyViolation "slow-reader"
        "The client did not read what was sent to it. Connect again.";
    /// `<enable/>` of stream management came twice.
    SmTwice = "S-48" PolicyViolation -
        "The client enabled stream management twice on one stream. Connect again.";
    /// The stream was resumed on another connection.
    Replaced = "S-49" Conflict -
        "The client resumed this stream on another connection.";
    /// We are stopping.
    Shutdown = "E-17" SystemShutdown -
        "xbosh is shutting down. Connect again when it runs.";
    /// Our bug or our configuration.
    Internal = "E-18" InternalServerError "configuration"
        "xbosh cannot go on because of its configuration or a bug of its own. Its log says which.";

    // Finding the connection manager.
    /// host-meta cannot be fetched.
    DiscoveryFailed = "E-20" RemoteConnectionFailed "discovery-failed"
        "Could not ask the domain for its BOSH address. Check the network, or set the address (url) of this domain.";
    /// host-meta names no usable BOSH address.
    NoBoshEndpoint = "E-21" HostUnknown "no-bosh-endpoint"
        "The domain names no BOSH address. If you know it, set it as url of this domain.";

    // The upstream proxy.
    /// The proxy cannot be reached.
    ProxyUnreachable = "E-30" RemoteConnectionFailed "proxy-unreachable"
        "The proxy cannot be reached. Check proxy.url and the network.";
    /// The proxy refuses our credentials or our schemes.
    ProxyAuth = "E-31" RemoteConnectionFailed "proxy-auth-failed"
        "The proxy did not let xbosh in. Check proxy.username and proxy.password.";
    /// The proxy refuses the destination.
    ProxyRefused = "E-32" RemoteConnectionFailed "proxy-refused"
        "The proxy refuses to connect to the BOSH server. It may allow certain hosts and ports only, often 443.";
    /// The proxy cannot reach the destination.
    ProxyUpstream = "E-33" RemoteConnectionFailed "proxy-upstream-failed"
        "The proxy could not reach the BOSH server. Check the url of this domain, or try again later.";
    /// What answers is no such proxy.
    ProxyProtocol = "E-34" RemoteConnectionFailed "proxy-protocol-error"
        "The proxy gave an answer that makes no sense. Check the kind of proxy and the port in proxy.url.";

    // TLS.
    /// The certificate is not trusted.
    TlsCertificate = "E-40" RemoteConnectionFailed "tls-certificate-invalid"
        "The certificate of the BOSH server is not trusted. If your network inspects TLS, set tls.ca_file.";
    /// TLS fails in another way.
    Tls = "E-41" RemoteConnectionFailed "tls-failed"
        "No secure connection to the BOSH server could be made. Check that its url and port speak TLS.";
    /// Another certificate in mid-session.
    TlsCertificateChanged = "E-42" RemoteConnectionFailed "tls-certificate-changed"
        "The BOSH server showed another certificate than before. Connect again if that was expected.";

    // The connection manager over HTTP.
    /// The manager cannot be reached.
    CmUnreachable = "E-50" RemoteConnectionFailed "cm-unreachable"
        "The BOSH server cannot be reached. Check the network and the url of this domain.";
    /// No whole reply came.
    NoReply = "E-51" RemoteConnectionFailed "cm-timeout"
        "The BOSH server gave no complete answer in time. Check the network and connect again.";
    /// 200, but no BOSH body.
    NotBosh = "E-52" RemoteConnectionFailed "not-a-bosh-endpoint"
        "What answered is not a BOSH server, perhaps the login page of a network. Open a web page, or check the url.";
    /// A redirection that must not be followed.
    UnexpectedRedirect = "E-53" RemoteConnectionFailed "unexpected-redirect"
        "xbosh was sent elsewhere in a way it must not follow. If a network's login page is there, log in; else set the final address as url of this domain.";
    /// HTTP 400.
    HttpBadRequest = "E-54" InternalServerError "cm-bad-request"
        "The BOSH server did not understand xbosh. Connect again; if it comes back, report it with the log.";
    /// HTTP 401.
    HttpUnauthorized = "E-55" RemoteConnectionFailed "cm-auth-required"
        "The BOSH server wants a web login that xbosh cannot give. Check the url of this domain.";
    /// HTTP 403.
    HttpForbidden = "E-56" PolicyViolation -
        "The BOSH server refused the request. Connect again later, or send something smaller.";
    /// HTTP 404 or 410 before there was a session.
    HttpNotFoundAtCreation = "E-57" RemoteConnectionFailed "not-a-bosh-endpoint"
        "There is no BOSH service at this address. Check the url of this domain.";
    /// HTTP 404 or 410 in a session.
    SessionLost = "E-57" ConnectionTimeout "session-lost"
        "The BOSH server no longer knows this session. Connect again.";
    /// 405 and other client errors of HTTP.
    HttpRefused = "E-58" RemoteConnectionFailed "cm-http-error"
        "The web server in front of BOSH refused the request. Check the url of this domain.";
    /// HTTP 413.
    HttpTooLarge = "E-59" PolicyViolation "stanza-too-big"
        "The BOSH server refused a request as too large. Send something smaller, or lower bosh.max_body_bytes.";
    /// 5xx and others that may pass.
    HttpUnavailable = "E-60" RemoteConnectionFailed "cm-http-error"
        "The BOSH server, or a proxy before it, is failing. Try again later.";
    /// The creation reply cannot be used.
    BadCreationReply = "E-62" RemoteConnectionFailed "cm-protocol-error"
        "The BOSH server opened a session that makes no sense. Check the url of this domain, or tell its operator.";
    /// Malformed or forbidden XML in a whole reply.
    BadReply = "E-63" RemoteConnectionFailed "cm-protocol-error"
        "The BOSH server sent broken XML. Connect again; if it comes back, tell its operator.";
    /// The last rid is used up.
    RidLimit = "E-64" Reset -
        "The session has reached its last request number. Connect again.";
    /// No features in time.
    NoFeatures = "E-65" RemoteConnectionFailed "no-features"
        "The XMPP server behind BOSH did not say in time how to log in. Try again later.";
    /// The filter left no mechanism.
    NoUsableMechanism = "E-66" PolicyViolation "no-usable-mechanism"
        "The server offers only logins bound to its own TLS connection, which BOSH rules out. Ask its operator for SCRAM without PLUS.";
    /// A reply over the size limit.
    ReplyTooLarge = "E-67" RemoteConnectionFailed "cm-protocol-error"
        "The BOSH server sent more than xbosh accepts. Raise limits.max_response_bytes if that is expected.";

    // Terminal binding conditions.
    /// The manager calls our request malformed.
    CmBadRequest = "C-01" InternalServerError -
        "The BOSH server did not understand xbosh. Connect again; if it comes back, report it with the log.";
    /// The domain is no longer served.
    CmHostGone = "C-02" HostGone -
        "The server no longer serves this domain. Ask its operator for the new address.";
    /// The domain is unknown.
    CmHostUnknown = "C-03" HostUnknown -
        "The BOSH server does not know this domain. Check the account's address and the url of this domain.";
    /// Prosody's word for an unknown domain; ours was checked before it was sent (E-04).
    CmImproperAddressing = "C-04" HostUnknown -
        "The BOSH server does not know this domain. Check the account's address and the url of this domain.";
    /// The manager broke.
    CmInternal = "C-05" InternalServerError -
        "The BOSH server has a problem of its own. Try again later.";
    /// The session is gone.
    CmItemNotFound = "C-06" ConnectionTimeout -
        "The BOSH server no longer knows this session. Connect again.";
    /// Another request ended the session and its reply did not say why.
    CmOtherRequest = "C-07" UndefinedCondition -
        "The BOSH server ended the session without saying why. Connect again.";
    /// The manager found us too eager.
    CmPolicyViolation = "C-08" PolicyViolation -
        "The BOSH server ended the session because its rules were broken. Connect again in a while.";
    /// The manager cannot reach the XMPP server.
    CmRemoteConnectionFailed = "C-09" RemoteConnectionFailed -
        "The BOSH server has lost, or cannot reach, the XMPP server. Try again later.";
    /// The server's stream ended; its own error, if there was one, is copied.
    CmRemoteStreamError = "C-10" - -
        "The server closed the stream.";
    /// The manager has moved.
    CmSeeOtherUri = "C-11" Reset -
        "The BOSH server has moved. Connect again.";
    /// The manager is going down.
    CmShutdown = "C-12" SystemShutdown -
        "The BOSH server is shutting down. Try again later.";
    /// An undefined or unknown condition.
    CmUndefined = "C-13" UndefinedCondition "cm-condition"
        "The BOSH server ended the session for a reason that xbosh does not know. Connect again.";
    /// An orderly end.
    OrderlyEnd = "C-14" - -
        "The server closed the stream.";
    /// The server wanted the client to go to another host, past us.
    SeeOtherHost = "X-19" Reset -
        "The server asks to use another of its hosts. Connect again; if it comes back, set the url of this domain.";
}

impl FaultReason {
    /// The row of `docs/conformance.md`, for logs.
    #[must_use]
    pub const fn row(self) -> &'static str {
        self.entry().row
    }

    /// The condition that the client gets; `None` is an orderly end.
    #[must_use]
    pub const fn condition(self) -> Option<StreamCondition> {
        self.entry().condition
    }

    /// The detail element that the client gets.
    #[must_use]
    pub const fn app(self) -> Option<AppElement> {
        self.entry().app
    }

    /// The text that the client gets if nothing more is known.
    #[must_use]
    pub const fn default_text(self) -> &'static str {
        self.entry().text
    }

    /// E-53 to E-60: the reason that an HTTP status (not 2xx) stands for; `open` tells whether the BOSH
    /// session had been created.
    #[must_use]
    pub const fn from_http_status(status: u16, open: bool) -> Self {
        match (status, open) {
            (300..=399, _) => Self::UnexpectedRedirect,
            (400, _) => Self::HttpBadRequest,
            (401, _) => Self::HttpUnauthorized,
            (403, _) => Self::HttpForbidden,
            (404 | 410, false) => Self::HttpNotFoundAtCreation,
            (404 | 410, true) => Self::SessionLost,
            (407, _) => Self::ProxyAuth,
            (413, _) => Self::HttpTooLarge,
            (408 | 425 | 429 | 500 | 502 | 503 | 504, _) => Self::HttpUnavailable,
            _ => Self::HttpRefused,
        }
    }
}

/// The fault for `reason`. `detail`, one sentence that names the hop and what it said, follows the row's own
/// text in brackets; it must hold no secret.
#[must_use]
pub fn fault(reason: FaultReason, detail: Option<&str>) -> StreamFault {
    let entry = reason.entry();
    let text = entry.condition.map(|_| match detail.map(str::trim) {
        Some(detail) if !detail.is_empty() => format!("{} ({detail})", entry.text),
        _ => entry.text.to_owned(),
    });
    StreamFault {
        reason,
        condition: entry.condition,
        text,
        app: entry.app,
        copied: None,
    }
}

impl From<FailureKind> for FaultReason {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::ProxyUnreachable => Self::ProxyUnreachable,
            FailureKind::ProxyAuth => Self::ProxyAuth,
            FailureKind::ProxyRefused => Self::ProxyRefused,
            FailureKind::ProxyUpstream => Self::ProxyUpstream,
            FailureKind::ProxyProtocol => Self::ProxyProtocol,
            FailureKind::TlsCertificate => Self::TlsCertificate,
            FailureKind::TlsCertificateChanged => Self::TlsCertificateChanged,
            FailureKind::Tls => Self::Tls,
            FailureKind::CmUnreachable => Self::CmUnreachable,
            FailureKind::NoReply => Self::NoReply,
            FailureKind::ReplyTooLarge => Self::ReplyTooLarge,
            FailureKind::Internal => Self::Internal,
        }
    }
}

impl From<BindingCondition> for FaultReason {
    fn from(condition: BindingCondition) -> Self {
        match condition {
            BindingCondition::BadRequest => Self::CmBadRequest,
            BindingCondition::HostGone => Self::CmHostGone,
            BindingCondition::HostUnknown => Self::CmHostUnknown,
            BindingCondition::ImproperAddressing => Self::CmImproperAddressing,
            BindingCondition::InternalServerError => Self::CmInternal,
            BindingCondition::ItemNotFound => Self::CmItemNotFound,
            BindingCondition::OtherRequest => Self::CmOtherRequest,
            BindingCondition::PolicyViolation => Self::CmPolicyViolation,
            BindingCondition::RemoteConnectionFailed => Self::CmRemoteConnectionFailed,
            BindingCondition::RemoteStreamError => Self::CmRemoteStreamError,
            BindingCondition::SeeOtherUri => Self::CmSeeOtherUri,
            BindingCondition::SystemShutdown => Self::CmShutdown,
            BindingCondition::Undefined => Self::CmUndefined,
        }
    }
}

#[cfg(test)]
mod tests;
