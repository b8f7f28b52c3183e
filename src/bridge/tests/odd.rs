//! Odd moments: what came together that seldom does.

use super::managed::managed;
use super::*;
use crate::bridge::{Kept, Remains};

fn message(id: &str) -> String {
    format!(
        "<message xmlns='jabber:client' from='b@x' id='{id}' type='chat'><body>hi</body></message>"
    )
}
fn big(id: &str) -> String {
    format!(
        "<message xmlns='jabber:client' from='b@x' id='{id}'><body>{}</body></message>",
        "x".repeat(15_000)
    )
}
fn returning(previd: &str, h: u32) -> Rig {
    let mut rig = Rig::new().authenticated(GRANT, AUTH);
    rig.client(&format!(
        "<resume xmlns='urn:xmpp:sm:3' previd='{previd}' h='{h}'/>"
    ));
    rig
}
fn remains(rig: &Rig) -> Option<Remains> {
    rig.events.iter().find_map(|event| match event {
        Event::Over { remains, .. } => remains.clone(),
        _ => None,
    })
}

/// S-48: a client that resumes with a wrong `h` is answered; only its stream cannot be resumed again.
#[test]
fn s48_a_wrong_h_is_resumed_once() {
    let (mut old, _poll, id) = managed();
    old.bridge.handle_client_gone(old.now);
    let mut new = returning(&id, 5);
    let side = new.bridge.detach();
    assert!(old.bridge.can_attach());
    old.bridge.attach(side, 5, old.now);
    old.settle();
    let output = old.output();
    assert!(
        output.contains("<resumed") || output.contains("<failed"),
        "nothing said: {output:?}"
    );
}

/// S-25: a buffer full of what is not acknowledged does not stop the reading of acknowledgements.
#[test]
fn s25_acks_are_read_when_the_buffer_is_full() {
    let (mut rig, poll, _id) = managed();
    let all: String = (0..8).map(|n| big(&n.to_string())).collect();
    rig.payload(&poll, &all);
    rig.output();
    // everything is written; the client is healthy and about to answer <r/>.
    rig.output();
    assert!(rig.bridge.output().is_empty());
    assert!(
        rig.bridge.wants_client_bytes(),
        "the client's <a/> is never read"
    );
}

/// S-25, E-16: a client that reads and acknowledges is no slow reader.
#[test]
fn s25_a_client_that_reads_is_no_slow_reader() {
    let (mut rig, poll, _id) = managed();
    let all: String = (0..8).map(|n| big(&n.to_string())).collect();
    rig.payload(&poll, &all);
    rig.output();
    rig.output();
    if rig.bridge.wants_client_bytes() {
        rig.client("<a xmlns='urn:xmpp:sm:3' h='8'/>");
    }
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.fault(), None);
}

/// S-48: an acknowledgement that leaves something open is followed by the next question.
#[test]
fn s48_asks_again_after_a_partial_ack() {
    let (mut rig, poll, _id) = managed();
    rig.payload(&poll, &message("1"));
    assert!(rig.output().contains("id='1'"));
    assert!(rig.output().contains("<r "));
    let poll = rig.request();
    rig.payload(&poll, &message("2"));
    assert!(rig.output().contains("id='2'"));
    assert_eq!(rig.output(), "");
    rig.client("<a xmlns='urn:xmpp:sm:3' h='1'/>");
    assert!(rig.output().contains("<r "), "stanza 2 is never asked for");
}

/// S-25: polls go on at once when the client has acknowledged.
#[test]
fn s25_polls_go_on_once_acknowledged() {
    let (mut rig, poll, _id) = managed();
    let all: String = (0..8).map(|n| big(&n.to_string())).collect();
    rig.payload(&poll, &all);
    rig.output();
    rig.output();
    rig.no_request();
    // fed past wants_client_bytes, as a fixed shell would
    rig.client("<a xmlns='urn:xmpp:sm:3' h='8'/>");
    let due = rig.bridge.poll_timeout().map(|at| at - rig.now);
    assert!(
        !rig.requests.is_empty() || due < Some(Duration::from_secs(1)),
        "next poll in {due:?}"
    );
}

/// S-47, S-50: stopping in the two seconds after a client vanished still returns what it did not get.
#[test]
fn s47_stopping_while_a_client_is_parted_from() {
    let (mut rig, poll) = Rig::online();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    let presence = rig.request();
    rig.payload(&poll, &message("m1"));
    rig.bridge.shutdown(rig.now);
    rig.settle();
    let mut all = String::new();
    rig.pass(Duration::from_millis(25));
    let request = rig.request();
    all.push_str(&text(&request));
    rig.payload(&presence, "");
    rig.payload(&request, "");
    assert!(all.contains("recipient-unavailable"), "{all}");
}

/// S-51: a stream error while the client is away ends everything, and what it did not get is kept.
#[test]
fn s51_a_stream_error_while_nobody_is_there() {
    let (mut rig, poll, _id) = managed();
    rig.payload(&poll, &message("1"));
    rig.output();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    assert!(rig.bridge.is_away());
    let poll = rig.request();
    rig.payload(
        &poll,
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    );
    let terminate = rig.request();
    rig.reply(&terminate, "type='terminate'", "");
    assert!(rig.bridge.is_finished());
    let left = remains(&rig).expect("something");
    assert!(
        rig.bridge.output().is_empty(),
        "no client will ever take it: the task never ends"
    );
    assert_eq!(left.kept.len(), 1);
}

/// S-51: a second stream asked for on the same connection adds to what the first had left.
#[test]
fn s51_two_lost_streams() {
    let mut new = returning("gone", 0);
    let (mut old, poll, _id) = managed();
    old.payload(&poll, &message("k"));
    old.output();
    let poll = old.request();
    old.reply(&poll, "type='terminate' condition='system-shutdown'", "");
    old.pass(Duration::from_secs(3));
    let kept: Kept = remains(&old).unwrap().kept.remove(0);
    new.bridge.refuse_resume(
        Some(0),
        vec![(kept, "2026-01-01T00:00:00Z".into())],
        new.now,
    );
    new.settle();
    new.client("<resume xmlns='urn:xmpp:sm:3' previd='gone' h='0'/>");
    new.bridge.refuse_resume(Some(0), vec![], new.now);
    new.settle();
    assert_eq!(new.bridge.take_kept().len(), 1);
}

/// T-29: a client that comes back to a stream that has ended meanwhile gets everything in order.
#[test]
fn t29_a_client_given_back_after_the_end() {
    let mut rig = Rig::new().authenticated(GRANT, AUTH);
    // a compress failure is queued and half written
    rig.client("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress><resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>");
    rig.bridge.consume_output(5, rig.now);
    let side = rig.bridge.detach();
    rig.bridge.shutdown(rig.now);
    rig.bridge.take_back(side);
    rig.bridge.refuse_resume(None, Vec::new(), rig.now);
    let out = rig.output();
    assert!(out.ends_with("</stream:stream>"), "{out}");
}

/// S-51: a client that vanishes while its session is ending leaves its messages behind too.
#[test]
fn s51_vanishing_while_the_session_ends() {
    let (mut rig, poll, _id) = managed();
    rig.payload(&poll, &message("1"));
    rig.output();
    let held = rig.request();
    rig.client("<message id='u'/>");
    let carrier = rig.request();
    // the manager ends the session on the newer request; the older reply is still missing
    rig.reply(
        &carrier,
        "type='terminate' condition='remote-connection-failed'",
        "",
    );
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    rig.payload(&held, "");
    rig.pass(Duration::from_secs(3));
    let left = remains(&rig).expect("something");
    assert_eq!(left.kept.len(), 1);
}
