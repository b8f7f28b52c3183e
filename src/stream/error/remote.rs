//! The server's own stream errors, on their way to the client.

use super::{FaultReason, StreamFault, fault};

/// A server's error, made fit for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// What to send: the server's own bytes, or what stands in for them.
    pub fault: StreamFault,
    /// the host that the server named in `<see-other-host/>`; for the log, bounded.
    pub other_host: Option<String>,
}

/// Makes the server's `<stream:error/>` fit for the client: with prefix `stream`, and never with
/// `<see-other-host/>`, which would lead the client past us.
///
/// `input` is one complete element in the stream namespace, with whatever prefix; every prefix it uses is
/// declared on it, `stream` excepted. An error that cannot be copied is replaced by one of ours.
#[must_use]
pub fn sanitise_remote_error(input: &[u8]) -> RemoteError {
    todo!()
}

/// X-18, old form: the children of the error, each a complete element, without the error around them.
///
/// `None` if none of them is a condition: the server ended the stream without an error.
#[must_use]
pub fn wrap_remote_error<'a>(children: impl IntoIterator<Item = &'a [u8]>) -> Option<RemoteError> {
    todo!()
}
