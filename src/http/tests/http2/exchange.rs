//! Exchanges as streams: what goes out, what comes back, and how much of it.

use std::time::Duration;

use super::*;
use crate::bosh::failure::FailureKind;

/// B-01, B-02, B-04, B-07, B-08, RFC 9113 section 8.3: one POST is one stream, with the headers of HTTP/1.1 but
/// those that name the connection.
#[tokio::test]
async fn b07_request_over_http2() {
    let mut manager = Manager::new().await;
    let (connector, sharing) = (manager.connector(), Sharing::default());
    let mut url = manager.url();
    url.set_query(Some("token=a%20b"));
    let options = ClientOptions::default();
    let client = SessionClient::sharing(Target::new(url.clone()), connector, options, &sharing);
    let written = Count::default();
    let served = async {
        let mut asked = manager.asked().await;
        let body = asked.read().await;
        let head = asked.head.clone();
        asked.answer("<body/>").await;
        (head, body)
    };
    let (reply, (head, body)) = tokio::join!(client.exchange(ask_counted(&written)), served);
    assert_eq!(reply.unwrap().status, 200);
    assert_eq!(written.get(), 1);
    assert_eq!(body, BODY.as_bytes());
    assert_eq!(
        (head.method, head.version),
        (http::Method::POST, http::Version::HTTP_2)
    );
    assert_eq!(head.uri.to_string(), url.as_str());
    let mut headers: Vec<String> = head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            "accept-encoding: gzip".to_owned(),
            "cache-control: no-store".to_owned(),
            format!("content-length: {}", BODY.len()),
            "content-type: text/xml; charset=utf-8".to_owned(),
            "pragma: no-cache".to_owned(),
            concat!("user-agent: xbosh/", env!("CARGO_PKG_VERSION")).to_owned(),
        ]
    );
}

/// B-07: where the manager does not know HTTP/2, or it is not wanted, everything is as ever.
#[tokio::test]
async fn b07_http1_where_http2_is_not_spoken() {
    let mut manager = Manager::new().await;
    let client = SessionClient::new(
        Target::new(manager.url()),
        manager.connector(),
        ClientOptions {
            http2: false,
            ..ClientOptions::default()
        },
    );
    for _ in 0..3 {
        assert_eq!(client.exchange(ask()).await.unwrap().status, 200);
    }
    assert_eq!(manager.connections(), 1);
    assert!(manager.asked.try_recv().is_err(), "not by HTTP/2");
}

/// B-04: gzip is inflated over HTTP/2 too.
#[tokio::test]
async fn b04_gzip_over_http2() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    let zipped = faults::gzip(b"<body>zipped</body>");
    let served = async {
        let mut asked = manager.asked().await;
        asked.read().await;
        let response = Response::builder().header("content-encoding", "x-gzip");
        let response = response.body(()).unwrap();
        let mut sending = asked.respond.send_response(response, false).unwrap();
        sending.send_data(zipped.into(), true).unwrap();
        asked
    };
    let (reply, _asked) = tokio::join!(client.exchange(ask()), served);
    assert_eq!(&reply.unwrap().body[..], b"<body>zipped</body>");
}

/// T-37: a request counts as written once the peer has made room for its last byte, and not before.
#[tokio::test]
async fn t37_written_means_written_over_http2() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    let written = Count::default();
    let body = Bytes::from(vec![b'x'; 300_000]);
    let request = ExchangeRequest {
        body: body.clone(),
        ..ask_counted(&written)
    };
    let asking = tokio::spawn(client.exchange(request));
    let mut asked = manager.asked().await;
    // As much as the window lets through, and nothing more for as long as nobody reads.
    let mut read = 0;
    while read < 65_535 {
        read += asked.body.data().await.unwrap().unwrap().len();
    }
    assert_eq!((read, written.get()), (65_535, 0));
    asked.body.flow_control().release_capacity(read).unwrap();
    assert_eq!(asked.read().await.len(), body.len() - read);
    // Its last byte is here, so it has been written.
    assert_eq!(written.get(), 1);
    asked.answer("<body/>").await;
    assert_eq!(asking.await.unwrap().unwrap().status, 200);
}

/// E-67: replies are bounded by what they announce, by what comes, and by what they inflate to; the connection
/// and its other streams go on.
#[tokio::test]
async fn e67_large_replies_over_http2() {
    let mut manager = Manager::new().await;
    let (connector, sharing) = (manager.connector(), Sharing::default());
    let options = ClientOptions {
        max_response_bytes: 1000,
        ..ClientOptions::default()
    };
    let client = SessionClient::sharing(Target::new(manager.url()), connector, options, &sharing);
    let (held, waiting) = manager.held(&client).await;
    let bomb = faults::gzip(&[b'x'; 100_000]);
    for (name, value, body) in [
        ("content-length", "1001", vec![]),
        ("x", "y", vec![b'x'; 1001]),
        ("content-encoding", "gzip", bomb),
    ] {
        let served = async {
            let mut asked = manager.asked().await;
            let response = Response::builder().header(name, value).body(()).unwrap();
            let sending = asked.begin(response, body).await;
            assert_eq!(given_up(sending).await, Reason::CANCEL, "{name}");
        };
        let (result, ()) = tokio::join!(client.exchange(ask()), served);
        let failure = result.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ReplyTooLarge, "{failure:?}");
    }
    waiting.answer("<body/>").await;
    assert!(held.await.unwrap().is_ok());
    assert_eq!(manager.connections(), 1);
}

/// E-67: so are heads.
#[tokio::test]
async fn e67_large_heads_over_http2() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    let served = async {
        let asked = manager.asked().await;
        let mut headers = HeaderMap::new();
        for n in 0..80 {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            headers.insert(name, "v".repeat(1000).parse().unwrap());
        }
        asked.answer_with(&headers, "<body/>").await;
    };
    let (result, ()) = tokio::join!(client.exchange(ask()), served);
    let failure = result.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::NoReply, true));
    assert_eq!(
        manager.answered(&client, ask()).await,
        0,
        "only the stream is lost"
    );
}

/// T-31: a shared connection without a stream is used up to 30 s, not later.
#[tokio::test]
async fn t31_idle_shared_connections_age() {
    let mut manager = Manager::new().await;
    let [client] = manager.sessions();
    for (seconds, connection) in [(0, 0), (29, 0), (31, 1)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        assert_eq!(manager.answered(&client, ask()).await, connection);
    }
    manager.closed(0).await;
}

/// P-11: with its last session a connection ends.
#[tokio::test]
async fn p11_shared_connections_end_with_the_last_session() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    manager.answered(&one, ask()).await;
    manager.answered(&two, ask()).await;
    drop(one);
    assert_eq!(manager.answered(&two, ask()).await, 0);
    drop(two);
    manager.closed(0).await;
}
