//! Replies that are broken, too large or late, and connections that die.

use std::io::Write as _;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::bosh::failure::FailureKind;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn gzipped(extra: &str, gzip: &[u8]) -> Vec<u8> {
    let mut reply =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n{extra}\r\n").into_bytes();
    reply.extend_from_slice(gzip);
    reply
}

async fn fails(reply: &[u8], kind: FailureKind, words: &str) {
    let result = once(reply).await;
    failed(reply, result, kind, words);
}

fn failed(reply: &[u8], result: Result<HttpReply, Failure>, kind: FailureKind, words: &str) {
    let shown = String::from_utf8_lossy(&reply[..reply.len().min(200)]).into_owned();
    let failure = result.expect_err(&shown);
    assert_eq!(failure.kind, kind, "{shown:?}: {failure:?}");
    assert!(failure.sent, "{shown:?}");
    assert!(failure.text.contains(words), "{shown:?}: {failure:?}");
    assert!(
        failure.text.starts_with("the BOSH server 127.0.0.1:"),
        "{failure:?}"
    );
}

/// E-51, T-12, T-35: a reply cut anywhere is no reply, whatever its framing.
#[tokio::test]
async fn e51_every_cut_is_noticed() {
    let zipped = gzip(b"<body xmlns='http://jabber.org/protocol/httpbind'/>");
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let counted_zip = gzipped(&format!("Content-Length: {}\r\n", zipped.len()), &zipped);
    for reply in [
        counted("<body/>"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<bo\r\n4\r\ndy/>\r\n0\r\n\r\n"
            .to_vec(),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab".to_vec(),
        counted_zip,
        gzipped("Connection: close\r\n", &zipped),
    ] {
        assert!(once(&reply).await.is_ok());
        let head = reply.windows(4).rposition(|w| w == b"\r\n\r\n").unwrap() + 4;
        let closing = reply.windows(6).any(|w| w == b"close\r");
        for cut in 0..reply.len() {
            let result = on_new(&client, &peer, &reply[..cut]).await;
            // A head alone, without a length, is a whole reply with nothing in it.
            if closing && cut == head {
                assert!(result.unwrap().body.is_empty());
            } else {
                failed(&reply[..cut], result, FailureKind::NoReply, "");
            }
        }
    }
}

/// E-51: compression that is broken inside.
#[tokio::test]
async fn e51_broken_gzip() {
    let mut zipped = gzip(b"<body xmlns='http://jabber.org/protocol/httpbind'/>");
    let last = zipped.len() - 1;
    zipped[last - 5] ^= 0xff;
    for bytes in [&zipped[..], b"<body/>"] {
        let reply = gzipped(&format!("Content-Length: {}\r\n", bytes.len()), bytes);
        fails(&reply, FailureKind::NoReply, "cannot be decompressed").await;
    }
}

/// E-51, E-34: bytes that are not HTTP.
#[tokio::test]
async fn e51_garbage() {
    for reply in [
        "SSH-2.0-OpenSSH\r\n",
        "\x15\x03\x01\0\x02\x02\x46",
        "<stream:stream>\n\n",
        "HTTP/9.9 x\r\n\r\n",
    ] {
        fails(
            reply.as_bytes(),
            FailureKind::NoReply,
            "something that is not HTTP",
        )
        .await;
    }
    fails(
        b"",
        FailureKind::NoReply,
        "closed the connection without a whole reply",
    )
    .await;
    let cut = b"HTTP/1.0 500 Unable to connect\r\nContent-Length: 9\r\n\r\n<htm";
    let words = "gave no whole reply: connection closed (status 500)";
    fails(cut, FailureKind::NoReply, words).await;
    fails(
        b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n",
        FailureKind::NoReply,
        "something that is not HTTP",
    )
    .await;
}

/// E-67: too long, told or not, and too many headers.
#[tokio::test]
async fn e67_too_large() {
    let max = ClientOptions::default().max_response_bytes;
    let too_large = FailureKind::ReplyTooLarge;
    let words = "limits.max_response_bytes";
    let told = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", max + 1);
    let piece = "x".repeat(1 << 20);
    let mut long = told.clone().into_bytes();
    let mut chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for _ in 0..17 {
        long.extend_from_slice(piece.as_bytes());
        chunked.extend_from_slice(format!("100000\r\n{piece}\r\n").as_bytes());
        endless.extend_from_slice(piece.as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    for reply in [long, chunked, endless] {
        fails(&reply, too_large, words).await;
    }
    let mut fits = format!("HTTP/1.1 200 OK\r\nContent-Length: {max}\r\n\r\n").into_bytes();
    fits.resize(fits.len() + max, b'x');
    assert_eq!(once(&fits).await.unwrap().body.len(), max);
    let words = "too many or too large headers";
    let many = "X: y\r\n".repeat(101);
    fails(
        format!("HTTP/1.1 200 OK\r\n{many}\r\n").as_bytes(),
        too_large,
        words,
    )
    .await;
    let long = "y".repeat(200_000);
    fails(
        format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n").as_bytes(),
        too_large,
        words,
    )
    .await;
}

/// E-67: an announced length above the limit is enough; nothing of the body need come.
#[tokio::test]
async fn e67_announced_length() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
    let (result, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(reply));
    assert_eq!(result.unwrap_err().kind, FailureKind::ReplyTooLarge);
    assert!(conn.closed().await);
}

/// B-04, E-67: a gzip bomb is cut off at the limit, and memory stays bounded: 128 MiB from 128 KiB.
#[tokio::test]
async fn b04_gzip_bomb() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..128 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let before = resident();
    let reply = gzipped(&format!("Content-Length: {}\r\n", bomb.len()), &bomb);
    let (result, _conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert_eq!(result.unwrap_err().kind, FailureKind::ReplyTooLarge);
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 << 20, "{grown} bytes more");
}

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// T-31: a kept connection that closes without a word: the same bytes go out once more on a new one, and
/// `written` is called once.
#[tokio::test]
async fn t31_silent_close_of_a_kept_connection() {
    for read_first in [true, false] {
        let peer = Peer::new().await;
        let client = client(peer.url(), &direct());
        let reply = counted("x");
        let (result, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
        assert!(result.is_ok());
        let count = Count::default();
        let served = async {
            let first = if read_first {
                Some(kept.request().await)
            } else {
                None
            };
            drop(kept);
            let mut conn = peer.accept().await;
            let second = conn.request().await;
            conn.send(&reply).await;
            (first, second)
        };
        let (result, (first, second)) = tokio::join!(client.exchange(ask_counted(&count)), served);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(count.get(), 1);
        assert_eq!(second.1, BODY.as_bytes());
        if let Some(first) = first {
            assert_eq!(first, second);
        }
    }
}

/// T-31: it is repeated once only, never after a byte of a reply, and never on a new connection.
#[tokio::test]
async fn t31_no_second_repeat() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let served = async {
        kept.request().await;
        drop(kept);
        peer.answer_close(b"").await;
    };
    let (result, ()) = tokio::join!(client.exchange(ask()), served);
    let failure = result.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::NoReply, true));
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let served = async {
        kept.request().await;
        kept.send(b"H").await;
        drop(kept);
    };
    let (result, ()) = tokio::join!(client.exchange(ask()), served);
    assert_eq!(result.unwrap_err().kind, FailureKind::NoReply);
}

/// B-51: dropping an exchange at any stage closes its connection.
#[tokio::test]
async fn dropping_closes() {
    let partial = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    for reply in [&b""[..], b"HTTP/1.1 200", partial] {
        let peer = Peer::new().await;
        let client = client(peer.url(), &direct());
        let mut conn = tokio::select! {
            _ = client.exchange(ask()) => panic!("no whole reply was sent"),
            conn = peer.answer(reply) => conn,
        };
        assert!(conn.closed().await);
        let reply = counted("x");
        let (result, _new) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
        assert!(result.is_ok());
    }
}

fn ask_large(size: usize, written: oneshot::Sender<()>) -> ExchangeRequest {
    ExchangeRequest {
        body: Bytes::from(vec![b'x'; size]),
        fresh: false,
        written: Box::new(move || written.send(()).unwrap_or_default()),
        repeated: Box::new(|| {}),
    }
}

/// T-37: `written` waits for the last byte, and does not wait for the reply.
#[tokio::test]
async fn t37_written_means_written() {
    const SIZE: usize = 24 << 20;
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let (tell, mut told) = oneshot::channel();
    let served = async {
        let mut conn = peer.accept().await;
        conn.head().await;
        while conn.ahead.len() < 1 << 20 {
            conn.stream.read_buf(&mut conn.ahead).await.unwrap();
        }
        assert!(told.try_recv().is_err(), "written before it can be");
        while conn.ahead.len() < SIZE {
            conn.stream.read_buf(&mut conn.ahead).await.unwrap();
        }
        told.await.unwrap();
        conn.send(&counted("x")).await;
        conn
    };
    let (result, _conn) = tokio::join!(client.exchange(ask_large(SIZE, tell)), served);
    assert_eq!(result.unwrap().status, 200);
}

/// T-07, T-37: once written there is no limit of ours: a poll is held for as long as it takes.
#[tokio::test]
async fn t07_no_reply_limit() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (_, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let count = Count::default();
    let served = async {
        conn.request().await;
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(100_000)).await;
        tokio::time::resume();
        assert_eq!(count.get(), 1);
        conn.send(&reply).await;
    };
    let (result, ()) = tokio::join!(client.exchange(ask_counted(&count)), served);
    assert!(result.is_ok());
    assert_eq!(count.get(), 1);
}

/// P-14: a peer that never reads ends the exchange by the write limit: 30 s and the time of a slow uplink.
#[tokio::test]
async fn p14_write_limit() {
    const SIZE: usize = 24 << 20;
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (_, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let (tell, mut told) = oneshot::channel();
    let failure = client.exchange(ask_large(SIZE, tell)).await.unwrap_err();
    let took = begun.elapsed().as_secs();
    assert_eq!(took, 30 + (SIZE as u64 >> 13));
    assert_eq!((failure.kind, failure.sent), (FailureKind::NoReply, true));
    assert_eq!(
        failure.text,
        format!(
            "the request could not be sent to the BOSH server {} in time",
            peer.address()
        )
    );
    assert!(told.try_recv().is_err());
    while conn.stream.read_buf(&mut conn.ahead).await.unwrap_or(0) > 0 {}
    assert!(conn.ahead.len() < SIZE);
}

/// B-06: a whole reply to half a request is the reply, but the connection is spent.
#[tokio::test]
async fn b06_early_reply() {
    const SIZE: usize = 24 << 20;
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let (tell, mut told) = oneshot::channel();
    let served = async {
        let mut conn = peer.accept().await;
        conn.head().await;
        conn.send(b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n")
            .await;
        conn
    };
    let (result, _conn) = tokio::join!(client.exchange(ask_large(SIZE, tell)), served);
    assert_eq!(result.unwrap().status, 413);
    assert!(told.try_recv().is_err());
    let reply = counted("x");
    let (result, _new) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
}
