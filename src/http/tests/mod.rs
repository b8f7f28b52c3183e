//! Exchanges against scripted peers.

mod exchange;
mod faults;
mod habits;
mod http2;
mod proxy;
mod renew;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::{ClientOptions, ExchangeRequest, SessionClient, Target};
use crate::bosh::failure::{Failure, HttpReply};
use crate::config::{self, Credentials, ProxySource};
use crate::connect::{Connector, Io};

/// A TCP server that a test plays.
pub(crate) struct Peer(TcpListener);

impl Peer {
    pub(crate) async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}/http-bind", self.address())).unwrap()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    pub(crate) async fn accept(&self) -> Conn {
        Conn::new(self.tcp().await)
    }

    /// Accepts, reads one request, answers. The connection stays open while the result is kept.
    pub(crate) async fn answer(&self, reply: &[u8]) -> Conn {
        let mut conn = self.accept().await;
        conn.request().await;
        conn.send(reply).await;
        conn
    }

    /// Answers and closes.
    pub(crate) async fn answer_close(&self, reply: &[u8]) {
        self.answer(reply).await.finish().await;
    }
}

/// One connection, from the server's side.
pub(crate) struct Conn {
    pub(crate) stream: Box<dyn Io>,
    /// What came behind the last request: never anything, for a client that does not pipeline.
    pub(crate) ahead: Vec<u8>,
}

impl Conn {
    pub(crate) fn new(stream: impl Io + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            ahead: Vec::new(),
        }
    }

    /// Reads a head, up to and with its empty line; empty at the end of the stream.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.ahead.split_off(at + 4);
                let head = std::mem::replace(&mut self.ahead, rest);
                return String::from_utf8(head).unwrap();
            }
            if self.stream.read_buf(&mut self.ahead).await.unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }

    /// Reads one request: head and body.
    pub(crate) async fn request(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = head
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| {
                rest.split("\r\n").next().unwrap().parse().unwrap()
            });
        while self.ahead.len() < length {
            if self.stream.read_buf(&mut self.ahead).await.unwrap() == 0 {
                break;
            }
        }
        let rest = self.ahead.split_off(length);
        (head, std::mem::replace(&mut self.ahead, rest))
    }

    /// The other side may be gone already: that is its good right.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Sends FIN.
    pub(crate) async fn finish(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Waits until the other side has closed; false if it sends something instead.
    pub(crate) async fn closed(&mut self) -> bool {
        self.ahead.is_empty()
            && matches!(self.stream.read_buf(&mut self.ahead).await, Ok(0) | Err(_))
    }
}

/// Counts calls of `written`.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

impl Count {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn callback(&self) -> Box<dyn FnOnce() + Send> {
        let count = Arc::clone(&self.0);
        Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        })
    }
}

pub(crate) const BODY: &str = "<body rid='1' xmlns='http://jabber.org/protocol/httpbind'/>";

pub(crate) fn counted(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn ask() -> ExchangeRequest {
    ask_counted(&Count::default())
}

pub(crate) fn ask_fresh() -> ExchangeRequest {
    ExchangeRequest {
        fresh: true,
        ..ask()
    }
}

pub(crate) fn ask_counted(count: &Count) -> ExchangeRequest {
    ExchangeRequest {
        body: Bytes::from_static(BODY.as_bytes()),
        fresh: false,
        written: count.callback(),
        repeated: Box::new(|| {}),
    }
}

pub(crate) fn client(url: Url, proxy: &config::Proxy) -> SessionClient {
    let connector = Connector::new(proxy, &config::Tls::default()).unwrap();
    SessionClient::new(Target::new(url), connector, ClientOptions::default())
}

pub(crate) fn direct() -> config::Proxy {
    config::Proxy {
        source: ProxySource::None,
        credentials: None,
        no_proxy: vec![],
        ca_file: None,
        isolate: false,
        preemptive: true,
    }
}

pub(crate) fn via(scheme: &str, at: SocketAddr) -> config::Proxy {
    config::Proxy {
        source: ProxySource::Url(Url::parse(&format!("{scheme}://{at}")).unwrap()),
        credentials: Some(Credentials {
            username: "user".into(),
            password: SecretString::from("s3cret".to_owned()),
        }),
        ..direct()
    }
}

/// One exchange of a new client on a new connection, with what the peer then does.
pub(crate) async fn once(reply: &[u8]) -> Result<HttpReply, Failure> {
    let peer = Peer::new().await;
    on_new(&client(peer.url(), &direct()), &peer, reply).await
}

/// One exchange on a connection of its own, with what the peer then does.
pub(crate) async fn on_new(
    client: &SessionClient,
    peer: &Peer,
    reply: &[u8],
) -> Result<HttpReply, Failure> {
    let (result, ()) = tokio::join!(client.exchange(ask_fresh()), peer.answer_close(reply));
    result
}
