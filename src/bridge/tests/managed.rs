//! Stream management served by us (XEP-0198): offer, counting, acknowledgements; and the other two modes.

use super::*;

pub(super) const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

/// Online with stream management on; the output so far is discarded.
pub(super) fn managed() -> (Rig, Request, String) {
    let (mut rig, poll) = Rig::online();
    rig.client(ENABLE);
    let enabled = rig.output();
    let document = roxmltree::Document::parse(&enabled).unwrap();
    let id = document.root_element().attribute("id").unwrap().to_owned();
    (rig, poll, id)
}

fn ack(h: u32) -> String {
    format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>")
}

const ASK: &str = "<r xmlns='urn:xmpp:sm:3'/>";

/// S-43, S-48: offered after login whatever the manager offers; an id and a time only if resumption was asked
/// for; nothing of it goes upstream.
#[test]
fn s48_enable() {
    let (mut rig, _poll) = Rig::online();
    rig.client(ENABLE);
    let enabled = rig.output();
    let document = roxmltree::Document::parse(&enabled).unwrap();
    let root = document.root_element();
    assert!(root.has_tag_name(("urn:xmpp:sm:3", "enabled")));
    assert_eq!(root.attribute("resume"), Some("true"));
    assert_eq!(root.attribute("max"), Some("60"));
    assert_eq!(root.attribute("id").unwrap().len(), 32);
    rig.no_request();

    let (mut rig, _poll) = Rig::online();
    rig.client("<enable xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(rig.output(), "<enabled xmlns='urn:xmpp:sm:3'/>");

    let never = Mode::Local {
        resume_window: Duration::ZERO,
    };
    let (mut rig, _poll) = Rig::in_mode(never).log_in(GRANT, AUTH);
    rig.client(ENABLE);
    assert_eq!(rig.output(), "<enabled xmlns='urn:xmpp:sm:3'/>");
}

/// S-48: before binding `<enable/>` fails and binding goes on; a second one ends the stream; the older
/// namespace is not served.
#[test]
fn s48_enable_at_the_wrong_time() {
    let mut rig = Rig::new().authenticated(GRANT, AUTH);
    rig.client(ENABLE);
    assert!(rig.output().contains("<unexpected-request "));
    assert_eq!(rig.fault(), None);

    let (mut rig, _poll, _) = managed();
    rig.client(ENABLE);
    assert_eq!(rig.fault(), Some(FaultReason::SmTwice));

    let (mut rig, _poll) = Rig::online();
    rig.client("<enable xmlns='urn:xmpp:sm:2'/>");
    assert!(
        rig.output()
            .starts_with("<failed xmlns='urn:xmpp:sm:2'><feature-not-implemented ")
    );
    rig.client(ENABLE);
    assert!(rig.output().starts_with("<enabled "));
}

/// S-43: `h` is what the manager has answered for, not what we have: at once when asked, and unasked when it
/// grows. Only stanzas count, from `<enable/>` on.
#[test]
fn s43_h_means_confirmed() {
    let (mut rig, poll) = Rig::online();
    rig.client("<message id='before'/>");
    let before = rig.request();
    rig.client(ENABLE);
    rig.output();
    rig.payload(&poll, "");
    rig.payload(&before, "");
    assert_eq!(rig.output(), "", "it came before <enable/>");
    let poll = rig.request();
    rig.client(&format!(
        "<message id='1'/><inactive xmlns='urn:xmpp:csi:0'/><iq id='2' type='get'/>{ASK}"
    ));
    assert_eq!(rig.output(), ack(0));
    let carrier = rig.request();
    rig.payload(&poll, "");
    assert_eq!(
        rig.output(),
        "",
        "the poll's answer says nothing about the carrier"
    );
    // Nothing follows by itself: `polling` and a second later an empty request releases it.
    rig.pass(Duration::from_millis(6100));
    let nudge = rig.request();
    rig.payload(&carrier, "");
    assert_eq!(rig.output(), ack(2));
    rig.client(ASK);
    assert_eq!(rig.output(), ack(2));
    drop(nudge);
}

/// S-48: one `<r/>` at a time, when everything is written; the client's `<a/>` frees what it names.
#[test]
fn s48_asking_for_acks() {
    let (mut rig, poll, _) = managed();
    rig.payload(
        &poll,
        "<message xmlns='jabber:client' id='1'/><presence xmlns='jabber:client'/>",
    );
    assert_eq!(rig.output(), "<message id='1'/><presence/>");
    assert_eq!(rig.output(), ASK);
    assert_eq!(rig.output(), "");
    let poll = rig.request();
    rig.payload(&poll, "<iq xmlns='jabber:client' id='3'/>");
    assert_eq!(rig.output(), "<iq id='3'/>");
    assert_eq!(rig.output(), "", "one question is open");
    rig.client(&ack(2));
    assert_eq!(rig.output(), ASK);
    rig.client(&ack(3));
    rig.bridge.consume_output(0, rig.now);
    assert_eq!(rig.output(), "");
}

/// S-48: a client that miscounts keeps its stream, and cannot resume it.
#[test]
fn s48_miscounting_clients() {
    for wrong in [5, u32::MAX] {
        let (mut rig, poll, _) = managed();
        rig.payload(&poll, "<message xmlns='jabber:client' id='1'/>");
        rig.output();
        rig.client(&ack(wrong));
        assert_eq!(rig.fault(), None);
        assert!(rig.events.iter().any(|e| matches!(e, Event::Over { .. })));
        rig.bridge.handle_client_gone(rig.now);
        assert!(!rig.bridge.is_away());
    }
}

/// S-25, S-48: what a client does not acknowledge is bounded.
#[test]
fn s25_unacknowledged_stanzas_are_bounded() {
    let (mut rig, poll, _) = managed();
    let stanza = format!(
        "<message xmlns='jabber:client'><body>{}</body></message>",
        "x".repeat(10_000)
    );
    rig.payload(&poll, &stanza.repeat(11));
    // All of it is read, nothing acknowledged.
    rig.output();
    rig.no_request();
    rig.client(&ack(11));
    rig.bridge.consume_output(0, rig.now);
    rig.settle();
    rig.request();
}

/// S-48: a last `<a/>` before the stream ends, with what the answered terminate confirmed.
#[test]
fn s48_final_ack() {
    let (mut rig, poll, _) = managed();
    rig.client("<message id='1'/></stream:stream>");
    let terminate = rig.request();
    assert!(text(&terminate).contains("type='terminate'"));
    rig.payload(&poll, "");
    rig.payload(&terminate, "");
    assert_eq!(rig.output(), format!("{}</stream:stream>", ack(1)));
}

/// Design: without stream management, what was never confirmed comes back before the stream error.
#[test]
fn unconfirmed_stanzas_come_back() {
    let (mut rig, poll) = Rig::online();
    rig.client("<message id='1' to='b@x'><body>hi</body></message>");
    let carrier = rig.request();
    rig.client("<iq type='get' id='2' to='c@x'/><iq type='result' id='3' to='c@x'/>");
    rig.payload(&poll, "");
    rig.reply(&carrier, "type='terminate' condition='item-not-found'", "");
    // The last body was under way and never answered.
    rig.pass(Duration::from_secs(3));
    let output = rig.output();
    let at = |needle: &str| {
        output
            .find(needle)
            .unwrap_or_else(|| panic!("{needle} in {output}"))
    };
    assert!(
        at("<message type='error' id='1' from='b@x'>") < at("<iq type='error' id='2' from='c@x'>")
    );
    assert!(at("<iq type='error' id='2'") < at("<stream:error>"));
    assert!(output.contains("delivery not confirmed"));
    assert!(
        !output.contains("id='3'"),
        "nobody waits for the fate of an answer"
    );
    assert_eq!(rig.fault(), Some(FaultReason::CmItemNotFound));
}

/// Design: the same when the terminate of a clean close stays unanswered; not when it is answered.
#[test]
fn unconfirmed_stanzas_of_a_clean_close() {
    for answered in [true, false] {
        let (mut rig, poll) = Rig::online();
        rig.client("<message id='1' to='b@x'/></stream:stream>");
        let terminate = rig.request();
        rig.payload(&poll, "");
        if answered {
            rig.payload(&terminate, "");
        } else {
            rig.pass(Duration::from_secs(6));
        }
        let output = rig.output();
        assert_eq!(
            output.contains("<message type='error' id='1'"),
            !answered,
            "{output}"
        );
        assert!(output.ends_with("</stream:stream>"));
    }
}

/// Design, S-47: a stream that we end, for whatever reason, first learns what became of what it sent.
#[test]
fn unconfirmed_stanzas_of_a_stopped_stream() {
    for answered in [true, false] {
        let (mut rig, poll) = Rig::online();
        rig.client("<message id='1' to='b@x'/>");
        let carrier = rig.request();
        rig.payload(&poll, "");
        rig.bridge.shutdown(rig.now);
        rig.settle();
        assert_eq!(rig.output(), "", "nothing is known yet");
        let terminate = rig.request();
        if answered {
            rig.payload(&carrier, "<message xmlns='jabber:client' id='late'/>");
            rig.reply(&terminate, "type='terminate'", "");
        } else {
            rig.pass(Duration::from_millis(2100));
        }
        let output = rig.output();
        assert_eq!(
            output.contains("<message type='error' id='1'"),
            !answered,
            "{output}"
        );
        assert_eq!(output.contains("id='late'"), answered);
        assert_eq!(stream_error(&output).0, "system-shutdown");
        assert!(rig.bridge.is_finished());
    }
}

/// Before binding there is nobody to send anything back to.
#[test]
fn nothing_comes_back_before_binding() {
    let mut rig = Rig::negotiating(SASL_FEATURES);
    rig.output();
    rig.client("<iq type='set' id='reg'><query xmlns='jabber:iq:register'/></iq>");
    let carrier = rig.request();
    rig.reply(&carrier, "type='terminate' condition='item-not-found'", "");
    assert!(!rig.output().contains("<iq"));
}

/// With stream management the client knows by `h` itself, and gets no errors.
#[test]
fn s43_managed_streams_get_h_instead() {
    let (mut rig, poll, _) = managed();
    rig.client("<message id='1' to='b@x'/>");
    let carrier = rig.request();
    rig.payload(&poll, "");
    rig.reply(&carrier, "type='terminate' condition='item-not-found'", "");
    let output = rig.output();
    assert!(
        output.starts_with(&format!("{}<stream:error>", ack(0))),
        "{output}"
    );
}

/// S-42: inline requests are cut out of `<authenticate/>` and answered inside `<success/>`.
#[test]
fn s42_inline_stream_management() {
    let mut rig = Rig::negotiating(
        "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism></authentication></stream:features>",
    );
    rig.output();
    rig.client(
        "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>x</initial-response>\
         <resume xmlns='urn:xmpp:sm:3' previd='old' h='3'/>\
         <bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind></authenticate>",
    );
    let authenticate = rig.request();
    assert!(
        !text(&authenticate).contains("urn:xmpp:sm:3"),
        "{}",
        text(&authenticate)
    );
    rig.payload(
        &authenticate,
        "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>a@example.org/r</authorization-identifier><bound xmlns='urn:xmpp:bind:0'/></success>",
    );
    let success = rig.output();
    let document = roxmltree::Document::parse(&success).unwrap();
    let children: Vec<_> = document.root_element().children().collect();
    let bound = children
        .iter()
        .find(|c| c.has_tag_name(("urn:xmpp:bind:0", "bound")))
        .unwrap();
    let enabled = bound.first_element_child().unwrap();
    assert!(
        enabled.has_tag_name(("urn:xmpp:sm:3", "enabled")) && enabled.attribute("id").is_some()
    );
    let failed = children
        .iter()
        .find(|c| c.has_tag_name(("urn:xmpp:sm:3", "failed")))
        .unwrap();
    assert_eq!(
        failed.first_element_child().unwrap().tag_name().name(),
        "item-not-found"
    );
    // It counts from here.
    rig.client("<message id='1'/><r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(rig.output(), ack(0));
}

const EJABBERD: &str = "sid='s1' wait='25' requests='2' hold='1' inactivity='30' polling='2' ver='1.11' from='example.org' xmlns:xmpp='urn:xmpp:xbosh' xmpp:restartlogic='true'";

/// S-43, cm-quirks 4.6: in mode `pass` the server manages; resumption is only asked of a manager known to do
/// it, and a `<resume/>` elsewhere is refused here instead of hanging.
#[test]
fn s43_pass_mode() {
    let (mut rig, poll) = Rig::in_mode(Mode::Pass).log_in(GRANT, AUTH);
    rig.client("<enable xmlns='urn:xmpp:sm:3' resume='true' max='300'/>");
    assert!(text(&rig.request()).contains("<enable xmlns='urn:xmpp:sm:3' max='300'/>"));
    rig.client("<r xmlns='urn:xmpp:sm:3'/>");
    rig.payload(
        &poll,
        "<enabled xmlns='urn:xmpp:sm:3'/><r xmlns='urn:xmpp:sm:3'/>",
    );
    assert_eq!(
        rig.output(),
        "<enabled xmlns='urn:xmpp:sm:3'/><r xmlns='urn:xmpp:sm:3'/>"
    );
    assert!(text(&rig.request()).contains("<r xmlns='urn:xmpp:sm:3'/>"));

    let mut rig = Rig::in_mode(Mode::Pass).authenticated(GRANT, AUTH);
    rig.client("<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>");
    assert!(rig.output().starts_with("<failed xmlns='urn:xmpp:sm:3'>"));

    let mut rig = Rig::in_mode(Mode::Pass).authenticated(EJABBERD, AUTH);
    rig.client("<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>");
    assert!(text(&rig.request()).contains("<resume xmlns='urn:xmpp:sm:3' previd='x' h='1'/>"));
}

/// S-44: `location` would lead the client past us.
#[test]
fn s44_no_location() {
    let (mut rig, poll) = Rig::in_mode(Mode::Pass).log_in(EJABBERD, AUTH);
    rig.client("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    let enable = rig.request();
    assert!(text(&enable).contains("resume='true'"));
    rig.payload(&poll, "");
    rig.payload(&enable, "<enabled xmlns='urn:xmpp:sm:3' id='some&amp;id' location='[2001:db8::1]:9222' resume='true' max='60'/>");
    let enabled = rig.output();
    let document = roxmltree::Document::parse(&enabled).unwrap();
    let names: Vec<_> = document
        .root_element()
        .attributes()
        .map(|a| (a.name(), a.value()))
        .collect();
    assert_eq!(
        names,
        [("id", "some&id"), ("resume", "true"), ("max", "60")]
    );
}

/// S-43: a stream that the server manages is left to it when the client vanishes.
#[test]
fn s43_pass_mode_leaves_the_session_to_the_server() {
    let (mut rig, _poll) = Rig::in_mode(Mode::Pass).log_in(EJABBERD, AUTH);
    rig.client("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    rig.request();
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    rig.no_request();
    assert!(rig.bridge.is_finished());
}

const SASL2_FEATURES: &str = "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism></authentication></stream:features>";
const AUTHENTICATE: &str = "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>x</initial-response>\
     <resume xmlns='urn:xmpp:sm:3' previd='old' h='3'/>\
     <bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind></authenticate>";

/// Mode `pass`, logged in by SASL2 with [`AUTHENTICATE`]: what went up, and what the client was told.
fn passed_inline(grant: &str, enabled: &str) -> (Rig, String, String) {
    let mut rig = Rig::in_mode(Mode::Pass).granted(grant, SASL2_FEATURES);
    rig.output();
    rig.client(AUTHENTICATE);
    let authenticate = rig.request();
    rig.payload(
        &authenticate,
        &format!(
            "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>a@example.org/r</authorization-identifier>\
             <bound xmlns='urn:xmpp:bind:0'>{enabled}</bound></success>"
        ),
    );
    let told = rig.output();
    // The poll that is held.
    rig.request();
    (rig, text(&authenticate), told)
}

/// S-44: the same inside SASL2's `<success/>`; and S-43: a stream that the server manages since then is left to it.
#[test]
fn s44_no_location_inside_success() {
    let (mut rig, sent, told) = passed_inline(
        EJABBERD,
        "<enabled xmlns='urn:xmpp:sm:3' id='some&amp;id' location='[2001:db8::1]:9222' resume='true' max='60'/>",
    );
    assert!(
        sent.contains("<resume xmlns='urn:xmpp:sm:3' previd='old'"),
        "{sent}"
    );
    assert!(sent.contains("resume='true'"), "{sent}");
    let document = roxmltree::Document::parse(&told).unwrap();
    let enabled = document
        .descendants()
        .find(|n| n.has_tag_name(("urn:xmpp:sm:3", "enabled")))
        .unwrap();
    let names: Vec<_> = enabled
        .attributes()
        .map(|a| (a.name(), a.value()))
        .collect();
    assert_eq!(
        names,
        [("id", "some&id"), ("resume", "true"), ("max", "60")]
    );
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    rig.no_request();
    assert!(rig.bridge.is_finished());
}

/// S-43: inside SASL2 too, a manager that cannot resume is not asked to; what the client asked is refused here.
#[test]
fn s43_no_resumption_inside_sasl2() {
    let (mut rig, sent, told) = passed_inline(GRANT, "<enabled xmlns='urn:xmpp:sm:3'/>");
    assert!(!sent.contains("resume"), "{sent}");
    assert!(sent.contains("<enable xmlns='urn:xmpp:sm:3'/>"), "{sent}");
    assert!(told.contains("<enabled xmlns='urn:xmpp:sm:3'/>"), "{told}");
    assert!(told.contains("<failed xmlns='urn:xmpp:sm:3'>"), "{told}");
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    rig.no_request();
    // A stream that nobody manages is ended.
    let (mut rig, _, _) = passed_inline(GRANT, "");
    rig.bridge.handle_client_gone(rig.now);
    rig.settle();
    rig.request();
}
