//! Who shares a connection, and who does not (P-11).

use std::collections::HashMap;

use super::*;
use crate::bosh::failure::FailureKind;
use crate::config::Tls;

/// P-11, B-09: two sessions, one connection; each has cookies of its own.
#[tokio::test]
async fn p11_sessions_share_a_connection_but_no_cookies() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    let served = async {
        let mut headers = HeaderMap::new();
        headers.insert("set-cookie", "node=a; Path=/".parse().unwrap());
        let asked = manager.asked().await;
        asked.answer_with(&headers, "<body/>").await;
    };
    assert_eq!(one.http_version(), None);
    assert!(tokio::join!(one.exchange(ask()), served).0.is_ok());
    assert_eq!((one.http_version(), two.http_version()), (Some("2"), None));
    for (session, cookie) in [(&two, None), (&one, Some("node=a")), (&two, None)] {
        let served = async {
            let asked = manager.asked().await;
            let cookie = asked.head.headers.get("cookie").cloned();
            assert_eq!(asked.connection, 0);
            asked.answer("<body/>").await;
            cookie
        };
        let (reply, got) = tokio::join!(session.exchange(ask()), served);
        assert!(reply.is_ok());
        assert_eq!(got.as_ref().map(|c| c.to_str().unwrap()), cookie);
    }
    assert_eq!(manager.connections(), 1);
}

/// P-11: many that begin at once wait for the one connection that is being opened.
#[tokio::test]
async fn p11_one_connection_for_all_who_wait() {
    let mut manager = Manager::new().await;
    let sessions: [SessionClient; 20] = manager.sessions();
    let asking: Vec<_> = sessions
        .iter()
        .map(|session| tokio::spawn(session.exchange(ask())))
        .collect();
    let mut all = Vec::new();
    for _ in &sessions {
        all.push(manager.asked().await);
    }
    for asked in all {
        asked.answer("<body/>").await;
    }
    for asking in asking {
        assert!(asking.await.unwrap().is_ok());
    }
    assert_eq!(manager.connections(), 1);
}

/// P-11: whoever began to open it may leave without harm to those who wait.
#[tokio::test]
async fn p11_the_first_may_leave() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    let mut first = Box::pin(one.exchange(ask()));
    // It has begun to connect.
    assert!(waits(&mut first).await);
    let mut second = Box::pin(two.exchange(ask()));
    assert!(waits(&mut second).await);
    drop(first);
    let served = async { manager.asked().await.answer("<body/>").await };
    assert!(tokio::join!(second, served).0.is_ok());
    assert_eq!(manager.connections(), 1);
}

/// P-11, RFC 9113 section 5.1.2: never more streams than the peer allows, on as many connections as that takes.
#[tokio::test]
async fn p11_no_more_streams_than_allowed() {
    let mut manager = Manager::allowing(2).await;
    let sessions: [SessionClient; 7] = manager.sessions();
    let asking: Vec<_> = sessions
        .iter()
        .map(|session| tokio::spawn(session.exchange(ask())))
        .collect();
    let mut on = HashMap::<usize, Vec<Asked>>::new();
    for _ in &sessions {
        let asked = manager.asked().await;
        on.entry(asked.connection).or_default().push(asked);
    }
    assert!(on.values().all(|asked| asked.len() <= 2));
    assert_eq!(manager.connections(), 4);
    for asked in on.into_values().flatten() {
        asked.answer("<body/>").await;
    }
    for asking in asking {
        assert!(asking.await.unwrap().is_ok(), "none was refused");
    }
}

/// P-11: a peer that allows none is a failure, and not an endless loop.
#[tokio::test]
async fn p11_no_streams_at_all() {
    let manager = Manager::allowing(0).await;
    let [one] = manager.sessions();
    let first = one.exchange(ask());
    let result = tokio::time::timeout(std::time::Duration::from_secs(60), first).await;
    let failure = result.unwrap().unwrap_err();
    assert!(!failure.sent, "{failure:?}");
    assert_eq!(failure.kind, FailureKind::CmUnreachable);
}

/// P-11: without HTTP/2 every session has connections of its own, though HTTP/2 was offered.
#[tokio::test]
async fn p11_nothing_is_shared_over_http1() {
    let authority = Authority::new();
    let acceptor = authority.server_http1("127.0.0.1");
    let manager = Manager::showing(authority, vec![acceptor], 100).await;
    let sessions: [SessionClient; 3] = manager.sessions();
    for round in 1..=3 {
        let all = sessions.iter().map(|session| session.exchange(ask()));
        for reply in futures_util::future::join_all(all).await {
            assert_eq!(&reply.unwrap().body[..], b"<body/>");
        }
        assert_eq!(manager.connections(), 3, "round {round}");
    }
    assert_eq!(sessions[0].http_version(), Some("1.1"));
}

/// P-11, P-20: other trust, other credentials, isolation, another path on the same origin.
#[tokio::test]
async fn p11_what_keeps_sessions_apart() {
    let mut manager = Manager::new().await;
    let sharing = Sharing::default();
    let base = manager.connector();
    let one = manager.session(&base, &sharing);
    assert_eq!(manager.answered(&one, ask()).await, 0);
    let reread = manager.session(&manager.connector(), &sharing);
    assert_eq!(manager.answered(&reread, ask()).await, 1);
    let isolating = config::Proxy {
        isolate: true,
        ..direct()
    };
    let isolating = Connector::new(&isolating, &manager.authority.tls()).unwrap();
    for expected in [2, 3] {
        let session = manager.session(&isolating.isolated(), &sharing);
        assert_eq!(manager.answered(&session, ask()).await, expected);
        assert_eq!(manager.answered(&session, ask()).await, expected);
    }
    let mut url = manager.url();
    url.set_path("/other");
    let options = ClientOptions::default();
    let other_path = SessionClient::sharing(Target::new(url), base.clone(), options, &sharing);
    assert_eq!(manager.answered(&other_path, ask()).await, 0, "one origin");
}

/// P-11: a certificate for the host serves all domains; one for a domain only that domain's sessions.
#[tokio::test]
async fn p11_a_certificate_must_be_good_for_both() {
    let mut manager = Manager::new().await;
    let (base, sharing) = (manager.connector(), Sharing::default());
    let both =
        ["a.example", "b.example"].map(|name| manager.session(&base.named(domain(name)), &sharing));
    for session in &both {
        assert_eq!(manager.answered(session, ask()).await, 0);
    }
    let authority = Authority::new();
    let acceptors = vec![authority.server("a.example"), authority.server("127.0.0.1")];
    let mut manager = Manager::showing(authority, acceptors, 100).await;
    let (base, sharing) = (manager.connector(), Sharing::default());
    let [a, also_a, b] = ["a.example", "a.example", "b.example"]
        .map(|name| manager.session(&base.named(domain(name)), &sharing));
    assert_eq!(manager.answered(&a, ask()).await, 0);
    assert_eq!(manager.answered(&also_a, ask()).await, 0);
    assert_eq!(manager.answered(&b, ask()).await, 1);
}

/// B-72, P-11: who wants one certificate for the whole session uses no connection that showed another.
#[tokio::test]
async fn b72_one_certificate_over_http2() {
    let authority = Authority::new();
    let acceptors = vec![authority.server("127.0.0.1"), authority.server("127.0.0.1")];
    let mut manager = Manager::showing(authority, acceptors, 100).await;
    let strict = Tls {
        same_certificate: true,
        ..manager.authority.tls()
    };
    let connector = Connector::new(&direct(), &strict).unwrap();
    let sharing = Sharing::default();
    let one = manager.session(&connector, &sharing);
    assert_eq!(manager.answered(&one, ask()).await, 0);
    manager.order(0, Order::Die);
    manager.closed(0).await;
    let two = manager.session(&connector, &sharing);
    assert_eq!(manager.answered(&two, ask()).await, 1);
    let failure = one.exchange(ask()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::TlsCertificateChanged);
    assert_eq!(manager.answered(&two, ask()).await, 1, "no harm to others");
}

/// T-32: after a sleep, or a change of the network, the shared connection carries nothing new for anybody.
#[tokio::test]
async fn t32_renewal_retires_the_shared_connection() {
    let mut manager = Manager::new().await;
    let [one, two] = manager.sessions();
    let (held, waiting) = manager.held(&two).await;
    assert!(!one.renew(false), "the address is still there");
    assert_eq!(manager.answered(&one, ask()).await, 0);
    assert!(one.renew(true));
    assert_eq!(manager.answered(&one, ask()).await, 1);
    let gone = |local: Option<_>| local == Some(std::net::Ipv4Addr::LOCALHOST.into());
    assert!(two.pool.renew(gone), "its poll may wait in vain");
    waiting.answer("<body/>").await;
    assert!(
        held.await.unwrap().is_ok(),
        "what was under way may end well"
    );
    manager.closed(0).await;
    assert_eq!(manager.answered(&two, ask()).await, 2);
}
