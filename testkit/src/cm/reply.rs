//! What goes back: bodies, and the HTTP around them with its faults.

use std::fmt::Write as _;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::fault::Fault;
use super::profile::Profile;

/// An answer of the manager, before any fault.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// Status and reason.
    pub(super) status: &'static str,
    /// Header lines, each ending in `\r\n`.
    pub(super) headers: String,
    pub(super) content_type: Option<String>,
    pub(super) body: String,
    /// The connection ends with it.
    pub(super) closes: bool,
}

impl Answer {
    pub(super) fn ok(body: String) -> Self {
        Self {
            status: "200 OK",
            headers: String::new(),
            content_type: None,
            body,
            closes: false,
        }
    }

    pub(super) fn status(status: &'static str, body: String) -> Self {
        Self {
            status,
            content_type: Some("text/html".to_owned()),
            ..Self::ok(body)
        }
    }
}

impl Profile {
    /// A body with these attributes and this content.
    pub(super) fn wrap(&self, attributes: &str, inner: &str) -> String {
        let mut out = String::with_capacity(200 + attributes.len() + inner.len());
        out.push_str(
            "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh'",
        );
        if self.declares_stream {
            out.push_str(" xmlns:stream='http://etherx.jabber.org/streams'");
        }
        if let Some(name) = self
            .stream_name
            .filter(|_| !attributes.contains(" stream=") && !attributes.starts_with("stream="))
        {
            let _ = write!(out, " stream='{name}'");
        }
        if !attributes.is_empty() {
            out.push(' ');
            out.push_str(attributes.trim_start());
        }
        if inner.is_empty() {
            out.push_str("/>");
        } else {
            out.push('>');
            out.push_str(inner);
            out.push_str("</body>");
        }
        out
    }

    pub(super) fn terminate(&self, condition: Option<&str>, inner: &str) -> String {
        let condition = condition
            .map(|c| format!(" condition='{c}'"))
            .unwrap_or_default();
        self.wrap(&format!("type='terminate'{condition}"), inner)
    }
}

/// The bytes of a reply with one fault.
pub(super) struct Rendered {
    pub(super) bytes: Vec<u8>,
    pub(super) closes: bool,
}

/// Writes the answer as HTTP, with what the fault changes about its form.
pub(super) fn render(answer: &Answer, profile: &Profile, fault: Option<&Fault>) -> Rendered {
    let mut body = answer.body.clone().into_bytes();
    let mut headers = answer.headers.clone();
    let mut closes = answer.closes || profile.closes;
    let mut version = "HTTP/1.1";
    let mut length = true;
    let mut content_type = answer
        .content_type
        .as_deref()
        .unwrap_or(profile.content_type)
        .to_owned();
    match fault {
        Some(Fault::Close) => closes = true,
        Some(Fault::Http10) => (version, length, closes) = ("HTTP/1.0", false, true),
        Some(Fault::ContentType(other)) => (*other).clone_into(&mut content_type),
        Some(Fault::Headers(more)) => headers.push_str(more),
        Some(Fault::Attributes(more)) => body = with_attributes(&answer.body, more).into_bytes(),
        Some(Fault::Rewrite(change)) => body = change(&answer.body).into_bytes(),
        Some(Fault::Oversized(bytes)) => body = big(answer, *bytes).into_bytes(),
        Some(Fault::Gzip) => body = gzip(&mut headers, &body),
        Some(Fault::GzipBomb(bytes)) => body = gzip(&mut headers, big(answer, *bytes).as_bytes()),
        Some(Fault::BrokenGzip) => {
            body = gzip(&mut headers, &body);
            body.truncate(body.len() / 2);
        }
        Some(Fault::Chunked) => {
            headers.push_str("Transfer-Encoding: chunked\r\n");
            length = false;
            body = chunked(&body);
        }
        _ => {}
    }
    if closes && version == "HTTP/1.1" {
        headers.push_str("Connection: close\r\n");
    }
    if length {
        let _ = write!(headers, "Content-Length: {}\r\n", body.len());
    }
    let mut head = format!("Content-Type: {content_type}\r\n{headers}");
    if profile.lower_case || matches!(fault, Some(Fault::LowerCase)) {
        head = lower_names(&head);
    }
    let mut bytes = Vec::with_capacity(64 + head.len() + body.len());
    if matches!(fault, Some(Fault::Interim)) {
        bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let _ = write!(bytes, "{version} {}\r\n{head}\r\n", answer.status);
    bytes.extend_from_slice(&body);
    Rendered { bytes, closes }
}

fn with_attributes(body: &str, more: &str) -> String {
    body.replacen("<body ", &format!("<body {more} "), 1)
}

/// The answer with one more message of this size.
fn big(answer: &Answer, bytes: usize) -> String {
    let message = format!(
        "<message xmlns='jabber:client' from='echo@localhost'><body>{}</body></message></body>",
        "x".repeat(bytes)
    );
    match answer
        .body
        .strip_suffix("</body>")
        .or_else(|| answer.body.strip_suffix("/>"))
    {
        Some(open) if answer.body.ends_with("/>") => format!("{open}>{message}"),
        Some(open) => format!("{open}{message}"),
        None => answer.body.clone(),
    }
}

fn gzip(headers: &mut String, body: &[u8]) -> Vec<u8> {
    headers.push_str("Content-Encoding: gzip\r\n");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(body)
        .and_then(|()| encoder.finish())
        .expect("memory takes everything")
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() * 2 + 8);
    for chunk in body.chunks(7.max(body.len() / 16)) {
        let _ = write!(out, "{:x}\r\n", chunk.len());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn lower_names(head: &str) -> String {
    head.split_inclusive("\r\n")
        .map(|line| match line.split_once(':') {
            Some((name, value)) => format!("{}:{value}", name.to_lowercase()),
            None => line.to_owned(),
        })
        .collect()
}
