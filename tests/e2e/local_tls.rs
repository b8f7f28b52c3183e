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

use super::support::{Chain, DOMAIN, account, echo};

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='localhost'>";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const REFUSED: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
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

/// S-37: off: the exact bytes, and silence for TLS from the first byte.
#[tokio::test]
async fn s37_off() {
    let chain = chain_in(LocalTlsMode::Off).await;
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    let head = raw.read_until("</stream:features>").await.unwrap();
    assert!(!head.contains("starttls"), "{head}");
    raw.send(STARTTLS).await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), REFUSED);
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(b"\x16\x03\x01\x00\xf4\x01").await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), "");
}

/// S-37: optional offers it, auto does not until the authority is trusted; required answers the plain header itself.
#[tokio::test]
async fn s37_modes() {
    for (mode, offered) in [
        (LocalTlsMode::Auto, false),
        (LocalTlsMode::Optional, true),
        (LocalTlsMode::Required, true),
    ] {
        let chain = chain_in(mode).await;
        let mut raw = Raw::connect(chain.addr()).await.unwrap();
        raw.send(HEADER).await.unwrap();
        let head = raw.read_until("</stream:features>").await.unwrap();
        assert_eq!(head.contains("<starttls "), offered, "{mode:?}: {head}");
        let required = mode == LocalTlsMode::Required;
        assert_eq!(creations(&chain), usize::from(!required));
        assert_eq!(head.contains("<mechanism>"), !required);
        if required {
            raw.send(AUTH).await.unwrap();
            let told = raw.read_to_end().await.unwrap();
            assert!(told.contains("<policy-violation"), "{told}");
            assert_eq!(chain.cm.posts().len(), 0);
        }
        let mut client = login(&chain, starttls(&chain)).await;
        echo(&mut client, 0..10).await;
        client.logout().await.unwrap();
        chain.assert_faithful();
    }
}

/// S-37, CVE-2011-0411: words in the clear behind `<starttls/>` go nowhere, in one segment or two.
#[tokio::test]
async fn s37_injection() {
    let chain = chain().await;
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    raw.send(format!("{STARTTLS}{AUTH}")).await.unwrap();
    assert_eq!(raw.read_to_end().await.unwrap(), REFUSED);

    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    raw.send(STARTTLS).await.unwrap();
    raw.read_until(PROCEED).await.unwrap();
    raw.send(format!("{HEADER}{AUTH}")).await.unwrap();
    let rest = raw.read_to_end().await.unwrap();
    assert!(!rest.contains("stream"), "{rest:?}");
    for post in chain.cm.posts() {
        assert!(!post.body.contains("<auth"), "{}", post.body);
    }
}

/// S-45: PLAIN shows inside TLS only.
#[tokio::test]
async fn s45_plain_is_hidden() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.features.plain_without_tls = PlainWithoutTls::Hide;
    })
    .await;
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    let head = raw.read_until("</stream:features>").await.unwrap();
    assert!(head.contains("SCRAM-SHA-1") && !head.contains("PLAIN"));
    let mut client = login(&chain, direct(&chain)).await;
    echo(&mut client, 0..3).await;
}

/// Two domains; `localhost` is served, the other one only named.
fn two_domains(config: &mut Config) {
    let settings = config.domains.get(DOMAIN).cloned().unwrap();
    config.domains.insert("example.org".into(), settings);
    config.allowed_domains = Some(vec![DOMAIN.into(), "example.org".into()]);
    config.default_domain = Some(DOMAIN.into());
}

/// S-37: the name in TLS and the domain of the stream must be one, by STARTTLS and directly.
#[tokio::test]
async fn s37_another_name_in_tls() {
    let chain = Chain::start_with(Profile::strict(), two_domains).await;
    let pem = ca(&chain, "example.org");
    let other = ClientTls::direct(&pem, "example.org");
    let mut stream = other.connect(chain.addr()).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "</stream:stream>").await;
    assert!(told.contains("<host-unknown"), "{told}");
    assert_eq!(creations(&chain), 0);

    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    // Without a name, the certificate is that of the header's domain; with one, of that domain.
    let mut wrong = ClientTls::direct(&pem, "example.org");
    wrong = wrong.after_starttls(DOMAIN);
    let mut stream = wrong.connect(chain.addr()).await.unwrap();
    stream.write_all(HEADER.as_bytes()).await.unwrap();
    let told = read_until(&mut stream, "</stream:stream>").await;
    assert!(told.contains("<host-unknown"), "{told}");
}

/// A domain that is not allowed has no certificate; others are untouched.
#[tokio::test]
async fn unknown_names_are_refused() {
    let chain = Chain::start_with(Profile::strict(), two_domains).await;
    let tls = ClientTls::direct(&ca(&chain, DOMAIN), "example.net");
    let error = tls.connect(chain.addr()).await.unwrap_err();
    assert!(reason(&error).contains("UnrecognisedName"), "{error:?}");
    let tls = ClientTls::direct(&ca(&chain, DOMAIN), DOMAIN);
    login(&chain, tls).await.logout().await.unwrap();
}

/// ALPN of another protocol is refused by its alert; none at all is fine.
#[tokio::test]
async fn other_protocols_are_refused() {
    let chain = chain().await;
    let pem = ca(&chain, DOMAIN);
    let offers: [&[&[u8]]; 2] = [&[b"http/1.1"], &[b"xmpp-server", b"h2"]];
    for protocols in offers {
        let tls = ClientTls::with(&pem, DOMAIN, &[&TLS13, &TLS12], protocols);
        let error = tls.connect(chain.addr()).await.unwrap_err();
        assert!(
            reason(&error).contains("NoApplicationProtocol"),
            "{error:?}"
        );
    }
    let tls = ClientTls::with(&pem, DOMAIN, &[&TLS13], &[b"h2", b"xmpp-client"]);
    login(&chain, tls).await.logout().await.unwrap();
}

/// A browser that does speak TLS gets silence inside it.
#[tokio::test]
async fn s02_https_gets_silence() {
    let chain = chain().await;
    let tls = ClientTls::with(&ca(&chain, DOMAIN), DOMAIN, &[&TLS13], &[]);
    let mut stream = tls.connect(chain.addr()).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\n\r\n<stream:stream>")
        .await
        .unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).await.unwrap();
    assert_eq!(told, b"");
    assert_eq!(chain.cm.posts().len(), 0);
}

/// The log of this thread while it lives.
fn log() -> (tracing::subscriber::DefaultGuard, Log) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    (tracing::subscriber::set_default(subscriber), log)
}

#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Waits for a line that holds all of this.
    async fn line(&self, parts: &[&str]) -> String {
        let began = tokio::time::Instant::now();
        loop {
            let text = self.text();
            let found = text
                .lines()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            if let Some(line) = found {
                return line.to_owned();
            }
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "no {parts:?} in\n{text}"
            );
            tokio::task::yield_now().await;
        }
    }
}

/// A client that does not trust the authority: one warning with its address, the domain and what to run.
#[tokio::test]
async fn distrust_is_told() {
    let chain = chain().await;
    let (_guard, log) = log();
    let foreign = Authority::new().pem();
    for tls in [
        ClientTls::direct(&foreign, DOMAIN),
        ClientTls::starttls(&foreign, DOMAIN),
        ClientTls::direct(&foreign, DOMAIN).in_1_2(&foreign),
    ] {
        log.0.lock().unwrap().clear();
        let error = tls.connect(chain.addr()).await.unwrap_err();
        assert!(reason(&error).contains("UnknownIssuer"), "{error:?}");
        let line = log.line(&["WARN"]).await;
        for part in ["client=127.0.0.1:", DOMAIN, "`xbosh ca trust localhost`"] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(log.text().matches("WARN").count(), 1, "{}", log.text());
    }
}

/// A client that looks at the certificate only after the handshake, and leaves.
#[tokio::test]
async fn late_distrust_is_told() {
    let chain = chain().await;
    let (_guard, log) = log();
    let mut stream = direct(&chain).connect(chain.addr()).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    log.line(&["INFO", "`xbosh ca trust localhost`"]).await;
}

/// A damaged authority is told of, never replaced; who needs none does not notice.
#[tokio::test]
async fn a_damaged_authority_is_told() {
    let chain = chain().await;
    let pem = ca(&chain, DOMAIN);
    let key = chain
        .folder
        .path()
        .join("ca")
        .join(DOMAIN)
        .join("ca-key.pem");
    std::fs::write(&key, "nonsense").unwrap();
    let (_guard, log) = log();
    for tls in [
        ClientTls::direct(&pem, DOMAIN),
        ClientTls::starttls(&pem, DOMAIN),
    ] {
        log.0.lock().unwrap().clear();
        let error = tls.connect(chain.addr()).await.unwrap_err();
        assert!(reason(&error).contains("InternalError"), "{error:?}");
        log.line(&["WARN", "client=127.0.0.1:", key.to_str().unwrap()])
            .await;
    }
    assert_eq!(std::fs::read_to_string(&key).unwrap(), "nonsense");
    chain.login().await.logout().await.unwrap();
}

/// Nothing says whose certificate to show: a name, a default domain, or a client before.
#[tokio::test]
async fn nobody_is_meant() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        two_domains(config);
        config.default_domain = None;
    })
    .await;
    let pem = ca(&chain, DOMAIN);
    let (_guard, log) = log();
    let error = ClientTls::direct(&pem, DOMAIN)
        .connect(chain.addr())
        .await
        .unwrap_err();
    assert!(reason(&error).contains("UnrecognisedName"), "{error:?}");
    log.line(&["WARN", "set default_domain"]).await;
    // By STARTTLS the header has said it.
    login(&chain, starttls(&chain))
        .await
        .logout()
        .await
        .unwrap();
    // And the next one means the same.
    login(&chain, direct(&chain)).await.logout().await.unwrap();
}

/// The first bytes of an honest ClientHello.
async fn hello(chain: &Chain) -> Vec<u8> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let tls = direct(chain);
    let client = tokio::spawn(async move { tls.connect(addr).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = vec![0; 2000];
    let count = stream.read(&mut bytes).await.unwrap();
    bytes.truncate(count);
    drop(stream);
    assert!(client.await.unwrap().is_err());
    bytes
}

/// Garbage behind the first byte, cut and broken handshakes: closed, whatever follows; nobody else notices.
#[tokio::test]
async fn broken_handshakes_are_closed() {
    let chain = chain().await;
    let mut other = Client::login(chain.addr(), &account("other"), Mechanism::Plain)
        .await
        .unwrap();
    let hello = hello(&chain).await;
    let mut damaged = hello.clone();
    damaged[5] = 0x0b;
    let mut twice = hello.clone();
    twice.extend_from_slice(&hello);
    for bytes in [
        b"\x16garbage, and more of it than any record has".to_vec(),
        b"\x16\x03\x01\x00\x00".to_vec(),
        [b"\x16\x03\x01\xff\xff".to_vec(), vec![0; 70_000]].concat(),
        [b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00".to_vec()].concat(),
        damaged,
        twice,
    ] {
        let mut raw = Raw::connect(chain.addr()).await.unwrap();
        // The other side may close while this is under way.
        let _ = raw.send(&bytes).await;
        let _ = raw.finish().await;
        raw.read_to_end().await.unwrap();
        echo(&mut other, 0..2).await;
    }
    for end in [1, 4, 6, hello.len() / 2, hello.len() - 1, hello.len()] {
        let mut raw = Raw::connect(chain.addr()).await.unwrap();
        raw.send(&hello[..end]).await.unwrap();
        raw.finish().await.unwrap();
        raw.read_to_end().await.unwrap();
        echo(&mut other, 0..2).await;
    }
    assert_eq!(chain.cm.sessions(), 1);
}

/// S-37: `header_timeout` covers a handshake that stalls, at whatever byte, and the header inside TLS.
#[tokio::test]
async fn s37_stalled_handshakes() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        config.limits.header_timeout = Duration::from_secs(1);
    })
    .await;
    let hello = hello(&chain).await;
    let began = tokio::time::Instant::now();
    let mut stalled = Vec::new();
    for end in [1, hello.len() / 2, hello.len()] {
        let mut raw = Raw::connect(chain.addr()).await.unwrap();
        raw.send(&hello[..end]).await.unwrap();
        stalled.push(raw);
    }
    let mut raw = Raw::connect(chain.addr()).await.unwrap();
    raw.send(HEADER).await.unwrap();
    raw.read_until("</stream:features>").await.unwrap();
    raw.send(STARTTLS).await.unwrap();
    raw.read_until(PROCEED).await.unwrap();
    stalled.push(raw);
    let mut silent = direct(&chain).connect(chain.addr()).await.unwrap();
    for raw in &mut stalled {
        raw.read_to_end().await.unwrap();
    }
    let mut told = Vec::new();
    silent.read_to_end(&mut told).await.unwrap();
    assert_eq!(told, b"");
    assert!(began.elapsed() < Duration::from_secs(5));
    // The session of the plain header went with it.
    while chain.cm.sessions() > 0 {
        assert!(began.elapsed() < Duration::from_secs(8));
        tokio::task::yield_now().await;
    }
}

/// S-47: stopping does not wait for handshakes, and tells the clients inside TLS.
#[tokio::test]
async fn s47_stop() {
    let chain = chain().await;
    let mut client = login(&chain, direct(&chain)).await;
    let mut stalled = Raw::connect(chain.addr()).await.unwrap();
    stalled.send(&hello(&chain).await[..50]).await.unwrap();
    let began = tokio::time::Instant::now();
    let stopping = tokio::spawn(chain.sidecar.stop());
    match client.next_stanza().await {
        Err(ClientError::Stream(error)) => assert_eq!(error.condition, "system-shutdown"),
        other => panic!("{other:?}"),
    }
    client.vanish();
    stalled.read_to_end().await.unwrap();
    stopping.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
    assert_eq!(chain.cm.sessions(), 0);
}
