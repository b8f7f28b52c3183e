//! An HTTP proxy: CONNECT and absolute-form requests, and the ways such proxies misbehave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::BytesMut;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::digest::{DigestRules, Nonces, Verdict};
use super::origin::{Onward, page, passed_on, reset};
use super::{Log, ProxyOptions};
use crate::Service;
use crate::http1::{self, Message};

/// How the proxy misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTrick {
    /// Not at all: HTTP/1.1, kept connections, a 407 that keeps its connection.
    None,
    /// CONNECT only to this port; 403 otherwise.
    OnlyPort(u16),
    /// Every request gets this answer, byte by byte what stands here, and the connection closes.
    Answer(String),
    /// Connections are accepted and nothing is ever said.
    Silence,
    /// Absolute-form: one request a connection, closed without notice, as tinyproxy does.
    CloseSilently,
    /// Absolute-form: `Connection: close` and the close after each answer.
    CloseAfterAnswer,
    /// Wrong credentials: HTTP/1.0 401 with an origin's challenge, and the close, as tinyproxy does.
    Refuses401,
    /// Wrong credentials: a 407 with these header lines, each ending in `\r\n`.
    Challenges(String),
    /// It wants Digest (RFC 7616).
    Digest(DigestRules),
    /// It speaks HTTP/1.0 and closes after each absolute-form answer, which has no length.
    Http10,
    /// CONNECT: this head in place of the usual one, and whatever stands behind it; then the tunnel.
    ConnectReply(Vec<u8>),
    /// CONNECT: only this much of the reply, then nothing.
    StallsInReply(usize),
    /// CONNECT: accepted, and the tunnel leads nowhere.
    StallsInTunnel,
    /// Tunnels are cut after this many bytes from the origin, by a reset.
    ResetsTunnel(u64),
    /// Tunnels and absolute-form requests end after this time: the tunnel closes, the request gets a 504.
    CutsAfter(Duration),
    /// Every n-th request gets this status and a page.
    EveryNth(usize, &'static str),
    /// Every request is reset.
    Resets,
    /// Absolute-form: every POST goes to the origin twice; the first answer counts.
    Duplicates,
}

impl HttpTrick {
    /// A captive portal's page for everything.
    #[must_use]
    pub fn portal() -> Self {
        let page = "<html><title>Welcome</title><form action='/login'/></html>";
        Self::Answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
            page.len()
        ))
    }

    /// A squid-like reply to CONNECT that claims a length, with bytes of the tunnel glued to it.
    #[must_use]
    pub fn glued(tunnel_bytes: &[u8]) -> Self {
        let mut reply =
            b"HTTP/1.1 200 Connection established\r\nContent-Length: 42\r\n\r\n".to_vec();
        reply.extend_from_slice(tunnel_bytes);
        Self::ConnectReply(reply)
    }
}

/// A running HTTP proxy.
#[derive(Debug)]
pub struct HttpProxy {
    service: Service,
    log: Arc<Log>,
    nonces: Nonces,
}

impl HttpProxy {
    /// Starts on a free loopback port.
    pub async fn start(options: ProxyOptions, trick: HttpTrick) -> Self {
        let log = Arc::new(Log::default());
        let nonces = Nonces::default();
        let proxy = Proxy {
            options,
            trick,
            log: Arc::clone(&log),
            count: Arc::default(),
            nonces: nonces.clone(),
        };
        let service = Service::start(move |stream| proxy.clone().serve(stream)).await;
        Self {
            service,
            log,
            nonces,
        }
    }

    /// Its address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    /// Every request head so far.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// Forgets every nonce of its Digest, as a restart does.
    pub fn forget_nonces(&self) {
        self.nonces.forget();
    }

    /// Cuts every connection.
    pub async fn cut(&self) {
        self.service.cut().await;
    }
}

#[derive(Clone)]
struct Proxy {
    options: ProxyOptions,
    trick: HttpTrick,
    log: Arc<Log>,
    count: Arc<AtomicUsize>,
    nonces: Nonces,
}

impl Proxy {
    async fn serve(self, mut client: TcpStream) {
        let mut buffer = BytesMut::new();
        while let Ok(Some(request)) = http1::read(&mut client, &mut buffer).await {
            self.log.push(String::from_utf8_lossy(&request.head));
            let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
            match &self.trick {
                HttpTrick::Silence => std::future::pending().await,
                HttpTrick::Answer(answer) => {
                    // The client may have gone.
                    let _ = client.write_all(answer.as_bytes()).await;
                    return;
                }
                HttpTrick::Resets => return reset(&client),
                HttpTrick::EveryNth(n, status) if count.is_multiple_of(*n) => {
                    page(&mut client, status).await;
                    continue;
                }
                _ => {}
            }
            let verdict = self.judge(&request);
            if verdict != Verdict::Good {
                if !self.refuse(&mut client, verdict).await {
                    return;
                }
            } else if request.line.starts_with("CONNECT ") {
                return self.tunnel(client, &request, &buffer).await;
            } else if !self.forward(&mut client, &request).await {
                return;
            }
        }
    }

    fn judge(&self, request: &Message) -> Verdict {
        let Some((user, password)) = &self.options.credentials else {
            return Verdict::Good;
        };
        let said = request.header("proxy-authorization");
        if let HttpTrick::Digest(rules) = &self.trick
            && !(rules.basic_too && said.is_some_and(|said| said.starts_with("Basic ")))
        {
            let mut line = request.line.split(' ');
            let line = (
                line.next().unwrap_or_default(),
                line.next().unwrap_or_default(),
            );
            let said = said.map_or("", |said| said);
            return self.nonces.check(rules, said, line, (user, password));
        }
        let expected =
            base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        if said == Some(&format!("Basic {expected}")) {
            Verdict::Good
        } else {
            Verdict::Bad
        }
    }

    /// False when the connection is to be closed.
    async fn refuse(&self, client: &mut TcpStream, verdict: Verdict) -> bool {
        const PAGE: &str = "<html><body>Cache Access Denied</body></html>";
        let challenge = match &self.trick {
            HttpTrick::Refuses401 => {
                let refusal = format!(
                    "HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"fake\"\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n{PAGE}"
                );
                // The close tells the rest.
                let _ = client.write_all(refusal.as_bytes()).await;
                return false;
            }
            HttpTrick::Challenges(lines) => lines.clone(),
            HttpTrick::Digest(rules) => self.nonces.challenge(rules, verdict == Verdict::Stale),
            _ => "Proxy-Authenticate: Basic realm=\"fake\"\r\n".to_owned(),
        };
        let refusal = format!(
            "HTTP/1.1 407 Proxy Authentication Required\r\n{challenge}Content-Length: {}\r\n\r\n{PAGE}",
            PAGE.len()
        );
        client.write_all(refusal.as_bytes()).await.is_ok()
    }

    async fn tunnel(&self, mut client: TcpStream, request: &Message, early: &[u8]) {
        let target = request.line.split(' ').nth(1).unwrap_or_default();
        let Some((host, port)) = target.rsplit_once(':') else {
            return page(&mut client, "400 Bad Request").await;
        };
        let port: u16 = port.parse().unwrap_or(0);
        if matches!(self.trick, HttpTrick::OnlyPort(only) if only != port) {
            return page(&mut client, "403 Forbidden").await;
        }
        let Some(address) = self.options.address(host, port) else {
            return page(&mut client, "502 Bad Gateway").await;
        };
        let Ok(mut origin) = TcpStream::connect(address).await else {
            return page(&mut client, "503 Service Unavailable").await;
        };
        let _ = origin.set_nodelay(true);
        let usual: &[u8] = match self.trick {
            HttpTrick::Http10 => b"HTTP/1.0 200 Connection established\r\n\r\n",
            _ => b"HTTP/1.1 200 Connection established\r\n\r\n",
        };
        let reply = match &self.trick {
            HttpTrick::ConnectReply(reply) => reply,
            HttpTrick::StallsInReply(bytes) => {
                let _ = client.write_all(usual.get(..*bytes).unwrap_or(usual)).await;
                return std::future::pending().await;
            }
            _ => usual,
        };
        if client.write_all(reply).await.is_err() || origin.write_all(early).await.is_err() {
            return;
        }
        match &self.trick {
            HttpTrick::StallsInTunnel => std::future::pending().await,
            HttpTrick::CutsAfter(time) => {
                // Ends when either side does, or when the time is over.
                let _ = timeout(*time, copy_bidirectional(&mut client, &mut origin)).await;
            }
            HttpTrick::ResetsTunnel(limit) => {
                let (mut from_client, mut to_client) = client.split();
                let (from_origin, mut to_origin) = origin.split();
                let mut limited = tokio::io::AsyncReadExt::take(from_origin, *limit);
                tokio::select! {
                    _ = tokio::io::copy(&mut limited, &mut to_client) => {}
                    _ = tokio::io::copy(&mut from_client, &mut to_origin) => {}
                }
                reset(&client);
            }
            _ => {
                // Ends when either side does.
                let _ = copy_bidirectional(&mut client, &mut origin).await;
            }
        }
    }

    /// Sends an absolute-form request to its origin over a new connection, as squid does; false closes.
    async fn forward(&self, client: &mut TcpStream, request: &Message) -> bool {
        let onward = match Onward::new(request, &self.options) {
            Ok(onward) => onward,
            Err(status) => {
                page(client, status).await;
                return !status.starts_with("400");
            }
        };
        let answer = onward.ask();
        let answer = match &self.trick {
            HttpTrick::Duplicates => {
                let copy = onward.clone();
                let second = tokio::spawn(async move { copy.ask().await });
                let answer = answer.await;
                // Nobody waits for the copy's answer, but it does arrive at the origin.
                drop(second);
                answer
            }
            HttpTrick::CutsAfter(time) => tokio::select! {
                answer = answer => answer,
                () = sleep(*time) => {
                    page(client, "504 Gateway Timeout").await;
                    return true;
                }
            },
            _ => answer.await,
        };
        let Ok(reply) = answer else {
            page(client, "502 Bad Gateway").await;
            return true;
        };
        self.pass_on(client, &reply).await
    }

    /// Passes the origin's reply on; false closes.
    async fn pass_on(&self, client: &mut TcpStream, reply: &Message) -> bool {
        let http10 = self.trick == HttpTrick::Http10;
        let says_close = self.trick == HttpTrick::CloseAfterAnswer;
        let closes = http10 || says_close || self.trick == HttpTrick::CloseSilently;
        let bytes = passed_on(reply, http10, says_close);
        client.write_all(&bytes).await.is_ok() && !closes
    }
}
