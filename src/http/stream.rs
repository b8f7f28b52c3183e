//! One exchange as a stream of a shared connection.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::Response;
use tokio::time::Instant;

use super::attempt::{Broken, write_limit};
use super::multiplex::Slot;
use super::pool::Pool;
use super::reply::{PooledBody, Streamed, name_gzip};
use super::wire::OnWritten;

/// Sends `body` on a stream of its own and waits for the head of the reply. Dropping the future resets the
/// stream (B-51) and touches no other.
pub(super) async fn attempt(
    pool: &Arc<Pool>,
    slot: Slot,
    body: Bytes,
    written: OnWritten,
) -> Result<Response<PooledBody>, Broken> {
    let guard = StreamGuard::new(slot, Arc::clone(pool));
    let connection = &guard.slot.connection;
    let request = pool.stream_request(body.len());
    let (response, mut sending) = match connection.sender().send_request(request, false) {
        Ok(begun) => begun,
        Err(error) => {
            let kept = connection.has_answered();
            return Err(broken(pool, &error, false, kept, Some(written)));
        }
    };
    let id = sending.stream_id().as_u32();
    let limit = write_limit(&body);
    let (tell, told) = tokio::sync::oneshot::channel();
    let tapped = Box::new(move || {
        written();
        // The waiting side may be gone.
        let _ = tell.send(());
    });
    connection.traffic.expect(id, tapped);
    let disarm = Disarm { guard: &guard, id };
    let result = {
        let mut response = std::pin::pin!(response);
        let whole = async {
            // What went wrong is told by the response.
            if send(&mut sending, body).await.is_ok() && told.await.is_ok() {
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            result = &mut response => Some(result),
            () = whole => Some(response.await),
            () = tokio::time::sleep(limit) => None,
        }
    };
    let back = disarm.take();
    drop(disarm);
    match result {
        Some(Ok(response)) => {
            connection.set_answered();
            pool.pin(connection);
            pool.learn(response.headers());
            let (mut head, incoming) = response.into_parts();
            let streamed = Streamed::new(incoming, &head.headers);
            name_gzip(&mut head.headers);
            let body = PooledBody::on_stream(streamed, guard, pool.max_response_bytes);
            Ok(Response::from_parts(head, body))
        }
        Some(Err(error)) => {
            let sent = connection.traffic.has_begun(id);
            let kept = connection.has_answered();
            Err(broken(pool, &error, sent, kept, back))
        }
        None => Err(Broken {
            failure: pool.peer(None).stuck(connection.traffic.has_begun(id)),
            untouched: None,
        }),
    }
}

/// Hands over the body as fast as the peer's windows let it (RFC 9113 section 5.2).
async fn send(sending: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    loop {
        sending.reserve_capacity(body.len());
        let room = match sending.capacity() {
            0 => match poll_fn(|cx| sending.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Err(Reason::STREAM_CLOSED.into()),
            },
            room => room,
        };
        let part = body.split_to(room.min(body.len()));
        let last = body.is_empty();
        sending.send_data(part, last)?;
        if last {
            return Ok(());
        }
    }
}

/// What a failed stream means. RFC 9113 section 8.7: REFUSED_STREAM, and GOAWAY with a lower last stream,
/// promise that nothing was processed; h2 gives a stream the peer's GOAWAY for an error only in that case.
fn broken(
    pool: &Pool,
    error: &h2::Error,
    begun: bool,
    kept: bool,
    back: Option<OnWritten>,
) -> Broken {
    let refused =
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM));
    let sent = begun && !refused;
    // T-31: a connection that breaks says nothing about the manager; a stream that is reset is an answer.
    let lost = kept && !error.is_reset();
    Broken {
        failure: pool.peer(None).reset(error, sent),
        untouched: (refused || lost).then(|| back.unwrap_or_else(|| Box::new(|| {}))),
    }
}

/// Takes the callback back in any case, so that nothing is left behind.
struct Disarm<'a> {
    guard: &'a StreamGuard,
    id: u32,
}

impl Disarm<'_> {
    fn take(&self) -> Option<OnWritten> {
        self.guard.slot.connection.traffic.disarm(self.id)
    }
}

impl Drop for Disarm<'_> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Frees the place of a stream, and notes whether its exchange came to a good end.
pub(super) struct StreamGuard {
    pub(super) slot: Slot,
    began: Instant,
    finished: bool,
    pool: Arc<Pool>,
}

impl StreamGuard {
    fn new(slot: Slot, pool: Arc<Pool>) -> Self {
        pool.kept.begin(&slot.connection.place);
        Self {
            slot,
            began: Instant::now(),
            finished: false,
            pool,
        }
    }

    /// The reply is whole.
    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.pool.trust(&self.slot.connection);
        }
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.pool.kept.end(&self.slot.connection.place);
        if !self.finished {
            self.pool.distrust(&self.slot.connection, self.began);
        }
    }
}
