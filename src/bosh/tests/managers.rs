//! What single managers do differently, and what proxies make of that (cm-quirks sections 4, 5 and 9).

use super::*;

const TIGASE: &str =
    "wait='30' requests='2' hold='1' inactivity='10' maxpause='10' polling='10' host='h' ver='1.6'";

/// T-08, XEP-0352: Prosody may leave an answer on a connection that it paused for an inactive client.
#[test]
fn t08_paused_connections_of_inactive_clients() {
    let prosody =
        "wait='55' requests='2' hold='1' inactivity='60' polling='5' authid='s1' ver='1.6'";
    for (attributes, inactive, limit) in [
        (prosody, true, 1_000),
        (prosody, false, 15_000),
        (
            "wait='55' requests='2' hold='1' inactivity='60' ver='1.6'",
            true,
            15_000,
        ),
    ] {
        let (mut rig, poll) = Rig::bound_with(attributes);
        if inactive {
            rig.session.client_is_inactive();
        }
        rig.say("<m/>");
        rig.sent();
        rig.pass(Duration::from_millis(limit - 100));
        assert_eq!(rig.aborts(), [], "{attributes}");
        rig.pass(Duration::from_millis(200));
        assert_eq!(rig.aborts(), [poll.key], "{attributes}");
        assert_eq!(rig.sent().body, poll.body);
    }
}

/// cm-quirks 4.1: on ejabberd a request that may be parked is not repeated beside an unanswered older one.
#[test]
fn t37_ejabberd_never_sees_a_parked_request_twice() {
    let ejabberd = "wait='55' requests='2' hold='1' inactivity='30' polling='2' ver='1.11' xmpp:restartlogic='true' xmlns:xmpp='urn:xmpp:xbosh'";
    let (mut rig, poll) = Rig::bound_with(ejabberd);
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(second.key);
    rig.lose(poll.key);
    let again = rig.sent();
    assert_eq!(again.key.rid, poll.key.rid);
    rig.pass(Duration::from_secs(5));
    assert!(rig.request().is_none());
    rig.empty(again.key);
    assert_eq!(rig.sent().key.rid, second.key.rid);
}

/// T-38, cm-quirks 4.3: ejabberd may answer a repeat with that request's own stanzas; they are not delivered,
/// what is really for the client is.
#[test]
fn t38_own_stanzas_do_not_come_back() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<message xmlns='jabber:client' id='m1' to='b@example.org'><body>own</body></message>");
    let second = rig.sent();
    rig.empty(poll.key);
    rig.lose(second.key);
    let again = rig.sent();
    rig.reply(
        again.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s1' rid='1000002'>\
         <message xmlns='jabber:client' to='b@example.org' id='m1'><body>own</body></message>\
         <message xmlns='jabber:client' from='b@example.org' to='a@example.org' id='m1'><body>theirs</body></message></body>",
    );
    assert_eq!(rig.events(), ["message m1"]);
    // An unmarked reply is taken as it is.
    rig.say("<message xmlns='jabber:client' id='m2' to='a@example.org'/>");
    let third = rig.sent();
    rig.payload(
        third.key,
        "<message xmlns='jabber:client' id='m2' to='a@example.org'/>",
    );
    assert_eq!(rig.events(), ["message m2"]);
}

/// cm-quirks 4.4: Openfire keeps no answer to a restart. It holds the repeat like a poll, or answers it empty: either
/// way a restart under a new rid brings the features.
#[test]
fn openfire_is_asked_for_another_restart() {
    let openfire = "wait='55' requests='2' hold='1' inactivity='30' polling='5' authid='s1' maxpause='300' ver='1.6'";
    let lost = || {
        let mut rig = Rig::open_with(openfire);
        rig.session.restart();
        let restart = rig.sent();
        rig.lose(restart.key);
        let again = rig.sent();
        assert_eq!(again.body, restart.body);
        (rig, again)
    };
    let (mut rig, again) = lost();
    rig.pass(Duration::from_millis(1900));
    rig.nothing_to_send();
    rig.pass(Duration::from_millis(100));
    let another = rig.sent();
    assert_eq!(attribute(&another, "xmpp:restart").as_deref(), Some("true"));
    assert_eq!(another.key.rid.0, again.key.rid.0 + 1);
    rig.nothing_to_send();
    rig.payload(another.key, "<features id='f'/>");
    rig.pass(Duration::from_secs(2));
    let release = rig.sent();
    assert!(attribute(&release, "xmpp:restart").is_none());
    rig.empty(again.key);
    assert_eq!(rig.events(), ["features f"]);

    let (mut rig, again) = lost();
    rig.empty(again.key);
    let another = rig.sent();
    assert_eq!(attribute(&another, "xmpp:restart").as_deref(), Some("true"));
    rig.payload(another.key, "<features id='f'/>");
    assert_eq!(rig.events(), ["features f"]);

    // Others keep it, and a restart too many is held for as long as a poll.
    let mut rig = Rig::open_with(PROSODY);
    rig.session.restart();
    let restart = rig.sent();
    rig.lose(restart.key);
    let again = rig.sent();
    rig.pass(Duration::from_secs(4));
    rig.nothing_to_send();
    rig.payload(again.key, "<features id='f'/>");
    assert_eq!(rig.events(), ["features f"]);
}

/// cm-quirks 4.1: Tigase works on requests as they arrive: while one with payload is unanswered the next does
/// not go out; an empty one makes Tigase answer it.
#[test]
fn tigase_gets_one_request_with_payload_at_a_time() {
    let (mut rig, poll) = Rig::bound_with(TIGASE);
    rig.say("<m>1</m>");
    let first = rig.sent();
    rig.empty(poll.key);
    rig.say("<m>2</m>");
    let release = rig.sent();
    assert!(text(&release).ends_with("/>"));
    rig.nothing_to_send();
    rig.empty(first.key);
    assert!(text(&rig.sent()).contains("<m>2</m>"));

    // It never arrived: it goes again, and before the next.
    let (mut rig, poll) = Rig::bound_with(TIGASE);
    rig.say("<m>1</m>");
    let first = rig.sent();
    rig.empty(poll.key);
    rig.lose(first.key);
    rig.say("<m>2</m>");
    assert_eq!(rig.sent().body, first.body);
}

/// B-61, cm-quirks 4.1: a client goes while Tigase holds a request with payload, and what it said last takes more
/// than one: an empty request makes Tigase answer, else nothing would go out until patience ends.
#[test]
fn b61_tigase_gets_everything_before_the_end() {
    let (mut rig, poll) = Rig::bound_with(TIGASE);
    rig.say("<m>1</m>");
    let first = rig.sent();
    rig.empty(poll.key);
    let alone = Bytes::from_static(b"<m>2</m>");
    rig.session.send(alone, PayloadClass::Alone);
    rig.say("<m>3</m>");
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let release = rig.sent();
    assert!(text(&release).ends_with("/>"));
    rig.empty(first.key);
    let second = rig.sent();
    assert!(text(&second).ends_with("<m>2</m></body>"));
    rig.empty(release.key);
    let release = rig.sent();
    rig.empty(second.key);
    let last = rig.sent();
    assert!(text(&last).ends_with("type='terminate'><m>3</m></body>"));
    rig.empty(release.key);
    rig.reply(
        last.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate'/>",
    );
    assert_eq!(rig.events(), ["closed: terminated, confirmed true"]);
}

/// S-43: a manager that ends the session instead of taking the older request has not taken the newer one either,
/// though it has answered that. Openfire does so when `wait` is over, and had only queued it (found by the simulation).
#[test]
fn s43_nothing_is_confirmed_behind_a_request_that_was_refused() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m>1</m>");
    let second = rig.sent();
    rig.empty(second.key);
    rig.reply(poll.key, GONE);
    assert_eq!(rig.events(), ["closed: item-not-found None []"]);
    assert_eq!(rig.confirmed, 0);
}

/// cm-quirks section 9: Tigase keeps no answers: what the repeat of an older request brings is newer than the
/// reply that is parked behind it.
#[test]
fn tigase_answers_are_in_order_of_time() {
    let (mut rig, poll) = Rig::bound_with(TIGASE);
    rig.say("<m/>");
    let second = rig.sent();
    rig.payload(second.key, "<message id='a'/>");
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.lose(poll.key);
    assert_eq!(rig.events(), ["message a"]);
    assert_eq!(rig.confirmed, 1);
    let again = rig.sent();
    rig.payload(again.key, "<message id='b'/>");
    assert_eq!(rig.events(), ["message b"]);
}

/// P-10, T-38: a proxy sent the request twice: ejabberd's answer to the second copy is the request itself.
#[test]
fn t38_a_proxys_repeat_is_echoed_too() {
    let (mut rig, poll) = Rig::bound_with(
        "wait='55' requests='2' hold='1' inactivity='30' polling='2' ver='1.11' xmlns:xmpp='urn:xmpp:xbosh' xmpp:restartlogic='true'",
    );
    rig.say("<message xmlns='jabber:client' to='b@x' id='own'><body>hi</body></message>");
    let carrier = rig.sent();
    rig.empty(poll.key);
    let rid = carrier.key.rid;
    rig.reply(carrier.key, &format!("<body xmlns='{NS_HTTPBIND}' sid='s1' rid='{rid}'><message xmlns='jabber:client' to='b@x' id='own'><body>hi</body></message></body>"));
    assert_eq!(rig.events(), Vec::<String>::new());
}

/// P-10: what shows that something on the way repeats requests: ejabberd's mark of a repeat on the answer to a
/// request that was sent once, or its recoverable error.
#[test]
fn p10_a_repeat_of_the_ways_own_is_noticed() {
    let ejabberd = "wait='25' requests='2' hold='1' inactivity='30' polling='2' ver='1.11' xmlns:xmpp='urn:xmpp:xbosh' xmpp:restartlogic='true'";
    let (mut rig, poll) = Rig::bound_with(ejabberd);
    let rid = poll.key.rid;
    let marked = format!("<body xmlns='{NS_HTTPBIND}' sid='s1' rid='{rid}'/>");
    rig.reply(poll.key, &marked);
    assert!(rig.session.way().repeats);

    let (mut rig, poll) = Rig::bound_with(ejabberd);
    rig.reply(
        poll.key,
        &format!("<body xmlns='{NS_HTTPBIND}' type='error'/>"),
    );
    assert!(rig.session.way().repeats);

    // Our own repeat.
    let (mut rig, poll) = Rig::bound_with(ejabberd);
    rig.lose(poll.key);
    let again = rig.sent();
    rig.reply(again.key, &marked);
    assert!(!rig.session.way().repeats);
}

/// B-61, found by the simulation: a third request makes Prosody take in what it has put aside, past the one that is
/// missing. So the requests under way are repeated before the end exceeds the window.
#[test]
fn b61_prosody_gets_what_is_missing_before_the_end() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m>1</m>");
    let lost = rig.sent();
    rig.say("<m>2</m>");
    rig.session.terminate(Duration::from_secs(5), rig.now);
    rig.pass(Duration::from_millis(1900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(100));
    assert_eq!(rig.aborts(), [poll.key, lost.key]);
    let repeats = [rig.sent(), rig.sent()];
    assert_eq!(repeats[0].body, poll.body);
    assert_eq!(repeats[1].body, lost.body);
    rig.empty(repeats[0].key);
    assert!(text(&rig.sent()).contains("type='terminate'><m>2</m>"));

    // Nothing helps: two seconds more, and it goes.
    let (mut rig, _poll) = Rig::bound_with(PROSODY);
    rig.say("<m>1</m>");
    rig.sent();
    rig.session.terminate(Duration::from_secs(5), rig.now);
    rig.pass(Duration::from_secs(2));
    let _ = (rig.sent(), rig.sent());
    rig.pass(Duration::from_millis(1900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(100));
    assert!(text(&rig.sent()).contains("type='terminate'"));
}
