//! Key sequences (XEP-0124 section 15), stream names (section 16) and repeats to ejabberd (cm-quirks 4.1).

use sha1::{Digest as _, Sha1};

use super::*;
use crate::bosh::KeySeed;
use crate::bosh::keys::KeyChain;

fn sha1_hex(text: &str) -> String {
    Sha1::digest(text.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn keyed() -> Rig {
    let now = crate::driver::clock::now();
    let options = Options {
        requested: requested(),
        max_body_bytes: 65536,
        https: false,
        buffer_bytes: 1 << 20,
        limits: limits(),
        first_rid: Rid(FIRST),
        seed: 1,
        way: Way::default(),
        key_seed: Some(KeySeed::new([3; 32])),
    };
    Rig {
        session: Session::new(options, now),
        now,
        confirmed: 0,
    }
}

/// B-66, B-68: `newkey` alone at creation, then one key lower on every request of any kind; a repeat carries
/// its own again.
#[test]
fn b66_b68_every_request_carries_the_next_key() {
    let mut rig = keyed();
    let creation = rig.sent();
    assert_eq!(attribute(&creation, "key"), None);
    let mut last = attribute(&creation, "newkey").unwrap();
    rig.reply(
        creation.key,
        &format!("<body xmlns='{NS_HTTPBIND}' sid='s' wait='55' requests='2' hold='1' inactivity='60' ver='1.6'/>"),
    );
    let mut check = |request: &Request| {
        let key = attribute(request, "key").unwrap();
        assert_eq!(sha1_hex(&key), last, "{}", text(request));
        last = key;
    };
    let poll = rig.sent();
    check(&poll);
    rig.empty(poll.key);
    rig.session.restart();
    let restart = rig.sent();
    check(&restart);
    rig.empty(restart.key);
    rig.session.bound();
    let poll = rig.sent();
    check(&poll);
    rig.say("<m/>");
    let payload = rig.sent();
    check(&payload);
    rig.lose(poll.key);
    let again = rig.sent();
    assert_eq!(again.body, poll.body, "a repeat takes no key of its own");
    rig.empty(again.key);
    rig.session.terminate(Duration::from_secs(5), rig.now);
    let terminate = rig.sent();
    check(&terminate);
    rig.empty(payload.key);
    rig.empty(terminate.key);
    assert_eq!(
        rig.events().last().unwrap(),
        "closed: terminated, confirmed true"
    );
}

/// B-67: the last key of a chain brings the first of the next one with it; a repeat at the change is the
/// stored bytes (T-13).
#[test]
fn b67_change_of_chain() {
    let mut rig = keyed();
    let creation = rig.sent();
    rig.reply(
        creation.key,
        &format!("<body xmlns='{NS_HTTPBIND}' sid='s' wait='55' requests='2' hold='1' inactivity='60' ver='1.6'/>"),
    );
    rig.session.keys = Some(KeyChain::of_length(KeySeed::new([4; 32]), 2));
    let start = rig.session.keys.as_mut().unwrap().next();
    let mut expected = start.new_key.unwrap().to_string();
    rig.session.bound();
    for n in 0..50 {
        let mut request = rig.sent();
        if n % 7 == 0 {
            rig.lose(request.key);
            let again = rig.sent();
            assert_eq!(again.body, request.body);
            request = again;
        }
        assert_eq!(sha1_hex(&attribute(&request, "key").unwrap()), expected);
        expected = attribute(&request, "newkey").expect("a chain of two is used up at once");
        rig.empty(request.key);
    }
}

/// B-55, B-66: each creation attempt announces a chain, and the session uses that of the one answered.
#[test]
fn b66_a_repeated_creation_begins_anew() {
    let mut rig = keyed();
    let lost = rig.sent();
    rig.lose(lost.key);
    rig.pass(Duration::from_secs(2));
    let creation = rig.sent();
    let announced = attribute(&creation, "newkey").unwrap();
    rig.reply(
        creation.key,
        &format!("<body xmlns='{NS_HTTPBIND}' sid='s' wait='55' requests='2' hold='1' inactivity='60' ver='1.6'/>"),
    );
    let poll = rig.sent();
    assert_eq!(sha1_hex(&attribute(&poll, "key").unwrap()), announced);
}

/// B-69: a manager that names its stream: requests leave the name out, empty bodies and terminates of any
/// name count, payload for another stream ends the session.
#[test]
fn b69_stream_names() {
    let named =
        "wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6' stream='ours'";
    let (mut rig, poll) = Rig::bound_with(named);
    assert_eq!(attribute(&poll, "stream"), None);
    rig.reply(
        poll.key,
        &format!("<body xmlns='{NS_HTTPBIND}' stream='ours'><message id='a'/></body>"),
    );
    let poll = rig.sent();
    rig.reply(
        poll.key,
        &format!("<body xmlns='{NS_HTTPBIND}' stream='other'/>"),
    );
    let poll = rig.sent();
    assert_eq!(rig.events(), ["message a"]);
    rig.reply(
        poll.key,
        &format!("<body xmlns='{NS_HTTPBIND}' stream='other'><message id='b'/></body>"),
    );
    assert_eq!(rig.events(), ["closed: UnknownStream"]);

    let (mut rig, poll) = Rig::bound_with(named);
    rig.reply(
        poll.key,
        &format!("<body xmlns='{NS_HTTPBIND}' type='terminate' stream='ours'/>"),
    );
    assert_eq!(rig.events(), ["closed: ended"]);
}

const EJABBERD: &str = "wait='55' requests='2' hold='1' inactivity='30' polling='2' ver='1.11' xmpp:restartlogic='true' xmlns:xmpp='urn:xmpp:xbosh'";

/// B-52, cm-quirks 4.1: ejabberd may have put the newer request aside if it overtook the older one: the newer
/// is not repeated before the older is answered.
#[test]
fn b52_ejabberd_gets_the_older_one_first() {
    let (mut rig, poll) = Rig::bound_with(EJABBERD);
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    rig.lose(second.key);
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.pass(Duration::from_secs(9));
    assert!(rig.request().is_none());
    rig.empty(again.key);
    assert_eq!(rig.sent().body, second.body);

    // Held for so long, it releases nothing any more: the newer one most likely never came.
    let (mut rig, poll) = Rig::bound_with(EJABBERD);
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    rig.lose(second.key);
    rig.sent();
    rig.pass(Duration::from_millis(10_100));
    assert_eq!(rig.sent().body, second.body);
}

/// cm-quirks 4.1: a poll that ejabberd had held for long before the stanza went out cannot have been
/// overtaken: when its repeat is held once more, the stanza never arrived, and does not wait for it.
#[test]
fn b52_ejabberd_no_needless_wait() {
    let (mut rig, poll) = Rig::bound_with(EJABBERD);
    rig.pass(Duration::from_secs(10));
    rig.say("<m/>");
    let second = rig.sent();
    rig.lose(poll.key);
    rig.lose(second.key);
    let again = rig.sent();
    rig.pass(Duration::from_millis(2900));
    assert!(rig.request().is_none());
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.request().unwrap().body, second.body);
    drop(again);
}

/// T-08, cm-quirks 4.1: both requests were swallowed. ejabberd gets the older one again, then the newer, and
/// only then anything new: one that came before its turn would be put aside for good.
#[test]
fn t08_ejabberd_gets_everything_again_in_order() {
    let (mut rig, poll) = Rig::bound_with(EJABBERD);
    rig.say("<m>1</m>");
    let second = rig.sent();
    rig.say("<m>2</m>");
    rig.pass(Duration::from_secs(16));
    assert_eq!(rig.aborts(), [poll.key, second.key]);
    let first = rig.sent();
    assert_eq!(first.body, poll.body);
    rig.pass(Duration::from_secs(9));
    assert!(rig.request().is_none());
    rig.empty(first.key);
    let again = rig.sent();
    assert_eq!(again.body, second.body);
    rig.pass(Duration::from_millis(30));
    assert!(text(&rig.request().unwrap()).contains("<m>2</m>"));
}

/// B-51, found by the simulation: two newer requests are out, and the last came twice, so ejabberd has let go of the
/// answer in doubt. Asking for it again got no answer, and ended the session the second time.
#[test]
fn b51_an_answer_that_is_not_kept_is_not_asked_for() {
    for came_again in [false, true] {
        let mut rig = Rig::open_with(EJABBERD);
        rig.pass(Duration::from_secs(11));
        let poll = rig.sent();
        rig.session.restart();
        let restart = rig.sent();
        rig.payload(restart.key, "<features/>");
        let mut attempt = poll.clone();
        for _ in 0..2 {
            rig.lose(attempt.key);
            rig.pass(Duration::from_millis(1300));
            attempt = rig.sent();
        }
        rig.pass(Duration::from_secs(1));
        let flush = rig.sent();
        assert_eq!(flush.key.rid.0, poll.key.rid.0 + 2);
        if came_again {
            rig.lose(flush.key);
        }
        rig.empty(attempt.key);
        match came_again {
            true => {
                assert_eq!(rig.events(), ["features"]);
                assert_eq!(rig.sent().body, flush.body);
            }
            false => {
                assert_eq!(rig.events(), Vec::<String>::new());
                assert_eq!(rig.sent().body, poll.body);
            }
        }
    }
}
