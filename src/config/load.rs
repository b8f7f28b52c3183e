//! Where settings come from: defaults, file, environment, flags, in that order.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::draft::Draft;
use super::environment::{self, variable};
use super::error::{ConfigError, Place};
use super::finish::finish;
use super::value::{Setting, Value, parse_file};
use super::{Config, ListenAddress, secret};

/// The file of the whole machine.
const SYSTEM_FILE: &str = "/etc/xbosh/config.toml";
/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the command line sets.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--listen`, replacing the list if there is any.
    pub listen: Vec<ListenAddress>,
    /// `--domain` and `--url`.
    pub domain: Option<(String, String)>,
    /// `--proxy`. Holds no password: the command line has refused one.
    pub proxy: Option<String>,
    /// `--log`.
    pub log: Option<String>,
}

/// A configuration and what is worth a warning.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file it came from, if there was one.
    pub file: Option<PathBuf>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
    /// Nobody has switched the status socket off, and there is no runtime folder for it.
    pub no_runtime_folder: bool,
}

/// Loads the configuration. `environment` is the process environment as [`super::environment()`] gives it, an
/// argument so that this depends on nothing else but files and, if the configuration says so, a command.
///
/// # Errors
/// [`ConfigError`], the first one found.
pub fn load(flags: &Flags, environment: &[(String, String)]) -> Result<Loaded, ConfigError> {
    load_beside(flags, environment, Path::new(SYSTEM_FILE))
}

/// As [`load`], without fetching any password, for commands that reach nobody.
///
/// # Errors
/// As there.
pub fn load_public(flags: &Flags, environment: &[(String, String)]) -> Result<Loaded, ConfigError> {
    load_from(flags, environment, Path::new(SYSTEM_FILE), false)
}

fn load_beside(
    flags: &Flags,
    environment: &[(String, String)],
    system_file: &Path,
) -> Result<Loaded, ConfigError> {
    load_from(flags, environment, system_file, true)
}

fn load_from(
    flags: &Flags,
    environment: &[(String, String)],
    system_file: &Path,
    with_secrets: bool,
) -> Result<Loaded, ConfigError> {
    let mut draft = Draft::new();
    let mut warnings = Vec::new();
    let found = find_file(flags, environment, system_file)?;
    if let Some(found) = &found {
        for setting in parse_file(&found.path, &found.text)? {
            draft.apply(&setting)?;
        }
        if found.exposed && draft.holds_secret() {
            return Err(ConfigError::Exposed {
                path: found.path.clone(),
            });
        }
    }
    environment::apply(&mut draft, environment, &mut warnings)?;
    apply_flags(&mut draft, flags)?;
    if !with_secrets {
        draft.forget_credentials();
    }
    let config = finish(&draft, environment, &mut warnings)?;
    Ok(Loaded {
        no_runtime_folder: draft.status_socket.is_none() && config.status.socket.is_none(),
        config,
        file: found.map(|found| found.path),
        warnings,
    })
}

struct Found {
    path: PathBuf,
    text: Zeroizing<String>,
    /// Others can read it.
    exposed: bool,
}

/// Where the user's configuration is: `$XDG_CONFIG_HOME`, else `~/.config`. `None` without a home.
#[must_use]
pub fn user_folder(environment: &[(String, String)]) -> Option<PathBuf> {
    let folder = |name| variable(environment, name).map(PathBuf::from);
    // The XDG base directory specification has relative paths ignored.
    folder("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| folder("HOME").map(|home| home.join(".config")))
}

/// The file of `--config`, or the first of the usual ones that exists.
fn find_file(
    flags: &Flags,
    environment: &[(String, String)],
    system_file: &Path,
) -> Result<Option<Found>, ConfigError> {
    let unreadable = |path: PathBuf| |source| ConfigError::Unreadable { path, source };
    if let Some(path) = &flags.config {
        return read_file(path).map(Some).map_err(unreadable(path.clone()));
    }
    let user = user_folder(environment).map(|folder| folder.join("xbosh/config.toml"));
    for path in user.into_iter().chain([system_file.to_owned()]) {
        match read_file(&path) {
            Ok(found) => return Ok(Some(found)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            // One that is there and cannot be read was meant: not the next one instead.
            Err(error) => return Err(unreadable(path)(error)),
        }
    }
    Ok(None)
}

fn read_file(path: &Path) -> io::Result<Found> {
    let file = File::open(path)?;
    let exposed = secret::is_exposed(&file.metadata()?);
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(Found {
        path: path.to_owned(),
        text,
        exposed,
    })
}

fn apply_flags(draft: &mut Draft, flags: &Flags) -> Result<(), ConfigError> {
    let mut set = |flag: &'static str, path: &[&str], value: Value| {
        draft.apply(&Setting {
            path: path.iter().map(|part| (*part).to_owned()).collect(),
            value,
            place: Place::Flag(flag),
        })
    };
    if !flags.listen.is_empty() {
        let addresses = flags.listen.iter();
        let list = addresses.map(|address| Value::Text(address.to_string()));
        set("--listen", &["listen"], Value::List(list.collect()))?;
    }
    if let Some(proxy) = &flags.proxy {
        set("--proxy", &["proxy", "url"], Value::Text(proxy.clone()))?;
    }
    if let Some(level) = &flags.log {
        set("--log", &["log", "level"], Value::Text(level.clone()))?;
    }
    if let Some((domain, url)) = &flags.domain {
        set("--domain", &["domains", domain], Value::Other("a table"))?;
        let path = ["domains", domain, "url"];
        set("--url", &path, Value::Text(url.clone()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_file_comes_last_and_no_file_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let machine = folder.path().join("config.toml");
        let home = folder.path().display().to_string();
        let environment = [("HOME".to_owned(), home)];
        let load = || load_beside(&Flags::default(), &environment, &machine).unwrap();
        let loaded = load();
        assert_eq!(loaded.file, None);
        assert_eq!(
            format!("{:?}", loaded.config),
            format!("{:?}", Config::default())
        );
        std::fs::write(&machine, "[bosh]\nwait = 7\n").unwrap();
        let loaded = load();
        assert_eq!(loaded.file, Some(machine.clone()));
        assert_eq!(loaded.config.bosh.wait.as_secs(), 7);
    }
}
