//! One HTTP/1.1 connection, and where it stands in the network.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::wire::{Observed, Progress, WireBody};
use crate::connect::{Connection, Login, Upstream};

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

/// A connection without a request in flight, or with just one.
pub(super) struct Live {
    pub(super) sender: SendRequest<WireBody>,
    pub(super) progress: Arc<Progress>,
    task: AbortHandle,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// Who we are to the proxy, in each request (P-05).
    pub(super) login: Option<Arc<Login>>,
    pub(super) place: Arc<Place>,
    /// The manager's, until it has been compared with the session's (B-72).
    pub(super) certificate: Option<Vec<u8>>,
}

impl Live {
    pub(super) fn new(made: Connection) -> impl Future<Output = hyper::Result<Self>> {
        let progress = Arc::new(Progress::default());
        let io = TokioIo::new(Observed::new(made.stream, Arc::clone(&progress)));
        let (upstream, login) = made.absolute_form.unzip();
        let place = Place::new(made.local);
        let certificate = made.certificate;
        async move {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(BUFFER)
                .handshake(io)
                .await?;
            // Errors of the connection reach the request on it; an idle one has nobody to tell.
            let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
            Ok(Self {
                sender,
                progress,
                task,
                login,
                upstream: upstream.map(Arc::new),
                place,
                certificate,
            })
        }
    }

    /// Closes it now, whatever is under way.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}
