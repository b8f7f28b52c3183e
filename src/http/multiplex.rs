//! One HTTP/2 connection, which carries the exchanges of several sessions as streams (RFC 9113 section 5, P-11).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::frames::{Tapped, Traffic};
use super::kept::MAX_IDLE;
use super::live::{BUFFER, Place};
use super::lock;
use crate::connect::{CertificateName, Connection, Proven};

/// Most streams on one connection, whatever the peer allows: so many exchanges at most break off with it.
const MAX_STREAMS: usize = 256;
/// What h2 says of the peer's limit before its SETTINGS are here: none of them has room for it.
const UNKNOWN: usize = usize::MAX - 1;
/// What one reply may be ahead of its reader, in bytes.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same for all replies of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What of one request waits for the socket, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// Largest frame, in bytes: the smallest that may be asked for, so that nobody waits for a large one.
const FRAME: u32 = 16 * 1024;
/// Size of the table of compressed headers, in bytes.
const HEADER_TABLE: u32 = 4096;
/// Streams that we reset and still hear of, and for how long.
const RESET_STREAMS: usize = 64;
const RESET_MEMORY: Duration = Duration::from_secs(5);

/// A connection that many may use.
pub(super) struct Multiplexed {
    sender: SendRequest<Bytes>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) place: Arc<Place>,
    /// The manager's certificate as DER.
    pub(super) certificate: Option<Vec<u8>>,
    proven: Proven,
    /// Streams that the peer allows; its sender is gone with the connection.
    most: watch::Receiver<usize>,
    open: Mutex<Open>,
    answered: AtomicBool,
    task: AbortHandle,
}

struct Open {
    streams: usize,
    /// When the last one ended.
    since: Instant,
}

/// Whether a connection takes one more stream.
pub(super) enum Room {
    /// It does: here is the place.
    Yes(Slot),
    /// It has as many as it may.
    Full,
    /// That is known once the peer has said how many it allows.
    Soon(watch::Receiver<usize>),
    /// No further request goes here.
    Gone,
}

impl Multiplexed {
    /// Begins HTTP/2 on a connection where that was agreed on.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn new(made: Connection, proven: Proven) -> Result<Arc<Self>, h2::Error> {
        let traffic = Arc::new(Traffic::new());
        let io = Tapped::new(made.stream, Arc::clone(&traffic));
        // B-07: never a push. No PING of ours: T-08 finds dead connections, and a held poll wakes nobody.
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(BUFFER as u32)
            .header_table_size(HEADER_TABLE)
            .max_send_buffer_size(SEND_BUFFER)
            .initial_max_send_streams(UNKNOWN)
            .max_concurrent_reset_streams(RESET_STREAMS)
            .reset_stream_duration(RESET_MEMORY)
            .handshake(io);
        let (sender, mut connection) = handshake.await?;
        let (tell, most) = watch::channel(UNKNOWN);
        let task = tokio::spawn(async move {
            // Errors of the connection reach its streams.
            let _ = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                let now = connection.max_concurrent_send_streams();
                tell.send_if_modified(|most| std::mem::replace(most, now) != now);
                polled
            })
            .await;
        });
        Ok(Arc::new(Self {
            sender,
            traffic,
            place: Place::new(made.local),
            certificate: made.certificate,
            proven,
            most,
            open: Mutex::new(Open {
                streams: 0,
                since: Instant::now(),
            }),
            answered: AtomicBool::new(false),
            task: task.abort_handle(),
        }))
    }

    /// A place for one more stream, if there is one (RFC 9113 section 5.1.2).
    pub(super) fn room(self: &Arc<Self>) -> Room {
        if self.is_gone() {
            return Room::Gone;
        }
        let most = *self.most.borrow();
        let mut open = lock(&self.open);
        if most == UNKNOWN && open.streams > 0 {
            return Room::Soon(self.most.clone());
        }
        if open.streams >= most.min(MAX_STREAMS) {
            return Room::Full;
        }
        open.streams += 1;
        drop(open);
        Room::Yes(Slot {
            connection: Arc::clone(self),
        })
    }

    /// The peer said GOAWAY, or the connection broke.
    fn is_closing(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        matches!(self.sender.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Whether no further request goes here.
    pub(super) fn is_gone(&self) -> bool {
        let old = {
            let open = lock(&self.open);
            open.streams == 0 && open.since.elapsed() >= MAX_IDLE
        };
        // T-31: without a stream it is an idle connection like any other.
        old || self.place.is_lost() || self.is_closing()
    }

    /// Streams under way.
    pub(super) fn streams(&self) -> usize {
        lock(&self.open).streams
    }

    /// Whether a session with that rule may use it (P-11).
    pub(super) fn suits(&self, rule: &CertificateName) -> bool {
        self.proven.suits(rule)
    }

    /// A handle to begin a stream with.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.sender.clone()
    }

    /// Whether a reply ever came.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        // Otherwise h2 says GOAWAY and closes: who does not answer any more need not be told.
        if self.place.is_lost() {
            self.task.abort();
        }
    }
}

/// Waits until the peer has said how many streams it allows; false if it does not within `patience`.
pub(super) async fn settled(mut most: watch::Receiver<usize>, patience: Duration) -> bool {
    let known = most.wait_for(|most| *most != UNKNOWN);
    // A connection that ended is settled as well: the next look at it says so.
    tokio::time::timeout(patience, known).await.is_ok()
}

/// The right to one stream.
pub(super) struct Slot {
    pub(super) connection: Arc<Multiplexed>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = lock(&self.connection.open);
        open.streams -= 1;
        open.since = Instant::now();
    }
}
