//! What can be wrong with a local authority, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::connect::error::plain;

/// A failure of local TLS. `Display` is one sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalTlsError {
    /// Nothing says which domain the client means.
    #[error("a client began TLS without naming a domain: set default_domain")]
    NoName,
    /// `allowed_domains` does not hold it.
    #[error("a client began TLS for {domain:?}, which allowed_domains does not hold")]
    NotAllowed {
        /// The domain.
        domain: String,
    },
    /// A domain that cannot be in a certificate.
    #[error("{domain:?} cannot be in a certificate")]
    BadName {
        /// The domain.
        domain: String,
    },
    /// There is nowhere to keep authorities.
    #[error("there is no place for certificate authorities: set HOME or XDG_STATE_HOME")]
    NoFolder,
    /// More domains than anybody has.
    #[error("{} holds as many certificate authorities as clients may have made: delete those that are not needed, or run `xbosh ca path {domain}` if you want one for {domain}", folder.display())]
    TooMany {
        /// Where they are.
        folder: PathBuf,
        /// The domain that has none.
        domain: String,
    },
    /// More new domains than anybody needs at once.
    #[error(
        "no certificate authority is made for {domain} now, since clients have asked for many names: wait a minute, or run `xbosh ca path {domain}` if you want one"
    )]
    TooFast {
        /// The domain that has none.
        domain: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{}: {}; check the folder of the local certificate authority", path.display(), plain(source))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can read or change it.
    #[error("{}: {what}; nobody else may have been able to read it, or delete {} and have clients trust a new one", path.display(), folder.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// The domain's folder.
        folder: PathBuf,
        /// What is wrong, and the command that mends it.
        what: String,
    },
    /// It is not what we once put there.
    #[error("{}: {what}; put the right file back, or delete {} and have clients trust a new one", path.display(), folder.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// The domain's folder.
        folder: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The machine could not make a key or certificate.
    #[error("cannot make a certificate for {domain}: {said}")]
    Make {
        /// The domain.
        domain: String,
        /// What the library said.
        said: String,
    },
}
