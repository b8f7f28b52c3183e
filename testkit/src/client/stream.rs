//! The two directions of a client's stream.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::error::{ClientError, StreamError};
use super::scanner::{Kind, Scanner};
use super::stanza::{Stanza, escape};

/// Bytes from the server.
pub(super) trait Incoming: AsyncRead + std::fmt::Debug + Send + Sync + Unpin {}
impl<T: AsyncRead + std::fmt::Debug + Send + Sync + Unpin> Incoming for T {}

/// Bytes to the server; dropping it closes the connection for writing.
pub(super) trait Outgoing: AsyncWrite + std::fmt::Debug + Send + Sync + Unpin {}
impl<T: AsyncWrite + std::fmt::Debug + Send + Sync + Unpin> Outgoing for T {}

/// What comes from the server.
#[derive(Debug)]
pub struct Reader {
    stream: Box<dyn Incoming>,
    buffer: BytesMut,
    scanner: Scanner,
    header: Arc<str>,
    deadline: Duration,
}

impl Reader {
    pub(super) fn new(stream: Box<dyn Incoming>) -> Self {
        Self {
            stream,
            buffer: BytesMut::with_capacity(64 * 1024),
            scanner: Scanner::new(),
            header: "".into(),
            deadline: Duration::from_secs(10),
        }
    }

    /// The longest wait for one element from now on.
    pub const fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// A new document begins: at first, and after SASL success.
    pub(super) const fn expect_header(&mut self) {
        self.scanner = Scanner::new();
    }

    pub(super) async fn next_header(&mut self) -> Result<(), ClientError> {
        match self.next_piece("stream header").await? {
            (Kind::Header, bytes) => {
                self.header = String::from_utf8_lossy(&bytes).into();
                Ok(())
            }
            (Kind::Element | Kind::End, bytes) => Err(ClientError::Unexpected(
                "a stream header",
                String::from_utf8_lossy(&bytes).into_owned(),
            )),
        }
    }

    /// The next first-level element.
    ///
    /// # Errors
    /// [`ClientError::Stream`] in the place of a stream error, [`ClientError::Ended`] of the stream's end.
    pub async fn next_stanza(&mut self) -> Result<Stanza, ClientError> {
        match self.next_piece("stanza").await? {
            (Kind::Element, bytes) => {
                let stanza = Stanza {
                    bytes: bytes.freeze(),
                    header: Arc::clone(&self.header),
                };
                match StreamError::read(&stanza) {
                    Some(error) => Err(ClientError::Stream(error)),
                    None => Ok(stanza),
                }
            }
            (Kind::End, _) => Err(ClientError::Ended),
            (Kind::Header, bytes) => Err(ClientError::Unexpected(
                "a stanza",
                String::from_utf8_lossy(&bytes).into_owned(),
            )),
        }
    }

    async fn next_piece(&mut self, what: &'static str) -> Result<(Kind, BytesMut), ClientError> {
        if let Some(piece) = self.take_piece() {
            return Ok(piece);
        }
        let limit = self.deadline;
        let more = async {
            loop {
                self.buffer.reserve(16 * 1024);
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(ClientError::Disconnected);
                }
                if let Some(piece) = self.take_piece() {
                    return Ok(piece);
                }
            }
        };
        timeout(limit, more)
            .await
            .unwrap_or(Err(ClientError::Timeout(what, limit)))
    }

    fn take_piece(&mut self) -> Option<(Kind, BytesMut)> {
        let piece = self.scanner.scan(&self.buffer)?;
        let mut bytes = self.buffer.split_to(piece.end);
        Some((piece.kind, bytes.split_off(piece.start)))
    }
}

/// What goes to the server.
#[derive(Debug)]
pub struct Writer {
    stream: Box<dyn Outgoing>,
}

impl Writer {
    pub(super) fn new(stream: Box<dyn Outgoing>) -> Self {
        Self { stream }
    }

    /// Sends any text as it is.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn send(&mut self, text: &str) -> Result<(), ClientError> {
        self.stream.write_all(text.as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends a chat message.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn message(&mut self, to: &str, body: &str) -> Result<(), ClientError> {
        let (to, body) = (escape(to), escape(body));
        self.send(&format!(
            "<message type='chat' to='{to}'><body>{body}</body></message>"
        ))
        .await
    }
}
