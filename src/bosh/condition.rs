//! Terminal binding conditions: why a connection manager ended the session (XEP-0124 section 17.2).

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// The value of `condition` on a `<body type='terminate'/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingCondition {
    /// C-01: an HTTP header or a binding element of ours has an unacceptable format.
    BadRequest,
    /// C-02: the domain, or the route's host or port, is no longer served.
    HostGone,
    /// C-03: the domain, or the route's host or port, is unknown.
    HostUnknown,
    /// C-04: `to` or `route` is missing or empty, though one is needed. Prosody says it of unknown domains.
    ImproperAddressing,
    /// C-05: the manager broke.
    InternalServerError,
    /// C-06: the sid or stream is not valid, the rid is beyond the window, a reply cannot be sent again, or
    /// the key sequence is wrong. All share one name on purpose.
    ItemNotFound,
    /// C-07: another request processed at the same time ended the session.
    OtherRequest,
    /// C-08: session rules were broken: too frequent or too many simultaneous requests.
    PolicyViolation,
    /// C-09: the manager could not connect to the XMPP server, not securely so, or lost the connection.
    RemoteConnectionFailed,
    /// C-10: the body holds an error of the transported stream.
    RemoteStreamError,
    /// C-11: the manager is not at this URI; the `<uri/>` child names another.
    SeeOtherUri,
    /// C-12: the manager is going down.
    SystemShutdown,
    /// C-13: something else; also any value that the spec does not define.
    Undefined,
}

impl BindingCondition {
    /// Every condition, in the order of the spec's table.
    pub const ALL: [Self; 13] = [
        Self::BadRequest,
        Self::HostGone,
        Self::HostUnknown,
        Self::ImproperAddressing,
        Self::InternalServerError,
        Self::ItemNotFound,
        Self::OtherRequest,
        Self::PolicyViolation,
        Self::RemoteConnectionFailed,
        Self::RemoteStreamError,
        Self::SeeOtherUri,
        Self::SystemShutdown,
        Self::Undefined,
    ];

    /// Reads the attribute's value; one that the spec does not define is [`Self::Undefined`].
    #[must_use]
    pub fn parse(value: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|condition| condition.as_str() == value)
            .unwrap_or(Self::Undefined)
    }

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::OtherRequest => "other-request",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::RemoteStreamError => "remote-stream-error",
            Self::SeeOtherUri => "see-other-uri",
            Self::SystemShutdown => "system-shutdown",
            Self::Undefined => "undefined-condition",
        }
    }
}

impl FromStr for BindingCondition {
    type Err = Infallible;

    fn from_str(value: &str) -> Result<Self, Infallible> {
        Ok(Self::parse(value))
    }
}

impl fmt::Display for BindingCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-01 to C-13: every name reads back as itself.
    #[test]
    fn names_round_trip() {
        for condition in BindingCondition::ALL {
            assert_eq!(BindingCondition::parse(condition.as_str()), condition);
            assert_eq!(condition.to_string().parse(), Ok(condition));
        }
    }

    /// C-13: a value that the spec does not know is an undefined condition.
    #[test]
    fn unknown_is_undefined() {
        for value in ["", "Bad-Request", "bad-request ", "no-such-thing"] {
            assert_eq!(BindingCondition::parse(value), BindingCondition::Undefined);
        }
    }
}
