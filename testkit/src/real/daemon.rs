//! One foreign server process under guard.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// Starts the server in a session of its own and waits for the end of standard input, which comes when the
/// starter lets go of it or dies. Then the server's whole process group and its folder go. A line of input kills the
/// server and starts it again.
const GUARD: &str = r#"
dir=$1
shift
ulimit -n 65536 2>/dev/null
exec 3<&0
starts=0
while :; do
    setsid "$@" </dev/null >>"$dir/output" 2>&1 3<&- &
    server=$!
    starts=$((starts + 1))
    rm -f "$dir/ended"
    echo "$starts" >"$dir/starts"
    {
        again=0
        read -r order <&3 && again=7
        kill -KILL "$server" "-$server" 2>/dev/null
        exit "$again"
    } &
    watcher=$!
    wait "$server"
    echo "$?" >"$dir/ended"
    wait "$watcher"
    [ "$?" = 7 ] || break
done
rm -rf -- "$dir"
"#;

/// How long a server may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The folder of a server to be. Removed on drop, unless [`Folder::run`] gave it to a guard.
#[derive(Debug)]
pub struct Folder {
    dir: tempfile::TempDir,
    user: Option<User>,
}

#[derive(Clone, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl Folder {
    /// A new folder, which belongs to `user` if we are root and may give it away.
    ///
    /// # Errors
    /// File errors; an unknown user.
    pub fn new(prefix: &str, user: Option<&str>) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("xbosh-{prefix}-"))
            .tempdir()
            .map_err(|error| format!("no temporary folder: {error}"))?;
        let user = match user {
            Some(name) if is_root() => Some(find_user(name)?),
            _ => None,
        };
        let folder = Self { dir, user };
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        folder.give(path)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it, as text for a configuration file.
    pub fn join(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// File errors.
    pub fn folder(&self, name: &str) -> Result<(), String> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.give(&path)
    }

    /// Writes a file in it that only its owner can read.
    ///
    /// # Errors
    /// File errors.
    pub fn file(&self, name: &str, content: &str) -> Result<String, String> {
        let path = self.path().join(name);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        self.give(&path)?;
        Ok(path.display().to_string())
    }

    fn give(&self, path: &Path) -> Result<(), String> {
        let Some(user) = &self.user else {
            return Ok(());
        };
        chown(path, Some(user.uid), Some(user.gid))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Runs `command` under guard, as the folder's user unless it drops its rights by itself.
    ///
    /// # Errors
    /// The guard cannot be started.
    pub fn run<A: AsRef<OsStr>>(
        self,
        name: &'static str,
        drops_rights: bool,
        environment: &[(&str, &str)],
        command: &[A],
    ) -> Result<Daemon, String> {
        let mut guard = Command::new("/bin/sh");
        guard.args(["-c", GUARD, "guard"]).arg(self.path());
        if let Some(user) = self.user.as_ref().filter(|_| !drops_rights) {
            let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
            guard.args(["setpriv", "--reuid", &uid, "--regid", &gid]);
            guard.args(["--init-groups", "--"]);
        }
        let guard = guard
            .args(command)
            .envs(environment.iter().copied())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        let user = self.user;
        Ok(Daemon {
            name,
            guard,
            folder: Folder {
                dir: self.dir,
                user,
            },
        })
    }
}

/// A running server.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    guard: Child,
    folder: Folder,
}

impl Daemon {
    /// Its folder.
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Kills the server, with its children, and starts it again. It is not ready yet.
    ///
    /// # Errors
    /// The guard is gone.
    pub fn restart(&mut self) -> Result<(), String> {
        let starts = self.folder.path().join("starts");
        let before = fs::read_to_string(&starts).unwrap_or_default();
        let guard = self.guard.stdin.as_mut().ok_or("the guard is gone")?;
        guard
            .write_all(b"restart\n")
            .map_err(|error| format!("{}: {error}", self.name))?;
        let deadline = Instant::now() + READY_WITHIN;
        while fs::read_to_string(&starts).is_ok_and(|now| now == before || now.is_empty()) {
            if Instant::now() > deadline {
                return Err(format!(
                    "{} did not start again: {}",
                    self.name,
                    self.output()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Asks until the server is ready, or has done what else is awaited of it; a minute at most.
    ///
    /// # Errors
    /// It ended, or was not ready in time; with the end of its output.
    pub fn wait_until(&self, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        let ended = self.folder.path().join("ended");
        loop {
            if let Ok(status) = fs::read_to_string(&ended) {
                let status = status.trim();
                return Err(format!(
                    "{} ended with {status}: {}",
                    self.name,
                    self.output()
                ));
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{} is not ready: {}", self.name, self.output()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of what it wrote to its output and its logs.
    pub fn output(&self) -> String {
        let mut all = String::new();
        let mut folders: Vec<PathBuf> = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_log = path.extension().is_some_and(|extension| extension == "log");
                if path.file_name().is_some_and(|name| name == "log") {
                    folders.push(path);
                } else if is_log || path.ends_with("output") {
                    let bytes = fs::read(&path).unwrap_or_default();
                    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(3000)..]);
                    all.push_str(&format!("\n--- {}\n{}", path.display(), text.trim()));
                }
            }
        }
        all
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ended = self.guard.wait();
    }
}

/// Whether this process may start servers as other users.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn find_user(name: &str) -> Result<User, String> {
    let list =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    list.lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            match fields.as_slice() {
                [user, _, uid, gid, ..] if *user == name => Some(User {
                    uid: uid.parse().ok()?,
                    gid: gid.parse().ok()?,
                }),
                _ => None,
            }
        })
        .ok_or_else(|| format!("no user {name} on this machine"))
}

/// Runs a short helper program and returns its output.
///
/// # Errors
/// Why it could not run, or what it printed when it failed.
pub fn helper(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that needs no input may be gone already.
        let _written = stdin.write_all(input.as_bytes());
    }
    let done = child
        .wait_with_output()
        .map_err(|error| format!("{program}: {error}"))?;
    let output = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(output);
    }
    let errors = String::from_utf8_lossy(&done.stderr);
    Err(format!("{program}: {} {output}{errors}", done.status))
}
