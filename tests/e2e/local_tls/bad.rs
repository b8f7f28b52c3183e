//! Clients that do not trust, ask for something else, break off or stall: closed, told of, and nobody else notices.

use futures_util::FutureExt as _;

use super::*;

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

/// Nothing says whose certificate to show: a name, a default domain, a client before, or a single authority.
#[tokio::test]
async fn nobody_is_meant() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        two_domains(config);
        config.default_domain = None;
    })
    .await;
    let pem = ca(&chain, DOMAIN);
    // If there were but one authority, its domain would be meant.
    ca(&chain, "example.org");
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

/// An authority that takes its time to be read keeps that client alone waiting: its key is a pipe into which nobody
/// writes. Others go on, in the clear and inside TLS.
#[tokio::test]
async fn a_slow_disk_stalls_nobody_else() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        two_domains(config);
    })
    .await;
    let mut plain = chain.login().await;
    login(&chain, direct(&chain)).await.logout().await.unwrap();
    let pem = ca(&chain, "example.org");
    let key = chain.folder.path().join("ca/example.org/ca-key.pem");
    std::fs::remove_file(&key).unwrap();
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(&key)
        .status()
        .unwrap();
    assert!(made.success());
    let slow = ClientTls::direct(&pem, "example.org");
    let addr = chain.addr();
    let mut slow = tokio::spawn(async move { slow.connect(addr).await });
    // Whoever opens the other end waits for a reader: then the sidecar is at it. Not for ever, should that stall all of us.
    let (opened, open) = tokio::sync::oneshot::channel();
    let (write, told) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let mut key = std::fs::OpenOptions::new().write(true).open(&key).unwrap();
        opened.send(()).unwrap();
        let _ = told.recv_timeout(Duration::from_secs(20));
        io::Write::write_all(&mut key, b"rubbish").unwrap();
    });
    open.await.unwrap();
    for _ in 0..3 {
        echo(&mut plain, 0..20).await;
        login(&chain, direct(&chain)).await.logout().await.unwrap();
    }
    assert!((&mut slow).now_or_never().is_none(), "it still waits");
    write.send(()).unwrap();
    writer.join().unwrap();
    let error = slow.await.unwrap().unwrap_err();
    assert!(reason(&error).contains("InternalError"), "{error:?}");
}

/// A program that asks for any number of names gets few of them, delays nobody, and does not take the room of domains
/// that the configuration names.
#[tokio::test]
async fn any_number_of_names() {
    let chain = Chain::start_with(Profile::strict(), |config| {
        two_domains(config);
        config.allowed_domains = None;
    })
    .await;
    let mut plain = chain.login().await;
    let pem = ca(&chain, DOMAIN);
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..300 {
        let (addr, tls) = (
            chain.addr(),
            ClientTls::direct(&pem, &format!("d{n}.example")),
        );
        asking.spawn(async move { reason(&tls.connect(addr).await.unwrap_err()) });
    }
    let mut longest = Duration::ZERO;
    for _ in 0..50 {
        let began = tokio::time::Instant::now();
        echo(&mut plain, 0..1).await;
        longest = longest.max(began.elapsed());
    }
    let said = asking.join_all().await;
    let made = said
        .iter()
        .filter(|said| said.contains("UnknownIssuer") || said.contains("BadSignature"));
    assert_eq!(made.count(), 10);
    let refused = said.iter().filter(|said| said.contains("InternalError"));
    assert_eq!(refused.count(), 290);
    let folders = std::fs::read_dir(chain.folder.path().join("ca")).unwrap();
    assert_eq!(folders.count(), 11);
    assert!(longest < Duration::from_millis(1500), "{longest:?}");
    let other = ClientTls::direct(&ca(&chain, "example.org"), "example.org");
    other.connect(chain.addr()).await.unwrap();
}

/// A new configuration: clients that name no domain mean the same as before, and resume their TLS sessions; and after a
/// new start they mean the only domain that there is.
#[tokio::test]
async fn the_last_domain_outlives_a_reload() {
    let mut config = None;
    let chain = Chain::start_with(Profile::strict(), |wanted| {
        two_domains(wanted);
        wanted.default_domain = None;
        config = Some(wanted.clone());
    })
    .await;
    let config = config.unwrap();
    // By its own name first, so that it is the last one used.
    login(&chain, starttls(&chain))
        .await
        .logout()
        .await
        .unwrap();
    let nameless = ClientTls::with(&ca(&chain, DOMAIN), "127.0.0.1", &[&TLS13], &[]);
    let kind = async |addr| {
        let mut stream = nameless.connect(addr).await.unwrap();
        stream.write_all(HEADER.as_bytes()).await.unwrap();
        read_until(&mut stream, "</stream:features>").await;
        stream.get_ref().1.handshake_kind()
    };
    use rustls::HandshakeKind::{Full, Resumed};
    assert_eq!(kind(chain.addr()).await, Some(Full));
    assert_eq!(
        chain.sidecar.reload(config.clone()).unwrap(),
        Vec::<&str>::new()
    );
    assert_eq!(kind(chain.addr()).await, Some(Resumed));
    chain.sidecar.stop().await;

    let authorities = Some(chain.folder.path().join("ca"));
    let again = xbosh::driver::Sidecar::start_with(
        config,
        xbosh::driver::Activated::default(),
        authorities,
    )
    .await
    .unwrap();
    assert_eq!(kind(again.addrs()[0]).await, Some(Full));
    again.stop().await;
}
