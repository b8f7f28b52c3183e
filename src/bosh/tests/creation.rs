//! Session creation: request, reply, attempts, refusals.

use super::*;

/// B-12 to B-22, X-08, B-74: the creation request has these attributes, no payload, no sid, nothing else.
#[test]
fn b12_to_b22_creation_request() {
    let mut rig = Rig::with(Requested {
        lang: "de".into(),
        route: Some("xmpp:example.org:5222".into()),
        from: Some("juliet@example.org".into()),
        ..requested()
    });
    let creation = rig.sent();
    assert_eq!(
        text(&creation),
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' rid='1000000' \
         to='example.org' from='juliet@example.org' route='xmpp:example.org:5222' ver='1.6' wait='55' hold='1' \
         ack='1' xml:lang='de' xmpp:version='1.0'/>"
    );
    assert!(!creation.fresh);
}

/// X-08, B-17, B-16: what is not asked for is not there.
#[test]
fn x08_old_clients_send_no_version_upstream() {
    let mut rig = Rig::with(Requested {
        xmpp_version: false,
        ..requested()
    });
    let names = attribute_names(&rig.sent());
    assert_eq!(names, ["ack", "hold", "lang", "rid", "to", "ver", "wait"]);
}

/// X-08, S-40: ejabberd holds a creation request without version, having nothing to send: it is asked again with
/// one, soon, and the old client never learns of the features that come.
#[test]
fn x08_a_manager_that_holds_an_old_clients_creation() {
    let mut rig = Rig::with(Requested {
        xmpp_version: false,
        ..requested()
    });
    let first = rig.sent();
    rig.pass(Duration::from_secs(2));
    rig.nothing_to_send();
    rig.pass(Duration::from_secs(2));
    let second = rig.sent();
    assert_ne!(attribute(&second, "rid"), attribute(&first, "rid"), "B-55");
    assert!(attribute_names(&second).contains(&"version".into()));
    rig.reply(
        second.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s' requests='2' inactivity='60'/>",
    );
    rig.nothing_to_send();
}

/// B-22: payload that is there already goes out in the second request.
#[test]
fn b22_creation_carries_no_payload() {
    let mut rig = Rig::new();
    rig.say("<iq id='1'/>");
    let creation = rig.sent();
    assert!(!text(&creation).contains("<iq"));
    rig.reply(
        creation.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='x' wait='5' requests='2'/>",
    );
    let second = rig.sent();
    assert_eq!(attribute(&second, "rid").as_deref(), Some("1000001"));
    assert!(text(&second).contains("<iq id='1'/>"));
}

/// B-12: a sid with markup in it comes back as it was.
#[test]
fn b12_sid_round_trips() {
    let mut rig = Rig::new();
    let creation = rig.sent();
    rig.reply(creation.key, "<body xmlns='http://jabber.org/protocol/httpbind' sid=\"a&amp;b'&lt;&quot;\" requests='2'/>");
    assert_eq!(attribute(&rig.sent(), "sid").as_deref(), Some("a&b'<\""));
}

/// B-23, E-62: a creation reply without sid, or with bad numbers, is no session.
#[test]
fn b23_unusable_creation_replies() {
    for attributes in [
        "",
        "sid=''",
        "sid='a' requests='0'",
        "sid='a' wait='x'",
        "sid='a' inactivity='-1'",
        "sid='a' hold='1e3'",
    ] {
        let mut rig = Rig::new();
        let creation = rig.sent();
        rig.reply(
            creation.key,
            &format!("<body xmlns='http://jabber.org/protocol/httpbind' {attributes}/>"),
        );
        let events = rig.events();
        assert!(
            events.len() == 1 && events[0].starts_with("closed: CreationReply"),
            "{attributes}: {events:?}"
        );
        rig.nothing_to_send();
    }
}

/// B-24, B-25, B-26, B-27: what is missing, and what is more than asked for.
#[test]
fn b24_to_b27_granted_parameters() {
    let mut rig = Rig::new();
    let creation = rig.sent();
    rig.reply(
        creation.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s'/>",
    );
    let granted = rig.session.granted().unwrap();
    assert_eq!(
        (granted.wait.as_secs(), granted.hold, granted.requests.get()),
        (55, 1, 2)
    );
    assert_eq!(
        (granted.inactivity, granted.polling.as_secs(), granted.ver),
        (None, 0, None)
    );

    let mut rig = Rig::new();
    rig.session.take_any_wait();
    let creation = rig.sent();
    rig.reply(
        creation.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='s' wait='3600' hold='5' requests='6' inactivity='30' \
         polling='2' ver='1.11' ack='1000000' accept='gzip,, deflate' charsets='UTF-8 X Y' secure='true' unknown='1'/>",
    );
    let granted = rig.session.granted().unwrap();
    assert_eq!(
        (granted.wait.as_secs(), granted.hold, granted.requests.get()),
        (55, 5, 6)
    );
    assert_eq!(granted.inactivity, Some(Duration::from_secs(30)));
    assert_eq!(granted.ver, super::super::params::Version::parse("1.6"));
    assert!(granted.acks);
}

/// B-23: creation attributes in later replies change nothing.
#[test]
fn b23_later_attributes_are_ignored() {
    let (mut rig, poll) = Rig::bound();
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='other' requests='9' wait='1'/>",
    );
    let next = rig.sent();
    assert_eq!(attribute(&next, "sid").as_deref(), Some("s1"));
    assert_eq!(rig.session.granted().unwrap().requests.get(), 2);
}

/// B-55, T-05: each attempt has its own rid; three at most, spaced 1 s and 2 s.
#[test]
fn b55_creation_attempts_have_new_rids() {
    let mut rig = Rig::new();
    let mut rids = Vec::new();
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let started = rig.now;
        let request = loop {
            if let Some(request) = rig.request() {
                break request;
            }
            rig.pass(Duration::from_millis(50));
            assert!(
                rig.now - started < Duration::from_secs(5),
                "no further attempt"
            );
        };
        gaps.push((rig.now - started).as_secs_f64());
        // Not on a kept connection: the shell would repeat it there by itself.
        assert_eq!(request.fresh, !rids.is_empty());
        rids.push(request.key.rid.0);
        assert!(text(&request).contains(&format!("rid='{}'", request.key.rid)));
        rig.fail(request.key, FailureKind::CmUnreachable, false);
    }
    assert_eq!(rids, [FIRST, FIRST + 1, FIRST + 2]);
    assert!(
        gaps[0] == 0.0 && (0.7..1.4).contains(&gaps[1]) && (1.4..2.7).contains(&gaps[2]),
        "{gaps:?}"
    );
    assert_eq!(
        rig.events(),
        ["closed: Hop(CmUnreachable(\"it broke\", sent: false))"]
    );
}

/// Failures that no repeat can mend end the set-up at once (E-31, E-32, E-34, E-40, E-55, E-58).
#[test]
fn e31_hopeless_creation_failures_are_not_repeated() {
    use FailureKind::{ProxyAuth, ProxyProtocol, ProxyRefused, TlsCertificate};
    for kind in [ProxyAuth, ProxyRefused, ProxyProtocol, TlsCertificate] {
        let mut rig = Rig::new();
        let creation = rig.sent();
        rig.fail(creation.key, kind, false);
        assert_eq!(rig.events().len(), 1, "{kind:?}");
    }
    for status in [401, 405, 411, 413, 501, 505] {
        let mut rig = Rig::new();
        let creation = rig.sent();
        rig.answer(creation.key, status, "no");
        assert_eq!(rig.events(), [format!("closed: Status({status})")]);
    }
}

/// A late reply to an earlier creation attempt is not ours any more (T-05).
#[test]
fn t05_late_creation_replies_are_ignored() {
    let mut rig = Rig::new();
    let first = rig.sent();
    rig.pass(Duration::from_secs(36));
    assert_eq!(rig.aborts(), [first.key]);
    rig.pass(Duration::from_secs(2));
    let second = rig.sent();
    rig.reply(
        first.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='old'/>",
    );
    assert!(rig.session.granted().is_none());
    rig.reply(
        second.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' sid='new' requests='2'/>",
    );
    assert_eq!(rig.session.granted().unwrap().sid.as_str(), "new");
}

/// B-31, C-01 to C-13: a terminate in place of a session, whatever its condition.
#[test]
fn b31_creation_refused() {
    for condition in crate::bosh::condition::BindingCondition::ALL {
        let mut rig = Rig::new();
        let creation = rig.sent();
        rig.reply(
            creation.key,
            &format!("<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='{condition}'>because</body>"),
        );
        assert_eq!(
            rig.events(),
            [format!("closed: {condition} Some(\"because\") []")]
        );
        rig.nothing_to_send();
    }
}

/// B-59, E-53: see-other-uri and redirects are offered to the shell, at most five times.
#[test]
fn b59_redirects_are_bounded() {
    let mut rig = Rig::new();
    for n in 0..6 {
        let creation = rig.sent();
        rig.reply(
            creation.key,
            "<body xmlns='http://jabber.org/protocol/httpbind' type='terminate' condition='see-other-uri'><uri>https://b.example/</uri></body>",
        );
        assert_eq!(rig.events(), ["redirect None https://b.example/"]);
        rig.session.redirected(true, None, rig.now);
        assert_eq!(rig.events().len(), usize::from(n == 5));
    }
    let mut rig = Rig::new();
    let creation = rig.sent();
    let reply = HttpReply {
        status: 308,
        body: Bytes::new(),
        location: Some("/x".into()),
        retry_after: None,
    };
    rig.session.handle_response(creation.key, &reply, rig.now);
    assert_eq!(rig.events(), ["redirect Some(308) /x"]);
    rig.nothing_to_send();
    rig.session.redirected(false, Some("/x".into()), rig.now);
    assert_eq!(rig.events(), ["closed: Redirect(Some(\"/x\"))"]);
}

/// B-29, X-12: `from` and `authid` are taken from whichever reply has them first.
#[test]
fn b29_late_from_and_authid() {
    let (mut rig, poll) = Rig::bound();
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' from='real.example' authid='id1'/>",
    );
    let granted = rig.session.granted().unwrap();
    assert_eq!(granted.from.as_deref(), Some("real.example"));
    assert_eq!(granted.authid.as_ref().unwrap().as_str(), "id1");
}

/// B-27: a version that cannot be read is a version: the manager is not taken for a legacy one.
#[test]
fn b27_unreadable_versions() {
    for (ver, known) in [("ver='one'", true), ("ver=''", true), ("", false)] {
        let rig = Rig::open_with(&format!("wait='55' requests='2' hold='1' {ver}"));
        let granted = rig.session.granted().unwrap();
        assert_eq!(granted.ver.is_some(), known, "{ver}");
    }
}

/// B-26: `maxpause` is kept as granted.
#[test]
fn b26_maxpause() {
    let rig = Rig::open_with("wait='55' requests='2' hold='1' maxpause='120' ver='1.6'");
    let granted = rig.session.granted().unwrap();
    assert_eq!(granted.maxpause, Some(Duration::from_secs(120)));
}

/// B-24, B-54: a manager whose `inactivity` is shorter than `wait` would end the session before a vanished poll is
/// missed: another session is asked for, once, with a `wait` that leaves time for a repeat, and on a way that was
/// seen to swallow requests, for two. A manager that grants what it likes is taken as it is.
#[test]
fn b24_a_wait_that_suits_a_short_inactivity() {
    let grant = |sid: &str, wait: u64, inactivity: u64| {
        format!(
            "<body xmlns='{NS_HTTPBIND}' sid='{sid}' wait='{wait}' requests='2' hold='1' inactivity='{inactivity}' ver='1.6'/>"
        )
    };
    for (swallows, inactivity, wait) in [
        (false, 30, "25"),
        (true, 30, "18"),
        (false, 12, "7"),
        (true, 60, "36"),
    ] {
        let way = Way {
            repeats: false,
            swallows,
        };
        let mut rig = Rig::on(way, requested());
        let first = rig.sent();
        assert_eq!(attribute(&first, "wait").as_deref(), Some("55"));
        rig.reply(first.key, &grant("a", 55, inactivity));
        assert_eq!(rig.events(), Vec::<String>::new());
        let second = rig.sent();
        assert_eq!(attribute(&second, "wait").as_deref(), Some(wait));
        assert_eq!(attribute(&second, "sid"), None);
        // B-55: a rid of its own.
        assert_eq!(second.key.rid.0, first.key.rid.0 + 1);
        rig.reply(second.key, &grant("b", 55, inactivity));
        assert_eq!(rig.events(), ["opened"]);
        rig.session.bound();
        assert_eq!(attribute(&rig.sent(), "sid").as_deref(), Some("b"));
    }
    for (wait, inactivity) in [(55, 60), (30, 10), (20, 30)] {
        let mut rig = Rig::new();
        let first = rig.sent();
        rig.reply(first.key, &grant("a", wait, inactivity));
        assert_eq!(rig.events(), ["opened"]);
    }
}
