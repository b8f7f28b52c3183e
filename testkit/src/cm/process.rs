//! What the manager itself does with a request: sessions begin here, and each runs in a task of its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until};

use super::Shared;
use super::fault::Kind;
use super::profile::Errors;
use super::reply::Answer;
use super::request::Request;
use super::serve::Raw;
use super::session::{Command, Session};

/// Where a request belongs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: usize,
    pub(super) overactive: bool,
    pub(super) kind: Kind,
    pub(super) sid: Option<String>,
    pub(super) rid: u64,
}

/// A session, seen from outside.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    pub(super) commands: UnboundedSender<Command>,
    pub(super) unanswered: Arc<AtomicUsize>,
    /// Something came after the creation request.
    pub(super) used: Arc<AtomicBool>,
}

/// The manager's answer; `None` if it never gives one.
pub(super) async fn process(
    shared: &Arc<Shared>,
    request: Option<Request>,
    raw: &Raw,
    cookie: &str,
    place: Place,
) -> Option<Answer> {
    let profile = &shared.profile;
    if let Some((limit, status)) = profile.max_request
        && raw.len() > limit
    {
        return Some(Answer::status(status, String::new()));
    }
    let Some(request) = request else {
        return Some(malformed(shared));
    };
    let Some(sid) = request.sid.clone() else {
        return Some(create(shared, &request, raw).await);
    };
    let demands_cookie = shared.lock().cookie;
    let known = shared.session(&sid);
    if demands_cookie && !cookie.contains("node=a") {
        return Some(Answer::status(
            "404 Not Found",
            "<html>no such session on this node</html>".to_owned(),
        ));
    }
    let Some(session) = known else {
        return Some(unknown_sid(shared));
    };
    let (reply, answer) = oneshot::channel();
    let command = Command::Request {
        id: place.id,
        request: Box::new(request),
        overactive: place.overactive,
        reply,
    };
    if session.send(command).is_err() {
        return Some(unknown_sid(shared));
    }
    // Only the manager itself keeps a session alive.
    drop(session);
    match answer.await {
        Ok(answer) => Some(answer),
        // The session ended before it took the request, unless it means never to answer.
        Err(_) if shared.session(&sid).is_none() => Some(unknown_sid(shared)),
        Err(_) => None,
    }
}

fn malformed(shared: &Shared) -> Answer {
    let profile = &shared.profile;
    match profile.errors {
        Errors::Ok => Answer::ok(profile.terminate(Some("bad-request"), "")),
        Errors::Malformed400 | Errors::Bare => Answer::status("400 Bad Request", String::new()),
        Errors::Malformed500 => Answer::status("500 Internal Server Error", String::new()),
        Errors::Pages => Answer::status("400 Bad Request", "<html>bad request</html>".to_owned()),
    }
}

fn unknown_sid(shared: &Shared) -> Answer {
    let profile = &shared.profile;
    match profile.errors {
        Errors::Ok | Errors::Malformed400 | Errors::Malformed500 => {
            Answer::ok(profile.terminate(Some("item-not-found"), ""))
        }
        Errors::Pages => Answer::status("404 Not Found", "<html>Invalid SID</html>".to_owned()),
        Errors::Bare => Answer::status("404 Not Found", String::new()),
    }
}

/// XEP-0124 section 7.
async fn create(shared: &Arc<Shared>, request: &Request, raw: &Raw) -> Answer {
    let profile = &shared.profile;
    let refuse = |condition: &str| Answer::ok(profile.terminate(Some(condition), ""));
    if profile.refuses_early_payload && !request.children.is_empty() {
        return malformed(shared);
    }
    let Some(to) = request.to.as_deref().filter(|to| !to.is_empty()) else {
        return refuse("improper-addressing");
    };
    if to != shared.server.domain() {
        return refuse(profile.unknown_host);
    }
    let Some(asked) = request.wait.or(profile.default_wait) else {
        return refuse("bad-request");
    };
    if profile.demands_hold && request.hold.unwrap_or(0) == 0 {
        return refuse("undefined-condition");
    }
    let wait = asked.min(profile.max_wait);
    // More than one is not known to be granted by anyone.
    let hold = request
        .hold
        .unwrap_or(1)
        .min(1)
        .min(profile.requests.saturating_sub(1) as u64);
    let sid = format!("{:016x}{:016x}", random(), random());
    let (stream, out) = shared.server.connect_as(&sid);
    let mut session = Session::new(
        sid.clone(),
        request,
        (wait, hold),
        profile.clone(),
        (stream, out),
    );
    let silent = profile.needs_version && !request.literal_version;
    if silent {
        sleep(Duration::from_secs(wait)).await;
    }
    let features = if profile.features_at_once && !silent {
        session.features()
    } else {
        String::new()
    };
    let attributes = fill(shared, request, &sid, wait, hold);
    let mut answer = Answer::ok(profile.wrap(&attributes, &features));
    answer.content_type.clone_from(&request.content);
    session.opened(request.rid, &answer);

    let (commands, inbox) = unbounded_channel();
    let unanswered = Arc::new(AtomicUsize::new(0));
    let used = Arc::new(AtomicBool::new(false));
    let handle = Handle {
        commands,
        unanswered: Arc::clone(&unanswered),
        used: Arc::clone(&used),
    };
    {
        let mut state = shared.lock();
        state.sessions.insert(sid.clone(), handle);
        state.oracle.created(&sid, request, raw);
        state.oracle.answered(&sid, request.rid, "", Kind::Creation);
        if state.cookie {
            answer.headers = "Set-Cookie: node=a; Path=/; HttpOnly\r\n".to_owned();
        }
    }
    tokio::spawn(run(
        session,
        inbox,
        Arc::downgrade(shared),
        unanswered,
        used,
    ));
    answer
}

fn random() -> u64 {
    getrandom::u64().expect("the system gives random bytes")
}

fn fill(shared: &Shared, request: &Request, sid: &str, wait: u64, hold: u64) -> String {
    let profile = &shared.profile;
    let asked = request.ver.as_deref().unwrap_or("1.0");
    let minor = asked
        .strip_prefix("1.")
        .and_then(|minor| minor.parse::<u32>().ok())
        .unwrap_or(0);
    let mut out = profile.creation.to_owned();
    for (name, value) in [
        ("{sid}", sid),
        ("{rid}", &request.rid.to_string()),
        ("{wait}", &wait.to_string()),
        ("{hold}", &hold.to_string()),
        ("{requests}", &profile.requests.to_string()),
        ("{inactivity}", &profile.inactivity.to_string()),
        ("{polling}", &profile.polling.to_string()),
        ("{ver}", &format!("1.{}", minor.min(11))),
        ("{asked_ver}", asked),
        ("{from}", shared.server.domain()),
    ] {
        out = out.replace(name, value);
    }
    out
}

/// Drives one session until it is over.
async fn run(
    mut session: Session,
    mut inbox: UnboundedReceiver<Command>,
    shared: Weak<Shared>,
    unanswered: Arc<AtomicUsize>,
    used: Arc<AtomicBool>,
) {
    while !session.over {
        let deadline = session.deadline();
        tokio::select! {
            biased;
            command = inbox.recv() => match command {
                Some(command) => {
                    session.handle(command);
                    used.store(true, Ordering::Release);
                }
                // The manager is gone.
                None => return,
            },
            Some(out) = session.out.recv() => {
                session.deliver(out);
                session.settle();
            }
            () = sleep_until(deadline) => session.expire(),
        }
        unanswered.store(session.unanswered(), Ordering::Release);
    }
    if let Some(shared) = shared.upgrade() {
        shared.lock().sessions.remove(&session.sid);
    }
    for (reply, answer) in session.parting {
        // The client may have gone.
        let _ = reply.send(answer);
    }
}
