//! Odd moments: what came together that seldom does.

use super::*;
use crate::bosh::FailureKind;

const EJABBERD: &str = "wait='55' requests='2' hold='1' inactivity='30' polling='2' ver='1.6' xmpp:restartlogic='true' xmlns:xmpp='urn:xmpp:xbosh'";

/// B-52, cm-quirks 4.2: an answer in doubt does not keep the newer request from being repeated.
#[test]
fn b52_ejabberd_doubt_and_a_lost_newer_request() {
    let (mut rig, poll) = Rig::bound_with(EJABBERD);
    let mut key = poll.key;
    for _ in 0..2 {
        rig.pass(Duration::from_secs(4));
        rig.lose(key);
        rig.pass(Duration::from_secs(2));
        let again = rig.request().expect("a repeat");
        rig.session.handle_written(again.key, rig.now);
        key = again.key;
    }
    rig.pass(Duration::from_millis(100));
    // third copy: empty at once -> in doubt
    rig.empty(key);
    // the newer one goes out and is lost
    let newer = rig.sent();
    rig.pass(Duration::from_millis(10));
    rig.lose(newer.key);
    for _ in 0..29 {
        rig.pass(Duration::from_secs(1));
        if rig.request().is_some() {
            return;
        }
    }
    panic!(
        "nothing is ever sent again: {:?} {:?}",
        rig.events(),
        rig.session
    );
}

/// B-54: what was received and parked is delivered when the session is given up.
#[test]
fn b54_parked_payload_is_delivered_at_the_end() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<message id='u'/>");
    let carrier = rig.sent();
    rig.payload(carrier.key, "<message xmlns='jabber:client' id='parked'/>");
    rig.lose(poll.key);
    for _ in 0..200 {
        rig.pass(Duration::from_secs(1));
        while let Some(r) = rig.request() {
            rig.fail(r.key, FailureKind::CmUnreachable, false);
        }
    }
    let events = rig.events();
    assert!(events.iter().any(|e| e == "message parked"));
}

/// B-40: a manager that names no polling interval is not hammered.
#[test]
fn b40_no_interval_is_no_licence() {
    let (mut rig, mut poll) =
        Rig::bound_with("wait='55' requests='1' hold='1' inactivity='60' ver='1.6'");
    let start = rig.now;
    for _ in 0..50 {
        if rig.now - start > Duration::from_secs(20) {
            return;
        }
        rig.empty(poll.key);
        poll = match rig.request() {
            Some(r) => r,
            None => {
                rig.pass(Duration::from_secs(1));
                match rig.request() {
                    Some(r) => r,
                    None => return,
                }
            }
        };
        rig.session.handle_written(poll.key, rig.now);
    }
    panic!("50 empty requests in {:?}", rig.now - start);
}

/// C-07: an HTTP error to another request neither hides the reason nor loses what is parked.
#[test]
fn c07_an_http_error_does_not_hide_the_reason() {
    let (mut rig, poll) =
        Rig::bound_with("wait='55' requests='2' hold='1' inactivity='60' polling='5'");
    rig.say("<message id='u'/>");
    let carrier = rig.sent();
    rig.reply(carrier.key, &format!("<body xmlns='{NS_HTTPBIND}' type='terminate' condition='remote-stream-error' xmlns:stream='http://etherx.jabber.org/streams'><message xmlns='jabber:client' id='last'/><stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></body>"));
    rig.answer(poll.key, 404, "");
    let events = rig.events();
    assert_eq!(events[0], "message last", "{events:?}");
}

/// T-15: the largest numbers can be calculated with.
#[test]
fn t15_huge_inactivity() {
    let (mut rig, poll) = Rig::bound_with(
        "wait='55' requests='1' hold='1' inactivity='18446744073709551615' polling='5' ver='1.6'",
    );
    rig.empty(poll.key);
    rig.pass(Duration::from_secs(10));
    rig.request();
}

/// T-15: the same for the polling interval.
#[test]
fn t15_huge_polling() {
    let (mut rig, _poll) = Rig::bound_with(
        "wait='55' requests='2' hold='1' inactivity='60' polling='18446744073709551615' ver='1.6'",
    );
    rig.session.set_confirming(true);
    rig.say("<message/>");
    rig.sent();
    rig.pass(Duration::from_secs(10));
}

/// T-15: the same while requests fail.
#[test]
fn t15_huge_inactivity_and_a_failure() {
    let (mut rig, poll) = Rig::bound_with(
        "wait='55' requests='2' hold='1' inactivity='18446744073709551615' polling='5' ver='1.6'",
    );
    rig.lose(poll.key);
    rig.pass(Duration::from_secs(10));
}

/// T-32, cm-quirks 4.2: a renewal in the middle of asking for a stored answer asks for it again.
#[test]
fn t32_renewal_during_the_second_look() {
    let (mut rig, poll) = Rig::bound();
    let mut key = poll.key;
    for _ in 0..2 {
        rig.lose(key);
        rig.pass(Duration::from_secs(3));
        let r = rig.request().expect("repeat");
        rig.session.handle_written(r.key, rig.now);
        key = r.key;
    }
    rig.empty(key);
    rig.sent();
    rig.pass(Duration::from_millis(30));
    let recheck = rig.sent();
    assert_eq!(recheck.key.rid, poll.key.rid);
    rig.session.renew(Duration::ZERO, rig.now);
    // The newer one first: only behind it is the stored answer final.
    assert_eq!(rig.sent().key.rid.0, poll.key.rid.0 + 1);
    let again = rig.sent();
    assert_eq!(again.key.rid, poll.key.rid);
    rig.answer(
        again.key,
        200,
        &format!("<body xmlns='{NS_HTTPBIND}' type='terminate' condition='item-not-found'/>"),
    );
    rig.pass(Duration::from_secs(3));
    let events = rig.events();
    assert!(events.is_empty(), "{events:?}");
}

/// T-17, cm-quirks section 10: Punjab keeps no order: it has answered the newer request and holds the repeat of
/// the older one, which an empty request releases.
#[test]
fn t17_a_manager_without_order_is_flushed() {
    let (mut rig, poll) =
        Rig::bound_with("wait='55' requests='2' hold='1' inactivity='60' polling='15'");
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    rig.payload(second.key, "<message id='b'/>");
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.pass(Duration::from_millis(1900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    let flush = rig.sent();
    assert!(text(&flush).ends_with("/>"));
    rig.empty(again.key);
    assert_eq!(rig.events(), ["message b"]);
    rig.nothing_to_send();
}

/// T-08: on a path that has become slow, what was asked for again because Prosody may have paused its connection has
/// all the time that it needs then.
#[test]
fn t08_slow_path_of_an_inactive_client() {
    let (mut rig, poll) = Rig::bound_with(
        "wait='55' requests='2' hold='1' inactivity='60' polling='5' authid='s1' ver='1.6'",
    );
    rig.session.client_is_inactive();
    rig.say("<m/>");
    let newer = rig.sent();
    rig.pass(Duration::from_millis(1100));
    assert_eq!(rig.aborts(), [poll.key]);
    let again = rig.sent();
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.aborts(), []);
    rig.empty(again.key);
    // The first copy may have come behind this one (B-51).
    let asked = rig.sent();
    assert_eq!(asked.body, again.body);
    rig.empty(asked.key);
    rig.payload(newer.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
}
