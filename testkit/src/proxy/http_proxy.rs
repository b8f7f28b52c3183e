//! An HTTP proxy: CONNECT and absolute-form requests.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use bytes::BytesMut;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Log, ProxyOptions};
use crate::Service;
use crate::http1::{self, Message};

/// How the proxy misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTrick {
    /// Not at all.
    None,
    /// CONNECT only to this port; 403 otherwise.
    OnlyPort(u16),
    /// Every request gets this answer.
    Answer(String),
    /// Connections are accepted and nothing is ever said.
    Silence,
    /// Absolute-form: one request a connection, closed without notice, as tinyproxy does.
    CloseSilently,
}

/// A running HTTP proxy.
#[derive(Debug)]
pub struct HttpProxy {
    service: Service,
    log: Arc<Log>,
}

impl HttpProxy {
    /// Starts on a free loopback port.
    pub async fn start(options: ProxyOptions, trick: HttpTrick) -> Self {
        let log = Arc::new(Log::default());
        let seen = Arc::clone(&log);
        let service = Service::start(move |stream| {
            serve(stream, options.clone(), trick.clone(), Arc::clone(&seen))
        })
        .await;
        Self { service, log }
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

    /// Cuts every connection.
    pub async fn cut(&self) {
        self.service.cut().await;
    }
}

async fn serve(mut client: TcpStream, options: ProxyOptions, trick: HttpTrick, log: Arc<Log>) {
    let mut buffer = BytesMut::new();
    while let Ok(Some(request)) = http1::read(&mut client, &mut buffer).await {
        log.push(String::from_utf8_lossy(&request.head));
        match &trick {
            HttpTrick::Silence => std::future::pending().await,
            HttpTrick::Answer(answer) => {
                // The client may have gone.
                let _ = client.write_all(answer.as_bytes()).await;
                return;
            }
            HttpTrick::None | HttpTrick::OnlyPort(_) | HttpTrick::CloseSilently => {}
        }
        if !is_welcome(&request, &options) {
            let page = "<html><body>Cache Access Denied</body></html>";
            let refusal = format!(
                "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"fake\"\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            );
            if client.write_all(refusal.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        if request.line.starts_with("CONNECT ") {
            return tunnel(client, &request, &options, &trick).await;
        }
        if !forward(&mut client, &request, &options).await || trick == HttpTrick::CloseSilently {
            return;
        }
    }
}

fn is_welcome(request: &Message, options: &ProxyOptions) -> bool {
    let Some((user, password)) = &options.credentials else {
        return true;
    };
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    request.header("proxy-authorization") == Some(&format!("Basic {expected}"))
}

async fn answer(client: &mut TcpStream, status: &str) {
    // The client may have gone.
    let _ = client
        .write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())
        .await;
}

async fn tunnel(
    mut client: TcpStream,
    request: &Message,
    options: &ProxyOptions,
    trick: &HttpTrick,
) {
    let target = request.line.split(' ').nth(1).unwrap_or_default();
    let Some((host, port)) = target.rsplit_once(':') else {
        return answer(&mut client, "400 Bad Request").await;
    };
    let port: u16 = port.parse().unwrap_or(0);
    if let HttpTrick::OnlyPort(only) = trick
        && *only != port
    {
        return answer(&mut client, "403 Forbidden").await;
    }
    let Some(address) = options.address(host, port) else {
        return answer(&mut client, "502 Bad Gateway").await;
    };
    let Ok(mut origin) = TcpStream::connect(address).await else {
        return answer(&mut client, "503 Service Unavailable").await;
    };
    let _ = client.set_nodelay(true);
    let _ = origin.set_nodelay(true);
    if client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .is_ok()
    {
        // Ends when either side does.
        let _ = copy_bidirectional(&mut client, &mut origin).await;
    }
}

/// Sends an absolute-form request to its origin over a new connection, as squid does; false closes.
async fn forward(client: &mut TcpStream, request: &Message, options: &ProxyOptions) -> bool {
    let mut words = request.line.split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let Some(rest) = target.strip_prefix("http://") else {
        answer(client, "400 Bad Request").await;
        return false;
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse().unwrap_or(0))
        }
        _ => (authority, 80),
    };
    let origin = match options.address(host, port) {
        Some(address) => TcpStream::connect(address).await,
        None => Err(std::io::ErrorKind::NotFound.into()),
    };
    let Ok(mut origin) = origin else {
        answer(client, "503 Service Unavailable").await;
        return true;
    };
    let mut head = format!("{method} /{path} HTTP/1.1\r\n");
    for (name, value) in request
        .headers
        .iter()
        .filter(|(name, _)| !name.eq_ignore_ascii_case("proxy-authorization"))
    {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("Via: 1.1 fake\r\n\r\n");
    if origin.write_all(head.as_bytes()).await.is_err()
        || origin.write_all(&request.body).await.is_err()
    {
        return false;
    }
    let mut buffer = BytesMut::new();
    let Ok(Some(reply)) = http1::read(&mut origin, &mut buffer).await else {
        return false;
    };
    client.write_all(&reply.head).await.is_ok() && client.write_all(&reply.body).await.is_ok()
}
