//! The system's own certificate store: how an authority gets in and out.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::connect::error::plain;

/// A folder where a system keeps authorities of its own, and the program that takes them in.
struct Layout {
    folder: &'static str,
    suffix: &'static str,
    program: &'static str,
    add: &'static [&'static str],
    remove: &'static [&'static str],
}

/// Without it links to the file that is gone stay behind.
const FRESH: &[&str] = &["--fresh"];

/// Debian and its kin; Fedora and its kin; Arch; SUSE.
const LAYOUTS: [Layout; 4] = [
    Layout {
        folder: "/usr/local/share/ca-certificates",
        suffix: "crt",
        program: "update-ca-certificates",
        add: &[],
        remove: FRESH,
    },
    Layout {
        folder: "/etc/pki/ca-trust/source/anchors",
        suffix: "pem",
        program: "update-ca-trust",
        add: &["extract"],
        remove: &["extract"],
    },
    Layout {
        folder: "/etc/ca-certificates/trust-source/anchors",
        suffix: "crt",
        program: "update-ca-trust",
        add: &[],
        remove: &[],
    },
    Layout {
        folder: "/etc/pki/trust/anchors",
        suffix: "pem",
        program: "update-ca-certificates",
        add: &[],
        remove: FRESH,
    },
];

impl Layout {
    fn arguments(&self, change: Change) -> &'static [&'static str] {
        match change {
            Change::Add => self.add,
            Change::Remove => self.remove,
        }
    }
}

/// p11-kit's, for systems laid out in another way.
const TRUST: &str = "trust";

/// What this machine has.
enum Kind {
    Folder(&'static Layout),
    P11Kit,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Let the system trust the authority.
    Add,
    /// Take it back.
    Remove,
}

/// Why the system's store stays as it is. `Display` is a sentence, with commands to run where there are any.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// None of the known places is here.
    #[error(
        "this system has no certificate store that xbosh knows: add {} by the system's own means, then run xbosh ca trust",
        certificate.display()
    )]
    Unknown {
        /// The authority's file.
        certificate: PathBuf,
    },
    /// Only root may.
    #[error("only root can change the system's certificates; run\n{commands}")]
    NotRoot {
        /// What to run instead, a line each.
        commands: String,
    },
    /// A file could not be changed.
    #[error("cannot change {}: {}", path.display(), plain(source))]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system's program failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
}

/// The system's certificate store.
#[derive(Clone, Debug)]
pub struct SystemStore {
    root: PathBuf,
    may_change: bool,
}

impl SystemStore {
    /// Of this machine, by the rights of this process.
    #[must_use]
    pub fn here() -> Self {
        Self::at("/".into(), rustix::process::geteuid().is_root())
    }

    /// Of a system below another root, and whether it may be changed.
    #[must_use]
    pub fn at(root: PathBuf, may_change: bool) -> Self {
        Self { root, may_change }
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Where a program is. Not by PATH: it will run as root.
    fn program(&self, name: &str) -> Option<PathBuf> {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let mut all = folders.iter().map(|folder| self.below(folder).join(name));
        all.find(|path| path.is_file())
    }

    fn kind(&self) -> Option<Kind> {
        let has = |layout: &&Layout| {
            self.below(layout.folder).is_dir() && self.program(layout.program).is_some()
        };
        let p11 = || self.program(TRUST).map(|_| Kind::P11Kit);
        LAYOUTS.iter().find(has).map(Kind::Folder).or_else(p11)
    }

    fn place(&self, layout: &Layout, domain: &str) -> PathBuf {
        let name = domain.trim_matches(['[', ']']).replace(':', "-");
        let file = format!("xbosh-{name}.{}", layout.suffix);
        self.below(layout.folder).join(file)
    }

    /// Whether the store holds this authority; `None` if it cannot be told.
    #[must_use]
    pub fn holds(&self, certificate: &Path, domain: &str) -> Option<bool> {
        let Kind::Folder(layout) = self.kind()? else {
            return None;
        };
        let ours = fs::read(certificate).ok()?;
        Some(fs::read(self.place(layout, domain)).is_ok_and(|theirs| theirs == ours))
    }

    /// Puts the authority into the store, or takes it out again; returns what was done, in a line.
    ///
    /// # Errors
    /// [`SystemError`].
    pub fn change(
        &self,
        change: Change,
        certificate: &Path,
        domain: &str,
    ) -> Result<String, SystemError> {
        let kind = self.kind().ok_or_else(|| SystemError::Unknown {
            certificate: certificate.to_owned(),
        })?;
        if !self.may_change {
            return Err(SystemError::NotRoot {
                commands: self.lines(&kind, change, certificate, domain),
            });
        }
        match kind {
            Kind::Folder(layout) => {
                let target = self.place(layout, domain);
                let changed = match change {
                    Change::Add => install(certificate, &target),
                    Change::Remove => remove(&target),
                };
                changed.map_err(|source| SystemError::Io {
                    path: target.clone(),
                    source,
                })?;
                self.run(layout.program, layout.arguments(change))?;
                Ok(match change {
                    Change::Add => format!("added {}", target.display()),
                    Change::Remove => format!("removed {}", target.display()),
                })
            }
            Kind::P11Kit => {
                let option = p11_option(change);
                let file = certificate.display().to_string();
                self.run(TRUST, &["anchor", option, &file])?;
                Ok(format!(
                    "done: trust anchor {option} {}",
                    quoted(certificate)
                ))
            }
        }
    }

    fn run(&self, name: &'static str, arguments: &[&str]) -> Result<(), SystemError> {
        let failed = |said: String| SystemError::Failed {
            program: name,
            said,
        };
        let program = self
            .program(name)
            .ok_or_else(|| failed("it is not there".into()))?;
        let output = Command::new(program)
            .args(arguments)
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        Err(failed(if said.is_empty() {
            output.status.to_string()
        } else {
            said.chars().take(300).collect()
        }))
    }

    /// What root has to run, a line each; `None` if this machine has no store that is known.
    #[must_use]
    pub fn commands(&self, change: Change, certificate: &Path, domain: &str) -> Option<String> {
        let kind = self.kind()?;
        Some(self.lines(&kind, change, certificate, domain))
    }

    fn lines(&self, kind: &Kind, change: Change, certificate: &Path, domain: &str) -> String {
        match kind {
            Kind::Folder(layout) => {
                let target = quoted(&self.place(layout, domain));
                let file = match change {
                    Change::Add => format!("install -m 644 {} {target}", quoted(certificate)),
                    Change::Remove => format!("rm -f {target}"),
                };
                let program = [&[layout.program], layout.arguments(change)]
                    .concat()
                    .join(" ");
                format!("  sudo {file}\n  sudo {program}")
            }
            Kind::P11Kit => format!(
                "  sudo {TRUST} anchor {} {}",
                p11_option(change),
                quoted(certificate)
            ),
        }
    }
}

fn p11_option(change: Change) -> &'static str {
    match change {
        Change::Add => "--store",
        Change::Remove => "--remove",
    }
}

/// Readable by everybody, whatever root's umask is.
fn install(certificate: &Path, target: &Path) -> io::Result<()> {
    fs::write(target, fs::read(certificate)?)?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o644))
}

fn remove(target: &Path) -> io::Result<()> {
    match fs::remove_file(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// For a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
