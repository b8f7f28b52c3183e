//! TLS towards the connection manager and towards an `https://` proxy.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{ConnectError, plain};
use crate::config::Tls;

/// A client configuration: the system's roots and those of the file, TLS 1.2 and 1.3, ALPN `http/1.1`.
///
/// `key` names the setting that `ca_file` comes from, for errors.
///
/// # Errors
/// [`ConnectError::File`] for a file that cannot be used, [`ConnectError::Setting`] if there is no root at all.
pub(super) fn client_config(
    settings: &Tls,
    key: &'static str,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let extra = match &settings.ca_file {
        Some(path) => certificates(path, key)?,
        None => Vec::new(),
    };
    let verifier = verifier(extra, Arc::clone(&provider), settings, key)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ConnectError::Setting(format!("TLS cannot be set up: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match (&settings.client_cert, &settings.client_key) {
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

fn verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    settings: &Tls,
    key: &'static str,
) -> Result<Arc<dyn ServerCertVerifier>, ConnectError> {
    match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => Ok(Arc::new(verifier)),
        Err(error) => Err(match &settings.ca_file {
            Some(path) => file_error(key, path, &error.to_string()),
            None => ConnectError::Setting(
                "the system has no certificate authorities: install ca-certificates, or set tls.ca_file".into(),
            ),
        }),
    }
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

/// Whose certificate it is: it decides which settings an error names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// The connection manager.
    Manager,
    /// The proxy on the way to it.
    Proxy,
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

fn explain(error: &io::Error, peer: &str, hop: Hop) -> ConnectError {
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
            said: format!("the server refused with alert {alert:?}"),
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
    match (reason, hop) {
        // A bad signature: somebody else's authority under the name of one that is trusted.
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Hop::Manager) => {
            "nobody this machine trusts has signed it; if your network inspects TLS or the server has its own \
             authority, add that root to tls.ca_file"
                .into()
        }
        (CertificateError::UnknownIssuer | CertificateError::BadSignature, Hop::Proxy) => {
            "nobody this machine trusts has signed it; if the proxy has its own authority, add that root to \
             proxy.ca_file"
                .into()
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, hop) => {
            let whose = match hop {
                Hop::Manager => "server",
                Hop::Proxy => "proxy",
            };
            format!("it has expired; tell the {whose}'s operator, or set this machine's clock")
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            "it is not valid yet; is this machine's clock right?".into()
        }
        (
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            hop,
        ) => {
            let what = match hop {
                Hop::Manager => "the url of this domain",
                Hop::Proxy => "proxy.url",
            };
            format!("it is for another name; check {what}")
        }
        (CertificateError::Revoked, _) => "it has been revoked; tell its operator".into(),
        // webpki's own word, wrapped beyond reach of a match.
        (other, _) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "it is an authority's own certificate, which cannot stand for a server; make a self-signed one with \
             basicConstraints=CA:FALSE, or sign one with the authority"
                .into()
        }
        (other, _) => format!("{other}"),
    }
}
