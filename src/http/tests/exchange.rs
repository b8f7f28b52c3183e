//! Requests, replies and connections as they should be.

use std::time::Duration;

use super::*;
use crate::bosh::failure::FailureKind;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// B-01, B-02, B-03, B-04, B-07, B-08, P-05, P-07: the request byte for byte; the URL's query is kept, its
/// fragment is not.
#[tokio::test]
async fn b01_request_bytes() {
    let peer = Peer::new().await;
    let mut url = peer.url();
    url.set_query(Some("token=a%20b&room=x"));
    url.set_fragment(Some("nothing"));
    let client = client(url, &direct());
    let served = async {
        let mut conn = peer.accept().await;
        let request = conn.request().await;
        conn.send(&counted("x")).await;
        (request, conn.ahead.len())
    };
    let (reply, ((head, body), ahead)) = tokio::join!(client.exchange(ask()), served);
    assert_eq!(reply.unwrap().status, 200);
    assert_eq!(ahead, 0);
    assert_eq!(body, BODY.as_bytes());
    let at = peer.address();
    assert_eq!(
        head,
        format!(
            "POST /http-bind?token=a%20b&room=x HTTP/1.1\r\nhost: {at}\r\n\
             content-type: text/xml; charset=utf-8\r\ncache-control: no-store\r\npragma: no-cache\r\n\
             accept-encoding: gzip\r\nuser-agent: xbosh/{VERSION}\r\ncontent-length: {}\r\n\r\n",
            BODY.len()
        )
    );
}

/// B-02, B-03, B-06, B-07: every framing, interim replies, lower-case and foreign headers, any type.
#[tokio::test]
async fn b02_reply_framings() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\n<body/>",
        "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-type: application/octet-stream\r\n\r\n<body/>",
        "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<bo\r\n4;x=y\r\ndy/>\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\n<body/>\r\n0\r\nX-Trailer: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<body/>",
        "HTTP/1.1 200 OK\r\n\r\n<body/>",
        "HTTP/1.0 200 OK\r\n\r\n<body/>",
        "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n<body/>",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<body/>",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<body/>",
    ] {
        let got = once(reply.as_bytes()).await;
        let got = got.unwrap_or_else(|failure| panic!("{reply:?}: {failure:?}"));
        assert_eq!(
            (got.status, &got.body[..]),
            (200, &b"<body/>"[..]),
            "{reply:?}"
        );
    }
}

/// B-07, T-35: a redirect is not followed and its `Location` is kept; statuses and `Retry-After` come through.
#[tokio::test]
async fn t35_statuses_come_through() {
    let got = once(b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 2\r\n\r\nhi").await;
    let got = got.unwrap();
    assert_eq!((got.status, got.location.as_deref()), (302, Some("/else")));
    assert_eq!(&got.body[..], b"hi");
    let got = once(b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n").await;
    let got = got.unwrap();
    assert_eq!(
        (got.status, got.retry_after),
        (503, Some(Duration::from_secs(120)))
    );
    let date = b"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(once(date).await.unwrap().retry_after, None);
    for empty in ["204 No Content\r\n", "200 OK\r\nContent-Length: 0\r\n"] {
        let got = once(format!("HTTP/1.1 {empty}\r\n").as_bytes())
            .await
            .unwrap();
        assert!(got.body.is_empty() && got.status / 100 == 2, "{empty}");
    }
    // A manager asks for no proxy login: without a proxy its words are its own.
    let got = once(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(got.unwrap().status, 407);
}

/// B-04: a gzip reply is inflated in every framing, and its connection is kept.
#[tokio::test]
async fn b04_gzip() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let gzip = faults::gzip(b"<body/>");
    let mut counted = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        gzip.len()
    )
    .into_bytes();
    counted.extend_from_slice(&gzip);
    let mut chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        gzip.len()
    )
    .into_bytes();
    chunked.extend_from_slice(&gzip);
    chunked.extend_from_slice(b"\r\n0\r\n\r\n");
    let served = async {
        let mut conn = peer.accept().await;
        for reply in [&counted, &chunked, &counted] {
            conn.request().await;
            conn.send(reply).await;
        }
        conn
    };
    let asked = async {
        for _ in 0..3 {
            let got = client.exchange(ask()).await.unwrap();
            assert_eq!(&got.body[..], b"<body/>");
        }
    };
    tokio::join!(asked, served);
}

async fn many_on_one(count: usize) {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let served = tokio::spawn(async move {
        let mut connections = 0;
        let mut requests = 0;
        while requests < count {
            let mut conn = peer.accept().await;
            connections += 1;
            while requests < count && !conn.request().await.0.is_empty() {
                requests += 1;
                let reply = if requests % 2 == 0 {
                    counted("<body/>")
                } else {
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
                        .to_vec()
                };
                conn.send(&reply).await;
            }
        }
        connections
    });
    for _ in 0..count {
        assert_eq!(client.exchange(ask()).await.unwrap().status, 200);
    }
    assert_eq!(served.await.unwrap(), 1);
}

/// B-06: 1000 exchanges one after another need one connection.
#[tokio::test]
async fn b06_one_connection_for_many_exchanges() {
    many_on_one(1000).await;
}

/// B-06: the same with threads that race.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b06_one_connection_for_many_exchanges_on_threads() {
    many_on_one(1000).await;
}

/// B-05: two at once use two connections, and nothing follows a request before its reply.
#[tokio::test]
async fn b05_two_at_once_use_two_connections() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let served = async {
        let (mut one, mut two) = (peer.accept().await, peer.accept().await);
        for _ in 0..3 {
            one.request().await;
            two.request().await;
            assert!(one.ahead.is_empty() && two.ahead.is_empty());
            two.send(&counted("2")).await;
            one.send(&counted("1")).await;
        }
        (one, two)
    };
    let asked = async {
        for _ in 0..3 {
            let (a, b) = tokio::join!(client.exchange(ask()), client.exchange(ask()));
            assert!(a.is_ok() && b.is_ok());
        }
    };
    tokio::join!(asked, served);
}

/// B-06, P-08: whatever says that it closes is not used again, even if it then does not close.
#[tokio::test]
async fn b06_closing_connections_are_not_reused() {
    for reply in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let peer = Peer::new().await;
        let client = client(peer.url(), &direct());
        let mut open = Vec::new();
        for _ in 0..5 {
            let (result, conn) =
                tokio::join!(client.exchange(ask()), peer.answer(reply.as_bytes()));
            assert_eq!(result.unwrap().status, 200);
            open.push(conn);
        }
    }
}

/// A fresh connection is a new one even if a kept one is at hand.
#[tokio::test]
async fn fresh_means_new() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (result, _kept) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
    let (result, _new) = tokio::join!(client.exchange(ask_fresh()), peer.answer(&reply));
    assert!(result.is_ok());
}

/// A session at rest is a held request: it keeps no room for what only others need.
#[tokio::test]
async fn an_idle_session_is_small() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    // The second is boxed in the first.
    let held =
        size_of_val(&client.exchange(ask())) + size_of_val(&Arc::clone(&client.pool).send(ask()));
    assert!(held < 3 * 1024, "{held} bytes for a held request");
}

/// What an idle connection's peer did has been seen.
async fn until_none_is_kept(client: &SessionClient) {
    let seen = async {
        while !client.pool.kept.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), seen)
        .await
        .unwrap();
}

/// T-31: nobody is woken by the end of a connection that is idle; it is seen when the next request wants one.
#[tokio::test]
async fn t31_an_idle_connection_that_ends_is_not_used() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (result, conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
    assert!(!client.pool.kept.is_empty());
    conn.finish().await;
    until_none_is_kept(&client).await;
    let count = Count::default();
    let (result, _new) = tokio::join!(client.exchange(ask_counted(&count)), peer.answer(&reply));
    assert!(result.is_ok());
    assert_eq!(count.get(), 1);
}

/// What an idle connection says without being asked is no reply to the next request.
#[tokio::test]
async fn unasked_bytes_spoil_a_connection() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let twice = [counted("x"), counted("forged")].concat();
    let (result, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&twice));
    assert_eq!(result.unwrap().body, "x");
    assert!(client.pool.kept.is_empty());
    assert!(conn.closed().await);
    let reply = counted("y");
    let (result, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
    conn.send(&counted("forged")).await;
    until_none_is_kept(&client).await;
    let reply = counted("z");
    let (result, _new) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert_eq!(result.unwrap().body, "z");
}

/// T-31: a kept connection is used up to 30 s, not later.
#[tokio::test]
async fn t31_idle_connections_age() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let reply = counted("x");
    let (result, mut conn) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(29)).await;
    tokio::time::resume();
    let again = async {
        conn.request().await;
        conn.send(&reply).await;
        conn
    };
    let (result, mut conn) = tokio::join!(client.exchange(ask()), again);
    assert!(result.is_ok());
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let (result, _new) = tokio::join!(client.exchange(ask()), peer.answer(&reply));
    assert!(result.is_ok());
    assert!(conn.closed().await);
}

/// P-11: three connections are kept, a fourth is closed.
#[tokio::test]
async fn p11_kept_connections_are_bounded() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let served = async {
        let mut conns = Vec::new();
        for _ in 0..4 {
            conns.push(peer.accept().await);
        }
        for conn in &mut conns {
            conn.request().await;
        }
        for conn in &mut conns {
            conn.send(&counted("x")).await;
        }
        conns
    };
    let asked = async {
        tokio::join!(
            client.exchange(ask()),
            client.exchange(ask()),
            client.exchange(ask()),
            client.exchange(ask())
        )
    };
    let (_, mut conns) = tokio::join!(asked, served);
    let closing = conns.iter_mut().map(|conn| Box::pin(conn.closed()));
    let (closed, _, open) = futures_util::future::select_all(closing).await;
    assert!(closed);
    assert_eq!(open.len(), 3);
    drop(client);
    assert!(
        futures_util::future::join_all(open)
            .await
            .iter()
            .all(|closed| *closed)
    );
}

/// B-09, P-11: cookies come back on every connection of the session and on no other session's.
#[tokio::test]
async fn b09_cookies_belong_to_the_session() {
    let peer = Peer::new().await;
    let (one, two) = (client(peer.url(), &direct()), client(peer.url(), &direct()));
    let set = b"HTTP/1.1 200 OK\r\nSet-Cookie: node=a; Path=/; HttpOnly\r\nset-cookie: t=1\r\nContent-Length: 0\r\n\r\n";
    let (_, mut kept) = tokio::join!(one.exchange(ask()), peer.answer(set));
    let reused = async {
        let (head, _) = kept.request().await;
        kept.send(&counted("x")).await;
        head
    };
    let (_, head) = tokio::join!(one.exchange(ask()), reused);
    assert!(head.contains("\r\ncookie: node=a; t=1\r\n"), "{head}");
    for (client, with) in [(&one, true), (&two, false)] {
        let served = async {
            let mut conn = peer.accept().await;
            let (head, _) = conn.request().await;
            conn.send(&counted("x")).await;
            head
        };
        let (result, head) = tokio::join!(client.exchange(ask_fresh()), served);
        assert!(result.is_ok());
        assert_eq!(head.contains("\r\ncookie: node=a; t=1\r\n"), with, "{head}");
    }
}

/// E-50: nobody listens.
#[tokio::test]
async fn e50_refused() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &direct());
    let at = peer.address();
    drop(peer);
    let failure = client.exchange(ask()).await.unwrap_err();
    assert_eq!(
        (failure.kind, failure.sent),
        (FailureKind::CmUnreachable, false)
    );
    assert_eq!(
        failure.text,
        format!(
            "cannot connect to the BOSH server {at}: connection refused; check the network and the url of this domain"
        )
    );
}

/// B-73: neither bodies nor cookies in any `Debug` text.
#[tokio::test]
async fn b73_debug_shows_no_secrets() {
    let peer = Peer::new().await;
    let client = client(peer.url(), &via("http", peer.address()));
    let reply = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=s3cret\r\nContent-Length: 6\r\n\r\ns3cret";
    let request = ExchangeRequest {
        body: Bytes::from_static(b"s3cret"),
        ..ask()
    };
    let mut shown = format!("{request:?}");
    let (result, _conn) = tokio::join!(client.exchange(request), peer.answer(reply));
    shown.push_str(&format!(
        "{client:?} {result:?} {:?}",
        ClientOptions::default()
    ));
    shown.push_str(&format!("{:?}", Target::new(peer.url())));
    assert!(
        !shown.contains("s3cret") && !shown.contains("dXNlcjpzM2NyZXQ"),
        "{shown}"
    );
}
