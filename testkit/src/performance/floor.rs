//! The floor: BOSH by hand over two kept-alive connections, and nothing else. No validation, no repeats, no local
//! stream. What a sidecar costs is measured against it.

mod wire;

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use memchr::memmem;

use wire::Connection;
pub(crate) use wire::Route;

use crate::client::Account;
use crate::client::scanner::{Kind, Scanner};

/// Payload gathered into one request.
const MAX_BODY: usize = 64 * 1024;

const XMLNS: &str = "xmlns='http://jabber.org/protocol/httpbind'";

/// One session.
pub(super) struct Floor {
    route: Route,
    head: String,
    connections: [Option<Connection>; 2],
    sid: String,
    rid: u64,
    /// The rid whose answer comes next.
    due: u64,
    /// Answers that came before their turn.
    early: HashMap<u64, Bytes>,
    inbox: VecDeque<Bytes>,
    pending: BytesMut,
    /// Lengths of the stanzas in `pending`.
    lengths: VecDeque<usize>,
    jid: String,
}

impl Floor {
    /// Creation, PLAIN, restart, bind.
    ///
    /// # Errors
    /// Whatever ended it.
    pub(super) async fn login(route: &Route, account: &Account, wait: u64) -> Result<Self, String> {
        let rid = u64::from(getrandom::u32().map_err(|error| error.to_string())?);
        let mut floor = Self {
            head: route.head(),
            route: route.clone(),
            connections: [None, None],
            sid: String::new(),
            rid,
            due: rid,
            early: HashMap::new(),
            inbox: VecDeque::new(),
            pending: BytesMut::new(),
            lengths: VecDeque::new(),
            jid: String::new(),
        };
        let to = &account.domain;
        let xmpp = "xmlns:xmpp='urn:xmpp:xbosh' xmpp:version='1.0'";
        let created = floor
            .exchange(
                &format!(
                    "to='{to}' xml:lang='en' ver='1.6' wait='{wait}' hold='1' {xmpp} content='text/xml; charset=utf-8'"
                ),
                "",
            )
            .await?;
        floor.sid = attribute(&created, "sid").ok_or("no sid in the creation answer")?;
        floor.element("features").await?;
        let credentials = BASE64.encode(format!("\0{}\0{}", account.user, account.password));
        let auth = format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{credentials}</auth>"
        );
        floor.exchange("", &auth).await?;
        floor.element("success").await?;
        floor
            .exchange(&format!("to='{to}' {xmpp} xmpp:restart='true'"), "")
            .await?;
        floor.element("features").await?;
        let bind = "<iq xmlns='jabber:client' type='set' id='bind'>\
                    <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        floor.exchange("", bind).await?;
        let bound = floor.element("jid").await?;
        let jid = between(&bound, "<jid>", "</jid>").ok_or("no JID in the bind result")?;
        floor.jid = jid.replace("&apos;", "'").replace("&amp;", "&");
        Ok(floor)
    }

    pub(super) fn jid(&self) -> &str {
        &self.jid
    }

    /// Takes a stanza; it leaves with the next [`Self::flush`] or [`Self::next`].
    pub(super) fn queue(&mut self, stanza: &str) {
        self.pending.extend_from_slice(stanza.as_bytes());
        self.lengths.push_back(stanza.len());
    }

    /// Drives the session until everything queued is written.
    pub(super) async fn flush(&mut self) -> Result<(), String> {
        loop {
            self.pump().await?;
            if self.lengths.is_empty() {
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// The next element from the server. May be given up and asked again.
    pub(super) async fn next(&mut self) -> Result<Bytes, String> {
        loop {
            if let Some(element) = self.inbox.pop_front() {
                return Ok(element);
            }
            self.pump().await?;
            self.read().await?;
        }
    }

    /// Ends the session.
    pub(super) async fn logout(mut self) -> Result<(), String> {
        self.flush().await?;
        while self.in_flight() == self.connections.len() {
            self.read().await?;
        }
        self.send("type='terminate'").await?;
        while self.in_flight() > 0 {
            let (rid, _) = self.answer().await?;
            if rid + 1 == self.rid {
                break;
            }
        }
        Ok(())
    }

    /// Queued stanzas leave while there is a slot; one request is always held.
    async fn pump(&mut self) -> Result<(), String> {
        loop {
            let free = self.in_flight() < self.connections.len();
            if self.in_flight() == 0 || (free && !self.lengths.is_empty()) {
                self.send("").await?;
            } else {
                break;
            }
        }
        for connection in self.connections.iter_mut().flatten() {
            connection.flush().await.map_err(said)?;
        }
        Ok(())
    }

    /// One request with what is queued, at most [`MAX_BODY`].
    async fn send(&mut self, attributes: &str) -> Result<(), String> {
        let is_free = |c: &Option<Connection>| c.as_ref().is_some_and(|c| c.rid.is_none());
        let place = self
            .connections
            .iter()
            .position(is_free)
            .or_else(|| self.connections.iter().position(Option::is_none))
            .ok_or("no connection is free")?;
        if self.connections[place].is_none() {
            let opened = Connection::open(&self.route).await.map_err(said)?;
            self.connections[place] = Some(opened);
        }
        let Some(connection) = &mut self.connections[place] else {
            return Err("no connection".to_owned());
        };
        let mut take = 0;
        while let Some(length) = self.lengths.front() {
            if take > 0 && take + length > MAX_BODY {
                break;
            }
            take += length;
            self.lengths.pop_front();
        }
        let payload = self.pending.split_to(take);
        let rid = self.rid;
        self.rid += 1;
        let sid = match self.sid.as_str() {
            "" => String::new(),
            sid => format!(" sid='{sid}'"),
        };
        let open = format!("<body {XMLNS} rid='{rid}'{sid} {attributes}>");
        let parts = [open.as_bytes(), &payload, b"</body>"];
        connection.request(rid, &self.head, &parts);
        connection.flush().await.map_err(said)
    }

    /// One answer, and what became readable by it.
    async fn read(&mut self) -> Result<(), String> {
        let (rid, body) = self.answer().await?;
        self.early.insert(rid, body);
        while let Some(body) = self.early.remove(&self.due) {
            self.due += 1;
            self.take(body)?;
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<(u64, Bytes), String> {
        let [one, two] = &mut self.connections;
        let [one, two] = [one, two].map(|c| c.as_mut().filter(|c| c.rid.is_some()));
        let answer = match (one, two) {
            (Some(one), Some(two)) => tokio::select! {
                answer = one.answer() => answer,
                answer = two.answer() => answer,
            },
            (Some(one), None) => one.answer().await,
            (None, Some(two)) => two.answer().await,
            (None, None) => return Err("nothing is in flight".to_owned()),
        };
        answer.map_err(said)
    }

    fn take(&mut self, body: Bytes) -> Result<(), String> {
        let head = body.split(|&byte| byte == b'>').next().unwrap_or_default();
        if memmem::find(head, b"terminate").is_some() {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("the session ended: {text}"));
        }
        let mut scanner = Scanner::new();
        let mut rest = body;
        while let Some(piece) = scanner.scan(&rest) {
            let taken = rest.split_to(piece.end);
            if piece.kind == Kind::Element {
                self.inbox.push_back(taken.slice(piece.start..));
            }
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.connections
            .iter()
            .flatten()
            .filter(|connection| connection.rid.is_some())
            .count()
    }

    /// One request and its answer, during login.
    async fn exchange(&mut self, attributes: &str, payload: &str) -> Result<Bytes, String> {
        if !payload.is_empty() {
            self.queue(payload);
        }
        self.send(attributes).await?;
        let (_, body) = self.answer().await?;
        self.due += 1;
        self.take(body.clone())?;
        Ok(body)
    }

    /// The next element, which must hold this tag.
    async fn element(&mut self, tag: &str) -> Result<String, String> {
        while self.inbox.is_empty() {
            self.exchange("", "").await?;
        }
        let element = self.inbox.pop_front().unwrap_or_default();
        let text = String::from_utf8_lossy(&element).into_owned();
        if text.contains(tag) {
            Ok(text)
        } else {
            Err(format!("{text} in place of {tag}"))
        }
    }
}

fn said(error: std::io::Error) -> String {
    error.to_string()
}

fn attribute(body: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(body.split(|&byte| byte == b'>').next()?).into_owned();
    ['\'', '"'].iter().find_map(|quote| {
        let quote = quote.to_string();
        between(&head, &format!(" {name}={quote}"), &quote).map(str::to_owned)
    })
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
