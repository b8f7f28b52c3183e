//! One client connection of the proxy.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{FaultKind, Shared};
use crate::http1::{self, Message};
use crate::proxy::ProxyOptions;
use crate::proxy::origin::{Onward, answer, page, passed_on, reset};

/// Most characters of a body in the log.
const SHOWN: usize = 400;

/// How a connection ends.
pub(super) enum End {
    Close,
    Reset,
}

/// What came of a request at the origin.
enum Came {
    Answer(Message),
    Failed,
    /// It took longer than [`FaultKind::CutLongPoll`] allows.
    TooLong,
    ClientLeft,
}

pub(super) async fn serve(shared: Arc<Shared>, client: TcpStream) {
    // Before the look at the outage: one that begins in between is seen as a cut.
    let mut cuts = shared.cuts.subscribe();
    if shared.is_away() {
        return reset(&client);
    }
    let mut connection = Connection {
        shared,
        client,
        buffer: BytesMut::new(),
        closes_on_next: false,
        under_way: None,
    };
    let end = tokio::select! {
        end = connection.run() => end,
        _ = cuts.changed() => {
            if let Some(sid) = &connection.under_way {
                connection.shared.count_cut(sid);
            }
            End::Reset
        }
    };
    if matches!(end, End::Reset) {
        reset(&connection.client);
    }
}

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) client: TcpStream,
    pub(super) buffer: BytesMut,
    /// The next request finds the connection closed.
    closes_on_next: bool,
    /// Whose request is being served.
    under_way: Option<String>,
}

impl Connection {
    async fn run(&mut self) -> End {
        loop {
            if self.closes_on_next {
                let mut byte = [0];
                if matches!(self.client.peek(&mut byte).await, Ok(1..)) {
                    self.shared.hit("", "closed as the next request came");
                }
                return End::Close;
            }
            let request = match http1::read(&mut self.client, &mut self.buffer).await {
                Ok(Some(request)) => request,
                Ok(None) | Err(_) => return End::Close,
            };
            if request.line.starts_with("CONNECT ") {
                return self.tunnel(&request).await;
            }
            let body = String::from_utf8_lossy(&request.body);
            self.under_way = attribute(&body, "sid");
            if let Some(sid) = &self.under_way {
                self.shared.look(sid, &body);
            }
            if let Some(end) = self.exchange(&request).await {
                return end;
            }
            self.under_way = None;
        }
    }

    /// One request; `None` keeps the connection.
    async fn exchange(&mut self, request: &Message) -> Option<End> {
        let who = &name(request);
        self.shared.note(who, &format!("> {}", shown(request)));
        let onward = match Onward::new(request, &ProxyOptions::default()) {
            Ok(onward) => onward,
            Err(status) => {
                page(&mut self.client, status).await;
                return None;
            }
        };
        let fault = self.shared.draw();
        match fault {
            Some(FaultKind::ResetBefore) => {
                self.shared.hit(who, "reset before");
                return Some(End::Reset);
            }
            Some(FaultKind::ResetDuring) => {
                if let Ok(origin) = onward.send_part(onward.bytes.len() / 2).await {
                    reset(&origin);
                }
                self.shared.hit(who, "reset during");
                return Some(End::Reset);
            }
            Some(FaultKind::Status(status)) => {
                self.shared.hit(who, &format!("{status}"));
                page(&mut self.client, phrase(status)).await;
                return None;
            }
            Some(FaultKind::Blackhole) => {
                self.shared.hit(who, "swallowed");
                self.until_client_leaves().await;
                return Some(End::Close);
            }
            _ => {}
        }
        match self.ask(&onward, fault).await {
            Came::Answer(reply) => {
                self.shared.note(who, &format!("< {}", shown(&reply)));
                if let Some(sid) = &self.under_way {
                    self.shared.look(sid, &String::from_utf8_lossy(&reply.body));
                }
                self.give(who, &reply, fault).await
            }
            Came::Failed => {
                self.shared.note(who, "the origin gave no answer");
                page(&mut self.client, "502 Bad Gateway").await;
                None
            }
            Came::TooLong => {
                self.shared.hit(who, "504, as it took too long");
                page(&mut self.client, "504 Gateway Timeout").await;
                None
            }
            Came::ClientLeft => {
                self.shared.note(who, "the client left");
                Some(End::Close)
            }
        }
    }

    async fn ask(&mut self, onward: &Onward, fault: Option<FaultKind>) -> Came {
        let asked = async {
            match fault {
                Some(FaultKind::ResendPost) => ask_twice(onward).await,
                _ => onward.ask().await,
            }
        };
        let limit = async {
            match fault {
                Some(FaultKind::CutLongPoll(limit)) => sleep(limit).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            reply = asked => reply.map_or(Came::Failed, Came::Answer),
            () = limit => Came::TooLong,
            () = self.until_client_leaves() => Came::ClientLeft,
        }
    }

    /// Gives the origin's answer to the client, or what the fault makes of it.
    async fn give(&mut self, who: &str, reply: &Message, fault: Option<FaultKind>) -> Option<End> {
        let bytes = passed_on(reply, fault == Some(FaultKind::Http10), false);
        let sent = match fault {
            Some(FaultKind::ResetAfter) => {
                self.shared.hit(who, "reset, answer lost");
                return Some(End::Reset);
            }
            Some(FaultKind::StatusAfter(status)) => {
                self.shared.hit(who, &format!("{status}, answer lost"));
                page(&mut self.client, phrase(status)).await;
                return None;
            }
            Some(FaultKind::CutAnswer) => {
                self.shared.hit(who, "half of the answer");
                // It is reset in any case.
                let _ = self.client.write_all(&bytes[..bytes.len() / 2]).await;
                return Some(End::Reset);
            }
            Some(FaultKind::Http10) => {
                self.shared.hit(who, "HTTP/1.0");
                // It is closed in any case.
                let _ = self.client.write_all(&bytes).await;
                return Some(End::Close);
            }
            Some(FaultKind::Buffer) => {
                let delay = FaultKind::MAX_DELAY.mul_f64(self.shared.share());
                self.shared.hit(who, &format!("delay of {delay:?}"));
                sleep(delay).await;
                self.client.write_all(&bytes).await
            }
            Some(FaultKind::ResendPost) => {
                self.shared.hit(who, "sent twice");
                self.client.write_all(&bytes).await
            }
            Some(FaultKind::CloseIdle) => {
                let sent = self.client.write_all(&bytes).await;
                if self.shared.coin() {
                    self.shared.hit(who, "closed behind the answer");
                    return Some(End::Close);
                }
                self.closes_on_next = true;
                sent
            }
            _ => self.client.write_all(&bytes).await,
        };
        sent.is_err().then_some(End::Close)
    }

    /// Ends when the client closes; what it sends until then stays in the buffer.
    pub(super) async fn until_client_leaves(&mut self) {
        while matches!(self.client.read_buf(&mut self.buffer).await, Ok(1..)) {}
    }
}

/// The first answer of two copies.
async fn ask_twice(onward: &Onward) -> io::Result<Message> {
    let first = onward.send().await?;
    let second = onward.send().await?;
    tokio::select! {
        reply = answer(first) => reply,
        reply = answer(second) => reply,
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        407 => "407 Proxy Authentication Required",
        502 => "502 Bad Gateway",
        503 => "503 Service Unavailable",
        504 => "504 Gateway Timeout",
        _ => "500 Internal Server Error",
    }
}

/// The request by its rid, for the log.
fn name(request: &Message) -> String {
    let body = String::from_utf8_lossy(&request.body);
    attribute(&body, "rid").map_or_else(|| "no rid".to_owned(), |rid| format!("rid {rid}"))
}

/// An attribute of the `<body/>`.
fn attribute(body: &str, name: &str) -> Option<String> {
    let rest = body.split(&format!(" {name}=")).nth(1)?;
    let quote = rest.chars().next()?;
    rest.get(1..)?.split(quote).next().map(str::to_owned)
}

fn shown(message: &Message) -> String {
    let body = String::from_utf8_lossy(&message.body);
    let short: String = body.chars().take(SHOWN).collect();
    let line = message.line.split(" HTTP/").next().unwrap_or_default();
    format!("{line}, {} bytes: {short}", message.body.len())
}
