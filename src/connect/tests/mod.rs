//! TLS and the ways out, against scripted servers and proxies.

pub(crate) mod authority;
mod tickets;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;
use url::Url;

use authority::{Authority, acceptor};

use super::*;
use crate::bosh::failure::FailureKind;
use crate::config::{Proxy, Tls};
use crate::http::tests::{Conn, Peer, direct, via};

fn secure(peer: &Peer) -> Url {
    Url::parse(&format!("https://{}/http-bind", peer.address())).unwrap()
}

fn limits() -> TimeLimits {
    TimeLimits {
        connect: Duration::from_millis(200),
        proxy: Duration::from_millis(200),
        tls: Duration::from_millis(200),
    }
}

/// Connects and says "ping"; the TLS server answers what it heard.
async fn talk(peer: &Peer, server: TlsAcceptor, tls: &Tls) -> Result<String, ConnectError> {
    let connector = Connector::new(&direct(), tls).unwrap();
    let url = secure(peer);
    let served = async {
        let Ok(mut stream) = server.accept(peer.tcp().await).await else {
            return String::new();
        };
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut heard = [0; 4];
        // After a refusal nothing more comes.
        let heard = match stream.read_exact(&mut heard).await {
            Ok(_) => String::from_utf8_lossy(&heard).into_owned(),
            Err(_) => String::new(),
        };
        let version = stream.get_ref().1.protocol_version().unwrap();
        let clients = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        format!("{heard} {version:?} {clients}")
    };
    let asked = async {
        let mut connection = connector.connect(&url).await?;
        connection.stream.write_all(b"ping").await.unwrap();
        connection.stream.flush().await.unwrap();
        Ok(())
    };
    let (asked, served) = tokio::join!(asked, served);
    asked.map(|()| served)
}

async fn refused(server: TlsAcceptor, tls: &Tls, kind: FailureKind, words: &str) {
    let peer = Peer::new().await;
    let error = talk(&peer, server, tls).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(
        error.to_string(),
        words.replace("{peer}", &peer.address().to_string())
    );
}

/// E-40: unknown issuer, expired, not yet valid, another name: one sentence each.
#[tokio::test]
async fn e40_certificates() {
    let (ours, other) = (Authority::new(), Authority::new());
    let kind = FailureKind::TlsCertificate;
    let unknown = "the certificate of {peer} is not accepted: nobody this machine trusts has signed it (issuer \"rcgen self signed cert\", subject \"rcgen self signed cert\"); if your network inspects TLS or the server has its own authority, add that root to tls.ca_file";
    refused(other.server("127.0.0.1"), &ours.tls(), kind, unknown).await;
    refused(other.server("127.0.0.1"), &Tls::default(), kind, unknown).await;
    let expired = ours.sign("127.0.0.1", |p| {
        let yesterday = std::time::SystemTime::now() - Duration::from_secs(30 * 3600);
        p.not_after = yesterday.into();
    });
    refused(
        acceptor(expired, rustls::ALL_VERSIONS, None),
        &ours.tls(),
        kind,
        "the certificate of {peer} is not accepted: it expired yesterday; tell the server's operator, or set this machine's clock",
    )
    .await;
    let early = ours.sign("127.0.0.1", |p| {
        p.not_before = rcgen::date_time_ymd(3000, 1, 1)
    });
    refused(
        acceptor(early, rustls::ALL_VERSIONS, None),
        &ours.tls(),
        kind,
        &format!(
            "the certificate of {{peer}} is not accepted: it is valid from 3000-01-01 on, and this machine's clock says {}; set the clock, or tell the server's operator",
            time::OffsetDateTime::now_utc().date()
        ),
    )
    .await;
    refused(
        ours.server("other.example"),
        &ours.tls(),
        kind,
        "the certificate of {peer} is not accepted: it is for another name (other.example); check the url of this domain",
    )
    .await;
}

/// E-41: an alert, bytes that are not TLS, a close, silence.
#[tokio::test]
async fn e41_no_tls() {
    let ours = Authority::new();
    let connector = Connector::with_limits(&direct(), &ours.tls(), limits()).unwrap();
    for (bytes, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "what answers does not speak TLS",
        ),
        (
            b"\x15\x03\x03\0\x02\x02\x28",
            "the server refused with alert HandshakeFailure",
        ),
        (
            b"\x15\x03\x03\0\x02\x02\x46",
            "the server refused with alert ProtocolVersion",
        ),
        (b"", "connection closed"),
    ] {
        let peer = Peer::new().await;
        let served = async {
            let mut conn = Conn::new(peer.tcp().await);
            conn.stream.read_buf(&mut conn.ahead).await.unwrap();
            conn.send(bytes).await;
            conn.finish().await;
        };
        let url = secure(&peer);
        let (result, ()) = tokio::join!(connector.connect(&url), served);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Tls, "{error}");
        let at = peer.address();
        assert_eq!(
            error.to_string(),
            format!(
                "no secure connection to {at}: {words}; check that this address and port speak TLS"
            )
        );
    }
    let peer = Peer::new().await;
    let url = secure(&peer);
    let (result, _silent) = tokio::join!(connector.connect(&url), peer.tcp());
    let error = result.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Tls);
    assert!(
        error.to_string().contains(": no answer in time;"),
        "{error}"
    );
}

/// Servers with one version of TLS only; ALPN is `http/1.1` (B-07).
#[tokio::test]
async fn b07_tls_versions_and_alpn() {
    let ours = Authority::new();
    for (version, heard) in [
        (&rustls::version::TLS12, "ping TLSv1_2 0"),
        (&rustls::version::TLS13, "ping TLSv1_3 0"),
    ] {
        let server = acceptor(ours.sign("127.0.0.1", |_| {}), &[version], None);
        let peer = Peer::new().await;
        assert_eq!(talk(&peer, server, &ours.tls()).await.unwrap(), heard);
    }
}

/// A client certificate is shown if there is one.
#[tokio::test]
async fn client_certificate() {
    let ours = Authority::new();
    let client = ours.sign("client.example", |_| {});
    let (chain, key) = (ours.dir().join("c.pem"), ours.dir().join("k.pem"));
    std::fs::write(&chain, &client.pem).unwrap();
    std::fs::write(&key, client.key.serialize_pem()).unwrap();
    let tls = Tls {
        client_cert: Some(chain),
        client_key: Some(key),
        ..ours.tls()
    };
    let server = || {
        acceptor(
            ours.sign("127.0.0.1", |_| {}),
            rustls::ALL_VERSIONS,
            Some(&ours),
        )
    };
    let peer = Peer::new().await;
    let heard = talk(&peer, server(), &tls).await.unwrap();
    assert_eq!(heard, "ping TLSv1_3 1");
}

/// E-18: files that cannot be used are named with their key.
#[test]
fn e18_bad_files() {
    let ours = Authority::new();
    let dir = ours.dir();
    let missing = dir.join("missing.pem");
    let empty = dir.join("empty.pem");
    std::fs::write(&empty, "no PEM here").unwrap();
    let broken = dir.join("broken.pem");
    std::fs::write(
        &broken,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let (one, two) = (ours.sign("a", |_| {}), ours.sign("b", |_| {}));
    let (cert, key) = (dir.join("one.pem"), dir.join("two.pem"));
    std::fs::write(&cert, &one.pem).unwrap();
    std::fs::write(&key, two.key.serialize_pem()).unwrap();
    let check = |proxy: &Proxy, tls: &Tls, key: &str, path: &PathBuf| {
        let error = Connector::new(proxy, tls).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ConnectError::File { .. }), "{text}");
        assert!(
            text.starts_with(&format!("{key} = {}: ", path.display())),
            "{text}"
        );
    };
    for path in [&missing, &empty, &broken] {
        let file = Some(path.clone());
        let tls = Tls {
            ca_file: file.clone(),
            ..Tls::default()
        };
        check(&direct(), &tls, "tls.ca_file", path);
        let proxy = Proxy {
            ca_file: file.clone(),
            ..direct()
        };
        check(&proxy, &Tls::default(), "proxy.ca_file", path);
        let tls = Tls {
            client_cert: Some(cert.clone()),
            client_key: file.clone(),
            ..Tls::default()
        };
        check(&direct(), &tls, "tls.client_key", path);
        if path != &broken {
            let tls = Tls {
                client_cert: file,
                client_key: Some(key.clone()),
                ..Tls::default()
            };
            check(&direct(), &tls, "tls.client_cert", path);
        }
    }
    let tls = Tls {
        client_cert: Some(cert),
        client_key: Some(key.clone()),
        ..Tls::default()
    };
    check(&direct(), &tls, "tls.client_key", &key);
}

/// A system without authorities is an error once TLS is needed, and `tls.ca_file` makes up for it. The roots
/// come from the environment, so the test runs itself in another one.
#[tokio::test]
async fn no_system_roots() {
    let inside = std::env::var_os("XBOSH_TEST_NO_ROOTS").is_some();
    if !inside {
        let name = "connect::tests::no_system_roots";
        let run = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env("XBOSH_TEST_NO_ROOTS", "1")
            .env("SSL_CERT_FILE", "/dev/null")
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let ours = Authority::new();
    let peer = Peer::new().await;
    let connector = Connector::new(&direct(), &Tls::default()).unwrap();
    let clear = peer.url();
    let (result, _conn) = tokio::join!(connector.connect(&clear), peer.tcp());
    assert!(result.is_ok());
    let url = secure(&peer);
    let (result, _conn) = tokio::join!(connector.connect(&url), peer.tcp());
    assert_eq!(
        result.unwrap_err().to_string(),
        "the system has no certificate authorities: install ca-certificates, or set tls.ca_file"
    );
    let heard = talk(&Peer::new().await, ours.server("127.0.0.1"), &ours.tls()).await;
    assert_eq!(heard.unwrap(), "ping TLSv1_3 0");
}

/// P-14, E-30: a proxy that refuses, and one that stalls at each stage.
#[tokio::test]
async fn p14_dead_proxies() {
    let target = Url::parse("https://cm.invalid/b").unwrap();
    for scheme in ["http", "socks5h", "https"] {
        let peer = Peer::new().await;
        let at = peer.address();
        let connector =
            Connector::with_limits(&via(scheme, at), &Tls::default(), limits()).unwrap();
        let (result, _silent) = tokio::join!(connector.connect(&target), peer.tcp());
        let error = result.unwrap_err();
        if scheme == "https" {
            assert!(error.to_string().contains("no answer in time"), "{error}");
        } else {
            assert_eq!(error.kind(), FailureKind::ProxyUnreachable);
            assert_eq!(
                error.to_string(),
                format!("the proxy {at} does not answer; check proxy.url")
            );
        }
        drop(peer);
        let error = connector.connect(&target).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::ProxyUnreachable);
        assert_eq!(
            error.to_string(),
            format!(
                "cannot connect to the proxy {at}: connection refused; check proxy.url and that the proxy runs"
            )
        );
        assert!(!format!("{error:?} {connector:?}").contains("s3cret"));
    }
}

/// P-11: the manager and an `https://` proxy share no ticket store, even where they share their roots.
#[test]
fn p11_tickets_of_manager_and_proxy() {
    let ours = Authority::new();
    let settings = Proxy {
        ca_file: Some(ours.ca_file()),
        ..direct()
    };
    let connector = Connector::new(&settings, &ours.tls()).unwrap();
    let manager = connector.shared.tls.as_ref().unwrap();
    let proxy = connector.shared.proxy_tls.as_ref().unwrap();
    assert!(!Arc::ptr_eq(manager, proxy));
}

/// D-08, D-09, D-10: whose name the certificate must bear, and that a third is refused everywhere.
#[tokio::test]
async fn d08_certificate_names() {
    let authority = Authority::new();
    let host_or = CertificateName::HostOrDomain("xmpp.test".into());
    let domain = CertificateName::Domain("xmpp.test".into());
    for (rule, shown, accepted) in [
        (&CertificateName::Host, "127.0.0.1", true),
        (&CertificateName::Host, "xmpp.test", false),
        (&host_or, "127.0.0.1", true),
        (&host_or, "xmpp.test", true),
        (&host_or, "third.test", false),
        (&domain, "127.0.0.1", false),
        (&domain, "xmpp.test", true),
        (&domain, "third.test", false),
    ] {
        let peer = Peer::new().await;
        let server = authority.server(shown);
        let connector = Connector::new(&direct(), &authority.tls())
            .unwrap()
            .named(rule.clone());
        let url = secure(&peer);
        let (connected, _) = tokio::join!(connector.connect(&url), async {
            // A client that refuses breaks the handshake off.
            let _ = server.accept(peer.tcp().await).await;
        });
        let kind = connected.map(|_| ()).map_err(|error| error.kind());
        let expected = if accepted {
            Ok(())
        } else {
            Err(FailureKind::TlsCertificate)
        };
        assert_eq!(kind, expected, "{rule:?} {shown}");
    }
}
