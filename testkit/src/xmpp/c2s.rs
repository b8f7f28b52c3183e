//! The server over plain TCP. Light: stanzas are cut out of the bytes without being parsed.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::tag;
use super::{Out, Server, Stream};

/// Bytes written at once.
const BATCH: usize = 64 * 1024;

pub(super) async fn serve(server: Server, mut tcp: TcpStream) {
    let (mut stream, mut out) = server.connect();
    let mut buffer = BytesMut::new();
    let mut cutter = Cutter::default();
    loop {
        tokio::select! {
            biased;
            Some(first) = out.recv() => {
                let mut text = String::new();
                let goes_on = batch(first, &mut out, &mut text, &mut cutter);
                if tcp.write_all(text.as_bytes()).await.is_err() || !goes_on {
                    return;
                }
            }
            read = tcp.read_buf(&mut buffer) => {
                if !matches!(read, Ok(count) if count > 0) {
                    return;
                }
                while let Some(piece) = cutter.cut(&mut buffer) {
                    if !take(&server, &mut stream, &mut tcp, &mut cutter, &piece).await {
                        return;
                    }
                }
            }
        }
    }
}

/// Gathers what is there; false after the stream's end.
fn batch(
    first: Out,
    out: &mut UnboundedReceiver<Out>,
    text: &mut String,
    cutter: &mut Cutter,
) -> bool {
    let mut next = Some(first);
    while let Some(item) = next {
        match item {
            Out::Element(element) => {
                // A header follows.
                cutter.in_stream &=
                    !element.starts_with("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'");
                text.push_str(&element);
            }
            Out::Close => {
                text.push_str("</stream:stream>");
                return false;
            }
        }
        next = if text.len() < BATCH {
            out.try_recv().ok()
        } else {
            None
        };
    }
    true
}

/// One header, element or end; false when it is over.
async fn take(
    server: &Server,
    stream: &mut Stream,
    tcp: &mut TcpStream,
    cutter: &mut Cutter,
    piece: &str,
) -> bool {
    if piece.starts_with("</") {
        stream.go_offline();
        // The client may have gone already.
        let _ = tcp.write_all(b"</stream:stream>").await;
        return false;
    }
    if cutter.in_stream {
        stream.feed(piece);
        return true;
    }
    if tag::name(piece).rsplit(':').next() != Some("stream") {
        return false;
    }
    cutter.in_stream = true;
    let header = format!(
        "<?xml version='1.0'?><stream:stream from='{}' id='{}' version='1.0' xml:lang='en' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>{}",
        server.domain(),
        stream.id,
        stream.features()
    );
    tcp.write_all(header.as_bytes()).await.is_ok()
}

/// Cuts headers, elements and ends off; remembers how far it has looked.
#[derive(Debug, Default)]
struct Cutter {
    /// The header has come.
    in_stream: bool,
    depth: usize,
    at: usize,
}

impl Cutter {
    fn cut(&mut self, buffer: &mut BytesMut) -> Option<String> {
        if self.at == 0 {
            let blanks = buffer
                .iter()
                .take_while(|b| b.is_ascii_whitespace())
                .count();
            let _ = buffer.split_to(blanks);
        }
        loop {
            let open = self.at + memchr::memchr(b'<', buffer.get(self.at..)?)?;
            let end = open + tag::tag_end(&buffer[open..])?;
            let tag = &buffer[open..end];
            self.at = end;
            if tag.starts_with(b"<?") {
                // The declaration before a header.
                let _ = buffer.split_to(end);
                self.at = 0;
                continue;
            }
            let done = if !self.in_stream || self.depth == 0 && tag.starts_with(b"</") {
                true
            } else if tag.starts_with(b"</") {
                self.depth -= 1;
                self.depth == 0
            } else if tag.ends_with(b"/>") {
                self.depth == 0
            } else {
                self.depth += 1;
                false
            };
            if done {
                self.at = 0;
                return Some(String::from_utf8_lossy(&buffer.split_to(end)).into_owned());
            }
        }
    }
}
