//! One request on one HTTP/1.1 connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::live::Live;
use super::pool::Pool;
use super::reply::{PooledBody, name_gzip};
use super::wire::OnWritten;
use crate::bosh::failure::{Failure, FailureKind};

/// Time for a request to be written, besides the time its size takes.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// Slowest uplink allowed for, in bytes per second.
const SLOWEST_UPLINK: u64 = 8 * 1024;

/// Time for this body to be written.
pub(super) fn write_limit(body: &Bytes) -> Duration {
    WRITE_LIMIT + Duration::from_secs(body.len() as u64 / SLOWEST_UPLINK)
}

/// A failed attempt; `untouched` gives the callback back if not one byte of a reply came, and another
/// connection may fare better.
pub(super) struct Broken {
    pub(super) failure: Failure,
    pub(super) untouched: Option<OnWritten>,
}

/// Sends `body` on `connection` and waits for the head of the reply.
pub(super) async fn attempt(
    pool: &Arc<Pool>,
    connection: Live,
    body: Bytes,
    written: OnWritten,
) -> Result<Response<PooledBody>, Broken> {
    let mut guard = Guard::new(connection, Arc::clone(pool));
    let Some(live) = guard.connection.as_mut() else {
        return Err(Broken::internal());
    };
    let limit = write_limit(&body);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    let upstream = live.upstream.clone();
    let login = live.login.clone();
    let progress = Arc::clone(&live.progress);
    let before = progress.counts();
    progress.arm(Box::new(move || {
        written();
        // The waiting side may be gone.
        let _ = tell.send(());
    }));
    let (request, said) = pool.request(body, live);
    let result = {
        let mut reply = pin!(live.send(request));
        let mut driven = poll_fn(|cx| {
            live.drive(cx);
            reply.as_mut().poll(cx)
        });
        tokio::select! {
            biased;
            result = &mut driven => Some(result),
            Ok(()) = &mut told => Some(driven.await),
            () = tokio::time::sleep(limit) => None,
        }
    };
    let after = progress.counts();
    let sent = after.0 > before.0;
    match result {
        Some(Ok(response)) => {
            // A reply may come before the request was written whole: then there is no second use.
            guard.reusable = progress.disarm().is_none();
            pool.learn(response.headers());
            let (mut head, incoming) = response.into_parts();
            name_gzip(&mut head.headers);
            let mut body = PooledBody::on_connection(incoming, guard, pool.max_response_bytes);
            body.upstream = upstream;
            body.login = login.map(|login| (login, said));
            Ok(Response::from_parts(head, body))
        }
        Some(Err(error)) => {
            let answered = after.1 > before.1;
            let back = progress.disarm();
            Err(Broken {
                failure: pool.peer(upstream.as_deref()).broken(&error, sent),
                untouched: (!answered).then(|| back.unwrap_or_else(|| Box::new(|| {}))),
            })
        }
        None => Err(Broken {
            failure: pool.peer(upstream.as_deref()).stuck(sent),
            untouched: None,
        }),
    }
}

impl Broken {
    fn internal() -> Self {
        let text = "a connection was used twice, which is a bug in xbosh".to_owned();
        Self {
            failure: Failure {
                kind: FailureKind::Internal,
                text,
                sent: false,
            },
            untouched: None,
        }
    }
}

/// Closes the connection unless its exchange came to a good end (B-51: an abort must be seen by the peer).
pub(super) struct Guard {
    connection: Option<Live>,
    reusable: bool,
    pool: Arc<Pool>,
}

impl Guard {
    fn new(connection: Live, pool: Arc<Pool>) -> Self {
        pool.kept.begin(&connection.place);
        Self {
            connection: Some(connection),
            reusable: false,
            pool,
        }
    }

    /// Reads on, for a reply's body.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.drive(cx);
        }
    }

    pub(super) fn keep(&mut self) {
        if self.reusable
            && let Some(connection) = self.connection.take()
        {
            self.pool.kept.end(&connection.place);
            self.pool.kept.put_back(connection);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            self.pool.kept.end(&connection.place);
        }
    }
}
