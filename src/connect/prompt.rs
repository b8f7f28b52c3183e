//! A new TCP connection whose first bytes are acknowledged at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Reads and writes that go without delayed acknowledgements: a TLS handshake, its tickets, the first exchange.
const PROMPT: u8 = 8;

/// Acknowledges what comes at the beginning without delay. A server with Nagle's algorithm on writes its TLS 1.3
/// session tickets by themselves and keeps its first reply until they are acknowledged, 40 ms by default
/// (cm-quirks section 15). The kernel goes back to delaying by itself, so it is told again after each of the first
/// reads and writes.
#[derive(Debug)]
pub(super) struct Prompt {
    stream: TcpStream,
    left: u8,
}

impl Prompt {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            left: PROMPT,
        }
    }

    fn moved<T>(&mut self, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.left > 0 && matches!(done, Poll::Ready(Ok(_))) {
            self.left -= 1;
            // Without it everything works, only later.
            #[cfg(target_os = "linux")]
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        }
        done
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.moved(done)
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.moved(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.moved(done)
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Whether the kernel delays acknowledgements after so many round trips.
    async fn delays<S: AsyncRead + AsyncWrite + Unpin>(
        wrap: impl Fn(TcpStream) -> S,
        inner: impl Fn(&S) -> &TcpStream,
        rounds: usize,
    ) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await;
        let mut ours = wrap(stream.unwrap());
        let (mut theirs, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        for _ in 0..rounds {
            ours.write_all(b"a").await.unwrap();
            theirs.read_exact(&mut byte).await.unwrap();
            theirs.write_all(b"b").await.unwrap();
            ours.read_exact(&mut byte).await.unwrap();
        }
        !rustix::net::sockopt::tcp_quickack(inner(&ours)).unwrap()
    }

    /// T-36, cm-quirks section 15: as long as tickets may come, and only so long.
    #[tokio::test]
    async fn the_first_bytes_are_acknowledged_at_once() {
        assert!(delays(|stream| stream, |stream| stream, 50).await);
        assert!(!delays(Prompt::new, |ours| &ours.stream, 3).await);
        assert!(delays(Prompt::new, |ours| &ours.stream, 50).await);
    }
}
