//! A bound session in good weather: order, window, batches, acks, polls.

use super::*;

/// B-33, B-41: rids without gaps; an answered poll is followed by the next at once.
#[test]
fn b41_one_request_is_always_held() {
    let (mut rig, mut poll) = Rig::bound();
    for n in 2..200 {
        rig.pass(Duration::from_secs(55));
        rig.empty(poll.key);
        poll = rig.sent();
        assert_eq!(poll.key.rid.0, FIRST + n);
        rig.nothing_to_send();
    }
    assert_eq!(rig.session.unanswered(), 1);
}

/// B-35, T-01: replies count in rid order, whatever order they come in.
#[test]
fn b35_replies_out_of_order() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<message id='up'/>");
    let second = rig.sent();
    rig.payload(second.key, "<message id='b'/><message id='c'/>");
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.payload(poll.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a", "message b", "message c"]);
}

/// T-36: a lone stanza leaves at this very moment, and so does each step of a login, whatever came just before.
#[test]
fn t36_nothing_waits_for_company() {
    let (mut rig, _poll) = Rig::bound();
    rig.pass(Duration::from_secs(1));
    rig.say("<message/>");
    assert!(rig.request().is_some(), "a lone stanza");

    let mut rig = Rig::open();
    for step in ["<auth/>", "<response/>"] {
        rig.session
            .send(Bytes::from_static(step.as_bytes()), PayloadClass::Alone);
        let request = rig.request().expect(step);
        rig.session.handle_written(request.key, rig.now);
        rig.pass(Duration::from_millis(40));
        rig.payload(request.key, "<challenge/>");
    }
}

/// B-38: never more than `requests` unanswered; what waits travels together, in order.
#[test]
fn b38_window_and_batches() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m>1</m>");
    let second = rig.sent();
    for n in 2..50 {
        rig.say(&format!("<m>{n}</m>"));
        rig.nothing_to_send();
    }
    assert_eq!(rig.session.unanswered(), 2);
    rig.empty(poll.key);
    let third = rig.sent();
    let expected: String = (2..50).map(|n| format!("<m>{n}</m>")).collect();
    assert!(text(&third).contains(&format!(">{expected}</body>")));
    rig.nothing_to_send();
    rig.empty(second.key);
    rig.nothing_to_send();
}

/// cm-quirks section 15: Prosody rests before each further 8 KiB that it reads over TLS; others, and http, get
/// bodies as large as may be.
#[test]
fn bodies_for_prosody_over_tls() {
    let prosody =
        "wait='55' requests='2' hold='1' inactivity='60' polling='5' authid='s1' ver='1.6'";
    let other = "wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'";
    for (attributes, https, whole) in [
        (prosody, true, false),
        (prosody, false, true),
        (other, true, true),
    ] {
        let (mut rig, poll) = Rig::bound_over(attributes, https);
        let stanza = format!("<m>{}</m>", "x".repeat(493));
        rig.say(&stanza);
        let second = rig.sent();
        for _ in 0..100 {
            rig.say(&stanza);
        }
        rig.empty(poll.key);
        rig.empty(second.key);
        let batch = rig.sent();
        assert_eq!(batch.body.len() > 50_000, whole, "{attributes}, {https}");
        if !whole {
            // The head of the request has its place beside it.
            assert!((7_000..=7_680).contains(&batch.body.len()));
        }
    }
}

/// B-36: 10 000 stanzas keep their order over many bodies.
#[test]
fn b36_ten_thousand_stanzas_in_order() {
    let (mut rig, poll) = Rig::bound();
    let mut held = vec![poll];
    let mut seen = Vec::new();
    let mut next = 0;
    while seen.len() < 10_000 {
        for _ in 0..97 {
            if next < 10_000 {
                rig.say(&format!("<m n='{next}'/>"));
                next += 1;
            }
        }
        let request = rig.sent();
        let text = text(&request);
        let document = roxmltree::Document::parse(&text).unwrap();
        seen.extend(
            document
                .root_element()
                .children()
                .map(|m| m.attribute("n").unwrap().parse::<u32>().unwrap()),
        );
        held.push(request);
        let oldest = held.remove(0);
        rig.empty(oldest.key);
    }
    assert!(seen.iter().copied().eq(0..10_000));
}

/// a SASL element never shares a body.
#[test]
fn x01_sasl_travels_alone() {
    let mut rig = Rig::open();
    rig.session
        .send(Bytes::from_static(b"<auth/>"), PayloadClass::Alone);
    rig.say("<iq id='1'/>");
    rig.say("<iq id='2'/>");
    rig.session
        .send(Bytes::from_static(b"<auth/>"), PayloadClass::Alone);
    let first = rig.sent();
    let second = rig.sent();
    assert!(text(&first).ends_with("><auth/></body>"));
    assert!(text(&second).ends_with("><iq id='1'/><iq id='2'/></body>"));
    rig.empty(first.key);
    assert!(text(&rig.sent()).ends_with("><auth/></body>"));
}

/// T-20: bodies stay within `max_body_bytes`, unless one element alone is larger.
#[test]
fn t20_bodies_are_capped() {
    let (mut rig, mut held) = Rig::bound();
    let stanza = format!("<m>{}</m>", "x".repeat(10_000));
    for _ in 0..20 {
        rig.say(&stanza);
    }
    let large = format!("<m>{}</m>", "y".repeat(100_000));
    rig.say(&large);
    rig.say(&stanza);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let request = rig.sent();
        sizes.push(request.body.len());
        rig.empty(held.key);
        held = request;
    }
    assert!(sizes[..4].iter().all(|size| *size <= 65536), "{sizes:?}");
    assert!(sizes[4] > 100_000 && sizes[4] < 101_000, "{sizes:?}");
    assert!(sizes[5] < 11_000, "{sizes:?}");
}

/// T-37, cm-quirks rule 13: a request follows only when the older one is written whole, and a gap later.
#[test]
fn t37_requests_keep_order_on_the_wire() {
    let mut rig = Rig::open();
    rig.session.bound();
    let poll = rig.request().unwrap();
    rig.say("<m/>");
    rig.pass(Duration::from_secs(1));
    assert!(rig.request().is_none(), "the poll is not written yet");
    rig.session.handle_written(poll.key, rig.now);
    let next = rig.session.poll_timeout().unwrap();
    assert!(next >= rig.now && next - rig.now <= Duration::from_millis(25));
    rig.pass(Duration::from_millis(25));
    let second = rig.request().unwrap();
    assert!(text(&second).contains("<m/>"));
}

/// B-45, T-14: `ack` is the highest rid without gaps, left out exactly when everything earlier is answered.
#[test]
fn b45_acks() {
    let (mut rig, poll) = Rig::bound();
    assert_eq!(attribute(&poll, "ack"), None);
    rig.say("<m/>");
    let second = rig.sent();
    assert_eq!(attribute(&second, "ack").as_deref(), Some("1000000"));
    rig.empty(poll.key);
    rig.say("<m/>");
    let third = rig.sent();
    assert_eq!(attribute(&third, "ack").as_deref(), Some("1000001"));
    rig.empty(second.key);
    rig.empty(third.key);
    assert_eq!(attribute(&rig.sent(), "ack"), None);
}

/// B-45, T-14: with a gap `ack` stays below it. Only before binding may a request follow then (T-17).
#[test]
fn t14_ack_stays_below_a_gap() {
    let mut rig = Rig::open();
    rig.say("<a/>");
    let first = rig.sent();
    rig.say("<b/>");
    let second = rig.sent();
    rig.empty(second.key);
    rig.say("<c/>");
    let third = rig.sent();
    // 1000001 is missing although 1000002 is here.
    assert_eq!(attribute(&third, "ack").as_deref(), Some("1000000"));
    rig.empty(first.key);
    rig.say("<d/>");
    assert_eq!(attribute(&rig.sent(), "ack").as_deref(), Some("1000002"));
}

/// B-38, T-09: a parked reply keeps its place. Managers store two answers: a further request would push out
/// the one that is missing.
#[test]
fn t09_parked_replies_count() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.empty(second.key);
    rig.say("<m/>");
    rig.nothing_to_send();
    rig.lose(poll.key);
    let again = rig.sent();
    assert_eq!(again.key.rid, poll.key.rid);
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
    assert!(text(&rig.sent()).contains("<m/>"));
}

/// B-20: later requests carry rid, sid and ack alone.
#[test]
fn b20_no_creation_attributes_later() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    assert_eq!(attribute_names(&poll), ["rid", "sid"]);
    assert_eq!(attribute_names(&second), ["ack", "rid", "sid"]);
}

/// B-25, B-40: with requests='1' there is one request at a time and empty ones keep their distance.
#[test]
fn b40_polling_session() {
    let (mut rig, poll) =
        Rig::bound_with("wait='0' requests='1' hold='0' inactivity='30' polling='5' ver='1.6'");
    rig.say("<m/>");
    rig.nothing_to_send();
    rig.empty(poll.key);
    let payload = rig.sent();
    rig.empty(payload.key);
    rig.pass(Duration::from_millis(4900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    let poll = rig.sent();
    rig.payload(poll.key, "<message id='a'/>");
    // Something came: there may be more.
    rig.sent();

    // `polling` is kept as long as `inactivity` allows.
    let (mut rig, poll) =
        Rig::bound_with("wait='0' requests='1' hold='0' inactivity='60' polling='40' ver='1.6'");
    rig.empty(poll.key);
    rig.pass(Duration::from_millis(39_900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    let poll = rig.sent();
    rig.empty(poll.key);
    let (mut rig, poll) =
        Rig::bound_with("wait='0' requests='1' hold='0' inactivity='30' polling='40' ver='1.6'");
    rig.empty(poll.key);
    rig.pass(Duration::from_millis(27_100));
    rig.sent();
}

/// S-25: while the client does not read, no poll asks for more; payload still goes.
#[test]
fn s25_no_polls_while_not_receiving() {
    let (mut rig, poll) = Rig::bound();
    rig.session.set_receiving(false);
    rig.empty(poll.key);
    rig.nothing_to_send();
    rig.say("<m/>");
    let sent = rig.sent();
    rig.empty(sent.key);
    rig.nothing_to_send();
    rig.session.set_receiving(true);
    rig.sent();
}

/// S-25: a full queue says so, and has room again once it is sent.
#[test]
fn s25_queue_is_bounded() {
    let (mut rig, _poll) = Rig::bound();
    let stanza = "x".repeat(1 << 20);
    for _ in 0..4 {
        assert!(rig.session.wants_payloads());
        rig.say(&stanza);
    }
    assert!(!rig.session.wants_payloads());
    rig.sent();
    assert!(rig.session.wants_payloads());
}

/// A quiet session has one timer: the reply limit of the held poll.
#[test]
fn nothing_wakes_a_quiet_session() {
    let (rig, _poll) = Rig::bound();
    let wakes = rig.session.poll_timeout().unwrap() - rig.now;
    assert_eq!(wakes.as_millis(), 57_500);
}

/// B-34, E-64: the rid limit ends the session instead of being passed.
#[test]
fn b34_rid_limit() {
    let now = crate::driver::clock::now();
    let options = Options {
        requested: requested(),
        max_body_bytes: 65536,
        https: false,
        buffer_bytes: 1 << 20,
        limits: limits(),
        first_rid: Rid(super::super::params::RID_LIMIT - 1),
        seed: 1,
        way: Way::default(),
        key_seed: None,
    };
    let mut rig = Rig {
        session: Session::new(options, now),
        now,
        confirmed: 0,
    };
    let creation = rig.sent();
    rig.reply(
        creation.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s' requests='2'/>",
    );
    let last = rig.sent();
    assert_eq!(last.key.rid.0, 9_007_199_254_740_991);
    rig.empty(last.key);
    rig.nothing_to_send();
    assert_eq!(rig.events(), ["opened", "closed: RidLimit"]);
}

/// B-37, T-02: a reply's payload is delivered whatever request it answers.
#[test]
fn t02_replies_are_not_tied_to_requests() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<iq id='q'/>");
    let query = rig.sent();
    rig.payload(poll.key, "<iq id='q' type='result'/>");
    assert_eq!(rig.events(), ["iq q"]);
    rig.empty(query.key);
    rig.sent();
}

/// cm-quirks rule 13: after an answer to the client's own request the poll waits a moment for what the
/// client says next, which then goes alone; B-41: but never as long as 50 ms.
#[test]
fn b41_poll_waits_for_the_clients_next_stanza() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<iq id='1'/>");
    let first = rig.sent();
    rig.empty(poll.key);
    rig.payload(first.key, "<iq id='1' type='result'/>");
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(2));
    rig.say("<iq id='2'/>");
    let second = rig
        .request()
        .expect("nothing is on the wire: it goes at once");
    assert!(text(&second).contains("<iq id='2'/>"));
    rig.session.handle_written(second.key, rig.now);
    rig.payload(second.key, "<iq id='2' type='result'/>");
    rig.pass(Duration::from_millis(12));
    assert!(!text(&rig.request().unwrap()).contains("<iq"));
}

/// T-37: a manager that goes wrong on an overtaken pair gets a longer gap, unless it is known that the older
/// request has arrived.
#[test]
fn t37_gap_for_ejabberd() {
    let ejabberd = "wait='55' requests='2' hold='1' inactivity='30' polling='2' ver='1.11' xmpp:restartlogic='true' xmlns:xmpp='urn:xmpp:xbosh'";
    let (mut rig, poll) = Rig::bound_with(ejabberd);
    rig.say("<m/>");
    rig.pass(Duration::from_millis(20));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(5));
    let second = rig.sent();
    // Released without payload: the manager has the second one.
    rig.empty(poll.key);
    rig.say("<m/>");
    assert!(rig.request().is_some());
    drop(second);
}

/// T-36: what a poll was held for says nothing about the way: the round trip, and the pauses made of it, stay what
/// they are however many messages go one way.
#[test]
fn t36_held_polls_are_no_round_trips() {
    let mut rig = Rig::new();
    let creation = rig.sent();
    let way = Duration::from_millis(8);
    rig.pass(way);
    rig.reply(
        creation.key,
        &format!(
            "<body xmlns='{NS_HTTPBIND}' sid='s1' wait='55' requests='2' hold='1' inactivity='60' polling='5' authid='s1' \
             ver='1.6' xmlns:stream='http://etherx.jabber.org/streams'><stream:features/></body>"
        ),
    );
    rig.session.bound();
    let mut held = rig.sent();
    for _ in 0..200 {
        rig.pass(Duration::from_secs(3));
        rig.say("<m/>");
        let carrier = rig.sent();
        rig.pass(way);
        rig.empty(held.key);
        held = carrier;
    }
    assert_eq!(rig.session.round_trip(), Some(way));
    // A slower way shows, and a faster one.
    for (way, steps) in [(way * 2, 40), (way / 2, 60)] {
        for _ in 0..steps {
            rig.pass(Duration::from_secs(3));
            rig.say("<m/>");
            let carrier = rig.sent();
            rig.pass(way);
            rig.empty(held.key);
            held = carrier;
        }
        assert_eq!(rig.session.round_trip(), Some(way));
    }
}
