//! What no well-behaved HTTP/2 library does, byte for byte.

use tokio_rustls::server::TlsStream;

use super::*;
use crate::bosh::failure::FailureKind;

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A connection whose frames are written by hand.
struct Raw(TlsStream<TcpStream>);

impl Raw {
    async fn accept(peer: &Peer, authority: &Authority) -> Self {
        let acceptor = authority.server("127.0.0.1");
        let mut raw = Self(acceptor.accept(peer.tcp().await).await.unwrap());
        let mut preface = [0; 24];
        raw.0.read_exact(&mut preface).await.unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads until a request is whole; its stream.
    async fn request(&mut self) -> u32 {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let [l0, l1, l2, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, l0, l1, l2]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.unwrap();
            if kind == 0 && flags & 1 == 1 {
                return u32::from_be_bytes(stream);
            }
        }
    }

    /// `:status: 200`, and a body.
    async fn answer(&mut self, stream: u32) {
        self.send(1, 4, stream, &[0x88]).await;
        self.send(0, 1, stream, b"<body/>").await;
    }

    async fn closed(&mut self) {
        let mut rest = Vec::new();
        // However it ends.
        let _ = self.0.read_to_end(&mut rest).await;
    }
}

struct Script {
    peer: Peer,
    authority: Authority,
    sessions: [SessionClient; 2],
}

impl Script {
    async fn new() -> Self {
        let (peer, authority) = (Peer::new().await, Authority::new());
        let connector = Connector::new(&direct(), &authority.tls()).unwrap();
        let sharing = Sharing::default();
        let url = Url::parse(&format!("https://{}/b", peer.address())).unwrap();
        let sessions = std::array::from_fn(|_| {
            let target = Target::new(url.clone());
            let options = ClientOptions::default();
            SessionClient::sharing(target, connector.clone(), options, &sharing)
        });
        Self {
            peer,
            authority,
            sessions,
        }
    }

    async fn accept(&self) -> Raw {
        Raw::accept(&self.peer, &self.authority).await
    }
}

/// RFC 9113 section 6.8: a GOAWAY tells which requests were not processed: they go elsewhere at once and count
/// as not sent; the others get their answers.
#[tokio::test]
async fn t31_goaway_names_what_was_not_processed() {
    let script = Script::new().await;
    let [one, two] = &script.sessions;
    let repeated = Count::default();
    let first = tokio::spawn(one.exchange(ask()));
    let mut old = script.accept().await;
    assert_eq!(old.request().await, 1);
    let second = tokio::spawn(two.exchange(ExchangeRequest {
        repeated: repeated.callback(),
        ..ask()
    }));
    assert_eq!(old.request().await, 3);
    // Last stream 1, ENHANCE_YOUR_CALM.
    old.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11]).await;
    let mut new = script.accept().await;
    assert_eq!(new.request().await, 1);
    new.answer(1).await;
    assert!(second.await.unwrap().is_ok());
    assert_eq!(repeated.get(), 0, "no second copy");
    old.answer(1).await;
    assert!(first.await.unwrap().is_ok());
    old.closed().await;
}

/// P-11: before the peer has said how many streams it allows there is one on a connection.
#[tokio::test]
async fn p11_one_stream_until_the_limit_is_known() {
    let script = Script::new().await;
    let [one, two] = &script.sessions;
    let acceptor = script.authority.server("127.0.0.1");
    let first = tokio::spawn(one.exchange(ask()));
    let stream = acceptor.accept(script.peer.tcp().await).await.unwrap();
    let mut raw = Raw(stream);
    let mut preface = [0; 24];
    raw.0.read_exact(&mut preface).await.unwrap();
    assert_eq!(raw.request().await, 1, "the first does not wait");
    let mut second = Box::pin(two.exchange(ask()));
    for _ in 0..100 {
        assert!(waits(&mut second).await);
        tokio::task::yield_now().await;
    }
    // MAX_CONCURRENT_STREAMS is 7.
    raw.send(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 7]).await;
    let served = async {
        assert_eq!(raw.request().await, 3);
        raw.answer(1).await;
        raw.answer(3).await;
    };
    let (second, ()) = tokio::join!(second, served);
    assert!(second.is_ok() && first.await.unwrap().is_ok());
}

/// T-08: a connection that says nothing, not even that it lives, is lost for all, and a repeat opens another; who
/// repeats later meets it there.
#[tokio::test]
async fn t08_a_dead_connection_is_left_by_all() {
    let script = Script::new().await;
    let [one, two] = &script.sessions;
    let mut asking: Vec<_> = [one, two]
        .map(|session| tokio::spawn(session.exchange(ask())))
        .into();
    let mut dead = script.accept().await;
    dead.request().await;
    dead.request().await;
    for asking in asking.drain(..) {
        asking.abort();
        assert!(asking.await.is_err());
    }
    let first = tokio::spawn(one.exchange(ask_fresh()));
    let mut alive = script.accept().await;
    let stream = alive.request().await;
    alive.answer(stream).await;
    assert!(first.await.unwrap().is_ok());
    let second = tokio::spawn(two.exchange(ask_fresh()));
    let stream = alive.request().await;
    alive.answer(stream).await;
    assert!(second.await.unwrap().is_ok());
    dead.closed().await;
}

/// E-51: bytes that are no HTTP/2 are a failure of all that was under way.
#[tokio::test]
async fn e51_not_http2() {
    let script = Script::new().await;
    let [one, two] = &script.sessions;
    let asking = [one, two].map(|session| tokio::spawn(session.exchange(ask())));
    let mut raw = script.accept().await;
    raw.request().await;
    raw.request().await;
    raw.0
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    for asking in asking {
        let failure = asking.await.unwrap().unwrap_err();
        assert_eq!((failure.kind, failure.sent), (FailureKind::NoReply, true));
        assert!(failure.text.contains("not HTTP/2"), "{failure:?}");
    }
}

/// B-07: interim replies are skipped.
#[tokio::test]
async fn b07_interim_replies_over_http2() {
    let script = Script::new().await;
    let asking = tokio::spawn(script.sessions[0].exchange(ask()));
    let mut raw = script.accept().await;
    let stream = raw.request().await;
    // `:status: 103`, a literal that is not indexed, twice.
    for _ in 0..2 {
        raw.send(1, 4, stream, &[0x08, 0x03, b'1', b'0', b'3'])
            .await;
    }
    raw.answer(stream).await;
    assert_eq!(asking.await.unwrap().unwrap().status, 200);
}
