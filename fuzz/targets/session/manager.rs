//! Replies of a manager, right and wrong, off the tape.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use xbosh::bosh::{Failure, FailureKind, HttpReply, RequestKey};

use super::Tape;

const NUMBERS: [&str; 16] = [
    "",
    "0",
    "1",
    "2",
    "3",
    "5",
    "10",
    "60",
    "255",
    "256",
    "3600",
    "4294967296",
    "9007199254740991",
    "9223372036854775807",
    "18446744073709551615",
    "x",
];
const CONDITIONS: [&str; 8] = [
    "",
    " condition='item-not-found'",
    " condition='other-request'",
    " condition='remote-stream-error'",
    " condition='see-other-uri'",
    " condition='policy-violation'",
    " condition='bad-request'",
    " condition='?'",
];
const INSIDES: [&str; 6] = [
    "",
    "text",
    "<uri>https://other.example/b</uri>",
    "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    "<stream:features/>",
    "<message><body>x</body></message>",
];
const STATUS: [u16; 16] = [
    200, 200, 200, 200, 201, 302, 400, 403, 404, 408, 413, 429, 500, 502, 503, 511,
];
pub(super) const SID: &str = "s1";
const OPENING: &str = "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:stream='http://etherx.jabber.org/streams'";

/// What usual managers say at creation.
pub(super) fn usual_creation() -> HttpReply {
    reply(
        200,
        format!(
            "{OPENING} sid='{SID}' wait='55' requests='2' hold='1' inactivity='60' polling='5' ver='1.6'><stream:features/></body>"
        ),
    )
}

/// What a manager says that holds no request (XEP-0124 section 12).
pub(super) fn polling_creation() -> HttpReply {
    reply(
        200,
        format!(
            "{OPENING} sid='{SID}' wait='0' requests='1' hold='0' inactivity='60' polling='5' ver='1.6'><stream:features/></body>"
        ),
    )
}

/// A reply, and whether it says that the manager has what the request carried.
pub(super) struct Said {
    pub(super) reply: HttpReply,
    pub(super) accepts: bool,
}

/// Any reply to the attempt.
pub(super) fn any(key: RequestKey, sent: &Bytes, tape: &mut Tape<'_>) -> Said {
    let kind = tape.byte() % 16;
    let body = match kind {
        0..=2 => format!("{OPENING}/>"),
        3..=5 => body(key, "", tape),
        6 => creation(key, tape),
        7 => terminate(tape),
        8 => format!("{OPENING} type='error'/>"),
        9 => String::new(),
        10 => {
            let mut cut = body(key, "", tape);
            cut.truncate(usize::from(tape.byte()));
            cut
        }
        // ejabberd's mark of a replayed request, with an echo of what was sent.
        11 => {
            let sent = String::from_utf8_lossy(sent);
            let echo = sent.split_once('>').map_or("", |(_, inside)| inside);
            let echo = echo.strip_suffix("</body>").unwrap_or_default();
            format!("{OPENING} rid='{}'>{echo}</body>", key.rid)
        }
        12 => {
            let mut text = terminate(tape);
            // Given twice, as ejabberd does.
            text.insert_str("<body".len(), " type='terminate'");
            text
        }
        13 => "<html><body bgcolor=white>login".into(),
        _ => String::from_utf8_lossy(tape.take(64)).into_owned(),
    };
    let whole = match kind {
        0..=6 | 11 => true,
        10 => body.ends_with("</body>"),
        14 | 15 => body.contains("<body"),
        _ => false,
    };
    let mut reply = reply(tape.pick(&STATUS), body);
    if reply.status != 200 && kind < 3 {
        reply.location = Some("https://other.example/".into());
        reply.retry_after = Some(Duration::from_secs(u64::from(tape.byte())));
    }
    let accepts = whole && (200..300).contains(&reply.status);
    Said { reply, accepts }
}

/// Up to three elements, each with the request's id and a number.
fn body(key: RequestKey, attributes: &str, tape: &mut Tape<'_>) -> String {
    let mut out = format!("{OPENING}{attributes}>");
    for number in 0..1 + tape.byte() % 3 {
        let _ = write!(out, "<d xmlns='urn:d' id='{}.{number}'/>", key.rid);
    }
    out.push_str("</body>");
    out
}

fn terminate(tape: &mut Tape<'_>) -> String {
    let condition = tape.pick(&CONDITIONS);
    let inside = tape.pick(&INSIDES);
    format!("{OPENING} type='terminate'{condition}>{inside}</body>")
}

fn creation(key: RequestKey, tape: &mut Tape<'_>) -> String {
    let mut attributes = String::new();
    if !tape.byte().is_multiple_of(16) {
        let _ = write!(attributes, " sid='{SID}'");
    }
    for name in ["wait", "requests", "hold", "inactivity", "polling"] {
        let number = tape.pick(&NUMBERS);
        if !number.is_empty() {
            let _ = write!(attributes, " {name}='{number}'");
        }
    }
    let ver = tape.pick(&["", " ver='1.6'", " ver='1.11'", " ver='0.9'", " ver='x'"]);
    let marks = tape.pick(&[
        "",
        " polling='2' xmpp:restartlogic='true' xmlns:xmpp='urn:xmpp:xbosh'",
        " host='h' maxpause='10'",
    ]);
    attributes.push_str(ver);
    // Numbers given twice count once: the first.
    attributes.push_str(marks);
    if tape.byte().is_multiple_of(2) {
        let _ = write!(attributes, " ack='{}'", key.rid);
    }
    body(key, &attributes, tape)
}

fn reply(status: u16, body: String) -> HttpReply {
    HttpReply {
        status,
        body: Bytes::from(body),
        location: None,
        retry_after: None,
    }
}

/// Any way that an attempt can fail.
pub(super) fn failure(tape: &mut Tape<'_>) -> Failure {
    use FailureKind::*;
    Failure {
        kind: tape.pick(&[
            NoReply,
            CmUnreachable,
            NoReply,
            ProxyUnreachable,
            ProxyAuth,
            ProxyRefused,
            ProxyUpstream,
            ProxyProtocol,
            TlsCertificate,
            Tls,
            ReplyTooLarge,
            Internal,
        ]),
        text: "it broke".into(),
        sent: tape.byte().is_multiple_of(2),
    }
}
