//! The end of a session, from either side.

use super::*;

/// B-61: everything queued goes first, the last of it inside the terminate request.
#[test]
fn b61_last_payload_rides_with_terminate() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<presence type='unavailable'/>");
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let terminate = rig.sent();
    assert!(text(&terminate).contains("type='terminate'><presence type='unavailable'/></body>"));
    rig.nothing_to_send();
    // B-62, T-06: the older request brings a message; the terminate's own reply is empty.
    rig.empty(terminate.key);
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.reply(poll.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate'><message id='last'/></body>");
    assert_eq!(
        rig.events(),
        ["message last", "closed: terminated, confirmed true"]
    );
}

/// S-43, B-63: a session that is unknown by the time of its end may have been gone before: what went with the
/// terminate request is not confirmed.
#[test]
fn s43_a_404_to_the_end_confirms_nothing() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<presence type='unavailable'/>");
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let terminate = rig.sent();
    rig.answer(terminate.key, 404, "");
    rig.answer(poll.key, 404, "");
    assert_eq!(rig.events(), ["closed: terminated, confirmed false"]);
    assert_eq!(rig.confirmed, 0);
}

/// B-61: the terminate request waits up to 2 s for a free slot, then exceeds the window by one.
#[test]
fn b61_terminate_waits_for_a_slot() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    rig.sent();
    rig.say("<m2/>");
    rig.session.terminate(Duration::from_secs(5), rig.now);
    rig.pass(Duration::from_millis(1900));
    assert!(rig.request().is_none());
    rig.empty(poll.key);
    let terminate = rig.sent();
    assert!(text(&terminate).contains("type='terminate'><m2/>"));

    let (mut rig, _poll) = Rig::bound();
    rig.say("<m/>");
    rig.sent();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    rig.pass(Duration::from_millis(2100));
    assert!(text(&rig.sent()).contains("type='terminate'/>"));
}

/// B-61: payload that does not fit one body is flushed before.
#[test]
fn b61_flushes_more_than_one_body() {
    let (mut rig, poll) = Rig::bound();
    let stanza = format!("<m>{}</m>", "x".repeat(40_000));
    rig.say(&stanza);
    rig.say(&stanza);
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let first = rig.sent();
    assert!(!text(&first).contains("terminate"));
    rig.empty(poll.key);
    let last = rig.sent();
    assert!(text(&last).contains("type='terminate'><m>"));
}

/// B-62: replies are waited for only so long.
#[test]
fn b62_the_wait_is_bounded() {
    let (mut rig, _poll) = Rig::bound();
    rig.session.terminate(Duration::from_secs(2), rig.now);
    rig.sent();
    rig.pass(Duration::from_millis(1900));
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.events(), ["closed: terminated, confirmed false"]);
    assert_eq!(rig.aborts().len(), 2);
}

/// B-63: a terminate whose reply was lost is repeated; item-not-found to that means done.
#[test]
fn b63_repeated_terminate() {
    let (mut rig, poll) = Rig::bound();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let terminate = rig.sent();
    rig.empty(poll.key);
    rig.lose(terminate.key);
    let again = rig.sent();
    assert_eq!(again.body, terminate.body);
    rig.reply(again.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='item-not-found'/>");
    assert_eq!(rig.events(), ["closed: terminated, confirmed true"]);

    // The first copy is answered so: the session was gone before, and what it carried may be lost.
    for (status, body) in [
        (404, "gone"),
        (
            200,
            "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='item-not-found'/>",
        ),
    ] {
        let (mut rig, poll) = Rig::bound();
        rig.session.terminate(Duration::from_secs(5), rig.now);
        let terminate = rig.sent();
        rig.empty(poll.key);
        rig.answer(terminate.key, status, body);
        assert_eq!(rig.events(), ["closed: terminated, confirmed false"]);
    }
}

/// B-61, B-62: also a terminate request that cannot go out ends the session in bounded time; while the queue
/// drains, however slowly, it goes on.
#[test]
fn b61_the_end_is_bounded_in_an_outage() {
    let (mut rig, poll) = Rig::bound();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    rig.fail(poll.key, FailureKind::CmUnreachable, false);
    let from = rig.now;
    while rig.events().is_empty() {
        rig.pass(Duration::from_millis(100));
        while let Some(request) = rig.request() {
            rig.fail(request.key, FailureKind::CmUnreachable, false);
        }
    }
    let took = rig.now - from;
    assert!(
        took >= Duration::from_secs(6) && took <= Duration::from_secs(8),
        "{took:?}"
    );

    let (mut rig, mut held) = Rig::bound();
    let stanza = format!("<m>{}</m>", "x".repeat(40_000));
    for _ in 0..20 {
        rig.say(&stanza);
    }
    rig.session.terminate(Duration::from_secs(5), rig.now);
    for n in 0..20 {
        let request = rig.sent();
        assert_eq!(text(&request).contains("type='terminate'"), n == 19);
        rig.pass(Duration::from_secs(4));
        rig.empty(held.key);
        held = request;
    }
    rig.empty(held.key);
    assert_eq!(rig.events(), ["closed: terminated, confirmed true"]);
}

/// cm-quirks 4.7: MongooseIM ends held requests with HTTP 200 and no byte.
#[test]
fn b62_zero_bytes_after_terminate() {
    let (mut rig, poll) = Rig::bound();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let terminate = rig.sent();
    rig.reply(poll.key, "");
    rig.reply(
        terminate.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate'/>",
    );
    assert_eq!(rig.events(), ["closed: terminated, confirmed true"]);
}

/// cm-quirks 4.7: ejabberd's `other-request` after our own terminate is not an error.
#[test]
fn b62_other_request_after_own_terminate() {
    let (mut rig, poll) = Rig::bound();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let terminate = rig.sent();
    rig.reply(poll.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='other-request'/>");
    rig.reply(
        terminate.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate'/>",
    );
    assert_eq!(rig.events(), ["closed: terminated, confirmed true"]);
}

/// B-57, C-14: the manager's terminate delivers its payload, then ends the session.
#[test]
fn b57_terminate_with_payload() {
    let (mut rig, poll) = Rig::bound();
    rig.reply(poll.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate'><message xmlns='jabber:client' id='a'/></body>");
    assert_eq!(rig.events(), ["message a", "closed: ended"]);
    rig.nothing_to_send();
    assert_eq!(rig.session.poll_timeout(), None);
}

/// B-57, C-01 to C-13: every condition in a live session; an unknown one and the odd `terminal` too.
#[test]
fn b57_every_condition() {
    for condition in crate::bosh::condition::BindingCondition::ALL {
        let (mut rig, poll) = Rig::bound();
        rig.reply(poll.key, &format!("<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='{condition}'/>"));
        assert_eq!(rig.events(), [format!("closed: {condition} None []")]);
    }
    let (mut rig, poll) = Rig::bound();
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminal' condition='rain'/>",
    );
    assert_eq!(rig.events(), ["closed: undefined-condition None []"]);
}

/// B-57, C-07: the terminate on one request waits for what the others say: payload in rid order, the better
/// reason wins.
#[test]
fn c07_the_cause_comes_from_another_reply() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.reply(second.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='other-request'/>");
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.reply(poll.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='policy-violation'><message xmlns='jabber:client' id='a'/></body>");
    assert_eq!(
        rig.events(),
        ["message a", "closed: policy-violation None []"]
    );
}

/// C-07: nothing else comes within 2 s.
#[test]
fn c07_no_other_reply() {
    let (mut rig, _poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.reply(second.key, "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='other-request'/>");
    rig.pass(Duration::from_millis(1900));
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.events(), ["closed: other-request None []"]);
}

/// a transported stream error comes with the reason; stanzas before it are delivered.
#[test]
fn x18_remote_stream_error() {
    let (mut rig, poll) = Rig::bound();
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams' type='terminate' \
         condition='remote-stream-error'><message xmlns='jabber:client' id='a'/><stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></body>",
    );
    assert_eq!(
        rig.events(),
        ["message a", "closed: remote-stream-error None [\"error\"]"]
    );
}

/// cm-quirks section 6: ejabberd's terminate with doubled attributes is read all the same.
#[test]
fn b57_terminate_with_doubled_attributes() {
    let (mut rig, poll) = Rig::bound();
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='remote-stream-error' type='terminate' condition='remote-stream-error'/>",
    );
    assert_eq!(rig.events(), ["closed: remote-stream-error None []"]);
}

/// T-05: leaving before there is a session waits for nothing.
#[test]
fn t05_leaving_during_creation() {
    let mut rig = Rig::new();
    let creation = rig.sent();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    assert_eq!(rig.events(), ["closed: terminated, confirmed false"]);
    assert_eq!(rig.aborts(), [creation.key]);
}

/// C-11: in mid-session the new address is told along with the end.
#[test]
fn c11_see_other_uri_in_mid_session() {
    let (mut rig, poll) = Rig::bound();
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='see-other-uri'><uri>https://new.example/b</uri></body>",
    );
    assert_eq!(
        rig.events(),
        [
            "moved https://new.example/b",
            "closed: see-other-uri None []"
        ]
    );
}

/// C-08: the last requests and their times are there for the log.
#[test]
fn c08_last_sends() {
    let (mut rig, _poll) = Rig::bound();
    rig.pass(Duration::from_secs(2));
    rig.say("<m/>");
    rig.sent();
    rig.pass(Duration::from_secs(3));
    let sends: Vec<_> = rig
        .session
        .last_sends(rig.now)
        .iter()
        .map(|(request, age)| (*request, age.as_secs()))
        .collect();
    assert_eq!(sends, [(0, 5), (1, 5), (2, 3)]);
}
