//! One BOSH session on the manager's side.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::profile::Profile;
use crate::xmpp::{Out, Stream};

/// A request whose answer is still owed.
struct Held {
    rid: u64,
    reply: oneshot::Sender<String>,
    since: Instant,
}

/// A request that came before its turn.
struct Early {
    parsed: Parsed,
    reply: oneshot::Sender<String>,
}

/// What a request says.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) rid: u64,
    pub(crate) terminate: bool,
    pub(crate) restart: bool,
    /// Children as standalone text.
    pub(crate) children: Vec<String>,
}

pub(crate) struct Session {
    pub(crate) sid: String,
    profile: Profile,
    wait: Duration,
    next_rid: u64,
    held: VecDeque<Held>,
    early: BTreeMap<u64, Early>,
    stored: VecDeque<(u64, String)>,
    pending: VecDeque<String>,
    stream: Stream,
    out: UnboundedReceiver<Out>,
    features_owed: bool,
    ended: Option<String>,
    pub(crate) last_seen: Instant,
}

/// What became of a request.
pub(crate) enum Taken {
    /// The answer comes when it comes.
    Waits(oneshot::Receiver<String>),
    /// At once.
    Now(String),
}

impl Session {
    pub(crate) fn new(
        sid: String,
        rid: u64,
        wait: Duration,
        profile: Profile,
        stream: Stream,
        out: UnboundedReceiver<Out>,
    ) -> Self {
        Self {
            sid,
            profile,
            wait,
            next_rid: rid + 1,
            held: VecDeque::new(),
            early: BTreeMap::new(),
            stored: VecDeque::new(),
            pending: VecDeque::new(),
            stream,
            out,
            features_owed: true,
            ended: None,
            last_seen: Instant::now(),
        }
    }

    pub(crate) fn features(&mut self) -> String {
        self.features_owed = false;
        self.stream.features()
    }

    pub(crate) fn inactive_for(&self) -> Duration {
        if self.held.is_empty() {
            self.last_seen.elapsed()
        } else {
            Duration::ZERO
        }
    }

    /// Requests that are not answered yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.held.len() + self.early.len()
    }

    pub(crate) fn is_repeat(&self, rid: u64) -> bool {
        rid < self.next_rid
    }

    pub(crate) fn take(&mut self, parsed: Parsed) -> Taken {
        self.last_seen = Instant::now();
        let rid = parsed.rid;
        let (reply, answer) = oneshot::channel();
        if let Some((_, stored)) = self.stored.iter().find(|(known, _)| *known == rid) {
            return Taken::Now(stored.clone());
        }
        if let Some(ended) = &self.ended {
            return Taken::Now(ended.clone());
        }
        if let Some(held) = self.held.iter_mut().find(|held| held.rid == rid) {
            // The older copy is answered empty, the new one held.
            let old = std::mem::replace(&mut held.reply, reply);
            let _ = old.send(self.wrap("", ""));
            return Taken::Waits(answer);
        }
        if rid < self.next_rid || rid > self.next_rid + self.profile.requests as u64 {
            return Taken::Now(terminate(Some("item-not-found"), ""));
        }
        if rid > self.next_rid {
            self.early.insert(rid, Early { parsed, reply });
            return Taken::Waits(answer);
        }
        self.run(parsed, reply);
        while let Some(early) = self.early.remove(&self.next_rid) {
            if self.profile.stalls && self.pending.is_empty() {
                // Looked at again only when the missing one had something to answer.
                self.early.insert(early.parsed.rid, early);
                break;
            }
            self.run(early.parsed, early.reply);
        }
        self.settle();
        Taken::Waits(answer)
    }

    fn run(&mut self, parsed: Parsed, reply: oneshot::Sender<String>) {
        self.next_rid = parsed.rid + 1;
        self.held.push_back(Held {
            rid: parsed.rid,
            reply,
            since: Instant::now(),
        });
        let restarts = parsed.restart || self.profile.any_request_restarts && !parsed.terminate;
        if restarts
            && self.stream.is_authenticated()
            && self.features_owed
            && self.stream.jid().is_none()
        {
            let features = self.features();
            self.pending.push_back(features);
        }
        for child in &parsed.children {
            self.stream.feed(child);
        }
        self.collect();
        if !self.profile.features_at_once
            && self.features_owed
            && !self.stream.is_authenticated()
            && parsed.children.is_empty()
        {
            let features = self.features();
            self.pending.push_back(features);
        }
        if parsed.terminate {
            self.end(None, "");
        }
    }

    /// Takes what the server has for the client.
    pub(crate) fn collect(&mut self) {
        while let Ok(out) = self.out.try_recv() {
            match out {
                Out::Element(element) => {
                    self.features_owed |= element.starts_with("<success");
                    let element = if self.profile.bare_stanzas {
                        element.replacen(" xmlns='jabber:client'", "", 1)
                    } else {
                        element
                    };
                    self.pending.push_back(element);
                }
                Out::Close => self.end(Some("remote-stream-error"), ""),
            }
        }
    }

    /// Answers what can be answered: payload on the oldest, and no more held than one.
    pub(crate) fn settle(&mut self) {
        self.collect();
        if !self.pending.is_empty()
            && let Some(held) = self.held.pop_front()
        {
            let inner: String = self.pending.drain(..).collect();
            self.answer(held, "", &inner);
        }
        while self.held.len() > 1 {
            if let Some(held) = self.held.pop_front() {
                self.answer(held, "", "");
            }
        }
    }

    /// Answers what has been held for `wait`.
    pub(crate) fn expire(&mut self) {
        while self
            .held
            .front()
            .is_some_and(|held| held.since.elapsed() >= self.wait)
        {
            if let Some(held) = self.held.pop_front() {
                self.answer(held, "", "");
            }
        }
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.held.front().map(|held| held.since + self.wait)
    }

    /// Waits until the server has something for the client.
    pub(crate) fn poll_out(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        match self.out.poll_recv(cx) {
            std::task::Poll::Ready(Some(Out::Element(element))) => {
                self.features_owed |= element.starts_with("<success");
                self.pending.push_back(element);
                std::task::Poll::Ready(())
            }
            std::task::Poll::Ready(Some(Out::Close)) => {
                self.end(Some("remote-stream-error"), "");
                std::task::Poll::Ready(())
            }
            std::task::Poll::Ready(None) | std::task::Poll::Pending => std::task::Poll::Pending,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends the session: everything pending goes with the last word on the oldest request.
    pub(crate) fn end(&mut self, condition: Option<&str>, inner: &str) {
        self.stream.go_offline();
        let rest: String = self.pending.drain(..).collect();
        let last = terminate(condition, &format!("{rest}{inner}"));
        self.ended = Some(terminate(Some("item-not-found"), ""));
        let mut first = true;
        while let Some(held) = self.held.pop_front() {
            let body = match (first, self.profile.zero_bytes_at_end) {
                (true, _) => last.clone(),
                (false, true) => String::new(),
                (false, false) => terminate(None, ""),
            };
            first = false;
            self.stored.push_back((held.rid, body.clone()));
            let _ = held.reply.send(body);
        }
        for (_, early) in std::mem::take(&mut self.early) {
            let _ = early.reply.send(terminate(Some("item-not-found"), ""));
        }
    }

    fn answer(&mut self, held: Held, attributes: &str, inner: &str) {
        let body = self.wrap(attributes, inner);
        self.stored.push_back((held.rid, body.clone()));
        while self.stored.len() > self.profile.stored {
            self.stored.pop_front();
        }
        self.last_seen = Instant::now();
        // The client may have gone; it will ask again.
        let _ = held.reply.send(body);
    }

    fn wrap(&self, attributes: &str, inner: &str) -> String {
        let sid = if self.profile.repeat_sid {
            format!(" sid='{}'", self.sid)
        } else {
            String::new()
        };
        wrap(&format!("{sid}{attributes}"), inner)
    }
}

pub(crate) fn wrap(attributes: &str, inner: &str) -> String {
    format!(
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' \
         xmlns:stream='http://etherx.jabber.org/streams'{attributes}>{inner}</body>"
    )
}

pub(crate) fn terminate(condition: Option<&str>, inner: &str) -> String {
    let condition = condition
        .map(|c| format!(" condition='{c}'"))
        .unwrap_or_default();
    wrap(&format!(" type='terminate'{condition}"), inner)
}
