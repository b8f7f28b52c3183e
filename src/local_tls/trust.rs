//! How clients, and the system, are told to trust a local authority.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A place where a system keeps authorities of its own, and the program that takes them in.
struct Store {
    folder: &'static str,
    suffix: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

/// Debian and its kin; Fedora and its kin; Arch; SUSE.
const STORES: [Store; 4] = [
    Store {
        folder: "/usr/local/share/ca-certificates",
        suffix: "crt",
        program: "update-ca-certificates",
        arguments: &[],
    },
    Store {
        folder: "/etc/pki/ca-trust/source/anchors",
        suffix: "pem",
        program: "update-ca-trust",
        arguments: &["extract"],
    },
    Store {
        folder: "/etc/ca-certificates/trust-source/anchors",
        suffix: "crt",
        program: "update-ca-trust",
        arguments: &[],
    },
    Store {
        folder: "/etc/pki/trust/anchors",
        suffix: "pem",
        program: "update-ca-certificates",
        arguments: &[],
    },
];

/// Why the system's store stays as it is. `Display` is one sentence, with commands to run where there are any.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemError {
    /// None of the known places is here.
    #[error(
        "this system has no certificate store that xbosh knows: add the file by the system's own means"
    )]
    Unknown,
    /// Only root may.
    #[error("only root can change the system's certificates: run\n{commands}")]
    NotRoot {
        /// What to run instead, a line each.
        commands: String,
    },
    /// It was tried and failed.
    #[error("{what}: {said}")]
    Failed {
        /// What was done.
        what: String,
        /// What came of it.
        said: String,
    },
}

fn store() -> Option<&'static Store> {
    STORES.iter().find(|store| {
        let programs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let has = |folder: &&str| Path::new(folder).join(store.program).exists();
        Path::new(store.folder).is_dir() && programs.iter().any(has)
    })
}

fn place(store: &Store, domain: &str) -> PathBuf {
    let name = domain.trim_matches(['[', ']']).replace(':', "-");
    Path::new(store.folder).join(format!("xbosh-{name}.{}", store.suffix))
}

/// Puts the authority into the system's store, or takes it out again; returns the file there.
///
/// # Errors
/// [`SystemError`].
pub fn system(certificate: &Path, domain: &str, undo: bool) -> Result<PathBuf, SystemError> {
    let store = store().ok_or(SystemError::Unknown)?;
    let target = place(store, domain);
    if !rustix::process::geteuid().is_root() {
        return Err(SystemError::NotRoot {
            commands: commands(store, certificate, &target, undo),
        });
    }
    let changed = if undo {
        match std::fs::remove_file(&target) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    } else {
        std::fs::read(certificate).and_then(|pem| std::fs::write(&target, pem))
    };
    changed.map_err(|error| SystemError::Failed {
        what: format!("cannot change {}", target.display()),
        said: error.to_string(),
    })?;
    let failed = |said: String| SystemError::Failed {
        what: format!("{} failed", store.program),
        said,
    };
    let output = Command::new(store.program)
        .args(store.arguments)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.chars().take(300).collect()));
    }
    Ok(target)
}

fn commands(store: &Store, certificate: &Path, target: &Path, undo: bool) -> String {
    let mut program = store.program.to_owned();
    for argument in store.arguments {
        program.push(' ');
        program.push_str(argument);
    }
    let first = if undo {
        format!("rm -f {}", quoted(target))
    } else {
        format!("install -m 644 {} {}", quoted(certificate), quoted(target))
    };
    format!("  sudo {first}\n  sudo {program}")
}

/// For a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// What to do in each client whose way is known, and for all of them at once.
#[must_use]
pub fn instructions(certificate: &Path, domain: &str) -> String {
    let file = quoted(certificate);
    let mut out = format!(
        "Clients on this machine will be offered TLS for {domain}. Its authority is {}.\n\n",
        certificate.display()
    );
    let system = match store() {
        Some(store) => commands(store, certificate, &place(store, domain), false),
        None => "  by the system's own means".to_owned(),
    };
    let _ = write!(
        out,
        "For every client that uses the system's certificates (Gajim, Dino, Pidgin, Finch, sendxmpp, go-sendxmpp and most \
         libraries):\n{system}\nor run: sudo xbosh ca trust --system {domain}\n\nFor one client alone:\n"
    );
    for (client, step) in CLIENTS {
        let _ = writeln!(out, "  {client}: {}", step.replace("FILE", &file));
    }
    let _ = write!(
        out,
        "\nThe authority can vouch for {domain} and this machine only. xbosh ca trust --undo {domain} takes it back.\n"
    );
    out
}

/// Clients with a setting of their own.
const CLIENTS: [(&str, &str); 7] = [
    (
        "Gajim",
        "at the first login tick \"Add this certificate to the list of trusted certificates\"",
    ),
    ("Pidgin", "Tools > Certificates > Add, choose FILE"),
    (
        "Psi, Psi+",
        "copy FILE to ~/.local/share/psi/certs/ (psi+ for Psi+), start again",
    ),
    (
        "Profanity",
        "/tls certpath to the folder of FILE, or /tls allow at the first login and /tls always",
    ),
    ("poezio", "set ca_cert_path to FILE in poezio.cfg"),
    ("slixmpp", "client.ca_certs = \"FILE\""),
    ("Node.js", "NODE_EXTRA_CA_CERTS=FILE"),
];
