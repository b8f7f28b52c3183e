//! TLS through a proxy, whose first request lets the server's session tickets come in.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_rustls::client::TlsStream;

/// Least time that a ticket is given, for a machine that is busy.
const LEAST: Duration = Duration::from_millis(5);
/// Longest wait for one: half of what it spares.
const MOST: Duration = Duration::from_millis(20);
/// What comes at all has come by then, acknowledged with delay.
const OVER: Duration = Duration::from_millis(100);

/// A server with Nagle's algorithm on keeps its first reply until its TLS 1.3 session tickets are acknowledged
/// (cm-quirks section 15), and the second ticket until the first one is. The proxy delays each acknowledgement by
/// 40 ms, unless it has something to pass on: so the first request follows the first ticket, its last part the second
/// one. Nobody waits for a server so far away that it would take as long.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: TlsStream<S>,
    /// Time for a ticket; none is waited for any more without it.
    patience: Option<Duration>,
    /// Since the handshake.
    since: Instant,
    /// Part of the first request is written.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    /// `took`: what the server's answer in the handshake took.
    pub(super) fn new(stream: TlsStream<S>, took: Duration) -> Self {
        let tls13 = stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        Self {
            stream,
            patience: (tls13 && took <= MOST).then(|| took.max(LEAST)),
            since: Instant::now(),
            waiting: None,
        }
    }

    /// Has the first ticket come in.
    ///
    /// # Errors
    /// What the server has against us behind the handshake.
    pub(super) async fn take_ticket(&mut self) -> io::Result<()> {
        let Some(patience) = self.patience else {
            return Ok(());
        };
        let come = poll_fn(|cx| {
            // What is there for whoever reads next, were it the end, stays.
            let read = Pin::new(&mut self.stream).poll_fill_buf(cx);
            match read.map_ok(|_| ()) {
                Poll::Pending if self.tickets() > 0 => Poll::Ready(Ok(())),
                read => read,
            }
        });
        // Without it everything works, only later.
        let came = tokio::time::timeout(patience, come).await;
        came.unwrap_or(Ok(()))
    }

    fn tickets(&self) -> u32 {
        self.stream.get_ref().1.tls13_tickets_received()
    }

    /// How much of `buf` may go out now.
    fn poll_leave(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<usize> {
        let Some(patience) = self.patience else {
            return Poll::Ready(buf.len());
        };
        let heard = Pin::new(&mut self.stream).poll_fill_buf(cx).is_ready();
        let tickets = self.tickets();
        if let Some(waiting) = &mut self.waiting {
            if waiting.as_mut().poll(cx).is_pending() && !heard && tickets < 2 {
                return Poll::Pending;
            }
        } else if tickets == 1
            && !heard
            && self.since.elapsed() < OVER
            && !self.is_resumed()
            && buf.len() > 1
        {
            // There may be a second one, which leaves the server once this part is passed on.
            self.waiting = Some(Box::pin(tokio::time::sleep(patience)));
            return Poll::Ready(buf.len() / 2);
        }
        (self.patience, self.waiting) = (None, None);
        Poll::Ready(buf.len())
    }

    /// For a session that is resumed there is one ticket.
    fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let leave = ready!(self.poll_leave(cx, buf));
        Pin::new(&mut self.stream).poll_write(cx, &buf[..leave])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.patience.is_some() {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
