//! Where clients come in.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path a Unix socket can have, in bytes: `sun_path` holds 108 with the zero at the end.
const MAX_PATH_BYTES: usize = 107;

/// An address to listen on, written `127.0.0.1:5222`, `[::1]:5222` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket with this path. One that systemd made may be abstract: its name behind an `@`.
    Unix(PathBuf),
}

impl ListenAddress {
    /// A Unix socket's path.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) => None,
        }
    }

    /// Other machines can reach it (S-01).
    #[must_use]
    pub fn is_remote(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    /// Two sockets can have it: the system chooses the port of each.
    pub(super) fn may_repeat(&self) -> bool {
        match self {
            Self::Tcp(address) => address.port() == 0,
            Self::Unix(_) => false,
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<([u8; 4], u16)> for ListenAddress {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self::Tcp(address.into())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A text that is no [`ListenAddress`]. `Display` follows the quoted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenAddressError {
    /// Nothing of the kind.
    #[error(
        "which is neither an address and port like \"127.0.0.1:5222\" nor a socket like \"unix:/path\""
    )]
    Form,
    /// A path that depends on the current folder.
    #[error("whose path must begin with / behind unix:")]
    Relative,
    /// A path that names a folder.
    #[error("whose path must end in the name of a file")]
    Folder,
    /// More than the system can take.
    #[error("whose path is longer than the {MAX_PATH_BYTES} bytes that a socket's path may have")]
    TooLong,
    /// A path that would disturb every line it is printed on.
    #[error("whose path holds a control character")]
    Control,
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(path) = text.strip_prefix("unix:") else {
            let address = text.parse().map_err(|_| ListenAddressError::Form)?;
            return Ok(Self::Tcp(address));
        };
        if !path.starts_with('/') {
            Err(ListenAddressError::Relative)
        } else if path.chars().any(char::is_control) {
            Err(ListenAddressError::Control)
        } else if path.ends_with('/') || Path::new(path).file_name().is_none() {
            Err(ListenAddressError::Folder)
        } else if path.len() > MAX_PATH_BYTES {
            Err(ListenAddressError::TooLong)
        } else {
            Ok(Self::Unix(path.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let longest = format!("unix:/{}", "x".repeat(MAX_PATH_BYTES - 1));
        for text in [
            "127.0.0.1:5222",
            "[::1]:0",
            "unix:/run/user/1000/xbosh",
            "unix:/with space/ü",
            &longest,
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_refused() {
        let long = format!("unix:/{}", "x".repeat(MAX_PATH_BYTES));
        for (text, why) in [
            ("localhost:5222", ListenAddressError::Form),
            ("/run/x", ListenAddressError::Form),
            ("UNIX:/run/x", ListenAddressError::Form),
            ("unix:", ListenAddressError::Relative),
            ("unix:x", ListenAddressError::Relative),
            ("unix:@x", ListenAddressError::Relative),
            ("unix:/", ListenAddressError::Folder),
            ("unix:/run/", ListenAddressError::Folder),
            ("unix:/run/..", ListenAddressError::Folder),
            ("unix:/run/a\nb", ListenAddressError::Control),
            ("unix:/run/a\0b", ListenAddressError::Control),
            (&long, ListenAddressError::TooLong),
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(why), "{text:?}");
        }
    }

    /// S-01: a Unix socket is not for other machines.
    #[test]
    fn s01_who_can_reach_it() {
        for (text, remote) in [
            ("127.9.9.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("unix:/x", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("192.0.2.1:1", true),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.is_remote(), remote, "{text}");
        }
    }
}
