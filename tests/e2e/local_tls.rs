//! TLS between client and sidecar: STARTTLS and direct, what it carries, and what bad clients get (S-02, S-37, S-45).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use xbosh::config::{Config, LocalTlsMode, PlainWithoutTls};
use xbosh_testkit::client::managed::{Managed, Resumed};
use xbosh_testkit::client::raw::Raw;
use xbosh_testkit::client::tls::ClientTls;
use xbosh_testkit::client::{Client, ClientError, Mechanism, Place};
use xbosh_testkit::cm::Profile;
use xbosh_testkit::tls::Authority;

mod bad;
mod modes;

use super::support::{Chain, DOMAIN, account, echo};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='localhost'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const AUTH: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHVzZXIAcGFzc3dvcmQ=</auth>";

async fn chain() -> Chain {
    Chain::start(Profile::strict()).await
}

async fn chain_in(mode: LocalTlsMode) -> Chain {
    Chain::start_with(Profile::strict(), |config| config.local_tls = mode).await
}

/// The certificate of the domain's authority.
fn ca(chain: &Chain, domain: &str) -> String {
    let tls = chain.sidecar.local_tls().expect("it is on");
    // Made with the leaf, at first use.
    let file = tls.certificate_file(domain).unwrap();
    assert!(file.starts_with(chain.folder.path()));
    std::fs::read_to_string(file).unwrap()
}

fn starttls(chain: &Chain) -> ClientTls {
    ClientTls::starttls(&ca(chain, DOMAIN), DOMAIN)
}

fn direct(chain: &Chain) -> ClientTls {
    ClientTls::direct(&ca(chain, DOMAIN), DOMAIN)
}

async fn login(chain: &Chain, tls: ClientTls) -> Client {
    let place = Place::Tls(chain.addr(), tls);
    Client::login(place, &account("user"), Mechanism::Plain)
        .await
        .unwrap()
}

fn creations(chain: &Chain) -> usize {
    let creation = |post: &&xbosh_testkit::cm::Post| post.attribute("sid").is_none();
    chain.cm.posts().iter().filter(creation).count()
}

/// The first reason in a failed handshake.
fn reason(error: &io::Error) -> String {
    error
        .get_ref()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// S-02, S-37: STARTTLS and direct TLS in both versions, and the whole life of a session in each; one session, one
/// certificate.
#[tokio::test]
async fn s37_sessions_over_tls() {
    let chain = chain().await;
    let pem = ca(&chain, DOMAIN);
    for tls in [
        starttls(&chain),
        starttls(&chain).in_1_2(&pem),
        direct(&chain),
        direct(&chain).in_1_2(&pem),
        ClientTls::with(&pem, "127.0.0.1", &[&TLS13], &[]),
    ] {
        let before = creations(&chain);
        let mut client = login(&chain, tls).await;
        client.roster().await.unwrap();
        client.available(None).await.unwrap();
        echo(&mut client, 0..200).await;
        client.logout().await.unwrap();
        assert_eq!(creations(&chain), before + 1);
        assert_eq!(chain.server.online(), Vec::<String>::new());
    }
    chain.assert_faithful();
}

/// A second connection of the same client resumes its TLS session.
#[tokio::test]
async fn tls_sessions_are_resumed() {
    let chain = chain().await;
    let pem = ca(&chain, DOMAIN);
    for version in [&TLS13, &TLS12] {
        let tls = ClientTls::with(&pem, DOMAIN, &[version], &[b"xmpp-client"]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = tls.connect(chain.addr()).await.unwrap();
            stream.write_all(HEADER.as_bytes()).await.unwrap();
            read_until(&mut stream, "</stream:features>").await;
            let connection = stream.get_ref().1;
            assert_eq!(connection.alpn_protocol(), Some(&b"xmpp-client"[..]));
            kinds.push(connection.handshake_kind());
        }
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Some(Full), Some(Resumed)], "{version:?}");
    }
}

async fn read_until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut received = Vec::new();
    let reading = async {
        while !received.ends_with(end.as_bytes()) {
            let count = stream.read_buf(&mut received).await.unwrap();
            assert_ne!(count, 0, "{:?}", String::from_utf8_lossy(&received));
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .unwrap();
    String::from_utf8(received).unwrap()
}

/// S-25: much more than any buffer holds, both ways at once, in order; the keys change on the way.
#[tokio::test]
async fn s25_much_both_ways() {
    let chain = chain().await;
    let pem = ca(&chain, DOMAIN);
    for tls in [direct(&chain), starttls(&chain).in_1_2(&pem)] {
        let (mut reader, mut writer) = login(&chain, tls).await.split();
        let body = "0123456789abcdef".repeat(4096);
        let sent = body.clone();
        let sending = tokio::spawn(async move {
            for n in 0..300 {
                writer
                    .message(&format!("echo@{DOMAIN}"), &format!("{n} {sent}"))
                    .await
                    .unwrap();
            }
            writer
        });
        for n in 0..300 {
            let stanza = loop {
                let stanza = reader.next_stanza().await.unwrap();
                if stanza.name() == "message" {
                    break stanza;
                }
            };
            assert!(stanza.child_text("body").unwrap() == format!("{n} {body}"));
        }
        drop(sending.await.unwrap());
    }
    chain.assert_faithful();
}

/// A client that does not read stops what comes for it (S-25), and gets all of it once it reads.
#[tokio::test]
async fn s25_backpressure() {
    let chain = chain().await;
    let mut slow = login(&chain, direct(&chain)).await;
    slow.available(None).await.unwrap();
    let to = slow.jid().to_owned();
    let mut other = Client::login(chain.addr(), &account("other"), Mechanism::Plain)
        .await
        .unwrap();
    let body = "x".repeat(60_000);
    for n in 0..300 {
        other.message(&to, &format!("{n} {body}")).await.unwrap();
    }
    other.logout().await.unwrap();
    for n in 0..300 {
        let stanza = slow.wait_for(|s| s.name() == "message").await.unwrap();
        assert!(stanza.child_text("body").unwrap() == format!("{n} {body}"));
    }
    slow.logout().await.unwrap();
}

/// One byte in each record, and a change of keys in the middle of a stanza.
#[tokio::test]
async fn records_of_one_byte() {
    let chain = chain().await;
    let mut stream = direct(&chain).connect(chain.addr()).await.unwrap();
    for byte in HEADER.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let head = read_until(&mut stream, "</stream:features>").await;
    assert!(!head.contains("starttls"), "{head}");
    let (first, second) = AUTH.split_at(40);
    stream.write_all(first.as_bytes()).await.unwrap();
    stream.get_mut().1.refresh_traffic_keys().unwrap();
    stream.write_all(second.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    read_until(&mut stream, "</success>").await;
}

/// RFC 8446 section 6.1: the end of the stream is the end of TLS: close_notify, also where the client waits for it.
#[tokio::test]
async fn the_end_is_said() {
    let chain = chain().await;
    for version in [&TLS13, &TLS12] {
        let tls = ClientTls::with(&ca(&chain, DOMAIN), DOMAIN, &[version], &[]);
        let mut stream = tls.connect(chain.addr()).await.unwrap();
        stream.write_all(HEADER.as_bytes()).await.unwrap();
        read_until(&mut stream, "</stream:features>").await;
        stream.write_all(b"</stream:stream>").await.unwrap();
        let mut last = String::new();
        // Without close_notify this is an error.
        stream.read_to_string(&mut last).await.unwrap();
        assert_eq!(last, "</stream:stream>");
    }
}

/// S-50, T-28: a client that vanishes inside TLS leaves no ghost, with close_notify or without.
#[tokio::test]
async fn s50_vanished_inside_tls() {
    let chain = chain().await;
    login(&chain, direct(&chain)).await.vanish();
    let began = tokio::time::Instant::now();
    while !chain.server.online().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(5), "a ghost");
        tokio::task::yield_now().await;
    }
}

/// S-49: a stream inside TLS is resumed inside TLS, from the clear, and back again; nothing is lost or doubled.
#[tokio::test]
async fn s49_resumed_over_tls() {
    let chain = chain().await;
    let place = Place::Tls(chain.addr(), starttls(&chain));
    let mut client = Managed::login(place, &account("user"), Mechanism::Scram)
        .await
        .unwrap();
    for round in 0..5 {
        for n in 0..20 {
            let text = format!("{round} {n}");
            client.message(&format!("echo@{DOMAIN}"), &text).await;
        }
        assert_eq!(client.reconnect().await.unwrap(), Resumed::Yes);
        for n in 0..20 {
            let stanza = client.next_stanza().await.unwrap();
            assert_eq!(stanza.child_text("body"), Some(format!("{round} {n}")));
        }
    }
    client.logout().await.unwrap();
    chain.assert_faithful();
}

/// S-49: the connection that is replaced hears so inside its TLS.
#[tokio::test]
async fn s49_the_old_connection_hears_conflict() {
    let chain = chain().await;
    let mut old = login(&chain, direct(&chain)).await;
    old.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
        .await
        .unwrap();
    let enabled = old.wait_for(|s| s.name() == "enabled").await.unwrap();
    let id = enabled.attribute("id").unwrap();
    let mut new = Client::connect(Place::Tls(chain.addr(), starttls(&chain)), DOMAIN)
        .await
        .unwrap();
    new.open().await.unwrap();
    new.authenticate(&account("user"), Mechanism::Plain)
        .await
        .unwrap();
    new.open().await.unwrap();
    new.send(&format!(
        "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
    ))
    .await
    .unwrap();
    new.wait_for(|s| s.name() == "resumed").await.unwrap();
    match old.next_stanza().await {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "conflict"),
        other => panic!("{other:?}"),
    }
    echo(&mut new, 0..10).await;
}

/// Two domains; `localhost` is served, the other one only named.
fn two_domains(config: &mut Config) {
    let settings = config.domains.get(DOMAIN).cloned().unwrap();
    config.domains.insert("example.org".into(), settings);
    config.allowed_domains = Some(vec![DOMAIN.into(), "example.org".into()]);
    config.default_domain = Some(DOMAIN.into());
}
