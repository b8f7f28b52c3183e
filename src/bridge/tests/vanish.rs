//! Clients that vanish without a word (S-50, T-28).

use super::managed::managed;
use super::*;

const MESSAGE: &str = "<message xmlns='jabber:client' from='b@x/r' to='a@example.org/x' id='m1' type='chat'><body>hi</body></message>";

fn is_unavailable(request: &Request) -> bool {
    text(request).contains("<presence xmlns='jabber:client' type='unavailable'/></body>")
}

/// S-50, T-28: without stream management the contacts are told at once; what still comes goes back to its
/// sender inside the terminate request, 2 s later at most.
#[test]
fn s50_a_client_vanishes() {
    let (mut rig, poll) = Rig::online();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    let presence = rig.request();
    assert!(is_unavailable(&presence) && !text(&presence).contains("terminate"));
    rig.payload(&poll, MESSAGE);
    rig.no_request();
    rig.pass(Duration::from_millis(2100));
    let terminate = text(&rig.request());
    assert!(terminate.contains("type='terminate'>"), "{terminate}");
    assert!(
        terminate.contains("<message xmlns='jabber:client' type='error' to='b@x/r' id='m1'>")
            && terminate.contains("<recipient-unavailable "),
        "{terminate}"
    );
    assert_eq!(rig.output(), "");
}

/// S-50: the answer to the presence ends the waiting.
#[test]
fn s50_no_longer_than_needed() {
    let (mut rig, poll) = Rig::online();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    let presence = rig.request();
    rig.payload(&poll, "");
    rig.payload(&presence, "");
    let terminate = rig.request();
    assert!(text(&terminate).contains("type='terminate'/>"));
    rig.payload(&terminate, "");
    assert!(rig.bridge.is_finished());
}

/// S-50: what was written to the socket has arrived, as far as can be known; what was not goes back.
#[test]
fn s50_unwritten_stanzas_go_back() {
    let (mut rig, poll) = Rig::online();
    rig.payload(&poll, &format!("{MESSAGE}{}", MESSAGE.replace("m1", "m2")));
    let first = rig.bridge.output().len() / 2;
    rig.bridge.consume_output(first + 3, rig.now);
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    let poll = rig.request();
    let presence = rig.request();
    assert!(is_unavailable(&presence));
    rig.payload(&poll, "");
    rig.payload(&presence, "");
    let terminate = text(&rig.request());
    assert!(
        terminate.contains("id='m2'") && !terminate.contains("id='m1'"),
        "{terminate}"
    );
}

/// S-50: after a clean close nothing goes back.
#[test]
fn s50_nothing_after_a_clean_close() {
    let (mut rig, poll) = Rig::online();
    rig.client("</stream:stream>");
    let terminate = rig.request();
    rig.bridge.handle_client_gone(rig.now);
    rig.payload(&poll, MESSAGE);
    rig.payload(&terminate, "");
    rig.no_request();
    assert!(rig.bridge.is_finished());
}

/// Before binding there is nothing to tell anybody: the session ends at once.
#[test]
fn t28_unbound_sessions_end_at_once() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    assert!(text(&rig.request()).contains("type='terminate'/>"));
}

/// S-50: with resumption the session waits, polled, for the whole window; then unacknowledged stanzas go back.
#[test]
fn s50_the_window_ends() {
    let (mut rig, poll, _) = managed();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    assert!(rig.bridge.is_away() && !rig.bridge.is_client_closed());
    rig.no_request();
    rig.payload(&poll, MESSAGE);
    let poll = rig.request();
    rig.pass(Duration::from_secs(54));
    rig.payload(&poll, "");
    let poll = rig.request();
    rig.pass(Duration::from_secs(7));
    let presence = rig.request();
    assert!(is_unavailable(&presence));
    rig.payload(&poll, "");
    rig.payload(&presence, "");
    let terminate = text(&rig.request());
    assert!(
        terminate.contains("id='m1'") && terminate.contains("recipient-unavailable"),
        "{terminate}"
    );
    assert_eq!(rig.output(), "");
}

/// S-47: when xbosh stops, streams that wait for their clients are ended too, in the time there is.
#[test]
fn s47_waiting_streams_end_on_shutdown() {
    let (mut rig, poll, _) = managed();
    rig.payload(&poll, MESSAGE);
    rig.output();
    let poll = rig.request();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    rig.bridge.shutdown(rig.now);
    rig.settle();
    let terminate = text(&rig.request());
    assert!(
        terminate.contains("type='terminate'")
            && terminate.contains("type='unavailable'")
            && terminate.contains("id='m1'")
    );
    drop(poll);
    rig.pass(Duration::from_millis(2100));
    assert!(rig.bridge.is_finished());
}

/// S-25, S-50, E-16: a client that does not read is told, and what it did not get goes back.
#[test]
fn s50_slow_readers() {
    let (mut rig, poll) = Rig::online();
    let big = MESSAGE.replace("hi", &"x".repeat(18_000));
    let many: String = (0..7)
        .map(|n| big.replace("m1", &format!("m{n}")))
        .collect();
    rig.payload(&poll, &many);
    rig.bridge.consume_output(30_000, rig.now);
    rig.pass(Duration::from_secs(31));
    assert_eq!(rig.fault(), Some(FaultReason::SlowReader));
    let output = rig.output();
    assert!(output.ends_with("</stream:stream>") && output.contains("<slow-reader "));
    // The one that was half written is finished, so that the error can be read.
    assert_eq!(output.matches("</message>").count(), 1);
    let presence = rig.request();
    assert!(is_unavailable(&presence));
    rig.payload(&presence, "");
    let terminate = text(&rig.request());
    assert!(
        !terminate.contains("id='m0'") && terminate.contains("id='m6'"),
        "{terminate}"
    );
}
