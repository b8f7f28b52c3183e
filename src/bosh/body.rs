//! `<body/>` text to typed response, typed request to `<body/>` text (XEP-0124 sections 6 and 7).
//!
//! Prefixes are spelt literally `xmpp` and `stream` and the wrapper is unprefixed: several connection
//! managers compare text, not namespaces (X-04, T-19).

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::condition::BindingCondition;
use super::keys::RequestKeys;
use super::params::{Requested, Rid, Sid};
use super::repair;
use crate::xml::{Element, Frame, Framer, Header, Limits, RootText, XmlError, escape};

/// Namespace of the wrapper.
pub const NS_HTTPBIND: &str = "http://jabber.org/protocol/httpbind";
/// Namespace of XEP-0206's attributes.
pub const NS_XBOSH: &str = "urn:xmpp:xbosh";

/// `type` of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseType {
    /// An ordinary response.
    Normal,
    /// `error`: a recoverable binding condition (XEP-0124 section 17.3).
    Error,
    /// `terminate`: the session is over (XEP-0124 section 17.2).
    Terminate,
}

/// One decoded response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its `type`.
    pub kind: ResponseType,
    /// `condition` of a terminate.
    pub condition: Option<BindingCondition>,
    /// Attributes of the wrapper.
    pub attributes: Attributes,
    /// Its children, in order.
    pub elements: Vec<Element>,
    /// Text between the children, trimmed; only terminate bodies ever have any.
    pub text: String,
    /// `xml:lang` of the wrapper.
    pub lang: Option<String>,
}

impl Response {
    /// Whether the response carries nothing for the client.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The `<uri/>` of a see-other-uri condition (XEP-0124 section 17.2).
    #[must_use]
    pub fn other_uri(&self) -> Option<String> {
        self.elements
            .iter()
            .find(|e| e.local() == "uri")
            .and_then(Element::text)
    }
}

/// The wrapper's attributes that a client acts on. Numbers that do not parse are reported by name.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Session id.
    pub sid: Option<Sid>,
    /// Request id: ejabberd marks a replayed request by it (cm-quirks 4.3 in `docs/conformance.md`).
    pub rid: Option<u64>,
    /// Longest hold of a request.
    pub wait: Option<Duration>,
    /// Requests held.
    pub hold: Option<u64>,
    /// Window of unanswered requests.
    pub requests: Option<u64>,
    /// Longest silence.
    pub inactivity: Option<Duration>,
    /// Shortest polling interval.
    pub polling: Option<Duration>,
    /// Longest pause.
    pub maxpause: Option<Duration>,
    /// Highest rid received.
    pub ack: Option<u64>,
    /// Rid whose response the manager thinks lost.
    pub report: Option<u64>,
    /// Version.
    pub ver: Option<String>,
    /// Server's domain.
    pub from: Option<String>,
    /// Server's stream id.
    pub authid: Option<Sid>,
    /// `xmpp:version`.
    pub xmpp_version: Option<String>,
    /// `xmpp:restartlogic` is true.
    pub restartlogic: bool,
    /// Name of the `stream` (unused, XEP-0124 section 16).
    pub stream: Option<String>,
    /// `accept` names gzip: MongooseIM sends it, among others.
    pub accept: bool,
    /// `host`: only Tigase sends it.
    pub host: bool,
    /// The first attribute whose value was not the number it must be.
    pub bad_number: Option<&'static str>,
}

/// Why a reply is not a usable `<body/>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Not a BOSH body at all: a login page, an empty reply (E-52).
    #[error("not a BOSH body")]
    NotBosh,
    /// A BOSH body with restricted or malformed XML (E-63).
    #[error("BOSH body with bad XML: {0}")]
    Xml(XmlError),
    /// It ends early: the connection broke (B-49).
    #[error("BOSH body cut short")]
    Truncated,
}

/// Decodes a whole reply (B-10, B-11). Tolerates an XML declaration and unknown attributes; a second
/// try mends what real managers get wrong in the root tag (see [`repair`]).
///
/// # Errors
/// [`BodyError`] as described there.
pub fn decode(bytes: &Bytes, limits: Limits) -> Result<Response, BodyError> {
    match decode_strict(bytes, limits) {
        Err(BodyError::Xml(error)) => match repair::root_tag(bytes) {
            Some(mended) => decode_strict(&mended, limits).map_err(|_| BodyError::Xml(error)),
            None => Err(BodyError::Xml(error)),
        },
        other => other,
    }
}

fn decode_strict(bytes: &Bytes, limits: Limits) -> Result<Response, BodyError> {
    let mut framer = Framer::new(limits, RootText::Collect);
    framer.push(bytes);
    let header = match framer.next_frame() {
        Ok(Some(Frame::Header(header))) => header,
        Ok(_) if looks_like_body(bytes) => return Err(BodyError::Truncated),
        Ok(_) => return Err(BodyError::NotBosh),
        Err(error) if looks_like_body(bytes) => return Err(BodyError::Xml(error)),
        Err(_) => return Err(BodyError::NotBosh),
    };
    if header.local != "body" || header.namespace != NS_HTTPBIND {
        return Err(BodyError::NotBosh);
    }
    let mut elements = Vec::new();
    loop {
        match framer.next_frame().map_err(BodyError::Xml)? {
            Some(Frame::Element(element)) => elements.push(element),
            Some(Frame::End) => break,
            None => return Err(BodyError::Truncated),
            Some(Frame::Header(_) | Frame::NewDocument) => {
                return Err(BodyError::Xml(XmlError::NotWellFormed(
                    "a second document in the body",
                )));
            }
        }
    }
    if !framer.trailing_is_blank() {
        return Err(BodyError::Xml(XmlError::NotWellFormed(
            "text behind the body",
        )));
    }
    let text = framer.root_text().trim().to_owned();
    let kind = match header.attr("type") {
        None => ResponseType::Normal,
        Some("error") => ResponseType::Error,
        // "terminal" is what some managers write.
        Some(_) => ResponseType::Terminate,
    };
    Ok(Response {
        kind,
        condition: header.attr("condition").map(BindingCondition::parse),
        lang: header.lang().map(str::to_owned),
        attributes: Attributes::read(&header),
        elements,
        text,
    })
}

/// Whether these bytes at least begin like a `<body/>` wrapper.
fn looks_like_body(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1024)];
    // Cut inside the wrapper's own tag, where nothing else would begin so.
    let cut = !head.is_empty() && memchr::memchr(b'>', head).is_none();
    if cut && (head.starts_with(b"<body ") || b"<body ".starts_with(head)) {
        return true;
    }
    memchr::memmem::find(head, b"<body").is_some()
        && memchr::memmem::find(head, NS_HTTPBIND.as_bytes()).is_some()
}

impl Attributes {
    fn read(header: &Header) -> Self {
        let mut out = Self::default();
        let mut bad = None;
        let mut number = |name: &'static str| {
            let text = header.attr(name)?;
            // T-15: parsed as u64, never through a float.
            let value = text.trim().parse::<u64>().ok();
            if value.is_none() {
                bad.get_or_insert(name);
            }
            value
        };
        out.rid = number("rid");
        out.hold = number("hold");
        out.requests = number("requests");
        out.ack = number("ack");
        out.report = number("report");
        out.wait = number("wait").map(Duration::from_secs);
        out.inactivity = number("inactivity").map(Duration::from_secs);
        out.polling = number("polling").map(Duration::from_secs);
        out.maxpause = number("maxpause").map(Duration::from_secs);
        out.bad_number = bad;
        out.sid = header
            .attr("sid")
            .filter(|v| !v.is_empty())
            .map(|v| Sid::new(v.to_owned()));
        out.authid = header
            .attr("authid")
            .filter(|v| !v.is_empty())
            .map(|v| Sid::new(v.to_owned()));
        out.ver = header.attr("ver").map(str::to_owned);
        out.from = header
            .attr("from")
            .filter(|v| !v.is_empty())
            .map(str::to_owned);
        out.stream = header.attr("stream").map(str::to_owned);
        out.accept = header.attr("accept").is_some_and(|a| a.contains("gzip"));
        out.host = header.attr("host").is_some();
        out.xmpp_version = header.attr_ns(NS_XBOSH, "version").map(str::to_owned);
        out.restartlogic = matches!(header.attr_ns(NS_XBOSH, "restartlogic"), Some("true" | "1"));
        out
    }
}

/// What a request is for; decides its attributes (B-20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// The session creation request.
    Creation,
    /// No payload: a poll.
    Empty,
    /// Carries payload.
    Payload,
    /// XEP-0206 section 5: stream restart.
    Restart,
    /// XEP-0124 section 13: ends the session, may carry payload.
    Terminate,
}

/// What every request after creation carries.
pub struct Head<'a> {
    /// Session id.
    pub sid: &'a Sid,
    /// Request id.
    pub rid: Rid,
    /// Highest rid whose reply, and all lower ones, came; `None` if none is missing.
    pub ack: Option<Rid>,
    /// Of the key sequence, if there is one.
    pub keys: RequestKeys,
}

/// Encodes the session creation request: no payload, no `sid` (B-12 to B-22, X-08).
#[must_use]
pub fn encode_creation(requested: &Requested, rid: Rid, keys: &RequestKeys) -> Bytes {
    let mut out = String::with_capacity(400);
    out.push_str("<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'");
    attribute(&mut out, "rid", rid);
    attribute(&mut out, "to", escape::attribute(&requested.to));
    if let Some(from) = &requested.from {
        attribute(&mut out, "from", escape::attribute(from));
    }
    if let Some(route) = &requested.route {
        attribute(&mut out, "route", escape::attribute(route));
    }
    attribute(&mut out, "ver", escape::attribute(&requested.ver));
    attribute(&mut out, "wait", requested.wait.as_secs());
    attribute(&mut out, "hold", requested.hold);
    attribute(&mut out, "ack", 1);
    attribute(&mut out, "xml:lang", escape::attribute(&requested.lang));
    if requested.xmpp_version {
        attribute(&mut out, "xmpp:version", "1.0");
    }
    key_attributes(&mut out, keys);
    out.push_str("/>");
    Bytes::from(out)
}

/// Encodes the restart request: alone, with `to` and `xml:lang`.
#[must_use]
pub fn encode_restart(requested: &Requested, head: &Head<'_>) -> Bytes {
    let mut out = String::with_capacity(400);
    out.push_str("<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'");
    session_attributes(&mut out, head);
    attribute(&mut out, "to", escape::attribute(&requested.to));
    if let Some(from) = &requested.from {
        attribute(&mut out, "from", escape::attribute(from));
    }
    attribute(&mut out, "xml:lang", escape::attribute(&requested.lang));
    attribute(&mut out, "xmpp:restart", "true");
    out.push_str("/>");
    Bytes::from(out)
}

/// Encodes an ordinary or terminating request around payload that is already standalone XML.
#[must_use]
pub fn encode<'a>(
    head: &Head<'_>,
    terminate: bool,
    payload: impl Iterator<Item = &'a [u8]> + Clone,
) -> Bytes {
    let mut tag = String::with_capacity(200);
    tag.push_str("<body xmlns='http://jabber.org/protocol/httpbind'");
    session_attributes(&mut tag, head);
    if terminate {
        attribute(&mut tag, "type", "terminate");
    }
    let length: usize = payload.clone().map(<[u8]>::len).sum();
    if length == 0 {
        tag.push_str("/>");
        return Bytes::from(tag);
    }
    tag.push('>');
    let mut out = BytesMut::with_capacity(tag.len() + length + b"</body>".len());
    out.extend_from_slice(tag.as_bytes());
    for part in payload {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"</body>");
    out.freeze()
}

fn session_attributes(out: &mut String, head: &Head<'_>) {
    attribute(out, "rid", head.rid);
    attribute(out, "sid", escape::attribute(head.sid.as_str()));
    if let Some(ack) = head.ack {
        attribute(out, "ack", ack);
    }
    key_attributes(out, &head.keys);
}

fn key_attributes(out: &mut String, keys: &RequestKeys) {
    if let Some(key) = &keys.key {
        attribute(out, "key", key.as_str());
    }
    if let Some(key) = &keys.new_key {
        attribute(out, "newkey", key.as_str());
    }
}

fn attribute(out: &mut String, name: &str, value: impl std::fmt::Display) {
    // Writing into a String cannot fail.
    let _ = write!(out, " {name}='{value}'");
}
