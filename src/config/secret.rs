//! Reading a password from a file or from a command's output. Errors never hold what was read.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::error::{reason, unreadable};
use crate::driver::clock::now;

/// Time for `password_command`.
pub(super) const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// Largest password file or command output, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// How often a command that has closed its output is asked whether it has ended.
const POLL: Duration = Duration::from_millis(1);

/// Whether users other than the owner can read the file.
pub(super) fn is_exposed(meta: &Metadata) -> bool {
    meta.mode() & 0o044 != 0
}

/// The first line of a file, and whether others can read it.
///
/// # Errors
/// What is wrong, to stand behind the key.
pub(super) fn from_file(path: &Path) -> Result<(SecretString, bool), String> {
    let failed =
        |e: io::Error| format!("cannot be read from {}: {}", path.display(), unreadable(&e));
    let file = File::open(path).map_err(failed)?;
    let exposed = file
        .metadata()
        .map(|meta| is_exposed(&meta))
        .map_err(failed)?;
    let text = read(file).map_err(failed)?;
    let password = first_line(&text)
        .ok_or_else(|| format!("names {}, whose first line is empty", path.display()))?;
    Ok((password, exposed))
}

/// Runs a command by `sh -c` and takes the first line of its output.
///
/// # Errors
/// What is wrong, to stand behind the key.
pub(super) fn from_command(command: &str, limit: Duration) -> Result<SecretString, String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot be run: {}", reason(&e)))?;
    let result = finish(&mut child, limit, now() + limit);
    if result.is_err() {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = child.kill();
        let _ = child.wait();
    }
    let (text, status) = result?;
    if !status.success() {
        return Err(format!("failed ({status})"));
    }
    first_line(&text).ok_or_else(|| "printed no password on its first line".into())
}

/// Output and exit status, within the limit.
fn finish(
    child: &mut Child,
    limit: Duration,
    deadline: Instant,
) -> Result<(Zeroizing<String>, ExitStatus), String> {
    let late = || format!("did not end within {} s", limit.as_secs_f32());
    let stdout = child.stdout.take().ok_or("has no output")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone if the limit has passed.
        let _ = tell.send(read(stdout));
    });
    let text = told.recv_timeout(limit).map_err(|_| late())?;
    // Its output is closed: nearly always it has ended, too.
    while now() < deadline {
        if let Some(status) = child.try_wait().map_err(|e| reason(&e))? {
            let text = text.map_err(|e| format!("printed no password: {}", reason(&e)))?;
            return Ok((text, status));
        }
        std::thread::sleep(POLL);
    }
    Err(late())
}

fn read(from: impl io::Read) -> io::Result<Zeroizing<String>> {
    // Room for all of it, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 64 KiB"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn first_line(text: &str) -> Option<SecretString> {
    let line = text.lines().next().unwrap_or_default();
    (!line.is_empty()).then(|| SecretString::from(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn run(command: &str) -> Result<String, String> {
        from_command(command, COMMAND_LIMIT).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_command_gives_its_first_line() {
        assert_eq!(
            run("printf 'hunter2\\r\\nuser: me\\n'"),
            Ok("hunter2".into())
        );
        assert_eq!(run("printf hunter2"), Ok("hunter2".into()));
    }

    #[test]
    fn a_failing_command_shows_its_status_and_nothing_else() {
        for (command, sentence) in [
            ("echo hunter2; exit 3", "failed (exit status: 3)"),
            ("true", "printed no password on its first line"),
            ("printf '\\377'", "printed no password: not UTF-8 text"),
            (
                "head -c 70000 /dev/zero",
                "printed no password: it is larger than 64 KiB",
            ),
        ] {
            assert_eq!(run(command), Err(sentence.into()), "{command}");
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_killed() {
        let limit = Duration::from_millis(50);
        for command in [
            "exec tail -f /dev/null",
            "exec tail -f /dev/null >/dev/null",
        ] {
            let result = from_command(command, limit).map(drop);
            assert_eq!(result, Err("did not end within 0.05 s".into()), "{command}");
        }
    }
}
