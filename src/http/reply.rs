//! The body of a reply, and what becomes of its connection or stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::attempt::Guard;
use super::error::BodyError;
use super::stream::StreamGuard;
use crate::connect::{Login, Sent, Upstream};

/// Largest page of a proxy's challenge that is read.
const MAX_PAGE: usize = 64 * 1024;
/// How long it is waited for.
const PAGE_PATIENCE: Duration = Duration::from_millis(500);

/// A reply's body; its connection goes back to the pool when it has been read to its end. Dropped before, it
/// closes the connection, or resets the stream.
pub(super) struct PooledBody {
    // Before the guard: the stream is reset first, and then its place is free.
    incoming: Source,
    /// Bytes that may still come.
    left: u64,
    guard: Hold,
    pub(super) upstream: Option<Arc<Upstream>>,
    /// Who we are to the proxy, and what the request said of it.
    pub(super) login: Option<(Arc<Login>, Sent)>,
}

enum Source {
    Http1(Incoming),
    Http2(Streamed),
}

enum Hold {
    Connection(Guard),
    Stream(StreamGuard),
}

impl PooledBody {
    pub(super) fn on_connection(incoming: Incoming, guard: Guard, most: usize) -> Self {
        Self {
            incoming: Source::Http1(incoming),
            left: most as u64,
            guard: Hold::Connection(guard),
            upstream: None,
            login: None,
        }
    }

    pub(super) fn on_stream(incoming: Streamed, guard: StreamGuard, most: usize) -> Self {
        Self {
            incoming: Source::Http2(incoming),
            left: most as u64,
            guard: Hold::Stream(guard),
            upstream: None,
            login: None,
        }
    }

    /// Reads a refusal's page, so that its connection can be used again, as far as it comes quickly.
    pub(super) async fn drain(self) {
        let page = Limited::new(self, MAX_PAGE).collect();
        // Whatever is wrong with it, only the connection is lost.
        drop(tokio::time::timeout(PAGE_PATIENCE, page).await);
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // An announced length is believed before anything is read.
        if self.size_hint().lower() > self.left {
            return Poll::Ready(Some(Err(BodyError::TooLarge)));
        }
        let this = &mut *self;
        let polled = match (&mut this.incoming, &mut this.guard) {
            (Source::Http1(incoming), guard) => {
                if let Hold::Connection(guard) = guard {
                    guard.drive(cx);
                }
                Pin::new(incoming)
                    .poll_frame(cx)
                    .map(|frame| frame.map(|frame| frame.map_err(BodyError::Broken)))
            }
            (Source::Http2(streamed), _) => streamed
                .poll(cx)
                .map(|data| data.map(|data| data.map(Frame::data).map_err(BodyError::Reset))),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                // Compressed bytes count too: they need not inflate to anything (B-04).
                None => return Poll::Ready(Some(Err(BodyError::TooLarge))),
            }
        }
        if matches!(polled, Poll::Ready(None)) || self.is_end_stream() {
            match &mut self.guard {
                Hold::Connection(guard) => guard.keep(),
                Hold::Stream(guard) => guard.finish(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.incoming {
            Source::Http1(incoming) => incoming.is_end_stream(),
            Source::Http2(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Source::Http1(incoming) => incoming.size_hint(),
            Source::Http2(streamed) => streamed
                .announced
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// A body that comes in DATA frames.
pub(super) struct Streamed {
    body: h2::RecvStream,
    /// What is still to come by the reply's own word; h2 sees to it that it is kept.
    announced: Option<u64>,
}

impl Streamed {
    pub(super) fn new(body: h2::RecvStream, headers: &HeaderMap) -> Self {
        let announced = headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        Self { body, announced }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let polled = self.body.poll_data(cx);
        match &polled {
            Poll::Ready(Some(Ok(data))) => {
                if let Some(announced) = &mut self.announced {
                    *announced = announced.saturating_sub(data.len() as u64);
                }
                // Fails only for more than there is.
                let _ = self.body.flow_control().release_capacity(data.len());
            }
            // RFC 9113 section 8.1: the reply is whole, only the rest of the request is not wanted.
            Poll::Ready(Some(Err(error)))
                if error.reason() == Some(h2::Reason::NO_ERROR)
                    && error.is_reset()
                    && self.announced == Some(0) =>
            {
                return Poll::Ready(None);
            }
            Poll::Ready(_) | Poll::Pending => {}
        }
        polled
    }
}

/// Names of codings are case-insensitive and `x-gzip` is gzip (RFC 9110 section 8.4.1); the inflating layer
/// knows one spelling.
pub(super) fn name_gzip(headers: &mut HeaderMap) {
    if let Some(coding) = headers.get_mut(header::CONTENT_ENCODING)
        && [&b"gzip"[..], b"x-gzip"]
            .iter()
            .any(|name| coding.as_bytes().eq_ignore_ascii_case(name))
    {
        *coding = HeaderValue::from_static("gzip");
    }
}
