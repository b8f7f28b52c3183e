//! Empty requests beside a held one, proxies that cut long polls, machines that sleep.

use super::*;

/// S-43, B-39: a lone stanza's request would stay held: one empty request releases it, `polling` and a second
/// later, and only if somebody waits for it.
#[test]
fn b39_a_lone_stanza_is_confirmed() {
    for confirming in [false, true] {
        let (mut rig, poll) = Rig::bound();
        rig.session.set_confirming(confirming);
        rig.say("<m/>");
        let carrier = rig.sent();
        rig.empty(poll.key);
        rig.pass(Duration::from_millis(5900));
        assert!(rig.request().is_none());
        rig.pass(Duration::from_millis(200));
        let Some(nudge) = rig.request() else {
            assert!(!confirming);
            continue;
        };
        assert!(confirming);
        assert!(text(&nudge).ends_with("/>"));
        rig.session.handle_written(nudge.key, rig.now);
        rig.empty(carrier.key);
        rig.events();
        assert_eq!(rig.confirmed, 1);
        rig.pass(Duration::from_secs(30));
        assert!(rig.request().is_none(), "the poll carries nothing");
    }
}

/// B-39: no empty request while the window is full, or while the client does not read (S-25).
#[test]
fn b39_no_nudge_without_a_slot() {
    let (mut rig, _poll) = Rig::bound();
    rig.session.set_confirming(true);
    rig.say("<m/>");
    let _carrier = rig.sent();
    rig.pass(Duration::from_secs(8));
    assert!(rig.request().is_none());

    let (mut rig, poll) = Rig::bound();
    rig.session.set_confirming(true);
    rig.say("<m/>");
    let _carrier = rig.sent();
    rig.empty(poll.key);
    rig.session.set_receiving(false);
    rig.pass(Duration::from_secs(8));
    assert!(rig.request().is_none());
}

/// Cuts the held poll at this age until the session knows; returns the poll held then.
fn cut_twice(
    rig: &mut Rig,
    mut poll: Request,
    age: Duration,
    by: impl Fn(&mut Rig, RequestKey),
) -> Request {
    for _ in 0..2 {
        rig.pass(age);
        by(rig, poll.key);
        rig.aborts();
        let again = rig.sent();
        rig.empty(again.key);
        poll = rig.sent();
    }
    poll
}

/// T-10: something cuts long polls at 30 s, by 504 or by a reset: from then on an empty request goes out
/// every 15 s, the manager answers the held one, and nothing is cut any more.
#[test]
fn t10_nudges_keep_below_the_cut() {
    let by: [fn(&mut Rig, RequestKey); 2] = [
        |rig, key| rig.answer(key, 504, "<html>Gateway Timeout</html>"),
        Rig::lose,
    ];
    for by in by {
        let (mut rig, poll) = Rig::bound();
        let mut poll = cut_twice(&mut rig, poll, Duration::from_secs(30), by);
        assert_eq!(rig.events(), ["cut 30 s"]);
        for _ in 0..20 {
            rig.pass(Duration::from_millis(14_900));
            assert!(rig.request().is_none());
            rig.pass(Duration::from_millis(200));
            let next = rig.sent();
            assert_ne!(next.key.rid, poll.key.rid);
            rig.empty(poll.key);
            poll = next;
        }
        assert_eq!(rig.session.unanswered(), 1);
    }
}

/// T-10, B-39: never sooner than `polling` and a second after the last request; a proxy that cuts sooner
/// still is left to repeats.
#[test]
fn t10_polling_bounds_nudges() {
    let (mut rig, poll) = Rig::bound();
    let _poll = cut_twice(&mut rig, poll, Duration::from_secs(9), Rig::lose);
    assert_eq!(rig.events(), ["cut 9 s"]);
    rig.pass(Duration::from_millis(5900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    rig.sent();

    let polling = "wait='55' requests='2' hold='1' inactivity='60' polling='15' ver='1.6'";
    let (mut rig, poll) = Rig::bound_with(polling);
    let poll = cut_twice(&mut rig, poll, Duration::from_secs(9), Rig::lose);
    rig.pass(Duration::from_secs(9));
    assert!(rig.request().is_none());
    rig.lose(poll.key);
    assert_eq!(rig.sent().body, poll.body);
}

/// T-11: a limit is not inferred from our own timeouts, nor from requests that were to be released.
#[test]
fn t11_only_cuts_are_learnt_from() {
    let (mut rig, mut poll) = Rig::bound();
    for _ in 0..2 {
        rig.pass(Duration::from_secs(70));
        assert_eq!(rig.aborts(), [poll.key]);
        poll = rig.sent();
        rig.empty(poll.key);
        poll = rig.sent();
    }
    assert_eq!(rig.events(), Vec::<String>::new());
}

/// T-32: the machine slept. What is under way is given up at once and goes out again on new connections.
#[test]
fn t32_sleep_renews_every_request() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let carrier = rig.sent();
    rig.session.renew(Duration::from_secs(20), rig.now);
    assert_eq!(rig.aborts(), [poll.key, carrier.key]);
    let first = rig.sent();
    assert_eq!(first.body, poll.body);
    assert!(first.fresh);
    let second = rig.sent();
    assert_eq!(second.body, carrier.body);
    rig.empty(first.key);
    assert_eq!(rig.events(), Vec::<String>::new());
}

/// T-32, B-54: it slept for longer than the manager waits. One attempt is made all the same; if it fails the
/// client is told at once.
#[test]
fn b54_one_last_try_after_a_long_sleep() {
    let (mut rig, poll) = Rig::bound();
    rig.session.renew(Duration::from_secs(3600), rig.now);
    rig.aborts();
    let last = rig.sent();
    assert_eq!(last.body, poll.body);
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.lose(last.key);
    assert_eq!(rig.events().len(), 1, "closed");

    // The manager still knows the session: nothing has happened.
    let (mut rig, _poll) = Rig::bound();
    rig.session.renew(Duration::from_secs(3600), rig.now);
    rig.aborts();
    let last = rig.sent();
    rig.payload(last.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
    rig.sent();
}

/// B-54: the network recovers when patience is all but spent: the attempt that goes out for that may take longer
/// than patience would have lasted. If it fails the client is told at once.
#[test]
fn b54_one_last_try_when_the_network_recovers() {
    for comes_back in [true, false] {
        let (mut rig, poll) = Rig::bound();
        let start = rig.now;
        rig.lose(poll.key);
        // 55 s of wait and 60 s of inactivity.
        while rig.now - start < Duration::from_secs(113) {
            if let Some(again) = rig.request() {
                rig.fail(again.key, FailureKind::CmUnreachable, false);
            }
            rig.pass(Duration::from_millis(100));
        }
        assert_eq!(rig.events(), Vec::<String>::new());
        assert!(rig.request().is_none(), "it waits for its next attempt");
        rig.session.hurry(rig.now);
        let last = rig.sent();
        assert_eq!(last.body, poll.body);
        rig.pass(Duration::from_secs(5));
        assert_eq!(rig.events(), Vec::<String>::new());
        if comes_back {
            rig.payload(last.key, "<message id='a'/>");
            assert_eq!(rig.events(), ["message a"]);
        } else {
            rig.lose(last.key);
            assert_eq!(rig.events().len(), 1, "closed");
        }
    }
}

/// T-32, B-55: a creation request that slept is made anew.
#[test]
fn t32_sleep_during_creation() {
    let mut rig = Rig::new();
    let creation = rig.sent();
    rig.session.renew(Duration::from_secs(20), rig.now);
    assert_eq!(rig.aborts(), [creation.key]);
    assert_ne!(rig.sent().key.rid, creation.key.rid);
}

/// The network is back: a repeat does not sit out its pause.
#[test]
fn a_better_network_ends_pauses() {
    let (mut rig, mut poll) = Rig::bound();
    for _ in 0..3 {
        rig.fail(poll.key, FailureKind::CmUnreachable, false);
        rig.pass(Duration::from_secs(3));
        poll = rig.sent();
    }
    rig.fail(poll.key, FailureKind::CmUnreachable, false);
    assert!(rig.request().is_none());
    rig.session.hurry(rig.now);
    assert!(rig.request().is_some());
}

/// B-43, B-44: a pause is never asked for, `maxpause` or not, busy or quiet.
#[test]
fn b43_b44_never_a_pause() {
    let with =
        "wait='55' requests='2' hold='1' inactivity='60' polling='5' maxpause='120' ver='1.6'";
    let without = "wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'";
    for attributes in [with, without] {
        let (mut rig, mut held) = Rig::bound_with(attributes);
        for n in 0..20 {
            if n % 3 == 0 {
                rig.say("<m/>");
            } else {
                rig.pass(Duration::from_secs(55));
                rig.empty(held.key);
            }
            let request = rig.sent();
            assert_eq!(attribute(&request, "pause"), None);
            if n % 3 == 0 {
                rig.empty(held.key);
            }
            held = request;
        }
    }
}

/// T-10, B-54: a proxy that cuts shortly before `wait`: after each cut an empty request asks whether the session
/// lives, so that patience does not run out between two cuts.
#[test]
fn t10_a_repeat_is_probed() {
    let (mut rig, mut poll) = Rig::bound();
    for _ in 0..20 {
        rig.pass(Duration::from_secs(49));
        if rig.session.unanswered() > 1 {
            panic!("two are held");
        }
        rig.answer(poll.key, 504, "<html/>");
        rig.pass(Duration::from_secs(3));
        let again = rig.sent();
        assert_eq!(again.body, poll.body);
        rig.pass(Duration::from_millis(5900));
        assert!(rig.request().is_none());
        rig.pass(Duration::from_millis(200));
        let probe = rig.sent();
        assert!(text(&probe).ends_with("/>"));
        rig.empty(again.key);
        poll = probe;
        if rig.events().iter().any(|e| e.starts_with("cut")) {
            // Known now: nudges keep below it.
            return;
        }
    }
    panic!("the cuts were not noticed");
}
