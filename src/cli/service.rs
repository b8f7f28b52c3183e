//! `xbosh service`: systemd's user units.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Args, Subcommand};
use url::Url;

use super::init::{ask, create};
use super::{EXIT_CONFIG, EXIT_FAILURE, fail, print};
use crate::config::{self, ProxySource};

const SERVICE: &str = include_str!("../../systemd/xbosh.service");
const SOCKET: &str = include_str!("../../systemd/xbosh.socket");
/// What our units begin with: others are not touched.
const MARK: &str = "# User unit: copy to ~/.config/systemd/user/";
/// The path in the unit that is replaced by where this program is.
const EXEC_START: &str = "%h/.cargo/bin/xbosh";
/// Whose values a user service does not see by itself; each in the order in which it is looked for.
const VARIABLES: [[&str; 2]; 4] = [
    ["https_proxy", "HTTPS_PROXY"],
    ["http_proxy", "HTTP_PROXY"],
    ["all_proxy", "ALL_PROXY"],
    NO_PROXY,
];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// What tells where the configuration is.
const FOLDERS: [&str; 2] = ["HOME", "XDG_CONFIG_HOME"];

/// What is done with the units.
#[derive(Debug, Subcommand)]
pub(super) enum ServiceCommand {
    /// Write the units, enable them and start
    Install(InstallArgs),
    /// Stop, disable, and remove the units
    Uninstall,
}

/// How it is installed.
#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    /// Listen on what the configuration says, not on systemd's sockets
    #[arg(long)]
    no_socket: bool,
    /// Answer every question with yes
    #[arg(long)]
    yes: bool,
}

/// Runs `xbosh service …`.
pub(super) fn run(command: ServiceCommand) -> ExitCode {
    let done = match command {
        ServiceCommand::Install(args) => install(&args),
        ServiceCommand::Uninstall => uninstall(),
    };
    match done {
        Ok(text) => print(&text),
        Err(code) => code,
    }
}

/// Where units of the user are, and the configuration's folder.
struct Places {
    units: PathBuf,
    configuration: PathBuf,
}

fn places() -> Result<(Places, Vec<(String, String)>), ExitCode> {
    let environment = config::environment(std::env::vars_os())
        .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
    let folder = config::user_folder(&environment).ok_or_else(|| {
        fail(
            EXIT_FAILURE,
            "HOME is not set, so there is no place for user units",
        )
    })?;
    let places = Places {
        units: folder.join("systemd/user"),
        configuration: folder.join("xbosh"),
    };
    Ok((places, environment))
}

fn install(args: &InstallArgs) -> Result<String, ExitCode> {
    let (places, environment) = places()?;
    let program = std::env::current_exe().map_err(|error| {
        fail(
            EXIT_FAILURE,
            &format!("cannot tell where xbosh itself is: {error}"),
        )
    })?;
    let mut said = String::new();
    proxy(&places, &environment, args.yes, &mut said)?;
    let mut service = SERVICE.replace(EXEC_START, &quoted(&program));
    let mut units = vec!["xbosh.service"];
    if args.no_socket {
        service = service.replace("Also=xbosh.socket\n", "");
    } else {
        units.insert(0, "xbosh.socket");
        put(&places.units.join("xbosh.socket"), SOCKET, &mut said)?;
    }
    put(&places.units.join("xbosh.service"), &service, &mut said)?;
    systemctl(&["daemon-reload"])?;
    systemctl(&[&["enable", "--now"][..], &units].concat())?;
    said.push_str(&format!(
        "enabled and started {}; journalctl --user -u xbosh shows its log\n",
        units.join(" and ")
    ));
    Ok(said)
}

fn uninstall() -> Result<String, ExitCode> {
    let (places, _) = places()?;
    let mut said = String::new();
    let mut ours = Vec::new();
    for name in ["xbosh.socket", "xbosh.service"] {
        let path = places.units.join(name);
        match fs::read_to_string(&path) {
            Ok(text) if text.starts_with(MARK) => ours.push((name, path)),
            Ok(_) => said.push_str(&format!("{} is not of xbosh, and stays\n", path.display())),
            Err(_) => {}
        }
    }
    if ours.is_empty() {
        said.push_str("no unit of xbosh is installed for this user\n");
        return Ok(said);
    }
    let names: Vec<&str> = ours.iter().map(|(name, _)| *name).collect();
    systemctl(&[&["disable", "--now"][..], &names].concat())?;
    for (_, path) in &ours {
        fs::remove_file(path).map_err(|error| {
            fail(
                EXIT_FAILURE,
                &format!("cannot remove {}: {error}", path.display()),
            )
        })?;
        said.push_str(&format!("removed {}\n", path.display()));
    }
    systemctl(&["daemon-reload"])?;
    said.push_str("the configuration stays\n");
    Ok(said)
}

/// A path as systemd reads it in ExecStart=.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    if text
        .chars()
        .any(|c| c.is_whitespace() || matches!(c, '"' | '\'' | '\\' | '$'))
    {
        format!(
            "\"{}\"",
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('$', "$$")
        )
    } else {
        text
    }
}

/// Writes a unit, but over none that is somebody else's.
fn put(path: &Path, text: &str, said: &mut String) -> Result<(), ExitCode> {
    if let Ok(there) = fs::read_to_string(path)
        && !there.starts_with(MARK)
    {
        let sentence = format!("{} is there and not of xbosh: move it away", path.display());
        return Err(fail(EXIT_FAILURE, &sentence));
    }
    let done =
        fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text));
    done.map_err(|error| {
        fail(
            EXIT_FAILURE,
            &format!("cannot write {}: {error}", path.display()),
        )
    })?;
    said.push_str(&format!("wrote {}\n", path.display()));
    Ok(())
}

fn systemctl(arguments: &[&str]) -> Result<(), ExitCode> {
    let shown = format!("systemctl --user {}", arguments.join(" "));
    let status = Command::new("systemctl")
        .arg("--user")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(fail(EXIT_FAILURE, &format!("{shown} failed"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(fail(
            EXIT_FAILURE,
            "there is no systemctl: this machine does not run systemd, start xbosh by other means",
        )),
        Err(error) => Err(fail(
            EXIT_FAILURE,
            &format!("{shown} cannot be run: {error}"),
        )),
    }
}

/// A user service does not see the shell's proxy: what it would miss is written down, the password into a file of its
/// own, never into a unit.
fn proxy(
    places: &Places,
    environment: &[(String, String)],
    yes: bool,
    said: &mut String,
) -> Result<(), ExitCode> {
    let mut there = managers_environment();
    let differs = |names: &[&str; 2]| set(environment, names) != set(&there, names);
    let Some(url) = VARIABLES
        .iter()
        .filter(|names| **names != NO_PROXY)
        .find_map(|names| set(environment, names))
        .filter(|_| VARIABLES.iter().any(differs))
    else {
        return Ok(());
    };
    // As the service will see it.
    there.retain(|(name, _)| !FOLDERS.contains(&name.as_str()));
    let folders = environment
        .iter()
        .filter(|(name, _)| FOLDERS.contains(&name.as_str()));
    there.extend(folders.cloned());
    let loaded = config::load_public(&config::Flags::default(), &there)
        .map_err(|error| fail(EXIT_CONFIG, &error.to_string()))?;
    if !matches!(loaded.config.proxy.source, ProxySource::Env(_)) {
        return Ok(());
    }
    if let Some(file) = loaded.file {
        said.push_str(&format!(
            "your shell has a proxy that the service does not see: set proxy.url in {}\n",
            file.display()
        ));
        return Ok(());
    }
    let file = places.configuration.join("config.toml");
    let wanted = yes
        || io::stdin().is_terminal()
            && ask("Your shell has a proxy that a service does not see. Write it to the configuration? (yes)")
                .is_none_or(|answer| answer.to_lowercase().starts_with('y'));
    if !wanted {
        said.push_str(
            "your shell has a proxy that the service does not see: set proxy.url, or say --yes\n",
        );
        return Ok(());
    }
    let cannot = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| fail(EXIT_FAILURE, &format!("cannot write {path}: {error}"))
    };
    let with_scheme = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    let mut parsed = Url::parse(&with_scheme)
        .map_err(|_| fail(EXIT_CONFIG, "the proxy variable of your shell is no URL"))?;
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let (user, password) = (decode(parsed.username()), parsed.password().map(decode));
    // Fails only for URLs that have neither.
    let _ = parsed.set_password(None);
    let _ = parsed.set_username("");
    let text = |value: &str| toml::Value::from(value).to_string();
    let mut lines = format!(
        "[proxy]\nurl = {}\n",
        text(parsed.as_str().trim_end_matches('/'))
    );
    if let Some(list) = set(environment, &NO_PROXY) {
        let hosts: Vec<String> = list
            .split(|c: char| c == ',' || c.is_whitespace())
            .filter(|h| !h.is_empty())
            .map(text)
            .collect();
        lines.push_str(&format!("no_proxy = [{}]\n", hosts.join(", ")));
    }
    if !user.is_empty() {
        lines.push_str(&format!("username = {}\n", text(&user)));
    }
    if let Some(password) = password {
        let secret = places.configuration.join("proxy-password");
        replace(&secret, &format!("{password}\n")).map_err(cannot(&secret))?;
        said.push_str(&format!(
            "wrote the proxy's password to {}\n",
            secret.display()
        ));
        lines.push_str(&format!(
            "password_file = {}\n",
            text(&secret.display().to_string())
        ));
    }
    create(&file, &lines).map_err(cannot(&file))?;
    said.push_str(&format!("wrote the proxy to {}\n", file.display()));
    Ok(())
}

/// The value that counts.
fn set<'a>(environment: &'a [(String, String)], names: &[&str; 2]) -> Option<&'a str> {
    names.iter().find_map(|name| {
        let found = environment
            .iter()
            .find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    })
}

/// As [`create`], in the place of one that an earlier installation left there.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    create(&new, text)?;
    fs::rename(&new, path)
}

/// What services of this user see; nothing if it cannot be asked.
fn managers_environment() -> Vec<(String, String)> {
    let output = Command::new("systemctl")
        .args(["--user", "show-environment"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines
        .map(|(name, value)| (name.to_owned(), unquoted(value)))
        .collect()
}

/// A value as `systemctl show-environment` writes it: `$'…'` with escapes where a shell would need quotes.
fn unquoted(value: &str) -> String {
    let quoted = value.strip_prefix("$'").and_then(|v| v.strip_suffix('\''));
    let Some(inside) = quoted else {
        return value.to_owned();
    };
    let mut out = Vec::with_capacity(inside.len());
    let mut bytes = inside.bytes().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(digit @ b'0'..=b'7') => {
                // Three octal digits.
                let mut code = u32::from(digit - b'0');
                while let Some(digit) = bytes.next_if(|b| (b'0'..=b'7').contains(b) && code < 32) {
                    code = code * 8 + u32::from(digit - b'0');
                }
                out.push(u8::try_from(code).unwrap_or(b'?'));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_units() {
        for (path, told) in [
            ("/usr/bin/xbosh", "/usr/bin/xbosh"),
            ("/home/a b/xbosh", "\"/home/a b/xbosh\""),
            ("/50%/xbosh", "/50%%/xbosh"),
        ] {
            assert_eq!(quoted(Path::new(path)), told);
        }
    }

    /// systemd's `shell_maybe_quote`, the POSIX way.
    #[test]
    fn values_of_the_managers_environment() {
        for (written, meant) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("$'*.corp.example,localhost'", "*.corp.example,localhost"),
            (r"$'http://u:it\'s\\a&b@p'", r"http://u:it's\a&b@p"),
            (r"$'a\tb\nc\001\1771'", "a\tb\nc\u{1}\u{7f}1"),
            ("$'", "$'"),
            ("", ""),
        ] {
            assert_eq!(unquoted(written), meant, "{written}");
        }
    }

    /// What is replaced is there.
    #[test]
    fn the_units_have_their_places() {
        assert!(SERVICE.starts_with(MARK) && SOCKET.starts_with(MARK));
        assert!(SERVICE.contains(&format!("ExecStart={EXEC_START} run\n")));
        assert!(SERVICE.contains("Also=xbosh.socket\n"));
    }
}
