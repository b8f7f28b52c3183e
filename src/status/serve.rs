//! HTTP as far as a question about the state needs it: one GET a connection.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Board, metrics};
use crate::driver::clock;

/// Longest request head in bytes.
const MAX_HEAD: usize = 8 * 1024;
/// Time for one question and its answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause after a failed accept, so that running out of files never spins.
const PAUSE: Duration = Duration::from_millis(100);
/// Questions at a time; more wait.
const AT_ONCE: usize = 8;

/// Answers on a Unix socket that is for this user alone: all there is.
pub(crate) async fn serve_socket(listener: UnixListener, board: Arc<Board>) {
    let accept = move |context: &mut Context<'_>| {
        let accepted = listener.poll_accept(context);
        accepted.map_ok(|(stream, _)| stream)
    };
    serve(accept, board, true).await;
}

/// Answers on TCP: sums only, since every user of this machine can ask.
pub(crate) async fn serve_http(listener: TcpListener, board: Arc<Board>) {
    let accept = move |context: &mut Context<'_>| {
        let accepted = listener.poll_accept(context);
        accepted.map_ok(|(stream, _)| stream)
    };
    serve(accept, board, false).await;
}

async fn serve<S>(
    accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>,
    board: Arc<Board>,
    all: bool,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        match poll_fn(&accept).await {
            Ok(stream) => {
                let board = Arc::clone(&board);
                tokio::spawn(async move {
                    answer(stream, &board, all).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!("cannot accept a question: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, board: &Board, all: bool) {
    let exchange = async {
        let head = head(&mut stream).await?;
        let reply = reply(&head, board, all);
        stream.write_all(reply.as_bytes()).await?;
        stream.shutdown().await
    };
    // Who asks and goes, or says nothing, gets nothing.
    let _ = tokio::time::timeout(LIMIT, exchange).await;
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(512);
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

fn reply(head: &[u8], board: &Board, all: bool) -> String {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let whole = matches!(request.parse(head), Ok(httparse::Status::Complete(_)));
    let (status, kind, body) = match (request.method, request.path) {
        (Some("GET"), Some("/status")) if whole && all => {
            let report = board.report(clock::now());
            match serde_json::to_string(&report) {
                Ok(text) => ("200 OK", "application/json", text),
                Err(_) => ("500 Internal Server Error", "text/plain", String::new()),
            }
        }
        (Some("GET"), Some("/metrics")) if whole => (
            "200 OK",
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::text(&board.report(clock::now())),
        ),
        (Some("GET"), Some(_)) if whole => ("404 Not Found", "text/plain", "not here\n".into()),
        (Some(_), Some(_)) if whole => {
            ("405 Method Not Allowed", "text/plain", "GET only\n".into())
        }
        _ => ("400 Bad Request", "text/plain", "no HTTP request\n".into()),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let board = Board::new(Vec::new(), clock::now());
        for (head, all, status) in [
            ("GET /status HTTP/1.1\r\nHost: x\r\n\r\n", true, "200"),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", true, "200"),
            ("GET /metrics HTTP/1.0\r\n\r\n", false, "200"),
            // What is told of single clients is for this user alone.
            ("GET /status HTTP/1.1\r\nHost: x\r\n\r\n", false, "404"),
            ("GET / HTTP/1.1\r\n\r\n", true, "404"),
            ("POST /status HTTP/1.1\r\n\r\n", true, "405"),
            ("GET /status HTTP/1.1\r\n", true, "400"),
            ("<stream:stream>", true, "400"),
            ("", true, "400"),
        ] {
            let reply = reply(head.as_bytes(), &board, all);
            assert!(
                reply.starts_with(&format!("HTTP/1.1 {status} ")),
                "{head:?}: {reply}"
            );
        }
    }

    /// Endless heads end, and so do clients that say nothing.
    #[tokio::test(start_paused = true)]
    async fn bounded() {
        let board = Board::new(Vec::new(), clock::now());
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&[b'x'; 20_000]).await.unwrap();
        answer(ours, &board, true).await;
        let mut text = String::new();
        theirs.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 400"), "{text}");

        let (ours, _theirs) = tokio::io::duplex(16);
        answer(ours, &board, true).await;
    }
}
