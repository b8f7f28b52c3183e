//! What is wrong with a configuration: file, line, key, what is allowed. Never a secret.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where a setting stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the configuration file; line and column from 1, in characters.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// In this variable of the environment.
    Environment(String),
    /// Behind this flag of the command line.
    Flag(&'static str),
    /// Built in.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
            Self::Default => f.write_str("built-in default"),
        }
    }
}

/// A configuration that cannot be used. `Display` is one sentence, with what the system said. Exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file named by `--config` is not there, or a file cannot be read.
    #[error("cannot read the configuration file {}: {}", .path.display(), unreadable(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not TOML.
    #[error("{place}: not valid TOML: {what}")]
    Syntax {
        /// Where the parser stopped.
        place: Place,
        /// What the parser missed.
        what: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key {key}{}", hint(.nearest))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value that its key does not take, by itself or beside others.
    #[error("{place}: {key} {what}")]
    Value {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// What is allowed.
        what: String,
    },
    /// B-70: a connection manager reached in the clear.
    #[error(
        "{place}: {key} is http, so everybody on the way could read the password; \
         use https, or set allow_plain_http = true beside it"
    )]
    PlainHttp {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
    },
    /// An address that other machines can reach, and no leave for it.
    #[error(
        "{place}: listen has {address}, which other machines can reach; set allow_remote_clients = true if that is \
         what you want: clients there are then served over TLS only"
    )]
    Remote {
        /// Where it stands.
        place: Place,
        /// The address.
        address: super::ListenAddress,
    },
    /// A variable of the environment that is no text.
    #[error("environment variable {name}: must be UTF-8")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A proxy variable of the environment that cannot be used.
    #[error("environment variable {name} {what}; correct it, or set proxy.url")]
    ProxyVariable {
        /// The variable.
        name: String,
        /// What is wrong; never its value.
        what: String,
    },
    /// A file with a secret that others can read.
    #[error("{} holds a password and others can read it: chmod 600 {}", .path.display(), quoted(.path))]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

/// What the system said about a file.
pub(super) fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::InvalidData {
        "not UTF-8 text".into()
    } else {
        crate::connect::error::plain(error)
    }
}

/// The same of a file.
pub(super) fn unreadable(error: &io::Error) -> String {
    let mut words = reason(error);
    if error.kind() == io::ErrorKind::PermissionDenied {
        words.push_str("; it must be readable for the user that xbosh runs as");
    }
    words
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|key| format!("; did you mean {key}?"))
        .unwrap_or_default()
}

/// A path as a shell takes it.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
