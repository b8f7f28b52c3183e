//! A web server with scripted pages, for host-meta.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::tls::Acceptor;
use crate::{Service, http1};

#[derive(Debug, Default)]
struct State {
    pages: HashMap<String, Vec<u8>>,
    heads: Vec<String>,
}

/// Serves whole HTTP replies by path; 404 for the rest.
#[derive(Debug)]
pub struct WebHost {
    service: Service,
    state: Arc<Mutex<State>>,
}

impl WebHost {
    /// Starts on a free loopback port; over TLS with an acceptor.
    ///
    /// # Panics
    /// If loopback has no free port.
    pub async fn start(tls: Option<Acceptor>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), tls)
            .await
            .expect("a free loopback port")
    }

    /// As [`Self::start`], at this address.
    ///
    /// # Errors
    /// What the system says of the address.
    pub async fn start_at(at: SocketAddr, tls: Option<Acceptor>) -> std::io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let service = Service::start_at(at, move |stream| {
            let (shared, tls) = (Arc::clone(&shared), tls.clone());
            async move {
                match tls {
                    None => serve(stream, &shared).await,
                    Some(tls) => {
                        if let Some(stream) = tls.accept(stream).await {
                            serve(stream, &shared).await;
                        }
                    }
                }
            }
        })
        .await?;
        Ok(Self { service, state })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.service.addr()
    }

    /// The whole reply to a GET of this path, head and body.
    pub fn reply(&self, path: &str, reply: impl Into<Vec<u8>>) {
        lock(&self.state)
            .pages
            .insert(path.to_owned(), reply.into());
    }

    /// A 200 with this body.
    pub fn page(&self, path: &str, body: &str) {
        self.reply(path, ok("", body));
    }

    /// Every request head so far.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state).heads.clone()
    }
}

/// A 200 reply with more header lines, each ended by CRLF.
#[must_use]
pub fn ok(headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

/// A redirect.
#[must_use]
pub fn redirect(status: &str, location: &str) -> String {
    format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// An XRD with these links: relation and address.
#[must_use]
pub fn xrd(links: &[(&str, &str)]) -> String {
    let links: String = links
        .iter()
        .map(|(rel, href)| format!("<Link rel='{rel}' href='{href}'/>"))
        .collect();
    format!(
        "<?xml version='1.0'?><XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>{links}</XRD>"
    )
}

/// The relation of BOSH addresses.
pub const BOSH: &str = "urn:xmpp:alt-connections:xbosh";

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, state: &Mutex<State>) {
    let mut buffer = BytesMut::new();
    while let Ok(Some(request)) = http1::read(&mut stream, &mut buffer).await {
        let path = request.line.split(' ').nth(1).unwrap_or_default();
        let reply = {
            let mut state = lock(state);
            state
                .heads
                .push(String::from_utf8_lossy(&request.head).into_owned());
            state.pages.get(path).cloned()
        };
        let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
        if stream.write_all(&reply.unwrap_or(missing)).await.is_err()
            || stream.flush().await.is_err()
        {
            return;
        }
    }
}
