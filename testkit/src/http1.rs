//! Just enough HTTP/1.1 to read heads and counted bodies, byte by byte under the test's control.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A message's head and counted body.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Request or status line.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Head as it came.
    pub(crate) head: Bytes,
    pub(crate) body: Bytes,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }
}

/// Reads one message; `None` at a clean end before it begins.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<Option<Message>> {
    let head_end = loop {
        if let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if buffer.len() > 256 * 1024 {
            return Err(io::Error::other("a head without end"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return if buffer.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    };
    let head = buffer.split_to(head_end).freeze();
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut message = Message {
        line,
        headers,
        head,
        body: Bytes::new(),
    };
    let length: usize = message
        .header("content-length")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    message.body = buffer.split_to(length).freeze();
    Ok(Some(message))
}

/// Reads one reply with a body in any of HTTP's framings; interim replies are skipped.
pub(crate) async fn reply<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<Message> {
    let mut message = loop {
        let message = read(stream, buffer).await?;
        let message = message.ok_or(io::ErrorKind::UnexpectedEof)?;
        if message
            .line
            .split(' ')
            .nth(1)
            .is_none_or(|status| !status.starts_with('1'))
        {
            break message;
        }
    };
    if message.header("transfer-encoding").is_some() {
        message.body = read_chunks(stream, buffer).await?;
    } else if message.header("content-length").is_none() {
        while stream.read_buf(buffer).await? > 0 {}
        message.body = buffer.split().freeze();
    }
    Ok(message)
}

async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let line = loop {
            if let Some(at) = memchr::memmem::find(buffer, b"\r\n") {
                break buffer.split_to(at + 2);
            }
            if stream.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let digits = String::from_utf8_lossy(&line);
        let length = usize::from_str_radix(digits.trim(), 16).map_err(io::Error::other)?;
        while buffer.len() < length + 2 {
            if stream.read_buf(buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        body.extend_from_slice(&buffer.split_to(length));
        let _ = buffer.split_to(2);
        if length == 0 {
            return Ok(body.freeze());
        }
    }
}
