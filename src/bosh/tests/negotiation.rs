//! From features to binding: restart, polls before binding.

use super::*;

/// T-16: the restart is the very next request, alone, with these attributes.
#[test]
fn x13_restart_goes_alone_and_first() {
    let mut rig = Rig::open();
    rig.session
        .send(Bytes::from_static(b"<auth/>"), PayloadClass::Alone);
    let auth = rig.sent();
    rig.payload(
        auth.key,
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
    );
    assert_eq!(rig.events(), ["success"]);
    rig.say("<iq id='early'/>");
    rig.session.restart();
    let restart = rig.sent();
    assert_eq!(
        text(&restart),
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' rid='1000002' sid='s1' \
         to='example.org' xml:lang='en' xmpp:restart='true'/>"
    );
    assert!(text(&rig.sent()).contains("early"));
}

/// a restart that is answered without features is followed by polls until they come.
#[test]
fn x16_polls_until_features_come() {
    let mut rig = Rig::open();
    rig.session.restart();
    let restart = rig.sent();
    rig.empty(restart.key);
    let poll = rig.sent();
    assert_eq!(attribute_names(&poll), ["rid", "sid"]);
    rig.empty(poll.key);
    let poll = rig.sent();
    rig.payload(poll.key, "<features/>");
    assert_eq!(rig.events(), ["features"]);
    rig.nothing_to_send();
}

/// features that do not come with the creation reply are polled for.
#[test]
fn x10_late_features() {
    let mut rig = Rig::new();
    let creation = rig.sent();
    rig.reply(
        creation.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s' requests='2' inactivity='60'/>",
    );
    let poll = rig.sent();
    assert_eq!(rig.events(), ["opened"]);
    rig.empty(poll.key);
    let poll = rig.sent();
    rig.payload(poll.key, "<features/>");
    rig.nothing_to_send();
}

/// T-17, T-18, B-42: before binding nothing is held while the user types, yet `inactivity` is never reached.
#[test]
fn t18_polls_at_a_third_of_inactivity_before_binding() {
    let mut rig = Rig::open();
    rig.pass(Duration::from_millis(19_900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    let poll = rig.sent();
    // B-38, T-17: and never a second empty request beside it.
    rig.nothing_to_send();
    rig.pass(Duration::from_secs(30));
    assert!(rig.request().is_none());
    // The client's element is not held back by the poll.
    rig.session
        .send(Bytes::from_static(b"<auth/>"), PayloadClass::Alone);
    let auth = rig.sent();
    rig.empty(poll.key);
    rig.payload(auth.key, "<challenge/>");
    assert_eq!(rig.events(), ["challenge"]);
    rig.nothing_to_send();
}

/// T-17: a manager that answers SASL on an empty note owes the outcome: polled for at once.
#[test]
fn t17_outcome_owed_is_polled_for() {
    let mut rig = Rig::open();
    rig.session
        .send(Bytes::from_static(b"<auth/>"), PayloadClass::Alone);
    let auth = rig.sent();
    rig.empty(auth.key);
    let poll = rig.sent();
    rig.payload(poll.key, "<success/>");
    assert_eq!(rig.events(), ["success"]);
}

/// T-17: SASL2 success is followed by features without a request of the client's.
#[test]
fn t17_sasl2_success_polls_at_once() {
    let mut rig = Rig::open();
    rig.session
        .send(Bytes::from_static(b"<authenticate/>"), PayloadClass::Alone);
    let auth = rig.sent();
    rig.payload(auth.key, "<success xmlns='urn:xmpp:sasl:2'/>");
    rig.session.expect();
    assert_eq!(rig.events(), ["success"]);
    assert_eq!(attribute_names(&rig.sent()), ["rid", "sid"]);
}

/// T-17: a restart answered on its own rid while an older poll is held (Openfire): after 2 s one empty
/// request flushes the poll, and one only.
#[test]
fn t17_parked_reply_is_flushed() {
    let mut rig = Rig::open();
    rig.pass(Duration::from_secs(21));
    let poll = rig.sent();
    rig.session.restart();
    let restart = rig.sent();
    rig.payload(restart.key, "<features/>");
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.pass(Duration::from_millis(1900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    let flush = rig.sent();
    assert_eq!(attribute(&flush, "ack").as_deref(), Some("1000000"));
    rig.nothing_to_send();
    rig.pass(Duration::from_secs(3));
    rig.nothing_to_send();
    rig.empty(poll.key);
    assert_eq!(rig.events(), ["features"]);
}

/// S-40: an old client gets no features, so none are polled for.
#[test]
fn s40_no_features_are_awaited_for_old_clients() {
    let mut rig = Rig::with(Requested {
        xmpp_version: false,
        ..requested()
    });
    let creation = rig.sent();
    rig.reply(
        creation.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s' requests='2' inactivity='60'/>",
    );
    rig.nothing_to_send();
}
