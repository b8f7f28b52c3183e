//! The page for users that a full run writes, and the pictures beside it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use xbosh_testkit::matrix::{Driver, Outcome};

use super::{Cell, is_sound, verdict};

const SECURITIES: [&str; 4] = ["default", "plain", "starttls", "direct"];
const INTRODUCTION: &str = "\
Written by `tests/clients --full`, by the programs and in the versions below. Each client runs without a person, installed
from where the table says, through xbosh and an HTTP proxy to a real Prosody and a real ejabberd: all of them on one port of
one xbosh, at the same time. With the security that it begins with by itself it logs in, sends and receives, and stays five
minutes, during which the network behind xbosh is away for 20 s. In these 20 s a message is sent each way; both arrive
afterwards, on the same stream, of which requests were cut off and repeated. It sends and receives again, and logs out; the
server must then know no session of it. *ok* means all of that, that nothing was lost or doubled, and that the client noticed
nothing. Programs that log in for each message send none while the network is away; the first column tells of one that only
sends, which has no stream to stay.

*Security* is what `xbosh status` says of the stream: `plain`, `starttls`, or `direct` for TLS from the first byte. Other
settings that a client has are tried too, with a login, a message each way and a logout: they stand in its section, with the
files and commands of the test (`FILE` is what `xbosh ca path example.org` prints).

Clients that use TLS were told of the domain's local authority first (`xbosh ca trust`, see [local-tls.md](local-tls.md)):
those without a setting of their own by the system's certificates, which for a test are those of a mount namespace.
";

/// What everything was tested with, one line each.
pub(crate) fn versions(program: &Path) -> Result<Vec<String>, String> {
    let said = |program: &str, arguments: &[&str]| -> Result<String, String> {
        let done = Command::new(program)
            .args(arguments)
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        match done.status.success() {
            true => Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned()),
            false => Err(format!("{program} {arguments:?}: {}", done.status)),
        }
    };
    let package = |name: &str| {
        said("dpkg-query", &["-W", "-f", "${Version}", name])
            .unwrap_or_else(|_| "not from Debian".into())
    };
    let debian = std::fs::read_to_string("/etc/debian_version").unwrap_or_default();
    let xbosh = said(&program.display().to_string(), &["--version"])?;
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"])
        .map_or_else(|_| "no git".into(), |commit| format!("commit {commit}"));
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let changed = match changed.is_ok_and(|files| !files.is_empty()) {
        true => ", with changes",
        false => "",
    };
    Ok(vec![
        format!(
            "{}, Debian {}",
            said("date", &["-u", "+%F"])?,
            debian.trim()
        ),
        format!("{xbosh}, {commit}{changed}"),
        format!("Prosody {}", package("prosody")),
        format!("ejabberd {}", package("ejabberd")),
    ])
}

/// Writes it.
pub(crate) fn write(
    out: &Path,
    all: &[Driver],
    missing: &[Option<String>],
    cells: &[Cell],
    logs: &Path,
    versions: &[String],
) -> Result<(), String> {
    let pictures = out.with_extension("");
    std::fs::create_dir_all(&pictures).map_err(|error| error.to_string())?;
    let mut text = format!("# Clients\n\n{INTRODUCTION}\n");
    for line in versions {
        let _ = writeln!(text, "- {line}");
    }
    text.push_str(
        "\n| client | version | kind | from | default security | Prosody | ejabberd |\n|---|---|---|---|---|---|---|\n",
    );
    let of = |at: usize, server: usize, security: &str| {
        cells
            .iter()
            .find(|cell| cell.driver == at && cell.server == server && cell.security == security)
    };
    let outcomes = |at: usize, security: &'static str| {
        [0, 1]
            .into_iter()
            .filter_map(move |server| of(at, server, security)?.result.as_ref().ok())
    };
    for (at, driver) in all.iter().enumerate() {
        let words = |server: usize| match (of(at, server, "default"), &missing[at]) {
            (_, Some(why)) => why.clone(),
            (Some(cell), _) => came_of(cell),
            (None, None) => "not run".into(),
        };
        let version = outcomes(at, "default")
            .map(|outcome| outcome.version.rsplit(' ').next().unwrap_or_default())
            .next()
            .unwrap_or("\u{2013}");
        let secured: BTreeSet<&str> = outcomes(at, "default").map(|o| o.secured).collect();
        let secured: Vec<&str> = secured.into_iter().collect();
        let _ = writeln!(
            text,
            "| [{}](#{}) | {version} | {} | {} | {} | {} | {} |",
            driver.title,
            driver.name,
            driver.kind,
            driver.source,
            secured.join(", "),
            in_cell(&words(0)),
            in_cell(&words(1)),
        );
    }
    for (at, driver) in all.iter().enumerate() {
        let _ = write!(
            text,
            "\n<a id=\"{}\"></a>\n\n## {}\n\n{}\n",
            driver.name, driver.title, driver.settings
        );
        if missing[at].is_some() {
            continue;
        }
        text.push_str("\n| set to | security | Prosody | ejabberd |\n|---|---|---|---|\n");
        for security in SECURITIES {
            let (Some(first), Some(second)) = (of(at, 0, security), of(at, 1, security)) else {
                continue;
            };
            let secured = outcomes(at, security).next().map_or("", |o| o.secured);
            let _ = writeln!(
                text,
                "| {security} | {secured} | {} | {} |",
                in_cell(&came_of(first)),
                in_cell(&came_of(second))
            );
        }
        let mut shown: Vec<&xbosh_testkit::matrix::Used> = Vec::new();
        for security in SECURITIES {
            let Some(outcome) = outcomes(at, security).next() else {
                continue;
            };
            let new: Vec<_> = outcome.used.iter().filter(|u| !shown.contains(u)).collect();
            if !new.is_empty() {
                write_used(&mut text, security, &new);
            }
            shown.extend(new);
        }
        screen(&mut text, driver, &pictures, logs)?;
    }
    std::fs::write(out, text).map_err(|error| format!("{}: {error}", out.display()))
}

fn in_cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn came_of(cell: &Cell) -> String {
    match &cell.result {
        Ok(outcome) if is_sound(outcome) => sound(outcome),
        Ok(outcome) => verdict(outcome),
        Err(why) => format!("failed: {why}"),
    }
}

fn sound(outcome: &Outcome) -> String {
    match (outcome.sends_only, outcome.outage) {
        (true, _) => "ok, sends only".into(),
        (false, Some(outage)) => format!("ok ({} cut, {} repeated)", outage.cut, outage.repeats),
        (false, None) => "ok".into(),
    }
}

fn write_used(text: &mut String, security: &str, used: &[&xbosh_testkit::matrix::Used]) {
    let _ = writeln!(text, "\nTested as {security}:");
    for one in used {
        let _ = match &one.file {
            Some(name) => write!(text, "\n`{name}`\n\n```text\n{}\n```\n", one.text),
            None => write!(text, "\n```sh\n{}\n```\n", one.text),
        };
    }
}

/// What was to be seen: a picture of a window, the text of a terminal.
fn screen(text: &mut String, driver: &Driver, pictures: &Path, logs: &Path) -> Result<(), String> {
    let (name, title) = (&driver.name, &driver.title);
    let picture = logs.join(format!("{name}-prosody.png"));
    if picture.is_file() {
        let copy = pictures.join(format!("{name}.png"));
        std::fs::copy(&picture, &copy).map_err(|error| error.to_string())?;
        let _ = write!(text, "\n![{title} through xbosh](clients/{name}.png)\n");
    }
    if let Ok(seen) = std::fs::read_to_string(logs.join(format!("{name}-prosody.txt"))) {
        let lines: Vec<&str> = seen.lines().map(str::trim_end).collect();
        let first = lines.iter().position(|line| !line.is_empty());
        let last = lines.iter().rposition(|line| !line.is_empty());
        if let (Some(first), Some(last)) = (first, last) {
            let mut shown = lines[first..=last].to_vec();
            // The empty middle of a screen.
            shown.dedup_by(|one, next| one.is_empty() && next.is_empty());
            let seen = shown.join("\n");
            let _ = write!(text, "\nIts screen:\n\n```text\n{seen}\n```\n");
        }
    }
    Ok(())
}
