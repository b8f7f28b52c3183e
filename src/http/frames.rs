//! Reads along what an HTTP/2 connection writes (RFC 9113 section 4.1), for only the wire knows when a request has left.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::wire::OnWritten;

/// What a client writes before its first frame, in bytes (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame, in bytes.
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;

/// Finds frames in bytes that come split anywhere.
struct Frames {
    /// Bytes of the preface or of a payload still to come.
    left: usize,
    head: [u8; HEAD],
    /// How much of `head` is there.
    have: usize,
    /// The stream that ends with this payload.
    ends: Option<u32>,
}

impl Frames {
    fn new() -> Self {
        Self {
            left: PREFACE,
            head: [0; HEAD],
            have: 0,
            ends: None,
        }
    }

    /// Takes in what was written. `begun` hears of streams with a first frame, `whole` of those with a last one.
    fn read(&mut self, mut bytes: &[u8], mut begun: impl FnMut(u32), mut whole: impl FnMut(u32)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if self.left == 0
                && let Some(stream) = self.ends.take()
            {
                whole(stream);
            }
            if bytes.is_empty() {
                return;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < HEAD {
                return;
            }
            self.have = 0;
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
            let length = u32::from_be_bytes([0, l0, l1, l2]);
            let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
            self.left = usize::try_from(length).unwrap_or(usize::MAX);
            if kind == HEADERS {
                begun(stream);
            }
            // A BOSH request always has a body.
            if kind == DATA && flags & END_STREAM != 0 {
                self.ends = Some(stream);
            }
        }
    }
}

struct Writing {
    frames: Frames,
    /// Requests whose last byte was written, but not flushed.
    whole: VecDeque<u32>,
    /// Who wants to know.
    waiting: Vec<(u32, OnWritten)>,
}

/// What is known of the two directions of a connection.
pub(super) struct Traffic {
    writing: Mutex<Writing>,
    /// The newest stream with anything written.
    begun: AtomicU32,
    opened: Instant,
    /// When the peer was heard last, in nanoseconds from `opened`.
    heard: AtomicU64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            writing: Mutex::new(Writing {
                frames: Frames::new(),
                whole: VecDeque::new(),
                waiting: Vec::new(),
            }),
            begun: AtomicU32::new(0),
            opened: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    /// `on_written` is called once the end of this stream's request has been flushed.
    pub(super) fn expect(&self, stream: u32, on_written: OnWritten) {
        self.lock().waiting.push((stream, on_written));
    }

    /// Takes the callback back, if it has not been called.
    pub(super) fn disarm(&self, stream: u32) -> Option<OnWritten> {
        let mut writing = self.lock();
        let at = writing.waiting.iter().position(|(id, _)| *id == stream)?;
        Some(writing.waiting.swap_remove(at).1)
    }

    /// Whether anything of this stream was written. Streams open in the order of their numbers.
    pub(super) fn has_begun(&self, stream: u32) -> bool {
        self.begun.load(Ordering::Acquire) >= stream
    }

    /// When the peer was heard last; at first, when the connection was made.
    pub(super) fn heard(&self) -> Instant {
        self.opened + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    fn written(&self, bytes: &[u8]) {
        let Writing { frames, whole, .. } = &mut *self.lock();
        frames.read(
            bytes,
            |stream| self.begun.store(stream, Ordering::Release),
            |stream| whole.push_back(stream),
        );
    }

    fn flushed(&self) {
        loop {
            let on_written = {
                let mut writing = self.lock();
                let Some(stream) = writing.whole.pop_front() else {
                    return;
                };
                let at = writing.waiting.iter().position(|(id, _)| *id == stream);
                at.map(|at| writing.waiting.swap_remove(at).1)
            };
            if let Some(on_written) = on_written {
                on_written();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that reports to [`Traffic`].
pub(super) struct Tapped<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S> Tapped<S> {
    pub(super) fn new(stream: S, traffic: Arc<Traffic>) -> Self {
        Self { stream, traffic }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            let age = self.traffic.opened.elapsed().as_nanos();
            let age = u64::try_from(age).unwrap_or(u64::MAX);
            self.traffic.heard.store(age, Ordering::Relaxed);
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = result {
            self.traffic.written(&buf[..count]);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut count)) = result {
            for buf in bufs {
                let part = count.min(buf.len());
                self.traffic.written(&buf[..part]);
                count -= part;
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.traffic.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut frame = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        // The reserved bit says nothing.
        frame.extend_from_slice(&(stream | 1 << 31).to_be_bytes());
        frame.resize(HEAD + length, 0x01);
        frame
    }

    fn seen(pieces: &[&[u8]]) -> (Vec<u32>, Vec<u32>) {
        let mut frames = Frames::new();
        let (mut begun, mut whole) = (Vec::new(), Vec::new());
        for piece in pieces {
            frames.read(piece, |s| begun.push(s), |s| whole.push(s));
        }
        (begun, whole)
    }

    /// T-37: the last byte of the last DATA frame counts, wherever the bytes are split.
    #[test]
    fn t37_frames_split_anywhere() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for frame in [
            frame(4, 0, 0, 18),
            frame(8, 0, 0, 4),
            frame(HEADERS, 4, 1, 50),
            frame(DATA, 0, 1, 300),
            frame(HEADERS, 4, 3, 0),
            // On others than DATA the bit means something else.
            frame(4, 1, 0, 0),
            frame(DATA, END_STREAM, 3, 20),
            frame(DATA, END_STREAM, 1, 0),
        ] {
            bytes.extend(frame);
        }
        let all = (vec![1, 3], vec![3, 1]);
        assert_eq!(seen(&[&bytes]), all);
        for at in 0..bytes.len() {
            assert_eq!(seen(&[&bytes[..at], &bytes[at..]]), all, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(seen(&single), all);
        assert_eq!(seen(&[&bytes[..bytes.len() - 1]]).1, [3]);
    }

    /// T-37: written is what has been flushed.
    #[test]
    fn t37_flushed_means_written() {
        let traffic = Traffic::new();
        let called = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&called);
        traffic.expect(
            1,
            Box::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        );
        traffic.written(&[0; PREFACE]);
        assert!(!traffic.has_begun(1));
        traffic.written(&frame(HEADERS, 4, 1, 3));
        assert!(traffic.has_begun(1) && !traffic.has_begun(3));
        let data = frame(DATA, END_STREAM, 1, 3);
        traffic.written(&data[..data.len() - 1]);
        traffic.flushed();
        traffic.written(&data[data.len() - 1..]);
        assert_eq!(called.load(Ordering::SeqCst), 0);
        traffic.flushed();
        assert_eq!(called.load(Ordering::SeqCst), 1);
        assert!(traffic.disarm(1).is_none());
        traffic.flushed();
        assert_eq!(called.load(Ordering::SeqCst), 1);
    }
}
