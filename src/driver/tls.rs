//! TLS on a client's socket: handshake, records, the end. Nothing here waits or starts a task; what is buffered
//! is bounded by a few records.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use rustls::server::{Accepted, Acceptor, ServerConfig, ServerConnection};

use super::client::Socket;

/// Plaintext taken in at once, so that what a vanished client did not get is known well enough (S-50).
const WRITE_BYTES: usize = 16 * 1024;
/// Most that waits to be written, records of the handshake aside.
const BUFFER_BYTES: usize = 2 * WRITE_BYTES;
/// A fatal alert of before any key, without its last byte: what [`Acceptor`] cannot say.
const ALERT: [u8; 6] = [0x15, 3, 3, 0, 2, 2];

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The client closed its connection. `answered`: our certificate had been sent.
    #[error("the client closed the connection")]
    Gone {
        /// It knows our certificate.
        answered: bool,
    },
    /// The socket is broken.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// What came is no TLS that we speak, or the client refuses us.
    #[error("{0}")]
    Tls(#[source] rustls::Error),
    /// There is no certificate for the name that the client asked for.
    #[error("there is no certificate for it")]
    NoCertificate,
}

impl HandshakeError {
    /// The client says that it does not trust the certificate.
    pub(super) fn is_distrust(&self) -> bool {
        match self {
            Self::Tls(error) => is_distrust(error),
            Self::Gone { .. } | Self::Io(_) | Self::NoCertificate => false,
        }
    }
}

/// Whether the error is the client's alert that it does not trust our certificate.
fn is_distrust(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateUnknown
                | Alert::CertificateExpired
                | Alert::CertificateRevoked
                | Alert::UnsupportedCertificate
                // It knows another authority of the same name.
                | Alert::DecryptError
        ),
        _ => false,
    }
}

/// As [`is_distrust`], for an error of [`Tls::read`].
pub(super) fn says_distrust(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(is_distrust)
}

/// One client's TLS.
pub(super) struct Tls {
    state: State,
    /// What came before TLS began to be read here.
    received: BytesMut,
    /// The next [`Self::read`] has something to say, whatever the socket does.
    ready: bool,
    /// The client's error, told by the next [`Self::read`].
    failed: Option<rustls::Error>,
    /// Some plaintext has come.
    spoken: bool,
    /// The socket takes nothing more: what still waits is lost.
    broken: bool,
}

enum State {
    Hello(Box<Acceptor>),
    /// The certificate is being looked for.
    Choosing(Box<Accepted>),
    Handshake(Box<ServerConnection>),
    Open(Box<ServerConnection>),
    /// The handshake failed.
    Dead,
}

/// Why a client gets no certificate, and the alert that says so.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// There is none by the name that it asks for (RFC 6066 section 3).
    UnrecognizedName = 112,
    /// We cannot make or read it.
    InternalError = 80,
}

/// What a client is served with.
#[derive(Debug)]
pub(super) enum Choice {
    /// This.
    Now(Arc<ServerConfig>),
    /// What [`Tls::chosen`] will be told.
    Later,
}

/// Picks the certificate for the name that the client asks for. Must not take long.
pub(super) type Choose<'a> = dyn FnMut(Option<&str>) -> Result<Choice, Refusal> + 'a;

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("handshaking", &self.is_handshaking())
            .finish_non_exhaustive()
    }
}

/// The socket as rustls wants it, with what was read from it before in front.
struct Raw<'a> {
    socket: &'a Socket,
    received: &'a mut BytesMut,
}

impl io::Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return self.socket.try_read(buffer);
        }
        let count = self.received.len().min(buffer.len());
        self.received.copy_to_slice(&mut buffer[..count]);
        if self.received.is_empty() {
            *self.received = BytesMut::new();
        }
        Ok(count)
    }
}

impl io::Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.socket.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    /// A handshake that begins with `received`.
    pub(super) fn new(received: BytesMut) -> Self {
        Self {
            state: State::Hello(Box::default()),
            received,
            ready: false,
            failed: None,
            spoken: false,
            broken: false,
        }
    }

    /// [`Self::chosen`] is waited for; until then there is nothing to read.
    pub(super) fn is_choosing(&self) -> bool {
        matches!(self.state, State::Choosing(_))
    }

    pub(super) fn is_handshaking(&self) -> bool {
        !matches!(self.state, State::Open(_))
    }

    /// [`Self::read`] is worth a try although the socket may have nothing.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// The client has said something inside TLS.
    pub(super) fn has_spoken(&self) -> bool {
        self.spoken
    }

    fn connection(&mut self) -> Option<&mut ServerConnection> {
        match &mut self.state {
            State::Handshake(connection) | State::Open(connection) => Some(connection),
            State::Hello(_) | State::Choosing(_) | State::Dead => None,
        }
    }

    /// Records wait for the socket.
    pub(super) fn has_unwritten(&self) -> bool {
        match &self.state {
            State::Handshake(connection) | State::Open(connection) => {
                !self.broken && connection.wants_write()
            }
            State::Hello(_) | State::Choosing(_) | State::Dead => false,
        }
    }

    /// Goes on with the handshake as far as it gets without waiting; whether it is done.
    ///
    /// # Errors
    /// [`HandshakeError`]; an alert has gone out where that was possible.
    pub(super) fn handshake(
        &mut self,
        socket: &Socket,
        choose: &mut Choose<'_>,
    ) -> Result<bool, HandshakeError> {
        loop {
            let answered = match std::mem::replace(&mut self.state, State::Dead) {
                State::Hello(acceptor) => match self.hello(acceptor, socket, choose)? {
                    Some(state) => {
                        self.state = state;
                        false
                    }
                    None => continue,
                },
                choosing @ State::Choosing(_) => {
                    self.state = choosing;
                    return Ok(false);
                }
                State::Handshake(mut connection) => {
                    let result = connection.process_new_packets();
                    let flushed = flush(&mut connection, socket);
                    result.map_err(HandshakeError::Tls)?;
                    flushed.map_err(HandshakeError::Io)?;
                    if !connection.is_handshaking() {
                        // The first words may have come with the last of the handshake.
                        self.ready = true;
                        self.state = State::Open(connection);
                        return Ok(true);
                    }
                    let waits = connection.wants_write();
                    self.state = State::Handshake(connection);
                    if waits {
                        return Ok(false);
                    }
                    true
                }
                open @ State::Open(_) => {
                    self.state = open;
                    return Ok(true);
                }
                State::Dead => return Err(HandshakeError::Gone { answered: false }),
            };
            match self.fill(socket) {
                Ok(0) => return Err(HandshakeError::Gone { answered }),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(HandshakeError::Io(error)),
            }
        }
    }

    /// Looks for a whole ClientHello. `None`: go on at once.
    fn hello(
        &mut self,
        mut acceptor: Box<Acceptor>,
        socket: &Socket,
        choose: &mut Choose<'_>,
    ) -> Result<Option<State>, HandshakeError> {
        let mut raw = Raw {
            socket,
            received: &mut self.received,
        };
        let accepted = match acceptor.accept() {
            Ok(Some(accepted)) => accepted,
            Ok(None) => return Ok(Some(State::Hello(acceptor))),
            Err((error, alert)) => return Err(refuse(error, alert, &mut raw)),
        };
        match choose(accepted.client_hello().server_name()) {
            Ok(Choice::Now(config)) => self.answer(accepted, Ok(config), socket)?,
            Ok(Choice::Later) => self.state = State::Choosing(Box::new(accepted)),
            Err(refusal) => self.answer(accepted, Err(refusal), socket)?,
        }
        Ok(None)
    }

    /// What came of [`Choice::Later`]; [`Self::handshake`] must follow.
    ///
    /// # Errors
    /// As for [`Self::handshake`].
    pub(super) fn chosen(
        &mut self,
        chosen: Result<Arc<ServerConfig>, Refusal>,
        socket: &Socket,
    ) -> Result<(), HandshakeError> {
        match std::mem::replace(&mut self.state, State::Dead) {
            State::Choosing(accepted) => self.answer(*accepted, chosen, socket),
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn answer(
        &mut self,
        accepted: Accepted,
        chosen: Result<Arc<ServerConfig>, Refusal>,
        socket: &Socket,
    ) -> Result<(), HandshakeError> {
        let mut raw = Raw {
            socket,
            received: &mut self.received,
        };
        let config = match chosen {
            Ok(config) => config,
            Err(refusal) => {
                let _ = raw.write(&[&ALERT[..], &[refusal as u8]].concat());
                return Err(HandshakeError::NoCertificate);
            }
        };
        match accepted.into_connection(config) {
            Ok(mut connection) => {
                connection.set_buffer_limit(Some(BUFFER_BYTES));
                self.state = State::Handshake(Box::new(connection));
                Ok(())
            }
            Err((error, alert)) => Err(refuse(error, alert, &mut raw)),
        }
    }

    /// Takes records in from the socket.
    fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        let mut raw = Raw {
            socket,
            received: &mut self.received,
        };
        match &mut self.state {
            State::Hello(acceptor) => acceptor.read_tls(&mut raw),
            State::Handshake(connection) | State::Open(connection) => connection.read_tls(&mut raw),
            State::Choosing(_) | State::Dead => Ok(0),
        }
    }

    /// Reads what the client says; 0 is the end, whether or not it said so (close_notify).
    ///
    /// # Errors
    /// As for a socket; [`io::ErrorKind::InvalidData`] around a [`rustls::Error`] for bad TLS or an alert.
    pub(super) fn read(&mut self, socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
        self.ready = false;
        if let Some(error) = self.failed.clone() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let mut filled = 0;
        let end = loop {
            let Some(connection) = self.connection() else {
                break Ok(0);
            };
            match connection.reader().read(&mut buffer[filled..]) {
                Ok(0) => break Ok(0),
                Ok(count) => {
                    filled += count;
                    if filled == buffer.len() {
                        break Ok(0);
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break Err(error),
            }
            match self.fill(socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if filled > 0 {
                        self.spoken = true;
                        Ok(filled)
                    } else {
                        Err(error)
                    };
                }
                Err(error) => break Err(error),
            }
            let Some(connection) = self.connection() else {
                break Ok(0);
            };
            let processed = connection.process_new_packets().map(|_| ());
            // An answer of the protocol's own (alert, key update) goes out when it can.
            let _ = flush(connection, socket);
            if let Err(error) = processed {
                self.failed = Some(error.clone());
                break Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        };
        if filled > 0 {
            // What ended it is told next time, and the socket may be silent by then.
            self.ready = true;
            self.spoken = true;
            return Ok(filled);
        }
        end
    }

    /// Takes in plaintext, as much as fits; what was taken in before is written first.
    ///
    /// # Errors
    /// As for a socket.
    pub(super) fn write(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        let State::Open(connection) = &mut self.state else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        if connection.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(WRITE_BYTES);
        let count = connection.writer().write(&bytes[..count])?;
        self.flush(socket)?;
        Ok(count)
    }

    /// Writes records as far as the socket takes them.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        let result = match self.connection() {
            Some(connection) => flush(connection, socket),
            None => Ok(()),
        };
        self.broken |= result.is_err();
        result
    }

    /// Says that nothing more follows (RFC 8446 section 6.1).
    pub(super) fn close(&mut self) {
        if let State::Open(connection) = &mut self.state {
            connection.send_close_notify();
        }
    }
}

fn refuse(
    error: rustls::Error,
    mut alert: rustls::server::AcceptedAlert,
    raw: &mut Raw<'_>,
) -> HandshakeError {
    // It is the last thing said; if it does not fit the socket, the connection's end says it.
    let _ = alert.write_all(raw);
    HandshakeError::Tls(error)
}

/// Writes records until the socket is full.
fn flush(connection: &mut ServerConnection, socket: &Socket) -> io::Result<()> {
    let mut raw = Raw {
        socket,
        received: &mut BytesMut::new(),
    };
    while connection.wants_write() {
        match connection.write_tls(&mut raw) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
