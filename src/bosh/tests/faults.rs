//! Broken exchanges: what is repeated, how, and when we give up.

use super::*;

/// B-49, B-50, T-03: a broken exchange is repeated with the same bytes on a fresh connection.
#[test]
fn b50_repeats_are_byte_identical() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m>1</m>");
    let second = rig.sent();
    rig.say("<m>2</m>");
    rig.lose(second.key);
    let again = rig.sent();
    assert_eq!(
        (again.body, again.fresh, again.key.attempt),
        (second.body, true, 2)
    );
    rig.empty(poll.key);
    assert!(text(&rig.sent()).contains("<m>2</m>"));
}

/// B-51, T-04: replies and failures of an older attempt change nothing.
#[test]
fn b51_stale_attempts_are_ignored() {
    let (mut rig, poll) = Rig::bound();
    rig.lose(poll.key);
    let again = rig.sent();
    rig.payload(poll.key, "<message id='stale'/>");
    rig.reply(
        poll.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='error'/>",
    );
    rig.lose(poll.key);
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.nothing_to_send();
    rig.payload(again.key, "<message id='a'/>");
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
}

/// B-53: repeats keep their distance: at once, then about 1 s, then about 2 s.
#[test]
fn b53_repeats_are_spaced() {
    let (mut rig, mut attempt) = Rig::bound();
    let mut gaps = Vec::new();
    for _ in 0..5 {
        rig.fail(attempt.key, FailureKind::CmUnreachable, false);
        let lost_at = rig.now;
        attempt = loop {
            if let Some(request) = rig.request() {
                break request;
            }
            rig.pass(Duration::from_millis(10));
        };
        rig.session.handle_written(attempt.key, rig.now);
        gaps.push((rig.now - lost_at).as_secs_f64());
    }
    assert!(gaps[0] < 0.05, "{gaps:?}");
    assert!((0.7..1.3).contains(&gaps[1]), "{gaps:?}");
    assert!(
        gaps[2..].iter().all(|gap| (1.4..2.6).contains(gap)),
        "{gaps:?}"
    );
}

/// B-53, E-60: Retry-After is heeded, but never past a fifth of `inactivity`.
#[test]
fn e60_retry_after() {
    let (mut rig, poll) = Rig::bound();
    let reply = HttpReply {
        status: 503,
        body: Bytes::new(),
        location: None,
        retry_after: Some(Duration::from_secs(600)),
    };
    rig.session.handle_response(poll.key, &reply, rig.now);
    rig.pass(Duration::from_millis(11_900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    assert!(rig.request().is_some());
}

/// B-54, E-51: after the rest of `wait` plus `inactivity` without a reply we give up, not sooner.
#[test]
fn b54_gives_up_when_the_budget_is_spent() {
    let (mut rig, poll) = Rig::bound();
    let start = rig.now;
    rig.fail(poll.key, FailureKind::CmUnreachable, true);
    let mut closed = Vec::new();
    while closed.is_empty() {
        if let Some(request) = rig.request() {
            rig.fail(request.key, FailureKind::CmUnreachable, false);
        }
        rig.pass(Duration::from_millis(100));
        closed = rig.events();
        assert!(rig.now - start < Duration::from_secs(300));
    }
    let lived = (rig.now - start).as_secs_f64();
    assert!((114.0..118.0).contains(&lived), "{lived}");
    assert_eq!(
        closed,
        ["closed: Hop(CmUnreachable(\"it broke\", sent: false))"]
    );
}

/// B-24: a request without a reply by `wait` plus a margin is aborted and repeated.
#[test]
fn b24_reply_deadline() {
    let (mut rig, poll) =
        Rig::bound_with("wait='20' requests='2' hold='1' inactivity='60' ver='1.6'");
    rig.pass(Duration::from_millis(34_900));
    assert_eq!(rig.aborts(), []);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.aborts(), [poll.key]);
    assert_eq!(rig.sent().body, poll.body);
}

/// B-24, B-54: a poll that vanished without a trace is asked for again while a manager that never saw it still keeps
/// the session: with `wait` 55 s and `inactivity` 60 s, not 70 s later.
#[test]
fn b24_a_swallowed_poll_is_missed_before_inactivity() {
    let (mut rig, poll) = Rig::bound();
    assert!(!rig.session.way().swallows);
    rig.pass(Duration::from_millis(57_400));
    assert_eq!(rig.aborts(), []);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.aborts(), [poll.key]);
    assert_eq!(rig.sent().body, poll.body);
    assert!(rig.session.way().swallows);
}

/// T-08: a newer request makes the manager let go of the older; if nothing comes the path is dead.
#[test]
fn t08_dead_path_shows_before_wait_is_over() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    rig.sent();
    rig.pass(Duration::from_millis(15_100));
    assert_eq!(rig.aborts(), [poll.key]);
    assert_eq!(rig.sent().body, poll.body);
}

/// B-52: `type='error'` repeats that request and all earlier unanswered ones, ascending.
#[test]
fn b52_recoverable_error_repeats_in_order() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.reply(
        second.key,
        "<body xmlns='http://jabber.org/protocol/httpbind' type='error'/>",
    );
    assert_eq!(rig.aborts(), [poll.key]);
    let first_again = rig.sent();
    assert_eq!(
        (first_again.key.rid, &first_again.body),
        (poll.key.rid, &poll.body)
    );
    let second_again = rig.sent();
    assert_eq!(
        (second_again.key.rid, &second_again.body),
        (second.key.rid, &second.body)
    );
    rig.nothing_to_send();
}

/// T-04, B-52: a manager that only ever says `type='error'` does not keep us busy for ever.
#[test]
fn t04_endless_recoverable_errors_end() {
    let (mut rig, mut attempt) = Rig::bound();
    for round in 0.. {
        assert!(round < 20, "no end");
        rig.reply(
            attempt.key,
            "<body xmlns='http://jabber.org/protocol/httpbind' type='error'/>",
        );
        let events = rig.events();
        if !events.is_empty() {
            assert_eq!(events, ["closed: Unrecoverable"]);
            break;
        }
        rig.pass(Duration::from_secs(3));
        attempt = rig.sent();
    }
}

/// The same loss on other managers: both are repeated, in order.
#[test]
fn b49_both_connections_lost() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(second.key);
    rig.lose(poll.key);
    assert_eq!(rig.sent().key.rid, poll.key.rid);
    assert_eq!(rig.sent().key.rid, second.key.rid);
}

/// T-09: while an older request waits for its repeat, no new rid is opened.
#[test]
fn t09_broken_attempts_count_as_unanswered() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    rig.say("<m/>");
    let again = rig.sent();
    assert_eq!(again.key.rid, poll.key.rid);
    rig.nothing_to_send();
    rig.empty(again.key);
    assert_eq!(rig.sent().key.rid.0, second.key.rid.0 + 1);
}

/// B-58, T-21: HTTP 404 from a modern manager is repeated twice, then the session is gone; a legacy
/// manager is believed at once.
#[test]
fn b58_http_errors() {
    for (status, condition) in [
        (400, "bad-request"),
        (403, "policy-violation"),
        (404, "item-not-found"),
        (410, "item-not-found"),
    ] {
        let (mut rig, mut attempt) = Rig::bound();
        for _ in 0..2 {
            rig.answer(attempt.key, status, "<html/>");
            rig.pass(Duration::from_secs(3));
            attempt = rig.sent();
        }
        assert_eq!(rig.events(), Vec::<String>::new());
        rig.answer(attempt.key, status, "<html/>");
        assert_eq!(rig.events(), [format!("closed: {condition} None []")]);

        let (mut rig, poll) = Rig::bound_with("wait='55' requests='2' hold='1' inactivity='30'");
        rig.answer(poll.key, status, "");
        assert_eq!(rig.events(), [format!("closed: {condition} None []")]);
    }
}

/// B-58: one 404 that an intermediary made up does not end a session.
#[test]
fn b58_one_injected_404_is_survived() {
    let (mut rig, poll) = Rig::bound();
    rig.answer(poll.key, 404, "nothing here");
    let again = rig.sent();
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
}

/// E-52, E-63, T-12: pages and broken XML in place of a body are repeated twice, then end the session.
#[test]
fn e52_and_e63_bad_bodies() {
    for (body, cause) in [
        ("<html><form action='login'/></html>", "NotBosh"),
        ("", "NotBosh"),
        ("<body xmlns='jabber:client'/>", "NotBosh"),
        (
            "<body xmlns='http://jabber.org/protocol/httpbind'><!-- x --></body>",
            "BadXml",
        ),
        (
            "<body xmlns='http://jabber.org/protocol/httpbind'><a></b></body>",
            "BadXml",
        ),
        (
            "<body xmlns='http://jabber.org/protocol/httpbind'/><body/>",
            "BadXml",
        ),
    ] {
        let (mut rig, mut attempt) = Rig::bound();
        for _ in 0..2 {
            rig.reply(attempt.key, body);
            rig.pass(Duration::from_secs(3));
            attempt = rig.sent();
        }
        rig.reply(attempt.key, body);
        let events = rig.events();
        assert!(
            events.len() == 1 && events[0].starts_with(&format!("closed: {cause}")),
            "{body}: {events:?}"
        );
    }
}

/// B-49: a body that breaks off is a broken connection.
#[test]
fn b49_truncated_bodies_are_repeated() {
    let whole = "<body xmlns='http://jabber.org/protocol/httpbind'><message id='a'/></body>";
    for cut in 0..whole.len() {
        let (mut rig, poll) = Rig::bound();
        rig.reply(poll.key, &whole[..cut]);
        assert_eq!(rig.events(), Vec::<String>::new(), "{cut}");
        let again = rig.sent();
        assert_eq!(again.body, poll.body);
        rig.reply(again.key, whole);
        assert_eq!(rig.events(), ["message a"]);
    }
}

/// E-30 to E-34, E-40, E-50, E-53, E-55, E-58, E-60: in a live session all of these may pass.
#[test]
fn e30_to_e60_do_not_end_a_live_session() {
    use FailureKind::*;
    for kind in [
        ProxyUnreachable,
        ProxyAuth,
        ProxyRefused,
        ProxyUpstream,
        ProxyProtocol,
        TlsCertificate,
        Tls,
        CmUnreachable,
        NoReply,
    ] {
        let (mut rig, poll) = Rig::bound();
        rig.fail(poll.key, kind, false);
        let again = rig.sent();
        assert_eq!(again.body, poll.body, "{kind:?}");
    }
    for status in [302, 401, 405, 408, 425, 429, 431, 500, 502, 503, 504] {
        let (mut rig, mut attempt) = Rig::bound();
        for _ in 0..5 {
            rig.answer(attempt.key, status, "<html/>");
            rig.pass(Duration::from_secs(3));
            attempt = rig.sent();
        }
        assert_eq!(rig.events(), Vec::<String>::new(), "{status}");
    }
}

/// E-59, E-67: what can only fail again ends the session.
#[test]
fn e59_and_e67_are_final() {
    let (mut rig, poll) = Rig::bound();
    rig.answer(poll.key, 413, "");
    assert_eq!(rig.events(), ["closed: Status(413)"]);
    let (mut rig, poll) = Rig::bound();
    rig.fail(poll.key, FailureKind::ReplyTooLarge, true);
    assert_eq!(rig.events().len(), 1);
}

/// E-55: a refusal that stays is named when patience ends.
#[test]
fn e55_the_last_cause_is_told() {
    let (mut rig, mut attempt) = Rig::bound();
    let start = rig.now;
    let events = loop {
        rig.answer(attempt.key, 401, "no");
        let events = rig.events();
        if !events.is_empty() {
            break events;
        }
        rig.pass(Duration::from_secs(3));
        let events = rig.events();
        if !events.is_empty() {
            break events;
        }
        attempt = rig.sent();
        assert!(rig.now - start < Duration::from_secs(300));
    };
    assert_eq!(events, ["closed: Status(401)"]);
}

/// B-56, B-54: the repeat of a request behind which a newer one is answered has a short limit of its own, and
/// the answer to the newer one was a sign of life.
#[test]
fn b56_repeats_behind_an_answered_one() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    let mut again = rig.sent();
    rig.pass(Duration::from_secs(10));
    rig.payload(second.key, "<message id='b'/>");
    for _ in 0..3 {
        rig.pass(Duration::from_millis(5600));
        assert_eq!(rig.aborts(), [again.key]);
        rig.pass(Duration::from_secs(3));
        again = rig.sent();
    }
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a", "message b"]);
}

/// B-49, T-12: a reply that is cut inside its first tag is a broken connection, not a login page.
#[test]
fn b49_cut_inside_the_first_tag() {
    let whole = "<body xmlns='http://jabber.org/protocol/httpbind' sid='s1'/>";
    for cut in 1..whole.len() {
        let (mut rig, mut poll) = Rig::bound();
        for _ in 0..4 {
            rig.reply(poll.key, &whole[..cut]);
            rig.pass(Duration::from_secs(3));
            poll = rig.sent();
        }
        assert_eq!(rig.events(), Vec::<String>::new(), "{cut}");
    }
}

/// B-53, B-24, found by the simulation: the fourth attempt met silence, and two more seconds took the fifth past
/// MongooseIM's `inactivity`. Time spent waiting for an answer counts as the pause.
#[test]
fn b53_silence_is_pause_enough() {
    let (mut rig, mut attempt) =
        Rig::bound_with("wait='20' requests='2' hold='1' inactivity='30' polling='60' ver='1.6'");
    for _ in 0..3 {
        rig.lose(attempt.key);
        rig.pass(Duration::from_millis(2600));
        attempt = rig.sent();
    }
    let written = rig.now;
    while rig.request().is_none() {
        assert!(rig.now < written + Duration::from_secs(28), "too late");
        rig.pass(Duration::from_millis(100));
    }
    let aborted = rig.aborts();
    assert_eq!(aborted.last(), Some(&attempt.key));
    assert!(rig.now < written + Duration::from_millis(25_200), "a pause");
}
