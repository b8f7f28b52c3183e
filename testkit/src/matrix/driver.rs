//! What a driver says of itself, and its process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// A driver that does not end by itself in this time is killed.
const END: Duration = Duration::from_secs(20);
/// Time to clean up for one that is not needed any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One file of `tests/clients.d`.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Its file's name.
    pub name: String,
    /// What its client is called.
    pub title: String,
    path: PathBuf,
    /// The client's kind: console, gui, library, one-shot.
    pub kind: String,
    /// Where it is installed from.
    pub source: String,
    /// The security that it begins with by itself: starttls, direct, plain.
    pub default: String,
    /// What else it can be set to: plain, starttls, direct.
    pub also: Vec<String>,
    /// What a user types or clicks.
    pub settings: String,
    /// Why it cannot be driven, if it cannot.
    pub cannot: Option<String>,
}

/// Every driver of a folder, by name.
///
/// # Errors
/// The folder or a file cannot be read.
pub fn drivers(folder: &Path) -> io::Result<Vec<Driver>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            found.push(Driver::read(path)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Driver {
    fn read(path: PathBuf) -> io::Result<Self> {
        let text = fs::read_to_string(&path)?;
        let all = |key: &str| {
            let prefix = format!("# {key}: ");
            let lines: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .collect();
            (!lines.is_empty()).then(|| lines.join(" "))
        };
        let one = |key: &str| all(key).unwrap_or_default();
        Ok(Self {
            name: path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            title: one("client"),
            kind: one("kind"),
            source: one("source"),
            default: one("default"),
            also: one("also").split_whitespace().map(str::to_owned).collect(),
            settings: one("settings"),
            cannot: all("cannot"),
            path,
        })
    }

    /// Whether it runs, and logs in, once for each message that it sends.
    #[must_use]
    pub fn is_one_shot(&self) -> bool {
        self.kind == "one-shot"
    }

    /// Whether there is something to be seen.
    #[must_use]
    pub fn has_screen(&self) -> bool {
        matches!(self.kind.as_str(), "gui" | "console")
    }

    /// Installs its client, if it is not there.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn install(&self, environment: &[(&str, String)]) -> Result<(), String> {
        if let Some(why) = &self.cannot {
            return Err(why.clone());
        }
        let output = Command::new(&self.path)
            .arg("install")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.trim().lines().last().unwrap_or("no reason").to_owned())
    }

    /// Starts it.
    ///
    /// # Errors
    /// It is no program.
    pub fn run(&self, environment: &[(&str, String)], log: fs::File) -> Result<Running, String> {
        let mut process = Command::new(&self.path)
            .arg("run")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        Ok(Running {
            process,
            input,
            events: output.map(|output| BufReader::new(output).lines()),
        })
    }
}

/// A driver at work. Killed with everything it started when it is dropped.
#[derive(Debug)]
pub struct Running {
    process: Child,
    input: Option<ChildStdin>,
    events: Option<Lines<BufReader<ChildStdout>>>,
}

impl Running {
    /// Gives it a command.
    ///
    /// # Errors
    /// It is gone.
    pub async fn order(&mut self, line: &str) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("its input is closed")?;
        let gone = |error: io::Error| format!("the driver is gone: {error}");
        input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .map_err(gone)?;
        input.flush().await.map_err(gone)
    }

    /// The next event: its name and what follows. `None` at the end.
    pub async fn event(&mut self) -> Option<(String, String)> {
        let line = self.events.as_mut()?.next_line().await.ok()??;
        let (name, rest) = line.split_once(' ').unwrap_or((&line, ""));
        Some((name.to_owned(), rest.to_owned()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end, or not well.
    pub async fn end(mut self) -> Result<(), String> {
        self.input = None;
        match timeout(END, self.process.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the driver ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the driver does not end".into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Told first: a terminal server has left the group, and only its driver can end it. A driver that ended well
        // has nothing left.
        if let Some(pid) = self.process.id() {
            let order = format!("kill -TERM -{pid}");
            let _gone_already = crate::real::daemon::helper("sh", &["-c", &order], "");
            for _ in 0..100 {
                if !matches!(self.process.try_wait(), Ok(None)) {
                    break;
                }
                std::thread::sleep(LAST_WORDS / 100);
            }
            let order = format!("kill -KILL -{pid}");
            let _gone_already = crate::real::daemon::helper("sh", &["-c", &order], "");
        }
    }
}
