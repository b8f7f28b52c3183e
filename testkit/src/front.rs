//! A web server as connection managers stand behind: it ends TLS, speaks HTTP/2 or HTTP/1.1, and passes each
//! request on over HTTP/1.1. What it does to HTTP/2 connections is scripted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Service;
use crate::tls::Acceptor;

/// Largest request passed on, in bytes.
const MAX_REQUEST: usize = 16 << 20;

/// What the next streams meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// REFUSED_STREAM before the request is read.
    Refuse,
    /// INTERNAL_ERROR once the manager has the request.
    Break,
    /// GOAWAY on this connection, once the request is read.
    Leave,
}

struct Shared {
    origin: SocketAddr,
    max_streams: u32,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// Most streams that were open at once on any connection.
    crowd: AtomicUsize,
    requests: AtomicUsize,
    tricks: Mutex<Vec<Trick>>,
}

/// A running front.
pub struct Front {
    service: Service,
    shared: Arc<Shared>,
}

impl Front {
    /// Serves what listens at `origin`, by what the acceptor offers; over HTTP/2 with so many streams at once
    /// on each connection.
    pub async fn start(origin: SocketAddr, acceptor: Acceptor, max_streams: u32) -> Self {
        let shared = Arc::new(Shared {
            origin,
            max_streams,
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            crowd: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            tricks: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let service = Service::start(move |stream| {
            connection(Arc::clone(&serving), stream, acceptor.clone())
        })
        .await;
        Self { service, shared }
    }

    /// The manager's BOSH URL through it.
    #[must_use]
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/http-bind", self.service.addr().port())
    }

    /// Connections with a finished handshake so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Most streams that any connection had at once.
    #[must_use]
    pub fn crowd(&self) -> usize {
        self.shared.crowd.load(Ordering::SeqCst)
    }

    /// Requests over HTTP/2 so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The next stream meets this.
    pub fn script(&self, trick: Trick) {
        self.shared.lock_tricks().push(trick);
    }

    /// Tricks that no stream has met yet.
    #[must_use]
    pub fn tricks_left(&self) -> usize {
        self.shared.lock_tricks().len()
    }

    /// Cuts every connection.
    pub async fn cut(&self) {
        self.service.cut().await;
    }
}

impl Shared {
    fn lock_tricks(&self) -> std::sync::MutexGuard<'_, Vec<Trick>> {
        self.tricks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts an open connection as long as it lives.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, acceptor: Acceptor) {
    let Some(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    shared.connections.fetch_add(1, Ordering::SeqCst);
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _counted = Counted(Arc::clone(&shared));
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        if let Ok(mut origin) = TcpStream::connect(shared.origin).await {
            // Either side may end it in any way.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
        }
        return;
    }
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(shared.max_streams);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let (leave, mut leaves) = watch::channel(false);
    let mut streams = JoinSet::new();
    let mut leaving = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { break };
                while streams.try_join_next().is_some() {}
                streams.spawn(exchange(Arc::clone(&shared), request, respond, leave.clone()));
                shared.crowd.fetch_max(streams.len(), Ordering::SeqCst);
            }
            _ = leaves.changed(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
}

async fn exchange(
    shared: Arc<Shared>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    leave: watch::Sender<bool>,
) {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let trick = {
        let mut tricks = shared.lock_tricks();
        (!tricks.is_empty()).then(|| tricks.remove(0))
    };
    if trick == Some(Trick::Refuse) {
        respond.send_reset(Reason::REFUSED_STREAM);
        return;
    }
    let passed = tokio::select! {
        passed = pass_on(&shared, request, trick, &leave) => passed,
        // The manager sees its connection close, as behind nginx.
        _ = std::future::poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let Some((head, body)) = passed.filter(|_| trick != Some(Trick::Break)) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    if let Ok(mut sending) = respond.send_response(head, body.is_empty())
        && !body.is_empty()
    {
        // The client may be gone.
        let _ = sending.send_data(body, true);
    }
}

/// The manager's answer; `None` if there is none.
async fn pass_on(
    shared: &Shared,
    request: Request<RecvStream>,
    trick: Option<Trick>,
    leave: &watch::Sender<bool>,
) -> Option<(Response<()>, Bytes)> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data.ok()?;
        incoming.flow_control().release_capacity(data.len()).ok()?;
        body.extend_from_slice(&data);
        if body.len() > MAX_REQUEST {
            return None;
        }
    }
    if trick == Some(Trick::Leave) {
        leave.send_replace(true);
    }
    let path = head.uri.path_and_query()?.as_str();
    let mut request = Request::post(path)
        .body(Full::new(Bytes::from(body)))
        .ok()?;
    *request.headers_mut() = head.headers;
    let host = head.uri.authority()?.as_str().parse().ok()?;
    request.headers_mut().insert(header::HOST, host);
    let origin = TcpStream::connect(shared.origin).await.ok()?;
    origin.set_nodelay(true).ok()?;
    let (mut sender, origin) = hyper::client::conn::http1::handshake(TokioIo::new(origin))
        .await
        .ok()?;
    let answer = async {
        let response = sender.send_request(request).await.ok()?;
        let (mut head, body) = response.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        head.headers.remove("keep-alive");
        head.version = http::Version::HTTP_2;
        Some((Response::from_parts(head, ()), body))
    };
    // The connection ends with this future, so that the manager notices when nobody waits any more.
    tokio::select! {
        answer = answer => answer,
        _ = origin => None,
    }
}
