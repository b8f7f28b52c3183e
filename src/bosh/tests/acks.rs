//! What the manager says about requests and replies, and what is missing (XEP-0124 sections 9, 14.2).

use super::*;

const ACKS: &str =
    "wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6' ack='1000000'";

fn reply(attributes: &str) -> String {
    format!("<body xmlns='{NS_HTTPBIND}' {attributes}/>")
}

/// B-48: the manager acknowledges, and has not seen a request that was sent a while ago: it is repeated at
/// once, not after its reply limit.
#[test]
fn b48_a_swallowed_request_is_repeated_early() {
    let (mut rig, poll) = Rig::bound_with(ACKS);
    rig.say("<m/>");
    let second = rig.sent();
    rig.pass(Duration::from_secs(1));
    rig.payload(poll.key, "<message id='a'/>");
    assert_eq!(rig.aborts(), [second.key]);
    rig.pass(Duration::from_secs(2));
    let again = rig.sent();
    assert_eq!(again.body, second.body);
    assert!(again.fresh);
}

/// B-48: a request that is only just under way is not missed; nor one that the manager says it has.
#[test]
fn b48_what_is_on_its_way_is_not_repeated() {
    let (mut rig, poll) = Rig::bound_with(ACKS);
    rig.say("<m/>");
    let _second = rig.sent();
    rig.pass(Duration::from_millis(100));
    rig.payload(poll.key, "<message id='a'/>");
    assert_eq!(rig.aborts(), []);

    let (mut rig, poll) = Rig::bound_with(ACKS);
    rig.say("<m/>");
    let _second = rig.sent();
    rig.pass(Duration::from_secs(1));
    rig.reply(poll.key, &reply("ack='1000002'"));
    assert_eq!(rig.aborts(), []);
}

/// B-30, cm-quirks section 9: without acknowledgements, and with Tigase's, a missing `ack` means nothing.
#[test]
fn b30_only_where_the_manager_acknowledges() {
    let tigase = "wait='30' requests='2' hold='1' inactivity='10' maxpause='10' polling='10' host='h' ver='1.6' ack='1000000'";
    let silent = "wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'";
    for attributes in [tigase, silent] {
        let (mut rig, poll) = Rig::bound_with(attributes);
        rig.say("<m/>");
        let _second = rig.sent();
        rig.pass(Duration::from_secs(1));
        rig.payload(poll.key, "<message id='a'/>");
        assert_eq!(rig.aborts(), []);
    }
}

/// B-47: what the manager has received shows in the session's state.
#[test]
fn b47_the_managers_ack_is_kept() {
    let (mut rig, poll) = Rig::bound_with(ACKS);
    rig.say("<m/>");
    let _second = rig.sent();
    rig.reply(poll.key, &reply("ack='1000002'"));
    assert!(format!("{:?}", rig.session).contains("acked: Some(1000002)"));
}

/// B-46: the manager reports that a reply of its own seems lost. If it is missing here too, it is asked for
/// again; `time` may be any number.
#[test]
fn b46_reported_replies() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.reply(second.key, &reply("report='1000001' time='4294967296123'"));
    assert_eq!(rig.aborts(), [poll.key]);
    let again = rig.sent();
    assert_eq!(again.body, poll.body);
    rig.payload(again.key, "<message id='a'/>");
    assert_eq!(rig.events(), ["message a"]);

    // It is here: nothing to do.
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.payload(poll.key, "<message id='a'/>");
    rig.reply(second.key, &reply("report='1000001' time='100'"));
    assert_eq!(rig.aborts(), []);
    assert_eq!(rig.sent().key.rid.0, FIRST + 3);
}

/// B-56: a reply that is here shows that the older one is lost, long before its own limit.
#[test]
fn b56_an_older_reply_is_missed_soon() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    let second = rig.sent();
    rig.empty(second.key);
    rig.pass(Duration::from_millis(5400));
    assert_eq!(rig.aborts(), []);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.aborts(), [poll.key]);
    let again = rig.sent();
    assert_eq!(again.body, poll.body);

    let short = "wait='20' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'";
    let (mut rig, poll) = Rig::bound_with(short);
    rig.say("<m/>");
    let second = rig.sent();
    rig.empty(second.key);
    rig.pass(Duration::from_millis(2900));
    assert_eq!(rig.aborts(), []);
    rig.pass(Duration::from_millis(200));
    assert_eq!(rig.aborts(), [poll.key]);
}

/// S-43: what a request carried is confirmed by an ordinary reply, in rid order; not by an error, a terminate
/// or nothing at all.
#[test]
fn s43_what_confirms() {
    let (mut rig, poll) = Rig::bound();
    rig.say("<m/>");
    rig.say("<m/>");
    let second = rig.sent();
    rig.empty(second.key);
    rig.events();
    assert_eq!(rig.confirmed, 0, "the older reply is missing");
    rig.empty(poll.key);
    rig.events();
    assert_eq!(rig.confirmed, 2);

    for body in [
        reply("type='error'"),
        reply("type='terminate'"),
        reply("type='terminate' condition='item-not-found'"),
        String::new(),
    ] {
        let (mut rig, poll) = Rig::bound();
        rig.say("<m/>");
        let second = rig.sent();
        rig.empty(poll.key);
        rig.reply(second.key, &body);
        rig.events();
        assert_eq!(rig.confirmed, 0, "{body}");
    }
}
