//! A throw-away certificate authority, and TLS for servers.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A certificate authority that lives as long as the test.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// If the machine cannot make keys.
    #[must_use]
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// One with this name.
    ///
    /// # Panics
    /// If the machine cannot make keys.
    #[must_use]
    pub fn named(common_name: &str) -> Self {
        Self::with(|params| {
            let name = &mut params.distinguished_name;
            name.push(rcgen::DnType::CommonName, common_name);
        })
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }

    /// Its certificate as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Serves TLS as these names or addresses.
    ///
    /// # Panics
    /// If a name cannot be in a certificate.
    #[must_use]
    pub fn acceptor(&self, names: &[&str]) -> Acceptor {
        self.acceptor_as(names, |_| {})
    }

    /// As [`Self::acceptor`], with a certificate that ran out long ago.
    ///
    /// # Panics
    /// If a name cannot be in a certificate.
    #[must_use]
    pub fn expired(&self, names: &[&str]) -> Acceptor {
        self.acceptor_as(names, |params| {
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        })
    }

    /// As [`Self::acceptor`], with a certificate that holds from far in the future on.
    ///
    /// # Panics
    /// If a name cannot be in a certificate.
    #[must_use]
    pub fn not_yet_valid(&self, names: &[&str]) -> Acceptor {
        self.acceptor_as(names, |params| {
            params.not_before = rcgen::date_time_ymd(2101, 1, 1);
            params.not_after = rcgen::date_time_ymd(2102, 1, 1);
        })
    }

    fn acceptor_as(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Acceptor {
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
                .expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
            )
            .expect("a usable certificate");
        Acceptor(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Makes TLS out of accepted connections.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// The same certificate, with these protocols on offer (ALPN).
    #[must_use]
    pub fn speaking(&self, protocols: &[&str]) -> Self {
        let mut config = (**self.0.config()).clone();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    /// Handshakes; `None` if the client did not.
    pub async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        self.0.accept(stream).await.ok()
    }
}
