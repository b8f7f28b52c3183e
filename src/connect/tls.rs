//! TLS towards the connection manager and towards an `https://` proxy.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{ConnectError, UNTRUSTED, plain};
use super::verify::{Describing, Untrusted};
use crate::config::Tls;

/// Who is at the other end of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// The connection manager.
    Manager,
    /// An `https://` proxy.
    Proxy,
}

impl Hop {
    /// The setting that adds roots.
    pub(super) fn ca_file(self) -> &'static str {
        match self {
            Self::Manager => "tls.ca_file",
            Self::Proxy => "proxy.ca_file",
        }
    }

    /// For a sentence.
    fn whose(self) -> &'static str {
        match self {
            Self::Manager => "server",
            Self::Proxy => "proxy",
        }
    }

    /// The setting that its name comes from.
    fn url(self) -> &'static str {
        match self {
            Self::Manager => "the url of this domain",
            Self::Proxy => "proxy.url",
        }
    }
}

/// What a peer's certificate is judged by: the system's roots and those of `ca_file`.
///
/// # Errors
/// [`ConnectError::File`] for a file that cannot be used, [`ConnectError::Setting`] if there is no root at all.
pub(super) fn verifier(
    ca_file: Option<&Path>,
    hop: Hop,
) -> Result<Arc<dyn ServerCertVerifier>, ConnectError> {
    let extra = match ca_file {
        Some(path) => certificates(path, hop.ca_file())?,
        None => Vec::new(),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => Ok(Arc::new(Describing::new(verifier))),
        Err(error) => Err(match ca_file {
            Some(path) => file_error(hop.ca_file(), path, &error.to_string()),
            None => ConnectError::Setting(format!(
                "the system has no certificate authorities: install ca-certificates, or set {}",
                hop.ca_file()
            )),
        }),
    }
}

/// A client configuration with a ticket store of its own (P-11): TLS 1.2 and 1.3, ALPN `http/1.1`.
///
/// # Errors
/// [`ConnectError::File`] for a certificate or key that cannot be used.
pub(super) fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    identity: &Tls,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| ConnectError::Setting(format!("TLS cannot be set up: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&identity.client_cert, &identity.client_key) {
        (Some(chain), Some(private)) => {
            let certificates = certificates(chain, "tls.client_cert")?;
            let private_key = PrivateKeyDer::from_pem_file(private)
                .map_err(|e| file_error("tls.client_key", private, &pem_error(e)))?;
            builder
                .with_client_auth_cert(certificates, private_key)
                .map_err(|e| file_error("tls.client_key", private, &e.to_string()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(
    path: &Path,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| file_error(key, path, &pem_error(e)))?
        .collect();
    let found = found.map_err(|e| file_error(key, path, &pem_error(e)))?;
    if found.is_empty() {
        return Err(file_error(key, path, "it holds no PEM certificate"));
    }
    Ok(found)
}

fn pem_error(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => plain(&error),
        other => format!("no PEM: {other}"),
    }
}

fn file_error(key: &'static str, path: &Path, said: &str) -> ConnectError {
    ConnectError::File {
        key,
        path: path.display().to_string(),
        said: said.to_owned(),
    }
}

/// Handshakes as a client of `host`; `peer` is host:port for errors.
///
/// # Errors
/// E-40, E-41.
pub(super) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    stream: S,
    host: &str,
    peer: &str,
    hop: Hop,
    limit: Duration,
) -> Result<TlsStream<S>, ConnectError> {
    let failed = |said: String| ConnectError::Tls {
        peer: peer.to_owned(),
        said,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| failed("its name cannot be in a certificate".into()))?;
    match tokio::time::timeout(limit, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(explain(&error, peer, hop)),
        Err(_) => Err(failed("no answer in time".into())),
    }
}

/// Makes ready what the first handshake of the process needs: the generator of random numbers measures the processor's
/// jitter for its first seed, which takes some 30 ms.
pub(super) fn prepare() {
    // If there is no randomness, the handshake will say so.
    let _ = aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut [0; 32]);
}

/// E-40, E-41.
pub(super) fn explain(error: &io::Error, peer: &str, hop: Hop) -> ConnectError {
    let peer = peer.to_owned();
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => ConnectError::Certificate {
            peer,
            said: explain_certificate(reason, hop),
        },
        Some(rustls::Error::NoCertificatesPresented) => ConnectError::Certificate {
            peer,
            said: "it showed none".into(),
        },
        Some(rustls::Error::InvalidMessage(_)) => ConnectError::Tls {
            peer,
            said: "what answers does not speak TLS".into(),
        },
        Some(rustls::Error::AlertReceived(alert)) => ConnectError::Tls {
            peer,
            said: format!("the {} refused with alert {alert:?}", hop.whose()),
        },
        Some(other) => ConnectError::Tls {
            peer,
            said: other.to_string(),
        },
        None => ConnectError::Tls {
            peer,
            said: plain(error),
        },
    }
}

fn explain_certificate(reason: &CertificateError, hop: Hop) -> String {
    match reason {
        // A bad signature: somebody else's authority under the name of one that is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => unknown_issuer("", hop),
        CertificateError::Other(other) => match other.0.downcast_ref::<Untrusted>() {
            Some(untrusted) => unknown_issuer(&format!(" ({})", untrusted.names), hop),
            None => other_reason(reason),
        },
        CertificateError::ExpiredContext { time, not_after } => format!(
            "it expired {}; tell the {}'s operator, or set this machine's clock",
            ago(*time, *not_after),
            hop.whose()
        ),
        CertificateError::Expired => format!(
            "it has expired; tell the {}'s operator, or set this machine's clock",
            hop.whose()
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "it is valid from {} on, and this machine's clock says {}; set the clock, or tell the {}'s operator",
            date(*not_before),
            date(*time),
            hop.whose()
        ),
        CertificateError::NotValidYet => format!(
            "it is not valid yet; set this machine's clock, or tell the {}'s operator",
            hop.whose()
        ),
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!(
                "it is for another name ({}); check {}",
                bare_names(presented),
                hop.url()
            )
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("it is for another name; check {}", hop.url())
        }
        CertificateError::Revoked => {
            format!("it has been revoked; tell the {}'s operator", hop.whose())
        }
        _ => other_reason(reason),
    }
}

fn other_reason(reason: &CertificateError) -> String {
    // webpki's own word, wrapped beyond reach of a match.
    if format!("{reason:?}").contains("CaUsedAsEndEntity") {
        return "it is an authority's own certificate, which cannot stand for a server; make a self-signed one \
                with basicConstraints=CA:FALSE, or sign one with the authority"
            .into();
    }
    reason.to_string()
}

fn unknown_issuer(names: &str, hop: Hop) -> String {
    let whose = match hop {
        Hop::Manager => "your network inspects TLS or the server has its own authority",
        Hop::Proxy => "the proxy has its own authority",
    };
    format!(
        "{UNTRUSTED}{names}; if {whose}, add that root to {}",
        hop.ca_file()
    )
}

fn ago(now: UnixTime, then: UnixTime) -> String {
    match now.as_secs().saturating_sub(then.as_secs()) / (24 * 3600) {
        0 => "today".into(),
        1 => "yesterday".into(),
        days => format!("{days} days ago"),
    }
}

/// Year, month and day.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match time::OffsetDateTime::from_unix_timestamp(seconds) {
        Ok(time) => time.date().to_string(),
        Err(_) => "a far future".into(),
    }
}

/// A few of the names, which rustls gives as `DnsName("a")` or `IpAddress(::1)`.
fn bare_names(presented: &[String]) -> String {
    let mut names: Vec<String> = presented
        .iter()
        .take(3)
        .map(|name| {
            let bare = name.split_once('(').map_or(&name[..], |(_, inner)| inner);
            let bare = bare.trim_matches([')', '"']);
            bare.chars().filter(|c| !c.is_control()).take(80).collect()
        })
        .collect();
    if presented.len() > names.len() {
        names.push("…".into());
    }
    names.join(", ")
}
