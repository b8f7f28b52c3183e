//! Empty answers that prove nothing, and requests that a manager calls unknown (B-51, B-58, cm-quirks 4.2).

use super::*;

/// B-51, cm-quirks 4.2: the empty answer to a third copy is not final. The next request goes out, then the rid
/// is asked for once more; what it brings comes before the newer reply.
#[test]
fn b51_third_copy_is_asked_for_once_more() {
    let (mut rig, poll) = Rig::bound();
    let mut attempt = poll.clone();
    for _ in 0..2 {
        rig.lose(attempt.key);
        rig.pass(Duration::from_secs(2));
        attempt = rig.sent();
    }
    assert_eq!(attempt.key.attempt, 3);
    rig.empty(attempt.key);
    let next = rig.sent();
    assert_eq!(next.key.rid.0, poll.key.rid.0 + 1);
    assert_eq!(
        attribute(&next, "ack").as_deref(),
        Some("1000000"),
        "the older one is still open"
    );
    let again = rig.sent();
    assert_eq!(
        (again.key.rid, &again.body, again.key.attempt),
        (poll.key.rid, &poll.body, 4)
    );
    rig.nothing_to_send();
    rig.payload(next.key, "<message id='b'/>");
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a", "message b"]);
    rig.sent();
}

/// B-51: whatever else the question meets, the empty answer stands in the end, and what is parked behind it comes.
#[test]
fn b51_no_stored_answer() {
    for outcome in 0..4 {
        let (mut rig, poll) = Rig::bound();
        let mut attempt = poll;
        for _ in 0..2 {
            rig.lose(attempt.key);
            rig.pass(Duration::from_secs(2));
            attempt = rig.sent();
        }
        rig.empty(attempt.key);
        let next = rig.sent();
        let again = rig.sent();
        rig.payload(next.key, "<message id='b'/>");
        match outcome {
            0 => rig.empty(again.key),
            1 => {
                // A broken connection says nothing: it is asked again, twenty times in all.
                rig.lose(again.key);
                for _ in 1..20 {
                    rig.pass(Duration::from_secs(1));
                    let once_more = rig.sent();
                    assert_eq!(once_more.body, again.body);
                    rig.lose(once_more.key);
                }
            }
            2 => rig.answer(again.key, 404, "gone"),
            _ => {
                // Nor does silence, which takes longer.
                for _ in 0..6 {
                    rig.pass(Duration::from_millis(2100));
                    assert_eq!(rig.sent().body, again.body);
                }
                rig.pass(Duration::from_millis(2100));
            }
        }
        assert_eq!(rig.events(), ["message b"], "{outcome}");
        assert_eq!(rig.sent().key.rid.0, next.key.rid.0 + 1);
    }
}

/// B-51: in an outage both the question and the next request fail. Nothing is parked, so the question is not given up
/// (found by the simulation).
#[test]
fn b51_the_question_outlives_an_outage() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.lose(poll.key);
    let second = rig.sent();
    rig.empty(second.key);
    let next = rig.sent();
    let mut asked = rig.sent();
    for _ in 0..30 {
        rig.lose(asked.key);
        rig.pass(Duration::from_secs(1));
        asked = rig.sent();
        assert_eq!(asked.body, poll.body);
    }
    rig.payload(asked.key, "<message id='a'/>");
    rig.payload(next.key, "<message id='b'/>");
    assert_eq!(rig.events(), ["message a", "message b"]);
}

/// B-51: the stored answer was read before the next request had come, which breaks only then. It proved nothing, and
/// is read again behind the repeat of that (found by the simulation).
#[test]
fn b51_the_next_request_came_after_the_question() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.lose(poll.key);
    let second = rig.sent();
    rig.empty(second.key);
    let next = rig.sent();
    let asked = rig.sent();
    assert_eq!(asked.body, poll.body);
    rig.empty(asked.key);
    rig.nothing_to_send();
    rig.lose(next.key);
    let repeat = rig.sent();
    assert_eq!(repeat.body, next.body);
    let asked = rig.sent();
    assert_eq!(asked.body, poll.body);
    rig.payload(asked.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
    rig.payload(repeat.key, "<message id='b'/>");
    assert_eq!(rig.events(), ["message b"]);
}

/// B-51, T-09: while an answer is missing, one in doubt behind it counts like any that is parked: one more request
/// would push the missing one out of the manager's store (found by the simulation).
#[test]
fn t09_an_answer_in_doubt_is_no_room() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m>1</m>");
    let second = rig.sent();
    rig.lose(second.key);
    let again = rig.sent();
    rig.empty(again.key);
    rig.say("<m>2</m>");
    rig.nothing_to_send();
    rig.payload(poll.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
    assert!(text(&rig.sent()).contains("<m>2</m>"));
}

/// B-58: Prosody calls an old request unknown, and nothing comes for the newer one, which it may hold: an empty one
/// makes it answer that. The old one is not asked for again, and not confirmed before.
#[test]
fn b58_the_newer_request_is_brought_to_an_answer() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    let again = rig.sent();
    rig.reply(again.key, GONE);
    rig.pass(Duration::from_secs(5));
    rig.nothing_to_send();
    rig.pass(Duration::from_secs(1));
    let release = rig.sent();
    assert!(text(&release).ends_with("/>"));
    rig.nothing_to_send();
    assert_eq!(rig.events(), Vec::<String>::new());
    assert_eq!(rig.confirmed, 0);
    rig.payload(second.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
    assert_eq!(rig.confirmed, 1);
}

/// B-58: the newer request has been out for a while: it is sent again, and what it says decides.
#[test]
fn b58_a_newer_request_without_a_sign_is_sent_again() {
    for gone in [false, true] {
        let (mut rig, poll) = Rig::bound_with(PROSODY);
        rig.say("<m/>");
        let second = rig.sent();
        rig.pass(Duration::from_secs(15));
        assert_eq!(rig.aborts(), [poll.key]);
        let again = rig.sent();
        rig.reply(again.key, GONE);
        assert_eq!(rig.aborts(), [second.key]);
        let repeat = rig.sent();
        assert_eq!(repeat.body, second.body);
        if gone {
            rig.reply(repeat.key, GONE);
            assert_eq!(rig.events(), ["closed: item-not-found None []"]);
            assert_eq!(rig.confirmed, 0);
        } else {
            rig.payload(repeat.key, "<message id='a'/>");
            assert_eq!(rig.events(), ["message a"]);
            assert_eq!(rig.confirmed, 1);
        }
    }
}

/// P-10, cm-quirks 4.2: a proxy has sent the poll twice. Its first copy is answered empty at once, the second
/// is held, and what comes next is written to that, which nobody reads: so the answer is asked for once more
/// when the next request is out.
#[test]
fn p10_an_empty_answer_without_a_reason() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.pass(Duration::from_secs(1));
    rig.empty(poll.key);
    let next = rig.sent();
    assert_eq!(next.key.rid.0, poll.key.rid.0 + 1);
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.payload(next.key, "<message id='b'/>");
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a", "message b"]);
}

/// A reason: `wait` is nearly over, or a newer request is out.
#[test]
fn p10_empty_answers_with_a_reason() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.pass(Duration::from_secs(50));
    rig.empty(poll.key);
    rig.sent();
    rig.nothing_to_send();

    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m/>");
    let _carrier = rig.sent();
    rig.empty(poll.key);
    rig.nothing_to_send();
}

/// cm-quirks section 5: Prosody forgets a held request whose connection broke, and calls the repeat unknown
/// when a newer one has come. The session lives: the newer request tells.
#[test]
fn b58_prosody_forgets_an_old_request() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m/>");
    let second = rig.sent();
    rig.answer(poll.key, 504, "<html/>");
    let again = rig.sent();
    rig.payload(second.key, "<message id='a'/>");
    rig.reply(again.key, GONE);
    assert_eq!(rig.events(), ["message a"]);
    assert_eq!(rig.confirmed, 1);
    rig.sent();

    // The newer one is not answered yet: a moment later it is.
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m/>");
    let second = rig.sent();
    rig.answer(poll.key, 504, "<html/>");
    let again = rig.sent();
    rig.reply(again.key, GONE);
    assert_eq!(rig.events(), Vec::<String>::new());
    rig.payload(second.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
    assert_ne!(rig.sent().body, poll.body);

    // The session really is gone: every request says so.
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m/>");
    let second = rig.sent();
    rig.answer(poll.key, 504, "<html/>");
    let again = rig.sent();
    rig.reply(second.key, GONE);
    rig.reply(again.key, GONE);
    assert_eq!(rig.events(), ["closed: item-not-found None []"]);
}

/// P-10: the row of docs/reliability.md that lost a message. The proxy's second copy makes Prosody answer the first
/// with nothing, just as a newer request goes out; the message goes to the copy that nobody reads. On a way that may
/// repeat requests the answer is asked for again, and nothing new goes out before it is here, or Prosody would forget
/// it. Elsewhere the newer request is reason enough, which saves a request for each that the client sends.
#[test]
fn p10_an_empty_answer_behind_a_newer_request() {
    for repeats in [true, false] {
        let way = Way {
            repeats,
            swallows: false,
        };
        let mut rig = Rig::open_on(way, PROSODY);
        rig.session.bound();
        let poll = rig.sent();
        rig.pass(Duration::from_secs(1));
        rig.say("<m>1</m>");
        let carrier = rig.sent();
        // Much later than any answer needs.
        rig.pass(Duration::from_secs(2));
        rig.empty(poll.key);
        rig.say("<m>2</m>");
        let next = rig.sent();
        if !repeats {
            assert!(text(&next).contains("<m>2</m>"));
            continue;
        }
        assert!(!next.fresh, "nothing is wrong with the connection");
        assert_eq!((next.key.rid, next.body), (poll.key.rid, poll.body));
        rig.nothing_to_send();
        // Spoilt on the way: asked for once more.
        rig.answer(next.key, 502, "<html/>");
        let next = rig.sent();
        assert_eq!(next.key.rid, poll.key.rid);
        rig.payload(carrier.key, "<message id='b'/>");
        assert_eq!(rig.events(), Vec::<String>::new());
        rig.payload(next.key, "<message id='a'/>");
        assert_eq!(rig.events(), ["message a", "message b"]);
        assert!(text(&rig.sent()).contains("<m>2</m>"));
    }
}

/// P-10: the same while the client logs in: the answer to its bind request goes to the copy that nobody reads, and it would
/// wait for ever.
#[test]
fn p10_a_login_request_that_was_sent_twice() {
    let way = Way {
        repeats: true,
        swallows: false,
    };
    let mut rig = Rig::open_on(way, PROSODY);
    rig.say("<iq type='set' id='bind'/>");
    let bind = rig.sent();
    rig.pass(Duration::from_millis(5));
    rig.empty(bind.key);
    let poll = rig.sent();
    assert_eq!(poll.key.rid.0, bind.key.rid.0 + 1);
    let again = rig.sent();
    assert_eq!(again.body, bind.body);
    rig.payload(again.key, "<iq type='result' id='bind'/>");
    assert_eq!(rig.events(), ["iq bind"]);
}

/// The server had ended the session while the newer request could not even be sent: what Prosody calls unknown then
/// was no request that a newer one has pushed out, and the session was asked for until patience ended.
#[test]
fn b58_prosody_forgets_nothing_for_a_request_that_never_went_out() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.say("<m/>");
    rig.pass(Duration::from_millis(25));
    let second = rig.request().unwrap();
    rig.fail(second.key, FailureKind::CmUnreachable, false);
    rig.lose(poll.key);
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.reply(again.key, GONE);
    assert_eq!(rig.events(), ["closed: item-not-found None []"]);
}

/// P-10, found by the simulation: an empty answer while the newer request waits for a connection has no reason, just
/// as if there was none.
#[test]
fn p10_an_empty_answer_before_a_newer_request_is_out() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.pass(Duration::from_secs(1));
    rig.say("<m/>");
    let carrier = rig.request().unwrap();
    assert!(text(&carrier).contains("<m/>"));
    rig.pass(Duration::from_secs(2));
    rig.empty(poll.key);
    rig.session.handle_written(carrier.key, rig.now);
    let again = rig.sent();
    assert_eq!((again.key.rid, again.body), (poll.key.rid, poll.body));
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
}

/// B-51, found by the simulation: the newer request, which makes the manager let go of every older copy, was lost on
/// its way. What was stored before it came is not final either.
#[test]
fn b51_a_stored_answer_without_the_newer_request() {
    let (mut rig, poll) = Rig::bound_with(PROSODY);
    rig.pass(Duration::from_secs(1));
    rig.empty(poll.key);
    let next = rig.sent();
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.answer(next.key, 502, "<html/>");
    rig.empty(again.key);
    let next = rig.sent();
    assert_eq!(next.key.rid.0, poll.key.rid.0 + 1);
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);
}
