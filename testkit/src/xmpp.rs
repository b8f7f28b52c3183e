//! A tiny XMPP server in memory: login, binding, roster, ping, messages between its users, and `echo`, who
//! sends every message back. One [`Stream`] is one client, whatever carries it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::BytesMut;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::Service;
use crate::client::escape;

const ITERATIONS: u32 = 4096;

/// What a stream gets from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// One element for the client, standalone.
    Element(String),
    /// The stream's end.
    Close,
}

/// The server. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Server {
    domain: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    users: HashMap<String, String>,
    /// Full JID to client.
    online: HashMap<String, UnboundedSender<Out>>,
    counter: u64,
    extra_features: String,
}

impl Server {
    /// A server of one domain; users are added by [`Self::add_user`].
    #[must_use]
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            shared: Arc::default(),
        }
    }

    /// Its domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Adds an account.
    pub fn add_user(&self, user: &str, password: &str) {
        self.lock()
            .users
            .insert(user.to_owned(), password.to_owned());
    }

    /// More children for the features before login.
    pub fn set_extra_features(&self, xml: &str) {
        xml.clone_into(&mut self.lock().extra_features);
    }

    /// Sends an element to a full JID; false if nobody has it.
    #[must_use]
    pub fn inject(&self, jid: &str, element: &str) -> bool {
        let found = self.lock().online.get(jid).cloned();
        found.is_some_and(|client| client.send(Out::Element(element.to_owned())).is_ok())
    }

    /// Full JIDs that are online.
    #[must_use]
    pub fn online(&self) -> Vec<String> {
        self.lock().online.keys().cloned().collect()
    }

    /// A new client; what it is sent comes out of the receiver.
    #[must_use]
    pub fn connect(&self) -> (Stream, UnboundedReceiver<Out>) {
        self.connect_as("")
    }

    /// As [`Self::connect`], with this stream id.
    #[must_use]
    pub fn connect_as(&self, _id: &str) -> (Stream, UnboundedReceiver<Out>) {
        let (sink, out) = mpsc::unbounded_channel();
        let stream = Stream {
            server: self.clone(),
            sink,
            login: Login::None,
            user: None,
            jid: None,
        };
        (stream, out)
    }

    /// Serves plain XMPP over TCP: the way without a sidecar, for comparison.
    pub async fn listen(&self) -> Service {
        let server = self.clone();
        Service::start(move |stream| serve_tcp(server.clone(), stream)).await
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> u64 {
        let mut shared = self.lock();
        shared.counter += 1;
        shared.counter
    }
}

#[derive(Debug)]
enum Login {
    None,
    Scram {
        user: String,
        auth_message: String,
        salted: Vec<u8>,
    },
}

/// One client of the server.
#[derive(Debug)]
pub struct Stream {
    server: Server,
    sink: UnboundedSender<Out>,
    login: Login,
    user: Option<String>,
    jid: Option<String>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.go_offline();
    }
}

impl Stream {
    /// The features as they are now: logins before, binding after.
    #[must_use]
    pub fn features(&self) -> String {
        match self.user {
            None => format!(
                "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>\
                 <mechanism>PLAIN</mechanism></mechanisms>{}</stream:features>",
                self.server.lock().extra_features
            ),
            Some(_) => "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>\
                        <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session></stream:features>"
                .to_owned(),
        }
    }

    /// Whether the client is logged in.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.user.is_some()
    }

    /// Its full JID, once bound.
    #[must_use]
    pub fn jid(&self) -> Option<&str> {
        self.jid.as_deref()
    }

    fn send(&self, element: String) {
        // The client may be gone.
        let _ = self.sink.send(Out::Element(element));
    }

    /// Ends the client's presence; its directed peers are told.
    pub fn go_offline(&mut self) {
        if let Some(jid) = self.jid.take() {
            let others: Vec<_> = {
                let mut shared = self.server.lock();
                shared.online.remove(&jid);
                shared.online.values().cloned().collect()
            };
            for other in others {
                let _ = other.send(Out::Element(format!(
                    "<presence xmlns='jabber:client' type='unavailable' from='{jid}'/>"
                )));
            }
        }
    }

    /// Takes in one element, standalone.
    pub fn feed(&mut self, element: &str) {
        let Some(name) = element
            .strip_prefix('<')
            .and_then(|rest| rest.split([' ', '>', '/']).next())
        else {
            return;
        };
        // The hot path: a message between two users needs no document.
        if name == "message" && self.jid.is_some() {
            return self.route(element);
        }
        let Ok(document) = roxmltree::Document::parse(element) else {
            self.send("<stream:error><not-well-formed xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".into());
            let _ = self.sink.send(Out::Close);
            return;
        };
        let root = document.root_element();
        match name {
            "auth" | "response" | "abort" => self.sasl(root),
            "iq" => self.iq(root),
            "presence" => self.presence(root, element),
            _ => {}
        }
    }

    fn sasl(&mut self, root: roxmltree::Node<'_, '_>) {
        let failure = |condition: &str| {
            format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>")
        };
        let data = BASE64
            .decode(root.text().unwrap_or_default().trim())
            .unwrap_or_default();
        let data = String::from_utf8_lossy(&data).into_owned();
        let result = match (root.tag_name().name(), root.attribute("mechanism")) {
            ("auth", Some("PLAIN")) => self.plain(&data),
            ("auth", Some("SCRAM-SHA-1")) => self.scram_first(&data),
            ("response", _) => self.scram_final(&data),
            ("abort", _) => Some(Err("aborted")),
            _ => Some(Err("invalid-mechanism")),
        };
        match result {
            Some(Ok(additional)) => {
                self.login = Login::None;
                self.send(format!(
                    "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{additional}</success>"
                ));
            }
            Some(Err(condition)) => {
                self.login = Login::None;
                self.send(failure(condition));
            }
            None => {}
        }
    }

    fn plain(&mut self, data: &str) -> Option<Result<String, &'static str>> {
        let mut parts = data.split('\0').skip(1);
        let (user, password) = (parts.next()?.to_owned(), parts.next()?);
        let right = self
            .server
            .lock()
            .users
            .get(&user)
            .is_some_and(|known| known == password);
        Some(if right {
            self.user = Some(user);
            Ok(String::new())
        } else {
            Err("not-authorized")
        })
    }

    /// RFC 5802, first message.
    fn scram_first(&mut self, data: &str) -> Option<Result<String, &'static str>> {
        let bare = data.splitn(3, ',').nth(2)?.to_owned();
        let user = bare
            .split(',')
            .find_map(|p| p.strip_prefix("n="))?
            .to_owned();
        let nonce = bare
            .split(',')
            .find_map(|p| p.strip_prefix("r="))?
            .to_owned();
        let Some(password) = self.server.lock().users.get(&user).cloned() else {
            return Some(Err("not-authorized"));
        };
        let salt = Sha1::digest(user.as_bytes());
        let mut salted = vec![0; 20];
        pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), &salt, ITERATIONS, &mut salted);
        let first = format!(
            "r={nonce}{:08x},s={},i={ITERATIONS}",
            self.server.fresh(),
            BASE64.encode(salt)
        );
        self.send(format!(
            "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</challenge>",
            BASE64.encode(&first)
        ));
        self.login = Login::Scram {
            user,
            auth_message: format!("{bare},{first}"),
            salted,
        };
        None
    }

    /// RFC 5802, final message.
    fn scram_final(&mut self, data: &str) -> Option<Result<String, &'static str>> {
        let Login::Scram {
            user,
            auth_message,
            salted,
        } = std::mem::replace(&mut self.login, Login::None)
        else {
            return Some(Err("malformed-request"));
        };
        let (without_proof, proof) = data.rsplit_once(",p=")?;
        let auth_message = format!("{auth_message},{without_proof}");
        let client_key = mac(&salted, b"Client Key");
        let signature = mac(&Sha1::digest(&client_key), auth_message.as_bytes());
        let expected: Vec<u8> = client_key
            .iter()
            .zip(&signature)
            .map(|(a, b)| a ^ b)
            .collect();
        if BASE64.decode(proof).ok()? != expected {
            return Some(Err("not-authorized"));
        }
        self.user = Some(user);
        let verifier = mac(&mac(&salted, b"Server Key"), auth_message.as_bytes());
        Some(Ok(BASE64.encode(format!("v={}", BASE64.encode(verifier)))))
    }

    fn iq(&mut self, iq: roxmltree::Node<'_, '_>) {
        let id = escape(iq.attribute("id").unwrap_or_default());
        let kind = iq.attribute("type").unwrap_or_default();
        let payload = iq.first_element_child();
        let namespace = payload
            .and_then(|p| p.tag_name().namespace())
            .unwrap_or_default();
        let result =
            |inner: &str| format!("<iq xmlns='jabber:client' type='result' id='{id}'>{inner}</iq>");
        if !matches!(kind, "get" | "set") {
            return;
        }
        let reply = match (namespace, &self.user) {
            ("urn:ietf:params:xml:ns:xmpp-bind", Some(user)) => {
                let wanted = payload
                    .and_then(|p| p.first_element_child())
                    .and_then(|r| r.text());
                let resource =
                    wanted.map_or_else(|| format!("r{}", self.server.fresh()), str::to_owned);
                let jid = format!("{user}@{}/{resource}", self.server.domain);
                self.come_online(&jid);
                result(&format!(
                    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind>"
                ))
            }
            ("urn:ietf:params:xml:ns:xmpp-session" | "urn:xmpp:ping", Some(_)) => result(""),
            ("jabber:iq:roster", Some(_)) => result("<query xmlns='jabber:iq:roster'/>"),
            _ => format!(
                "<iq xmlns='jabber:client' type='error' id='{id}'><error type='cancel'>\
                 <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            ),
        };
        self.send(reply);
    }

    fn come_online(&mut self, jid: &str) {
        self.go_offline();
        let old = self
            .server
            .lock()
            .online
            .insert(jid.to_owned(), self.sink.clone());
        if let Some(old) = old {
            let _ = old.send(Out::Element(
                "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>".into(),
            ));
            let _ = old.send(Out::Close);
        }
        self.jid = Some(jid.to_owned());
    }

    fn presence(&mut self, presence: roxmltree::Node<'_, '_>, element: &str) {
        let Some(jid) = self.jid.clone() else { return };
        if presence.has_attribute("to") {
            self.route(element);
        } else if presence.attribute("type").is_none() {
            self.send(format!(
                "<presence xmlns='jabber:client' from='{jid}' to='{jid}'/>"
            ));
        }
    }

    /// Passes an element on to its `to`, stamped with `from`; `echo` sends messages back.
    fn route(&self, element: &str) {
        let (Some(to), Some(jid)) = (attribute(element, "to"), &self.jid) else {
            return;
        };
        let bare = to.split('/').next().unwrap_or_default();
        if bare == format!("echo@{}", self.server.domain) {
            if element.starts_with("<message") {
                let back = replace_attribute(element, "to", jid);
                self.send(stamp(&back, bare));
            }
            return;
        }
        let target = {
            let shared = self.server.lock();
            let by_bare = || {
                shared
                    .online
                    .iter()
                    .find(|(full, _)| full.split('/').next() == Some(bare))
                    .map(|(_, c)| c)
            };
            shared.online.get(to).or_else(by_bare).cloned()
        };
        if let Some(target) = target {
            let _ = target.send(Out::Element(stamp(element, jid)));
        }
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("any key length will do");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// An attribute of the first tag, by text; names that only end alike do not count.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let range = attribute_range(element, name)?;
    element.get(range)
}

fn attribute_range(element: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let tag = &element[..element.find('>')?];
    let needle = format!(" {name}=");
    let start = tag.find(&needle)? + needle.len();
    let quote = *tag.as_bytes().get(start)?;
    let end = tag[start + 1..].find(char::from(quote))?;
    Some(start + 1..start + 1 + end)
}

fn replace_attribute(element: &str, name: &str, value: &str) -> String {
    match attribute_range(element, name) {
        Some(range) => format!(
            "{}{value}{}",
            &element[..range.start],
            &element[range.end..]
        ),
        None => element.to_owned(),
    }
}

/// Adds `from`.
fn stamp(element: &str, from: &str) -> String {
    let at = element.find([' ', '>', '/']).unwrap_or(0);
    format!("{} from='{from}'{}", &element[..at], &element[at..])
}

async fn serve_tcp(server: Server, mut tcp: tokio::net::TcpStream) {
    let (mut stream, mut out) = server.connect();
    let mut buffer = BytesMut::new();
    let mut in_stream = false;
    loop {
        tokio::select! {
            read = tcp.read_buf(&mut buffer) => if !matches!(read, Ok(count) if count > 0) { return },
            Some(sent) = out.recv() => {
                let mut text = String::new();
                let mut next = Some(sent);
                while let Some(item) = next {
                    match item {
                        Out::Element(element) => {
                            in_stream &= !element.starts_with("<success");
                            text.push_str(&element);
                        }
                        Out::Close => text.push_str("</stream:stream>"),
                    }
                    next = if text.len() < 1 << 16 { out.try_recv().ok() } else { None };
                }
                if tcp.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        }
        while let Some(token) = next_token(&mut buffer, in_stream) {
            if token.contains("<stream:stream") || token.contains(":stream ") {
                in_stream = true;
                let header = format!(
                    "<?xml version='1.0'?><stream:stream from='{}' id='{:x}' version='1.0' xmlns='jabber:client' \
                     xmlns:stream='http://etherx.jabber.org/streams'>{}",
                    server.domain,
                    server.fresh(),
                    stream.features()
                );
                if tcp.write_all(header.as_bytes()).await.is_err() {
                    return;
                }
            } else if token.starts_with("</") {
                stream.go_offline();
                // The client may have gone already.
                let _ = tcp.write_all(b"</stream:stream>").await;
                return;
            } else {
                stream.feed(&token);
            }
        }
    }
}

/// Cuts the next stream tag or element off; only for the well-behaved clients of tests.
fn next_token(buffer: &mut BytesMut, in_stream: bool) -> Option<String> {
    let start = buffer.iter().position(|b| !b.is_ascii_whitespace())?;
    let _ = buffer.split_to(start);
    let mut depth = 0_i32;
    let mut at = 0;
    loop {
        let open = at + memchr::memchr(b'<', &buffer[at..])?;
        let close = open + memchr::memchr(b'>', &buffer[open..])?;
        let tag = &buffer[open..=close];
        at = close + 1;
        if tag.starts_with(b"<?") {
            continue;
        }
        if !in_stream || depth == 0 && tag.starts_with(b"</") {
            break;
        }
        if tag.starts_with(b"</") {
            depth -= 1;
        } else if !tag.ends_with(b"/>") {
            depth += 1;
        }
        if depth == 0 {
            break;
        }
    }
    Some(String::from_utf8_lossy(&buffer.split_to(at)).into_owned())
}
