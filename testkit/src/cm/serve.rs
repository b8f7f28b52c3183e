//! The manager's HTTP side: reads requests, judges them, applies faults, writes answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fault::Fault;
use super::session::{Parsed, Session, Taken, terminate, wrap};
use super::{Post, Shared};
use crate::http1::{self, Message};
use crate::tls::Acceptor;

pub(super) async fn connection(shared: Arc<Shared>, stream: TcpStream, tls: Option<Acceptor>) {
    let number = {
        let mut state = shared.lock();
        state.connections += 1;
        state.connections - 1
    };
    match tls {
        Some(acceptor) => {
            if let Some(stream) = acceptor.accept(stream).await {
                serve(shared, number, stream).await;
            }
        }
        None => serve(shared, number, stream).await,
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: Arc<Shared>,
    connection: u64,
    mut stream: S,
) {
    let mut buffer = BytesMut::new();
    while let Ok(Some(message)) = http1::read(&mut stream, &mut buffer).await {
        // XEP-0124 section 18.1: nothing may follow before the answer.
        if !buffer.is_empty() {
            shared.violation("pipelined request");
        }
        if !exchange(&shared, connection, &mut stream, &message).await {
            return;
        }
    }
}

/// One exchange; false when the connection is to be closed.
async fn exchange<S: AsyncWrite + Unpin>(
    shared: &Arc<Shared>,
    connection: u64,
    stream: &mut S,
    message: &Message,
) -> bool {
    let body = String::from_utf8_lossy(&message.body).into_owned();
    let fault = {
        let mut state = shared.lock();
        let post = Post {
            connection,
            line: message.line.clone(),
            headers: message.headers.clone(),
            body: body.clone(),
            at: Instant::now(),
        };
        state.posts.push(post);
        let index = state.posts.len();
        state
            .rules
            .iter_mut()
            .find_map(|rule| rule.take(index, &body).then(|| rule.fault.clone()))
    };
    check_head(shared, message);
    match &fault {
        Some(Fault::LoseRequest) => return false,
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Reply {
            status,
            headers,
            body,
        }) => {
            return write(stream, status, headers, body.as_bytes(), false).await;
        }
        Some(Fault::Raw(bytes)) => {
            // The close tells the rest.
            let _ = stream.write_all(bytes).await;
            let _ = stream.flush().await;
            return false;
        }
        Some(Fault::RecoverableError) => {
            return write(
                stream,
                "200 OK",
                "",
                wrap(" type='error'", "").as_bytes(),
                false,
            )
            .await;
        }
        Some(Fault::Terminate { attributes, inner }) => {
            let body = wrap(&format!(" type='terminate' {attributes}"), inner);
            return write(stream, "200 OK", "", body.as_bytes(), false).await;
        }
        _ => {}
    }
    let (status, cookie, reply) = process(shared, &body, message).await;
    match fault {
        Some(Fault::LoseAnswer) => return false,
        Some(Fault::SilenceAfter) => std::future::pending().await,
        Some(Fault::Truncate(at)) => {
            let whole = render(&status, &cookie, reply.as_bytes());
            let _ = stream.write_all(&whole[..at.min(whole.len())]).await;
            let _ = stream.flush().await;
            return false;
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Close) => {
            write(
                stream,
                &status,
                &format!("{cookie}Connection: close\r\n"),
                reply.as_bytes(),
                true,
            )
            .await;
            return false;
        }
        Some(Fault::CloseSilently) => {
            write(stream, &status, &cookie, reply.as_bytes(), true).await;
            return false;
        }
        Some(Fault::Chunked) => {
            let mut whole = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/html\r\n{cookie}transfer-encoding: chunked\r\n\r\n"
            );
            for chunk in reply.as_bytes().chunks(7) {
                whole.push_str(&format!(
                    "{:x}\r\n{}\r\n",
                    chunk.len(),
                    String::from_utf8_lossy(chunk)
                ));
            }
            whole.push_str("0\r\n\r\n");
            return stream.write_all(whole.as_bytes()).await.is_ok()
                && stream.flush().await.is_ok();
        }
        Some(Fault::Http10) => {
            let whole = format!("HTTP/1.0 {status}\r\n{cookie}\r\n{reply}");
            let _ = stream.write_all(whole.as_bytes()).await;
            let _ = stream.flush().await;
            return false;
        }
        Some(Fault::Interim) => {
            let _ = stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        _ => {}
    }
    write(stream, &status, &cookie, reply.as_bytes(), false).await
}

fn render(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut whole = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/xml; charset=utf-8\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    whole.extend_from_slice(body);
    whole
}

async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    status: &str,
    headers: &str,
    body: &[u8],
    last: bool,
) -> bool {
    let whole = render(status, headers, body);
    let written = stream.write_all(&whole).await.is_ok() && stream.flush().await.is_ok();
    if last {
        let _ = stream.shutdown().await;
    }
    written && !last
}

/// B-01 to B-08: the HTTP layer.
fn check_head(shared: &Shared, message: &Message) {
    let mut wrong = Vec::new();
    if !message.line.starts_with("POST ") {
        wrong.push("not a POST");
    }
    if message.header("transfer-encoding").is_some() {
        wrong.push("chunked request");
    }
    if message.header("content-length").is_none() {
        wrong.push("no Content-Length");
    }
    if message.header("expect").is_some() {
        wrong.push("Expect");
    }
    if message.header("content-type") != Some("text/xml; charset=utf-8") {
        wrong.push("another Content-Type");
    }
    if message.header("proxy-authorization").is_some() {
        wrong.push("Proxy-Authorization reached the manager");
    }
    for text in wrong {
        shared.violation(text);
    }
}

/// The manager's answer: status, cookie header line, body.
async fn process(shared: &Arc<Shared>, body: &str, message: &Message) -> (String, String, String) {
    let ok = |reply: String| ("200 OK".to_owned(), String::new(), reply);
    let parsed = match parse(shared, body) {
        Ok(parsed) => parsed,
        Err(what) => {
            shared.violation(what);
            return ok(terminate(Some("bad-request"), ""));
        }
    };
    let Some(sid) = parsed.sid else {
        return create(shared, body, parsed.request.rid).await;
    };
    let (session, cookie) = {
        let state = shared.lock();
        (state.sessions.get(&sid).cloned(), state.cookie)
    };
    let has_cookie = message
        .header("cookie")
        .is_some_and(|c| c.contains("node=a"));
    let Some(session) = session.filter(|_| !cookie || has_cookie) else {
        return if shared.profile.http_errors || cookie {
            (
                "404 Not Found".to_owned(),
                String::new(),
                "<html>Invalid SID</html>".to_owned(),
            )
        } else {
            ok(terminate(Some("item-not-found"), ""))
        };
    };
    check_repeat(shared, &sid, parsed.request.rid, body);
    let terminates = parsed.request.terminate;
    let taken = {
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        let spare = usize::from(terminates);
        if !session.is_repeat(parsed.request.rid)
            && session.unanswered() >= shared.profile.requests + spare
        {
            shared.violation(format!(
                "more than {} requests at once",
                shared.profile.requests
            ));
            if shared.profile.strict_window {
                session.end(Some("policy-violation"), "");
            }
        }
        session.take(parsed.request)
    };
    let reply = match taken {
        Taken::Now(reply) => reply,
        Taken::Waits(answer) => answer.await.unwrap_or_default(),
    };
    if session
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_ended()
    {
        shared.lock().sessions.remove(&sid);
    }
    ok(reply)
}

/// B-50: a repeat is the same, byte for byte.
fn check_repeat(shared: &Shared, sid: &str, rid: u64, body: &str) {
    let mut state = shared.lock();
    let known = state
        .bodies
        .entry((sid.to_owned(), rid))
        .or_insert_with(|| body.to_owned());
    if known != body {
        let text = format!("repeat of {rid} differs");
        state.violations.push(text);
    }
}

struct ParsedBody {
    sid: Option<String>,
    request: Parsed,
}

/// B-10, B-20, X-01, X-02: the wrapper and what is in it.
fn parse(shared: &Shared, body: &str) -> Result<ParsedBody, String> {
    let document = roxmltree::Document::parse(body).map_err(|e| format!("not XML: {e}"))?;
    let root = document.root_element();
    if !root.has_tag_name(("http://jabber.org/protocol/httpbind", "body")) {
        return Err("not a body".into());
    }
    if !body.starts_with("<body ") {
        shared.violation("something before <body");
    }
    let rid = root
        .attribute("rid")
        .and_then(|v| v.parse::<u64>().ok())
        .ok_or("no rid")?;
    let mut children = Vec::new();
    for child in root.children() {
        if !child.is_element() {
            return Err("text in the wrapper".into());
        }
        let namespace = child.tag_name().namespace();
        if namespace == Some("http://jabber.org/protocol/httpbind") || namespace.is_none() {
            shared.violation(format!(
                "<{}/> fell into the wrapper's namespace",
                child.tag_name().name()
            ));
        }
        children.push(body[child.range()].to_owned());
    }
    let sasl = root
        .children()
        .filter(|c| c.tag_name().namespace() == Some("urn:ietf:params:xml:ns:xmpp-sasl"))
        .count();
    if sasl > 0 && children.len() > 1 {
        shared.violation("SASL mixed with something else");
    }
    let restart = root.attribute(("urn:xmpp:xbosh", "restart")) == Some("true");
    if restart && !body.contains("xmpp:restart='true'") {
        shared.violation("restart with another prefix or quoting");
    }
    let sid = root.attribute("sid").map(str::to_owned);
    let allowed: &[&str] = match (&sid, restart) {
        (None, _) => &[
            "rid", "to", "from", "route", "ver", "wait", "hold", "ack", "lang", "version",
        ],
        (Some(_), true) => &["rid", "sid", "ack", "to", "from", "lang", "restart"],
        (Some(_), false) => &["rid", "sid", "ack", "type"],
    };
    for attribute in root.attributes().filter(|a| !allowed.contains(&a.name())) {
        shared.violation(format!(
            "attribute {} does not belong here",
            attribute.name()
        ));
    }
    if (sid.is_none() || restart) && !children.is_empty() {
        shared.violation("payload in a creation or restart request");
    }
    let terminate = root.attribute("type") == Some("terminate");
    Ok(ParsedBody {
        sid,
        request: Parsed {
            rid,
            terminate,
            restart,
            children,
        },
    })
}

async fn create(shared: &Arc<Shared>, body: &str, rid: u64) -> (String, String, String) {
    let document = roxmltree::Document::parse(body).expect("parsed before");
    let root = document.root_element();
    let ok = |reply: String| ("200 OK".to_owned(), String::new(), reply);
    if root.attribute("to") != Some(shared.server.domain()) {
        return ok(terminate(Some("host-unknown"), ""));
    }
    let asked: u64 = root
        .attribute("wait")
        .and_then(|w| w.parse().ok())
        .unwrap_or(60);
    let wait = asked.min(shared.profile.max_wait);
    let lang = root.attribute(("http://www.w3.org/XML/1998/namespace", "lang"));
    if lang.is_none() {
        shared.violation("no xml:lang at creation");
    }
    let (stream, out) = shared.server.connect();
    let sid = format!("sid-{:016x}", getrandom::u64().unwrap_or(1));
    let mut session = Session::new(
        sid.clone(),
        rid,
        Duration::from_secs(wait),
        shared.profile.clone(),
        stream,
        out,
    );
    let features = if shared.profile.features_at_once {
        session.features()
    } else {
        String::new()
    };
    let authid = if shared.profile.authid {
        format!(" authid='{sid}'")
    } else {
        String::new()
    };
    let reply = wrap(
        &format!(
            " sid='{sid}' wait='{wait}' xmpp:version='1.0'{authid} {}",
            shared.profile.creation
        ),
        &features,
    );
    let session = Arc::new(Mutex::new(session));
    let cookie = {
        let mut state = shared.lock();
        state.opened += 1;
        state.sessions.insert(sid.clone(), Arc::clone(&session));
        if state.cookie {
            "Set-Cookie: node=a; Path=/; HttpOnly\r\n".to_owned()
        } else {
            String::new()
        }
    };
    tokio::spawn(watch(
        Arc::downgrade(shared),
        sid,
        Arc::downgrade(&session),
        shared.profile.inactivity,
    ));
    ("200 OK".to_owned(), cookie, reply)
}

/// Answers held requests when something comes or `wait` is over; ends the session after `inactivity`.
async fn watch(
    shared: std::sync::Weak<Shared>,
    sid: String,
    session: std::sync::Weak<Mutex<Session>>,
    inactivity: u64,
) {
    let limit = Duration::from_secs(inactivity);
    loop {
        let expiry = {
            let Some(session) = session.upgrade() else {
                return;
            };
            let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
            session.settle();
            session.expire();
            if session.is_ended() {
                return;
            }
            if session.inactive_for() >= limit {
                session.end(Some("item-not-found"), "");
                drop(session);
                if let Some(shared) = shared.upgrade() {
                    shared.lock().sessions.remove(&sid);
                }
                return;
            }
            session.next_expiry().unwrap_or(session.last_seen + limit)
        };
        // Requests change what is due: never sleep long without looking again.
        let again = expiry.min(Instant::now() + Duration::from_secs(1));
        let something = std::future::poll_fn(|cx| match session.upgrade() {
            Some(session) => session
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .poll_out(cx),
            None => std::task::Poll::Ready(()),
        });
        tokio::select! {
            () = something => {}
            () = tokio::time::sleep_until(again) => {}
        }
    }
}
