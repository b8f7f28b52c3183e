//! What real managers do otherwise (cm-quirks).

use xbosh_testkit::cm::{Fault, Profile, Rule, When};

use crate::bosh::{Bosh, creation, manager, message, post};

/// cm-quirks section 3: each is known by its creation reply.
#[tokio::test]
async fn creation_replies_tell_them_apart() {
    for (profile, there, absent, features) in [
        (
            Profile::prosody(),
            vec!["ver='1.6'", "polling='5'"],
            vec!["maxpause", "restartlogic"],
            true,
        ),
        (
            Profile::ejabberd(),
            vec!["restartlogic='true'", "ver='1.11'", "polling='2'"],
            vec![],
            true,
        ),
        (
            Profile::mongooseim(),
            vec!["accept='deflate, gzip'"],
            vec![" ver=", "polling", "authid"],
            true,
        ),
        (
            Profile::openfire(),
            vec!["maxpause='300'", "polling='5'", "ack='1000'"],
            vec!["restartlogic"],
            true,
        ),
        (
            Profile::tigase(),
            vec!["host=", "maxpause='10'", "inactivity='10'", "wait='30'"],
            vec![],
            false,
        ),
        (
            Profile::punjab(),
            vec!["window=", "polling='15'"],
            vec![" ver="],
            true,
        ),
        (
            Profile::node_xmpp_bosh(),
            vec!["stream='stream1'"],
            vec!["xmlns:stream"],
            false,
        ),
    ] {
        let (_server, cm) = manager(profile).await;
        let reply = post(cm.addr(), creation(1000)).await.unwrap();
        for text in there {
            assert!(reply.has(text), "{text}: {reply:?}");
        }
        for text in absent {
            assert!(!reply.has(text), "{text}: {reply:?}");
        }
        assert_eq!(reply.has("<stream:features>"), features, "{reply:?}");
    }
}

/// Rule 9: features that come late come with the first poll.
#[tokio::test]
async fn late_features_come_with_the_first_poll() {
    let (_server, cm) = manager(Profile::tigase()).await;
    let (mut client, _) = Bosh::create(&cm).await;
    assert!(client.send("", "").await.has("<mechanisms"));
    client.log_in("user").await;
}

/// Rule 10: on Prosody a poll that slips in takes the features, and the restart gets none.
#[tokio::test(start_paused = true)]
async fn prosody_gives_the_features_to_any_request() {
    let (_server, cm) = manager(Profile::prosody()).await;
    let (mut client, _) = Bosh::create(&cm).await;
    let auth =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHVzZXIAc2VjcmV0</auth>";
    assert!(client.send("", auth).await.has("<success"));
    assert!(client.send("", "").await.has("xmpp-bind"));
    assert!(cm.violations()[0].contains("X-14"));
    assert!(client.restart().await.attribute("sid").is_some());
}

/// Rule 7: ejabberd wants the restart letter by letter, and answers others after `wait`.
#[tokio::test(start_paused = true)]
async fn ejabberd_reads_the_restart_by_its_letters() {
    let (_server, cm) = manager(Profile::ejabberd()).await;
    let (mut client, _) = Bosh::create(&cm).await;
    let auth =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHVzZXIAc2VjcmV0</auth>";
    assert!(client.send("", auth).await.has("<success"));
    let odd = client
        .send(
            "xmlns:x='urn:xmpp:xbosh' to='localhost' xml:lang='en' x:restart='true'",
            "",
        )
        .await;
    assert!(odd.is_empty(), "{odd:?}");
    assert!(client.restart().await.has("xmpp-bind"));
}

/// 4.1: the overtaken pair stalls until the missing request is answered with payload.
#[tokio::test(start_paused = true)]
async fn ejabberd_stalls_on_an_overtaken_pair() {
    let (server, cm) = manager(Profile::ejabberd()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let first = client.next("", &message("other@localhost", "lost"));
    let second = client.next("", &message("echo@localhost", "second"));
    server.configure(|options| options.offline = true);
    let late = client.start_body(&cm, second.clone()).await;
    let early = client.start_body(&cm, first).await;
    cm.poll_is_held().await;
    assert!(server.inject("user@localhost/r", "<presence/>"));
    assert!(early.await.unwrap().unwrap().has("<presence"));
    assert!(
        late.await.unwrap().unwrap().has("second"),
        "payload on the missing one heals"
    );

    let first = client.next("", &message("other@localhost", "lost"));
    let second = client.next("", &message("echo@localhost", "never"));
    let late = client.start_body(&cm, second.clone()).await;
    let early = client.start_body(&cm, first).await;
    assert!(
        early.await.unwrap().unwrap().is_empty(),
        "empty at the end of wait"
    );
    assert!(!late.is_finished());
    post(cm.addr(), second)
        .await
        .unwrap()
        .assert_terminated("internal-server-error");
    late.await
        .unwrap()
        .unwrap()
        .assert_terminated("other-request");
}

/// 4.3: a repeat of a held request comes back with the client's own stanzas.
#[tokio::test]
async fn ejabberd_sends_own_stanzas_back() {
    let (server, cm) = manager(Profile::ejabberd()).await;
    server.configure(|options| options.offline = true);
    let mut client = Bosh::bound(&cm, "user").await;
    let body = client.next("", &message("other@localhost", "own"));
    let old = client.start_body(&cm, body.clone()).await;
    cm.poll_is_held().await;
    let new = client.start_body(&cm, body).await;
    assert!(old.await.unwrap().unwrap().is_empty());
    let rid = client.rid;
    let _next = client.start(&cm, "", "").await;
    let reply = new.await.unwrap().unwrap();
    assert_eq!(reply.attribute("rid"), Some(rid.to_string()));
    assert!(reply.has("own"), "{reply:?}");
    assert_eq!(
        server.received("user@localhost").len(),
        1,
        "yet it is not processed twice"
    );
}

/// 4.2: after two dead copies the third gets the empty answer, and the stanza is found by asking once more.
#[tokio::test]
async fn three_copies_of_one_rid() {
    let (server, cm) = manager(Profile::ejabberd()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    cm.script(Rule::times(When::Empty, 2, Fault::Vanish));
    let body = client.next("", "");
    assert!(post(cm.addr(), body.clone()).await.is_err());
    cm.poll_is_held().await;
    assert!(post(cm.addr(), body.clone()).await.is_err());
    let third = post(cm.addr(), body.clone()).await.unwrap();
    assert!(third.is_empty(), "{third:?}");
    assert!(server.inject(
        "user@localhost/r",
        "<message><body>in danger</body></message>"
    ));
    let next = client.start(&cm, "", "").await;
    let again = loop {
        let again = post(cm.addr(), body.clone()).await.unwrap();
        if !again.is_empty() {
            break again;
        }
    };
    assert!(again.has("in danger"), "{again:?}");
    next.abort();
}

/// Sections 8, 9 and 10: HTTP codes in the place of terminate bodies.
#[tokio::test]
async fn http_codes_for_unknown_sessions() {
    for (profile, status, length) in [
        (Profile::openfire(), 404, None),
        (Profile::tigase(), 404, None),
        (Profile::punjab(), 404, Some(0)),
    ] {
        let (_server, cm) = manager(profile).await;
        let unknown = creation(1).replace("to='localhost'", "sid='nobody'");
        let reply = post(cm.addr(), unknown).await.unwrap();
        assert_eq!(reply.status, status);
        assert!(
            length.is_none_or(|length| reply.body.len() == length),
            "{reply:?}"
        );
    }
    let (_server, cm) = manager(Profile::mongooseim()).await;
    assert_eq!(
        post(cm.addr(), "<body".to_owned()).await.unwrap().status,
        500
    );
    let (_server, cm) = manager(Profile::ejabberd()).await;
    assert_eq!(
        post(cm.addr(), "<body".to_owned()).await.unwrap().status,
        400
    );
}

/// 4.7: how the end is told to the request that was held.
#[tokio::test]
async fn ends_differ() {
    for (profile, held, own) in [
        (Profile::prosody(), Some(""), Some("")),
        (Profile::ejabberd(), Some("other-request"), Some("")),
        (Profile::openfire(), Some(""), None),
    ] {
        let (_server, cm) = manager(profile).await;
        let mut client = Bosh::bound(&cm, "user").await;
        let poll = client.start(&cm, "", "").await;
        cm.poll_is_held().await;
        let last = client.send("type='terminate'", "").await;
        let poll = poll.await.unwrap().unwrap();
        match held {
            Some(condition) => poll.assert_terminated(condition),
            None => assert!(poll.is_empty(), "{poll:?}"),
        }
        match own {
            Some(condition) => last.assert_terminated(condition),
            None => assert!(last.is_empty(), "{last:?}"),
        }
    }
    let (_server, cm) = manager(Profile::mongooseim()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let poll = client.start(&cm, "", "").await;
    cm.poll_is_held().await;
    assert_eq!(client.send("type='terminate'", "").await.body, "");
    poll.await.unwrap().unwrap().assert_terminated("");
}

/// Section 9: Tigase takes requests as they come, and stores nothing.
#[tokio::test]
async fn tigase_keeps_no_order() {
    let (server, cm) = manager(Profile::tigase()).await;
    let mut client = Bosh::bound(&cm, "user").await;
    let one = client.next("", &message("echo@localhost", "one"));
    let two = client.next("", &message("echo@localhost", "two"));
    assert!(post(cm.addr(), two).await.unwrap().has("two"));
    assert!(post(cm.addr(), one.clone()).await.unwrap().has("one"));
    let again = client.start_body(&cm, one).await;
    cm.poll_is_held().await;
    assert_eq!(
        server.received("user@localhost").len(),
        2,
        "a repeat is a poll"
    );
    again.abort();
}

/// Section 8: on Openfire the restart is answered by itself, the older poll stays held.
#[tokio::test]
async fn openfire_answers_the_restart_apart() {
    let (_server, cm) = manager(Profile::openfire()).await;
    let (mut client, _) = Bosh::create(&cm).await;
    let poll = client.start(&cm, "", "").await;
    cm.poll_is_held().await;
    let auth =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHVzZXIAc2VjcmV0</auth>";
    let second = client.start(&cm, "", auth).await;
    assert!(poll.await.unwrap().unwrap().has("<success"));
    assert!(client.restart().await.has("xmpp-bind"));
    assert!(!second.is_finished());
}
