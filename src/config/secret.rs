//! Where a password comes from: the file itself, another file, a systemd credential, a command.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::ConfigError;

/// Time for `password_command`.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Largest password file or command output, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Whether users other than the owner can read the file.
pub(super) fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o077 != 0)
}

/// Reads a password from a file. A name without a slash is a systemd credential first (LoadCredential=).
///
/// # Errors
/// [`ConfigError::Secret`].
pub(super) fn from_file(
    key: &str,
    path: &Path,
    credentials_directory: Option<&Path>,
) -> Result<SecretString, ConfigError> {
    let file = match credentials_directory {
        Some(directory) if path.components().count() == 1 && directory.join(path).exists() => {
            directory.join(path)
        }
        _ => path.to_path_buf(),
    };
    let failed = |what: String| ConfigError::Secret {
        key: key.to_owned(),
        what: format!("{}: {what}", file.display()),
    };
    let mut text = Zeroizing::new(String::new());
    std::fs::File::open(&file)
        .and_then(|open| open.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(|e| failed(crate::connect::error::plain(&e)))?;
    first_line(&text).ok_or_else(|| failed("it is empty".into()))
}

/// Runs a command by `sh -c` and takes the first line of its output.
///
/// # Errors
/// [`ConfigError::Secret`] with its exit status, never with its output.
pub(super) fn from_command(key: &str, command: &str) -> Result<SecretString, ConfigError> {
    let failed = |what: String| ConfigError::Secret {
        key: key.to_owned(),
        what,
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| {
            failed(format!(
                "cannot be run: {}",
                crate::connect::error::plain(&e)
            ))
        })?;
    let Some(stdout) = child.stdout.take() else {
        return Err(failed("has no output".into()));
    };
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Zeroizing::new(String::new());
        let read = stdout.take(MAX_BYTES).read_to_string(&mut text);
        // The receiver is gone if the limit has passed.
        let _ = tell.send(read.map(|_| text));
    });
    let Ok(output) = told.recv_timeout(COMMAND_LIMIT) else {
        // It may have ended by itself in this moment.
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!(
            "gave nothing within {} s",
            COMMAND_LIMIT.as_secs()
        )));
    };
    let status = child
        .wait()
        .map_err(|e| failed(crate::connect::error::plain(&e)))?;
    if !status.success() {
        return Err(failed(format!("failed ({status})")));
    }
    let text = output.map_err(|_| failed("gave something that is not text".into()))?;
    first_line(&text).ok_or_else(|| failed("gave an empty line".into()))
}

fn first_line(text: &str) -> Option<SecretString> {
    let line = text.lines().next().unwrap_or_default();
    (!line.is_empty()).then(|| SecretString::from(line.to_owned()))
}

/// The directory systemd puts credentials into.
pub(super) fn credentials_directory(environment: &[(String, String)]) -> Option<PathBuf> {
    environment
        .iter()
        .find(|(name, _)| name == "CREDENTIALS_DIRECTORY")
        .map(|(_, value)| PathBuf::from(value))
}
