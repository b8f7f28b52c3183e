//! The manager's HTTP side: reads requests, has them judged, applies faults, writes answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::fault::{Facts, Fault, Kind};
use super::process::{Place, process};
use super::reply::{Answer, render};
use super::request::Request;
use super::session::Command;
use super::{KEPT, Post, Shared};
use crate::http1::{self, Message};
use crate::tls::Acceptor;

/// Longest wait of an answer for the one that overtakes it.
const OVERTAKEN: Duration = Duration::from_millis(200);

/// A connection that can be reset.
trait Wire: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub(super) async fn connection(shared: Arc<Shared>, stream: TcpStream, tls: Option<Acceptor>) {
    let number = {
        let mut state = shared.lock();
        state.connections += 1;
        state.connections - 1
    };
    match tls {
        Some(acceptor) => {
            if let Some(stream) = acceptor.accept(stream).await {
                Connection::new(shared, number, stream).serve().await;
            }
        }
        None => Connection::new(shared, number, stream).serve().await,
    }
}

struct Connection<S> {
    shared: Arc<Shared>,
    number: u64,
    stream: S,
    buffer: BytesMut,
    /// Closes on the next byte.
    doomed: bool,
}

impl<S: Wire> Connection<S> {
    fn new(shared: Arc<Shared>, number: u64, stream: S) -> Self {
        Self {
            shared,
            number,
            stream,
            buffer: BytesMut::new(),
            doomed: false,
        }
    }

    async fn serve(mut self) {
        loop {
            if self.doomed {
                // Whatever comes is not read to its end: the connection is gone.
                let _ = self.stream.read_buf(&mut self.buffer).await;
                return;
            }
            let Ok(Some(message)) = http1::read(&mut self.stream, &mut self.buffer).await else {
                return;
            };
            if !self.buffer.is_empty() {
                self.shared.violation("B-05: pipelined request");
            }
            if !self.exchange(message).await {
                return;
            }
        }
    }

    /// One exchange; false when the connection is to be closed.
    async fn exchange(&mut self, message: Message) -> bool {
        let body = String::from_utf8_lossy(&message.body).into_owned();
        let mut wrong = head_faults(&message);
        let request = Request::read(&body, &mut wrong);
        let (fault, place) = self.admit(&message, &request, body, wrong);
        let (fault, answer) = match self.before(fault, &request).await {
            Early::Close => return false,
            Early::Written(goes_on) => return goes_on,
            Early::GoesOn(fault) => {
                let Some(answer) = self
                    .answer(request.ok(), place.clone(), &message, fault.as_ref())
                    .await
                else {
                    return false;
                };
                (fault, answer)
            }
        };
        self.after(fault, &answer, &place).await
    }

    /// Logs the request, asks the oracle, looks for a fault.
    fn admit(
        &self,
        message: &Message,
        request: &Result<Request, String>,
        body: String,
        wrong: Vec<String>,
    ) -> (Option<Fault>, Place) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        state.oracle.violations.extend(wrong);
        let verdict = match request {
            Ok(request) => state
                .oracle
                .request(request, &message.body, &self.shared.profile),
            Err(what) => {
                state.oracle.violations.push(what.clone());
                Default::default()
            }
        };
        let kind = request.as_ref().map_or(Kind::Unreadable, Request::kind);
        state.exchanges += 1;
        let facts = Facts {
            index: state.exchanges,
            kind,
            offset: if kind == Kind::Creation {
                Some(0)
            } else {
                verdict.offset
            },
            body: &body,
        };
        let fault = state
            .rules
            .iter_mut()
            .find_map(|rule| rule.take(&facts).then(|| rule.fault.clone()));
        if !state.forgetful && state.posts.len() < KEPT {
            state.posts.push(Post {
                connection: self.number,
                line: message.line.clone(),
                headers: message.headers.clone(),
                body,
                at: Instant::now(),
            });
            self.shared.news.send_replace(());
        }
        let place = Place {
            id: state.exchanges,
            overactive: verdict.overactive,
            kind,
            sid: request.as_ref().ok().and_then(|r| r.sid.clone()),
            rid: request.as_ref().map_or(0, |r| r.rid),
        };
        (fault, place)
    }

    /// Faults that keep the request from the manager.
    async fn before(&mut self, fault: Option<Fault>, request: &Result<Request, String>) -> Early {
        let replacement = match fault {
            Some(Fault::LoseRequest) => return Early::Close,
            Some(Fault::Reset) => {
                self.reset();
                return Early::Close;
            }
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Raw(bytes)) => {
                self.spoil(request);
                // The close tells the rest.
                let _ = self.write(&bytes).await;
                return Early::Close;
            }
            Some(Fault::Reply {
                status,
                headers,
                body,
            }) => Answer {
                status,
                headers,
                content_type: body.starts_with("<html").then(|| "text/html".to_owned()),
                body,
                closes: false,
            },
            Some(Fault::RecoverableError) => {
                Answer::ok(self.shared.profile.wrap("type='error'", ""))
            }
            Some(Fault::Terminate { attributes, inner }) => {
                let sid = request.as_ref().ok().and_then(|r| r.sid.clone());
                if let Some(session) = sid.and_then(|sid| self.shared.session(&sid)) {
                    // It may have ended.
                    let _ = session.send(Command::Forget);
                }
                Answer::ok(
                    self.shared
                        .profile
                        .wrap(&format!("type='terminate' {attributes}"), &inner),
                )
            }
            other => return Early::GoesOn(other),
        };
        self.spoil(request);
        let rendered = render(&replacement, &self.shared.profile, None);
        Early::Written(self.write(&rendered.bytes).await && !rendered.closes)
    }

    /// The client gets some answer to this, whatever it makes of it.
    fn spoil(&self, request: &Result<Request, String>) {
        if let Ok(request) = request
            && let Some(sid) = &request.sid
        {
            self.shared
                .lock()
                .oracle
                .answered(sid, request.rid, "", request.kind());
        }
    }

    /// The manager's answer, while the client's side is watched; `None` when there is nobody to answer.
    async fn answer(
        &mut self,
        request: Option<Request>,
        place: Place,
        message: &Message,
        fault: Option<&Fault>,
    ) -> Option<Answer> {
        let cookie = message.header("cookie").unwrap_or_default().to_owned();
        let (sender, mut receiver) = oneshot::channel();
        let (shared, raw, at) = (
            Arc::clone(&self.shared),
            message.body.clone(),
            place.clone(),
        );
        tokio::spawn(async move {
            // The connection may be gone: then nobody waits.
            let _ = sender.send(process(&shared, request, &raw, &cookie, at).await);
        });
        match fault {
            Some(Fault::Vanish) => return None,
            Some(Fault::CutPoll(limit)) => {
                return match timeout(*limit, &mut receiver).await {
                    Ok(answer) => answer.ok().flatten(),
                    Err(_) => Some(Answer::status(
                        "504 Gateway Timeout",
                        "<html>504</html>".to_owned(),
                    )),
                };
            }
            _ => {}
        }
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut receiver => return answer.ok().flatten(),
                read = self.stream.read_buf(&mut self.buffer), if open => match read {
                    Ok(0) | Err(_) => {
                        open = false;
                        if self.shared.profile.notices_close {
                            self.abandon(&place);
                            return None;
                        }
                    }
                    Ok(_) => self.shared.violation("B-05: a second request on a busy connection"),
                },
            }
        }
    }

    fn abandon(&self, place: &Place) {
        let session = place.sid.as_ref().and_then(|sid| self.shared.session(sid));
        if let Some(session) = session {
            // The session may have ended.
            let _ = session.send(Command::Abandon(place.id));
        }
    }

    /// Writes the answer with what the fault does to it; false when the connection is to be closed.
    async fn after(&mut self, fault: Option<Fault>, answer: &Answer, place: &Place) -> bool {
        match &fault {
            Some(Fault::LoseAnswer) => return false,
            Some(Fault::SilenceAfter) => std::future::pending().await,
            Some(Fault::Delay(time)) => sleep(*time).await,
            Some(Fault::AfterNext) => {
                let mut written = self.shared.written.subscribe();
                let now = *written.borrow_and_update();
                // Nothing may follow, as the client may wait for this very answer.
                let _ = timeout(OVERTAKEN, written.wait_for(|count| *count > now)).await;
            }
            _ => {}
        }
        let rendered = render(answer, &self.shared.profile, fault.as_ref());
        if let Some(Fault::Truncate(at) | Fault::ResetAt(at)) = fault {
            let part = rendered.bytes.get(..at).unwrap_or(&rendered.bytes);
            let _ = self.write(part).await;
            if matches!(fault, Some(Fault::ResetAt(_))) {
                self.reset();
            }
            return false;
        }
        if let Some(sid) = &place.sid {
            self.shared
                .lock()
                .oracle
                .answered(sid, place.rid, &answer.body, place.kind);
        }
        let written = self.write(&rendered.bytes).await;
        self.shared.written.send_modify(|count| *count += 1);
        self.shared.news.send_replace(());
        let closes = rendered.closes || matches!(fault, Some(Fault::CloseSilently));
        if closes {
            // A close that is clean as far as it goes.
            let _ = self.stream.shutdown().await;
        }
        self.doomed = matches!(fault, Some(Fault::CloseAtNext));
        written && !closes
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    fn reset(&self) {
        // Without it the close is an ordinary one.
        let _ = self.stream.tcp().set_zero_linger();
    }
}

enum Early {
    Close,
    Written(bool),
    GoesOn(Option<Fault>),
}

/// B-01 to B-08, P-05: the HTTP layer.
fn head_faults(message: &Message) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |text: &str| wrong.push(text.to_owned());
    if !message.line.starts_with("POST ") || !message.line.ends_with(" HTTP/1.1") {
        say("B-01: not an HTTP/1.1 POST");
    }
    for (name, rule) in [
        ("transfer-encoding", "B-02"),
        ("expect", "B-07"),
        ("content-encoding", "B-04"),
        ("proxy-authorization", "P-05"),
        ("proxy-connection", "P-07"),
    ] {
        if message.header(name).is_some() {
            say(&format!("{rule}: {name}"));
        }
    }
    for once in ["content-length", "host", "content-type"] {
        if message
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(once))
            .count()
            != 1
        {
            say(&format!("B-02: not exactly one {once}"));
        }
    }
    if message.header("content-type") != Some("text/xml; charset=utf-8") {
        say("B-03: another Content-Type");
    }
    wrong
}

/// Bodies are compared as they came.
pub(super) type Raw = Bytes;
