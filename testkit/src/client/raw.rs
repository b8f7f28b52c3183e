//! Any bytes out, and the bytes that come back, for tests of what no XMPP client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::ClientError;

/// A TCP connection without any protocol.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
    deadline: Duration,
}

impl Raw {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn connect(addr: SocketAddr) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            deadline: Duration::from_secs(10),
        })
    }

    /// The longest time for one call from now on.
    pub const fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// Sends these bytes, in one segment if they fit.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes.as_ref()).await?)
    }

    /// Closes our direction only.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn finish(&mut self) -> Result<(), ClientError> {
        Ok(self.stream.shutdown().await?)
    }

    /// Reads up to and with `pattern`; what came behind it stays for the next call.
    ///
    /// # Errors
    /// [`ClientError::Unexpected`] with what came, if the connection ends or the time is over first.
    pub async fn read_until(&mut self, pattern: &str) -> Result<String, ClientError> {
        let limit = self.deadline;
        let found = timeout(limit, async {
            loop {
                if let Some(at) = memchr::memmem::find(&self.received, pattern.as_bytes()) {
                    return Some(at + pattern.len());
                }
                match self.stream.read_buf(&mut self.received).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
        .unwrap_or(None);
        let Some(end) = found else {
            let got = String::from_utf8_lossy(&self.received).into_owned();
            return Err(ClientError::Unexpected("the awaited bytes", got));
        };
        let rest = self.received.split_off(end);
        let found = std::mem::replace(&mut self.received, rest);
        Ok(String::from_utf8_lossy(&found).into_owned())
    }

    /// Reads until the other side closes; a reset counts as a close.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] if it stays open.
    pub async fn read_to_end(&mut self) -> Result<String, ClientError> {
        let limit = self.deadline;
        timeout(limit, async {
            while !matches!(
                self.stream.read_buf(&mut self.received).await,
                Ok(0) | Err(_)
            ) {}
        })
        .await
        .map_err(|_| ClientError::Timeout("close", limit))?;
        let all = std::mem::take(&mut self.received);
        Ok(String::from_utf8_lossy(&all).into_owned())
    }
}
