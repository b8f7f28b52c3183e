//! The program itself: how soon it accepts clients, how large it is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::time::Instant;

use crate::real::daemon::helper;

/// Milliseconds from its start until it says that it accepts clients.
///
/// # Errors
/// It does not say so.
pub fn start_ms(xbosh: &Path) -> Result<f64, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let config = folder.path().join("config.toml");
    fs::write(&config, "[proxy]\nurl = \"none\"\n").map_err(|error| error.to_string())?;
    let began = Instant::now();
    let mut process = Command::new(xbosh)
        .args(["run", "--listen", "127.0.0.1:0", "--config"])
        .arg(&config)
        .env("XDG_STATE_HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", xbosh.display()))?;
    let mut line = String::new();
    let read = match process.stdout.take() {
        Some(stdout) => BufReader::new(stdout).read_line(&mut line),
        None => Ok(0),
    };
    let took = began.elapsed().as_secs_f64() * 1e3;
    let _gone_already = process.kill();
    let _ended = process.wait();
    match read {
        Ok(_) if line.starts_with("listening on ") => Ok(took),
        _ => Err(format!("xbosh does not say where it listens, but {line:?}")),
    }
}

/// MiB of the program without symbols and line tables; `None` where there is no `strip`.
#[must_use]
pub fn stripped_mib(xbosh: &Path) -> Option<f64> {
    let folder = tempfile::tempdir().ok()?;
    let copy = folder.path().join("xbosh").display().to_string();
    let original = xbosh.display().to_string();
    helper("strip", &["-o", &copy, &original], "").ok()?;
    let size = fs::metadata(&copy).ok()?.len();
    Some(size as f64 / f64::from(1 << 20))
}
