//! Tells when a request has been handed to the socket, and how much of it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is called once the last byte of a request is written.
pub(super) type OnWritten = Box<dyn FnOnce() + Send>;

/// Shared between a connection's stream and the request on it.
#[derive(Default)]
pub(super) struct Progress {
    /// The HTTP layer has taken the whole body: the next complete flush means that it is written.
    taken: AtomicBool,
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    on_written: Mutex<Option<OnWritten>>,
}

impl Progress {
    /// A new request is about to be sent.
    pub(super) fn arm(&self, on_written: OnWritten) {
        self.taken.store(false, Ordering::Release);
        *self.slot() = Some(on_written);
    }

    /// Bytes written and read since the connection was made.
    pub(super) fn counts(&self) -> (u64, u64) {
        (
            self.written_bytes.load(Ordering::Relaxed),
            self.read_bytes.load(Ordering::Relaxed),
        )
    }

    /// Takes the callback back, if it has not been called.
    pub(super) fn disarm(&self) -> Option<OnWritten> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<OnWritten>> {
        self.on_written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn flushed(&self) {
        if self.taken.swap(false, Ordering::AcqRel)
            && let Some(on_written) = self.disarm()
        {
            on_written();
        }
    }
}

/// A stream that reports to [`Progress`].
pub(super) struct Observed<S> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S> Observed<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.progress
            .read_bytes
            .fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.progress.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Observed<S> {
    fn count(&self, result: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = result {
            self.progress
                .written_bytes
                .fetch_add(*count as u64, Ordering::Relaxed);
        }
    }
}

/// A request body of known length (B-02) that notes when it has been taken.
pub(super) struct WireBody {
    bytes: Option<Bytes>,
    progress: Arc<Progress>,
}

impl WireBody {
    pub(super) fn new(bytes: Bytes, progress: Arc<Progress>) -> Self {
        Self {
            bytes: Some(bytes),
            progress,
        }
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = self.bytes.take().map(|bytes| Ok(Frame::data(bytes)));
        self.progress.taken.store(true, Ordering::Release);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
