//! Whole handshakes in memory: versions, protocols, resumption.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};

use super::Place;

fn client(place: &Place, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let file = place.file("example.org/ca.pem");
    roots
        .add(CertificateDer::from_pem_file(file).unwrap())
        .unwrap();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Shakes hands; what the client and the server say of it.
fn shake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    // The last rounds carry the tickets.
    for _ in 0..6 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

/// TLS 1.2 and 1.3; a session is resumed within its domain, and not at another's.
#[test]
fn versions_and_resumption() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let place = Place::new();
        let server = place.tls.server_config("example.org").unwrap();
        let client = Arc::new(client(&place, &[version]));
        let (first, _) = shake(&client, &server, "example.org").unwrap();
        assert_eq!(first.protocol_version(), Some(version.version));
        assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
        let same = place.tls.server_config("example.org").unwrap();
        let (second, _) = shake(&client, &same, "example.org").unwrap();
        assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed));
        // The client offers its session, the other domain's settings do not know it.
        let other = place.tls.server_config("other.example").unwrap();
        let refused = shake(&client, &other, "example.org")
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(refused, Error::InvalidCertificate(_)), "{refused}");
    }
}

/// XEP-0368: a client may name the protocol, another one is refused.
#[test]
fn alpn() {
    let place = Place::new();
    let server = place.tls.server_config("example.org").unwrap();
    let with = |protocols: &[&[u8]]| {
        let mut client = client(&place, rustls::ALL_VERSIONS);
        client.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        shake(&Arc::new(client), &server, "localhost")
            .map(|(client, _)| client.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(with(&[]), Ok(None));
    assert_eq!(
        with(&[b"h2", b"xmpp-client"]),
        Ok(Some(b"xmpp-client".to_vec()))
    );
    assert_eq!(with(&[b"http/1.1"]), Err(Error::NoApplicationProtocol));
}
