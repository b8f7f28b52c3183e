//! TLS as a client speaks it: from the first byte, or after `<starttls/>`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a client begins TLS, what it trusts, and whom it asks for.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: String,
    /// The domain of the plain header; `None`: TLS from the first byte (XEP-0368).
    starttls: Option<String>,
}

impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && (&self.name, &self.starttls) == (&other.name, &other.starttls)
    }
}

impl Eq for ClientTls {}

impl ClientTls {
    /// TLS from the first byte, as XEP-0368 has it, trusting the roots of `pem` only.
    ///
    /// # Panics
    /// If `pem` holds no certificate.
    #[must_use]
    pub fn direct(pem: &str, name: &str) -> Self {
        Self::with(pem, name, &[&TLS13, &TLS12], &[b"xmpp-client"])
    }

    /// The same after `<starttls/>` on a stream to `domain`.
    ///
    /// # Panics
    /// As [`Self::direct`].
    #[must_use]
    pub fn starttls(pem: &str, domain: &str) -> Self {
        Self {
            starttls: Some(domain.to_owned()),
            ..Self::with(pem, domain, &[&TLS13, &TLS12], &[])
        }
    }

    /// The same after `<starttls/>` on a stream to `domain`, which may be another name.
    #[must_use]
    pub fn after_starttls(self, domain: &str) -> Self {
        Self {
            starttls: Some(domain.to_owned()),
            ..self
        }
    }

    /// The same in TLS 1.2.
    #[must_use]
    pub fn in_1_2(self, pem: &str) -> Self {
        let old = Self::with(pem, &self.name, &[&TLS12], &[b"xmpp-client"]);
        Self {
            config: old.config,
            ..self
        }
    }

    /// Direct TLS with these versions and protocols (ALPN).
    ///
    /// # Panics
    /// As [`Self::direct`].
    #[must_use]
    pub fn with(
        pem: &str,
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&[u8]],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots
                .add(certificate.expect("a certificate"))
                .expect("a root");
        }
        assert!(!roots.is_empty(), "no certificate in {pem:?}");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Self {
            config: Arc::new(config),
            name: name.to_owned(),
            starttls: None,
        }
    }

    /// Connects and shakes hands.
    ///
    /// # Errors
    /// Of the socket, of TLS ([`io::Error::get_ref`] is the [`rustls::Error`]), or that STARTTLS was refused.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        if let Some(domain) = &self.starttls {
            ask(&mut stream, domain).await?;
        }
        let name = ServerName::try_from(self.name.clone()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await
    }
}

/// `<starttls/>`, offered or not, up to `<proceed/>`.
async fn ask(stream: &mut TcpStream, domain: &str) -> io::Result<()> {
    let header = format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='{domain}'>"
    );
    stream.write_all(header.as_bytes()).await?;
    expect(stream, "</stream:features>").await?;
    stream
        .write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        .await?;
    expect(stream, "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await
}

/// Reads up to these last words; they must be the last.
async fn expect(stream: &mut TcpStream, last: &str) -> io::Result<()> {
    let mut received = Vec::new();
    while !received.ends_with(last.as_bytes()) {
        if stream.read_buf(&mut received).await? == 0 {
            let text = String::from_utf8_lossy(&received);
            return Err(io::Error::other(format!("{text:?} in place of {last}")));
        }
    }
    Ok(())
}
