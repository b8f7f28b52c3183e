//! Where a password comes from: the file itself, another file, a systemd credential, a command.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::{ConfigError, reason};
use crate::driver::clock::now;

/// Time for `password_command`.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(10);
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
        .map_err(|e| failed(reason(&e)))?;
    first_line(&text).ok_or_else(|| failed("it is empty".into()))
}

/// Runs a command by `sh -c` and takes the first line of its output. It must end within `limit`.
///
/// # Errors
/// [`ConfigError::Secret`] with its exit status, never with its output.
pub(super) fn from_command(
    key: &str,
    command: &str,
    limit: Duration,
) -> Result<SecretString, ConfigError> {
    let deadline = now() + limit;
    let failed = |what: String| ConfigError::Secret {
        key: key.to_owned(),
        what,
    };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("cannot be run: {}", reason(&e))))?;
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
    let output = told.recv_timeout(limit).ok();
    let status = match &output {
        Some(_) => end_by(&mut child, deadline).map_err(|e| failed(reason(&e)))?,
        None => None,
    };
    let (Some(output), Some(status)) = (output, status) else {
        // It may have ended by itself in this moment.
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(format!(
            "did not end within {} s",
            limit.as_secs_f32()
        )));
    };
    if !status.success() {
        return Err(failed(format!("failed ({status})")));
    }
    let text = output.map_err(|_| failed("gave something that is not text".into()))?;
    first_line(&text).ok_or_else(|| failed("gave an empty line".into()))
}

/// The exit status, or `None` if the process outlives the deadline. Its output has ended, so it will soon.
fn end_by(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        match child.try_wait()? {
            None if now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            ended => return Ok(ended),
        }
    }
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
