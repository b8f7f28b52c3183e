//! The platform's judgement of certificates, with the names of the one it refused.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;

use super::certificate::Names;

/// A certificate from an issuer that nobody knows: mostly an inspecting proxy's, whose name is what the user
/// needs to know.
#[derive(Debug)]
pub(super) struct Untrusted {
    pub(super) names: Names,
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown issuer ({})", self.names)
    }
}

impl std::error::Error for Untrusted {}

/// Passes every judgement on, and adds [`Untrusted`] to an unknown issuer.
#[derive(Debug)]
pub(super) struct Describing {
    judge: Verifier,
}

impl Describing {
    pub(super) fn new(judge: Verifier) -> Self {
        Self { judge }
    }
}

/// Whether one of the authorities that browsers trust stands behind this certificate, as far as this version of the
/// program knows them; whatever this machine trusts. For telling only: it decides nothing.
pub(crate) fn is_public(certificate: &[u8], intermediates: &[Vec<u8>], now: UnixTime) -> bool {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let Ok(judge) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()
    else {
        return false;
    };
    let intermediates: Vec<CertificateDer<'_>> = intermediates
        .iter()
        .map(|der| CertificateDer::from(&der[..]))
        .collect();
    let Ok(name) = ServerName::try_from("xbosh.invalid") else {
        return false;
    };
    let certificate = CertificateDer::from(certificate);
    let judged = judge.verify_server_cert(&certificate, &intermediates, &name, &[], now);
    // The name is looked at last.
    matches!(
        judged,
        Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            ))
    )
}

/// Whose name a manager's certificate must bear (XEP-0156 section 2.2, D-08 to D-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// That of the URL's host.
    Host,
    /// That of the URL's host, or this XMPP domain's: for addresses that the domain itself or the
    /// configuration vouches for.
    HostOrDomain(String),
    /// This XMPP domain's: for addresses from a source that anybody may have forged.
    Domain(String),
}

/// Passes every judgement on, of the name that the rule wants.
#[derive(Debug)]
pub(super) struct Named {
    judge: Arc<dyn ServerCertVerifier>,
    rule: CertificateName,
}

impl Named {
    pub(super) fn new(judge: Arc<dyn ServerCertVerifier>, rule: CertificateName) -> Self {
        Self { judge, rule }
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judge = |name: &ServerName<'_>| {
            self.judge
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
        };
        let domain = |domain: &str| {
            let name = ServerName::try_from(domain.to_owned())
                .map_err(|_| Error::from(CertificateError::NotValidForName))?;
            judge(&name)
        };
        match &self.rule {
            CertificateName::Host => judge(host),
            CertificateName::Domain(name) => domain(name),
            CertificateName::HostOrDomain(name) => match judge(host) {
                Err(Error::InvalidCertificate(
                    error @ (CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. }),
                )) => domain(name).map_err(|_| Error::InvalidCertificate(error)),
                judged => judged,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Describing {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = self.judge.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match (judged, Names::read(end_entity)) {
            (
                Err(Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )),
                Some(names),
            ) => {
                let error = OtherError(Arc::new(Untrusted { names }));
                Err(CertificateError::Other(error).into())
            }
            (judged, _) => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    /// What letsencrypt.org showed in July 2026 has a browsers' authority behind it; an authority of one's own is none,
    /// whoever trusts it.
    #[test]
    fn public_authorities() {
        let leaf = include_bytes!("tests/letsencrypt.org/2026-07-1.der");
        let intermediates = [
            include_bytes!("tests/letsencrypt.org/2026-07-2.der").to_vec(),
            include_bytes!("tests/letsencrypt.org/2026-07-3.der").to_vec(),
        ];
        let july = UnixTime::since_unix_epoch(Duration::from_secs(1_784_000_000));
        assert!(is_public(leaf, &intermediates, july));
        assert!(!is_public(leaf, &[], july));
        let own = xbosh_testkit::tls::Authority::new().pem();
        let own = CertificateDer::from_pem_slice(own.as_bytes()).unwrap();
        assert!(!is_public(&own, &[], UnixTime::now()));
    }
}
