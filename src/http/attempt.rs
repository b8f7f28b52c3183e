//! One request on one HTTP/1.1 connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::live::{Exchanging, Live};
use super::pool::Pool;
use super::reply::{PooledBody, name_gzip};
use super::wire::OnWritten;
use crate::bosh::failure::Failure;

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
    let limit = write_limit(&body);
    let (tell, mut told) = tokio::sync::oneshot::channel();
    let upstream = connection.about.upstream.clone();
    let login = connection.about.login.clone();
    let progress = Arc::clone(&connection.about.progress);
    let before = progress.counts();
    progress.arm(Box::new(move || {
        written();
        // The waiting side may be gone.
        let _ = tell.send(());
    }));
    let broken = |error: &hyper::Error| {
        let after = progress.counts();
        let back = progress.disarm();
        Broken {
            failure: pool
                .peer(upstream.as_deref())
                .broken(error, after.0 > before.0),
            untouched: (after.1 == before.1).then(|| back.unwrap_or_else(|| Box::new(|| {}))),
        }
    };
    let mut exchanging = connection.begin().await.map_err(|error| broken(&error))?;
    let (request, said) = pool.request(body, &exchanging.about);
    let reply = exchanging.send(request);
    let mut guard = Guard::new(exchanging, Arc::clone(pool));
    let result = {
        let mut reply = pin!(reply);
        let mut driven = poll_fn(|cx| {
            guard.drive(cx);
            reply.as_mut().poll(cx)
        });
        tokio::select! {
            biased;
            result = &mut driven => Some(result),
            Ok(()) = &mut told => Some(driven.await),
            () = tokio::time::sleep(limit) => None,
        }
    };
    let Some(result) = result else {
        let sent = progress.counts().0 > before.0;
        return Err(Broken {
            failure: pool.peer(upstream.as_deref()).stuck(sent),
            untouched: None,
        });
    };
    let response = result.map_err(|error| broken(&error))?;
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

/// Closes the connection unless its exchange came to a good end (B-51: an abort must be seen by the peer).
pub(super) struct Guard {
    connection: Option<Exchanging>,
    reusable: bool,
    pool: Arc<Pool>,
}

impl Guard {
    fn new(connection: Exchanging, pool: Arc<Pool>) -> Self {
        pool.kept.begin(&connection.about.place);
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
            self.pool.kept.end(&connection.about.place);
            if !connection.about.place.is_lost() {
                self.pool.kept.put_back(connection.rest());
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            self.pool.kept.end(&connection.about.place);
        }
    }
}
