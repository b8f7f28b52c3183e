//! The local socket of one client, TCP or Unix, and who is at its other end.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use rustix::io::retry_on_intr;
use rustls::ServerConfig;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{TcpStream, UnixStream};

use super::tls::{Choose, HandshakeError, Refusal, Tls};

/// Who is at the other end. `Display` is for logs: `127.0.0.1:4711`, `unix:/path (uid 1000)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// A client that came by TCP.
    Tcp(SocketAddr),
    /// A client that came through a Unix socket.
    Unix {
        /// The socket it came through; a client's own socket has no name.
        path: Arc<Path>,
        /// As whom it runs, as the system says.
        uid: u32,
    },
}

impl Peer {
    /// Nobody but this machine sees the bytes: what S-01 asks for.
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix { .. } => true,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, uid } => write!(f, "unix:{} (uid {uid})", path.display()),
        }
    }
}

/// A client's connection. Reads and writes never wait; [`Self::readable`] and [`Self::writable`] say when to try.
#[derive(Debug)]
pub(super) struct Client {
    socket: Socket,
    tls: Option<Box<Tls>>,
    /// close_notify is on its way, or not wanted.
    closing: bool,
}

#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A read that does not fill the buffer has taken all there is: the next one waits for the system's word, not for
    /// its refusal.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut got = None;
        let mut read = |socket: BorrowedFd<'_>| {
            let room = buffer.len();
            let count = retry_on_intr(|| rustix::io::read(socket, &mut *buffer))?;
            got = Some(count);
            match count {
                // What is at its end stays readable.
                0 => Ok(()),
                _ if count == room => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        };
        let result = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || read(stream.as_fd())),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || read(stream.as_fd())),
        };
        match got {
            Some(count) => Ok(count),
            None => result.map(|()| 0),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    pub(super) fn try_write_vectored(&self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(parts),
            Self::Unix(stream) => stream.try_write_vectored(parts),
        }
    }
}

impl From<TcpStream> for Client {
    fn from(stream: TcpStream) -> Self {
        // Loopback needs no coalescing; a failure here costs latency only.
        let _ = stream.set_nodelay(true);
        Self::over(Socket::Tcp(stream))
    }
}

impl From<UnixStream> for Client {
    fn from(stream: UnixStream) -> Self {
        Self::over(Socket::Unix(stream))
    }
}

impl Client {
    fn over(socket: Socket) -> Self {
        Self {
            socket,
            tls: None,
            closing: false,
        }
    }

    /// From here on the connection is TLS, beginning with `received`; [`Self::handshake`] must follow.
    pub(super) fn begin_tls(&mut self, received: BytesMut) {
        self.tls = Some(Box::new(Tls::new(received)));
    }

    /// TLS has begun, and [`Self::handshake`] is what to call when the socket is ready.
    pub(super) fn is_handshaking(&self) -> bool {
        !self.closing && self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// See [`Tls::is_choosing`].
    pub(super) fn is_choosing(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_choosing())
    }

    /// See [`Tls::chosen`].
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub(super) fn chosen(
        &mut self,
        chosen: Result<Arc<ServerConfig>, Refusal>,
    ) -> Result<(), HandshakeError> {
        match &mut self.tls {
            Some(tls) => tls.chosen(chosen, &self.socket),
            None => Ok(()),
        }
    }

    /// See [`Tls::handshake`].
    ///
    /// # Errors
    /// [`HandshakeError`].
    pub(super) fn handshake(&mut self, choose: &mut Choose<'_>) -> Result<bool, HandshakeError> {
        match &mut self.tls {
            Some(tls) => tls.handshake(&self.socket, choose),
            None => Ok(true),
        }
    }

    /// The client speaks TLS and has not said a word inside it.
    pub(super) fn is_silent_in_tls(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| !tls.is_handshaking() && !tls.has_spoken())
    }

    /// Something written is still here: [`Self::flush`] when the socket takes it.
    pub(super) fn has_unwritten(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_unwritten())
    }

    /// Writes what is still here, as far as the system takes it.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.flush(&self.socket),
            None => Ok(()),
        }
    }

    /// Nothing more will be written. [`Self::has_unwritten`] tells whether the other side can know already.
    pub(super) fn finish(&mut self) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        match &mut self.tls {
            // In the middle of a handshake nothing can be said.
            Some(tls) if tls.is_handshaking() => self.tls = None,
            Some(tls) => tls.close(),
            None => {}
        }
    }

    /// Waits until [`Self::try_read`] is worth a try; may be wrong. Dropping it loses nothing.
    ///
    /// # Errors
    /// The socket is broken.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if self.tls.as_ref().is_some_and(|tls| tls.is_ready()) {
            return Ok(());
        }
        // One task waits for a client, so there is no need for a list of who does.
        poll_fn(|cx| match &self.socket {
            Socket::Tcp(stream) => stream.poll_read_ready(cx),
            Socket::Unix(stream) => stream.poll_read_ready(cx),
        })
        .await
    }

    /// Waits until [`Self::try_write`] is worth a try; may be wrong. Dropping it loses nothing.
    ///
    /// # Errors
    /// The socket is broken.
    pub(super) async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| match &self.socket {
            Socket::Tcp(stream) => stream.poll_write_ready(cx),
            Socket::Unix(stream) => stream.poll_write_ready(cx),
        })
        .await
    }

    /// Reads what is there; 0 is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there yet; anything else: the client is gone.
    pub(super) fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.read(&self.socket, buffer),
            None => self.socket.try_read(buffer),
        }
    }

    /// Writes the first bytes, as many as the system takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it takes none yet; anything else: the client is gone.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            Some(tls) => tls.write(&self.socket, bytes),
            None => self.socket.try_write(bytes),
        }
    }

    /// Writes everything, for as long as that takes.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.try_write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Closes our side; the client may still write. Waits for [`Self::has_unwritten`].
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.finish();
        self.flush()?;
        while self.has_unwritten() {
            self.writable().await?;
            self.flush()?;
        }
        match &mut self.socket {
            Socket::Tcp(stream) => stream.shutdown().await,
            Socket::Unix(stream) => stream.shutdown().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    /// T-36: what a client gets leaves at once.
    #[tokio::test]
    async fn t36_nothing_waits_in_the_kernel() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connecting = TcpStream::connect(address);
        let (_theirs, accepted) = tokio::join!(connecting, listener.accept());
        match Client::from(accepted.unwrap().0).socket {
            Socket::Tcp(stream) => assert!(stream.nodelay().unwrap()),
            Socket::Unix(_) => unreachable!(),
        }
    }

    #[test]
    fn logs_name_the_peer() {
        let tcp = Peer::Tcp(([127, 0, 0, 1], 4711).into());
        assert_eq!(tcp.to_string(), "127.0.0.1:4711");
        let unix = Peer::Unix {
            path: Path::new("/run/user/1000/xbosh").into(),
            uid: 1000,
        };
        assert_eq!(unix.to_string(), "unix:/run/user/1000/xbosh (uid 1000)");
    }

    /// S-01: what counts as this machine.
    #[test]
    fn s01_only_this_machine_is_loopback() {
        let tcp = |text: &str| Peer::Tcp(text.parse().unwrap());
        for near in [
            "127.0.0.1:1",
            "127.8.9.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(tcp(near).is_loopback(), "{near}");
        }
        for far in ["192.0.2.1:1", "[2001:db8::1]:1", "[::ffff:192.0.2.1]:1"] {
            assert!(!tcp(far).is_loopback(), "{far}");
        }
        let path = Path::new("/s").into();
        assert!(Peer::Unix { path, uid: 1 }.is_loopback());
    }

    /// A short read takes all there is: the next one waits for the system's word, which comes for more bytes and for
    /// the end, also for one that was there before.
    #[tokio::test]
    async fn a_short_read_is_not_followed_by_one_in_vain() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = Client::from(ours);
        let mut buffer = [0; 16];
        for text in ["one", "and two"] {
            theirs.write_all(text.as_bytes()).await.unwrap();
            ours.readable().await.unwrap();
            let count = ours.try_read(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], text.as_bytes());
            let mut ready = std::pin::pin!(ours.readable());
            let polled = poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
            assert!(polled.is_pending(), "behind {text:?}");
        }
        // As much as there is room for: there may be more.
        theirs.write_all(&[b'x'; 17]).await.unwrap();
        ours.readable().await.unwrap();
        assert_eq!(ours.try_read(&mut buffer).unwrap(), 16);
        ours.readable().await.unwrap();
        drop(theirs);
        assert_eq!(ours.try_read(&mut buffer).unwrap(), 1);
        ours.readable().await.unwrap();
        assert_eq!(ours.try_read(&mut buffer).unwrap(), 0);
    }

    /// More than the system buffers, both ways, to the end.
    #[tokio::test]
    async fn bytes_go_both_ways() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut ours, mut theirs) = (Client::from(ours), Client::from(theirs));
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sent = bytes.clone();
        let writer = tokio::spawn(async move {
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
            ours
        });
        let mut got = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            theirs.readable().await.unwrap();
            match theirs.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(got == bytes);
        // Half-closed: the way back is open.
        let mut ours = writer.await.unwrap();
        theirs.write_all(b"back").await.unwrap();
        ours.readable().await.unwrap();
        let count = ours.try_read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"back");
    }
}
