//! What is wrong with a configuration: file, line, key, what is allowed. Never a secret.

use std::io;
use std::path::PathBuf;

/// A configuration that cannot be used. `Display` is one sentence. Exit code 78.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file named by `--config` is not there or cannot be read.
    #[error("cannot read the configuration file {}: {}", .path.display(), reason(.source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not TOML.
    #[error("{}:{line}:{column}: not valid TOML: {what}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser missed.
        what: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key {key}{}", hint(.nearest))]
    UnknownKey {
        /// File, line and column, variable or flag.
        place: String,
        /// The key.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// A value that its key does not take.
    #[error("{place}: {key} {what}")]
    Value {
        /// File, line and column, variable or flag.
        place: String,
        /// The key.
        key: String,
        /// What is allowed.
        what: String,
    },
    /// Settings that do not fit together.
    #[error("{0}")]
    Conflict(String),
    /// A file with a secret that others can read.
    #[error("{} holds a password and others can read it: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A secret cannot be fetched.
    #[error("{key}: {what}")]
    Secret {
        /// The key.
        key: String,
        /// What went wrong; never the secret.
        what: String,
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

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|key| format!("; did you mean {key}?"))
        .unwrap_or_default()
}
