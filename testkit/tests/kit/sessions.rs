//! XEP-0124 and XEP-0206 by the letter.

use std::time::Duration;

use tokio::time::Instant;
use xbosh_testkit::cm::{Cm, Profile};

use crate::bosh::{Bosh, creation, creation_with, manager, message, post};

fn assert_faithful(cm: &Cm) {
    assert_eq!(cm.violations(), Vec::<String>::new());
}

/// XEP-0124 section 7.2: what the creation reply says.
#[tokio::test]
async fn creation_grants_what_was_asked() {
    let (_server, cm) = manager(Profile::strict()).await;
    let reply = post(cm.addr(), creation_with(77, "wait='20' hold='1' ack='1'"))
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "text/xml; charset=utf-8");
    for (name, value) in [
        ("wait", "20"),
        ("hold", "1"),
        ("requests", "2"),
        ("inactivity", "60"),
        ("polling", "5"),
        ("ver", "1.6"),
        ("from", "localhost"),
        ("ack", "77"),
    ] {
        assert_eq!(reply.attribute(name).as_deref(), Some(value), "{name}");
    }
    assert!(reply.attribute("sid").unwrap().len() >= 32);
    assert!(reply.has("<mechanism>SCRAM-SHA-256</mechanism>"));
    assert_faithful(&cm);
}

/// XEP-0124 section 17.2: sessions that are refused.
#[tokio::test]
async fn creation_is_refused() {
    let (_server, cm) = manager(Profile::strict()).await;
    let other = creation(1).replace("to='localhost'", "to='elsewhere'");
    post(cm.addr(), other)
        .await
        .unwrap()
        .assert_terminated("host-unknown");
    let nowhere = creation(1).replace("to='localhost'", "");
    post(cm.addr(), nowhere)
        .await
        .unwrap()
        .assert_terminated("improper-addressing");
    post(cm.addr(), "<body".to_owned())
        .await
        .unwrap()
        .assert_terminated("bad-request");
    let unknown = creation(1).replace("to='localhost'", "sid='nobody'");
    post(cm.addr(), unknown)
        .await
        .unwrap()
        .assert_terminated("item-not-found");
    assert_eq!(cm.sessions(), 0);
}

/// XEP-0124 section 8: a poll is held until something comes, and the oldest answers.
#[tokio::test]
async fn a_poll_is_held_until_something_comes() {
    let (server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let poll = client.start(&cm, "", "").await;
    cm.poll_is_held().await;
    assert!(!poll.is_finished());
    assert!(server.inject(
        "user@localhost/r",
        "<message from='x'><body>hello</body></message>"
    ));
    let reply = poll.await.unwrap().unwrap();
    assert!(
        reply.has("<message xmlns='jabber:client' from='x'>"),
        "{reply:?}"
    );
    assert_faithful(&cm);
}

/// XEP-0124 section 8: no more requests are held than agreed.
#[tokio::test]
async fn a_second_request_releases_the_first() {
    let (_server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let first = client.start(&cm, "", "").await;
    let second = client
        .start(&cm, "", &message("other@localhost/none", "x"))
        .await;
    // The bounce comes back on the older request.
    let reply = first.await.unwrap().unwrap();
    assert!(reply.has("service-unavailable"), "{reply:?}");
    let third = client
        .start(&cm, "", &message("echo@localhost", "hi"))
        .await;
    let reply = second.await.unwrap().unwrap();
    assert!(reply.has("<body>hi</body>"), "{reply:?}");
    let last = client.send("type='terminate'", "").await;
    assert!(last.is_empty(), "{last:?}");
    third.await.unwrap().unwrap().assert_terminated("");
    assert_eq!(cm.sessions(), 0);
    assert_faithful(&cm);
}

/// A held request is answered empty after `wait`, on the paused clock.
#[tokio::test(start_paused = true)]
async fn wait_runs_out() {
    let (_server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let began = Instant::now();
    let reply = client.send("", "").await;
    assert!(reply.is_empty(), "{reply:?}");
    assert_eq!(began.elapsed().as_secs(), 60);
}

/// XEP-0124 section 10: silence ends the session, and its client goes offline.
#[tokio::test(start_paused = true)]
async fn inactivity_ends_the_session() {
    let (server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(server.online(), ["user@localhost/r"]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((server.online().len(), cm.sessions()), (0, 0));
    client
        .send("", "")
        .await
        .assert_terminated("item-not-found");
}

/// XEP-0124 section 14.3: a repeat gets the stored answer, and nothing is processed twice.
#[tokio::test]
async fn a_repeat_gets_the_stored_answer() {
    let (server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let body = client.next("", &message("echo@localhost", "once"));
    let first = post(cm.addr(), body.clone()).await.unwrap();
    let second = post(cm.addr(), body).await.unwrap();
    assert!(first.has("once"));
    assert_eq!(first.body, second.body);
    assert_eq!(server.received("user@localhost").len(), 1);
    assert_faithful(&cm);
}

/// XEP-0124 section 14.3: the older copy of a held request gets a recoverable condition.
#[tokio::test]
async fn a_repeat_of_a_held_request_takes_over() {
    let (server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let body = client.next("", "");
    let first = client.start_body(&cm, body.clone()).await;
    cm.poll_is_held().await;
    let second = client.start_body(&cm, body).await;
    assert_eq!(
        first.await.unwrap().unwrap().attribute("type").as_deref(),
        Some("error")
    );
    assert!(server.inject("user@localhost/r", "<presence/>"));
    assert!(second.await.unwrap().unwrap().has("<presence"));
    assert_faithful(&cm);
}

/// XEP-0124 section 14.2: what came too early waits, and is processed in order.
#[tokio::test]
async fn early_requests_wait_for_their_turn() {
    let (server, cm) = manager(Profile::strict()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let one = client.next("", &message("echo@localhost", "one"));
    let two = client.next("", &message("echo@localhost", "two"));
    let second = client.start_body(&cm, two).await;
    let first = client.start_body(&cm, one).await;
    let reply = first.await.unwrap().unwrap();
    assert!(reply.body.find("one") < reply.body.find("two"), "{reply:?}");
    assert!(server.inject("user@localhost/r", "<presence/>"));
    assert!(second.await.unwrap().unwrap().has("<presence"));
    let texts = server.received("user@localhost/r");
    assert!(
        texts[0].contains("one") && texts[1].contains("two"),
        "{texts:?}"
    );
    assert_faithful(&cm);
}

/// XEP-0124 section 14.2, section 14.3: a rid out of the window, or out of the buffer, ends the session.
#[tokio::test]
async fn wrong_rids_end_the_session() {
    for rid in [1000 + 20, 900] {
        let (_server, cm) = manager(Profile::strict()).await;
        let (client, _) = Bosh::create(&cm).await;
        post(cm.addr(), client.body(rid, "", ""))
            .await
            .unwrap()
            .assert_terminated("item-not-found");
        assert_eq!(cm.sessions(), 0);
    }
}

/// cm-quirks 4.5: a stream error ends the session on the held request, or waits for the next one.
#[tokio::test]
async fn the_servers_end_is_told() {
    for held in [true, false] {
        let (server, cm) = manager(Profile::strict()).await;
        let mut client = Bosh::bound(&cm, "user").await;
        let reply = if held {
            let poll = client.start(&cm, "", "").await;
            cm.poll_is_held().await;
            assert!(server.kick("user@localhost/r", "conflict"));
            poll.await.unwrap().unwrap()
        } else {
            assert!(server.kick("user@localhost/r", "conflict"));
            client.send("", "").await
        };
        reply.assert_terminated("remote-stream-error");
        assert!(reply.has("<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"));
        assert_eq!(cm.sessions(), 0);
    }
}

/// XEP-0124 section 11: polling sessions answer at once.
#[tokio::test]
async fn polling_sessions_answer_at_once() {
    let (_server, cm) = manager(Profile::strict()).await;
    let (mut client, reply) = Bosh::create_with(&cm, "wait='0' hold='0'").await;
    assert_eq!(reply.attribute("hold").as_deref(), Some("0"));
    client.log_in("user").await;
    assert!(
        client
            .send("", &message("echo@localhost", "hi"))
            .await
            .has("hi")
    );
    let poll = client.send("", "").await;
    assert!(poll.is_empty(), "{poll:?}");
}

/// XEP-0124 section 15.4: keys are checked against the chain.
#[tokio::test]
async fn keys_are_checked() {
    use sha1::{Digest as _, Sha1};
    let hash = |text: &str| {
        Sha1::digest(text.as_bytes())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let (_server, cm) = manager(Profile::strict()).await;
    let chain = [
        hash("seed"),
        hash(&hash("seed")),
        hash(&hash(&hash("seed"))),
    ];
    let (mut client, _) =
        Bosh::create_with(&cm, &format!("wait='0' hold='0' newkey='{}'", chain[2])).await;
    assert!(
        client
            .send(
                &format!("key='{}'", chain[1]),
                "<iq xmlns='jabber:client' type='get' id='1'/>"
            )
            .await
            .has("not-authorized")
    );
    assert_faithful(&cm);
    client
        .send(&format!("key='{}'", chain[1]), "")
        .await
        .assert_terminated("item-not-found");
}

/// Benchmarks do not keep what they send; faults and the oracle go on.
#[tokio::test]
async fn posts_need_not_be_kept() {
    let (_server, cm) = manager(Profile::strict()).await;
    cm.keep_no_posts();
    let (mut client, _) = Bosh::create(&cm).await;
    client
        .send("wait='1'", "<iq xmlns='jabber:client' type='get' id='1'/>")
        .await;
    assert_eq!((cm.posts().len(), cm.violations().len()), (0, 1));
}
