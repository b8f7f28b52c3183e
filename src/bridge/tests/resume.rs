//! Resumption through a second authenticated session (S-49), and what outlives a lost one (S-51).

use super::managed::{ENABLE, managed};
use super::*;
use crate::bridge::{Kept, Remains, SmId};

fn resume(previd: &str, h: u32) -> String {
    format!("<resume xmlns='urn:xmpp:sm:3' previd='{previd}' h='{h}'/>")
}

fn message(id: &str) -> String {
    format!("<message xmlns='jabber:client' from='b@x' id='{id}'><body>hi</body></message>")
}

/// A client that has logged in anew and asks for `previd`; what it said of itself.
fn returning(previd: &str, h: u32) -> (Rig, Option<String>) {
    let mut rig = Rig::new().authenticated(GRANT, AUTH);
    rig.client(&resume(previd, h));
    let user = rig.events.iter().find_map(|event| match event {
        Event::Resume {
            previd: asked,
            h: has,
            user,
        } => {
            assert_eq!((asked, *has), (&SmId::new(previd.to_owned()), h));
            Some(user.clone())
        }
        _ => None,
    });
    (rig, user.expect("asked for"))
}

fn remains(rig: &Rig) -> Remains {
    let found = rig.events.iter().find_map(|event| match event {
        Event::Over { remains, .. } => remains.clone(),
        _ => None,
    });
    found.expect("something is left")
}

/// S-49: the whole way: what the client has is not sent again, the rest is, in order; `h` is what we received,
/// since we hold it and deliver it; the new session ends unbound; counting goes on.
#[test]
fn s49_resumed() {
    let (mut old, poll, id) = managed();
    old.client("<message id='u1'/><message id='u2'/>");
    let carrier = old.request();
    old.payload(&poll, &format!("{}{}", message("d1"), message("d2")));
    old.output();
    old.bridge.handle_client_gone(old.now);
    old.settle();
    // It arrives while nobody is there.
    old.payload(&carrier, &message("d3"));
    assert_eq!(old.output(), "");
    let poll = old.request();

    let (mut new, user) = returning(&id, 1);
    assert_eq!(user.as_deref(), Some("a"));
    assert!(!new.bridge.wants_client_bytes());
    let side = new.bridge.detach();
    assert_eq!(new.output(), "");
    assert!(old.bridge.can_attach());
    assert!(old.bridge.attach(side, 1, old.now).is_empty());
    old.settle();
    new.bridge.given_away(new.now);
    new.settle();
    let terminate = text(&new.request());
    assert!(terminate.contains("type='terminate'/>"), "{terminate}");
    assert!(new.bridge.is_client_closed() && new.output().is_empty());

    let output = old.output();
    let expected = format!(
        "<resumed xmlns='urn:xmpp:sm:3' previd='{id}' h='2'/><message from='b@x' id='d2'><body>hi</body></message><message from='b@x' id='d3'><body>hi</body></message>"
    );
    assert_eq!(output, expected);
    old.client("<a xmlns='urn:xmpp:sm:3' h='3'/><message id='u3'/><r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(
        old.output(),
        "<r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='2'/>"
    );
    let carrier = old.request();
    old.payload(&poll, "");
    old.payload(&carrier, "");
    assert_eq!(old.output(), "<a xmlns='urn:xmpp:sm:3' h='3'/>");
}

/// S-49: the old connection, if it still seems open, gets `conflict`, behind whole elements.
#[test]
fn s49_old_connection_gets_conflict() {
    let (mut old, poll, id) = managed();
    old.payload(&poll, &format!("{}{}", message("d1"), message("d2")));
    old.bridge.consume_output(10, old.now);
    let (mut new, _) = returning(&id, 0);
    let side = new.bridge.detach();
    let farewell = String::from_utf8(old.bridge.attach(side, 0, old.now)).unwrap();
    assert!(
        farewell.contains("</message><stream:error><conflict "),
        "{farewell}"
    );
    assert!(farewell.ends_with("</stream:stream>") && !farewell.contains("d2"));
    assert!(
        old.output().contains("id='d1'"),
        "and all of it comes again"
    );
}

/// S-49: stanzas that the client sent behind `<resume/>`, in the same write, belong to the resumed stream.
#[test]
fn s49_pipelined_stanzas_move_along() {
    let (mut old, _poll, id) = managed();
    old.bridge.handle_client_gone(old.now);
    let mut new = Rig::new().authenticated(GRANT, AUTH);
    new.client(&format!("{}<message id='next'/>", resume(&id, 0)));
    let side = new.bridge.detach();
    new.bridge.given_away(new.now);
    new.settle();
    assert!(!text(&new.request()).contains("next"));
    old.bridge.attach(side, 0, old.now);
    old.settle();
    assert!(text(&old.request()).contains("id='next'"));
}

/// S-49: refused: the client stays, and may bind. `h` tells how far a lost stream had come.
#[test]
fn s49_refused() {
    for (h, expected) in [
        (None, "<failed xmlns='urn:xmpp:sm:3'><item-not-found "),
        (
            Some(7),
            "<failed xmlns='urn:xmpp:sm:3' h='7'><item-not-found ",
        ),
    ] {
        let (mut rig, _) = returning("gone", 3);
        rig.bridge.refuse_resume(h, Vec::new(), rig.now);
        rig.settle();
        assert!(rig.output().starts_with(expected));
        rig.client("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        assert!(text(&rig.request()).contains("<bind "));
    }
}

/// S-49: only after login, and not once bound.
#[test]
fn s49_only_between_login_and_binding() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client(&resume("x", 0));
    assert!(rig.output().contains("<unexpected-request "));
    let (mut rig, _poll) = Rig::online();
    rig.client(&resume("x", 0));
    assert!(rig.output().contains("<unexpected-request "));
    assert!(!rig.events.iter().any(|e| matches!(e, Event::Resume { .. })));
    let mut rig = Rig::new().authenticated(GRANT, AUTH);
    rig.client("<resume xmlns='urn:xmpp:sm:3' previd='x' h='many'/>");
    assert!(rig.output().contains("<bad-request "));
}

/// S-49: a stream that ended meanwhile gives the client back.
#[test]
fn s49_taken_back() {
    let (mut new, _) = returning("late", 0);
    let side = new.bridge.detach();
    new.bridge.take_back(side);
    new.bridge.refuse_resume(None, Vec::new(), new.now);
    new.settle();
    assert!(
        new.output()
            .starts_with("<failed xmlns='urn:xmpp:sm:3'><item-not-found ")
    );
    new.client("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    assert!(text(&new.request()).contains("<bind "));
}

/// XEP-0352 section 5: a resumed stream is active, and the server must hear of it.
#[test]
fn s49_csi_is_reset() {
    let (mut old, poll, id) = managed();
    old.client("<inactive xmlns='urn:xmpp:csi:0'/>");
    old.request();
    old.payload(&poll, "");
    old.bridge.handle_client_gone(old.now);
    let (mut new, _) = returning(&id, 0);
    let side = new.bridge.detach();
    old.bridge.attach(side, 0, old.now);
    old.settle();
    assert!(text(&old.request()).contains("<active xmlns='urn:xmpp:csi:0'/>"));
}

/// S-43, S-49: after a lost session `h` is the last stanza known to have arrived.
#[test]
fn s43_h_after_a_lost_session() {
    let (mut rig, poll, _) = managed();
    rig.client("<message id='1'/>");
    let first = rig.request();
    rig.client("<message id='2'/>");
    rig.payload(&poll, "");
    rig.payload(&first, "");
    let second = rig.request();
    rig.bridge.handle_client_gone(rig.now);
    rig.reply(&second, "type='terminate' condition='item-not-found'", "");
    assert_eq!(remains(&rig).h, 1);
}

/// S-49: what only `<resumed/>` had promised, and the manager then never confirmed, comes back as an error; if
/// the client is away again, on its next stream.
#[test]
fn s49_broken_promises() {
    for away in [false, true] {
        let (mut old, poll, id) = managed();
        old.client("<message id='1' to='b@x'/>");
        let carrier = old.request();
        old.bridge.handle_client_gone(old.now);
        let (mut new, _) = returning(&id, 0);
        let side = new.bridge.detach();
        old.bridge.attach(side, 0, old.now);
        old.output();
        old.client("<message id='2' to='b@x'/>");
        if away {
            old.bridge.handle_client_gone(old.now);
        }
        old.payload(&poll, "");
        old.reply(&carrier, "type='terminate' condition='item-not-found'", "");
        // The second message was under way.
        old.pass(Duration::from_secs(3));
        let output = old.output();
        let remains = remains(&old);
        assert_eq!(remains.h, 1, "never less than was told");
        assert_eq!(remains.kept.len(), usize::from(away));
        assert_eq!(
            output.contains("<message type='error' id='1' from='b@x'>"),
            !away,
            "{output}"
        );
        assert!(!output.contains("id='2'"), "the client knows by h");
    }
}

/// S-51: the session dies while the client is away: messages with a body are left for its next stream, less
/// what it turns out to have; they come stamped, after it is bound.
#[test]
fn s51_kept_messages() {
    let (mut old, poll, id) = managed();
    old.payload(&poll, &message("d1"));
    old.output();
    let poll = old.request();
    old.bridge.handle_client_gone(old.now);
    old.payload(
        &poll,
        &format!(
            "{}{}<presence xmlns='jabber:client' from='b@x'/>",
            message("d2"),
            message("d3")
        ),
    );
    let poll = old.request();
    old.reply(&poll, "type='terminate' condition='item-not-found'", "");
    assert!(old.bridge.is_finished());
    assert_eq!(
        old.fault(),
        Some(FaultReason::CmItemNotFound),
        "the log is told"
    );
    let mut left = remains(&old);
    assert_eq!((left.kept.len(), left.dropped), (3, 1));
    left.seen_up_to(1);
    assert_eq!(left.kept.len(), 2);

    let (mut new, _) = returning(&id, 1);
    let stamp = |kept: Kept| (kept, "2026-01-02T03:04:05Z".to_owned());
    new.bridge.refuse_resume(
        Some(left.h),
        left.kept.into_iter().map(stamp).collect(),
        new.now,
    );
    new.settle();
    assert!(!new.output().contains("<message"), "it is not bound yet");
    new.client("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    let bind = new.request();
    new.payload(&bind, "<iq xmlns='jabber:client' type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>a@example.org/x</jid></bind></iq>");
    let output = new.output();
    let at = |needle: &str| {
        output
            .find(needle)
            .unwrap_or_else(|| panic!("{needle} in {output}"))
    };
    assert!(at("</iq>") < at("id='d2'") && at("id='d2'") < at("id='d3'"));
    assert_eq!(
        output
            .matches(
                "<delay xmlns='urn:xmpp:delay' from='example.org' stamp='2026-01-02T03:04:05Z'/>"
            )
            .count(),
        2
    );
    assert!(new.bridge.take_kept().is_empty());
}

/// S-51: a client that never binds leaves them for another try.
#[test]
fn s51_kept_until_bound() {
    let (mut old, poll, id) = managed();
    old.bridge.handle_client_gone(old.now);
    old.payload(&poll, &message("d1"));
    let poll = old.request();
    old.reply(&poll, "type='terminate'", "");
    let left = remains(&old);
    let (mut new, _) = returning(&id, 0);
    let kept = left.kept.into_iter().map(|k| (k, String::new())).collect();
    new.bridge.refuse_resume(Some(0), kept, new.now);
    new.bridge.handle_client_gone(new.now);
    assert_eq!(new.bridge.take_kept().len(), 1);
}

/// S-48: `</stream>` ends resumability; nobody will ask for what is left.
#[test]
fn s48_a_clean_close_is_the_end() {
    let (mut rig, poll, _) = managed();
    rig.client("</stream:stream>");
    let terminate = rig.request();
    rig.payload(&poll, "");
    rig.payload(&terminate, "");
    assert!(
        rig.events
            .iter()
            .any(|e| matches!(e, Event::Over { remains: None, .. }))
    );
}

/// A name is given once per stream, and differs.
#[test]
fn s49_names_differ() {
    let names: std::collections::HashSet<_> = (0..3)
        .map(|n| {
            let (mut rig, _) = Rig::online();
            for _ in 0..n {
                rig.bridge.fresh_id();
            }
            rig.client(ENABLE);
            rig.output()
        })
        .collect();
    assert_eq!(names.len(), 3);
}
