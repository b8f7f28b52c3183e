//! What the pool learns from its connections, and what it prepares.

use std::time::Duration;

use super::*;
use crate::bosh::failure::FailureKind;

const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";

/// Whether nobody is waiting to be accepted.
async fn is_quiet(peer: &Peer) -> bool {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    tokio::select! {
        biased;
        _ = peer.tcp() => false,
        () = tokio::task::yield_now() => true,
    }
}

/// T-31: bytes that went out on the dead connection may have arrived, even if there is no way to repeat them.
#[tokio::test]
async fn t31_the_first_attempt_counts_as_sent() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let served = async {
        kept.request().await;
        drop(peer);
        drop(kept);
    };
    let (result, ()) = tokio::join!(client.exchange(ask()), served);
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::CmUnreachable);
    assert!(failure.sent);
}

/// P-08, T-37: a request on a connection that its peer has just closed counts as written although it is not,
/// and the next one would overtake it. Whoever closes silently twice is not given a second request on a
/// connection for some time.
#[tokio::test]
async fn p08_silent_closing_is_learnt() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    for _ in 0..2 {
        let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
        let served = async {
            kept.request().await;
            drop(kept);
            peer.answer(CLOSING).await;
        };
        assert!(tokio::join!(client.exchange(ask()), served).0.is_ok());
    }
    for _ in 0..3 {
        let (result, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
        assert!(result.is_ok());
        assert!(conn.closed().await);
    }
    client.warm();
    assert!(is_quiet(&peer).await, "of no use");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let served = async {
        kept.request().await;
        kept.send(&reply).await;
    };
    assert!(tokio::join!(client.exchange(ask()), served).0.is_ok());
}

/// T-08: a repeat of the core gets a new connection, and idle ones on the same way are not trusted any more.
#[tokio::test]
async fn t08_fresh_drops_the_idle() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (_, mut kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    let (_, _new) = tokio::join!(client.exchange(ask_fresh()), peer.answer(&reply));
    assert!(kept.closed().await);
}

/// T-37: a connection opened ahead of need is used by the next exchange; there is only one.
#[tokio::test]
async fn t37_warm() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let poll = tokio::spawn(client.exchange(ask()));
    let mut first = peer.accept().await;
    first.request().await;
    client.warm();
    client.warm();
    let mut second = peer.accept().await;
    assert!(is_quiet(&peer).await);
    client.warm();
    let served = async {
        second.request().await;
        second.send(&counted("x")).await;
    };
    assert!(tokio::join!(client.exchange(ask()), served).0.is_ok());
    assert!(is_quiet(&peer).await);
    client.drop_idle();
    assert!(second.closed().await);
    first.send(&counted("x")).await;
    assert!(poll.await.unwrap().is_ok());
}

/// P-11: with the session its idle connections end, one that is being opened included.
#[tokio::test]
async fn p11_connections_end_with_the_session() {
    let (peer, proxy) = (Peer::new().await, Peer::new().await);
    let client = client(
        Url::parse(&format!("https://{}/b", peer.address())).unwrap(),
        &via("http", proxy.address()),
    );
    client.warm();
    let mut conn = proxy.accept().await;
    assert!(conn.head().await.starts_with("CONNECT "));
    drop(client);
    assert!(conn.closed().await);
}

/// B-04, E-67: what comes over the wire counts as well, for it need not inflate to anything.
#[tokio::test]
async fn e67_large_before_inflating() {
    let peer = Peer::new().await;
    let connector = Connector::new(&direct(), &config::Tls::default()).unwrap();
    let client = SessionClient::new(
        Target::new(peer.url()),
        connector,
        ClientOptions {
            max_response_bytes: 50_000,
            ..ClientOptions::default()
        },
    );
    // A gzip header with a file name of 60 000 bytes.
    let mut zipped = b"\x1f\x8b\x08\x08\0\0\0\0\0\xff".to_vec();
    zipped.resize(60_000, b'n');
    let mut reply =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n"
            .to_vec();
    reply.append(&mut zipped);
    let (result, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert_eq!(result.unwrap_err().kind, FailureKind::ReplyTooLarge);
    assert!(conn.closed().await);
}

/// P-06, P-09: once the manager has answered, a 401 is its own; gateway errors are the core's to judge.
#[tokio::test]
async fn p06_after_the_manager_has_answered() {
    let proxy = Peer::new().await;
    let url = Url::parse("http://cm.invalid:5280/b").unwrap();
    let client = client(url, &via("http", proxy.address()));
    let first = counted("x");
    let (result, mut conn) = tokio::join!(client.exchange(ask()), proxy.answer(&first));
    assert!(result.is_ok());
    for status in [401, 403, 502, 503, 504] {
        let reply = format!(
            "HTTP/1.1 {status} No\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno"
        );
        let served = async {
            conn.request().await;
            conn.send(reply.as_bytes()).await;
        };
        let (result, ()) = tokio::join!(client.exchange(ask()), served);
        assert_eq!(result.unwrap().status, status);
    }
    let served = async {
        conn.request().await;
        conn.send(b"2OO\r\n\r\n").await;
    };
    let (result, ()) = tokio::join!(client.exchange(ask()), served);
    assert_eq!(result.unwrap_err().kind, FailureKind::NoReply);
}
