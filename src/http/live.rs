//! One HTTP/1.1 connection, at rest or with an exchange, and where it stands in the network.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::wire::{Observed, Progress, WireBody};
use crate::connect::{Connection, Io, Login, Upstream};

/// Read buffer of a connection; also bounds the head of a reply.
pub(super) const BUFFER: usize = 64 * 1024;

/// Where a connection stands in the network.
pub(super) struct Place {
    /// This machine's address on it.
    pub(super) local: Option<IpAddr>,
    /// The way through the network may be gone: no further request.
    lost: AtomicBool,
}

impl Place {
    pub(super) fn new(local: Option<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            local,
            lost: AtomicBool::new(false),
        })
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

type Stream = TokioIo<Observed<Box<dyn Io>>>;
type Driven = http1::Connection<Stream, WireBody>;

/// What is known about a connection.
pub(super) struct About {
    pub(super) progress: Arc<Progress>,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// Who we are to the proxy, in each request (P-05).
    pub(super) login: Option<Arc<Login>>,
    pub(super) place: Arc<Place>,
    /// The manager's, until it has been compared with the session's (B-72).
    pub(super) certificate: Option<Vec<u8>>,
}

/// A connection without a request in flight. hyper keeps some 26 KiB for each of its connections, so it has this one
/// only while an exchange is under way.
pub(super) struct Live {
    stream: Stream,
    pub(super) about: About,
}

impl Live {
    pub(super) fn new(made: Connection) -> Self {
        let progress = Arc::new(Progress::default());
        let stream = Observed::new(made.stream, Arc::clone(&progress));
        let (upstream, login) = made.absolute_form.unzip();
        let about = About {
            progress,
            login,
            upstream: upstream.map(Arc::new),
            place: Place::new(made.local),
            certificate: made.certificate,
        };
        Self {
            stream: TokioIo::new(stream),
            about,
        }
    }

    /// Makes it ready for an exchange.
    pub(super) async fn begin(self) -> hyper::Result<Exchanging> {
        let (sender, driven) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(self.stream)
            .await?;
        Ok(Exchanging {
            sender,
            driven: Some(Box::new(driven)),
            about: self.about,
        })
    }

    /// Whether it can take a request: nothing came that nobody asked for, and no end (T-31). Never waits.
    pub(super) fn is_good(&mut self) -> bool {
        let mut byte = [0];
        let mut unasked = ReadBuf::new(&mut byte);
        Pin::new(self.stream.inner_mut())
            .poll_read(&mut Context::from_waker(Waker::noop()), &mut unasked)
            .is_pending()
    }
}

/// A connection with one request. Dropping it closes it, whatever is under way.
///
/// It has no task of its own: whoever waits for the reply drives it, so that no reply is handed from task to task.
pub(super) struct Exchanging {
    sender: SendRequest<WireBody>,
    /// `None` once it is closed.
    driven: Option<Box<Driven>>,
    pub(super) about: About,
}

impl Exchanging {
    /// Begins the request. The reply comes while [`Self::drive`] is called.
    pub(super) fn send(
        &mut self,
        request: Request<WireBody>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        self.sender.send_request(request)
    }

    /// Writes and reads as far as that goes without waiting.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driven) = &mut self.driven
            // Errors reach the request under way; an idle connection has nobody to tell.
            && Pin::new(driven).poll(cx).is_ready()
        {
            self.driven = None;
        }
    }

    /// Takes the connection back once the exchange is over, if it can take another one. Never waits.
    pub(super) fn rest(mut self) -> Option<Live> {
        self.drive(&mut Context::from_waker(Waker::noop()));
        let driven = self.driven.filter(|_| self.sender.is_ready())?;
        let Parts { io, read_buf, .. } = driven.into_parts();
        let mut live = Live {
            stream: io,
            about: self.about,
        };
        (read_buf.is_empty() && live.is_good()).then_some(live)
    }
}
