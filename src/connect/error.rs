//! Which hop failed on the way out, and what it said.

use std::io;

use super::route::SetBy;
use crate::bosh::failure::{Failure, FailureKind};

/// What tells [`ConnectError::ProxyScheme`] from a wrong password in the same row.
pub(crate) const UNSPOKEN: &str = "wants a login that xbosh does not speak";

/// What tells a certificate that another authority would help from others in the same row.
pub(crate) const UNTRUSTED: &str = "nobody this machine trusts has signed it";

/// What tells a web server, which knows no CONNECT, from a proxy that forbids the address.
pub(crate) const NO_PROXY_THERE: &str =
    "a web server that is no proxy says so: check the address and the port of the proxy";

/// A failure to reach the connection manager. `Display` is one sentence: the hop, what it said, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// E-30: no connection to the proxy.
    #[error("cannot connect to the proxy {proxy}: {}; check {} and that the proxy runs", plain(.source), .set_by.url())]
    ProxyUnreachable {
        /// host:port.
        proxy: String,
        /// What to correct.
        set_by: SetBy,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// E-30: several proxies, and none answers.
    #[error(
        "none of the proxies in proxy.url answers ({tried}): check that list, and that one of them runs"
    )]
    NoProxyAnswers {
        /// Each with what was seen.
        tried: String,
    },
    /// E-30: the proxy accepted the connection and says nothing.
    #[error("the proxy {proxy} does not answer; check {}", .set_by.url())]
    ProxySilent {
        /// host:port.
        proxy: String,
        /// What to correct.
        set_by: SetBy,
    },
    /// E-31: the proxy wants other credentials.
    #[error("the proxy {proxy} {}: {}", refusal(*.sent, .offers), .set_by.login(*.sent))]
    ProxyAuth {
        /// host:port.
        proxy: String,
        /// What to correct.
        set_by: SetBy,
        /// We had credentials and sent them.
        sent: bool,
        /// What it said or offers.
        offers: String,
    },
    /// E-31: the proxy offers no scheme that we speak (NTLM or Negotiate alone, P-06).
    #[error(
        "the proxy {proxy} {UNSPOKEN} ({offers}): run cntlm or px on this machine and set proxy.url to its address, see docs/corporate-proxies.md"
    )]
    ProxyScheme {
        /// host:port.
        proxy: String,
        /// What it said and offers.
        offers: String,
    },
    /// E-32: the proxy does not allow this destination.
    #[error(
        "the proxy {proxy} does not allow a connection to {target} ({said}); {}", allowed(.target, .said)
    )]
    ProxyRefused {
        /// host:port.
        proxy: String,
        /// host:port.
        target: String,
        /// Status and the first words of its page, or the SOCKS reply.
        said: String,
    },
    /// E-33: the proxy cannot reach the destination.
    #[error(
        "the proxy {proxy} could not reach {target} ({said}); check the url of this domain, or try again later"
    )]
    ProxyUpstream {
        /// host:port.
        proxy: String,
        /// host:port.
        target: String,
        /// Status and the first words of its page, or the SOCKS reply.
        said: String,
    },
    /// E-34: this is no such proxy.
    #[error(
        "what answers at {proxy} does not behave like {kind} ({said}); check the kind of proxy and the port in {}",
        .set_by.url()
    )]
    ProxyProtocol {
        /// host:port.
        proxy: String,
        /// What to correct.
        set_by: SetBy,
        /// "an HTTP proxy" or "a SOCKS5 proxy".
        kind: &'static str,
        /// What was seen.
        said: String,
    },
    /// E-40: the certificate is not accepted.
    #[error("the certificate of {peer} is not accepted: {said}")]
    Certificate {
        /// host:port.
        peer: String,
        /// Why, and what to do.
        said: String,
    },
    /// E-42: it is not the certificate that the session began with.
    #[error(
        "{peer} shows another certificate than at the session's start, which tls.same_certificate forbids: connect again"
    )]
    OtherCertificate {
        /// host:port.
        peer: String,
    },
    /// E-41: TLS fails otherwise.
    #[error("no secure connection to {peer}: {said}; check that this address and port speak TLS")]
    Tls {
        /// host:port.
        peer: String,
        /// What was seen.
        said: String,
    },
    /// E-50: no connection to the manager.
    #[error("cannot connect to the BOSH server {target}: {}; check the network and the url of this domain", plain(.source))]
    CmUnreachable {
        /// host:port.
        target: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// E-18: a file of the configuration cannot be used.
    #[error("{key} = {path}: {said}")]
    File {
        /// Configuration key.
        key: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        said: String,
    },
    /// E-18: a setting cannot be used.
    #[error("{0}")]
    Setting(String),
}

impl ConnectError {
    /// The row that the core acts by.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::ProxyUnreachable { .. }
            | Self::NoProxyAnswers { .. }
            | Self::ProxySilent { .. } => FailureKind::ProxyUnreachable,
            Self::ProxyAuth { .. } | Self::ProxyScheme { .. } => FailureKind::ProxyAuth,
            Self::ProxyRefused { .. } => FailureKind::ProxyRefused,
            Self::ProxyUpstream { .. } => FailureKind::ProxyUpstream,
            Self::ProxyProtocol { .. } => FailureKind::ProxyProtocol,
            Self::Certificate { .. } => FailureKind::TlsCertificate,
            Self::OtherCertificate { .. } => FailureKind::TlsCertificateChanged,
            Self::Tls { .. } => FailureKind::Tls,
            Self::CmUnreachable { .. } => FailureKind::CmUnreachable,
            Self::File { .. } | Self::Setting(_) => FailureKind::Internal,
        }
    }

    /// E-50: no time is left for it.
    pub(crate) fn out_of_time(target: String) -> Self {
        Self::CmUnreachable {
            target,
            source: io::ErrorKind::TimedOut.into(),
        }
    }

    /// As the session core takes it. Nothing of a request was sent yet.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        Failure {
            kind: self.kind(),
            text: self.to_string(),
            sent: false,
        }
    }
}

fn refusal(sent: bool, offers: &str) -> String {
    if sent {
        format!("refused the user name or password ({offers})")
    } else {
        format!("wants a user name and password ({offers})")
    }
}

fn allowed(target: &str, said: &str) -> &'static str {
    if said.starts_with("405") {
        NO_PROXY_THERE
    } else if target.ends_with(":443") {
        "ask whoever runs it to allow this"
    } else {
        "many proxies allow only port 443"
    }
}

/// The system's words without its numbers.
pub(crate) fn plain(error: &io::Error) -> String {
    let known = PLAIN.iter().find(|(kind, _)| *kind == error.kind());
    if let Some((_, words)) = known {
        return (*words).to_owned();
    }
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

const PLAIN: [(io::ErrorKind, &str); 6] = [
    (io::ErrorKind::ConnectionRefused, "connection refused"),
    (io::ErrorKind::TimedOut, "no answer in time"),
    (io::ErrorKind::ConnectionReset, "connection reset"),
    (io::ErrorKind::UnexpectedEof, "connection closed"),
    (io::ErrorKind::HostUnreachable, "host unreachable"),
    (io::ErrorKind::NetworkUnreachable, "network unreachable"),
];
