//! HTTP/2 against a scripted manager.

mod exchange;
mod faults;
mod raw;
mod sharing;

use std::sync::{Mutex, PoisonError};

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::connect::CertificateName;
use crate::connect::tests::authority::Authority;
use crate::http::Sharing;

/// One request, from the manager's side.
struct Asked {
    /// Counted from 0.
    connection: usize,
    head: http::request::Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
}

impl Asked {
    /// Reads the request to its end.
    async fn read(&mut self) -> Bytes {
        let mut body = Vec::new();
        while let Some(data) = self.body.data().await {
            let data = data.unwrap();
            let _ = self.body.flow_control().release_capacity(data.len());
            body.extend_from_slice(&data);
        }
        body.into()
    }

    async fn answer(self, body: &'static str) {
        self.answer_with(&HeaderMap::new(), body).await;
    }

    async fn answer_with(mut self, headers: &HeaderMap, body: &'static str) {
        self.read().await;
        let mut response = Response::new(());
        *response.headers_mut() = headers.clone();
        let mut sending = self.respond.send_response(response, false).unwrap();
        let _ = sending.send_data(Bytes::from_static(body.as_bytes()), true);
    }

    /// Begins a reply that does not end.
    async fn begin(&mut self, response: Response<()>, body: impl Into<Bytes>) -> SendStream<Bytes> {
        self.read().await;
        let mut sending = self.respond.send_response(response, false).unwrap();
        sending.send_data(body.into(), false).unwrap();
        sending
    }

    fn reset(mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Waits until the client takes the request back.
    async fn cancelled(mut self) -> Reason {
        let reset = std::future::poll_fn(|cx| self.respond.poll_reset(cx));
        reset.await.unwrap()
    }
}

/// Waits until the client gives up this reply.
async fn given_up(mut sending: SendStream<Bytes>) -> Reason {
    let reset = std::future::poll_fn(|cx| sending.poll_reset(cx));
    reset.await.unwrap()
}

/// What a connection is told to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Serve,
    /// GOAWAY, then the rest of its streams.
    Leave,
    /// Closes at once.
    Die,
}

/// A manager behind TLS that speaks HTTP/2 to those who offer it.
struct Manager {
    authority: Authority,
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<Asked>,
    orders: Arc<Mutex<Vec<watch::Sender<Order>>>>,
    _serving: tokio::task::JoinSet<()>,
}

impl Manager {
    async fn new() -> Self {
        Self::allowing(100).await
    }

    /// With so many streams on each connection.
    async fn allowing(most: u32) -> Self {
        let authority = Authority::new();
        let acceptor = authority.server("127.0.0.1");
        Self::showing(authority, vec![acceptor], most).await
    }

    /// With a certificate for each connection, the last one for all that follow.
    async fn showing(authority: Authority, acceptors: Vec<TlsAcceptor>, most: u32) -> Self {
        let peer = Peer::new().await;
        let address = peer.address();
        let (ask, asked) = mpsc::unbounded_channel();
        let orders = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&orders);
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let stream = peer.tcp().await;
                let (order, orders) = watch::channel(Order::Serve);
                let number = {
                    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.push(order);
                    known.len() - 1
                };
                let acceptor = acceptors[number.min(acceptors.len() - 1)].clone();
                let ask = ask.clone();
                connections.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        match stream.get_ref().1.alpn_protocol() {
                            Some(b"h2") => serve(stream, number, most, ask, orders).await,
                            _ => serve_http1(Conn::new(stream)).await,
                        }
                    }
                });
            }
        });
        Self {
            authority,
            address,
            asked,
            orders,
            _serving: serving,
        }
    }

    fn url(&self) -> Url {
        Url::parse(&format!("https://{}/http-bind", self.address)).unwrap()
    }

    fn connector(&self) -> Connector {
        Connector::new(&direct(), &self.authority.tls()).unwrap()
    }

    /// A session by this way.
    fn session(&self, connector: &Connector, sharing: &Sharing) -> SessionClient {
        let target = Target::new(self.url());
        SessionClient::sharing(target, connector.clone(), ClientOptions::default(), sharing)
    }

    /// So many sessions that may share everything.
    fn sessions<const N: usize>(&self) -> [SessionClient; N] {
        let (connector, sharing) = (self.connector(), Sharing::default());
        std::array::from_fn(|_| self.session(&connector, &sharing))
    }

    async fn asked(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }

    /// One exchange, answered; on which connection.
    async fn answered(&mut self, session: &SessionClient, request: ExchangeRequest) -> usize {
        let served = async {
            let asked = self.asked().await;
            let connection = asked.connection;
            asked.answer("<body/>").await;
            connection
        };
        let (reply, connection) = tokio::join!(session.exchange(request), served);
        assert_eq!(&reply.unwrap().body[..], b"<body/>");
        connection
    }

    /// An exchange that is held.
    async fn held(
        &mut self,
        session: &SessionClient,
    ) -> (tokio::task::JoinHandle<Result<HttpReply, Failure>>, Asked) {
        let held = tokio::spawn(session.exchange(ask()));
        let mut asked = self.asked().await;
        asked.read().await;
        (held, asked)
    }

    fn order(&self, connection: usize, order: Order) {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = orders[connection].send(order);
    }

    /// Connections so far.
    fn connections(&self) -> usize {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.len()
    }

    /// Waits until this connection is no more.
    async fn closed(&self, connection: usize) {
        let order = {
            let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
            orders[connection].clone()
        };
        order.closed().await;
    }
}

async fn serve(
    stream: impl Io + 'static,
    number: usize,
    most: u32,
    ask: mpsc::UnboundedSender<Asked>,
    mut orders: watch::Receiver<Order>,
) {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(most);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    let mut leaving = false;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let (head, body) = request.into_parts();
                let asked = Asked { connection: number, head, body, respond };
                if ask.send(asked).is_err() {
                    return;
                }
            }
            Ok(order) = orders.wait_for(|order| *order != Order::Serve), if !leaving => {
                if *order == Order::Die {
                    return;
                }
                leaving = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// Answers every request.
async fn serve_http1(mut conn: Conn) {
    while !conn.request().await.0.is_empty() {
        conn.send(&counted("<body/>")).await;
    }
}

/// Whether it is not ready yet.
async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx)))
        .await
        .is_pending()
}

/// A client configuration's rule for one domain.
fn domain(name: &str) -> CertificateName {
    CertificateName::HostOrDomain(name.to_owned())
}
