//! Each fault does what it says.

use std::io::Read as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use xbosh_testkit::cm::{Cm, Fault, Profile, Rule, When};
use xbosh_testkit::xmpp::Server;

use crate::bosh::{Bosh, creation, manager, message, post, post_with};

async fn with(fault: Fault) -> (Server, Cm, Bosh) {
    let (server, cm) = manager(Profile::strict()).await;
    let client = Bosh::bound(&cm, "user").await;
    cm.script(Rule::once(When::Payload, fault));
    (server, cm, client)
}

/// Sends a request, and reads until this text has come or the connection ends.
async fn raw(cm: &Cm, body: &str, until: &str) -> Vec<u8> {
    let mut stream = tokio::net::TcpStream::connect(cm.addr()).await.unwrap();
    let request = format!(
        "POST /http-bind HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    while !String::from_utf8_lossy(&reply).contains(until) {
        match stream.read_buf(&mut reply).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    reply
}

/// Lost before: the manager never sees it. Lost after: it does, and a repeat is answered from the store.
#[tokio::test]
async fn requests_and_answers_are_lost() {
    for (fault, processed) in [
        (Fault::LoseRequest, 0),
        (Fault::Reset, 0),
        (Fault::LoseAnswer, 1),
        (Fault::Vanish, 1),
        (Fault::Truncate(60), 1),
        (Fault::ResetAt(60), 1),
    ] {
        let told = format!("{fault:?}");
        let (server, cm, mut client) = with(fault).await;
        let body = client.next("", &message("echo@localhost", "hi"));
        assert!(post(cm.addr(), body.clone()).await.is_err(), "{told}");
        crate::bosh::until(|| server.received("user@localhost").len() == processed).await;
        assert!(post(cm.addr(), body).await.unwrap().has("hi"), "{told}");
        assert_eq!(server.received("user@localhost").len(), 1, "{told}");
        assert_eq!(cm.violations(), Vec::<String>::new(), "{told}");
    }
}

#[tokio::test]
async fn forms_of_replies() {
    let cases: Vec<(Fault, &[&str])> = vec![
        (
            Fault::Close,
            &["HTTP/1.1 200 OK\r\n", "Connection: close\r\n"],
        ),
        (Fault::Http10, &["HTTP/1.0 200 OK\r\n"]),
        (
            Fault::Interim,
            &["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"],
        ),
        (
            Fault::Chunked,
            &["Transfer-Encoding: chunked\r\n", "\r\n0\r\n\r\n"],
        ),
        (
            Fault::LowerCase,
            &["content-type: text/xml", "content-length: "],
        ),
        (
            Fault::ContentType("text/plain"),
            &["Content-Type: text/plain\r\n"],
        ),
        (Fault::Headers("X-Odd: 1\r\n".to_owned()), &["X-Odd: 1\r\n"]),
        (
            Fault::Attributes("report='5' time='7'".to_owned()),
            &["<body report='5' time='7' xmlns="],
        ),
        (Fault::comment(), &["<!-- hidden --></body>"]),
        (Fault::entity_bomb(), &["<!DOCTYPE body", "&c;"]),
        (Fault::wrong_namespace(), &["urn:example:other"]),
        (
            Fault::zero_bytes(),
            &["HTTP/1.1 200 OK\r\n", "Content-Length: 0\r\n\r\n"],
        ),
        (
            Fault::page("502 Bad Gateway"),
            &["HTTP/1.1 502 Bad Gateway\r\n", "Content-Type: text/html"],
        ),
        (
            Fault::retry_after("503 Service Unavailable", 7),
            &["Retry-After: 7\r\n"],
        ),
        (
            Fault::redirect("307 Temporary Redirect", "http://x/"),
            &["Location: http://x/\r\n"],
        ),
        (Fault::RecoverableError, &["type='error'"]),
        (
            Fault::terminate("system-shutdown"),
            &["type='terminate' condition='system-shutdown'"],
        ),
        (
            Fault::terminate_twice("other-request", "<x xmlns='y'/>"),
            &["<x xmlns='y'/></body>"],
        ),
        (
            Fault::see_other_uri("https://a/"),
            &["<uri>https://a/</uri>"],
        ),
        (Fault::Raw(b"junk".to_vec()), &["junk"]),
    ];
    for (fault, texts) in cases {
        let told = format!("{fault:?}");
        let (_server, cm, mut client) = with(fault).await;
        let body = client.next("", &message("echo@localhost", "hi"));
        let reply = raw(&cm, &body, texts.last().copied().unwrap_or_default()).await;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        for text in texts {
            assert!(reply.contains(text), "{told}: {reply}");
        }
    }
}

#[tokio::test]
async fn compressed_replies() {
    for (fault, length) in [
        (Fault::Gzip, None),
        (Fault::GzipBomb(5_000_000), Some(5_000_000)),
    ] {
        let (_server, cm, mut client) = with(fault).await;
        let body = client.next("", &message("echo@localhost", "hi"));
        let mut stream = tokio::net::TcpStream::connect(cm.addr()).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        let inflated = loop {
            assert!(stream.read_buf(&mut reply).await.unwrap() > 0);
            let Some(at) = reply.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            assert!(String::from_utf8_lossy(&reply[..at]).contains("Content-Encoding: gzip"));
            let mut text = String::new();
            if flate2::read::GzDecoder::new(&reply[at + 4..])
                .read_to_string(&mut text)
                .is_ok()
            {
                break text;
            }
        };
        match length {
            Some(length) => {
                assert!(inflated.len() > length && reply.len() < length / 100);
            }
            None => assert!(inflated.contains("hi")),
        }
    }
}

/// The connection is kept, and gone on the next byte; the request did not reach the manager.
#[tokio::test]
async fn a_kept_connection_closes_at_the_next_request() {
    let (_server, cm, mut client) = with(Fault::CloseAtNext).await;
    let mut stream = tokio::net::TcpStream::connect(cm.addr()).await.unwrap();
    for (round, expected) in [(0, "200 OK"), (1, "")] {
        let body = client.next("", &message("echo@localhost", "hi"));
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = vec![0; 4096];
        let count = stream.read(&mut reply).await.unwrap_or(0);
        assert!(
            String::from_utf8_lossy(&reply[..count]).contains(expected),
            "{round}"
        );
        assert_eq!(count == 0, round == 1);
    }
    assert!(
        !cm.posts()
            .iter()
            .any(|p| p.attribute("rid") == Some(client.rid.to_string()))
    );
}

/// Answer n+1 before n.
#[tokio::test]
async fn an_answer_overtakes_another() {
    let (_server, cm, mut client) = with(Fault::AfterNext).await;
    let first = client
        .start(&cm, "", &message("echo@localhost", "one"))
        .await;
    let second = client.send("", &message("echo@localhost", "two")).await;
    assert!(second.has("two"));
    assert!(first.await.unwrap().unwrap().has("one"));
}

/// A middle box cuts a long poll; the manager still holds it.
#[tokio::test(start_paused = true)]
async fn a_long_poll_is_cut() {
    let (_server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    cm.script(Rule::once(
        When::Empty,
        Fault::CutPoll(Duration::from_secs(30)),
    ));
    let body = client.next("", "");
    let began = tokio::time::Instant::now();
    assert_eq!(post(cm.addr(), body.clone()).await.unwrap().status, 504);
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(post(cm.addr(), body).await.unwrap().is_empty());
}

/// Sessions behind a balancer are known by its cookie.
#[tokio::test]
async fn cookies_are_demanded() {
    let (_server, cm) = manager(Profile::strict()).await;
    cm.demand_cookie();
    let reply = post(cm.addr(), creation(1000)).await.unwrap();
    assert!(
        reply.headers["set-cookie"]
            .to_str()
            .unwrap()
            .starts_with("node=a")
    );
    let body = Bosh {
        addr: cm.addr(),
        sid: reply.attribute("sid").unwrap(),
        rid: 1000,
    }
    .next("", "<iq xmlns='jabber:client' type='get' id='1'/>");
    assert_eq!(post(cm.addr(), body.clone()).await.unwrap().status, 404);
    assert!(
        post_with(cm.addr(), body, &[("Cookie", "node=a")])
            .await
            .unwrap()
            .has("<iq")
    );
}

/// Rules by place, rid and chance.
#[tokio::test]
async fn rules_choose_their_requests() {
    let (_server, cm) = manager(Profile::strict()).await;
    cm.script(Rule::once(When::Offset(2), Fault::page("500 A")));
    cm.script(Rule::once(When::Nth(4), Fault::page("501 B")));
    cm.script(Rule::always(When::Terminate, Fault::page("502 C")));
    let (mut client, _) = Bosh::create(&cm).await;
    let iq = "<iq xmlns='jabber:client' type='get' id='1'/>";
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let body = client.next("", iq);
        let mut reply = post(cm.addr(), body.clone()).await.unwrap();
        while reply.status != 200 {
            statuses.push(reply.status);
            reply = post(cm.addr(), body.clone()).await.unwrap();
        }
        statuses.push(200);
    }
    statuses.push(client.send("type='terminate'", "").await.status);
    assert_eq!(statuses, [200, 500, 501, 200, 200, 502]);
    let chance = |seed| {
        let rule = Rule::always(When::PerMille { chance: 300, seed }, Fault::Silence);
        format!("{rule:?}")
    };
    assert_eq!(chance(7), chance(7));
}

/// A session that is ended by a fault is gone, and what it held is answered.
#[tokio::test]
async fn a_scripted_end_ends_the_session() {
    let (server, cm, mut client) = with(Fault::terminate("system-shutdown")).await;
    let poll = client.start(&cm, "", "").await;
    cm.poll_is_held().await;
    client
        .send("", &message("echo@localhost", "hi"))
        .await
        .assert_terminated("system-shutdown");
    assert!(poll.await.unwrap().unwrap().is_empty());
    assert_eq!((cm.sessions(), server.online().len()), (0, 0));
}
